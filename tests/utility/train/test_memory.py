"""Memory in use: it is what Linux says, and evaluations do not make it grow."""

from __future__ import annotations

import gc
import re

import numpy as np
import pytest
import tensorflow as tf

from config import DataConfig, Experiment, NetworkConfig
from tests.commands import run
from tests.tiny_records import write_records
from utility.train import memory, runner
from utility.train.flags import RunOptions


def test_memory_in_use_grows_with_what_is_held():
    before = memory.resident_mb()
    held = np.ones(50 * 2**20, np.uint8)
    assert 45 < memory.resident_mb() - before < 60
    assert held.all()


@pytest.mark.slow
def test_ten_evaluations_in_a_row_do_not_make_it_grow(tmp_path):
    splits = {'train': {'skirt': 4}, 'val': {'skirt': 2}}
    records_dir = write_records(tmp_path / 'records', splits, 32)
    settings = (
        'network.image_size=32,32', 'network.heatmap_size=8,8', 'network.backbone_options.width=4',
        'network.head_options.channels=8', 'data.batch_size=2', 'epochs=6', 'epochs_per_eval=0.5',
    )  # fmt: skip
    done = run(
        'train_resnet18_dhn.py',
        f'--data_dir={records_dir}',
        f'--model_dir={tmp_path / "run"}',
        '--category=skirt',
        *(part for setting in settings for part in ('--set', setting)),
        timeout=2000,
    )
    assert done.returncode == 0, done.stderr
    used = [float(mb) for mb in re.findall(r'([\d.]+) MB of memory in use', done.stderr)]
    assert len(used) == 12
    assert max(used[2:]) - used[1] < 30, used


@pytest.mark.slow
def test_no_graph_outlives_its_training_or_evaluation(tmp_path):
    records_dir = write_records(
        tmp_path / 'records', {'train': {'skirt': 4}, 'val': {'skirt': 2}}, 32
    )
    experiment = Experiment(
        NetworkConfig('resnet18', 'dhn', (32, 32), (8, 8), {'width': 4}, {'channels': 8}),
        DataConfig(batch_size=4),
        epochs=2.0,
        epochs_per_eval=1.0,
    ).override('averaging.kind=ema', 'averaging.statistics_batches=1')

    def num_graphs():
        return sum(type(one) is tf.Graph for one in gc.get_objects())

    gc.collect()
    before = num_graphs()
    gc.disable()  # or it would be left to chance
    try:
        runner.train(experiment, RunOptions(records_dir, str(tmp_path / 'run'), 'skirt'))
        assert num_graphs() <= before + 1  # the default graph, once it is asked for
    finally:
        gc.enable()
