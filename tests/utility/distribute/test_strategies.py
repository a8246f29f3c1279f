"""Training over two replicas of one machine is the training of one with the double batch.

Batch norm sees the batch of its replica only. Therefore all pictures are equal here: then the
statistics, and with them the gradients, are those of any batch.
"""

from __future__ import annotations

import json
import pathlib
import sys

import numpy as np
import pytest
import tensorflow as tf
from absl import logging

from config import (
    DataConfig,
    Experiment,
    LossConfig,
    NetworkConfig,
    OptimizerConfig,
    ScheduleConfig,
)
from preprocessing import training_data
from preprocessing.datasets.fashionai import SCHEMA
from tests.commands import rerun_test
from tests.tiny_records import write_records
from utility.distribute import strategies
from utility.train import runner
from utility.train.flags import RunOptions

pytestmark = pytest.mark.slow

REPLICAS = 2
PICTURES = 8
SIZE = 64
OPS = f'letterbox({SIZE},{SIZE})|warp'


def _experiment(batch_size: int) -> Experiment:
    return Experiment(
        network=NetworkConfig(
            backbone='resnet18',
            head='dhn',
            image_size=(SIZE, SIZE),
            heatmap_size=(16, 16),
            backbone_options={'width': 8},
            head_options={'channels': 16},
        ),
        data=DataConfig(train_ops=OPS, eval_ops=OPS, batch_size=batch_size),
        loss=LossConfig(target_scale=10.0),
        optimizer=OptimizerConfig(learning_rate=0.1),
        schedule=ScheduleConfig(warmup_steps=0, decay_epochs=(), decay_factors=(1.0,)),
        epochs=3.0,
    )


def _run(
    folder: pathlib.Path, name: str, strategy: str, batch_size: int, augment_on: str = 'host'
) -> str:
    """Train folder/name, or prints the ids of a batch, in a process with two devices."""
    arguments = [folder / 'records', folder / name, strategy, batch_size, augment_on]
    return rerun_test(__file__, *arguments)


def _weights(folder: pathlib.Path, name: str, step: int) -> dict[str, np.ndarray]:
    reader = tf.train.load_checkpoint(str(folder / name / 'skirt' / f'model.ckpt-{step}'))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('mirrored')
    write_records(folder / 'records', {'train': {'skirt': PICTURES}}, SIZE, identical=True)
    _run(folder, 'mirrored', 'mirrored', PICTURES // REPLICAS)
    _run(folder, 'single', 'none', PICTURES)
    return folder


def test_weights_move_as_on_one_device_with_the_double_batch(folder):
    first = _weights(folder, 'mirrored', 0)
    for name, value in _weights(folder, 'single', 0).items():
        np.testing.assert_array_equal(first[name], value, name)
    for step in (1, 3):
        mirrored, single = (_weights(folder, name, step) for name in ('mirrored', 'single'))
        assert mirrored.keys() == single.keys() == first.keys()
        for name in (name for name in first if name.endswith(('kernel', 'moving_mean'))):
            moves = [weights[name] - first[name] for weights in (mirrored, single)]
            assert np.linalg.norm(moves[1]) > 0, name
            assert np.linalg.norm(moves[0] - moves[1]) < 0.05 * np.linalg.norm(moves[1]), name


def test_replicas_make_the_pictures_that_the_host_would_make(folder):
    _run(folder, 'device', 'mirrored', PICTURES // REPLICAS, 'device')
    first = _weights(folder, 'device', 0)
    host, device = (_weights(folder, name, 3) for name in ('mirrored', 'device'))
    for name in (name for name in first if name.endswith(('kernel', 'moving_mean'))):
        moves = [weights[name] - first[name] for weights in (host, device)]
        assert np.linalg.norm(moves[0] - moves[1]) < 0.05 * np.linalg.norm(moves[0]), name


def test_checkpoints_name_no_replica(folder):
    assert not [name for name in _weights(folder, 'mirrored', 3) if 'replica' in name.lower()]


def test_a_mirrored_training_is_resumed_without_a_strategy(folder):
    _run(folder, 'mirrored', 'none', PICTURES // REPLICAS)  # half the batch, twice the steps
    assert _weights(folder, 'mirrored', 6)['global_step'] == 6


def test_replicas_share_the_pictures_of_a_batch(folder):
    printed = _run(folder, 'ids', 'mirrored', PICTURES // REPLICAS)
    features, _ = next(iter(_input_fn(folder / 'records', PICTURES)()))
    assert json.loads(printed) == [i.decode() for i in features['image_id'].numpy()]


def _input_fn(records_dir, batch_size):
    return training_data.input_fn(
        _experiment(batch_size), SCHEMA.subset('skirt'), str(records_dir), 0
    )


def _print_ids(records_dir: str, batch_size: int) -> None:
    """The ids of the first global batch, from replica to replica, as JSON."""
    distribution = strategies.start('mirrored', REPLICAS)
    assert distribution.replicas == REPLICAS
    strategy = distribution.strategy
    batches = strategy.distribute_datasets_from_function(_input_fn(records_dir, batch_size))
    features, _ = next(iter(batches))
    local = strategy.experimental_local_results(features['image_id'])
    print(json.dumps([i.decode() for part in local for i in part.numpy()]))


def _main(
    records_dir: str, model_dir: str, strategy: str, batch_size: str, augment_on: str
) -> None:
    logging.set_verbosity(logging.INFO)
    if model_dir.endswith('ids'):
        _print_ids(records_dir, int(batch_size))
    else:
        cpus = REPLICAS if strategy == 'mirrored' else 0
        devices = {'strategy': strategy, 'logical_cpus': cpus, 'augment_on': augment_on}
        options = RunOptions(records_dir, model_dir, 'skirt', save_every=1, **devices)
        runner.train(_experiment(int(batch_size)), options)


if __name__ == '__main__':
    _main(*sys.argv[1:])
