"""Names of published weights: which variable is which tensor, and what folding makes of them.

The names here are written down from the projects that publish them, not made by the rules.
"""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

import nets
from nets import norms
from utility.pretrained import efficientnet_lite, keras, origin, origins, pytorch, tensorflow1

TORCH_NORM = ('weight', 'bias', 'running_mean', 'running_var')
NORM = ('gamma', 'beta', 'moving_mean', 'moving_variance')


def backbone_shapes(name, **options):
    """Return name -> shape of the variables of a registered backbone."""
    with tf.Graph().as_default():
        backbone = nets.BACKBONES.get(name)(**options)
        backbone(tf.zeros([1, 64, 64, 3]), False)
        return {v.name.split(':')[0]: tuple(v.shape) for v in backbone.variables}


def torch_layer(conv, norm, shape):
    """Return name -> shape of a convolution and its batch norm in PyTorch."""
    tensors = {f'{norm}.{t}': shape[:1] for t in TORCH_NORM}
    return {f'{conv}.weight': shape, f'{norm}.num_batches_tracked': (), **tensors}


def torchvision_resnet18(width=64):
    """Return name -> shape of all tensors of torchvision's resnet18; its width is 64."""
    shapes = torch_layer('conv1', 'bn1', (width, 3, 7, 7))
    channels = width
    for stage in (1, 2, 3, 4):
        filters = width * 2 ** (stage - 1)
        for block in (0, 1):
            path = f'layer{stage}.{block}'
            shapes.update(torch_layer(f'{path}.conv1', f'{path}.bn1', (filters, channels, 3, 3)))
            shapes.update(torch_layer(f'{path}.conv2', f'{path}.bn2', (filters, filters, 3, 3)))
            if stage > 1 and block == 0:
                names = (f'{path}.downsample.0', f'{path}.downsample.1')
                shapes.update(torch_layer(*names, (filters, channels, 1, 1)))
            channels = filters
    return {**shapes, 'fc.weight': (1000, channels), 'fc.bias': (1000,)}


# Convolutions and batch norms: of the stem, in a block, and the last.
LITE_MODULES = {
    'package': (
        ('_conv_stem', '_bn0'),
        (('_expand_conv', '_bn0'), ('_depthwise_conv', '_bn1'), ('_project_conv', '_bn2')),
        ('_conv_head', '_bn1'),
    ),
    'timm': (
        ('conv_stem', 'bn1'),
        (('conv_pw', 'bn1'), ('conv_dw', 'bn2'), ('conv_pwl', 'bn3')),
        ('conv_head', 'bn2'),
    ),
}
# Of the first block, which does not expand.
LITE_FIRST = {
    'package': LITE_MODULES['package'][1][1:],
    'timm': (('conv_dw', 'bn1'), ('conv_pw', 'bn2')),
}
# Filters, blocks and kernel size of the stages.
LITE0_STAGES = [
    (16, 1, 3),
    (24, 2, 3),
    (40, 2, 5),
    (80, 3, 3),
    (112, 3, 5),
    (192, 4, 5),
    (320, 1, 3),
]


def lite0(names='package'):
    """Return name -> shape of all tensors of EfficientNet-Lite0, as the packages or timm name
    them.
    """
    stem, in_block, last = LITE_MODULES[names]
    shapes, channels, number = torch_layer(*stem, (32, 3, 3, 3)), 32, 0
    for stage, (filters, depth, size) in enumerate(LITE0_STAGES):
        for block in range(depth):
            path = f'_blocks.{number}' if names == 'package' else f'blocks.{stage}.{block}'
            inner = 6 * channels if stage else channels
            kernels = [(inner, channels, 1, 1), (inner, 1, size, size), (filters, inner, 1, 1)]
            modules = in_block if stage else LITE_FIRST[names]
            for (conv, norm), shape in zip(modules, kernels[-len(modules) :]):
                shapes.update(torch_layer(f'{path}.{conv}', f'{path}.{norm}', shape))
            channels, number = filters, number + 1
    shapes.update(torch_layer(*last, (1280, channels, 1, 1)))
    classifier = '_fc' if names == 'package' else 'classifier'
    return {**shapes, f'{classifier}.weight': (1000, 1280), f'{classifier}.bias': (1000,)}


def official_resnet(depths=(3, 4, 6, 3), scope='resnet_model/', stem_norm=True, preactivated=False):
    """Return name -> shape of TensorFlow's official ResNet of bottlenecks, in the order of
    creation.
    """
    kernels, channels = [(7, 7, 3, 64)], 64
    for stage, depth in enumerate(depths):
        filters = 64 * 2**stage
        for block in range(depth):
            if block == 0:
                kernels.append((1, 1, channels, 4 * filters))
            kernels.append((1, 1, channels, filters))
            kernels.append((3, 3, filters, filters))
            kernels.append((1, 1, filters, 4 * filters))
            channels = 4 * filters
    norms = [kernel[-1] for kernel in kernels[0 if stem_norm else 1 :]]
    if preactivated:
        norms = [64] * (3 * sum(depths) + 1)
    numbers = [''] + [f'_{n}' for n in range(1, 1000)]
    shapes = {f'{scope}conv2d{n}/kernel': kernel for n, kernel in zip(numbers, kernels)}
    for n, size in zip(numbers, norms):
        shapes.update({f'{scope}batch_normalization{n}/{t}': (size,) for t in NORM})
    shapes.update(
        {f'{name}/Momentum': shape for name, shape in shapes.items() if 'moving' not in name}
    )
    dense = {f'{scope}dense/kernel': (channels, 1001), f'{scope}dense/bias': (1001,)}
    # A checkpoint lists its tensors in the order of the alphabet.
    return dict(sorted({**shapes, **dense, 'global_step': ()}.items()))


def translated(shapes, kind='torch', backbone=''):
    """Return variable -> shape, and what is not understood."""
    found = origins.identify(shapes, kind, backbone)
    sources = found.sources(shapes)
    return {n: s.shape(shapes) for n, s in sources.items()}, found.unused(shapes, sources)


def test_resnet18_of_torchvision_is_the_backbone_and_its_classifier():
    assert translated(torchvision_resnet18()) == (backbone_shapes('resnet18'), [])


@pytest.mark.parametrize('names', ['package', 'timm'])
def test_efficientnet_lite0_is_the_backbone_and_its_classifier(names):
    found, unused = translated(lite0(names))
    assert len(lite0(names)) == 296  # tensors in the published file
    assert (found, unused) == (backbone_shapes('efficientnet_lite0', last_conv=True), [])


@pytest.mark.parametrize(
    ('of_package', 'of_timm', 'variable'),
    [
        ('_conv_stem.weight', 'conv_stem.weight', 'conv1/kernel'),
        ('_bn0.running_var', 'bn1.running_var', 'conv1/norm/moving_variance'),
        ('_blocks.0._bn1.weight', 'blocks.0.0.bn1.weight', 'stage1/block1/depthwise/norm/gamma'),
        (
            '_blocks.0._project_conv.weight',
            'blocks.0.0.conv_pw.weight',
            'stage1/block1/project/kernel',
        ),
        ('_blocks.2._bn0.bias', 'blocks.1.1.bn1.bias', 'stage2/block2/expand/norm/beta'),
        (
            '_blocks.14._depthwise_conv.weight',
            'blocks.5.3.conv_dw.weight',
            'stage6/block4/depthwise/kernel',
        ),
        ('_blocks.15._bn2.bias', 'blocks.6.0.bn3.bias', 'stage7/block1/project/norm/beta'),
        ('_bn1.running_mean', 'bn2.running_mean', 'last_conv/norm/moving_mean'),
    ],
)
def test_names_of_efficientnet_lite(of_package, of_timm, variable):
    for names, tensor in (('package', of_package), ('timm', of_timm)):
        sources = efficientnet_lite.ORIGIN.sources(lite0(names))
        assert sources[f'backbone/{variable}'].names == (tensor,)


def test_depthwise_kernels_keep_their_channels_in_place():
    kernel = np.random.default_rng(0).standard_normal((8, 1, 3, 5)).astype(np.float32)
    name = 'blocks.1.0.conv_dw.weight'
    shapes = {**lite0('timm'), name: kernel.shape}
    source = efficientnet_lite.ORIGIN.sources(shapes)['backbone/stage2/block1/depthwise/kernel']
    found = source.convert(kernel)
    assert found.shape == (3, 5, 8, 1)
    assert found[2, 4, 7, 0] == kernel[7, 0, 2, 4]


@pytest.mark.parametrize(
    'tensor', ['_blocks.0._se_reduce.weight', 'blocks.0.0.se.conv_reduce.bias']
)
def test_efficientnet_with_squeeze_and_excitation_is_not_the_lite_one(tensor):
    with pytest.raises(ValueError, match='weights of unknown origin'):
        translated({**lite0(), tensor: (8, 32, 1, 1)})


@pytest.mark.parametrize(
    ('name', 'variable'),
    [
        ('conv1.weight', 'backbone/conv1/kernel'),
        ('bn1.running_var', 'backbone/conv1/norm/moving_variance'),
        ('layer3.22.conv2.weight', 'backbone/stage3/block23/conv2/kernel'),
        ('layer4.0.bn3.bias', 'backbone/stage4/block1/conv3/norm/beta'),
        ('layer2.0.downsample.0.weight', 'backbone/stage2/block1/shortcut/kernel'),
        ('layer2.0.downsample.1.weight', 'backbone/stage2/block1/shortcut/norm/gamma'),
        ('layer1.2.se.fc1.bias', 'backbone/stage1/block3/se/squeeze/bias'),
        ('layer1.2.se.fc2.weight', 'backbone/stage1/block3/se/excite/kernel'),
        ('layer0.conv3.weight', 'backbone/conv3/kernel'),
        ('layer0.bn2.running_mean', 'backbone/conv2/norm/moving_mean'),
        ('layer1.0.se_module.fc1.weight', 'backbone/stage1/block1/se/squeeze/kernel'),
        ('layer1.0.se_module.fc2.bias', 'backbone/stage1/block1/se/excite/bias'),
        ('transition1.0.0.weight', 'backbone/transition1/branch1/kernel'),
        ('transition1.0.1.weight', 'backbone/transition1/branch1/norm/gamma'),
        ('transition3.3.0.0.weight', 'backbone/transition3/branch4/kernel'),
        ('transition3.3.0.1.bias', 'backbone/transition3/branch4/norm/beta'),
        (
            'stage4.2.branches.1.3.conv2.weight',
            'backbone/stage4/module3/branch2/block4/conv2/kernel',
        ),
        (
            'stage2.0.branches.0.0.bn1.running_mean',
            'backbone/stage2/module1/branch1/block1/conv1/norm/moving_mean',
        ),
        # To the finest branch, from the coarsest.
        ('stage4.0.fuse_layers.0.3.0.weight', 'backbone/stage4/module1/fuse1_4/kernel'),
        ('stage4.0.fuse_layers.0.3.1.bias', 'backbone/stage4/module1/fuse1_4/norm/beta'),
        ('stage3.1.fuse_layers.2.0.1.0.weight', 'backbone/stage3/module2/fuse3_1/down2/kernel'),
        ('stage3.1.fuse_layers.2.0.0.1.weight', 'backbone/stage3/module2/fuse3_1/down1/norm/gamma'),
        ('fc.weight', None),
        ('conv1.0.weight', None),  # a deep stem
        ('layer1.0.downsample.2.weight', None),
        ('layer1.0.bn1.num_batches_tracked', None),
        ('incre_modules.0.0.conv1.weight', None),
    ],
)
def test_names_of_pytorch(name, variable):
    assert pytorch.variable_name(name) == variable


@pytest.mark.parametrize(
    ('tensors', 'expected'),
    [
        ({'layer0.conv1.weight': (64, 3, 7, 7)}, pytorch.LEGACY_SENET),
        ({'layer1.0.conv1.weight': (64, 64, 3, 3)}, pytorch.RESNET),
        (
            {
                'layer1.0.conv1.weight': (64, 64, 1, 1),
                'stage2.0.branches.0.0.conv1.weight': (32, 32, 3, 3),
            },
            pytorch.HRNET,
        ),
        ({'conv2_block1_1_conv/kernel': (1, 1, 64, 64)}, keras.RESNET),
        ({'a/conv2d/kernel': (7, 7, 3, 64)}, tensorflow1.OFFICIAL_RESNET),
        ({'conv1/7x7_s2/kernel': (7, 7, 3, 64)}, tensorflow1.SE_RESNET),
    ],
)
def test_the_origin_is_told_from_the_names(tensors, expected):
    assert origins.identify(tensors, 'any') is expected


def test_unknown_weights_name_what_they_hold():
    with pytest.raises(ValueError, match=r'unknown origin \(features.0.weight, \.\.\.\)'):
        origins.identify({'features.0.weight': (64, 3, 3, 3)}, 'torch')
    with pytest.raises(ValueError, match='only keras/<Name> takes'):
        origins.identify({'block1_conv1/kernel': (3, 3, 3, 64)}, 'keras', 'resnet50')


@pytest.mark.parametrize(
    ('kernel', 'stride_1x1'), [((64, 64, 3, 3), True), ((128, 4, 3, 3), False)]
)
def test_the_senets_of_caffe_stride_in_the_3x3_if_it_has_groups(kernel, stride_1x1):
    shapes = {'layer0.conv1.weight': (64, 3, 7, 7), 'layer1.0.conv2.weight': kernel}
    expected = {'stride_1x1': stride_1x1, 'ceil_pool': True}
    assert pytorch.LEGACY_SENET.options(shapes) == expected
    height, width, *channels = (kernel[i] for i in (2, 3, 1, 0))
    shapes = {
        'a/conv1/7x7_s2/kernel': (7, 7, 3, 64),
        'a/conv2_1_3x3/kernel': (height, width, *channels),
    }
    assert tensorflow1.SE_RESNET.options(shapes) == expected


@pytest.mark.parametrize('scope', ['', 'resnet_model/', 'all/resnet_model/'])
def test_the_official_resnet_is_numbered_in_the_order_of_creation(scope):
    shapes = official_resnet(scope=scope)
    assert translated(shapes) == (backbone_shapes('resnet50'), [])
    sources = tensorflow1.OFFICIAL_RESNET.sources(shapes)
    for variable, tensor in (
        ('conv1/kernel', 'conv2d/kernel'),
        ('stage1/block1/shortcut/kernel', 'conv2d_1/kernel'),
        ('stage1/block1/conv1/norm/gamma', 'batch_normalization_2/gamma'),
        ('stage1/block3/conv3/kernel', 'conv2d_10/kernel'),
        ('stage2/block1/shortcut/norm/beta', 'batch_normalization_11/beta'),
        ('stage4/block3/conv3/norm/moving_mean', 'batch_normalization_52/moving_mean'),
    ):
        assert sources[f'backbone/{variable}'].names == (scope + tensor,)


def test_the_official_resnet_without_the_batch_norm_of_the_stem():
    shapes = official_resnet(stem_norm=False)
    variables, unused = translated(shapes)
    missing = {f'backbone/conv1/norm/{tensor}' for tensor in NORM}
    assert backbone_shapes('resnet50').keys() - variables.keys() == missing
    assert unused == []
    names = tensorflow1.OFFICIAL_RESNET.sources(shapes)
    [name] = names['backbone/stage1/block1/shortcut/norm/gamma'].names
    assert name == 'resnet_model/batch_normalization/gamma'


def test_version_2_of_the_official_resnet_is_refused_with_the_reason():
    shapes = official_resnet(preactivated=True)
    with pytest.raises(ValueError, match='49 batch norms for 53 convolutions: version 2'):
        translated(shapes)


def test_the_official_resnet_of_basic_blocks_is_refused_with_the_reason():
    kernels = [(7, 7, 3, 64), (1, 1, 64, 64), (3, 3, 64, 64), (3, 3, 64, 64)]
    shapes = {f'conv2d_{n}/kernel': kernel for n, kernel in enumerate(kernels)}
    with pytest.raises(ValueError, match='not a ResNet of bottlenecks'):
        translated({**shapes, 'conv2d/kernel': kernels[0]})


def test_se_resnext50_of_tensorflow_1():
    shapes, channels = {}, 64

    def add(name, kernel, bias=False):
        shapes[f'{name}/kernel'] = kernel
        tensors = ('bias',) if bias else [f'bn/{t}' for t in NORM]
        shapes.update({f'{name}/{tensor}': kernel[-1:] for tensor in tensors})

    add('conv1/7x7_s2', (7, 7, 3, 64))
    for stage, depth in zip((2, 3, 4, 5), (3, 4, 6, 3)):
        filters = 64 * 2**stage
        for unit in range(1, depth + 1):
            path = f'conv{stage}_{unit}'
            if unit == 1:
                add(f'{path}_1x1_proj', (1, 1, channels, filters))
            add(f'{path}_1x1_reduce', (1, 1, channels, filters // 2))
            add(f'{path}_3x3', (3, 3, filters // 64, filters // 2))
            add(f'{path}_1x1_increase', (1, 1, filters // 2, filters))
            add(f'{path}_1x1_down', (1, 1, filters, filters // 16), bias=True)
            add(f'{path}_1x1_up', (1, 1, filters // 16, filters), bias=True)
            channels = filters
    shapes.update({f'{name}/Adam_1': shape for name, shape in list(shapes.items())})
    shapes.update({'dense/kernel': (2048, 1000), 'dense/bias': (1000,)})
    assert translated(shapes) == (backbone_shapes('seresnext50_32x4d'), [])


def test_kernels_are_transposed_also_with_groups():
    kernel = np.random.default_rng(0).standard_normal((8, 2, 3, 3)).astype(np.float32)
    found = origin.from_oihw(kernel)
    assert found.shape == (3, 3, 2, 8)
    assert found[0, 2, 1, 5] == kernel[5, 1, 0, 2]


def test_weights_for_bgr_are_turned_for_rgb():
    generator = np.random.default_rng(0)
    picture = generator.standard_normal((1, 8, 8, 3)).astype(np.float32)
    kernel = generator.standard_normal((7, 7, 3, 4)).astype(np.float32)
    shapes = {'conv1/7x7_s2/kernel': kernel.shape}
    source = tensorflow1.SE_RESNET.sources(shapes)['backbone/conv1/kernel']
    np.testing.assert_allclose(
        tf.nn.conv2d(picture, source.convert(kernel), 2, 'SAME'),
        tf.nn.conv2d(picture[..., ::-1], kernel, 2, 'SAME'),
        atol=1e-5,
    )


def test_biases_and_epsilon_of_keras_are_folded_into_the_statistics():
    generator = np.random.default_rng(0)
    names = ['conv2_block1_0_conv/kernel', 'conv2_block1_0_conv/bias']
    names += [f'conv2_block1_0_bn/{tensor}' for tensor in NORM]
    values = {name: generator.random(5).astype(np.float32) for name in names}
    # Of the size of the difference of the two epsilons.
    values['conv2_block1_0_bn/moving_variance'] *= 1e-8
    shapes = {name: value.shape for name, value in values.items()}
    sources = keras.RESNET.sources({**shapes, 'conv2_block1_1_conv/kernel': (1, 1, 8, 8)})
    own = {
        tensor: source.convert(*(values[name] for name in source.names))
        for tensor in ('norm/' + t for t in NORM)
        for source in [sources[f'backbone/stage1/block1/shortcut/{tensor}']]
    }
    outputs = generator.random((7, 5))  # of the convolution, without its bias
    bias, gamma, beta, mean, variance = (values[name].astype(np.float64) for name in names[1:])
    expected = (outputs + bias - mean) / np.sqrt(variance + 1.001e-5) * gamma + beta
    deviation = np.sqrt(own['norm/moving_variance'] + np.float64(norms.BATCH_NORM_EPSILON))
    found = (outputs - own['norm/moving_mean']) / deviation * own['norm/gamma'] + own['norm/beta']
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert norms.BATCH_NORM_EPSILON == keras.OWN_EPSILON


def test_resnet_v2_of_keras_is_refused_with_the_reason():
    shapes = dict.fromkeys(['conv2_block1_1_conv/kernel', 'conv2_block1_preact_bn/gamma'], (1,))
    with pytest.raises(ValueError, match='V2 of Keras normalizes before its convolutions'):
        translated(shapes, 'keras')


def test_tensors_that_do_not_fit_together_have_no_shape():
    shapes = {'layer1.0.conv1.weight': (64,), 'conv1.weight': (64, 3, 7, 7)}
    variables, _ = translated(shapes)
    assert variables == {
        'backbone/stage1/block1/conv1/kernel': None,
        'backbone/conv1/kernel': (7, 7, 3, 64),
    }
    variables, _ = translated({'conv1/7x7_s2/kernel': (7, 7, 4, 64)})
    assert variables == {'backbone/conv1/kernel': None}


def test_mean_and_std_are_those_of_the_origin():
    assert {o.channel_order for o in origins.ORIGINS} == {'RGB', 'BGR'}
    found = {o: (o.mean, o.std, o.channel_order) for o in origins.ORIGINS}
    torch = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375), 'RGB')
    assert [found[o] for o in (pytorch.RESNET, pytorch.LEGACY_SENET, pytorch.HRNET)] == [torch] * 3
    ones = (1.0, 1.0, 1.0)
    lite = found[efficientnet_lite.ORIGIN]
    assert lite == ((127.0, 127.0, 127.0), (128.0, 128.0, 128.0), 'RGB')
    # As read: TensorFlow's in RGB, Keras's and Caffe's in the order of their kernels.
    assert found[tensorflow1.OFFICIAL_RESNET] == ((123.68, 116.78, 103.94), ones, 'RGB')
    assert found[keras.RESNET] == ((123.68, 116.779, 103.939), ones, 'BGR')
    assert found[tensorflow1.SE_RESNET] == ((123.0, 117.0, 104.0), ones, 'BGR')


def test_layers_that_keras_numbers_are_matched_by_their_order():
    names = ['conv2d/kernel', 'conv2d_1/kernel', 'conv2d_10/kernel', 'block1/kernel']
    later = ['conv2d_5/kernel', 'conv2d_95/kernel', 'conv2d_104/kernel', 'block1/kernel']
    one, other = (keras._ranked(n) for n in (names, later))
    assert {one[key]: other[key] for key in one} == dict(zip(names, later))


@pytest.mark.parametrize(
    ('path', 'name'),
    [
        ('conv1_conv/kernel', 'conv1_conv/kernel'),
        ('bn/conv1/bn/beta', 'conv1/bn/beta'),  # DenseNet
        ('BatchNorm/Conv/BatchNorm/gamma', 'Conv/BatchNorm/gamma'),  # MobileNetV3
        (
            'squeeze_excite/Conv/expanded_conv/squeeze_excite/Conv/bias',
            'expanded_conv/squeeze_excite/Conv/bias',
        ),
        ('Conv/kernel', 'Conv/kernel'),
    ],
)
def test_names_of_keras_layers_that_hold_slashes(path, name):
    assert keras._weight_name(path) == name
