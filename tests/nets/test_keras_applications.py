"""Networks of tf.keras.applications: all that Keras has, equal to Keras's, and well-behaved."""

from __future__ import annotations

import functools
import os
import sys

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')

import numpy as np
import pytest
import tensorflow as tf

import nets
from config import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Experiment,
    LossConfig,
    NetworkConfig,
    OptimizerConfig,
    ScheduleConfig,
)
from nets import keras_layers
from nets.backbones import keras_applications
from nets.keras_description import Description, Node, describe
from preprocessing.datasets.fashionai import SCHEMA
from tests.commands import rerun_test
from tests.tiny_batches import skirts
from utility.optim.schedules import Length
from utility.train.model_fn import Task, make_model_fn

v1 = tf.compat.v1
SMALL = 'MobileNetV3Small'

# Trainable parameters of Keras 2.15's networks without top.
_PARAMETERS = """
    ConvNeXtBase 87_566_464  ConvNeXtLarge 196_230_336  ConvNeXtSmall 49_454_688
    ConvNeXtTiny 27_820_128  ConvNeXtXLarge 348_147_968  DenseNet121 6_953_856
    DenseNet169 12_484_480  DenseNet201 18_092_928  EfficientNetB0 4_007_548
    EfficientNetB1 6_513_184  EfficientNetB2 7_700_994  EfficientNetB3 10_696_232
    EfficientNetB4 17_548_616  EfficientNetB5 28_340_784  EfficientNetB6 40_735_704
    EfficientNetB7 63_786_960  EfficientNetV2B0 5_858_704  EfficientNetV2B1 6_860_052
    EfficientNetV2B2 8_687_086  EfficientNetV2B3 12_821_406  EfficientNetV2L 117_234_272
    EfficientNetV2M 52_858_356  EfficientNetV2S 20_177_488  InceptionResNetV2 54_276_192
    InceptionV3 21_768_352  MobileNet 3_206_976  MobileNetV2 2_223_872
    MobileNetV3Large 2_971_952  MobileNetV3Small 927_008  NASNetLarge 84_720_150
    NASNetMobile 4_232_978  RegNetX002 2_315_792  RegNetX004 4_772_512  RegNetX006 5_667_040
    RegNetX008 6_586_656  RegNetX016 8_277_136  RegNetX032 14_287_552  RegNetX040 20_757_248
    RegNetX064 24_584_256  RegNetX080 37_651_648  RegNetX120 43_865_056  RegNetX160 52_229_536
    RegNetX320 105_290_560  RegNetY002 2_793_996  RegNetY004 3_903_144  RegNetY006 5_446_160
    RegNetY008 5_494_168  RegNetY016 10_313_430  RegNetY032 17_923_338  RegNetY040 19_557_656
    RegNetY064 29_286_252  RegNetY080 37_163_068  RegNetY120 49_581_544  RegNetY160 80_565_140
    RegNetY320 141_333_770  ResNet101 42_552_832  ResNet101V2 42_528_896  ResNet152 58_219_520
    ResNet152V2 58_187_904  ResNet50 23_534_592  ResNet50V2 23_519_360  ResNetRS101 61_569_696
    ResNetRS152 84_572_576  ResNetRS200 91_160_992  ResNetRS270 127_812_448
    ResNetRS350 161_907_168  ResNetRS420 189_842_656  ResNetRS50 33_642_912  VGG16 14_714_688
    VGG19 20_024_384  Xception 20_806_952
"""
_WORDS = _PARAMETERS.split()
PARAMETERS = dict(zip(_WORDS[::2], map(int, _WORDS[1::2])))
# The feature maps, from stride 2 to 32, of one network of each family whose layers have names.
TAPS = {
    'DenseNet121': 'conv1/relu pool2_conv pool3_conv pool4_conv relu',
    'EfficientNetB0': 'block2a_expand_activation block3a_expand_activation '
    'block4a_expand_activation block6a_expand_activation top_activation',
    'InceptionResNetV2': 'activation_2 activation_4 block35_10_ac block17_20_ac conv_7b_ac',
    'InceptionV3': 'activation_2 activation_4 mixed2 mixed7 mixed10',
    'MobileNet': 'conv_pw_1_relu conv_pw_3_relu conv_pw_5_relu conv_pw_11_relu conv_pw_13_relu',
    'MobileNetV2': 'block_1_expand_relu block_3_expand_relu block_6_expand_relu '
    'block_13_expand_relu out_relu',
    'NASNetMobile': 'stem_bn1 reduction_concat_stem_1 normal_concat_3 normal_concat_8 '
    'activation_187',
    'RegNetY002': 'regnety002_stem_relu regnety002_Stage_0_YBlock_0_exit_relu '
    'regnety002_Stage_1_YBlock_0_exit_relu regnety002_Stage_2_YBlock_3_exit_relu '
    'regnety002_Stage_3_YBlock_6_exit_relu',
    'ResNet50': 'conv1_relu conv2_block3_out conv3_block4_out conv4_block6_out conv5_block3_out',
    'ResNet50V2': 'conv1_conv conv2_block2_out conv3_block3_out conv4_block5_out post_relu',
    'ResNetRS50': 'stem_1_stem_act_3 BlockGroup2__block_2__output_act '
    'BlockGroup3__block_3__output_act BlockGroup4__block_5__output_act '
    'BlockGroup5__block_2__output_act',
    'VGG16': 'block2_conv2 block3_conv3 block4_conv3 block5_conv3 block5_pool',
    'Xception': 'block1_conv2_act add add_1 add_10 block14_sepconv2_act',
}
# Networks that Keras does not pad everywhere.
UNPADDED = ('InceptionResNetV2', 'InceptionV3', 'NASNetMobile', 'Xception')
PARITY = [
    *(pytest.param(name, marks=pytest.mark.slow) for name in TAPS),
    *(pytest.param(name, marks=pytest.mark.slow) for name in ('ConvNeXtTiny', 'EfficientNetV2S')),
    *('EfficientNetV2B0', 'MobileNetV3Small'),
]


def _images(batch=2, size=64, seed=0):
    shape = (batch, size, size, 3)
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.float32)


def _make(name, **options):
    return nets.BACKBONES.get(f'keras/{name}')(**options)


def _by_name(backbone):
    return {variable.name.split(':')[0]: variable for variable in backbone.variables}


def test_all_networks_of_keras_are_registered_and_no_other():
    callables = {n for n in dir(tf.keras.applications) if n[0].isupper()}
    assert callables == set(keras_applications.NAMES) == set(PARAMETERS)
    assert {f'keras/{name}' for name in callables} <= set(nets.BACKBONES.names())


@pytest.mark.slow
@pytest.mark.parametrize('name', PARAMETERS)
def test_every_network_has_its_parameters_strides_names_and_gradients(name):
    with tf.Graph().as_default():
        backbone = _make(name)
        features = backbone(tf.zeros([1, 64, 96, 3]), True)
        # The last level is the end of the network, so nothing of it is left out.
        assert nets.num_parameters(backbone) == PARAMETERS[name]
        sizes = {key: tuple(feature.shape[1:3]) for key, feature in features.items()}
        assert sizes == {f'C{n}': (64 >> n, 96 >> n) for n in (2, 3, 4, 5)}
        assert list(features) == ['C2', 'C3', 'C4', 'C5']
        stored = keras_applications.weight_names(f'keras/{name}')
        assert set(_by_name(backbone)) == {n for n in stored if '/normalization' not in n}
        assert all(n.startswith('backbone/') for n in stored)
        variables = backbone.trainable_variables
        total = tf.add_n([tf.reduce_sum(feature) for feature in features.values()])
        gradients = tf.gradients(total, variables)
        assert [v.name for v, g in zip(variables, gradients) if g is None] == []
        norms = sum('moving_mean' in v.name for v in backbone.variables)
        assert len(v1.get_collection(v1.GraphKeys.UPDATE_OPS)) == 2 * norms


def _is_unpadded(layer, kinds):
    sources = [source for call in layer['inbound_nodes'] for source, *_ in call]
    is_valid = layer['config'].get('padding') == 'valid'
    return is_valid and kinds[sources[0]] not in ('ZeroPadding2D', 'Cropping2D')


def _keras_model(name, size):
    """Return Keras's own network, padded where it is not, with random weights; its
    layers in order.
    """
    make = getattr(tf.keras.applications, name)
    model = make(include_top=False, weights=None, input_shape=(size, size, 3))
    order = [layer.name for layer in model.layers]
    if name in UNPADDED:
        config = model.get_config()
        custom = {type(layer).__name__: type(layer) for layer in model.layers}
        kinds = {layer['name']: layer['class_name'] for layer in config['layers']}
        for layer in config['layers']:
            if _is_unpadded(layer, kinds):
                layer['config']['padding'] = 'same'
        model = tf.keras.Model.from_config(config, custom)
    generator = np.random.default_rng(0)
    layers = list(map(model.get_layer, order))
    for weight in (weight for layer in layers for weight in layer.weights):
        if weight.name.endswith(('gamma:0', 'variance:0')):
            weight.assign(generator.uniform(0.8, 1.2, weight.shape))
        elif weight.name.endswith(('beta:0', 'mean:0', 'bias:0')):
            weight.assign(0.1 * generator.standard_normal(weight.shape))
    return model, layers


def _keras_features(model, layers, name, images, training=False):
    """Return the feature maps of the model in eager mode, from pictures in 0..255."""
    if name == 'EfficientNetB0':  # which has them from its file
        normalization = next(la for la in layers if type(la).__name__ == 'Normalization')
        normalization.mean = tf.constant(IMAGENET_MEAN) / 255.0
        normalization.variance = tf.square(tf.constant(IMAGENET_STD) / 255.0)
    description = describe(name)
    if name.startswith('ConvNeXt'):  # the other maps are inside models inside the model
        outputs = [model.output]
    else:
        # By position, since names depend on what was built before.
        positions = {node.name: n for n, node in enumerate(description.nodes)}
        outputs = [layers[positions[tap]].output for tap in description.taps().values()]
    module = sys.modules[getattr(tf.keras.applications, name).__module__]
    features = tf.keras.Model(model.input, outputs)
    return features(module.preprocess_input(images.copy()), training=training)


def _load(backbone, name, layers):
    """Give the weights of Keras to the backbone, in the order of weight_names."""
    weights = [weight for layer in layers for weight in layer.weights]
    names = keras_applications.weight_names(f'keras/{name}')
    assert len(weights) == len(names)
    variables = _by_name(backbone)
    loaded = {n: weight for n, weight in zip(names, weights) if n in variables}
    assert loaded.keys() == variables.keys()
    for n, weight in loaded.items():
        variables[n].assign(weight)


@pytest.mark.parametrize('name', PARITY)
def test_feature_maps_equal_those_of_keras(name):
    size = 96 if name in UNPADDED else 64  # Keras refuses 64 there
    images, (model, layers) = _images(size=size), _keras_model(name, size)
    expected = _keras_features(model, layers, name, images)
    expected = expected if isinstance(expected, list) else [expected]
    levels = tuple(range(6 - len(expected), 6))
    backbone = _make(name, levels=levels)
    mean, std = keras_applications.input_statistics(f'keras/{name}')
    pictures = (images - np.float32(mean)) / np.float32(std)
    backbone(pictures, False)
    _load(backbone, name, layers)
    for feature, other in zip(backbone(pictures, False).values(), expected):
        assert np.std(other) > 0
        np.testing.assert_allclose(feature, other, atol=1e-4 * np.abs(other).max())


def test_a_training_step_equals_that_of_keras():
    images, (model, layers) = _images(4), _keras_model(SMALL, 64)
    backbone = _make(SMALL, levels=(1, 2, 3, 4, 5))
    pictures = images / np.float32(127.5) - 1.0
    backbone(pictures, False)
    _load(backbone, SMALL, layers)
    expected = _keras_features(model, layers, SMALL, images, training=True)
    for feature, other in zip(backbone(pictures, True).values(), expected):
        np.testing.assert_allclose(feature, other, atol=1e-3 * np.abs(other).max())
    variables = _by_name(backbone)
    weights = [weight for layer in layers for weight in layer.weights]
    for name, weight in zip(keras_applications.weight_names(f'keras/{SMALL}'), weights):
        np.testing.assert_allclose(variables[name], weight, atol=1e-4, err_msg=name)


@pytest.mark.parametrize(
    'name',
    [pytest.param(n, marks=() if n == 'ResNet50' else pytest.mark.slow) for n in TAPS],
)
def test_feature_maps_are_the_ends_of_the_stages(name):
    taps = describe(name).taps()
    assert taps == dict(enumerate(TAPS[name].split(), start=1))


def _chain(*nodes):
    """Return a description from (name, kind, level, inputs)."""
    return Description(
        tuple(
            Node(name, kind, {}, tuple(inputs.split()), None, n) for name, kind, n, inputs in nodes
        )
    )


def test_a_tap_is_what_all_deeper_layers_pass_through():
    description = _chain(
        ('in', 'InputLayer', 0, ''),
        ('conv', 'Conv2D', 1, 'in'),
        ('branch', 'Conv2D', 1, 'conv'),
        ('mean', 'GlobalAveragePooling2D', 0, 'branch'),
        ('sum', 'Add', 1, 'conv branch'),
        ('scaled', 'Multiply', 1, 'sum mean'),
        ('before', 'ReLU', 1, 'scaled'),  # 'shortcut' bypasses it
        ('shortcut', 'Conv2D', 2, 'scaled'),
        ('strided', 'Conv2D', 2, 'before'),
        ('end', 'Add', 2, 'strided shortcut'),
        ('pad', 'ZeroPadding2D', 2, 'end'),
        ('last', 'Conv2D', 3, 'pad'),
    )
    assert description.taps() == {1: 'scaled', 2: 'end', 3: 'last'}
    kept = [node.name for node in description.up_to(['scaled']).nodes]
    assert kept == ['in', 'conv', 'branch', 'mean', 'sum', 'scaled']


def test_a_tap_of_cells_that_skip_one_is_the_deepest_join():
    description = _chain(
        ('in', 'InputLayer', 0, ''),
        ('stem', 'Conv2D', 1, 'in'),
        ('one', 'Conv2D', 2, 'stem'),
        ('cell1', 'Concatenate', 2, 'one'),
        ('skip', 'Conv2D', 2, 'stem'),
        ('adjusted', 'Concatenate', 2, 'skip'),  # later in order, but less deep
        ('cell2', 'Conv2D', 3, 'cell1 adjusted'),
        ('end', 'Concatenate', 3, 'cell2 cell1'),
    )
    assert description.taps() == {1: 'stem', 2: 'cell1', 3: 'end'}


def test_layers_are_numbered_from_the_start_whatever_was_built_before():
    tf.keras.layers.Conv2D(1, 1)(tf.keras.Input([8, 8, 3]))
    names = describe.__wrapped__('Xception').weight_names
    kernels = [n for n in names if n.startswith('conv2d')]
    assert kernels == [f'conv2d{n}/kernel' for n in ('', '_1', '_2', '_3')]


def test_eager_networks_and_models_of_keras_stay_valid_beside_a_graph():
    images = _images() / 255.0
    own, model = _make(SMALL, levels=(2,)), tf.keras.Sequential([tf.keras.layers.Dense(2)])
    before = own(images, False)['C2'], model(images)
    describe.cache_clear()  # so that Keras builds within the graph
    with tf.Graph().as_default():
        _make(SMALL, levels=(2,))(tf.zeros([1, 64, 64, 3]), True)
    after = own(images, False)['C2'], model(images)
    for one, other in zip(before, after):
        np.testing.assert_array_equal(one, other)


def _moved(run):
    """Return statistics of batch norm after `run(backbone, images)` in training."""
    tf.random.set_seed(1)
    backbone = _make(SMALL, levels=(2, 3), batch_norm_momentum=0.5)
    values = run(backbone, tf.constant(_images() / 255.0))
    return values or {n: v.numpy() for n, v in _by_name(backbone).items()}


def _in_graph(backbone, images):
    images = images.numpy()
    with tf.Graph().as_default(), v1.Session() as session:
        tf.random.set_seed(1)
        backbone(tf.constant(images), True)
        session.run(v1.global_variables_initializer())
        session.run(v1.get_collection(v1.GraphKeys.UPDATE_OPS))
        return session.run(_by_name(backbone))


def test_statistics_move_alike_in_eager_mode_in_a_function_and_in_a_graph():
    eager = _moved(lambda backbone, images: backbone(images, True) and None)
    in_function = _moved(lambda backbone, images: tf.function(backbone)(images, True) and None)
    in_graph = _moved(_in_graph)
    assert eager.keys() == in_function.keys() == in_graph.keys()
    for name, value in eager.items():
        assert 'moving_mean' not in name or np.any(value), name
        for other in (in_function, in_graph):
            np.testing.assert_allclose(other[name], value, rtol=1e-3, atol=1e-4, err_msg=name)


def _batch_norm(**changes):
    config = {'momentum': 0.99, 'epsilon': 1e-3, 'scale': True, **changes}
    return keras_layers.batch_norm('norm', config)


@pytest.mark.parametrize(('momentum', 'expected'), [(0.75, 0.25), (0.0, 0.1)])
def test_momentum_is_the_share_that_stays(momentum, expected):
    norm = _batch_norm(momentum=momentum, scale=False)
    norm(tf.constant([[[[1.0]], [[3.0]]]]), True)
    np.testing.assert_allclose(norm.layer.moving_mean, [2.0 * expected], rtol=1e-6)
    assert [v.name for v in norm.trainable_variables] == ['norm/beta:0']


def test_a_branch_is_dropped_for_whole_samples_in_training_only():
    tf.random.set_seed(0)
    layer, ones = keras_layers.DropSamples('drop', {'rate': 0.25}), tf.ones([4000, 2, 2, 3])
    np.testing.assert_array_equal(layer(ones, False), ones)
    dropped = layer(ones, True).numpy().reshape(4000, -1)
    assert np.all(dropped == dropped[:, :1])
    assert {float(v) for v in np.unique(dropped)} == {0.0, np.float32(1 / 0.75)}
    assert abs(np.mean(dropped[:, 0] == 0) - 0.25) < 0.03


@pytest.mark.parametrize(
    'initializer',
    [
        tf.keras.initializers.GlorotUniform(1),
        tf.keras.initializers.HeNormal(1),
        tf.keras.initializers.VarianceScaling(2.0, 'fan_out', 'truncated_normal', 1),
    ],
    ids=lambda initializer: type(initializer).__name__,
)
@pytest.mark.parametrize('is_depthwise', [False, True])
def test_kernels_start_from_the_variance_of_keras(initializer, is_depthwise):
    make, name = tf.keras.layers.Conv2D, 'kernel'
    settings = {'kernel_size': 3, 'name': 'conv', 'filters': 128}
    if is_depthwise:
        make, name = tf.keras.layers.DepthwiseConv2D, 'depthwise'
        del settings['filters']
    layer = make(**settings, **{f'{name}_initializer': initializer})
    shape = [3, 3, 256, 1] if is_depthwise else [3, 3, 256, 128]
    own = keras_layers.Convolution('conv', layer.get_config())
    own(tf.zeros([1, 4, 4, 256]), False)
    [kernel] = [v for v in own.variables if 'kernel' in v.name]
    assert kernel.shape == shape
    np.testing.assert_allclose(np.std(kernel), np.std(initializer(shape)), rtol=0.06)


def test_means_over_many_cells_are_exact_in_bfloat16():
    pictures = 1.0 + _images(1, 96) / 255.0
    mean = keras_layers.OPERATIONS['GlobalAveragePooling2D']
    rough = mean({'keepdims': False}, tf.cast(pictures, tf.bfloat16))
    assert rough.dtype == tf.bfloat16
    np.testing.assert_allclose(tf.cast(rough, tf.float32), pictures.mean((1, 2)), rtol=0.005)


def test_levels_build_only_what_they_need():
    small, large = _make(SMALL, levels=(1, 2)), _make(SMALL, levels=(1, 2, 3))
    with tf.Graph().as_default():
        features = small(tf.zeros([1, 12, 8, 3]), False)  # multiples of 4 will do
        assert {key: f.shape[1:3].as_list() for key, f in features.items()} == {
            'C1': [6, 4],
            'C2': [3, 2],
        }
    with tf.Graph().as_default():
        large(tf.zeros([1, 64, 64, 3]), False)
    assert _by_name(small).keys() < _by_name(large).keys()
    assert any('/expanded_conv_1/' in name for name in _by_name(small))
    assert not any('/expanded_conv_2/' in name for name in _by_name(small))


@pytest.mark.parametrize(
    ('name', 'mean', 'std'),
    [
        ('ResNet50', (123.68, 116.779, 103.939), (1.0, 1.0, 1.0)),
        ('ResNet50V2', (127.5,) * 3, (127.5,) * 3),
        ('EfficientNetV2M', (128.0,) * 3, (128.0,) * 3),
        ('RegNetX320', (0.0,) * 3, (255.0,) * 3),
        ('EfficientNetB7', IMAGENET_MEAN, IMAGENET_STD),
    ],
)
def test_input_statistics_are_those_of_the_weights(name, mean, std):
    assert keras_applications.input_statistics(f'keras/{name}') == (mean, std)


@pytest.mark.parametrize(
    ('call', 'message'),
    [
        (lambda: _make('EfficientNetV2s'), "did you mean 'keras/EfficientNetV2S'"),
        (
            lambda: _make(SMALL, levels=(2, 6)),
            r'levels=\(2, 6\): must be some of \[1, 2, 3, 4, 5\]',
        ),
        (lambda: _make('VGG16', batch_norm_momentum=1.0), r'batch_norm_momentum=1.0: must be in'),
        (lambda: _make('VGG16', batch_norm_momentum='0.9'), "momentum='0.9': must be in"),
        (lambda: _make('VGG16')(tf.zeros([1, 16, 64, 3]), False), r'of 32; nearest: \(32, 64\)'),
        (lambda: _make('VGG16')(tf.zeros([1, 65, 64, 3]), False), r"'keras/VGG16' needs mult.* 32"),
        (lambda: keras_applications.input_statistics('resnet50'), r'must be one of keras/<Name>'),
        (lambda: keras_applications.weight_names('keras/vgg16'), "did you mean 'keras/VGG16'"),
    ],
)
def test_bad_settings_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_error_for_an_unknown_name_lists_its_family_only():
    with pytest.raises(ValueError, match="unknown backbone 'resnet51'") as error:
        nets.BACKBONES.get('resnet51')
    assert "'resnet50'" in str(error.value)
    assert 'keras/...' in str(error.value)
    assert 'keras/VGG16' not in str(error.value)
    with pytest.raises(ValueError, match="unknown backbone 'keras/VGG17'") as error:
        nets.BACKBONES.get('keras/VGG17')
    assert 'keras/ResNet50' in str(error.value)
    assert 'seresnet50' not in str(error.value)
    with pytest.raises(ValueError, match="did you mean 'keras/VGG16'"):
        nets.BACKBONES.get('kears/VGG16')


EXPERIMENT = Experiment(
    network=NetworkConfig(
        backbone=f'keras/{SMALL}',
        head='dhn',
        image_size=(64, 64),
        heatmap_size=(16, 16),
        backbone_options={'batch_norm_momentum': 0.9, 'levels': (2, 3)},
        head_options={'channels': 16},
    ),
    loss=LossConfig(sigmas=(1.5,)),
    optimizer=OptimizerConfig(name='adam', learning_rate=3e-3, weight_decay=0.0),
    schedule=ScheduleConfig(
        warmup_steps=0,
        decay_epochs=(),
        decay_factors=(1.0,),
    ),
)


def _batches(batch_size):
    return tf.data.Dataset.from_tensor_slices(skirts(4, (64, 64))).repeat().batch(batch_size)


def _estimator(model_dir, strategy=None):
    task = Task(EXPERIMENT, SCHEMA.subset('skirt'), length=Length(200, 1.0))
    config = tf.estimator.RunConfig(
        tf_random_seed=1, log_step_count_steps=None, train_distribute=strategy
    )
    return tf.estimator.Estimator(make_model_fn(task), str(model_dir), config)


def _statistics(estimator):
    names = [n for n in estimator.get_variable_names() if n.startswith('backbone/')]
    return {n: estimator.get_variable_value(n) for n in names if n.endswith('/moving_mean')}


def test_an_estimator_trains_and_evaluates_with_moving_statistics(tmp_path):
    estimator = _estimator(tmp_path)
    batches = functools.partial(_batches, 4)
    estimator.train(batches, max_steps=1)
    first = estimator.evaluate(batches, steps=1)['loss']
    estimator.train(batches, max_steps=60)
    means = _statistics(estimator)
    assert len(means) == 10
    assert all(np.any(value) for value in means.values())
    # In evaluation the moved statistics normalize.
    assert estimator.evaluate(batches, steps=1)['loss'] < first / 5


@pytest.mark.slow
def test_replicas_share_clean_variables(tmp_path):
    rerun_test(__file__, tmp_path)
    estimator = _estimator(tmp_path)
    names = estimator.get_variable_names()
    assert not [name for name in names if 'replica' in name.lower()]
    with tf.Graph().as_default():
        backbone = _make(SMALL, levels=(2, 3))
        backbone(tf.zeros([1, 64, 64, 3]), False)
    assert _by_name(backbone).keys() <= set(names)
    assert all(np.any(value) for value in _statistics(estimator).values())


def _main(model_dir: str) -> None:
    """Train two steps over two replicas."""
    cpu = tf.config.list_physical_devices('CPU')[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    strategy = tf.distribute.MirroredStrategy(
        ['CPU:0', 'CPU:1'], tf.distribute.ReductionToOneDevice()
    )
    _estimator(model_dir, strategy).train(lambda: _batches(2), max_steps=2)


if __name__ == '__main__':
    _main(*sys.argv[1:])
