"""Residual blocks: where they stride, what they start from, and squeeze-and-excitation in NumPy."""

from __future__ import annotations

import os

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')

import numpy as np
import pytest
import tensorflow as tf

from nets import blocks, layers


def _random(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize('stride_1x1', [False, True])
def test_bottleneck_strides_where_told_and_keeps_the_shape_of_the_result(stride_1x1):
    style = blocks.BottleneckStyle(stride_1x1=stride_1x1)
    block = blocks.Bottleneck('block', 4, 16, layers.ConvSpec(3, stride=2), style)
    assert block(_random(1, 8, 8, 8), False).shape == (1, 4, 4, 16)
    strides = [layer.conv.window.stride for layer in block.branch]
    assert strides == ([2, 1, 1] if stride_1x1 else [1, 2, 1])


def _basic(first_gamma):
    return blocks.BasicBlock('block', 8, first_gamma=first_gamma)


def _bottleneck(first_gamma):
    return blocks.Bottleneck('block', 4, 8, style=blocks.BottleneckStyle(first_gamma=first_gamma))


@pytest.mark.parametrize('make', [_basic, _bottleneck])
def test_residual_blocks_of_equal_shape_start_as_identity_with_a_scale_of_0(make):
    block = make(first_gamma=0.0)
    images = np.abs(_random(2, 4, 4, 8))
    np.testing.assert_array_equal(block(images, True), images)
    assert block.shortcut is None


@pytest.mark.parametrize(
    'block', [blocks.BasicBlock('block', 8), blocks.Bottleneck('block', 4, 8)], ids=type
)
def test_every_convolution_of_a_block_learns_from_the_first_step(block):
    """With a scale of 0 behind them they would have no gradient, and the scale moves by about the
    learning rate a step."""
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(block(_random(2, 4, 4, 8), True) * _random(2, 4, 4, 8, seed=1))
    kernels = [v for v in block.trainable_variables if 'kernel' in v.name]
    gradients = tape.gradient(loss, kernels)
    assert all(np.abs(gradient).max() > 1e-3 for gradient in gradients)


def _growth_on_the_way_back(num_blocks, first_gamma):
    """Return how many times the gradient of the last block's input the first one's is."""
    tf.random.set_seed(1)
    style = blocks.BottleneckStyle(first_gamma=first_gamma)
    inputs = outputs = tf.nn.relu(_random(8, 8, 8, 64))
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        for n in range(num_blocks):
            last = outputs
            outputs = blocks.Bottleneck(f'block{n}', 16, 64, style=style)(outputs, True)
        loss = tf.reduce_sum(outputs * _random(8, 8, 8, 64, seed=1))
    first, last = tape.gradient(loss, [inputs, last])
    return tf.norm(first).numpy() / tf.norm(last).numpy()


def test_gradients_of_deep_networks_grow_less_with_the_scale_of_their_depth():
    from_1 = _growth_on_the_way_back(16, 1.0)
    assert from_1 > 5 * _growth_on_the_way_back(16, blocks.gamma_of_depth(16))
    assert blocks.gamma_of_depth(16) == 0.25


def test_bfloat16_inputs_give_bfloat16_outputs_and_float32_variables():
    block = blocks.Bottleneck('block', 4, 8, layers.ConvSpec(3, stride=2))
    assert block(tf.cast(_random(2, 8, 8, 6), tf.bfloat16), True).dtype == tf.bfloat16
    assert {variable.dtype for variable in block.variables} == {tf.float32}
    statistics = [v for v in block.variables if v.name.endswith('moving_variance:0')]
    assert all(np.any(v.numpy() != 1) for v in statistics)


@pytest.mark.parametrize('project', [False, True])
def test_a_projection_of_equal_shapes_is_made_on_demand(project):
    block = blocks.Bottleneck('block', 4, 8, layers.ConvSpec(3, dilation=2), project=project)
    block(_random(1, 8, 8, 8), False)
    assert (block.shortcut is not None) == project


def test_senet_halves_the_first_convolution_and_strides_over_a_square_shortcut():
    style = blocks.BottleneckStyle(halve_first=True, strided_shortcut_size=3)
    block = blocks.Bottleneck('block', 8, 16, layers.ConvSpec(3, 2, groups=4), style)
    block(_random(1, 8, 8, 16), False)
    shapes = {v.name: v.shape.as_list() for v in block.variables if v.name.endswith('kernel:0')}
    assert shapes == {
        'block/conv1/kernel:0': [1, 1, 16, 4],
        'block/conv2/kernel:0': [3, 3, 1, 8],
        'block/conv3/kernel:0': [1, 1, 8, 16],
        'block/shortcut/kernel:0': [3, 3, 16, 16],
    }


def test_squeeze_excite_equals_numpy():
    layer = blocks.SqueezeExcite('se', reduction=4)
    images = _random(2, 3, 5, 8)
    layer(images, True)
    layer.squeeze.bias.assign(_random(2, seed=1))
    layer.excite.bias.assign(_random(8, seed=2))
    squeeze, excite = layer.squeeze, layer.excite
    hidden = images.mean((1, 2)) @ squeeze.kernel.numpy()[0, 0] + squeeze.bias.numpy()
    logits = np.maximum(hidden, 0) @ excite.kernel.numpy()[0, 0] + excite.bias.numpy()
    expected = images / (1 + np.exp(-logits))[:, None, None]
    np.testing.assert_allclose(layer(images, True), expected, atol=1e-5)
    with pytest.raises(ValueError, match='se: 8 channels; .* at least 16'):
        blocks.SqueezeExcite('se')(images, True)


def test_squeeze_excite_sums_many_cells_in_float32():
    layer = blocks.SqueezeExcite('se', reduction=4)
    images = tf.constant(1.0 + 0.1 * _random(1, 64, 64, 8))
    exact = layer(images, True)
    rounded = tf.cast(layer(tf.cast(images, tf.bfloat16), True), tf.float32)
    np.testing.assert_allclose(rounded, exact, rtol=0.03)
