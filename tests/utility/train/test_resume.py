"""Trainings that are killed, ended or starved of disk, and go on: as if nothing had happened.

Processes are those of a train script, and are really killed. What they leave is compared with a
training that nothing disturbed: every number of the tables, every tensor of the last checkpoint.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

from tests.commands import ROOT, signalled
from tests.tiny_records import write_records
from utility.checkpoints import evaluations, step_tables
from utility.train import log as training_log

pytestmark = pytest.mark.slow

SIZE = 32
PICTURES, STEPS = 7, 10  # of two pictures: epochs end within batches
SETTINGS = (
    f'network.image_size={SIZE},{SIZE}',
    'network.heatmap_size=8,8',
    'network.backbone_options.width=8',
    'network.head_options.channels=8',
    'data.batch_size=2',
    'data.shuffle_buffer=3',
    'schedule.warmup_steps=4',
    'averaging.kind=ema',
    'averaging.statistics_batches=0',
    f'epochs={STEPS * 2 / PICTURES}',
    f'epochs_per_eval={STEPS / PICTURES}',
)
# TensorFlow's module for the file that points to the newest checkpoint.
POINTERS = 'tensorflow.python.checkpoint.checkpoint_management'
# Of each step, besides speeds.
COLUMNS = (training_log.EPOCH, 'loss', 'loss/output_0', 'normalized_error', 'learning_rate')


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('resume')
    splits = {'train': {'skirt': PICTURES}, 'val': {'skirt': 3}}
    write_records(folder / 'records', splits, SIZE)
    return folder


def _command(folder, run, *more) -> list[str]:
    settings = [f'--set={setting}' for setting in SETTINGS]
    fixed = ('--category=skirt', '--log_every=1', '--save_every=3', *settings, *map(str, more))
    paths = (f'--data_dir={folder}/records', f'--model_dir={folder}/{run}')
    return [str(ROOT / 'train_resnet18_dhn.py'), *paths, *fixed]


def _run(command, *before) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *before, *command],
        cwd=ROOT,
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )


def _succeed(folder, run, *more) -> str:
    done = _run(_command(folder, run, *more))
    assert done.returncode == 0, done.stderr
    return done.stderr


def _message(done: subprocess.CompletedProcess, code: int) -> str:
    """Return the one line in which a command tells why it has failed."""
    assert done.returncode == code, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith('error: ')]
    assert len(lines) == 1 and 'Traceback' not in done.stderr, done.stderr
    return lines[0]


def _step(folder, run) -> int:
    newest = tf.train.latest_checkpoint(f'{folder}/{run}/skirt')
    return int(newest.rsplit('-', 1)[1]) if newest else 0


def _results(folder, run) -> dict:
    """Return all that a training has found."""
    own = f'{folder}/{run}/skirt'
    rows = step_tables.read(f'{own}/{training_log.FILE}')
    reader = tf.train.load_checkpoint(own)
    return {
        'metrics': {step: [row[name] for name in COLUMNS] for step, row in rows.items()},
        'evaluations': evaluations.read(own),
        'checkpoint': {n: reader.get_tensor(n) for n in reader.get_variable_to_shape_map()},
    }


def _assert_equal(results: dict, expected: dict) -> None:
    """To the last bit: it is one machine."""
    assert results['metrics'] == expected['metrics']
    assert results['evaluations'] == expected['evaluations']
    tf.nest.map_structure(
        np.testing.assert_array_equal, results['checkpoint'], expected['checkpoint']
    )


@pytest.fixture(scope='module')
def undisturbed(folder):
    _succeed(folder, 'undisturbed')
    results = _results(folder, 'undisturbed')
    assert list(results['metrics']) == list(range(1, STEPS + 1))
    assert list(results['evaluations']) == [STEPS // 2, STEPS]
    losses = [row[1] for row in results['metrics'].values()]
    rates = [row[-1] for row in results['metrics'].values()]
    assert len(set(losses)) == STEPS and len(set(rates)) > 4
    assert any(name.startswith('averaging/') for name in results['checkpoint'])
    return results


def test_a_seed_gives_the_same_training_again_and_another_seed_another(folder, undisturbed):
    _succeed(folder, 'again', '--seed=20180417')
    _assert_equal(_results(folder, 'again'), undisturbed)
    _succeed(folder, 'other', '--seed=1')
    other = _results(folder, 'other')['metrics']
    assert not set(other[1]) & set(undisturbed['metrics'][1]) - {other[1][0], other[1][-1]}


@pytest.mark.parametrize(
    ('place', 'number', 'step'),
    [
        # During step 5, when its results are there.
        ('utility.train.log.TrainingLog.after_run', 5, 3),
        # Before anything is saved.
        ('utility.train.log.TrainingLog.after_run', 1, 0),
        # Before step 3 is in metrics.csv: it is not saved yet.
        ('utility.train.log.TrainingLog.after_run', 3, 0),
        # While the checkpoint of step 3 is saved: it is written, but not yet pointed to.
        (f'{POINTERS}.update_checkpoint_state_internal', 2, 0),
        # Between the two evaluations at step 5, of the last weights and of the average.
        ('tensorflow_estimator.python.estimator.estimator.EstimatorV2.evaluate', 2, 5),
        # Before the best checkpoint is kept, and before the last result is.
        ('utility.checkpoints.best.BestCheckpoint.__call__', 1, 5),
        ('utility.checkpoints.evaluations.keep', 2, 10),
    ],
)
def test_killed_at_any_moment_a_training_goes_on(folder, undisturbed, place, number, step):
    run = f'{place.rpartition(".")[2]}{number}'
    done = _run(_command(folder, run), *signalled(place, number))
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert _step(folder, run) == step
    log = _succeed(folder, run)
    assert f' step {step}/' not in log and (step == STEPS or f' step {step + 1}/' in log)
    _assert_equal(_results(folder, run), undisturbed)


def test_of_two_trainings_at_once_one_is_told_and_the_other_is_undisturbed(folder, undisturbed):
    place = 'utility.train.log.TrainingLog.after_run'
    first = subprocess.Popen(
        [sys.executable, *signalled(place, 4, signal.SIGSTOP), *_command(folder, 'two')],
        cwd=ROOT,
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
        stderr=subprocess.DEVNULL,
    )
    try:
        # In the middle, with a checkpoint, and temporary files of it perhaps.
        assert os.WIFSTOPPED(os.waitpid(first.pid, os.WUNTRACED)[1])
        taken = _message(_run(_command(folder, 'two', '--seed=1', '--set=epochs=9')), 2)
        assert f"another process is writing into '{folder}/two/skirt'" in taken
    finally:
        first.send_signal(signal.SIGCONT)
    assert first.wait(timeout=900) == 0
    _assert_equal(_results(folder, 'two'), undisturbed)


def test_killed_before_and_after_batch_norm_keeps_its_statistics_a_training_goes_on(folder):
    settings = ('--set=averaging.kind=none', '--set=network.freeze_norm_from=0.7')
    _succeed(folder, 'frozen', *settings)
    expected = _results(folder, 'frozen')
    place = 'utility.train.log.TrainingLog.after_run'
    for number, step in ((4, 3), (5, 7), (2, 7)):  # during the steps 4, 8 and 9
        done = _run(_command(folder, 'frozen_killed', *settings), *signalled(place, number))
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert _step(folder, 'frozen_killed') == step
    _succeed(folder, 'frozen_killed', *settings)
    _assert_equal(_results(folder, 'frozen_killed'), expected)


def test_killed_with_an_optimizer_of_tensorflow_addons_a_training_goes_on(folder):
    options = [f'--set=optimizer.{o}' for o in ('name=tfa/NovoGrad', 'options.grad_averaging=true')]
    _succeed(folder, 'addon', *options)
    place = 'utility.train.log.TrainingLog.after_run'
    done = _run(_command(folder, 'addon_killed', *options), *signalled(place, 5))
    assert done.returncode == -signal.SIGKILL and _step(folder, 'addon_killed') == 3
    _succeed(folder, 'addon_killed', *options)
    expected = _results(folder, 'addon')
    assert expected['checkpoint']['head/heatmaps/kernel/v'].shape == ()
    _assert_equal(_results(folder, 'addon_killed'), expected)


def test_a_training_made_longer_is_one_that_was_as_long_from_the_start(folder):
    """With a rate that does not depend on the length; with another one it is refused."""
    constant = '--set=schedule.name=constant'
    _succeed(folder, 'as_long', constant)
    half = _succeed(folder, 'longer', constant, f'--set=epochs={STEPS / PICTURES}')
    assert f' {STEPS // 2} steps in all' in half
    assert ' step 1/' not in _succeed(folder, 'longer', constant)
    _assert_equal(_results(folder, 'longer'), _results(folder, 'as_long'))


def _until(process: subprocess.Popen, text: str) -> None:
    for line in process.stderr:
        if text in line:
            return
    raise AssertionError(f'the training ended without {text!r}')


def _start(command) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, *command], cwd=ROOT, stderr=subprocess.PIPE, text=True, bufsize=1
    )


def test_killed_again_and_again_at_random_moments_a_training_goes_on(folder, undisturbed):
    random = np.random.default_rng(0)
    for _ in range(6):
        process = _start(_command(folder, 'random'))
        _until(process, 'steps in all')
        time.sleep(random.uniform(0, 8))
        process.kill()
        process.communicate()
    _succeed(folder, 'random')
    _assert_equal(_results(folder, 'random'), undisturbed)


@pytest.mark.parametrize(
    ('number', 'name', 'code'), [(signal.SIGTERM, 'SIGTERM', 143), (signal.SIGINT, 'Ctrl-C', 130)]
)
def test_ended_by_a_signal_a_training_has_saved_its_last_step(
    folder, undisturbed, number, name, code
):
    run = f'ended_{code}'
    with _start(_command(folder, run)) as process:
        _until(process, ' step 1/')
        process.send_signal(number)
        _, log = process.communicate(timeout=300)
    assert process.returncode == code
    assert f'ended by {name}; a checkpoint is saved, the same command goes on from there' in log
    assert 'Traceback' not in log
    taken = [i for i in range(1, STEPS + 1) if f' step {i}/' in log]
    assert _step(folder, run) == max([1, *taken]) < STEPS
    _succeed(folder, run)
    _assert_equal(_results(folder, run), undisturbed)


def test_a_folder_that_is_removed_while_it_is_trained_is_told(folder):
    command = _command(folder, 'removed', '--set=epochs=400')
    with _start(command) as process:
        _until(process, ' step 1/')
        shutil.rmtree(folder / 'removed')
        _, log = process.communicate(timeout=300)
    assert process.returncode == 1, log
    assert f'{folder}/removed/skirt was removed or renamed while it was trained' in log


def test_a_damaged_newest_checkpoint_is_passed_over(folder, undisturbed):
    shutil.copytree(folder / 'undisturbed', folder / 'damaged')
    own = folder / 'damaged' / 'skirt'
    with (own / f'model.ckpt-{STEPS}.data-00000-of-00001').open('rb+') as file:
        file.truncate(1000)
    (own / 'checkpoint').write_bytes(b'\xff\x00')
    log = _succeed(folder, 'damaged')
    assert f'model.ckpt-{STEPS} cannot be read (' in log
    assert f'skirt goes on from {own}/model.ckpt-8' in log and ' step 8/' not in log
    _assert_equal(_results(folder, 'damaged'), undisturbed)


def test_a_loss_that_is_not_finite_ends_the_training_with_all_that_is_known(folder):
    more = ('--set=optimizer.learning_rate=1e20', '--set=schedule.warmup_steps=0')
    line = _message(_run(_command(folder, 'diverged', *more)), 1)
    assert line.startswith('error: step 2: the loss is ')
    assert '; weights that are not finite: none; gradients that are not finite: ' in line
    ids = json.dumps(line.partition('pictures of the batch: ')[2].partition(';')[0])
    assert ids.count('skirt/') == 2
    assert 'nothing was saved since ' in line and _step(folder, 'diverged') == 0


@pytest.fixture
def small_disk(tmp_path):
    """A directory on a disk of its own, of 200 MB."""
    mount = ['mount', '-t', 'tmpfs', '-o', 'size=200m', 'tmpfs', str(tmp_path)]
    if shutil.which('mount') is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip('may not mount')
    yield tmp_path
    subprocess.run(['umount', str(tmp_path)], check=True)


def test_a_full_disk_is_told_and_the_training_goes_on_once_there_is_room(
    folder, undisturbed, small_disk
):
    (folder / 'full').symlink_to(small_disk)
    with _start(_command(folder, 'full')) as process:
        _until(process, ' step 4/')
        os.kill(process.pid, signal.SIGSTOP)
        step, filler = _step(folder, 'full'), small_disk / 'filler'
        with pytest.raises(OSError, match='No space'), filler.open('wb', 0) as file:
            while True:
                file.write(bytes(1 << 16))
        os.kill(process.pid, signal.SIGCONT)
        _, log = process.communicate(timeout=300)
    assert process.returncode == 1
    (line,) = [line for line in log.splitlines() if line.startswith('error: ')]
    assert f'{small_disk}' in line or f'{folder}/full' in line
    assert 'No space left on device' in line and 'Traceback' not in log
    assert _step(folder, 'full') == step == 3
    filler.unlink()
    _succeed(folder, 'full')
    _assert_equal(_results(folder, 'full'), undisturbed)


def test_records_that_are_gone_or_in_pieces_end_a_training_before_or_when_it_meets_them(folder):
    shutil.copytree(folder / 'records', folder / 'broken' / 'records')
    path = folder / 'broken' / 'records' / 'train' / 'skirt-00000-of-00001.tfrecord'
    os.truncate(path, path.stat().st_size - 1)
    line = _message(_run(_command(folder / 'broken', 'run')), 2)
    assert line.startswith(f'error: {path}: record 7 is cut off or damaged; ')
    path.unlink()
    line = _message(_run(_command(folder / 'broken', 'run')), 2)
    assert line.startswith('error: no records match ')
