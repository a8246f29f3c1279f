"""Frozen batch norm and group norm, in all backbones and heads; whose weights they may take."""

from __future__ import annotations

import inspect
import pathlib
import re

import numpy as np
import pytest
import tensorflow as tf

import config
import nets
from config import Experiment, NetworkConfig
from nets import norms
from nets.norms import Mode, Normalization
from utility.checkpoints.variables import Weights
from utility.pretrained import warm_start

v1 = tf.compat.v1
K = 5
KERAS = 'keras/EfficientNetV2B0'
# Of each kind of block one that is soon built.
FAMILIES = (
    'resnet18', 'seresnext50_32x4d', 'detnet50', 'efficientnet_lite0', 'keras/MobileNetV3Small'
)  # fmt: skip


def _random(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def test_the_settings_know_every_norm():
    assert set(config.NORMS) == set(norms.NORMS)


@pytest.mark.parametrize(('channels', 'groups'), [(64, 32), (48, 16), (6, 2), (5, 1)])
def test_group_norm_equals_numpy(channels, groups):
    images = 3 + 2 * _random(2, 4, 6, channels)
    norm = norms.GroupNorm('norm')
    norm(images, True)
    norm.gamma.assign(1 + _random(channels, seed=1))
    norm.beta.assign(_random(channels, seed=2))
    parts = images.reshape(2, 4, 6, groups, -1)
    mean, variance = (f(axis=(1, 2, 4), keepdims=True) for f in (parts.mean, parts.var))
    standard = ((parts - mean) / np.sqrt(variance + 1e-5)).reshape(images.shape)
    expected = standard * norm.gamma.numpy() + norm.beta.numpy()
    np.testing.assert_allclose(norm(images, True), expected, atol=1e-4)
    # The same outside of training, and of a picture alone.
    np.testing.assert_allclose(norm(images[:1], False), expected[:1], atol=1e-4)


def test_group_norm_keeps_its_precision_in_bfloat16():
    images = 100 + _random(1, 32, 32, 32)
    outputs = norms.GroupNorm('norm')(tf.cast(images, tf.bfloat16), True)
    exact = norms.GroupNorm('norm')(tf.cast(tf.cast(images, tf.bfloat16), tf.float32), True)
    assert outputs.dtype == tf.bfloat16
    np.testing.assert_allclose(tf.cast(outputs, tf.float32), exact, rtol=0.01, atol=1e-3)


@pytest.mark.parametrize('remembers', [True, False])
def test_statistics_of_batch_norm_move_to_those_of_a_batch_or_are_them(remembers):
    images = 3 + 2 * _random(4, 5, 5, 6)
    mean, variance = images.mean((0, 1, 2)), images.var((0, 1, 2), ddof=1)
    share = 0.1 if remembers else 1.0
    wanted = share * mean, 1 - share + share * variance
    eager = norms.BatchNorm('norm')
    eager(tf.constant(images), Mode(True, remembers=remembers))
    with tf.Graph().as_default(), v1.Session() as session:
        norm = norms.BatchNorm('norm')
        norm(tf.constant(images), Mode(True, remembers=remembers))
        session.run(v1.global_variables_initializer())
        session.run(v1.get_collection(v1.GraphKeys.UPDATE_OPS))
        moved = session.run([norm.moving_mean, norm.moving_variance])
    for value, layer_value, expected in zip(
        moved, (eager.moving_mean, eager.moving_variance), wanted
    ):
        np.testing.assert_allclose(value, expected, rtol=1e-5)
        np.testing.assert_allclose(layer_value, expected, rtol=1e-5)


def test_frozen_batch_norm_keeps_its_statistics_and_learns_scale_and_shift():
    images = 3 + 2 * _random(4, 5, 5, 6)
    with tf.Graph().as_default(), v1.Session() as session:
        norm = norms.FrozenBatchNorm('norm')
        loss = tf.reduce_sum(norm(tf.constant(images), True) * _random(4, 5, 5, 6, seed=1))
        assert not v1.get_collection(v1.GraphKeys.UPDATE_OPS)
        assert [v.name for v in norm.trainable_variables] == ['norm/beta:0', 'norm/gamma:0']
        step = v1.train.GradientDescentOptimizer(0.1).minimize(loss)
        session.run(v1.global_variables_initializer())
        session.run([norm.moving_mean.assign(np.arange(6)), norm.moving_variance.assign([4.0] * 6)])
        outputs = session.run(norm(tf.constant(images), True))
        np.testing.assert_allclose(outputs, (images - np.arange(6)) / np.sqrt(4 + 1e-5), atol=1e-5)
        session.run(step)
        values = session.run({v.name: v for v in norm.variables})
    np.testing.assert_array_equal(values['norm/moving_mean:0'], np.arange(6))
    np.testing.assert_array_equal(values['norm/moving_variance:0'], [4.0] * 6)
    assert np.all(values['norm/gamma:0'] != 1) and np.all(values['norm/beta:0'] != 0)


def test_frozen_statistics_stay_in_eager_mode_too():
    norm = norms.FrozenBatchNorm('norm')
    norm(_random(2, 3, 3, 4), True)
    np.testing.assert_array_equal(norm.moving_mean, np.zeros(4))


@pytest.mark.parametrize('training', [False, True])
def test_the_mode_of_the_first_call_says_what_normalizes(training):
    images = _random(2, 3, 3, 8)
    grouped = norms.Norm('b', first_gamma=0.5, has_gamma=False)
    grouped(images, Mode(training, Normalization('group', 4)))
    inner = grouped.layer
    assert type(inner) is norms.GroupNorm
    assert (inner.groups, inner.first_gamma, inner.has_gamma) == (4, 0.5, False)
    kinds = {'a': Mode(training, Normalization('frozen')), 'c': Mode(training), 'd': training}
    made = {path: norms.Norm(path) for path in kinds}
    for path, mode in kinds.items():
        made[path](images, mode)
    types = [norms.FrozenBatchNorm, norms.BatchNorm, norms.BatchNorm]
    assert [type(norm.layer) for norm in made.values()] == types
    assert bool(kinds['a']) == training


def test_batch_norm_that_does_not_remember_has_the_statistics_of_its_last_batch():
    images, norm = _random(4, 5, 5, 6), norms.Norm('norm')
    norm(100 * images, True)
    norm(images, Mode(True, remembers=False))
    np.testing.assert_allclose(norm.layer.moving_mean, images.mean((0, 1, 2)), atol=1e-6)


def _thin(factory, **sizes):
    return {n: v for n, v in sizes.items() if n in inspect.signature(factory).parameters}


def _variables(backbone='resnet18', head='dhn', **norm):
    """Return name -> shape of a thin network's variables, the update operations, and
    the variables.
    """
    options = _thin(nets.BACKBONES.get(backbone), width=64)
    thin = _thin(nets.HEADS.get(head), channels=16, stacks=2, depth=2)
    config = NetworkConfig(backbone, head, (64, 64), (16, 16), options, thin, **norm)
    with tf.Graph().as_default() as graph:
        network = nets.build_network(config, K)
        network(tf.zeros([2, 64, 64, 3]), True)
        updates = graph.get_collection(v1.GraphKeys.UPDATE_OPS)
        return {v.name: tuple(v.shape) for v in network.variables}, updates, network.variables


PAIRS = [
    *((backbone, 'dhn') for backbone in FAMILIES),
    *(('resnet18', h) for h in nets.HEADS.names()),
]


@pytest.mark.parametrize(('backbone', 'head'), sorted(set(PAIRS)))
def test_every_network_goes_through_the_one_norm(backbone, head):
    names, updates, _ = _variables(backbone, head, norm='group')
    assert sum(name.endswith('/beta:0') for name in names) > 4
    assert not updates
    assert not [name for name in names if '/moving_' in name]


@pytest.mark.parametrize('file', sorted(pathlib.Path(nets.__file__).parent.glob('**/*.py')))
def test_no_network_has_a_batch_norm_of_its_own(file):
    called = set(re.findall(r'\w*(?:batch_norm|BatchNorm)\w*(?=\()|Fused\w*', file.read_text()))
    allowed = {
        'norms.py': {'BatchNorm', 'FrozenBatchNorm', 'FusedBatchNormV3'},
        'keras_layers.py': {'batch_norm', 'batch_normalization'},  # of layer norm
    }
    assert called <= allowed.get(file.name, set())


def test_frozen_batch_norm_has_the_variables_of_batch_norm():
    batch, updates, _ = _variables()
    assert len(updates) == sum('/moving_' in name for name in batch) > 0
    frozen, updates, _ = _variables(norm='frozen')
    assert frozen == batch
    assert not updates


def test_the_head_may_have_another_norm():
    names, updates, _ = _variables(norm='frozen', head_norm='batch')
    assert len(updates) == sum(n.startswith('head/') for n in names if '/moving_' in n) > 0
    names, _, _ = _variables(head_norm='group')
    parts = {name.split('/')[0] for name in names if '/moving_' in name}
    assert parts == {'backbone'}


@pytest.mark.parametrize('field', ['norm', 'head_norm'])
@pytest.mark.parametrize('value', ['sync', 'synchronized_batch'])
def test_synchronised_batch_norm_is_refused_with_the_reason_and_the_alternative(field, value):
    with pytest.raises(ValueError, match="all_reduce fails.*'group' norm.*'frozen'"):
        Experiment().override(f'network.{field}={value}')


@pytest.mark.parametrize(
    ('assignment', 'message'),
    [
        ('norm=layer', "network.norm='layer': must be one of batch, frozen, group"),
        ('head_norm=bn', "network.head_norm='bn': must be one of , batch"),
        ('norm_groups=0', 'network.norm_groups=0: must be from 1 to'),
    ],
)
def test_other_norms_are_refused(assignment, message):
    with pytest.raises(ValueError, match=message):
        Experiment().override(f'network.{assignment}')


def _weights(shapes, part='backbone/'):
    shapes = {n.split(':')[0]: shape for n, shape in shapes.items() if n.startswith(part)}
    return Weights('w.ckpt', 'somebody', shapes)


def test_weights_of_batch_norm_are_refused_by_group_norm_and_told_when_allowed(caplog):
    batch, _, _ = _variables()
    _, _, grouped = _variables(norm='group')
    with pytest.raises(ValueError, match="with batch norm, whose scales .* 'frozen'.*--allow_part"):
        warm_start.plan(_weights(batch), grouped)
    report = warm_start.plan(_weights(batch), grouped, allow_partial=True)
    with caplog.at_level('WARNING'):
        warm_start.log_start(report, 'dhn')
    assert 'a part of the backbone only: no place for: backbone/conv1/norm/moving_mean' in (
        caplog.text
    )


def test_weights_of_group_norm_are_refused_by_batch_norm():
    grouped, _, _ = _variables(norm='group')
    for kind in ('batch', 'frozen'):
        with pytest.raises(ValueError, match="with group norm: set network.norm='group'"):
            warm_start.plan(_weights(grouped), _variables(norm=kind)[2])


def test_frozen_statistics_must_come_from_weights():
    config = NetworkConfig(norm='frozen')
    shapes, _, variables = _variables(norm='frozen')
    report = warm_start.plan(_weights(shapes), variables)
    with pytest.raises(ValueError, match='start afresh: backbone/.*--init_checkpoint'):
        warm_start.check_frozen(config, variables, ())
    with pytest.raises(ValueError, match='start afresh: head/.*network.head_norm'):
        warm_start.check_frozen(config, variables, report.restored)
    warm_start.check_frozen(
        NetworkConfig(norm='frozen', head_norm='batch'), variables, report.restored
    )
    whole = warm_start.plan(_weights(shapes, ''), variables)
    warm_start.check_frozen(config, variables, whole.restored)
    warm_start.check_frozen(NetworkConfig(), variables, ())
