"""Every registered backbone and head obeys its contract. Registering one enrols it here."""

from __future__ import annotations

import functools
import inspect
import os

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')

import numpy as np
import pytest
import tensorflow as tf

import nets
from config import NetworkConfig

v1 = tf.compat.v1
K = 5

_STEM_NORM = 2 * 64
# Trainable parameters as published, less the classifier of 1000 classes where there is one.
BACKBONE_PARAMETERS = {
    'resnet18': 11_689_512 - (512 * 1000 + 1000),
    'resnet34': 21_797_672 - (512 * 1000 + 1000),
    'resnet50': 25_557_032 - (2048 * 1000 + 1000),
    'resnet101': 44_549_160 - (2048 * 1000 + 1000),
    'resnet152': 60_192_808 - (2048 * 1000 + 1000),
    # timm's legacy_seresnet50, seresnext50_32x4d (the legacy one too), legacy_senet154, ...
    'seresnet50': 28_088_024 - (2048 * 1000 + 1000),
    'seresnet101': 49_326_872 - (2048 * 1000 + 1000),
    'seresnext50_32x4d': 27_559_896 - (2048 * 1000 + 1000),
    'seresnext101_32x4d': 48_955_416 - (2048 * 1000 + 1000),
    'senet154': 115_088_984 - (2048 * 1000 + 1000),
    # tf.fashionAI's backbone and additional layers; its DetNet lacks the batch norm of the stem.
    'detnet50': 8_543_168 + 8_804_352 + _STEM_NORM,
    'detnet59': 8_543_168 + 8_804_352 + _STEM_NORM,
    'detnext50': 9_386_608 + 9_652_608,
    'detnext101': 30_782_128 + 9_652_608,
}
# tf.fashionAI's resnet50_cpn has 26,958,528 and 27,085,248; nets/heads/cpn.py explains the terms.
_CPN_NORMS = 2 * 256 * (4 + 3 + 4)
# (13 and 24 keypoints), on resnet50.
HEAD_PARAMETERS = {
    'cpn': (
        26_958_528 + _STEM_NORM + _CPN_NORMS + 5 * 13,
        27_085_248 + _STEM_NORM + _CPN_NORMS + 5 * 24,
    ),
    # 33,999,697 with COCO's 17 keypoints: the published 34.0 M.
    'dhn': (33_999_697 - 4 * 257, 33_999_697 + 7 * 257),
}
STRIDES = {'C2': 4, 'C3': 8, 'C4': 16, 'C5': 32}
HELD_STRIDES = {'C2': 4, 'C3': 8, 'C4': 16, 'C5': 16, 'C6': 16}  # DetNet

WIDTHS = {'senet154': 32}  # the least that makes 64 groups
BACKBONES = nets.BACKBONES.names()
HEADS = nets.HEADS.names()
PAIRS = [(backbone, 'dhn') for backbone in BACKBONES] + [('resnet18', head) for head in HEADS]
PAIRS = sorted(set(PAIRS))


def _thin(factory, **sizes):
    """Of these options, those that the factory has."""
    return {name: n for name, n in sizes.items() if name in inspect.signature(factory).parameters}


def _config(backbone='resnet18', head='dhn', **fields):
    values = {
        'image_size': (64, 64),
        'heatmap_size': (16, 16),
        'backbone_options': _thin(nets.BACKBONES.get(backbone), width=WIDTHS.get(backbone, 16)),
        'head_options': _thin(nets.HEADS.get(head), channels=16),
    }
    return NetworkConfig(backbone=backbone, head=head, **{**values, **fields})


def _images(batch=2, size=(64, 64), seed=0):
    shape = (batch, *size, 3)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def _built(dtype='float32', seed=1, **config):
    tf.random.set_seed(seed)
    network = nets.build_network(_config(**config), K, dtype)
    network(_images(), False)
    return network


@functools.cache
def _shared(backbone, head):
    """A network that tests may read but not change."""
    return _built(backbone=backbone, head=head)


@pytest.mark.parametrize('name', BACKBONES)
def test_backbone_has_the_published_parameters_and_strides(name):
    with tf.Graph().as_default():
        backbone = nets.BACKBONES.get(name)()
        features = backbone(tf.zeros([1, 128, 64, 3]), False)
        assert nets.num_parameters(backbone) == BACKBONE_PARAMETERS[name]
    assert {key: (128 // f.shape[1], 64 // f.shape[2]) for key, f in features.items()} == {
        key: (stride, stride)
        for key, stride in (HELD_STRIDES if name.startswith('det') else STRIDES).items()
    }
    assert list(features) == sorted(features)


@pytest.mark.parametrize('name', HEADS)
@pytest.mark.parametrize('which', [0, 1])
def test_head_on_resnet50_has_its_exact_parameters(name, which):
    with tf.Graph().as_default():
        config = NetworkConfig(head=name, image_size=(64, 64), heatmap_size=(16, 16))
        network = nets.build_network(config, (13, 24)[which])
        network(tf.zeros([1, 64, 64, 3]), False)
        assert nets.num_parameters(network) == HEAD_PARAMETERS[name][which]


@pytest.mark.parametrize('head', HEADS)
def test_heat_maps_have_the_size_asked_for_also_when_not_square(head):
    network = nets.build_network(_config(head=head, image_size=(64, 96), heatmap_size=(16, 24)), K)
    outputs = network(_images(size=(64, 96)), False)
    assert {output.shape for output in outputs} == {tf.TensorShape([2, 16, 24, K])}
    assert {output.dtype for output in outputs} == {tf.float32}


def _features(*sizes):
    generator = np.random.default_rng(0)
    return {
        f'C{n}': tf.constant(generator.random((1, size, size, 8)), tf.float32)
        for n, size in enumerate(sizes, start=2)
    }


def test_cpn_goes_from_coarse_to_fine_and_then_refines():
    head, features = nets.HEADS.get('cpn')(K, (16, 16), channels=16), _features(16, 8, 4, 2)
    outputs = head(features, False)
    assert len(outputs) == 5
    for level, key in enumerate(['C5', 'C4', 'C3', 'C2']):
        others = head({**features, key: 1.0 - features[key]}, False)
        changed = [np.any(a != b) for a, b in zip(outputs, others)]
        # A level reaches its own map, the finer ones and the refined one, and no coarser one.
        assert changed == [n >= level for n in range(5)], key


def test_cpn_adds_levels_of_equal_size_without_a_convolution():
    head = nets.HEADS.get('cpn')(K, (16, 16), channels=16)
    head(_features(8, 4, 4, 4), False)
    merged = {v.name.split('/')[2] for v in head.variables if '/merge/' in v.name}
    assert merged == {'C2'}


@pytest.mark.parametrize(('backbone', 'head'), PAIRS)
def test_names_are_unique_and_below_backbone_or_head(backbone, head):
    network = _shared(backbone, head)
    names = [variable.name for variable in network.variables]
    assert len(set(names)) == len(names)
    assert all(v.name.startswith('backbone/') for v in network.backbone.variables)
    assert all(v.name.startswith('head/') for v in network.head.variables)
    assert len(names) == len(network.backbone.variables) + len(network.head.variables)
    with_k_channels = [v.name for v in network.trainable_variables if v.shape[-1] == K]
    assert with_k_channels
    assert all(name.startswith('head/heatmaps') for name in with_k_channels)


@pytest.mark.parametrize(('backbone', 'head'), PAIRS)
def test_every_trainable_variable_has_a_gradient(backbone, head):
    network = _built(backbone=backbone, head=head)
    for variable in network.trainable_variables:
        # A scale of zero holds back the gradient of all that is before it.
        if not np.any(variable.numpy()) and variable.name.endswith('gamma:0'):
            variable.assign(tf.ones_like(variable))
    targets = np.random.default_rng(1).standard_normal((2, 16, 16, K)).astype(np.float32)
    with tf.GradientTape() as tape:
        loss = tf.add_n([tf.reduce_sum(o * targets) for o in network(_images(), True)])
    variables = network.trainable_variables
    for variable, gradient in zip(variables, tape.gradient(loss, variables)):
        assert gradient is not None, variable.name
        assert np.any(gradient.numpy()), variable.name


@pytest.mark.parametrize(('backbone', 'head'), PAIRS)
def test_bfloat16_is_near_float32_and_has_the_same_float32_variables(backbone, head):
    exact, rough = _shared(backbone, head), _built('bfloat16', backbone=backbone, head=head)
    assert {variable.dtype for variable in rough.variables} == {tf.float32}
    for one, other in zip(exact(_images(), False), rough(_images(), False)):
        assert other.dtype == tf.float32
        assert 0 < np.abs(one - other).max() < 0.1 * np.abs(one).max()


@pytest.mark.parametrize(('backbone', 'head'), PAIRS)
def test_graph_equals_eager_in_weights_and_heat_maps(backbone, head):
    eager = _shared(backbone, head)
    options = v1.ConfigProto()
    options.graph_options.rewrite_options.disable_meta_optimizer = True  # takes most of the time
    with tf.Graph().as_default(), v1.Session(config=options) as session:
        tf.random.set_seed(1)
        network = nets.build_network(_config(backbone, head), K)
        outputs = network(v1.placeholder_with_default(_images(), [None, 64, 64, 3]), False)
        session.run(v1.global_variables_initializer())
        weights, outputs = session.run(({v.name: v for v in network.variables}, outputs))
    assert weights.keys() == {v.name for v in eager.variables}
    for variable in eager.variables:
        np.testing.assert_array_equal(weights[variable.name], variable, variable.name)
    for one, other in zip(outputs, eager(_images(), False)):
        np.testing.assert_allclose(one, other, atol=1e-5 * np.abs(other).max())


def test_another_seed_gives_other_weights():
    one, other = _shared('resnet18', 'dhn'), _built(seed=2)
    kernels = [(a, b) for a, b in zip(one.variables, other.variables) if 'kernel' in a.name]
    assert all(a.name == b.name and np.all(a.numpy() != b.numpy()) for a, b in kernels)


def _statistics(network):
    return {v.name: v.numpy() for v in network.variables if '/moving_' in v.name}


@pytest.mark.parametrize(('backbone', 'head'), PAIRS)
def test_training_moves_all_statistics_in_eager_mode(backbone, head):
    network = _built(backbone=backbone, head=head)
    before = _statistics(network)
    network(_images(), False)
    assert all(np.array_equal(before[n], v) for n, v in _statistics(network).items())
    network(_images(), True)
    after = _statistics(network)
    assert before
    assert all(np.any(before[name] != after[name]) for name in before)


@pytest.mark.parametrize('head', HEADS)
def test_update_ops_of_a_graph_move_all_statistics(head):
    eager = _built(head=head)
    eager(_images(), True)
    with tf.Graph().as_default(), v1.Session() as session:
        tf.random.set_seed(1)
        network = nets.build_network(_config(head=head), K)
        network(tf.constant(_images()), True)
        session.run(v1.global_variables_initializer())
        session.run(v1.get_collection(v1.GraphKeys.UPDATE_OPS))
        moved = session.run({v.name: v for v in network.variables if '/moving_' in v.name})
    for name, value in _statistics(eager).items():
        np.testing.assert_allclose(moved[name], value, rtol=1e-3, atol=1e-4, err_msg=name)


def test_training_normalises_by_the_batch_and_otherwise_not():
    network = _built()
    two, one = _images(2), _images(2)[:1]
    alone, together = network(one, False)[-1], network(two, False)[-1][:1]
    np.testing.assert_allclose(alone, together, atol=1e-6)
    difference = np.abs(network(one, True)[-1] - network(two, True)[-1][:1]).max()
    assert difference > 100 * np.abs(alone - together).max()


def test_standardisation_belongs_to_the_network():
    plain = _built(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    scaled = _built(mean=(10.0, 20.0, 30.0), std=(2.0, 3.0, 4.0))
    images = _images().astype(np.float32)
    np.testing.assert_allclose(
        plain((images - [10, 20, 30]) / np.float32([2, 3, 4]), False)[-1],
        scaled(images.astype(np.uint8), False)[-1],
        atol=1e-5,
    )


@pytest.mark.parametrize('head', HEADS)
def test_heat_maps_start_near_zero(head):
    for output in _built(head=head)(_images(), True):
        assert 0 < np.abs(output).max() < 0.1


@pytest.mark.parametrize(
    ('fields', 'message'),
    [
        ({'image_size': (100, 64)}, r'image_size=\(100, 64\).*of 32; .*\(96, 64\) or \(128, 64\)'),
        ({'image_size': (65, 200)}, r'of 32; nearest: \(64, 192\) or \(96, 224\)'),
        ({'heatmap_size': (12, 16)}, r'heatmap_size=\(12, 16\): .*\(8, 8\), \(16, 16\)'),
        ({'head': 'cpn', 'heatmap_size': (8, 8)}, r'heatmap_size=\(8, 8\): .*\(16, 16\), \(32,'),
        ({'backbone': 'resnet19'}, "unknown backbone 'resnet19'.*resnet18"),
        ({'head': 'cpm'}, "unknown head 'cpm'.*'cpn'"),
        ({'backbone_options': {'wdth': 8}}, "backbone 'resnet18' has no option 'wdth'; .*width"),
        ({'head_options': {'channel': 8}}, "head 'dhn' has no option 'channel'; .*channels"),
        ({'head_options': {'num_keypoints': 8}}, "no option 'num_keypoints'"),
        ({'backbone_options': {'width': '8'}}, "width='8' must be of type int"),
        ({'backbone_options': {'width': True}}, 'width=True must be of type int'),
        ({'backbone_options': {'width': 0}}, 'width=0: must be positive'),
        ({'head': 'cpn', 'head_options': {'channels': 15}}, 'channels=15: must be even'),
        ({'head_options': {'channels': 0}}, 'channels=0: must be positive'),
    ],
)
def test_bad_settings_are_refused(fields, message):
    base = {'backbone_options': {'width': 8}, 'head_options': {'channels': 8}}
    base.update(image_size=(64, 64), heatmap_size=(16, 16), head='dhn', backbone='resnet18')
    config = NetworkConfig(**{**base, **fields})
    with tf.Graph().as_default(), pytest.raises(ValueError, match=message):
        nets.build_network(config, K)(tf.zeros([1, *config.image_size, 3]), False)


def test_pictures_of_another_size_and_unknown_dtypes_are_refused():
    with pytest.raises(ValueError, match=r'image_size=\(64, 64\)'):
        _shared('resnet18', 'dhn')(_images(size=(96, 64)), False)
    with pytest.raises(ValueError, match="dtype='float16': must be one of float32, bfloat16"):
        nets.build_network(_config(), K, 'float16')
    with pytest.raises(ValueError, match='no variables before its first call'):
        nets.num_parameters(nets.build_network(_config(), K))
