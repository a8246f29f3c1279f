"""The stacked hourglass: parameters, what depends on what, sizes, and the arithmetic in NumPy."""

from __future__ import annotations

import os

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')

import numpy as np
import pytest
import tensorflow as tf

import nets
from config import NetworkConfig
from nets.blocks import PreactivationBottleneck
from nets.heads import hourglass
from tests.gradients import check_gradients

K = 3
TINY = {'stacks': 2, 'channels': 4, 'depth': 2}


def _random(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def _tensor(*shape, seed=0):
    return tf.constant(_random(*shape, seed=seed))


def _head(size=8, features=None, seed=1, **options):
    """Return a head that has been called, its features and its outputs."""
    tf.random.set_seed(seed)
    head = nets.HEADS.get('hourglass')(K, (size, size), **{**TINY, **options})
    features = features or {'C2': _tensor(2, size, size, 4)}
    return head, features, head(features, False)


def _changed(head, features, *prefixes):
    """Return which outputs change when all variables below these names do."""
    before = head(features, False)
    variables = [v for v in head.variables if v.name.startswith(tuple(prefixes))]
    assert variables, prefixes
    values = [variable.numpy() for variable in variables]
    for n, variable in enumerate(variables):
        variable.assign_add(0.5 + np.abs(_random(*variable.shape, seed=n)))
    after = head(features, False)
    for variable, value in zip(variables, values):
        variable.assign(value)
    return [bool(np.any(a != b)) for a, b in zip(before, after)]


@pytest.mark.parametrize(
    ('stacks', 'num_keypoints', 'parameters', 'variables', 'statistics'),
    [
        (2, 13, 6_551_770, 298, 31_488),
        (2, 24, 6_560_240, 298, 31_488),
        (4, 13, 12_821_748, 568, 61_184),
        (4, 24, 12_841_504, 568, 61_184),
        (8, 13, 25_361_704, 1108, 120_576),
        (8, 24, 25_404_032, 1108, 120_576),
    ],
)
def test_parameters_equal_those_of_tf_fashion_ai(
    stacks, num_keypoints, parameters, variables, statistics
):
    config = NetworkConfig(
        backbone='hourglass_stem',
        head='hourglass',
        image_size=(64, 64),
        heatmap_size=(16, 16),
        head_options={'stacks': stacks},
    )
    with tf.Graph().as_default():
        network = nets.build_network(config, num_keypoints)
        assert len(network(tf.zeros([1, 64, 64, 3]), False)) == stacks
        assert nets.num_parameters(network) == parameters
        assert len(network.trainable_variables) == variables
        moving = [v for v in network.variables if not v.trainable]
        assert sum(v.shape.num_elements() for v in moving) == statistics


def test_residuals_and_depth_make_as_many_blocks():
    def count(**options):
        names = [variable.name for variable in _head(**options)[0].variables]
        return len([name for name in names if name.endswith('/conv3/kernel:0')])

    with tf.Graph().as_default():
        # A stack has three positions a size, the bottom, and one after the hourglass.
        assert count(depth=1) == 2 * (3 + 2)
    with tf.Graph().as_default():
        assert count(depth=3, residuals=2) == 2 * (3 * 3 + 2) * 2


def test_a_stack_reaches_its_own_output_and_those_of_later_stacks():
    head, features, outputs = _head(stacks=3)
    assert [output.shape for output in outputs] == [[2, 8, 8, K]] * 3
    for n in range(3):
        prefixes = f'head/stack{n + 1}/', f'head/heatmaps_stack{n + 1}'
        assert _changed(head, features, *prefixes) == [i >= n for i in range(3)], n
    for remap in ('head/stack1/remap', 'head/heatmaps_stack1_remap'):
        assert _changed(head, features, remap) == [False, True, True]
    assert not [v.name for v in head.variables if 'stack3' in v.name and 'remap' in v.name]


def test_the_next_input_adds_the_input_the_features_and_the_heat_maps():
    head, _, _ = _head()
    stack, inputs = head.stacks[0], _tensor(2, 8, 8, 4, seed=3)
    for remap in stack.remaps:
        remap.kernel.assign(tf.zeros_like(remap.kernel))
        remap.bias.assign(tf.ones_like(remap.bias))
    np.testing.assert_allclose(stack(inputs, False)[1], inputs + 2, rtol=1e-6)


def test_scales_are_predicted_coarse_to_fine_on_the_way_up():
    head, features, outputs = _head(depth=3, multi_scale=True)
    assert [output.shape for output in outputs] == [[2, 8, 8, K]] * 6
    for n, name in enumerate(['up3', 'up2', 'up1']):
        changed = _changed(head, features, f'head/stack1/hourglass/{name}/')
        assert changed == [i >= n for i in range(6)], name
    for n, name in enumerate(['reduced4', 'reduced2']):
        changed = _changed(head, features, f'head/heatmaps_stack2_{name}')
        assert changed == [i == 3 + n for i in range(6)], name


def test_scales_are_predicted_at_their_own_size():
    head, _, _ = _head(depth=3, multi_scale=True)
    heatmaps, _ = head.stacks[1](_tensor(2, 8, 8, 4), False)
    assert [maps.shape for maps in heatmaps] == [[2, n, n, K] for n in (2, 4, 8)]


def test_scales_add_only_layers_that_predict():
    with tf.Graph().as_default():
        plain = nets.num_parameters(_head(depth=3)[0])
    with tf.Graph().as_default():
        scales = nets.num_parameters(_head(depth=3, multi_scale=True)[0])
    assert scales - plain == 2 * 2 * (4 + 1) * K


def _pool(images):
    batch, height, width, channels = images.shape
    return images.reshape(batch, height // 2, 2, width // 2, 2, channels).max((2, 4))


def test_an_hourglass_of_identities_adds_what_it_pools_by_nearest_neighbors():
    options = hourglass.HourglassOptions(1, 4, residuals=1, depth=2, multi_scale=False)
    module, inputs = hourglass.Hourglass('hourglass', options), _random(1, 8, 4, 4)
    module(tf.constant(inputs), False)
    for variable in module.variables:
        if '/conv3/kernel' in variable.name:
            variable.assign(tf.zeros_like(variable))
    enlarge = np.ones((1, 2, 2, 1), np.float32)
    middle = _pool(inputs) + np.kron(_pool(_pool(inputs)), enlarge)
    coarse, fine = module(tf.constant(inputs), False)
    np.testing.assert_allclose(coarse, middle, rtol=1e-6)
    np.testing.assert_allclose(fine, inputs + np.kron(middle, enlarge), rtol=1e-6)


def test_a_preactivation_block_projects_what_comes_in_and_activates_nothing_after_the_sum():
    images = _random(2, 4, 4, 6)
    plain, projecting = (PreactivationBottleneck(path, n) for path, n in [('a', 6), ('b', 8)])
    for block in (plain, projecting):
        block(images, False)
        block.branch[2].conv.kernel.assign(tf.zeros_like(block.branch[2].conv.kernel))
    assert plain.shortcut is None
    np.testing.assert_array_equal(plain(images, False), images)
    kernel = projecting.shortcut.kernel.numpy()[0, 0]
    np.testing.assert_allclose(projecting(images, False), images @ kernel, atol=1e-5)


def test_a_preactivation_block_convolves_last():
    images, block = _random(2, 4, 4, 6), PreactivationBottleneck('block', 6)
    block(images, False)
    block.branch[0].norm.layer.beta.assign(
        -1e3 * tf.ones(6)
    )  # silences the branch from its first ReLU
    np.testing.assert_array_equal(block(images, False), images)
    block.branch[2].norm.layer.beta.assign(tf.ones(3))
    kernel = block.branch[2].conv.kernel.numpy()[0, 0]
    np.testing.assert_allclose(block(images, False), images + kernel.sum(0), atol=1e-5)


@pytest.mark.parametrize(
    ('shapes', 'key', 'entry'),
    [
        ([(8, 4), (4, 4), (2, 4)], 'C2', set()),
        ([(8, 6), (4, 4)], 'C2', {'projection'}),
        ([(16, 4), (8, 4), (8, 6)], 'C4', {'projection'}),
        ([(16, 4), (4, 4), (4, 4), (2, 4)], 'C4', {'deconv1'}),
        ([(2, 6)], 'C2', {'deconv1', 'deconv2'}),
    ],
)
def test_the_input_is_the_deepest_of_the_finest_that_fit(shapes, key, entry):
    features = {f'C{n}': _tensor(1, s, s, c, seed=n) for n, (s, c) in enumerate(shapes, start=2)}
    head, _, outputs = _head(features=features)
    names = {v.name.split('/')[1] for v in head.variables}
    assert {name for name in names if not name.startswith(('stack', 'heatmaps'))} == entry
    for other in features:
        changed = head({**features, other: features[other] + 1}, False)
        assert np.any(changed[-1] != outputs[-1]) == (other == key), other


@pytest.mark.parametrize('multi_scale', [False, True])
def test_every_variable_has_a_gradient(multi_scale):
    features = {'C2': _tensor(2, 4, 4, 6)}
    head, features, _ = _head(features=features, multi_scale=multi_scale)
    check_gradients(head, lambda: head(features, True))


@pytest.mark.parametrize(
    ('options', 'size', 'message'),
    [
        ({'stacks': 0}, (16, 16), 'head_options: stacks=0: must be positive'),
        ({'residuals': 0}, (16, 16), 'head_options: residuals=0: must be positive'),
        ({'depth': 0}, (16, 16), 'head_options: depth=0: must be positive'),
        ({'channels': 7}, (16, 16), 'head_options: channels=7: must be a positive multiple of 2'),
        (
            {'depth': 4},
            (24, 16),
            r'heatmap_size=\(24, 16\): an hourglass of depth=4 needs multiples of 16; '
            r'nearest: \(16, 16\) or \(32, 16\)',
        ),
        ({'depth': 3}, (4, 8), r'multiples of 8; nearest: \(8, 8\)'),
    ],
)
def test_bad_options_are_refused_before_anything_is_built(options, size, message):
    with pytest.raises(ValueError, match=message):
        nets.HEADS.get('hourglass')(K, size, **{**TINY, **options})


@pytest.mark.parametrize('sizes', [[16], [16, 3], [5]])
def test_features_that_cannot_become_heat_maps_are_refused(sizes):
    features = {f'C{n}': _tensor(1, s, s, 4) for n, s in enumerate(sizes, start=2)}
    sides = rf'C{1 + len(sizes)} feature map of \({sizes[-1]}, {sizes[-1]}\) cells'
    with pytest.raises(ValueError, match=rf'heatmap_size=\(8, 8\): does not fit the {sides}'):
        _head(features=features)


def test_the_stem_scales_with_its_width_and_refuses_other_sizes():
    stem = nets.BACKBONES.get('hourglass_stem')(width=2)
    features = stem(_tensor(1, 16, 8, 3), False)
    assert {key: level.shape for key, level in features.items()} == {'C2': [1, 4, 2, 8]}
    message = r'image_size=\(18, 16\): the stem of the hourglass needs multiples of 4; .*\(16, 16\)'
    with pytest.raises(ValueError, match=message):
        stem(_tensor(1, 18, 16, 3), False)
    with pytest.raises(ValueError, match='backbone_options: width=0: must be positive'):
        nets.BACKBONES.get('hourglass_stem')(width=0)
