"""Convolutions are TensorFlow's; the gradient of a 1x1 kernel is a product of matrices."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from nets.convolution import conv2d

v1 = tf.compat.v1
PIXELS = np.random.default_rng(0).standard_normal([2, 6, 4, 8]).astype(np.float32)
KERNELS = {
    '1x1': ([1, 1, 8, 5], {}),
    'strided': ([1, 1, 8, 5], {'strides': 2}),
    'strides': ([1, 1, 8, 5], {'strides': (1, 2)}),
    'grouped': ([1, 1, 4, 6], {}),
    '3x3': ([3, 3, 8, 5], {'padding': 'VALID'}),
    'dilated': ([3, 3, 8, 5], {'dilations': 2}),
}


def _values_and_gradients(convolve, shape: list[int], options: dict, dtype=tf.float32):
    """Return values and gradients of a convolution, and the kinds of operations in the graph."""
    with tf.Graph().as_default() as graph, v1.Session() as session:
        inputs = tf.cast(v1.placeholder_with_default(PIXELS, [None, *PIXELS.shape[1:]]), dtype)
        kernel = tf.cast(tf.random.stateless_normal(shape, [1, 2]), dtype)
        options = {'strides': 1, 'padding': 'SAME', **options}
        outputs = convolve(inputs, kernel, **options)
        gradients = tf.gradients(tf.reduce_sum(outputs**3), [inputs, kernel])
        values = session.run([tf.cast(one, tf.float32) for one in (outputs, *gradients)])
        return values, [operation.type for operation in graph.get_operations()]


@pytest.mark.parametrize('kind', KERNELS)
def test_values_and_gradients_are_those_of_tensorflow(kind):
    shape, options = KERNELS[kind]
    ours, kinds = _values_and_gradients(conv2d, shape, options)
    wanted, _ = _values_and_gradients(tf.nn.conv2d, shape, options)
    for own, one in zip(ours, wanted):
        np.testing.assert_allclose(own, one, rtol=1e-5, atol=1e-5 * np.abs(one).max())
    assert ('Conv2DBackpropFilter' in kinds) == (kind != '1x1')
    assert ('MatMul' in kinds) == (kind == '1x1')


def test_bfloat16():
    shape, options = KERNELS['1x1']
    ours, _ = _values_and_gradients(conv2d, shape, options, tf.bfloat16)
    wanted, _ = _values_and_gradients(conv2d, shape, options)
    for own, one in zip(ours, wanted):
        np.testing.assert_allclose(own, one, atol=0.03 * np.abs(one).max())


def test_a_gpu_is_left_as_it_is(monkeypatch):
    monkeypatch.setattr(tf.config, 'list_physical_devices', lambda kind: [kind])
    _, kinds = _values_and_gradients(conv2d, *KERNELS['1x1'])
    assert 'Conv2DBackpropFilter' in kinds and 'MatMul' not in kinds
