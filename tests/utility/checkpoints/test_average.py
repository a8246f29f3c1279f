"""Means of a run's checkpoints: which are averaged, to what, and with whose statistics."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest
import tensorflow as tf

from config import DataConfig, Experiment, NetworkConfig
from nets import build_network
from preprocessing import training_data
from preprocessing.datasets.fashionai import SCHEMA
from tests.tiny_checkpoints import write_checkpoint
from tests.tiny_records import write_records
from utility.checkpoints import average, evaluations, snapshots
from utility.checkpoints.choice import CheckpointChoice, choose
from utility.checkpoints.variables import variable_name

SIZE = 32
OPS = f'letterbox({SIZE},{SIZE})|warp'
EXPERIMENT = Experiment(
    network=NetworkConfig('resnet18', 'dhn', (SIZE, SIZE), (8, 8), {'width': 4}, {'channels': 4}),
    data=DataConfig(category='skirt', train_ops=OPS, eval_ops=OPS, batch_size=4),
).override('averaging.statistics_batches=3')


def _save(folder, step, value):
    values = {
        'backbone/kernel': np.full([2], value, np.float32),
        'backbone/kernel/Momentum': np.full([2], 100.0, np.float32),
        'backbone/norm/moving_mean': np.full([1], -value, np.float32),
        'global_step': np.int64(step),
    }
    write_checkpoint(folder / f'model.ckpt-{step}', values)


@pytest.fixture
def folder(tmp_path):
    for step, value in ((0, 50.0), (1, 1.0), (2, 2.0), (10, 6.0)):
        _save(tmp_path, step, value)
    for step, error in ((1, 0.2), (2, np.nan), (5, 0.1), (10, 0.3)):
        evaluations.keep(str(tmp_path), step, {'normalized_error': error})
    return tmp_path


def _tensors(prefix):
    reader = tf.train.load_checkpoint(prefix)
    return {name: reader.get_tensor(name).tolist() for name in reader.get_variable_to_shape_map()}


def test_the_mean_of_the_last_checkpoints(folder, tmp_path_factory, caplog):
    scratch = tmp_path_factory.mktemp('scratch')
    prefix = choose(str(folder), CheckpointChoice(average_last=3), str(scratch))
    expected = {'backbone/kernel': [3, 3], 'backbone/norm/moving_mean': [-3], 'global_step': 10}
    assert _tensors(prefix) == expected
    assert 'no training records were given, so batch-norm statistics are averaged only' in (
        caplog.text
    )
    assert scratch in pathlib.Path(prefix).parents


def test_the_mean_of_the_best_checkpoints_that_are_kept(folder, tmp_path_factory):
    scratch = str(tmp_path_factory.mktemp('scratch'))
    prefix = choose(str(folder), CheckpointChoice(average_best=2), scratch)
    assert _tensors(prefix)['backbone/kernel'] == [3.5, 3.5]
    # Where averaged weights were evaluated, the checkpoints have the error of the last ones.
    evaluations.keep(str(folder), 2, {'normalized_error': 0.9, 'last_normalized_error': 0.1})
    best = average.best_checkpoints(str(folder), 2)
    assert [snapshots.step_of(prefix) for prefix in best] == [2, 1]


@pytest.mark.parametrize(
    ('choice', 'message'),
    [({'average_last': 4}, 'has 3 checkpoints, not 4'), ({'average_best': 3}, 'has 2 evaluated')],
)
def test_too_few_checkpoints_are_told(folder, choice, message):
    with pytest.raises(ValueError, match=f'{message}.*--keep_checkpoints'):
        choose(str(folder), CheckpointChoice(**choice), str(folder))


def test_checkpoints_of_two_networks_have_no_mean(folder, tmp_path):
    other = write_checkpoint(tmp_path / 'other-1', {'backbone/kernel': np.zeros([3], np.float32)})
    with pytest.raises(ValueError, match='is of another network than'):
        average.mean_weights([str(folder / 'model.ckpt-1'), other])


@pytest.mark.parametrize(
    'wrong',
    [
        {'average_last': -1},
        {'average_last': 2, 'average_best': 2},
        {'which': 'last', 'average_best': 2},
    ],
)
def test_choices_that_contradict_each_other_are_refused(wrong):
    with pytest.raises(ValueError, match='average_'):
        CheckpointChoice(**wrong)


def _random_weights(seed):
    """Of the experiment's network; statistics are those of a network that was never trained."""
    rng = np.random.default_rng(seed)
    with tf.Graph().as_default():
        network = build_network(EXPERIMENT.network, SCHEMA.subset('skirt').num_keypoints)
        network(np.zeros([1, SIZE, SIZE, 3], np.uint8), False)
        shapes = {variable_name(v): v.shape.as_list() for v in network.variables}
    constants = {'moving_mean': np.zeros, 'moving_variance': np.ones}
    return {
        name: constants.get(name.rpartition('/')[2], lambda shape: rng.normal(0.0, 0.4, shape))(
            shape
        ).astype(np.float32)
        for name, shape in shapes.items()
    }


def _exact_mean(batches, kernel):
    """Of what the first batch norm is given, over all pictures."""
    network = EXPERIMENT.network
    standard = (np.concatenate(batches) - np.array(network.mean)) / np.array(network.std)
    padded = np.pad(standard, ((0, 0), (3, 3), (3, 3), (0, 0)))
    return tf.nn.conv2d(padded, kernel.astype(np.float64), 2, 'VALID').numpy().mean(axis=(0, 1, 2))


def test_averaged_weights_need_statistics_of_their_own(tmp_path, caplog):
    records_dir = write_records(tmp_path / 'records', {'train': {'skirt': 12}}, SIZE)
    run = tmp_path / 'run'
    run.mkdir()
    (run / 'experiment.json').write_text(EXPERIMENT.to_json())
    input_fn = training_data.input_fn(EXPERIMENT, SCHEMA.subset('skirt'), records_dir, 0)
    batches = [features['image'] for features, _ in input_fn().take(3).as_numpy_iterator()]
    for step in (1, 2):
        write_checkpoint(run / f'model.ckpt-{step}', _random_weights(step))
    averaged_only = choose(str(run), CheckpointChoice(average_last=2), str(tmp_path))
    choice = CheckpointChoice(average_last=2, data_dir=records_dir)
    refreshed = choose(str(run), choice, str(tmp_path))
    assert 'statistics are averaged only' in caplog.text
    averaged_only, refreshed = map(snapshots.read_weights, (averaged_only, refreshed))
    kernel, statistic = 'backbone/conv1/kernel', 'backbone/conv1/norm/moving_mean'
    np.testing.assert_array_equal(refreshed[kernel], averaged_only[kernel])
    exact = _exact_mean(batches, refreshed[kernel])
    np.testing.assert_allclose(refreshed[statistic], exact, rtol=1e-5, atol=1e-5)
    assert np.abs(averaged_only[statistic] - exact).max() > 0.1
