"""Runs an exported folder by TensorFlow Lite."""

from __future__ import annotations

import os

import numpy as np


def start(folder, description):
    """Open the network; see the package."""
    import importlib
    import threading

    packages = ('ai_edge_litert.interpreter', 'tflite_runtime.interpreter', 'tensorflow')
    for package in packages:
        try:
            found = importlib.import_module(package)
            break
        except ImportError:
            if package == packages[-1]:
                raise
    interpreter_class = found.lite.Interpreter if package == 'tensorflow' else found.Interpreter

    files = [os.path.join(folder, name) for name in description['files']]
    interpreters = [interpreter_class(model_path=path) for path in files]
    lock = threading.Lock()  # An interpreter has one set of tensors.
    if len(interpreters) == 1:
        whole = interpreters[0].get_signature_runner('image')

        def predict(image, category):
            with lock:
                answer = whole(image=image, category=np.array(category, np.int32))
                names = ('keypoints', 'scores', *description.get('tells', ()))
                return tuple(answer[name].copy() for name in names)

        return predict

    # The network in integers; what is before and after it, in float32, in a file of its own.
    crop = interpreters[1].get_signature_runner('crop')
    points = interpreters[1].get_signature_runner('points')
    network = interpreters[0].get_signature_runner('heatmaps')

    def predict_in_steps(image, category):
        with lock:
            first = crop(image=image)
            heatmaps = network(crops=first['crops'])['heatmaps']
            placing, number = first['placing'], np.array(category, np.int32)
            answer = points(heatmaps=heatmaps, placing=placing, category=number)
            return answer['keypoints'].copy(), answer['scores'].copy()

    return predict_in_steps
