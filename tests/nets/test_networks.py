"""Every registered backbone and head obeys its contract. Registering one enrols it here."""

from __future__ import annotations

import inspect
import os

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')

import numpy as np
import pytest
import tensorflow as tf

import nets
from config import NetworkConfig
from tests.gradients import check_gradients

v1 = tf.compat.v1
K = 5

_STEM_NORM = 2 * 64


def _hrnet_classifier(width):
    """Return parameters of timm's incre_modules, downsamp_modules, final_layer and classifier."""
    total = 1024 * 2048 + 3 * 2048 + 2048 * 1000 + 1000
    for inner, channels in ((32 << n, width << n) for n in range(4)):
        # A bottleneck to 4 * inner channels and its projection; 3x3/2 to the next one's channels.
        total += 5 * inner * channels + 13 * inner**2 + 20 * inner
        total += 9 * 4 * inner * 8 * inner + 3 * 8 * inner if inner < 256 else 0
    return total


def _lite_classifier(channels):
    """Return parameters of the last convolution with its batch norm, and of the classifier."""
    return channels * 1280 + 2 * 1280 + 1280 * 1000 + 1000


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
    # tf.fashionAI's with 4 stacks and 13 keypoints, less those stacks.
    'hourglass_stem': 12_821_748 - 12_470_580,
    # timm's, of which only the trunk is here.
    'hrnet_w18': 21_299_004 - _hrnet_classifier(18),
    'hrnet_w32': 41_232_680 - _hrnet_classifier(32),
    'hrnet_w48': 77_469_864 - _hrnet_classifier(48),
    # Those of the published files, for 0 to 2 (3 and 4: 8.2 M and 13.0 M, as published), less the
    # 1x1 convolution before the classifier as well.
    'efficientnet_lite0': 4_652_008 - _lite_classifier(320),
    'efficientnet_lite1': 5_416_680 - _lite_classifier(320),
    'efficientnet_lite2': 6_092_072 - _lite_classifier(352),
    'efficientnet_lite3': 8_197_096 - _lite_classifier(384),
    'efficientnet_lite4': 13_006_568 - _lite_classifier(448),
    # Those of Keras without top; tests/nets/test_keras_applications.py has all the others.
    'keras/EfficientNetV2B0': 5_858_704,
    'keras/MobileNetV3Small': 927_008,
    'keras/RegNetY002': 2_793_996,
}
# tf.fashionAI's resnet50_cpn has 26,958,528 and 27,085,248; nets/heads/cpn.py explains the terms.
_CPN_NORMS = 2 * 256 * (4 + 3 + 4)
_CPN = (
    26_958_528 + _STEM_NORM + _CPN_NORMS + 5 * 13,
    27_085_248 + _STEM_NORM + _CPN_NORMS + 5 * 24,
)
_RESNET50 = BACKBONE_PARAMETERS['resnet50']
_JOINED = 256 + 512 + 1024 + 2048  # channels of all its feature maps
_AIFASHION_CHANNELS = 9 * (256 * 1024 + 128 * 512 + 64 * 256 + 64 * 192)
# What one keypoint adds: three global maps, two stacks, and the three convolutions that read them.
_AIFASHION_KEYPOINT = (128 + 64 + 64 + 3) + 2 * (384 + 1) + 3 * 128
# (13 and 24 keypoints), on resnet50.
HEAD_PARAMETERS = {
    'cpn': _CPN,
    # Its RefineNet has 948,336 there instead of 1,889,024, for 13 keypoints.
    'cpn_seresnext': tuple(n - 1_889_024 + 948_336 for n in _CPN),
    # Nine deconvolutions with batch norm more.
    'cpn_deconv': tuple(n + 9 * (16 * 256**2 + 2 * 256) for n in _CPN),
    # The authors' global part with ResNet-50, and their refine part; 11 keypoints more are more
    # heat maps (3x3), more inputs of the first bottleneck, and more heat maps (1x1).
    'cpn_17th_place': (
        25_702_221 + 22_887_501,
        25_702_221 + 22_887_501 + 11 * (9 * 256 + 1 + 64 + 256 + 256 + 1),
    ),
    # 33,999,697 with COCO's 17 keypoints: the published 34.0 M.
    'dhn': (33_999_697 - 4 * 257, 33_999_697 + 7 * 257),
    # tf.fashionAI's with 4 stacks; level C2 has the channels that they read.
    'hourglass': (_RESNET50 + 12_470_580, _RESNET50 + 12_490_336),
    # Published with 24 keypoints; on resnet50 the levels that are joined have more channels.
    'aifashion': (
        _RESNET50 + 4_500_280 + _AIFASHION_CHANNELS - 11 * _AIFASHION_KEYPOINT,
        _RESNET50 + 4_500_280 + _AIFASHION_CHANNELS,
    ),
    'hrnet': tuple(_RESNET50 + 257 * num_keypoints for num_keypoints in (13, 24)),
    'hrnetv2': tuple(
        _RESNET50 + _JOINED**2 + 2 * _JOINED + (_JOINED + 1) * num_keypoints
        for num_keypoints in (13, 24)
    ),
    # From 2 x 2 cells to 16 columns and 16 rows.
    'simcc': tuple(
        _RESNET50 + 2049 * num_keypoints + 2 * (2 * 2 + 1) * 16 for num_keypoints in (13, 24)
    ),
}
STRIDES = {'C2': 4, 'C3': 8, 'C4': 16, 'C5': 32}
HELD_STRIDES = {'C2': 4, 'C3': 8, 'C4': 16, 'C5': 16, 'C6': 16}  # DetNet

WIDTHS = {'senet154': 32}  # the least that makes 64 groups
NEEDED_LEVELS = {'hrnet': (2,), 'hourglass': (2,)}  # of heads that leave others without a gradient
BACKBONES = [
    name
    for name in nets.BACKBONES.names()
    if not name.startswith('keras/') or name in BACKBONE_PARAMETERS
]
HEADS = nets.HEADS.names()
# 'dhn' needs the coarsest level only, and not all that an HRNet computes is on the way to it.
PARTNERS = {name: 'hrnetv2' if name.startswith('hrnet') else 'dhn' for name in BACKBONES}
for name in ('hrnet_w32', 'hrnet_w48'):  # hrnet_w18 but for the width, which is 16 here
    del PARTNERS[name]
PAIRS = [*PARTNERS.items(), *(('resnet18', head) for head in HEADS)]
PAIRS = sorted(set(PAIRS))


def _thin(factory, **sizes):
    """Return those of these options that the factory has."""
    return {name: n for name, n in sizes.items() if name in inspect.signature(factory).parameters}


def _config(backbone='resnet18', head='dhn', **fields):
    options = _thin(nets.BACKBONES.get(backbone), width=WIDTHS.get(backbone, 16))
    if head in NEEDED_LEVELS:
        options['levels'] = NEEDED_LEVELS[head]
    values = {
        'image_size': (64, 64),
        'heatmap_size': (16, 16),
        'backbone_options': options,
        'head_options': _thin(nets.HEADS.get(head), channels=16, stacks=2, depth=2),
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


@pytest.fixture(scope='module', params=PAIRS, ids='-'.join)
def built(request):
    """A network that tests may read; those that change its variables use `changed`. Building one
    takes longer than all that the tests do with it. Its variables were made in bfloat16.
    """
    backbone, head = request.param
    network = _built('bfloat16', backbone=backbone, head=head)
    network.dtype = tf.float32
    return network


@pytest.fixture
def changed(built):
    """The same, with its variables put back afterwards."""
    before = [variable.numpy() for variable in built.variables]
    yield built
    for variable, value in zip(built.variables, before):
        variable.assign(value)


def _session():
    """Return a session that runs a graph as it is: optimizing it takes most of the time."""
    options = v1.ConfigProto()
    options.graph_options.rewrite_options.disable_meta_optimizer = True
    return v1.Session(config=options)


def _strides(backbone):
    if backbone == 'hourglass_stem':
        return {'C2': 4}
    return HELD_STRIDES if backbone.startswith('det') else STRIDES


@pytest.mark.parametrize('name', BACKBONES)
def test_backbone_has_the_published_parameters_and_strides(name):
    with tf.Graph().as_default():
        backbone = nets.BACKBONES.get(name)()
        features = backbone(tf.zeros([1, 128, 64, 3]), False)
        assert nets.num_parameters(backbone) == BACKBONE_PARAMETERS[name]
    assert {key: (128 // f.shape[1], 64 // f.shape[2]) for key, f in features.items()} == {
        key: (stride, stride) for key, stride in _strides(name).items()
    }
    assert list(features) == sorted(features)


@pytest.fixture(scope='module')
def resnet50_shapes():
    """Level -> shape of what the backbone gives, which the test above counts the parameters of."""
    with tf.Graph().as_default():
        features = nets.BACKBONES.get('resnet50')()(tf.zeros([1, 64, 64, 3]), False)
    return {level: feature.shape for level, feature in features.items()}


@pytest.mark.parametrize('name', HEADS)
@pytest.mark.parametrize('which', [0, 1])
def test_head_on_resnet50_has_its_exact_parameters(resnet50_shapes, name, which):
    with tf.Graph().as_default():
        head = nets.HEADS.get(name)((13, 24)[which], (16, 16))
        head({level: tf.zeros(shape) for level, shape in resnet50_shapes.items()}, False)
        assert nets.num_parameters(head) == HEAD_PARAMETERS[name][which] - _RESNET50


@pytest.mark.parametrize('head', HEADS)
def test_heat_maps_have_the_size_asked_for_also_when_not_square(head):
    config = _config(head=head, image_size=(64, 96), heatmap_size=(16, 24))
    with tf.Graph().as_default():
        outputs = nets.build_network(config, K)(tf.zeros([2, 64, 96, 3]), False)
    assert {output.shape for output in outputs} == {tf.TensorShape([2, 16, 24, K])}
    assert {output.dtype for output in outputs} == {tf.float32}


def test_names_are_unique_and_below_backbone_or_head(built):
    network = built
    names = [variable.name for variable in network.variables]
    assert len(set(names)) == len(names)
    assert all(v.name.startswith('backbone/') for v in network.backbone.variables)
    assert all(v.name.startswith('head/') for v in network.head.variables)
    assert len(names) == len(network.backbone.variables) + len(network.head.variables)
    with_k_channels = [v.name for v in network.trainable_variables if v.shape[-1] == K]
    assert with_k_channels
    assert all(name.startswith('head/heatmaps') for name in with_k_channels)


@pytest.mark.parametrize('head', HEADS)
def test_layers_that_depend_on_the_keypoints_and_no_others_are_named_heatmaps(head):
    shapes = []
    for num_keypoints in (K, K + 1):
        with tf.Graph().as_default():
            network = nets.build_network(_config(head=head), num_keypoints)
            network(tf.zeros([1, 64, 64, 3]), False)
            shapes.append({v.name: v.shape for v in network.variables})
    assert shapes[0].keys() == shapes[1].keys()
    layers = {name: '/'.join(name.split('/')[:2]) for name in shapes[0]}
    dependent = {layers[name] for name in layers if shapes[0][name] != shapes[1][name]}
    assert dependent == {layer for layer in layers.values() if layer.startswith('head/heatmaps')}


def test_every_trainable_variable_has_a_gradient(changed):
    for variable in changed.trainable_variables:
        # A scale of zero holds back the gradient of all that is before it.
        if not np.any(variable.numpy()) and variable.name.endswith('gamma:0'):
            variable.assign(tf.ones_like(variable))
    check_gradients(changed, lambda: changed(_images(), True))


def test_bfloat16_is_near_float32_and_makes_float32_variables(built, monkeypatch):
    # Faint pictures: without statistics of its own an untrained network normalizes nothing,
    # features grow from block to block, and gates of squeeze-and-excitation would jump between 0
    # and 1.
    mean = np.float32(built.config.mean)
    faint = mean + (_images() - mean) / np.float32(1e3)
    exact = built(faint, False)
    monkeypatch.setattr(built, 'dtype', tf.bfloat16)
    assert {variable.dtype for variable in built.variables} == {tf.float32}
    for expected, output in zip(exact, built(faint, False)):
        assert output.dtype == tf.float32
        assert 0 < np.abs(output - expected).max() < 0.1 * np.abs(expected).max()


def test_graph_equals_eager_in_weights_and_heat_maps(built):
    with tf.Graph().as_default(), _session() as session:
        tf.random.set_seed(1)
        network = nets.build_network(_config(built.config.backbone, built.config.head), K)
        outputs = network(v1.placeholder_with_default(_images(), [None, 64, 64, 3]), False)
        session.run(v1.global_variables_initializer())
        weights, outputs = session.run(({v.name: v for v in network.variables}, outputs))
    assert weights.keys() == {v.name for v in built.variables}
    for variable in built.variables:
        np.testing.assert_array_equal(weights[variable.name], variable, variable.name)
    for output, expected in zip(outputs, built(_images(), False)):
        np.testing.assert_allclose(output, expected, atol=1e-5 * np.abs(expected).max())


def test_another_seed_gives_other_weights():
    first, second = _built(), _built(seed=2)
    kernels = [(a, b) for a, b in zip(first.variables, second.variables) if 'kernel' in a.name]
    assert all(a.name == b.name and np.all(a.numpy() != b.numpy()) for a, b in kernels)


def _statistics(network):
    return {v.name: v.numpy() for v in network.variables if '/moving_' in v.name}


def test_training_starts_near_zero_and_moves_all_statistics_in_eager_mode(changed):
    before = _statistics(changed)
    changed(_images(), False)
    assert all(np.array_equal(before[n], v) for n, v in _statistics(changed).items())
    for output in changed(_images(), True):
        assert 0 < np.abs(output).max() < 0.1  # heat maps start near zero
    after = _statistics(changed)
    assert before
    assert all(np.any(before[name] != after[name]) for name in before)


@pytest.mark.parametrize('head', HEADS)
def test_update_ops_of_a_graph_move_all_statistics(head):
    eager = _built(head=head)
    eager(_images(), True)
    with tf.Graph().as_default(), _session() as session:
        tf.random.set_seed(1)
        network = nets.build_network(_config(head=head), K)
        network(tf.constant(_images()), True)
        session.run(v1.global_variables_initializer())
        session.run(v1.get_collection(v1.GraphKeys.UPDATE_OPS))
        moved = session.run({v.name: v for v in network.variables if '/moving_' in v.name})
    for name, value in _statistics(eager).items():
        np.testing.assert_allclose(moved[name], value, rtol=1e-3, atol=1e-4, err_msg=name)


def test_training_normalizes_by_the_batch_and_otherwise_not():
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
        ({'backbone_options': {'width': '8'}}, "width='8': must be of type int"),
        ({'backbone_options': {'width': True}}, 'width=True: must be of type int'),
        ({'backbone_options': {'width': 0}}, 'width=0: must be positive'),
        ({'backbone_options': {'output_stride': 6}}, 'stride=6: must be one of 4, 8, 16, 32'),
        ({'backbone_options': {'levels': []}}, r'levels=\[\]: must be some of \[1, 2, 3, 4, 5\]'),
        ({'backbone_options': {'levels': [[2]]}}, r'levels=\[\[2\]\]: must be some of'),
        ({'backbone_options': {'levels': [3, 2]}}, r'levels=\[3, 2\]: .* in increasing order'),
        ({'backbone_options': {'levels': [2, 2]}}, r'levels=\[2, 2\]: must be some of'),
        ({'backbone_options': {'levels': [True]}}, r'levels=\[True\]: must be some of'),
        ({'backbone_options': {'levels': [2.0]}}, r'levels=\[2.0\]: must be some of'),
        ({'head': 'cpn', 'head_options': {'channels': 15}}, 'channels=15: must be a positive'),
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
        nets.build_network(_config(), K)(_images(size=(96, 64)), False)
    with pytest.raises(ValueError, match="dtype='float64': must be one of float32, bfloat16"):
        nets.build_network(_config(), K, 'float64')
    with pytest.raises(ValueError, match='no variables before its first call'):
        nets.num_parameters(nets.build_network(_config(), K))


@pytest.mark.parametrize('is_zero, scale', [(True, 0.0), (False, 1.0)])
def test_how_older_experiments_name_the_first_scale_of_residual_branches(is_zero, scale):
    options = {'zero_init_residual': is_zero, 'width': 2}
    network = nets.build_network(_config(backbone='resnet18', backbone_options=options), K)
    network(tf.zeros([1, 64, 64, 3]), False)
    gammas = {variable.name: variable.numpy() for variable in network.variables}
    np.testing.assert_array_equal(gammas['backbone/stage1/block1/conv2/norm/gamma:0'], scale)
