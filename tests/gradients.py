"""What every module that is trained must have."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf


def check_gradients(module: tf.Module, call: Callable[[], Sequence[tf.Tensor]], seed=9) -> None:
    """Check that every trainable variable of the module moves the weighted sum of what the call
    gives.
    """
    rng = np.random.default_rng(seed)
    with tf.GradientTape() as tape:
        weighted = [o * rng.standard_normal(o.shape).astype(np.float32) for o in call()]
        loss = tf.add_n([tf.reduce_sum(part) for part in weighted])
    variables = module.trainable_variables
    for variable, gradient in zip(variables, tape.gradient(loss, variables)):
        assert gradient is not None, variable.name
        assert np.any(gradient.numpy()), variable.name
