"""Training over several devices and processes is the training on one with their global batch.

What makes it comparable: the stream of records gives every step the same global batch however it is
shared out (preprocessing/stream.py), group norm looks at one picture at a time, and all pictures
have equally many points in the loss (none is rotated out of the crop), so that the mean over
replicas is the mean over the batch.
The processes run on this machine's loopback; each test that starts some leaves none behind.
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

from tests.commands import ROOT
from tests.tiny_records import write_records
from utility.checkpoints import evaluations
from utility.distribute import watchdog
from utility.distribute.launch_local import make_jobs

pytestmark = pytest.mark.slow

SIZE = 64
GLOBAL_BATCH = 6
STOPS = [4, 7]  # of 13 pictures and three epochs and a bit: no epoch is a number of steps
OPS = f'flip|letterbox({SIZE},{SIZE})|warp|color(brightness=0.2)'
SETTINGS = {
    'network.image_size': f'{SIZE},{SIZE}',
    'network.heatmap_size': '16,16',
    'network.backbone_options.width': 16,  # 8 and an odd batch: oneDNN corrupts the memory
    'network.head_options.channels': 16,
    'network.norm': 'group',
    'network.norm_groups': 4,
    'data.train_ops': OPS,
    'loss.target_scale': 10.0,
    'optimizer.learning_rate': 0.05,
    'schedule.warmup_steps': 4,
    'averaging.kind': 'ema',
    'epochs': 7 * GLOBAL_BATCH / 13,
    'epochs_per_eval': 4 * GLOBAL_BATCH / 13,
}
SPREADS = {  # name -> how many replicas there are, what is run
    'mirrored': (2, ['--strategy=mirrored', '--logical_cpus=2']),
    'two': (2, ['--workers=2']),
    'three': (3, ['--workers=3']),
}


def _arguments(folder: pathlib.Path, name: str, batch_size: int, **settings) -> list[str]:
    chosen = {**SETTINGS, 'data.batch_size': batch_size, **settings}
    return [
        f'--data_dir={folder / "records"}',
        f'--model_dir={folder / name}',
        '--category=skirt',
        '--log_every=1',
        *(f'--set={key}={value}' for key, value in chosen.items()),
    ]


def _command(how: list[str], arguments: list[str]) -> list[str]:
    script = 'train_resnet18_dhn.py'
    if any(flag.startswith('--workers') for flag in how):
        return [
            sys.executable,
            '-m',
            'utility.distribute.launch_local',
            *how,
            '--',
            script,
            *arguments,
        ]
    return [sys.executable, script, *how, *arguments]


def _run(command: list[str]) -> str:
    """Return what a command that succeeds has told."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('scale')
    # The loss of an evaluation is the mean over its batches: six pictures fill them, of any size.
    write_records(folder / 'records', {'train': {'skirt': 13}, 'val': {'skirt': 6}}, SIZE)
    return folder


@pytest.fixture(scope='module')
def single(folder):
    """The weights and the results of one device."""
    _run(_command([], _arguments(folder, 'single', GLOBAL_BATCH)))
    return _results(folder, 'single')


@pytest.fixture(scope='module')
def message(folder):
    """Name -> what a training over several replicas tells."""
    return {
        name: _run(_command(how, _arguments(folder, name, GLOBAL_BATCH // replicas)))
        for name, (replicas, how) in SPREADS.items()
    }


def _results(folder: pathlib.Path, name: str):
    """Return the tensors of each evaluated checkpoint, and the results of the evaluations."""
    network = folder / name / 'skirt'
    tensors = {}
    for step in (0, *STOPS):
        reader = tf.train.load_checkpoint(str(network / f'model.ckpt-{step}'))
        tensors[step] = {n: reader.get_tensor(n) for n in reader.get_variable_to_shape_map()}
    return tensors, evaluations.read(str(network))


def _check_equal(results, expected) -> None:
    """Fail unless the weights moved to the same places, and the losses are the same."""
    tensors, metrics = results
    expected_tensors, expected_metrics = expected
    assert list(metrics) == list(expected_metrics) == STOPS
    for step in STOPS:
        assert metrics[step] == pytest.approx(expected_metrics[step], rel=1e-4)
    first = expected_tensors[0]
    assert tensors[0].keys() == first.keys()
    for name, value in first.items():
        np.testing.assert_array_equal(tensors[0][name], value, name)
    for name in (name for name in first if name.endswith('kernel')):
        moved, expected_move = (
            part[STOPS[-1]][name] - first[name] for part in (tensors, expected_tensors)
        )
        assert np.linalg.norm(expected_move) > 0, name
        assert np.linalg.norm(moved - expected_move) < 1e-3 * np.linalg.norm(expected_move), name


def test_two_processes_freeze_batch_norm_after_the_same_step(folder):
    settings = {
        'network.norm': 'batch', 'averaging.kind': 'none', 'network.freeze_norm_from': 0.7,
    }  # fmt: skip
    _run(_command(['--workers=2'], _arguments(folder, 'frozen', GLOBAL_BATCH // 2, **settings)))
    readers = [
        tf.train.load_checkpoint(f'{folder}/frozen/skirt/model.ckpt-{step}') for step in (4, 5, 7)
    ]
    names = readers[0].get_variable_to_shape_map()
    statistics = [name for name in names if '/moving_' in name]
    before, frozen, last = ([r.get_tensor(name) for name in statistics] for r in readers)
    assert any((a != b).any() for a, b in zip(before, frozen))
    assert statistics and all((a == b).all() for a, b in zip(frozen, last))


@pytest.mark.parametrize('name', SPREADS)
def test_weights_and_losses_are_those_of_one_device_with_the_global_batch(
    folder, single, message, name
):
    _check_equal(_results(folder, name), single)


@pytest.mark.parametrize('name', SPREADS)
def test_the_log_tells_the_global_batch(message, name):
    replicas = SPREADS[name][0]
    size = GLOBAL_BATCH // replicas
    assert (
        f'13 pictures, batch {size} x {replicas} replicas = {GLOBAL_BATCH}, 7 steps'
        in message[name]
    )


@pytest.mark.parametrize('name', ['two', 'three'])
def test_only_the_chief_writes(folder, single, message, name):
    def files(run):
        names = (str(path.relative_to(folder / run)) for path in (folder / run).rglob('*'))
        # TensorBoard's files are named after the time.
        return sorted(name.partition('.tfevents')[0] for name in names)

    assert files(name) == sorted([*files('single'), 'skirt/agreement.json'])
    log = (folder / name / 'train.log').read_text()
    assert 'chief 0 of a cluster' in log and 'worker' not in log.split('\n', 1)[1]
    rows = (folder / name / 'skirt/metrics.csv').read_text().splitlines()
    assert [row.split(',')[0] for row in rows] == ['step', *map(str, range(1, 8))]


def _processes(job: str, folder: pathlib.Path) -> list[int]:
    """Return the ids of the processes of a job that train in this folder."""
    found = []
    for process in pathlib.Path('/proc').glob('[0-9]*'):
        try:
            command, environment = (
                (process / file).read_bytes().decode().split('\0')
                for file in ('cmdline', 'environ')
            )
        except (OSError, UnicodeDecodeError):
            continue
        configs = [
            text[len('TF_CONFIG=') :] for text in environment if text.startswith('TF_CONFIG=')
        ]
        jobs = [json.loads(text)['task']['type'] for text in configs]
        if f'--model_dir={folder}' in command and job in jobs:
            found.append(int(process.name))
    return found


def _await(condition, seconds: float = 600) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_a_killed_worker_comes_back_and_nothing_is_lost(folder, single):
    network = folder / 'killed' / 'skirt'
    command = _command(['--workers=2'], _arguments(folder, 'killed', GLOBAL_BATCH // 2))
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as launcher:
        try:
            _await((network / 'agreement.json').exists)  # the first stop
            (worker,) = _processes('worker', folder / 'killed')
            os.kill(worker, 9)
            message = launcher.stderr.read()
            assert launcher.wait(60) == 0, message
        finally:
            launcher.terminate()
    assert 'worker 0 has ended with -9' in message and 'restart 1 of 3' in message
    _check_equal(_results(folder, 'killed'), single)
    assert not _processes('chief', folder / 'killed') + _processes('worker', folder / 'killed')


def test_who_waits_for_the_dead_ends_by_itself(folder):
    """As in Kubernetes, where nobody kills the others of one that has died."""
    jobs = make_jobs(workers=2, servers=0)
    how = ['--strategy=multi_worker', '--stall_minutes=0.7']
    endless = _arguments(folder, 'stalled', 2, epochs=10000, epochs_per_eval=10000)
    children = {}
    try:
        for job in jobs:
            config = json.dumps({'cluster': jobs, 'task': {'type': job, 'index': 0}})
            children[job] = subprocess.Popen(
                _command(how, endless),
                cwd=ROOT,
                env={**os.environ, 'TF_CONFIG': config},
                stderr=subprocess.PIPE,
                text=True,
            )
        _await(lambda: (folder / 'stalled/skirt/metrics.csv').exists())
        children['worker'].kill()
        message = children['chief'].communicate(timeout=300)[1]
        assert children['chief'].returncode == watchdog.EXIT_CODE, message
        assert 'no step was completed for 0.7 minutes' in message
    finally:
        for child in children.values():
            child.kill()
            child.wait()
            child.stderr.close()


def test_parameter_servers_train_to_the_end(folder):
    settings = {'epochs': 60, 'epochs_per_eval': 20, 'averaging.kind': 'none'}
    arguments = _arguments(folder, 'servers', 2, **settings)
    message = _run(_command(['--workers=2', '--servers=1', '--restarts=0'], arguments))
    assert 'each of 2 workers at its own pace' in message
    network = folder / 'servers' / 'skirt'
    results = evaluations.read(str(network))
    planned = [130, 260, 390]
    # Each of the workers may take a step more before it sees that it is time to stop.
    assert len(results) == 3
    assert all(0 <= step - stop <= 2 for step, stop in zip(results, planned)), list(results)
    losses = [metrics['loss'] for metrics in results.values()]
    assert np.isfinite(losses).all()
    reader = tf.train.load_checkpoint(str(network))
    assert reader.get_tensor('global_step') == list(results)[-1]
    assert not [n for n in reader.get_variable_to_shape_map() if 'replica' in n]
    assert not _processes('ps', folder / 'servers')
    # More steps were taken than the chief has taken by itself: the worker has worked.
    logged = (network / 'metrics.csv').read_text().splitlines()[1:]
    assert 0 < len(logged) < planned[-1]
