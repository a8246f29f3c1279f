"""Runs an exported folder by ONNX Runtime."""

from __future__ import annotations

import os

import numpy as np


def start(folder, description):
    """Open the network; see the package."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    path = os.path.join(folder, description['files'][0])
    session = onnxruntime.InferenceSession(path, options, providers=['CPUExecutionProvider'])

    def predict(image, category):
        inputs = {'image': image, 'category': np.array(category, np.int32)}
        return tuple(session.run(['keypoints', 'scores', *description.get('tells', ())], inputs))

    return predict
