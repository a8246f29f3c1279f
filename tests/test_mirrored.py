"""Training over two replicas of one machine is the training of one with the double batch.

Batch norm sees the batch of its replica only. Therefore all pictures are equal here: then the
statistics, and with them the gradients, are those of any batch.
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from config import DataConfig, Experiment, LossConfig, NetworkConfig, OptimizerConfig
from preprocessing import make_input_fn, records
from preprocessing.datasets import Annotation
from preprocessing.datasets.fashionai import SCHEMA

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).resolve().parent.parent
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
        optimizer=OptimizerConfig(
            learning_rate=0.1, warmup_steps=0, decay_epochs=(), decay_factors=(1.0,)
        ),
        epochs=3.0,
    )


def _write_records(records_dir: pathlib.Path) -> None:
    """PICTURES records of one picture under different ids, as dataset.json says."""
    image = np.random.default_rng(0).integers(0, 255, (SIZE, SIZE, 3)).astype(np.uint8)
    jpeg = tf.io.encode_jpeg(image).numpy()
    own = list(SCHEMA.indices('skirt'))
    keypoints = np.zeros((SCHEMA.num_keypoints, 2), np.float32)
    keypoints[own] = [[20, 10], [44, 12], [10, 50], [55, 52]]
    visibility = np.full(SCHEMA.num_keypoints, -1, np.int32)
    visibility[own] = 1
    (records_dir / 'train').mkdir(parents=True)
    path = records.shard_path(str(records_dir / 'train'), 'skirt', 0, 1)
    with records.shard_writer(path) as write:
        for i in range(PICTURES):
            annotation = Annotation('', f'{i}.jpg', 'skirt', keypoints, visibility)
            write(records.encode_example(jpeg, annotation, (SIZE, SIZE)))
    info = {
        'dataset': 'fashionai',
        'schema': {'keypoints': list(SCHEMA.keypoints)},
        'splits': {'train': {'labelled': True, 'records': {'skirt': PICTURES}}},
    }
    (records_dir / records.DATASET_FILE).write_text(json.dumps(info))


def _train(folder: pathlib.Path, name: str, strategy: str, batch_size: int) -> str:
    """Trains in a process with two devices; returns what it logged."""
    done = subprocess.run(
        [sys.executable, __file__, str(folder / 'records'), str(folder / name), strategy]
        + [str(batch_size)],
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def _weights(folder: pathlib.Path, name: str, step: int) -> dict[str, np.ndarray]:
    reader = tf.train.load_checkpoint(str(folder / name / 'skirt' / f'model.ckpt-{step}'))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('mirrored')
    _write_records(folder / 'records')
    _train(folder, 'mirrored', 'mirrored', PICTURES // REPLICAS)
    _train(folder, 'single', 'none', PICTURES)
    return folder


def test_the_weights_are_those_of_one_device_with_the_double_batch(folder):
    first = _weights(folder, 'mirrored', 0)
    for step in (0, 1, 3):
        mirrored, single = (_weights(folder, name, step) for name in ('mirrored', 'single'))
        assert mirrored.keys() == single.keys()
        for name, value in single.items():
            np.testing.assert_allclose(mirrored[name], value, rtol=1e-3, atol=1e-5, err_msg=name)
    moved = [n for n, v in first.items() if n.endswith('kernel') and (v != mirrored[n]).any()]
    assert len(moved) > 20


def test_checkpoints_name_no_replica(folder):
    assert not [name for name in _weights(folder, 'mirrored', 3) if 'replica' in name.lower()]


def test_a_mirrored_training_is_resumed_without_a_strategy(folder):
    log = _train(folder, 'mirrored', 'none', PICTURES // REPLICAS)
    assert '6 steps in all' in log
    assert _weights(folder, 'mirrored', 6)['global_step'] == 6


def test_replicas_share_the_pictures_of_an_epoch(folder):
    def input_fn(batch_size):
        pattern = records.split_pattern(str(folder / 'records' / 'train'), 'skirt')
        return make_input_fn(pattern, SCHEMA, OPS, batch_size, training=True, seed=1)

    strategy = tf.distribute.OneDeviceStrategy('CPU:0')
    halves = strategy.distribute_datasets_from_function(input_fn(PICTURES // REPLICAS))
    print(halves)


def main(records_dir: str, model_dir: str, strategy: str, batch_size: str) -> None:
    from utility import command_line, runner

    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices('CPU')[0], [tf.config.LogicalDeviceConfiguration()] * 2
    )
    command_line._quiet_tensorflow()
    options = runner.RunOptions(
        records_dir, model_dir, 'skirt', strategy=strategy, log_every=1, save_every=1
    )
    runner.train(_experiment(int(batch_size)), options)


if __name__ == '__main__':
    main(*sys.argv[1:])
