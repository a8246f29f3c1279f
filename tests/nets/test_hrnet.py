"""HRNet: its published sizes and names, who hears from whom, and its two heads."""

from __future__ import annotations

import os

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')

import functools
import re

import numpy as np
import pytest
import tensorflow as tf

import nets
from config import NetworkConfig
from nets import layers
from nets.backbones import hrnet
from nets.heads import HEADS

K = 5


@functools.cache
def _names(levels=(2, 3, 4, 5)):
    with tf.Graph().as_default():
        backbone = nets.BACKBONES.get('hrnet_w32')(width=2, levels=levels)
        backbone(tf.zeros([1, 64, 64, 3]), False)
        return [variable.name for variable in backbone.variables]


@pytest.mark.parametrize(
    ('name', 'num_parameters'), [('hrnet_w32', 28_535_552), ('hrnet_w48', 63_594_912)]
)
def test_the_pose_network_has_the_published_parameters(name, num_parameters):
    """28.5 and 63.6 million, with COCO's 17 keypoints."""
    width = int(name[-2:])
    config = NetworkConfig(
        backbone=name,
        head='hrnet',
        image_size=(64, 64),
        heatmap_size=(16, 16),
        backbone_options={'levels': [2]},  # a list, as JSON has it
    )
    with tf.Graph().as_default():
        network = nets.build_network(config, 17)
        [output] = network(tf.zeros([1, 64, 64, 3]), True)
        assert nets.num_parameters(network) == num_parameters + 17 * (width + 1)
        gradients = tf.gradients(output, network.trainable_variables)
        assert all(gradient is not None for gradient in gradients)


def test_the_face_network_has_the_published_parameters():
    """9.66 million with WFLW's 98 landmarks, less the bias before the batch norm."""
    config = NetworkConfig(
        backbone='hrnet_w18', head='hrnetv2', image_size=(64, 64), heatmap_size=(16, 16)
    )
    with tf.Graph().as_default():
        network = nets.build_network(config, 98)
        network(tf.zeros([1, 64, 64, 3]), False)
        joined = 18 * (1 + 2 + 4 + 8)
        expected = 9_562_260 + joined * joined + 2 * joined + (joined + 1) * 98
        assert nets.num_parameters(network) == expected == 9_662_258


def test_what_no_level_needs_is_not_built():
    everything, finest, two = (set(_names(levels)) for levels in ((2, 3, 4, 5), (2,), (2, 4)))
    last = 'backbone/stage4/module3/fuse'
    assert {name.split('/')[3][:5] for name in everything - finest} == {'fuse2', 'fuse3', 'fuse4'}
    assert all(name.startswith(last) for name in everything - finest)
    assert {name.split('/')[3][:5] for name in two - finest} == {'fuse3'}
    with tf.Graph().as_default():
        backbone = nets.BACKBONES.get('hrnet_w18')(width=4, levels=(2, 4))
        features = backbone(tf.zeros([1, 64, 32, 3]), False)
    assert {key: f.shape.as_list() for key, f in features.items()} == {
        'C2': [1, 16, 8, 4],
        'C4': [1, 4, 2, 16],
    }


def test_names_are_those_that_weights_are_loaded_by():
    names = _names()
    layers = {re.sub(r'/norm/\w+:0$|/kernel:0$', '', name) for name in names}
    numbers = r'stage[2-4]/module[1-4]/'
    patterns = [
        r'conv[12]',
        r'stage1/block[1-4]/(conv[123]|shortcut)',
        r'transition1/branch[12]|transition2/branch3|transition3/branch4',
        numbers + r'branch[1-4]/block[1-4]/conv[12]',
        numbers + r'fuse(1_[234]|2_[34]|3_4)',
        numbers + r'fuse(2_1|3_2|4_3)/down1',
        numbers + r'fuse(3_1|4_2)/down[12]',
        numbers + r'fuse4_1/down[123]',
    ]
    counts = [sum(bool(re.fullmatch(f'backbone/({p})', x)) for x in layers) for p in patterns]
    # Of modules with two, three and four branches there are 1, 4 and 3.
    assert counts == [
        2, 4 * 3 + 1, 4, (1 * 2 + 4 * 3 + 3 * 4) * 8,
        1 * 1 + 4 * 3 + 3 * 6, 1 * 1 + 4 * 2 + 3 * 3, (4 * 1 + 3 * 2) * 2, 3 * 3,
    ]  # fmt: skip
    assert sum(counts) == len(layers)
    assert len(names) == 5 * len(layers)


def test_published_channels_of_stem_and_first_stage_do_not_depend_on_the_width():
    with tf.Graph().as_default():
        backbone = nets.BACKBONES.get('hrnet_w48')(width=2)
        backbone(tf.zeros([1, 32, 32, 3]), False)
        shapes = {v.name[len('backbone/') : -2]: v.shape.as_list() for v in backbone.variables}
    assert shapes['conv2/kernel'] == [3, 3, 64, 64]
    assert shapes['stage1/block1/shortcut/kernel'] == [1, 1, 64, 256]
    assert shapes['transition1/branch1/kernel'] == [3, 3, 256, 2]
    assert shapes['transition1/branch2/kernel'] == [3, 3, 256, 4]
    assert shapes['transition3/branch4/kernel'] == [3, 3, 8, 16]
    assert shapes['stage4/module1/fuse4_1/down2/kernel'] == [3, 3, 2, 2]
    assert shapes['stage4/module1/fuse4_1/down3/kernel'] == [3, 3, 2, 16]
    assert shapes['stage4/module1/fuse1_4/kernel'] == [1, 1, 16, 2]


WIDTHS = (2, 3, 4)


def _branches(seed=0):
    random = np.random.default_rng(seed)
    return [
        random.uniform(size=(1, 8 >> b, 16 >> b, width)).astype(np.float32)
        for b, width in enumerate(WIDTHS)
    ]


def _module(targets=(0, 1, 2)):
    tf.random.set_seed(0)
    return hrnet.HighResolutionModule('module', WIDTHS, targets, first_gamma=0.0)


def test_every_branch_hears_from_every_branch():
    module, branches = _module(), _branches()
    outputs = module(branches, False)
    assert [o.shape for o in outputs] == [b.shape for b in branches]
    for j, other in enumerate(_branches(seed=1)):
        changed = module([other if b == j else branch for b, branch in enumerate(branches)], False)
        assert all(np.any(a != b) for a, b in zip(outputs, changed)), j


def _convolve(inputs, layer):
    """Convolve in NumPy, and apply a batch norm that has seen nothing."""
    kernel, stride = layer.conv.kernel.numpy(), layer.conv.window.stride
    size, height, width = len(kernel), inputs.shape[1], inputs.shape[2]
    margin = size // 2
    padded = np.pad(inputs, [(0, 0), (margin, margin), (margin, margin), (0, 0)])
    outputs = sum(
        padded[:, r : r + height : stride, c : c + width : stride] @ kernel[r, c]
        for r in range(size)
        for c in range(size)
    )
    return outputs / np.sqrt(1 + 1e-5)


def test_a_fusion_adds_resized_branches():
    module, (one, two, three) = _module(), _branches()  # the blocks are identities at first
    outputs = module([one, two, three], False)
    fuse = [[fusion.convolutions for fusion in fusions] for fusions in module.fusions]
    up = [_convolve(two, fuse[0][1][0]), _convolve(three, fuse[0][2][0])]
    up = [values.repeat(n, axis=1).repeat(n, axis=2) for values, n in zip(up, (2, 4))]
    np.testing.assert_allclose(outputs[0], np.maximum(one + up[0] + up[1], 0), atol=1e-5)
    first, second = fuse[2][0]
    down = [_convolve(np.maximum(_convolve(one, first), 0), second), _convolve(two, fuse[2][1][0])]
    np.testing.assert_allclose(outputs[2], np.maximum(three + down[0] + down[1], 0), atol=1e-5)
    assert [len(own) for own in fuse[1]] == [1, 0, 1]


def test_a_module_gives_the_branches_asked_for():
    some, branches = _module(targets=(0, 2)), _branches()
    for one, other in zip(some(branches, False), _module()(branches, False)[::2]):
        np.testing.assert_array_equal(one, other)


def test_every_level_hears_from_a_single_pixel_through_the_stages():
    tf.random.set_seed(0)
    backbone = nets.BACKBONES.get('hrnet_w18')(width=2, residual_gamma=1.0)
    images = np.random.default_rng(0).normal(size=(1, 32, 32, 3)).astype(np.float32)
    features = backbone(images, False)
    images[0, 16, 16] += 5
    changed = backbone(images, False)
    assert {key: f.shape[1] for key, f in features.items()} == {'C2': 8, 'C3': 4, 'C4': 2, 'C5': 1}
    for key, feature in features.items():
        assert np.all(np.any(feature != changed[key], axis=-1)), key


def test_nearest_neighbors_in_both_dtypes():
    values = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32)
    expected = values.repeat(4, axis=1).repeat(4, axis=2)
    np.testing.assert_array_equal(
        layers.enlarge(tf.constant(values), [4 * side for side in values.shape[1:3]]), expected
    )
    assert layers.enlarge(tf.cast(values, tf.bfloat16), [2, 2]).dtype == tf.bfloat16


@pytest.mark.parametrize('levels', [(2, 3, 4, 5), (2,)])
def test_pictures_that_do_not_divide_by_32_are_refused_also_without_the_coarse_levels(levels):
    message = r'image_size=\(100, 64\): HRNet needs multiples of 32; .*\(96, 64\) or \(128, 64\)'
    with tf.Graph().as_default(), pytest.raises(ValueError, match=message):
        nets.BACKBONES.get('hrnet_w32')(levels=levels)(tf.zeros([1, 100, 64, 3]), False)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'levels': ()}, r'levels=\(\): must be some of \[2, 3, 4, 5\], in increasing order'),
        ({'levels': (1, 2)}, r'levels=\(1, 2\): must be some of \[2, 3, 4, 5\]'),
        ({'levels': (3, 2)}, r'levels=\(3, 2\): must be'),
        ({'width': 0}, 'network.backbone_options: width=0: must be positive'),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        nets.BACKBONES.get('hrnet_w32')(**options)


def _features():
    random = np.random.default_rng(0)
    return {
        f'C{n}': tf.constant(random.normal(size=(2, 16 >> n, 8 >> n, 6)), tf.float32)
        for n in range(4)
    }


@pytest.mark.parametrize(('name', 'hears'), [('hrnet', 1), ('hrnetv2', 4)])
def test_one_head_hears_from_the_finest_map_and_the_other_from_all(name, hears):
    head, features = HEADS.get(name)(K, (16, 8)), _features()
    [output] = head(features, False)
    assert output.shape == [2, 16, 8, K]
    changed = [
        np.any(head({**features, key: 1.0 - feature}, False)[0] != output)
        for key, feature in features.items()
    ]
    assert changed == [n < hears for n in range(4)]


@pytest.mark.parametrize(('channels', 'expected'), [(0, 24), (7, 7)])
def test_joined_head_has_as_many_channels_as_it_joins_or_is_told(channels, expected):
    head = HEADS.get('hrnetv2')(K, (16, 8), channels=channels)
    head(_features(), False)
    assert head.join.conv.kernel.shape == [1, 1, 24, expected]


@pytest.mark.parametrize('name', ['hrnet', 'hrnetv2'])
def test_heat_maps_have_the_size_of_the_finest_map(name):
    message = r'heatmap_size=\(32, 16\): does not fit the finest .*sizes that do: \(16, 8\)$'
    with pytest.raises(ValueError, match=message):
        HEADS.get(name)(K, (32, 16))(_features(), False)
    with pytest.raises(ValueError, match='head_options: channels=-1: must be not negative'):
        HEADS.get('hrnetv2')(K, (16, 8), channels=-1)
