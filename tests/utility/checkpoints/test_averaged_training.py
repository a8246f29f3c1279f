"""Averaging in real trainings: against the weights of every step, on devices, through a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

from tests.commands import ROOT, run
from tests.tiny_records import write_records
from utility.checkpoints import evaluations, snapshots
from utility.optim import weight_averaging

pytestmark = pytest.mark.slow

STEPS = 8
# Batches of 4 of 8 pictures: an epoch is 2 steps.
SINGLE = ('--set', 'data.batch_size=4')
MIRRORED = ('--set', 'data.batch_size=2', '--strategy=mirrored', '--logical_cpus=2')
EMA = ('--set', 'averaging.kind=ema', '--set', 'averaging.decay=0.6')
SWA = (
    *('--set', 'averaging.kind=swa', '--set', 'averaging.start_epoch=1'),
    *('--set', 'schedule.name=cyclic', '--set', 'schedule.cycle_epochs=1.5'),
)
RUNS = {
    'ema_single': (*EMA, *SINGLE),
    'ema_mirrored': (*EMA, *MIRRORED),
    'swa_single': (*SWA, *SINGLE),
    'swa_mirrored': (*SWA, *MIRRORED),
}


def _command(folder, name):
    settings = (
        'network.image_size=32,32', 'network.heatmap_size=8,8', 'network.backbone_options.width=4',
        'network.head_options.channels=8', 'epochs=4', 'epochs_per_eval=2', 'refine=argmax',
        'schedule.warmup_steps=0', 'optimizer.learning_rate=0.05',
        'data.train_ops=flip|rotate(30)|letterbox({height},{width})|warp',
        'averaging.statistics_batches=2',
    )  # fmt: skip
    return (
        *(f'--data_dir={folder / "records"}', f'--model_dir={folder / name}', '--category=skirt'),
        *(part for setting in settings for part in ('--set', setting)),
        *('--save_every=1', '--keep_checkpoints=20', *RUNS[name.rpartition('-')[0] or name]),
    )


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('averaged')
    write_records(folder / 'records', {'train': {'skirt': 8}, 'val': {'skirt': 2}}, 32)
    return folder


def _train(folder, name):
    """Return the folder of the network, trained now if it was not before."""
    if not (folder / name).exists():
        done = run('train_resnet18_dhn.py', *_command(folder, name))
        assert done.returncode == 0, done.stderr
    return folder / name / 'skirt'


def _tensors(network, step):
    reader = tf.train.load_checkpoint(str(network / f'model.ckpt-{step}'))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def _expected(weights, kind):
    """Return the average, in float64, of a tensor's values after each of the steps."""
    weights = [value.astype(np.float64) for value in weights]
    if kind == 'swa':  # cycles end after 3, 6 and, being cut short, not after 8
        return (weights[3 - 1] + weights[6 - 1]) / 2
    average = weights[0]
    for i, value in enumerate(weights[1:], 1):
        kept = min(0.6, (1 + i) / (10 + i))
        average = kept * average + (1 - kept) * value
    return average


@pytest.mark.parametrize('name', RUNS)
def test_the_average_is_that_of_the_weights_after_each_step(folder, name):
    network = _train(folder, name)
    states = [_tensors(network, step) for step in range(1, STEPS + 1)]
    kind = name.partition('_')[0]
    averaged = {n for n in states[-1] if n.startswith(weight_averaging.SCOPE)}
    averaged.remove(weight_averaging.COUNT)
    assert states[-1][weight_averaging.COUNT] == {'ema': STEPS, 'swa': 2}[kind]
    moved = 0
    for average in averaged:
        weights = [state[average[len(weight_averaging.SCOPE) :]] for state in states]
        expected = _expected(weights, kind)
        np.testing.assert_allclose(states[-1][average], expected, rtol=1e-4, atol=1e-6)
        moved += np.abs(expected - weights[-1]).max() > 1e-3
    assert moved > 20 and len(averaged) > 60
    assert not [n for n in states[-1] if 'replica' in n]


@pytest.mark.parametrize('name', ['ema_single', 'swa_mirrored'])
def test_averaged_weights_are_what_is_evaluated_and_kept(folder, name):
    network = _train(folder, name)
    results = evaluations.read(str(network))
    assert list(results) == [4, STEPS]
    assert all(evaluations.LAST_ERROR in result for result in results.values())
    [prefix] = {str(path)[: -len('.index')] for path in (network / 'averaged').glob('*.index')}
    assert snapshots.step_of(prefix) == STEPS
    kept = snapshots.read_weights(prefix)
    state = _tensors(network, STEPS)
    for key, value in kept.items():
        if weight_averaging.SCOPE + key in state:
            np.testing.assert_array_equal(value, state[weight_averaging.SCOPE + key])
    statistic = 'backbone/conv1/norm/moving_mean'
    assert np.abs(kept[statistic] - state[statistic]).max() > 1e-4
    best = min(results, key=lambda step: results[step][evaluations.ERROR])
    best_prefix = tf.train.latest_checkpoint(str(network / 'best'))
    assert snapshots.step_of(best_prefix) == best


@pytest.mark.parametrize('name', ['ema_single', 'swa_single'])
def test_killed_and_resumed_the_average_is_that_of_an_uninterrupted_training(folder, name):
    whole = _train(folder, name)
    killed = folder / f'{name}-killed' / 'skirt'
    command = [sys.executable, 'train_resnet18_dhn.py', *_command(folder, f'{name}-killed')]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    while not (killed / 'model.ckpt-5.index').exists():
        assert process.poll() is None
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    reached = max(snapshots.step_of(path.stem) for path in killed.glob('model.ckpt-*.index'))
    assert 5 <= reached < STEPS
    done = run('train_resnet18_dhn.py', *_command(folder, f'{name}-killed'))
    assert done.returncode == 0, done.stderr
    expected, found = _tensors(whole, STEPS), _tensors(killed, STEPS)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_allclose(found[key], value, rtol=1e-4, atol=1e-5, err_msg=key)
    assert list(evaluations.read(str(killed))) == [4, STEPS]
