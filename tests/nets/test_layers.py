"""Layers against NumPy, and what their variables are called and start from."""

from __future__ import annotations

import os
import subprocess
import sys

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')

import numpy as np
import pytest
import tensorflow as tf

from nets import layers, norms
from tests.commands import ROOT

v1 = tf.compat.v1


def _random(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def _numpy_conv(images, kernel, stride, dilation, groups):
    """Return Zero-padded alike on all sides, one tap and group at a time."""
    size, out_channels = kernel.shape[0], kernel.shape[-1]
    margin = dilation * (size - 1) // 2
    padded = np.pad(images, [(0, 0), (margin, margin), (margin, margin), (0, 0)])
    height, width = (-(-side // stride) for side in images.shape[1:3])
    outputs = np.zeros((len(images), height, width, out_channels))
    inputs_each, outputs_each = kernel.shape[2], out_channels // groups
    for row, column, group in np.ndindex(size, size, groups):
        top, left = row * dilation, column * dilation
        taps = padded[:, top:, left:][:, : height * stride : stride, : width * stride : stride]
        of_in = slice(group * inputs_each, (group + 1) * inputs_each)
        of_out = slice(group * outputs_each, (group + 1) * outputs_each)
        outputs[..., of_out] += taps[..., of_in] @ kernel[row, column][:, of_out]
    return outputs


@pytest.mark.parametrize(
    'window',
    [
        layers.ConvSpec(1),
        layers.ConvSpec(3),
        layers.ConvSpec(1, stride=2),
        layers.ConvSpec(3, stride=2),
        layers.ConvSpec(7, stride=2),
        layers.ConvSpec(3, dilation=2),
        layers.ConvSpec(3, groups=2),
        layers.ConvSpec(3, stride=2, groups=4),
    ],
)
@pytest.mark.parametrize('side', [8, 9])
def test_conv_equals_numpy_with_symmetric_padding(window, side):
    conv = layers.Conv('conv', 8, window, use_bias=True)
    images = _random(2, side, side, 4)
    conv(images)
    conv.bias.assign(_random(8, seed=1))
    expected = _numpy_conv(
        images, conv.kernel.numpy(), window.stride, window.dilation, window.groups
    )
    np.testing.assert_allclose(conv(images), expected + conv.bias.numpy(), atol=1e-4)


def test_conv_refuses_channels_that_do_not_make_groups():
    with pytest.raises(ValueError, match='conv: 6 channels in and 8 out .* 4 groups'):
        layers.Conv('conv', 8, layers.ConvSpec(3, groups=4))(_random(1, 4, 4, 6))


def test_max_pool_equals_numpy_and_the_border_never_wins():
    images = np.maximum(_random(2, 8, 8, 3), 0)  # as after ReLU
    padded = np.pad(images, [(0, 0), (1, 1), (1, 1), (0, 0)], constant_values=-np.inf)
    taps = [padded[:, r : r + 8 : 2, c : c + 8 : 2] for r, c in np.ndindex(3, 3)]
    np.testing.assert_array_equal(layers.max_pool(tf.constant(images)), np.max(taps, axis=0))


@pytest.mark.parametrize('stride', [2, 4])
def test_deconv_spreads_each_cell_symmetrically(stride):
    size, margin = 2 * stride, stride // 2
    deconv = layers.Deconv('deconv', 2, layers.ConvSpec(size, stride=stride))
    images = _random(2, 5, 6, 3)
    outputs = deconv(images)
    kernel = deconv.kernel.numpy()
    expected = np.zeros((2, 5 * stride + stride, 6 * stride + stride, 2))
    for row, column in np.ndindex(5, 6):
        patch = np.einsum('bi,hwoi->bhwo', images[:, row, column], kernel)
        top, left = row * stride, column * stride
        expected[:, top : top + size, left : left + size] += patch
    expected = expected[:, margin:-margin, margin:-margin]
    assert outputs.shape == (2, 5 * stride, 6 * stride, 2)
    np.testing.assert_allclose(outputs, expected, atol=1e-4)


def test_resize_agrees_with_pixel_centers_at_one_half():
    ramp = tf.constant(np.arange(4, dtype=np.float32) + 0.5)[None, None, :, None]
    doubled = layers.resize(ramp, (1, 8))[0, 0, :, 0]
    # The value is the position; beyond the outer centers there is nothing to interpolate with.
    expected = np.clip((np.arange(8) + 0.5) / 2, 0.5, 3.5)
    np.testing.assert_allclose(doubled, expected, atol=1e-6)
    assert layers.resize(tf.cast(ramp, tf.bfloat16), (1, 8)).dtype == tf.bfloat16


def test_batch_norm_equals_numpy_and_moves_its_statistics():
    norm = norms.BatchNorm('norm')
    images = 3 + 2 * _random(4, 5, 5, 6)
    norm(images, False)
    norm.gamma.assign(1 + _random(6, seed=1))
    norm.beta.assign(_random(6, seed=2))
    mean, variance = images.mean((0, 1, 2)), images.var((0, 1, 2))
    standard = (images - mean) / np.sqrt(variance + 1e-5)
    expected = standard * norm.gamma.numpy() + norm.beta.numpy()
    np.testing.assert_allclose(norm(images, True), expected, atol=1e-4)
    # The moving variance is that of the population, as in torch.
    np.testing.assert_allclose(norm.moving_mean, 0.1 * mean, rtol=1e-4)
    np.testing.assert_allclose(norm.moving_variance, 0.9 + 0.1 * variance * 100 / 99, rtol=1e-4)


def test_batch_norm_normalizes_with_moving_statistics_outside_training():
    norm = norms.BatchNorm('norm')
    images = _random(2, 3, 3, 4)
    norm(images, False)
    norm.moving_mean.assign([1.0, 2.0, 3.0, 4.0])
    norm.moving_variance.assign([1.0, 4.0, 9.0, 16.0])
    expected = (images - [1, 2, 3, 4]) / np.sqrt(np.array([1, 4, 9, 16]) + 1e-5)
    np.testing.assert_allclose(norm(images, False), expected, atol=1e-5)
    np.testing.assert_array_equal(norm.moving_mean, [1, 2, 3, 4])


def test_moving_statistics_are_kept_by_each_replica():
    norm = norms.BatchNorm('norm')
    norm(_random(2, 3, 3, 4), False)
    for variable in (norm.moving_mean, norm.moving_variance):
        assert not variable.trainable
        assert variable.synchronization == tf.VariableSynchronization.ON_READ
        assert variable.aggregation == tf.VariableAggregation.MEAN


def test_batch_norm_updates_are_in_update_ops_of_a_graph():
    with tf.Graph().as_default(), v1.Session() as session:
        norm = norms.BatchNorm('norm')
        norm(tf.ones([2, 3, 3, 4]), True)
        updates = v1.get_collection(v1.GraphKeys.UPDATE_OPS)
        assert len(updates) == 2
        session.run(v1.global_variables_initializer())
        session.run(updates)
        np.testing.assert_allclose(session.run(norm.moving_mean), 0.1 * np.ones(4), rtol=1e-5)
        norm(tf.ones([2, 3, 3, 4]), False)
        assert len(v1.get_collection(v1.GraphKeys.UPDATE_OPS)) == 2


def test_batch_norm_updates_happen_inside_a_function():
    norm = norms.BatchNorm('norm')
    step = tf.function(lambda images: norm(images, True))
    for _ in range(2):
        step(tf.ones([2, 3, 3, 4]))
    np.testing.assert_allclose(norm.moving_mean, 0.19 * np.ones(4), rtol=1e-5)
    assert norm.moving_mean.name == 'norm/moving_mean:0'


def test_he_normal_keeps_the_variance_through_relu():
    images = tf.constant(_random(2, 16, 16, 64))
    for path, window, kind in (
        ('conv', layers.ConvSpec(3), layers.Conv),
        ('grouped', layers.ConvSpec(3, groups=4), layers.Conv),
        ('deconv', layers.ConvSpec(4, stride=2), layers.Deconv),
    ):
        outputs = kind(path, 64, window)(tf.nn.relu(images))
        # ReLU halves the second moment, the initial kernels double it.
        inside = outputs[:, 2:-2, 2:-2].numpy()
        assert 0.8 < np.mean(inside**2) < 1.2, path


def test_initial_values_depend_on_seed_and_name_alone():
    images = _random(1, 4, 4, 2)

    def kernel(seed, path, before=0):
        tf.random.set_seed(seed)
        for n in range(before):
            layers.Conv(f'before{n}', 3)(images)
        conv = layers.Conv(path, 3)
        conv(images)
        return conv.kernel.numpy()

    np.testing.assert_array_equal(kernel(1, 'conv'), kernel(1, 'conv', before=2))
    assert np.abs(kernel(1, 'conv') - kernel(2, 'conv')).min() > 0
    assert np.abs(kernel(1, 'conv') - kernel(1, 'other')).min() > 0


def test_names_are_absolute_and_the_same_everywhere():
    def names(scope):
        conv = layers.ConvNorm('net/conv', 3)
        with tf.name_scope(scope):
            conv(tf.ones([1, 4, 4, 2]), True)
        return sorted(variable.name for variable in conv.variables)

    expected = [
        'net/conv/kernel:0',
        'net/conv/norm/beta:0',
        'net/conv/norm/gamma:0',
        'net/conv/norm/moving_mean:0',
        'net/conv/norm/moving_variance:0',
    ]
    assert names('outer') == expected
    with tf.Graph().as_default():
        assert names('outer') == expected
        assert len(v1.trainable_variables()) == 3


def test_a_second_object_at_the_same_path_of_a_graph_is_refused():
    with tf.Graph().as_default():
        images = tf.ones([1, 4, 4, 2])
        conv = layers.Conv('conv', 3)
        conv(images)
        conv(images)
        with pytest.raises(ValueError, match="variable 'conv/kernel' already"):
            layers.Conv('conv', 3)(images)


_MIRRORED = """
import tensorflow as tf
from nets import layers, norms
v1 = tf.compat.v1
cpu = tf.config.list_physical_devices('CPU')[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
with tf.Graph().as_default():
    tf.random.set_seed(3)
    strategy = tf.distribute.MirroredStrategy(
        ['CPU:0', 'CPU:1'], cross_device_ops=tf.distribute.ReductionToOneDevice())
    def step():
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        images = tf.fill([1, 4, 4, 2], 1.0 + 2.0 * tf.cast(replica, tf.float32))
        norm = norms.BatchNorm('net/norm')
        layers.Conv('net/conv', 3)(norm(images, True))
        return tf.group(*v1.get_collection(v1.GraphKeys.UPDATE_OPS))
    with strategy.scope():
        updates = strategy.group(strategy.run(step))
        with v1.Session() as session:
            session.run(v1.global_variables_initializer())
            session.run(updates)
            moving_mean = [v for v in v1.global_variables() if 'moving_mean' in v.name][0]
            print(sorted({v.name for v in v1.global_variables()}))
            print(session.run(moving_mean).tolist())
"""


def test_under_mirrored_strategy_names_are_clean_and_statistics_are_means():
    completed = subprocess.run(
        [sys.executable, '-c', _MIRRORED], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert completed.returncode == 0, completed.stderr[-2000:]
    names, moving_mean = map(eval, completed.stdout.strip().splitlines()[-2:])
    assert names == [
        'net/conv/kernel:0',
        'net/norm/beta:0',
        'net/norm/gamma:0',
        'net/norm/moving_mean:0',
        'net/norm/moving_variance:0',
    ]
    # Pictures of ones on one replica and threes on the other.
    np.testing.assert_allclose(moving_mean, [0.2, 0.2], rtol=1e-5)


class Dropping(layers.Layer):
    def call(self, inputs):
        return self.drop(inputs, 0.25, tf.shape(inputs))


def _dropped(graph_seed, first_step, num_steps, path='drop'):
    """Return what a training that begins at a step draws in so many steps."""
    with tf.Graph().as_default(), v1.Session() as session:
        tf.random.set_seed(graph_seed)
        step = v1.train.get_or_create_global_step()
        drawn = Dropping(path)(tf.ones([1000]))
        with tf.control_dependencies([drawn]):
            advance = step.assign_add(1)
        session.run(v1.global_variables_initializer())
        session.run(step.assign(first_step))
        return [session.run([drawn, advance])[0] for _ in range(num_steps)]


def test_what_is_dropped_is_a_function_of_the_seed_the_path_and_the_step():
    whole = _dropped(5, 0, 4)
    np.testing.assert_array_equal(whole[2:], _dropped(5, 2, 2))
    others = [*whole, *_dropped(6, 0, 1), *_dropped(5, 0, 1, 'other')]
    assert len({one.tobytes() for one in others}) == 6
    for one in others:
        assert set(np.unique(one)) == {0, np.float32(4 / 3)}
        assert abs(one.mean() - 1) < 0.1
