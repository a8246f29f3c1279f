"""The best checkpoint: which it is, how it is kept, and that it is what is predicted with."""

from __future__ import annotations

import math
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from utility.checkpoints import average, evaluations, snapshots
from utility.checkpoints.best import BestCheckpoint, best_step
from utility.checkpoints.choice import CheckpointChoice, choose


def _save(folder, step, value):
    """A checkpoint of a training, with the state of an optimizer and an average."""
    values = {
        'backbone/kernel': np.full([2], value, np.float32),
        'backbone/kernel/Momentum': np.zeros([2], np.float32),
        'averaging/backbone/kernel': np.zeros([2], np.float32),
        'global_step': np.int64(step),
    }
    tf.raw_ops.SaveV2(
        prefix=f'{folder}/model.ckpt-{step}',
        tensor_names=list(values),
        shape_and_slices=[''] * len(values),
        tensors=[tf.constant(v) for v in values.values()],
    )
    (folder / 'checkpoint').write_text(f'model_checkpoint_path: "model.ckpt-{step}"\n')


def _evaluate(folder, step, error, value=None):
    _save(folder, step, step if value is None else value)
    metrics = {'normalized_error': error}
    evaluations.keep(str(folder), step, metrics)
    BestCheckpoint(str(folder))(step, metrics)


def _kernel(prefix):
    return float(tf.train.load_checkpoint(prefix).get_tensor('backbone/kernel')[0])


def test_the_lowest_error_that_is_known_wins_and_the_earliest_of_equal_ones():
    errors = {1: math.nan, 2: 0.3, 3: 0.2, 4: 0.2, 5: 0.4}
    results = {step: {'normalized_error': error} for step, error in errors.items()}
    assert best_step(results) == 3
    assert best_step({1: results[1], 2: {}}) is None


def test_the_metric_of_the_schema_chooses_and_more_of_it_may_be_better():
    rows = {1: (0.3, 0.2), 2: (0.2, 0.5), 3: (0.1, 0.4), 4: (0.1, math.nan)}
    results = {step: {'normalized_error': e, 'oks_ap': ap} for step, (e, ap) in rows.items()}
    assert best_step(results) == 3
    assert best_step(results, 'oks_ap') == 2
    assert best_step({step: {'epe': e} for step, (e, _) in rows.items()}, 'epe') == 3
    # Evaluations of a time before there was the metric are never the best.
    assert best_step({**results, 5: {'normalized_error': 0.01}}, 'oks_ap') == 2
    assert best_step({5: {'normalized_error': 0.01}}, 'oks_ap') is None


def test_the_best_by_precision_is_kept(tmp_path, caplog):
    caplog.set_level('INFO', logger='absl')
    for step, precision in ((1, 0.4), (2, 0.6), (3, 0.5)):
        _save(tmp_path, step, step)
        metrics = {'normalized_error': 1 / step, 'oks_ap': precision}
        evaluations.keep(str(tmp_path), step, metrics)
        BestCheckpoint(str(tmp_path), 'oks_ap')(step, metrics)
    assert _kernel(choose(str(tmp_path), CheckpointChoice())) == 2
    assert 'the best up to now, OKS AP 60.00 %' in caplog.text


def test_the_best_is_kept_without_the_state_of_the_training(tmp_path, caplog):
    caplog.set_level('INFO', logger='absl')
    for step, error in ((1, 0.4), (2, 0.2), (3, 0.3), (4, math.nan)):
        _evaluate(tmp_path, step, error)
    best = tmp_path / 'best'
    assert sorted(path.name for path in best.iterdir()) == [
        'checkpoint', 'model.ckpt-2.data-00000-of-00001', 'model.ckpt-2.index'
    ]  # fmt: skip
    prefix = choose(str(tmp_path), CheckpointChoice())
    assert prefix == str(best / 'model.ckpt-2')
    names = tf.train.load_checkpoint(prefix).get_variable_to_shape_map()
    assert sorted(names) == ['backbone/kernel', 'global_step']
    assert _kernel(prefix) == 2.0
    assert 'model.ckpt-2, the best one of 4 evaluated on the validation split, NE 20.00 %' in (
        caplog.text
    )


def test_a_step_that_is_trained_again_replaces_its_own_copy(tmp_path):
    for value in (1.0, 2.0, 3.0):
        _evaluate(tmp_path, 7, 0.5, value)
        assert _kernel(choose(str(tmp_path), CheckpointChoice())) == value
        assert len(list((tmp_path / 'best').iterdir())) == 3


def test_a_finished_training_that_is_started_again_leaves_the_best_where_it_is(tmp_path):
    _evaluate(tmp_path, 7, 0.5, 1.0)
    prefix = choose(str(tmp_path), CheckpointChoice())
    written = os.stat(f'{prefix}.index').st_mtime_ns
    for _ in range(2):
        BestCheckpoint(str(tmp_path))(7, {'normalized_error': 0.5})
        assert choose(str(tmp_path), CheckpointChoice()) == prefix
        assert os.stat(f'{prefix}.index').st_mtime_ns == written
    # One that is damaged is written again.
    os.truncate(f'{prefix}.data-00000-of-00001', 4)
    BestCheckpoint(str(tmp_path))(7, {'normalized_error': 0.5})
    assert _kernel(choose(str(tmp_path), CheckpointChoice())) == 1.0


def test_averaged_weights_are_copied_where_they_were_evaluated(tmp_path):
    snapshots.replace(str(tmp_path / 'averaged'), 5, {'backbone/kernel': np.float32([8, 8])})
    _evaluate(tmp_path, 5, 0.5)
    assert _kernel(choose(str(tmp_path), CheckpointChoice())) == 8.0
    _evaluate(tmp_path, 6, 0.4)  # of which there is no average
    assert _kernel(choose(str(tmp_path), CheckpointChoice())) == 6.0


@pytest.mark.parametrize(
    ('which', 'value'),
    [('best', 1.0), ('last', 2.0), ('averaged', 8.0), ('model.ckpt-1', 1.0), ('{}/best', 1.0)],
)
def test_any_checkpoint_can_be_chosen(tmp_path, which, value):
    _evaluate(tmp_path, 1, 0.1)
    _evaluate(tmp_path, 2, 0.2)
    snapshots.replace(str(tmp_path / 'averaged'), 2, {'backbone/kernel': np.float32([8, 8])})
    assert _kernel(choose(str(tmp_path), CheckpointChoice(which.format(tmp_path)))) == value


def test_without_evaluations_the_averaged_or_the_last_one_is_taken(tmp_path, caplog):
    caplog.set_level('INFO', logger='absl')
    assert not snapshots.has_any(str(tmp_path))
    _save(tmp_path, 3, 3.0)
    assert snapshots.has_any(str(tmp_path))
    assert _kernel(choose(str(tmp_path), CheckpointChoice())) == 3.0
    assert 'model.ckpt-3, the last one: no evaluation has chosen a best one' in caplog.text
    snapshots.replace(str(tmp_path / 'averaged'), 3, {'backbone/kernel': np.float32([8, 8])})
    assert _kernel(choose(str(tmp_path), CheckpointChoice())) == 8.0


@pytest.mark.parametrize('which', ['averaged', 'last', 'best', 'model.ckpt-9', '/no/such'])
def test_a_checkpoint_that_is_not_there_is_told(tmp_path, which):
    with pytest.raises(ValueError, match='no checkpoint'):
        choose(str(tmp_path), CheckpointChoice(which))


KILLED = """
import os, sys
import numpy as np, tensorflow as tf
from utility.checkpoints import snapshots
stage, calls, write = int(sys.argv[2]), [0], snapshots.write_bytes
def maybe(function):
    def call(*args, **kwargs):
        calls[0] += 1
        if calls[0] == stage:
            os.kill(os.getpid(), 9)
        return function(*args, **kwargs)
    return call
snapshots.write_bytes = maybe(write)
tf.raw_ops.SaveV2 = maybe(tf.raw_ops.SaveV2)
tf.io.gfile.remove = maybe(tf.io.gfile.remove)
snapshots.replace(sys.argv[1], 2, {'backbone/kernel': np.float32([2, 2])})
"""


@pytest.mark.slow
@pytest.mark.parametrize('stage', [1, 2, 3, 4, 5])
def test_killed_at_any_stage_the_old_or_the_new_one_is_there(tmp_path, stage):
    folder = str(tmp_path / 'best')
    snapshots.replace(folder, 1, {'backbone/kernel': np.float32([1, 1])})
    command = [sys.executable, '-c', KILLED, folder, str(stage)]
    done = subprocess.run(command, env={**os.environ, 'PYTHONPATH': os.getcwd()}, timeout=120)
    assert done.returncode == (-9 if stage < 5 else 0)
    assert _kernel(tf.train.latest_checkpoint(folder)) == (1.0 if stage < 3 else 2.0)
    # What the killed one has left behind goes with the next.
    snapshots.replace(folder, 3, {'backbone/kernel': np.float32([3, 3])})
    assert len(list((tmp_path / 'best').iterdir())) == 3


@pytest.mark.parametrize(('prefix', 'step'), [('a/model.ckpt-12', 12), ('x-1-3', 3)])
def test_the_name_of_a_checkpoint_tells_its_step(prefix, step):
    assert snapshots.step_of(prefix) == step


def test_a_name_without_a_step_is_refused():
    with pytest.raises(ValueError, match="'model' is not named after a step"):
        snapshots.step_of('model')


def test_a_line_that_lost_its_error_is_no_reason_to_fail(tmp_path, caplog):
    caplog.set_level('INFO', logger='absl')
    _evaluate(tmp_path, 1, 0.5)
    _evaluate(tmp_path, 2, 0.4)
    (tmp_path / evaluations.FILE).write_text('step,loss,normalized_error\n1,2.0,0.5\n2,1.0,\n')
    assert _kernel(choose(str(tmp_path), CheckpointChoice())) == 2
    assert 'of 2 evaluated on the validation split, NE nan %' in caplog.text
    assert average.best_checkpoints(str(tmp_path), 1) == [f'{tmp_path}/model.ckpt-1']


def test_a_linked_folder_is_left_alone(tmp_path):
    other = tmp_path / 'other'
    kept = snapshots.replace(str(other), 1, {'backbone/kernel': np.ones(2, np.float32)})
    (tmp_path / 'best').symlink_to(other)
    before = sorted(os.listdir(other))
    with pytest.raises(ValueError, match='best is a symbolic link'):
        snapshots.replace(str(tmp_path / 'best'), 2, {'backbone/kernel': np.zeros(2, np.float32)})
    assert sorted(os.listdir(other)) == before and _kernel(kept) == 1
