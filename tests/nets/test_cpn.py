"""The pyramid heads and the deconvolution head: exact parameters, what depends on what, and
equality with the plain way to compute it.
"""

from __future__ import annotations

import functools
import os

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')

import numpy as np
import pytest
import tensorflow as tf

import nets
from nets import layers
from nets.heads import cpn
from nets.heads.cpn_17th_place import ChannelDropout

v1 = tf.compat.v1
K = 5
SIZE = 64  # px

# Of tf.fashionAI, for 13 and 24 keypoints: (backbone, its levels, head, their parameters).
PYRAMID, DETNET = (2, 3, 4, 5), (3, 4, 5, 6)
FASHIONAI = [
    ('resnet50', PYRAMID, 'cpn', (26_958_528, 27_085_248)),
    ('detnet50', DETNET, 'cpn', (20_601_536, 20_728_256)),
    ('seresnet50', PYRAMID, 'cpn', (29_489_648, 29_616_368)),
    ('seresnext50_32x4d', PYRAMID, 'cpn', (28_961_520, 29_088_240)),
    ('seresnext50_32x4d', PYRAMID, 'cpn_seresnext', (28_020_832, 28_147_552)),
    ('detnext50', DETNET, 'cpn', (22_293_232, 22_419_952)),
    ('detnext50', DETNET, 'cpn_seresnext', (21_352_544, 21_479_264)),
    ('seresnext101_32x4d', PYRAMID, 'cpn', (50_357_040, 50_483_760)),
    ('detnext101', DETNET, 'cpn', (43_688_752, 43_815_472)),
]
# What ours have in addition; nets/heads/cpn.py explains it.
NORM = 2 * 256  # batch norm of a convolution in GlobalNet, where there is none
NUM_LEVELS = 4
STEM_NORM = {'resnet50': 2 * 64, 'detnet50': 2 * 64}  # theirs lack it
NUM_ENLARGED = {PYRAMID: 3, DETNET: 1}  # levels that are added to one of another size
NUM_HEATMAP_BIASES = NUM_LEVELS + 1  # times the number of keypoints

RESNET152 = 60_192_808 - (2048 * 1000 + 1000)
RESNET152_LAST_STAGE = 14_964_736
SENET154 = 115_088_984 - (2048 * 1000 + 1000)


@functools.cache
def _backbone(name, **options):
    """Return the number of parameters of a backbone, and the shapes of its features."""
    with tf.Graph().as_default():
        backbone = nets.BACKBONES.get(name)(**options)
        features = backbone(tf.zeros([1, SIZE, SIZE, 3]), False)
        shapes = {key: tuple(feature.shape) for key, feature in features.items()}
        return nets.num_parameters(backbone), shapes


def _count(head, num_keypoints, shapes, heatmap_size=SIZE // 4, **options):
    """Return the number of parameters of a head on features of these shapes."""
    with tf.Graph().as_default():
        module = nets.HEADS.get(head)(num_keypoints, (heatmap_size, heatmap_size), **options)
        module({key: tf.zeros(shape) for key, shape in shapes.items()}, False)
        return nets.num_parameters(module)


def _features(*sizes, channels=8, first=2):
    generator = np.random.default_rng(0)
    return {
        f'C{n}': tf.constant(generator.random((1, size, size, channels)), tf.float32)
        for n, size in enumerate(sizes, start=first)
    }


def _operations(head, *sizes, heatmap_size=16, training=False, **options):
    """Return all operations of a head's graph by type."""
    with tf.Graph().as_default() as graph:
        module = nets.HEADS.get(head)(K, (heatmap_size, heatmap_size), channels=16, **options)
        module({f'C{n}': tf.zeros([1, s, s, 8]) for n, s in enumerate(sizes, 2)}, training)
        by_type = {}
        for operation in graph.get_operations():
            by_type.setdefault(operation.type, []).append(operation)
    return by_type


@pytest.mark.parametrize(('backbone', 'levels', 'head', 'published'), FASHIONAI)
@pytest.mark.parametrize('which', [0, 1])
def test_cpn_has_the_parameters_of_tf_fashionai_and_known_others(
    backbone, levels, head, published, which
):
    num_keypoints = (13, 24)[which]
    trunk, shapes = _backbone(backbone, **({} if levels == PYRAMID else {'levels': levels}))
    others = STEM_NORM.get(backbone, 0) + NUM_HEATMAP_BIASES * num_keypoints
    others += (NUM_LEVELS + NUM_ENLARGED[levels] + NUM_LEVELS) * NORM
    assert trunk + _count(head, num_keypoints, shapes) == published[which] + others


def test_the_documented_parameters_of_cpn_on_resnet50():
    trunk, shapes = _backbone('resnet50')
    counts = [trunk + _count('cpn', num_keypoints, shapes) for num_keypoints in (13, 24)]
    assert counts == [26_964_353, 27_091_128]
    plain, grouped, learned = (
        _count(head, 13, shapes) for head in ('cpn', 'cpn_seresnext', 'cpn_deconv')
    )
    assert plain - grouped == 940_688 == 7 * (142_848 - 8_464)
    assert learned - plain == 9_441_792 == 9 * (16 * 256 * 256 + 2 * 256)


@pytest.mark.parametrize(
    ('backbone', 'published'),
    [
        ('seresnext101_32x4d', (57_397_053, 57_399_880)),
        ('seresnext50_32x4d', (36_001_533, 36_004_360)),
    ],
)
def test_dhn_of_stride_16_has_the_parameters_of_tf_fashionai(backbone, published):
    trunk, shapes = _backbone(backbone, output_stride=16)
    for num_keypoints, count in zip((13, 24), published):
        head = _count('dhn', num_keypoints, shapes, SIZE // 2)
        assert trunk + head == count
    assert _count('dhn', 13, shapes, SIZE // 2) == 10_490_637


def test_dhn_with_kernels_of_half_the_size_has_a_quarter_of_their_parameters():
    shapes = {'C5': (1, 2, 2, 2048)}
    kernels = 16 * (2048 + 2 * 256) * 256
    others = 3 * 2 * 256 + 257 * K
    assert _count('dhn', K, shapes) == kernels + others
    assert _count('dhn', K, shapes, kernel_size=2) == kernels // 4 + others


@pytest.mark.parametrize('kernel_size', [2, 4])
def test_dhn_mirrored_features_give_mirrored_heat_maps_with_mirrored_kernels(kernel_size):
    head = nets.HEADS.get('dhn')(K, (16, 16), channels=8, kernel_size=kernel_size)
    feature = _features(4)['C2']
    expected = head({'C2': feature}, False)[-1][:, :, ::-1]
    for variable in head.trainable_variables:
        if variable.shape.rank == 4:
            variable.assign(variable[:, ::-1])
    np.testing.assert_allclose(head({'C2': feature[:, :, ::-1]}, False)[-1], expected, atol=1e-6)


@pytest.mark.parametrize('size', [(16, 16), (8, 8)])
def test_resized_conv_equals_a_convolution_of_the_concatenation_of_what_was_resized(size):
    levels = list(_features(8, 4, 4, 2).values())
    conv = cpn.ResizedConv('conv', 6, size)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(levels)
        joined = tf.concat([layers.resize(level, size) for level in levels], axis=-1)
        early = conv(levels)
        late = tf.nn.conv2d(joined, conv.kernel, 1, 'SAME')
        losses = [tf.reduce_sum(outputs**2) for outputs in (early, late)]
    assert conv.kernel.shape == [1, 1, 4 * 8, 6]
    np.testing.assert_allclose(early, late, atol=1e-5)
    gradients = [tape.gradient(loss, [*levels, conv.kernel]) for loss in losses]
    for one, other in zip(*gradients):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def test_cpn_convolves_wide_levels_before_they_are_resized():
    operations = _operations('cpn', 16, 8, 4, 2)
    resized = sorted(op.inputs[0].shape.as_list()[1:] for op in operations['ResizeBilinear'])
    assert resized == sorted(
        [[size, size, K] for size in (2, 4, 8)]  # heat maps of the levels above the finest
        + [[size, size, 16] for size in (2, 4, 8)]  # to the level below
        + [[size, size, channels] for size in (2, 4, 8) for channels in (8, 16)]  # to be joined
    )


@pytest.mark.parametrize('head', ['cpn', 'cpn_seresnext', 'cpn_deconv'])
def test_cpn_goes_from_coarse_to_fine_and_then_refines(head):
    head, features = nets.HEADS.get(head)(K, (16, 16), channels=16), _features(16, 8, 4, 2)
    outputs = head(features, False)
    assert len(outputs) == 5
    for level, key in enumerate(['C5', 'C4', 'C3', 'C2']):
        others = head({**features, key: 1.0 - features[key]}, False)
        changed = [np.any(a != b) for a, b in zip(outputs, others)]
        # A level reaches its own map, the finer ones and the refined one, and no coarser one.
        assert changed == [n >= level for n in range(5)], key


def _enlarged(head, **options):
    """Return the levels of DetNet's sizes that a head enlarges, by the layer that does it."""
    module = nets.HEADS.get(head)(K, (16, 16), channels=16, **options)
    outputs = module(_features(8, 4, 4, 4), True)
    assert {output.shape for output in outputs} == {tf.TensorShape([1, 16, 16, K])}
    names = [v.name.split('/') for v in module.variables if v.name.endswith('kernel:0')]
    return sorted('/'.join(n[1:-1]) for n in names if n[-2][:6] in ('deconv', 'merge'))


def test_levels_of_equal_size_are_added_without_a_layer():
    assert _enlarged('cpn') == ['global/C2/merge']
    deconvolved = [f'refine/{key}/deconv{n}' for key in ('C3', 'C4', 'C5') for n in (1, 2)]
    assert _enlarged('cpn_deconv') == sorted(
        ['global/C2/merge', 'global/C2/deconv1', 'refine/C2/deconv1', *deconvolved]
    )
    refined = [f'refine1/{key}/deconv' for key in ('C2', 'C3', 'C4', 'C5')]
    assert _enlarged('cpn_17th_place', variants=('v7',)) == sorted(
        ['global/C2/deconv', 'global/C3/merge', 'global/C4/merge', *refined]
    )


def test_learned_upsampling_leaves_only_heat_maps_to_be_resized():
    operations = _operations('cpn_deconv', 16, 8, 4, 2)
    assert {op.inputs[0].shape[-1] for op in operations['ResizeBilinear']} == {K}
    assert len(operations['Conv2DBackpropInput']) == 3 + (3 + 2 + 1)


def test_seresnext_blocks_have_groups_of_four_and_end_in_squeeze_and_excitation():
    head = nets.HEADS.get('cpn_seresnext')(K, (16, 16), channels=32)
    head(_features(16, 8, 4, 2), False)
    kernels = {v.name: v.shape.as_list() for v in head.variables if v.name.endswith('kernel:0')}
    grouped = [shape for name, shape in kernels.items() if '/conv2/' in name]
    assert grouped == 7 * [[3, 3, 4, 16]]
    assert sum('/se/squeeze/' in name for name in kernels) == 7


# On ResNet-152 for 13 keypoints: (variants, published, number of outputs).
VARIANTS_OF_17TH_PLACE = [
    ((), 83_225_498, 2),
    (('v3',), 106_112_999, 3),
    (('v6',), 62_974_874, 2),
    (('v7',), 86_371_994, 2),
    (('v8',), 83_225_498, 2),
    (('v10',), 82_229_914, 2),
    (('v12',), 83_225_498, 2),
]
SHAPES = {f'C{n}': (1, SIZE >> n, SIZE >> n, 64 << n) for n in PYRAMID}


@pytest.mark.parametrize(('variants', 'published', 'num_outputs'), VARIANTS_OF_17TH_PLACE)
def test_17th_place_has_the_published_parameters(variants, published, num_outputs):
    assert RESNET152 + _count('cpn_17th_place', 13, SHAPES, variants=variants) == published
    head = nets.HEADS.get('cpn_17th_place')(K, (16, 16), channels=16, variants=variants)
    assert len(head(_features(16, 8), True)) == num_outputs


def test_17th_place_on_other_backbones_and_levels_has_the_published_parameters():
    assert SENET154 + _count('cpn_17th_place', 13, SHAPES) == 138_121_674
    v5 = {'C1': (1, SIZE // 2, SIZE // 2, 64), **SHAPES}
    assert RESNET152 + _count('cpn_17th_place', 13, v5, SIZE // 2) == 151_234_458
    v14 = {key: shape for key, shape in SHAPES.items() if key != 'C5'}
    count = _count('cpn_17th_place', 13, v14, variants=('v14',))
    assert RESNET152 - RESNET152_LAST_STAGE + count == 50_606_938


def test_the_published_shapes_and_counts_are_those_of_the_backbones():
    assert _backbone('resnet152') == (RESNET152, SHAPES)
    last_stage = _backbone('resnet50')[0] - _backbone('resnet50', levels=(2, 3, 4))[0]
    assert last_stage == RESNET152_LAST_STAGE


@pytest.mark.parametrize('name', ['resnet50', 'resnet101', 'resnet152'])
def test_global_part_of_17th_place_has_the_published_parameters(name):
    published = {'resnet50': 25_702_221, 'resnet101': 44_694_349, 'resnet152': 60_337_997}[name]
    trunk, shapes = _backbone(name)
    refine = 22_887_501
    assert trunk + _count('cpn_17th_place', 13, shapes) == published + refine


@pytest.mark.parametrize('variants', [(), ('v3',), ('v10', 'v6'), ('v14',), ('v3', 'v7', 'v14')])
def test_layers_that_depend_on_the_keypoints_are_named_so_and_no_others(variants):
    shapes = []
    for num_keypoints in (K, K + 2):
        with tf.Graph().as_default():
            head = nets.HEADS.get('cpn_17th_place')(num_keypoints, (16, 16), 16, variants)
            head(_features(16, 8, 4, 2), True)
            shapes.append({v.name: tuple(v.shape) for v in head.variables})
    kernels = [name for name in shapes[0] if name.endswith('kernel:0')]
    dependent = {name for name in kernels if shapes[0][name] != shapes[1][name]}
    assert dependent == {name for name in kernels if name.startswith('head/heatmaps')}
    others = [name for name in shapes[0] if not name.startswith('head/heatmaps')]
    assert all(shapes[0][name] == shapes[1][name] for name in others)


def test_17th_place_reads_each_level_and_refines_what_it_gives():
    head = nets.HEADS.get('cpn_17th_place')(K, (16, 16), channels=16, variants=('v3',))
    features = _features(16, 8, 4, 2)
    outputs = head(features, False)
    for key in features:
        others = head({**features, key: 1.0 - features[key]}, False)
        assert all(np.any(a != b) for a, b in zip(outputs, others)), key
    named = {v.name: v for v in head.variables}
    bias = named['head/heatmaps_refine1/bias:0']
    bias.assign(bias + 1.0)
    changed = [np.any(a != b) for a, b in zip(outputs, head(features, False))]
    assert changed == [False, True, True]


@pytest.mark.parametrize('variants', [(), ('v6',), ('v7', 'v14')])
@pytest.mark.parametrize('sizes', [(8,), (4, 2), (4, 4, 4), (8, 2), (16, 4, 4, 1)])
def test_17th_place_works_with_any_levels_and_finer_heat_maps(variants, sizes):
    head = nets.HEADS.get('cpn_17th_place')(K, (16, 16), channels=16, variants=variants)
    outputs = head(_features(*sizes), True)
    assert [output.shape for output in outputs] == 2 * [[1, 16, 16, K]]


def test_v12_has_a_relu_after_each_lateral_and_deconvolution():
    plain, activated = (
        len(_operations('cpn_17th_place', 16, 8, 4, 2, variants=variants)['Relu'])
        for variants in ((), ('v12',))
    )
    assert activated - plain == 4 + 3


def test_v6_resizes_instead_of_deconvolving():
    operations = _operations('cpn_17th_place', 16, 8, 4, 2, variants=('v6',))
    assert 'Conv2DBackpropInput' not in operations
    assert len(operations['ResizeBilinear']) == 3 + 3
    operations = _operations('cpn_17th_place', 16, 8, 4, 2, variants=('v7',))
    assert 'ResizeBilinear' not in operations
    strides = sorted(op.get_attr('strides')[1] for op in operations['Conv2DBackpropInput'])
    assert strides == [2, 2, 2, 2, 4, 8]


def test_v8_drops_whole_channels_in_training_only():
    inputs = tf.ones([4, 3, 3, 200])
    layer = ChannelDropout('head/dropout', 0.5)
    assert layer(inputs, False) is inputs
    assert ChannelDropout('head/dropout', 0.0)(inputs, True) is inputs
    tf.random.set_seed(1)
    first, second = layer(inputs, True).numpy(), layer(inputs, True).numpy()
    tf.random.set_seed(1)
    np.testing.assert_array_equal(first, layer(inputs, True))
    assert np.any(first != second)
    assert np.all(first == first[:, :1, :1])
    assert set(np.unique(first)) == {0.0, 2.0}
    assert 0.9 < first.mean() < 1.1
    assert len(np.unique(first[:, 0, 0], axis=0)) == 4  # each picture loses other channels


def test_v8_moves_heat_maps_in_training():
    head = nets.HEADS.get('cpn_17th_place')(K, (16, 16), channels=16, variants=('v8',))
    features = _features(16, 8, channels=64)
    for training in (False, True):
        one, other = head(features, training)[-1], head(features, training)[-1]
        assert np.any(one != other) == training


@pytest.mark.parametrize(
    ('head', 'options', 'message'),
    [
        ('cpn', {'channels': 15}, 'head_options: channels=15: must be a positive multiple of 2'),
        ('cpn', {'channels': 0}, 'head_options: channels=0: must be a positive'),
        (
            'cpn',
            {'refine_block': 'resnext'},
            "refine_block='resnext': must be one of bottleneck, ser",
        ),
        ('cpn', {'upsampling': 'nearest'}, "upsampling='nearest': must be one of bilinear, dec"),
        (
            'cpn_seresnext',
            {'channels': 24},
            'channels=24: must be a positive multiple of 16 with refine_b',
        ),
        ('dhn', {'kernel_size': 3}, r'head_options: kernel_size=3: must be one of 2, 4'),
        ('cpn_17th_place', {'channels': 18}, 'channels=18: must be a positive multiple of 4'),
        ('cpn_17th_place', {'variants': ('v6', 'v2')}, "variants=.*'v2'.*some of v3, v6, v7, v8"),
        ('cpn_17th_place', {'variants': [['v6']]}, r"variants=\[\['v6'\]\]: must be some of v3"),
    ],
)
def test_bad_options_are_refused(head, options, message):
    with pytest.raises(ValueError, match=message):
        nets.HEADS.get(head)(K, (16, 16), **options)


@pytest.mark.parametrize('head', ['cpn', 'cpn_deconv', 'cpn_17th_place'])
def test_heat_maps_that_do_not_fit_are_refused_with_sizes_that_do(head):
    message = r'heatmap_size=\(12, 12\): does not fit the C2 .*\(8, 8\), \(16, 16\), \(32, 32\)$'
    with pytest.raises(ValueError, match=message):
        nets.HEADS.get(head)(K, (12, 12), channels=16)(_features(8, 4), False)


def test_levels_to_be_doubled_must_be_a_power_of_two_apart():
    with pytest.raises(ValueError, match=r'does not fit the C3 feature map of \(3, 3\) cells'):
        nets.HEADS.get('cpn_deconv')(K, (16, 16), channels=16)(_features(8, 3), False)
    outputs = nets.HEADS.get('cpn')(K, (16, 16), channels=16)(_features(8, 3), False)
    assert {output.shape for output in outputs} == {tf.TensorShape([1, 16, 16, K])}
