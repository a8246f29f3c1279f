"""AiFashion's network: the published wiring and parameters, and the same on other backbones."""

from __future__ import annotations

import collections
import os

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')

import numpy as np
import pytest
import tensorflow as tf

import nets
from nets.heads.aifashion import ConvReluNorm
from tests.gradients import check_gradients

K = 3
PUBLISHED = {'C1': (256, 64), 'C2': (128, 256), 'C3': (64, 512), 'C4': (32, 1024)}
# Kernel shapes for 24 keypoints, as published; those of deconvolutions end with the input.
KERNELS = {
    'global1/conv': [3, 3, 1024, 256],
    'global2/deconv1': [3, 3, 256, 256],
    'global2/conv': [3, 3, 256 + 512, 128],
    'global3/deconv1': [3, 3, 128, 128],
    'global3/conv': [3, 3, 128 + 256, 64],
    'global4/deconv1': [3, 3, 64, 64],
    'global4/conv': [3, 3, 64 + 64, 64],
    'heatmaps_global2': [1, 1, 128, 24],
    'heatmaps_global3': [1, 1, 64, 24],
    'heatmaps_global4': [1, 1, 64, 24],
    'stack1/squeeze': [1, 1, 128, 256],
    'stack1/input1': [1, 1, 256, 128],
    'heatmaps_stack1_input2': [1, 1, 24, 128],
    'heatmaps_stack1_input3': [1, 1, 24, 128],
    'heatmaps_stack1': [1, 1, 3 * 128, 24],
    'stack2/squeeze': [1, 1, 128, 256],
    'stack2/input1': [1, 1, 256, 128],
    'stack2/input2': [1, 1, 128, 128],
    'heatmaps_stack2_input3': [1, 1, 24, 128],
    'heatmaps_stack2': [1, 1, 3 * 128, 24],
}


def _random(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def _features(*sizes):
    return {f'C{n}': _random(2, s, s, 4, seed=n) for n, s in enumerate(sizes, start=1)}


def _head(features, size=16, **options):
    tf.random.set_seed(1)
    head = nets.HEADS.get('aifashion')(K, (size, size), **{'channels': 16, **options})
    return head, head(features, False)


def _set(head, name, value):
    """Fill the variables whose names start so."""
    variables = [v for v in head.variables if v.name.startswith(f'head/{name}')]
    assert variables, name
    for variable in variables:
        variable.assign(tf.fill(variable.shape, value))


def test_the_head_has_the_published_layers_and_parameters():
    with tf.Graph().as_default():
        head = nets.HEADS.get('aifashion')(24, (256, 256))
        features = {key: tf.zeros([1, s, s, c]) for key, (s, c) in PUBLISHED.items()}
        outputs = head(features, True)
        assert [output.shape for output in outputs] == [[1, 256, 256, 24]] * 3
        suffix = '/kernel:0'
        kernels = {v.name: v.shape for v in head.variables if v.name.endswith(suffix)}
        assert kernels == {f'head/{name}{suffix}': shape for name, shape in KERNELS.items()}
        assert nets.num_parameters(head) == 4_500_280
    assert {level.conv.conv.window.dilation for level in head.levels} == {2}


def test_the_backbone_has_the_missing_block_and_no_scale_layers():
    with tf.Graph().as_default():
        backbone = nets.BACKBONES.get('resnet101')(levels=(1, 2, 3, 4))
        features = backbone(tf.zeros([1, 512, 512, 3]), False)
        assert {key: (f.shape[1], f.shape[3]) for key, f in features.items()} == PUBLISHED
        sizes = {v.name: v.shape.num_elements() for v in backbone.trainable_variables}
    missing = {name: n for name, n in sizes.items() if '/stage2/block4/' in name}
    scales = sum(n for name, n in sizes.items() if '/norm/' in name and name not in missing)
    assert (sum(missing.values()), scales) == (280_064, 81_280)
    total = sum(sizes.values()) + 4_500_280
    assert total == 32_035_704 == 31_836_920 + 280_064 - 81_280


def test_heat_maps_of_all_levels_add_up():
    head, _ = _head(_features(16, 8, 4, 2))
    _set(head, 'heatmaps_global', 0.0)
    for level, value in [(2, 1.0), (3, 20.0), (4, 300.0)]:
        _set(head, f'heatmaps_global{level}/bias', value)
    np.testing.assert_array_equal(
        head(_features(16, 8, 4, 2), False)[0], np.full((2, 16, 16, K), 321.0)
    )


def test_coarse_heat_maps_are_enlarged_by_nearest_neighbors():
    features = _features(16, 8, 4, 2)
    head, _ = _head(features)
    for level in (3, 4):
        _set(head, f'heatmaps_global{level}', 0.0)
    first = head(features, False)[0].numpy()
    cells = first[:, ::4, ::4]
    np.testing.assert_array_equal(first, np.kron(cells, np.ones((1, 4, 4, 1))))
    assert len(np.unique(cells)) == cells.size


def test_a_refinement_reaches_its_own_output_and_the_next():
    features = _features(16, 8, 4, 2)
    head, before = _head(features, stacks=3)
    assert len(before) == 4
    for n in (3, 2, 1):
        _set(head, f'heatmaps_stack{n}/bias', 1.0)
        after = head(features, False)
        changed = [bool(np.any(a != b)) for a, b in zip(before, after)]
        assert changed == [i >= n for i in range(4)], n
        before = after


def test_the_next_refinement_reads_the_features_and_the_heat_maps_of_the_last():
    features = _features(16, 8, 4, 2)
    head, before = _head(features)
    # What the second reads but the heat maps of the first.
    _set(head, 'heatmaps_stack1/kernel', 0.0)
    for name in ('stack1/input1', 'heatmaps_stack1_input2'):
        after = head(features, False)
        _set(head, f'{name}/norm/beta', 1.0)
        again = head(features, False)
        assert [bool(np.any(a != b)) for a, b in zip(after, again)] == [False, False, True], name
    assert np.any(before[-1] != after[-1])


def test_batch_norm_is_after_the_activation():
    layer = ConvReluNorm('layer', 2)
    images = _random(2, 4, 4, 3)
    layer(images, False)
    layer.conv.bias.assign([0.5, -0.5])
    layer.norm.layer.beta.assign([-1.0, -2.0])
    convolved = images @ layer.conv.kernel.numpy()[0, 0] + [0.5, -0.5]
    expected = np.maximum(convolved, 0) / np.sqrt(1 + 1e-5) - [1, 2]
    np.testing.assert_allclose(layer(images, False), expected, atol=1e-5)


def test_deconvolutions_are_activated_before_they_are_joined():
    features = _features(16, 8, 4, 2)
    head, _ = _head(features)
    maps = []
    for bias in (-100.0, -200.0, 1.0):
        _set(head, 'global2/deconv1/bias', bias)
        maps.append(head(features, False)[0].numpy())
    np.testing.assert_array_equal(maps[0], maps[1])
    assert np.any(maps[0] != maps[2])


@pytest.mark.parametrize(
    ('sizes', 'deconvolutions', 'predicting', 'inputs'),
    [
        ((16, 8, 4, 2), {'global2': 1, 'global3': 1, 'global4': 1}, [2, 3, 4], 3),
        ((16, 8, 4, 2, 1), {f'global{n}': 1 for n in (2, 3, 4, 5)}, [2, 3, 4, 5], 4),
        ((16, 8, 4, 4, 4), {'global4': 1, 'global5': 1}, [2, 3, 4, 5], 4),  # holds its stride
        ((16, 2), {'global2': 3}, [2], 2),
        ((4, 2), {'global2': 1, 'global3': 1, 'global4': 1}, [2, 3, 4], 3),  # none so fine
        ((8,), {'global2': 1}, [2], 2),
        ((16,), {}, [1], 2),
    ],
)
def test_any_levels_lead_to_the_heat_maps(sizes, deconvolutions, predicting, inputs):
    features = _features(*sizes)
    head, outputs = _head(features)
    assert [output.shape for output in outputs] == [[2, 16, 16, K]] * 3
    kernels = [v.name.split('/')[1:-1] for v in head.variables if v.name.endswith('/kernel:0')]
    made = [level for level, *name in kernels if name and name[0].startswith('deconv')]
    assert collections.Counter(made) == deconvolutions
    predicted = [level for level, *_ in kernels if level.startswith('heatmaps_global')]
    assert predicted == [f'heatmaps_global{n}' for n in predicting]
    joined = [v for v in head.variables if v.name == 'head/heatmaps_stack1/kernel:0']
    assert joined[0].shape == [1, 1, inputs * 8, K]
    for key in features:  # every level is read
        changed = head({**features, key: features[key] + 1}, False)
        assert all(np.any(a != b) for a, b in zip(changed, outputs)), key


@pytest.mark.parametrize('sizes', [(16, 8, 4, 2), (8,), (16,)])
def test_every_variable_has_a_gradient(sizes):
    features = _features(*sizes)
    head, _ = _head(features)
    check_gradients(head, lambda: head(features, True))


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r'heatmap_size=\(8, 8\): does not fit the C1 feature map'):
        _head(_features(16, 8), size=8)
    with pytest.raises(ValueError, match='channels=18: must be a positive multiple of 4'):
        _head(_features(16), channels=18)
    with pytest.raises(ValueError, match='channels=0: must be a positive multiple of 4'):
        _head(_features(16), channels=0)
    with pytest.raises(ValueError, match='head_options: stacks=0: must be positive'):
        _head(_features(16), stacks=0)
