"""Starting from weights of other projects: what is adopted, loaded, reported and refused."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import pathlib
import sys

import numpy as np
import pytest
import safetensors.numpy
import tensorflow as tf

import nets
from config import DataConfig, Experiment, NetworkConfig
from tests.commands import call, check_mistake, rerun_test, run
from tests.tiny_checkpoints import write_checkpoint
from tests.tiny_records import write_records
from tests.utility.pretrained.test_origins import lite0, official_resnet, torchvision_resnet18
from utility.checkpoints import snapshots
from utility.pretrained import __main__ as pretrained_command
from utility.pretrained import loading, published, warm_start
from utility.train import runner
from utility.train.flags import RunOptions

WIDTH, SIZE = 8, 32
NETWORK = NetworkConfig('resnet18', 'dhn', (SIZE, SIZE), (8, 8), {'width': WIDTH}, {'channels': 8})
EXPERIMENT = Experiment(network=NETWORK, data=DataConfig(batch_size=2), epochs=1, epochs_per_eval=1)
CAFFE_MEAN = (123.68, 116.779, 103.939)


def _random(shapes, seed=0):
    generator = np.random.default_rng(seed)
    return {n: generator.random(shape).astype(np.float32) for n, shape in shapes.items()}


def _save_safetensors(path, shapes, seed=0):
    values = _random(shapes, seed)
    safetensors.numpy.save_file(values, str(path))
    return str(path), values


@pytest.fixture
def thin_resnet18(tmp_path):
    """A file as of torchvision's resnet18, of WIDTH."""
    return _save_safetensors(tmp_path / 'resnet18.safetensors', torchvision_resnet18(WIDTH))


def _variables(network=NETWORK, num_keypoints=4):
    with tf.Graph().as_default():
        built = nets.build_network(network, num_keypoints)
        built(tf.zeros([1, *network.image_size, 3]), False)
        return list(built.variables)


def test_a_converted_file_holds_every_variable_of_the_backbone(thin_resnet18):
    path, values = thin_resnet18
    with warm_start.as_checkpoint(path, 'resnet18') as weights:
        report = warm_start.plan(weights, _variables())
        reader = tf.train.load_checkpoint(weights.checkpoint)
        kernel = reader.get_tensor('backbone/stage2/block1/shortcut/kernel')
        variance = reader.get_tensor('backbone/stage2/block1/shortcut/norm/moving_variance')
        folder = os.path.dirname(weights.checkpoint)
    assert not os.path.exists(folder)
    assert report.backbone_coverage == 1 and report.fills_backbone
    assert report.unexpected == ()
    assert len(report.restored) == 100  # 20 convolutions and their batch norms
    assert {name.split('/')[0] for name in report.missing} == {'head'}
    expected = values['layer2.0.downsample.0.weight'].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(kernel, expected)
    np.testing.assert_array_equal(variance, values['layer2.0.downsample.1.running_var'])


def test_weights_of_a_similar_backbone_are_told_by_name(tmp_path):
    shapes = torchvision_resnet18()
    shapes = {n: s for n, s in shapes.items() if not n.startswith('fc.')}
    values = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    safetensors.numpy.save_file(values, str(tmp_path / 'x'))
    weights = loading.describe(str(tmp_path / 'x'))
    network = dataclasses.replace(NETWORK, backbone='resnet34', backbone_options={})
    message = r'missing: backbone/stage1/block3/conv1/kernel, .* more\. These look like resnet18\.'
    with pytest.raises(ValueError, match=message + ' Pass --allow_partial_init'):
        warm_start.plan(weights, _variables(network), backbone='resnet34')
    report = warm_start.plan(weights, _variables(network), allow_partial=True)
    assert 0.5 < report.backbone_coverage < 0.6


def test_a_deeper_network_of_the_same_family_is_refused_although_it_has_all(tmp_path):
    shapes = torchvision_resnet18(WIDTH)
    block = {n.replace('.1.', '.2.'): s for n, s in shapes.items() if n.startswith('layer3.1.')}
    path, _ = _save_safetensors(tmp_path / 'x', {**shapes, **block})
    message = 'no place for: backbone/stage3/block3/conv1/kernel'
    with pytest.raises(ValueError, match=f'100.0 % of those of the backbone; {message}'):
        warm_start.plan(loading.describe(path), _variables())


def test_tensors_that_nobody_knows_are_refused(tmp_path):
    attention = {'layer1.0.se.conv.weight': (1, 1, 3)}
    path, _ = _save_safetensors(tmp_path / 'x', {**torchvision_resnet18(WIDTH), **attention})
    with pytest.raises(ValueError, match='no place for: layer1.0.se.conv.weight'):
        warm_start.plan(loading.describe(path), _variables())


def test_shuffled_weights_are_refused(tmp_path):
    shapes = torchvision_resnet18(WIDTH)
    names, generator = list(shapes), np.random.default_rng(0)
    shuffled = dict(zip(names, generator.permutation(np.array([*shapes.values()], object))))
    path, _ = _save_safetensors(tmp_path / 'x', shuffled)
    with warm_start.as_checkpoint(path, 'resnet18') as weights:
        variables = _variables()
        with pytest.raises(ValueError, match='of another shape: backbone/'):
            warm_start.plan(weights, variables)


def test_truncated_weights_are_refused(thin_resnet18):
    path = pathlib.Path(thin_resnet18[0])
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match='resnet18.safetensors'):
        warm_start.match_pretrained_settings(NETWORK, str(path))


def test_nothing_in_common_is_always_an_error(tmp_path):
    path, _ = _save_safetensors(tmp_path / 'x', torchvision_resnet18(16))
    network = dataclasses.replace(NETWORK, backbone_options={'width': 12})
    with pytest.raises(ValueError, match='nothing of .* fits this network. These look like ResNet'):
        warm_start.plan(loading.describe(path), _variables(network), allow_partial=True)


def test_the_official_resnet_loads_from_its_checkpoint(tmp_path):
    values = _random(official_resnet())
    path = write_checkpoint(tmp_path / 'model.ckpt-225207', values)
    network = warm_start.match_pretrained_settings(NetworkConfig('resnet50'), path)
    assert (network.mean, network.std) == ((123.68, 116.78, 103.94), (1.0, 1.0, 1.0))
    assert network.backbone_options == {'ceil_pool': True}
    with warm_start.as_checkpoint(path, 'resnet50') as weights:
        variables = warm_start.backbone_variables(network)
        assert warm_start.plan(weights, variables).unexpected == ()
        reader = tf.train.load_checkpoint(weights.checkpoint)
        np.testing.assert_array_equal(
            reader.get_tensor('backbone/stage1/block3/conv3/kernel'),
            values['resnet_model/conv2d_10/kernel'],
        )
        # DetNet's first three stages are those of ResNet.
        report = warm_start.plan(
            weights, warm_start.backbone_variables(NetworkConfig('detnet59')), allow_partial=True
        )
    assert {name.split('/')[1] for name in report.restored} == {
        'conv1', 'stage1', 'stage2', 'stage3'
    }  # fmt: skip


@pytest.fixture(scope='module')
def keras_resnet50(tmp_path_factory):
    """A file of tf.keras.applications.ResNet50, a picture, and its feature maps in Keras."""
    folder = tmp_path_factory.mktemp('keras')
    inputs = tf.keras.applications.ResNet50(
        weights=None, include_top=False, input_shape=(64, 96, 3), classes=None
    )
    generator = np.random.default_rng(0)
    for layer in inputs.layers:
        values = layer.get_weights()
        if values:  # biases, and all of a batch norm, of no special value
            first, *rest = values
            kept = [first] if first.ndim > 1 else [generator.uniform(0.5, 1.5, first.shape)]
            layer.set_weights(kept + [generator.uniform(0.5, 1.5, v.shape) for v in rest])
    path = str(folder / 'resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5')
    inputs.save_weights(path)
    picture = generator.uniform(0, 255, (1, 64, 96, 3)).astype(np.float32)
    ends = ('conv1_relu', 'conv2_block3_out', 'conv3_block4_out', 'conv4_block6_out')
    outputs = [inputs.get_layer(name).output for name in (*ends, 'conv5_block3_out')]
    model = tf.keras.Model(inputs.input, outputs)
    standardised = tf.keras.applications.resnet.preprocess_input(picture.copy())
    features = {f'C{n}': f.numpy() for n, f in enumerate(model(standardised, training=False), 1)}
    return path, picture, features


@pytest.mark.parametrize('backbone', ['resnet50', 'keras/ResNet50'])
def test_every_feature_map_of_keras_resnet50_is_that_of_keras(keras_resnet50, backbone):
    path, picture, expected = keras_resnet50
    network = NetworkConfig(backbone, backbone_options={'levels': (1, 2, 3, 4, 5)})
    network = warm_start.match_pretrained_settings(network, path)
    assert (network.mean, network.std) == (CAFFE_MEAN, (1.0, 1.0, 1.0))
    built = nets.BACKBONES.get(backbone)(**network.backbone_options)
    images = (picture - np.float32(network.mean)) / np.float32(network.std)
    built(images, False)
    with warm_start.as_checkpoint(path, backbone) as weights:
        assert warm_start.plan(weights, built.variables).coverage == 1
        reader = tf.train.load_checkpoint(weights.checkpoint)
        for variable in built.variables:
            variable.assign(reader.get_tensor(variable.name.split(':')[0]))
    for key, feature in built(images, False).items():
        limit = 1e-4 * np.abs(expected[key]).max()
        np.testing.assert_allclose(feature, expected[key], rtol=0, atol=limit, err_msg=key)


def test_what_the_weights_need_is_adopted(thin_resnet18, keras_resnet50, caplog):
    caplog.set_level('INFO', logger='absl')
    assert warm_start.match_pretrained_settings(NETWORK, thin_resnet18[0]) == NETWORK
    network = warm_start.match_pretrained_settings(NetworkConfig('resnet50'), keras_resnet50[0])
    expected = {'mean': CAFFE_MEAN, 'std': (1.0,) * 3, 'backbone_options': {'stride_1x1': True}}
    assert network == dataclasses.replace(NetworkConfig('resnet50'), **expected)
    logged = [r.getMessage() for r in caplog.records if 'needs it' in r.getMessage()]
    assert [line.split('=')[0] for line in logged] == [
        'network.mean', 'network.std', 'network.backbone_options.stride_1x1'
    ]  # fmt: skip
    assert warm_start.match_pretrained_settings(network, keras_resnet50[0]) == network


@pytest.mark.parametrize(
    ('change', 'named'),
    [
        ({'mean': (0.0, 0.0, 0.0)}, r'network.mean: \(0.0, 0.0, 0.0\) / \(123.68, 116.779'),
        ({'std': (2.0, 2.0, 2.0)}, r'network.std: \(2.0, 2.0, 2.0\) / \(1.0'),
        (
            {'backbone_options': {'stride_1x1': False}},
            'network.backbone_options.stride_1x1: False / True',
        ),
    ],
)
def test_other_settings_than_the_weights_need_are_refused(keras_resnet50, change, named):
    network = dataclasses.replace(NetworkConfig('resnet50'), **change)
    with pytest.raises(ValueError, match=f'resnet50_weights.*{named}.*Pass --allow_partial_init'):
        warm_start.match_pretrained_settings(network, keras_resnet50[0])
    kept = warm_start.match_pretrained_settings(network, keras_resnet50[0], allow_partial=True)
    assert all(getattr(kept, key) == value for key, value in change.items() if key != 'std')


@pytest.mark.parametrize('nested', [False, True])
def test_mean_and_std_beside_a_file_of_timm_are_adopted(thin_resnet18, nested):
    config = pathlib.Path(thin_resnet18[0]).with_name('config.json')
    values = {'mean': [0.5, 0.5, 0.5], 'std': [0.5, 0.5, 0.25]}
    config.write_text(json.dumps({'pretrained_cfg': values} if nested else values))
    network = warm_start.match_pretrained_settings(NETWORK, thin_resnet18[0])
    assert (network.mean, network.std) == ((127.5,) * 3, (127.5, 127.5, 63.75))
    config.write_text('{"mean": "of something else"}')
    assert warm_start.match_pretrained_settings(NETWORK, thin_resnet18[0]) == NETWORK
    for broken in ('{', '[' * 100_000, ' ' * (1 << 20) + '{}'):
        config.write_text(broken)
        with pytest.raises(ValueError, match='config.json'):
            warm_start.match_pretrained_settings(NETWORK, thin_resnet18[0])


def test_what_timm_calls_by_the_same_names_but_pads_otherwise_is_refused(tmp_path):
    path, _ = _save_safetensors(tmp_path / 'model.safetensors', lite0('timm'))
    network = warm_start.match_pretrained_settings(NetworkConfig('efficientnet_lite0'), path)
    assert (network.mean, network.std) == ((127.0,) * 3, (128.0,) * 3)
    halves = {'mean': [0.5, 0.5, 0.5], 'std': [0.5, 0.5, 0.5]}
    config = {'architecture': 'tf_efficientnet_lite0', 'pretrained_cfg': halves}
    (tmp_path / 'config.json').write_text(json.dumps(config))
    network = warm_start.match_pretrained_settings(NetworkConfig('efficientnet_lite0'), path)
    assert (network.mean, network.std) == ((127.5,) * 3, (127.5,) * 3)
    (tmp_path / 'config.json').write_text('{"architecture": "efficientnet_lite0"}')
    with pytest.raises(ValueError, match="efficientnet_lite0'.* pads .* take 'tf_efficientnet_li"):
        warm_start.match_pretrained_settings(NetworkConfig('efficientnet_lite0'), path)


@pytest.fixture
def own_run(tmp_path):
    """The folder of a network of this project, with another standardization and padding."""
    folder = tmp_path / 'run'
    folder.mkdir()
    network = dataclasses.replace(
        NETWORK, mean=(1.0, 2.0, 3.0), backbone_options={'width': WIDTH, 'ceil_pool': True}
    )
    values = {v.name.split(':')[0]: np.zeros(v.shape, np.float32) for v in _variables(network)}
    write_checkpoint(folder / 'model.ckpt-1', values)
    (folder / 'checkpoint').write_text('model_checkpoint_path: "model.ckpt-1"\n')
    experiment = dataclasses.replace(EXPERIMENT, network=network)
    (folder / 'experiment.json').write_text(experiment.to_json())
    return folder, network


def test_a_run_of_this_project_hands_on_its_network(own_run):
    folder, saved = own_run
    snapshots.replace(str(folder / 'best'), 1, snapshots.read_weights(str(folder / 'model.ckpt-1')))
    for path in (folder, folder / 'model.ckpt-1', folder / 'best'):
        bare = dataclasses.replace(NETWORK, backbone_options={})
        network = warm_start.match_pretrained_settings(bare, str(path))
        assert (network.mean, network.backbone_options) == (saved.mean, saved.backbone_options)
        # What a head and a size are is the experiment's.
        assert dataclasses.replace(
            saved, head='cpn', head_options={}
        ) == warm_start.match_pretrained_settings(
            dataclasses.replace(bare, head='cpn', head_options={}), str(path)
        )
    other = dataclasses.replace(NETWORK, backbone='resnet34', backbone_options={'levels': [2, 3]})
    with pytest.raises(ValueError, match='network.backbone: resnet34 / resnet18'):
        warm_start.match_pretrained_settings(other, str(folder))


def test_a_checkpoint_without_its_experiment_is_taken_as_it_is(own_run, caplog):
    folder, _ = own_run
    (folder / 'experiment.json').unlink()
    assert warm_start.match_pretrained_settings(NETWORK, str(folder)) == NETWORK
    assert 'no experiment.json' in caplog.text


@pytest.mark.parametrize(
    ('changes', 'level', 'first'),
    [
        ({'heatmap_size': (16, 16)}, 'WARNING', 'head/deconv4/kernel'),
        ({'head': 'cpn', 'head_options': {'channels': 16}}, 'INFO', 'head/'),
        ({}, None, None),
    ],
)
def test_what_the_head_starts_without_is_told(own_run, caplog, changes, level, first):
    caplog.set_level('INFO', logger='absl')
    folder, saved = own_run
    network = dataclasses.replace(saved, **changes)
    report = warm_start.plan(loading.describe(str(folder)), _variables(network))
    assert report.fills_backbone
    warm_start.log_start(report, network.head)
    told = [r for r in caplog.records if 'of the head start afresh' in r.getMessage()]
    assert [line.levelname for line in told] == ([level] if level else [])
    assert all(f'afresh: {first}' in line.getMessage() for line in told)


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
    splits = {'train': {'skirt': 2, 'dress': 2}}
    return write_records(tmp_path_factory.mktemp('records'), splits, SIZE)


def test_a_training_starts_from_the_file_and_resumes_without_it(data_dir, tmp_path):
    path, values = _save_safetensors(tmp_path / 'x.safetensors', torchvision_resnet18(WIDTH))
    (tmp_path / 'config.json').write_text('{"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}')
    options = RunOptions(data_dir, str(tmp_path / 'run'), 'skirt', init_checkpoint=path)
    runner.train(EXPERIMENT, options)
    folder = tmp_path / 'run' / 'skirt'
    saved = Experiment.from_json((folder / 'experiment.json').read_text())
    assert saved.network == dataclasses.replace(NETWORK, mean=(127.5,) * 3, std=(127.5,) * 3)
    first = tf.train.load_checkpoint(str(folder / 'model.ckpt-0'))
    for variable, tensor in (
        ('backbone/conv1/norm/moving_mean', values['bn1.running_mean']),
        ('backbone/stage4/block2/conv2/norm/gamma', values['layer4.1.bn2.weight']),
        ('backbone/conv1/kernel', values['conv1.weight'].transpose(2, 3, 1, 0)),
    ):
        np.testing.assert_array_equal(first.get_tensor(variable), tensor)
    os.remove(path)
    again = dataclasses.replace(EXPERIMENT, seed=2)
    with pytest.raises(ValueError, match='seed: 2 / '):
        runner.train(again, options)
    runner.train(EXPERIMENT, options)
    with pytest.raises(ValueError, match=r'no checkpoint at|x\.safetensors'):
        runner.train(EXPERIMENT, dataclasses.replace(options, category='skirt,dress'))
    assert not (tmp_path / 'run' / 'dress').exists()


def _train_mirrored(data_dir: str, model_dir: str, path: str) -> None:
    devices = [tf.config.LogicalDeviceConfiguration()] * 2
    cpu = tf.config.list_physical_devices('CPU')[0]
    tf.config.set_logical_device_configuration(cpu, devices)
    runner.train(EXPERIMENT, RunOptions(data_dir, model_dir, 'skirt', path, strategy='mirrored'))


@pytest.mark.slow
def test_a_mirrored_training_starts_from_the_file(data_dir, tmp_path, thin_resnet18):
    path, values = thin_resnet18
    rerun_test(__file__, data_dir, tmp_path / 'run', path)
    first = tf.train.load_checkpoint(str(tmp_path / 'run' / 'skirt' / 'model.ckpt-0'))
    mean = first.get_tensor('backbone/conv1/norm/moving_mean')
    np.testing.assert_array_equal(mean, values['bn1.running_mean'])
    assert not [name for name in first.get_variable_to_shape_map() if 'replica' in name]


def test_the_list_has_every_backbone_and_only_known_ones():
    lines = list(pretrained_command._listing())
    backbones = {line[:-1] for line in lines if line.endswith(':') and ' ' not in line}
    registered = {name for name in nets.BACKBONES.names() if not name.startswith('keras/')}
    assert backbones >= registered
    known = {file.backbone for file in published.FILES}
    assert known <= registered
    advised = {n for n in registered for word in published.ADVICE if n.startswith(word)}
    assert known.isdisjoint(advised)
    assert registered == known | advised
    text = '\n'.join(lines)
    for name in (
        'https://download.pytorch.org/models/resnet50-11ad3fa6.pth',
        'se_resnext50_32x4d-a260b3a4.pth',
        'timm/hrnet_w48.ms_in1k',
        'resnet152_weights_tf_dim_ordering_tf_kernels_notop.h5',
        'resnet_imagenet_v1_fp32_20181001.tar.gz',
    ):
        assert name in text


def _shown(*arguments):
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        pretrained_command._show(*arguments)
    return printed.getvalue()


def test_a_file_is_reported_without_training(tmp_path):
    path, _ = _save_safetensors(tmp_path / 'x', torchvision_resnet18())
    shown = _shown(path, 'resnet18', False)
    assert '100 tensors restored, 0 missing, 0 of another shape, 0 not used' in shown
    assert 'mean (123.675, 116.28, 103.53), std (58.395, 57.12, 57.375), options {}' in shown
    shown = _shown(path, '', False)
    assert 'ResNet of torchvision or timm (PyTorch), 100 tensors' in shown
    assert 'fills the backbones: resnet18\n' in shown


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ([], 'give one of --list, --get=NAME and a file of weights'),
        (['--list', 'x'], 'give one of --list, --get=NAME and a file of weights'),
        (['--get=efficientnet_lite0', 'x'], 'give one of --list, --get=NAME and a file of weights'),
        (['x', 'y'], 'give one of --list, --get=NAME and a file of weights'),
        (['--list', '--backbone=resnet18'], '--backbone is for a file of weights'),
        (['x', '--allow_partial_init'], '--allow_partial_init needs --backbone'),
    ],
)
def test_flags_that_would_be_ignored_are_refused(arguments, message):
    check_mistake(run('-m', 'utility.pretrained', *arguments), message)


def test_weights_of_another_backbone_are_one_line(keras_resnet50):
    done = call('-m', 'utility.pretrained', keras_resnet50[0], '--backbone=resnet18')
    assert done.returncode == 2
    [line] = [line for line in done.stderr.splitlines() if 'needs it' not in line]
    assert line.startswith('error: ') and 'These look like resnet50.' in line


if __name__ == '__main__':
    _train_mirrored(*sys.argv[1:])
