"""Regimes: which networks a command trains, and what one for a category takes over from all."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

import nets
from config import (
    DataConfig,
    Experiment,
    FinetuneConfig,
    LossConfig,
    NetworkConfig,
    ScheduleConfig,
    UserError,
)
from preprocessing import training_data
from preprocessing.datasets.fashionai import SCHEMA
from tests import commands
from tests.tiny_records import write_records
from utility.checkpoints import snapshots, variables
from utility.losses.heatmap_loss import maps_per_point
from utility.train import runner, stages
from utility.train.flags import RunOptions

SIZE = 32
EXPERIMENT = Experiment(
    network=NetworkConfig('resnet18', 'dhn', (SIZE, SIZE), (8, 8), {'width': 8}, {'channels': 8}),
    data=DataConfig(batch_size=2),
    finetune=FinetuneConfig(
        epochs=3.0, learning_rate_factor=0.5, schedule=ScheduleConfig('cosine')
    ),
)


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
    splits = {'train': {'skirt': 4, 'trousers': 4, 'blouse': 4, 'dress': 0}, 'val': {'skirt': 1}}
    return write_records(tmp_path_factory.mktemp('records'), splits, SIZE)


def _trainings(data_dir, tmp_path, category):
    options = RunOptions(data_dir, str(tmp_path), category)
    categories = training_data.categories(EXPERIMENT, data_dir, category)
    return stages.trainings(EXPERIMENT, categories, options)


@pytest.mark.parametrize(
    ('category', 'names'),
    [
        ('each', ['blouse', 'skirt', 'trousers']),
        ('all', ['all']),
        ('all,skirt', ['all', 'skirt']),
        ('all_then_each', ['all', 'blouse', 'skirt', 'trousers']),
    ],
)
def test_the_networks_of_a_regime_in_their_order(data_dir, tmp_path, category, names):
    networks = _trainings(data_dir, tmp_path, category)
    assert [network.experiment.data.category for network in networks] == names
    assert [network.folder for network in networks] == [str(tmp_path / name) for name in names]
    goes_on = category == 'all_then_each'
    for network in networks:
        own = network.experiment
        if goes_on and own.data.category != 'all':
            assert network.source == str(tmp_path / 'all')
            assert (own.starts_from, own.epochs, own.schedule.name) == ('all', 3.0, 'cosine')
            assert own.optimizer.learning_rate == 0.5 * EXPERIMENT.optimizer.learning_rate
        else:
            category = own.data.category
            plain = dataclasses.replace(EXPERIMENT, finetune=FinetuneConfig())
            assert not network.source
            assert own == plain.override(f'data.category={category}')


def test_the_one_for_all_may_be_there_already_and_fine_tuned_in_another_way(data_dir, tmp_path):
    [alone] = _trainings(data_dir, tmp_path, 'all')
    [first, *_] = _trainings(data_dir, tmp_path, 'all_then_each')
    assert first == alone


@pytest.mark.parametrize(
    ('settings', 'category', 'message'),
    [
        (['data.category=skirt'], 'all', 'chosen with --category'),
        (['starts_from=all'], 'all_then_each', 'set by --category'),
        (['finetune.epochs=2'], 'each', "--category=all_then_each, not for 'each'"),
    ],
)
def test_settings_that_would_be_overruled_or_ignored_are_refused(settings, category, message):
    with pytest.raises(ValueError, match=message):
        runner._check_settings(EXPERIMENT, EXPERIMENT.override(*settings), category)
    runner._check_settings(EXPERIMENT, EXPERIMENT, category)


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (['schedule.decay_epochs=1,2'], '^schedule.decay_epochs: .* schedule.name=cosine; .*=step'),
        (
            ['finetune.schedule.flat=0.2'],
            '^finetune.schedule.flat: .*=flat_cosine, or',
        ),
        (['schedule.warmup_steps=5', 'schedule.warmup=0.1'], 'schedule.warmup_steps=5; set that'),
    ],
)
def test_a_setting_of_a_schedule_that_has_no_effect_is_refused(settings, message):
    with pytest.raises(UserError, match=message):
        runner._check_effects(Experiment().override(*settings), settings)


def test_settings_of_a_schedule_that_have_an_effect_pass():
    settings = ['schedule.name=step', 'schedule.decay_epochs=1,2', 'schedule.warmup=0.1']
    runner._check_effects(Experiment().override(*settings), settings)


def _images(size):
    pictures = np.random.default_rng(0).integers(0, 256, (2, size, size, 3))
    return tf.constant(pictures, tf.uint8)


def _network(experiment, num_keypoints):
    """Return the network, built, and its variables: name -> shape."""
    num_maps = num_keypoints * maps_per_point(experiment.loss)
    network = nets.build_network(experiment.network, num_maps)
    network(_images(experiment.network.image_size[0]), False)
    return network, {variables.variable_name(v): tuple(v.shape) for v in network.variables}


# Those whose heat maps go back into the network, and one of the others.
HEADS = {
    'aifashion': {},
    'cpn_17th_place': {},
    'dhn': {'channels': 16},
    'hourglass': {'channels': 16, 'stacks': 2, 'depth': 2},
}


@pytest.mark.parametrize('head', sorted(HEADS))
def test_what_is_handed_on_fits_the_network_of_a_category(head):
    size, cells = (64, 64), (16, 16)
    config = NetworkConfig('resnet18', head, size, cells, {'width': 8}, HEADS[head])
    experiment = dataclasses.replace(EXPERIMENT, network=config).override('data.category=skirt')
    with tf.Graph().as_default():
        _, shapes = _network(experiment, SCHEMA.num_keypoints)
    with tf.Graph().as_default():
        _, needed = _network(experiment, 4)
    tensors = {name: np.zeros(shape) for name, shape in shapes.items()}
    given = {
        name: t.shape for name, t in stages.transfer_head_channels(tensors, experiment).items()
    }
    assert given == needed
    fresh = stages.transfer_head_channels(
        tensors, experiment.override('finetune.heatmap_layers=fresh')
    )
    assert {n for n in needed if not n.startswith('head/heatmaps')} == fresh.keys()


@pytest.mark.parametrize('kind', ['mse', 'offset'])
def test_a_network_that_takes_over_predicts_what_the_one_for_all_does(kind):
    experiment = dataclasses.replace(EXPERIMENT, loss=LossConfig(kind=kind))
    experiment = experiment.override('data.category=trousers')
    own = SCHEMA.indices('trousers')
    source, target = (
        _network(experiment, number)[0] for number in (SCHEMA.num_keypoints, len(own))
    )
    bias = source.head.heatmaps.bias
    bias.assign(tf.range(bias.shape[0], dtype=tf.float32))
    tensors = {variables.variable_name(v): v.numpy() for v in source.variables}
    given = stages.transfer_head_channels(tensors, experiment)
    for variable in target.variables:
        variable.assign(given[variables.variable_name(variable)])
    of_all, of_own = (network(_images(SIZE), False)[-1] for network in (source, target))
    num_maps = maps_per_point(experiment.loss)
    channels = [m * SCHEMA.num_keypoints + k for m in range(num_maps) for k in own]
    np.testing.assert_allclose(of_own, tf.gather(of_all, channels, axis=-1), atol=1e-5)


def test_a_network_starts_from_the_best_checkpoint_of_the_one_for_all(data_dir, tmp_path):
    [first, blouse, *_] = _trainings(data_dir, tmp_path, 'all_then_each')
    with pytest.raises(ValueError, match="no checkpoint at '.*all'"):
        contextlib.ExitStack().enter_context(stages.starting_weights(blouse, None))
    source, _ = _network(first.experiment, SCHEMA.num_keypoints)
    tensors = {variables.variable_name(v): v.numpy() for v in source.variables}
    snapshots.replace(os.path.join(first.folder, snapshots.BEST), 7, tensors)
    with stages.starting_weights(blouse, None) as weights:
        assert weights.path == os.path.join(first.folder, 'best', 'model.ckpt-7')
        assert weights.shapes['head/heatmaps/bias'] == (13,)
        assert variables.own_weights(weights.checkpoint).shapes == weights.shapes
    assert not os.path.exists(weights.checkpoint + '.index')
    given = object()
    with stages.starting_weights(first, given) as weights:
        assert weights is given


SCRIPT = 'train_resnet18_dhn.py'


def _arguments(data_dir, model_dir):
    settings = (
        f'network.image_size={SIZE},{SIZE}', 'network.heatmap_size=8,8',
        'network.backbone_options.width=8', 'network.head_options.channels=8',
        'data.batch_size=2', 'epochs=1', 'finetune.epochs=2', 'epochs_per_eval=1',
    )  # fmt: skip
    paths = [f'--data_dir={data_dir}', f'--model_dir={model_dir}', '--category=all_then_each']
    return [*paths, '--log_every=1', '--save_every=1', *(f'--set={one}' for one in settings)]


@pytest.mark.slow
def test_killed_in_the_third_network_it_goes_on_there(data_dir, tmp_path):
    whole, killed = (_arguments(data_dir, tmp_path / name) for name in ('whole', 'killed'))
    done = commands.run(SCRIPT, *whole)
    assert done.returncode == 0, done.stderr
    process = subprocess.Popen(
        [sys.executable, SCRIPT, *killed], cwd=commands.ROOT, stderr=subprocess.PIPE, text=True
    )
    in_third = False
    for line in process.stderr:
        in_third |= f'{os.sep}skirt: ' in line
        if in_third and ' step 3/4 ' in line:
            process.kill()
            break
    process.communicate()
    assert not any((tmp_path / 'killed' / 'trousers').glob('*'))
    again = commands.run(SCRIPT, *killed)
    assert again.returncode == 0, again.stderr
    assert again.stderr.count('trained already') == 2  # all and blouse
    assert again.stderr.count('start from ') == 1  # trousers
    for name in ('all', 'blouse', 'skirt', 'trousers'):
        one, other = (
            snapshots.read_weights(variables.resolve(str(tmp_path / run / name)))
            for run in ('whole', 'killed')
        )
        assert one.keys() == other.keys()
        for tensor in one:
            np.testing.assert_allclose(other[tensor], one[tensor], rtol=1e-4, atol=1e-6)
