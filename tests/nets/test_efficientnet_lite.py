"""EfficientNet-Lite: scaling, TensorFlow's padding, blocks, and what is left out when."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

import nets
from nets import layers
from nets.backbones import efficientnet_lite
from nets.layers import ConvSpec
from nets.norms import BatchNorm

ALL_LEVELS = (1, 2, 3, 4, 5)


def _backbone(name='efficientnet_lite0', **options):
    tf.random.set_seed(1)
    return nets.BACKBONES.get(name)(**options)


def _images(batch=2, size=(64, 32), seed=0):
    generator = np.random.default_rng(seed)
    return tf.constant(generator.standard_normal((batch, *size, 3)).astype(np.float32))


@pytest.mark.parametrize(
    ('factors', 'depths', 'filters'),
    [
        ((1.0, 1.0), [1, 2, 2, 3, 3, 4, 1], [16, 24, 40, 80, 112, 192, 320]),
        ((1.0, 1.1), [1, 3, 3, 4, 4, 5, 1], [16, 24, 40, 80, 112, 192, 320]),
        ((1.1, 1.2), [1, 3, 3, 4, 4, 5, 1], [16, 24, 48, 88, 120, 208, 352]),
        ((1.2, 1.4), [1, 3, 3, 5, 5, 6, 1], [24, 32, 48, 96, 136, 232, 384]),
        ((1.4, 1.8), [1, 4, 4, 6, 6, 8, 1], [24, 32, 56, 112, 160, 272, 448]),
    ],
)
def test_one_rule_scales_channels_and_blocks_as_published(factors, depths, filters):
    stages = efficientnet_lite.scaled_stages(*factors)
    assert [stage.depth for stage in stages] == depths
    assert [stage.filters for stage in stages] == filters


@pytest.mark.parametrize(
    ('name', 'published'),
    [
        ('efficientnet_lite0', 4_652_008),
        ('efficientnet_lite1', 5_416_680),
        ('efficientnet_lite2', 6_092_072),
    ],
)
def test_with_the_last_convolution_only_the_classifier_is_left_out(name, published):
    with tf.Graph().as_default():
        backbone = _backbone(name, last_conv=True)
        features = backbone(tf.zeros([1, 64, 64, 3]), False)
        assert nets.num_parameters(backbone) == published - (1280 * 1000 + 1000)
    assert features['C5'].shape == [1, 2, 2, 1280]


def test_levels_end_the_stages_of_their_stride_and_what_none_needs_is_not_built():
    with tf.Graph().as_default():
        features = _backbone(levels=ALL_LEVELS)(tf.zeros([1, 64, 96, 3]), False)
        assert {key: tuple(f.shape[1:]) for key, f in features.items()} == {
            'C1': (32, 48, 16),
            'C2': (16, 24, 24),
            'C3': (8, 12, 40),
            'C4': (4, 6, 112),
            'C5': (2, 3, 320),
        }
    with tf.Graph().as_default():
        backbone = _backbone(levels=(2, 3), last_conv=True)
        backbone(tf.zeros([1, 64, 96, 3]), False)
        parts = {v.name.split('/')[1] for v in backbone.variables}
    assert parts == {'conv1', 'stage1', 'stage2', 'stage3'}


@pytest.mark.parametrize('convolution', [layers.Conv, layers.DepthwiseConv])
@pytest.mark.parametrize(('size', 'tf_same', 'before'), [(3, True, 0), (5, True, 1), (3, False, 1)])
def test_strides_pad_as_tensorflow_or_alike(convolution, size, tf_same, before):
    """Output i sees the cells from 2 i - before on, so many as the kernel has."""
    layer = convolution('layer', 1, ConvSpec(size, stride=2, tf_same=tf_same))
    side = 8
    layer(tf.zeros([1, side, side, 1]))
    layer.kernel.assign(tf.ones_like(layer.kernel))
    for cell in range(side):
        image = np.zeros((1, side, side, 1), np.float32)
        image[0, cell, cell] = 1
        seen = np.array([0 <= cell - (2 * i - before) < size for i in range(side // 2)], np.float32)
        np.testing.assert_array_equal(layer(tf.constant(image))[0, :, :, 0], np.outer(seen, seen))


def test_a_depthwise_convolution_is_one_of_as_many_groups():
    images = tf.constant(np.random.default_rng(0).standard_normal((2, 8, 6, 4)).astype(np.float32))
    for window in (ConvSpec(3), ConvSpec(5, stride=2), ConvSpec(3, dilation=2)):
        depthwise = layers.DepthwiseConv('depthwise', 4, window)
        grouped = layers.Conv('grouped', 4, window._replace(groups=4))
        outputs = depthwise(images)
        grouped(images)
        grouped.kernel.assign(tf.reshape(depthwise.kernel, grouped.kernel.shape))
        np.testing.assert_allclose(outputs, grouped(images), atol=1e-5)
        rough = depthwise(tf.cast(images, tf.bfloat16))
        assert rough.dtype == tf.bfloat16
        np.testing.assert_allclose(tf.cast(rough, tf.float32), outputs, atol=0.05)
    with pytest.raises(ValueError, match='wrong: 4 channels in and 5 out'):
        layers.DepthwiseConv('wrong', 5)(images)


def test_every_batch_norm_has_the_epsilon_and_momentum_of_tensorflow():
    backbone = _backbone(last_conv=True)
    backbone(_images(), False)
    found = [module for module in backbone.submodules if isinstance(module, BatchNorm)]
    assert len(found) == 49
    assert {(norm.epsilon, norm.momentum) for norm in found} == {(1e-3, 0.99)}
    backbone = _backbone(batch_norm_momentum=0.9)
    backbone(_images(), False)
    momenta = {m.momentum for m in backbone.submodules if isinstance(m, BatchNorm)}
    assert momenta == {0.9}


def test_all_activations_are_relu6_but_for_those_that_a_block_ends_with():
    backbone = _backbone(last_conv=True)
    assert float(tf.reduce_max(backbone.stem(1e6 * _images(), False))) == 6.0
    backbone(_images(), False)
    layers_with_norm = [m for m in backbone.submodules if isinstance(m, layers.ConvNorm)]
    linear = [layer for layer in layers_with_norm if layer.path.endswith('/project')]
    assert {layer.activation for layer in linear} == {None}
    assert len(linear) == 16
    others = {layer.activation for layer in layers_with_norm if layer not in linear}
    assert others == {tf.nn.relu6}


def test_a_block_adds_its_input_where_the_shapes_are_equal():
    backbone = _backbone()
    backbone(_images(), False)
    blocks = [block for stage in backbone.stages for block in stage]
    firsts = [stage[0] for stage in backbone.stages]
    assert [block for block in blocks if not block.adds] == firsts
    # They start with nothing but the input, see residual_gamma; and no other block does.
    block = backbone.stages[4][1]
    inputs = tf.ones([1, 4, 4, 112])
    np.testing.assert_array_equal(block(inputs, False), inputs)
    assert np.any(firsts[4](tf.ones([1, 4, 4, 80]), False))
    backbone = _backbone(residual_gamma=1.0)
    backbone(_images(), False)
    assert np.any(backbone.stages[4][1](inputs, False) != inputs)


def test_drop_connect_leaves_out_branches_of_samples_in_training_only():
    stage = efficientnet_lite.STAGES[3]._replace(filters=8)
    block = efficientnet_lite.InvertedResidual('block', stage, 1, 0.25, 1.0, 0.99)
    inputs = tf.constant(np.random.default_rng(0).random((64, 4, 4, 8)).astype(np.float32))
    tf.random.set_seed(3)
    branch = block(inputs, False) - inputs
    np.testing.assert_array_equal(block(inputs, False) - inputs, branch)
    block.branch = [lambda outputs, training: outputs]  # no batch norm: what is added is known
    added = (block(inputs, True) - inputs).numpy()
    kept = np.array([np.any(sample) for sample in added])
    assert 0.5 < kept.mean() < 0.95
    np.testing.assert_allclose(added[kept], inputs.numpy()[kept] / 0.75, rtol=1e-5)


def test_drop_connect_rises_linearly_and_is_off_unless_asked_for():
    def rates(**options):
        return [block.drop_rate for stage in _backbone(**options).stages for block in stage]

    assert rates() == [0.0] * 16
    np.testing.assert_allclose(rates(drop_connect=0.2), 0.2 * np.arange(16) / 16)


@pytest.mark.parametrize(
    ('option', 'message'),
    [
        ({'drop_connect': 1.0}, r'drop_connect=1.0: must be in \[0, 1\)'),
        ({'batch_norm_momentum': 1.0}, r'batch_norm_momentum=1.0: must be in \[0, 1\)'),
        ({'levels': (5, 6)}, r'levels=\(5, 6\): must be some of \[1, 2, 3, 4, 5\]'),
    ],
)
def test_bad_options_are_refused(option, message):
    with pytest.raises(ValueError, match=message):
        _backbone(**option)
