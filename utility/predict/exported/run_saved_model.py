"""Runs an exported folder by TensorFlow."""

from __future__ import annotations

import os
import tempfile


def start(folder, description):
    """Open the network; see the package."""
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
    import tensorflow as tf

    path = os.path.abspath(os.path.join(folder, description['files'][0]))
    with tempfile.TemporaryDirectory() as place:
        # TensorFlow takes the path of the weights for a pattern: rec[1] would be rec1.
        if set(path) & set('*?[\\'):
            os.symlink(path, os.path.join(place, 'model'))
            path = os.path.join(place, 'model')
        model = tf.saved_model.load(path)
    signature = model.signatures['image']

    def predict(image, category):
        answer = signature(image=tf.constant(image), category=tf.constant(category, tf.int32))
        names = ('keypoints', 'scores', *description.get('tells', ()))
        return tuple(answer[name].numpy() for name in names)

    predict.model = model  # which the signature itself does not keep alive
    return predict
