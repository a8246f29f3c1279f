"""What the training tells of itself: the arithmetic, on which steps, and how long it waited."""

from __future__ import annotations

import io
import time
import types

import numpy as np
import pytest
import tensorflow as tf

from utility.checkpoints import step_tables
from utility.optim.schedules import Length
from utility.train import log, log_file, model_fn
from utility.train.log import Watch

v1 = tf.compat.v1
VALUES = {'loss': 0.0123456, 'normalized_error': 0.0625, 'learning_rate': 3e-4}
TOLD = 'loss 0.01235  NE 6.25 %  lr 0.0003'


class _Clock:
    """A time that stands still unless it is told to pass."""

    now = 1000.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = _Clock()
    monkeypatch.setattr(log, 'time', clock)
    return clock


@pytest.fixture
def lines(monkeypatch):
    lines = []
    info = lambda text, *values, **_: lines.append(text % values)  # noqa: E731
    monkeypatch.setattr(log.logging, 'info', info)
    return lines


def _hook(start=20, total=40, values=None, **watch):
    """Return a hook whose session has taken `start` steps."""
    with tf.Graph().as_default():
        v1.train.get_or_create_global_step()
        hook = log.TrainingLog(
            values or VALUES,
            None,
            length=Length(total, 10.0),
            batch_size=8,
            watch=Watch(**{'every': 5, **watch}),
        )
        hook.begin()
    hook.after_create_session(types.SimpleNamespace(run=lambda tensor: start), None)
    return hook


def _take_steps(hook, clock, count, seconds, waited=0.0, read=0):
    """Take steps; return on which of them, from 1, the values were fetched.

    `read` is what is read of the global step meanwhile.
    """
    fetched = []
    for i in range(1, count + 1):
        results = {**hook.before_run(None).fetches, 'waited': waited}
        if 'global_step' in results:
            results['global_step'] = read
        clock.now += seconds
        if len(results) > 1:
            fetched.append(i)
        hook.after_run(None, types.SimpleNamespace(results=results))
    return fetched


def test_a_line_tells_speed_and_time_left_without_the_first_step(clock, lines):
    hook = _hook()
    _take_steps(hook, clock, 1, seconds=100.0, waited=90.0)
    _take_steps(hook, clock, 4, seconds=2.0, waited=0.5)
    speed = '4.0 images/s  waiting 25 %  0:00:30 left'
    assert lines == [f'step 25/40  epoch 2.50  {TOLD}  {speed}']


def test_steps_of_other_workers_count(clock, lines):
    hook = _hook(start=20, total=40)
    _take_steps(hook, clock, 5, seconds=1.0, read=24)  # before the own step was counted
    _take_steps(hook, clock, 5, seconds=1.0, read=39)
    _take_steps(hook, clock, 1, seconds=1.0, read=41)
    assert [line.split()[1] for line in lines] == ['25/40', '39/40', '41/40']
    assert lines[-1].endswith('0:00:00 left')


def test_speed_and_waiting_are_those_since_the_report_before(clock, lines):
    hook = _hook()
    _take_steps(hook, clock, 5, seconds=2.0, waited=2.0)
    _take_steps(hook, clock, 5, seconds=1.0)  # 9 steps in 13 s, 10 left
    assert lines[-1].endswith('8.0 images/s  waiting 0 %  0:00:14 left')


def test_what_passes_between_steps_is_not_waited(clock, lines):
    hook = _hook()
    _take_steps(hook, clock, 1, seconds=1.0)
    clock.now += 12.0  # a checkpoint
    _take_steps(hook, clock, 4, seconds=2.0, waited=1.0)
    assert 'waiting 20 %' in lines[0]


def test_the_loss_of_each_output_is_told_where_there_are_several(clock, lines):
    outputs = {'loss/output_0': 0.25, 'loss/output_1': 1e-5}
    _take_steps(_hook(values={**VALUES, **outputs}), clock, 5, seconds=1.0)
    assert lines[0].endswith(' left  losses 0.25, 1e-05')


def test_more_than_a_day_is_told(clock, lines):
    hook = _hook(total=100_020)
    _take_steps(hook, clock, 5, seconds=1.0)
    assert lines[0].endswith('1 day, 3:46:35 left')


def test_values_are_fetched_on_reported_steps_and_the_last_one_only(clock, lines):
    assert _take_steps(_hook(start=3, total=12), clock, 9, seconds=1.0) == [2, 7, 9]
    assert [line.split()[1] for line in lines] == ['5/12', '10/12', '12/12']


def test_a_session_that_is_made_anew_starts_the_clock_again(clock, lines):
    hook = _hook()
    _take_steps(hook, clock, 4, seconds=1.0)
    clock.now += 1000
    hook.after_create_session(types.SimpleNamespace(run=lambda tensor: 22), None)
    _take_steps(hook, clock, 3, seconds=2.0)
    assert lines[-1].startswith('step 25/40') and '4.0 images/s' in lines[-1]


def test_a_terminal_gets_a_bar(monkeypatch, lines, clock):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr('sys.stderr', terminal)
    aside = []
    monkeypatch.setattr(log_file, 'log_aside', lambda *words: aside.append(words))
    hook = _hook()
    _take_steps(hook, clock, 20, seconds=1.0)
    hook.end(None)
    assert '40/40' in terminal.getvalue()
    assert 'NE 6.25 %' in terminal.getvalue()
    assert lines == []
    assert [words[1] for words in aside] == [25, 30, 35, 40]


def test_each_report_is_a_row(clock, lines, tmp_path):
    values = {**VALUES, 'loss': np.float32(0.1), 'extra': 2}
    hook = _hook(start=4, values=values, folder=str(tmp_path))
    _take_steps(hook, clock, 6, seconds=2.0, waited=1.5)
    rows = step_tables.read(str(tmp_path / log.FILE))
    # Step 5 is the first of its session: nothing is known of its speed.
    known = {'loss': 0.100000001, 'normalized_error': 0.0625, 'learning_rate': 3e-4, 'extra': 2}
    speed = {'images_per_second': 4.0, 'waiting': 0.75}
    assert rows == {5: {'epoch': 0.5, **known}, 10: {'epoch': 1.0, **known, **speed}}
    assert np.float32(rows[5]['loss']) == np.float32(0.1)


def test_a_training_that_goes_on_drops_the_rows_of_later_steps(clock, lines, tmp_path):
    _take_steps(_hook(0, folder=str(tmp_path)), clock, 20, seconds=1.0)
    hook = _hook(12, folder=str(tmp_path))
    rows = step_tables.read(str(tmp_path / log.FILE))
    assert list(rows) == [5, 10]
    _take_steps(hook, clock, 8, seconds=1.0)
    assert list(step_tables.read(str(tmp_path / log.FILE))) == [5, 10, 15, 20]


def _sleeping(seconds):
    """Return f(x) -> x, that takes so long in the graph."""

    def sleep(value):
        time.sleep(seconds)
        return value

    return lambda x: tf.ensure_shape(tf.numpy_function(sleep, [x], x.dtype), x.shape)


@pytest.mark.parametrize(
    ('input_seconds', 'step_seconds', 'least', 'most'),
    [
        (0.03, 0.0, 0.7, 1.0),  # a slow input
        (0.0, 0.03, 0.0, 0.2),  # a slow step
        (0.03, 0.03, 0.0, 0.4),  # both at once: the input works beside the step
        (0.06, 0.03, 0.25, 0.75),  # an input that takes twice as long
    ],
)
def test_the_share_of_waiting_tells_what_is_slow(
    tmp_path, input_seconds, step_seconds, least, most
):
    share = _share_of_waiting(tmp_path, input_seconds, step_seconds, VALUES['loss'])
    assert least <= share <= most


def test_planning_a_step_that_fetches_more_is_not_waiting(tmp_path):
    def much_to_plan():
        total = tf.cast(v1.train.get_global_step(), tf.float32)
        for _ in range(1500):
            total = tf.sin(total)
        return total

    assert _share_of_waiting(tmp_path, 0.0, 0.0, much_to_plan) < 0.3


def _share_of_waiting(folder, input_seconds, step_seconds, loss):
    """As metrics.csv tells it after 21 steps that take so long; `loss` is fetched on the last."""
    with tf.Graph().as_default():
        step = v1.train.get_or_create_global_step()
        batches = tf.data.Dataset.range(10**6).map(_sleeping(input_seconds)).prefetch(2)
        batch = v1.data.make_one_shot_iterator(batches).get_next()
        work = _sleeping(step_seconds)(batch)
        with tf.control_dependencies([work]):
            train = v1.assign_add(step, 1)
        values = {**VALUES, 'loss': loss() if callable(loss) else loss}
        hook = log.TrainingLog(
            {name: tf.convert_to_tensor(value) for name, value in values.items()},
            log.waiting_time(batch),
            length=Length(21, 10.0),
            batch_size=8,
            watch=Watch(every=21, folder=str(folder)),
        )
        with v1.train.MonitoredSession(hooks=[hook]) as session:
            for _ in range(21):
                session.run(train)
    return step_tables.read(str(folder / log.FILE))[21]['waiting']


def test_a_batch_without_a_scored_point_has_no_error(clock, lines, tmp_path):
    """Not 0, which would be the best there is."""
    errors = tf.constant([[0.5, 2.0], [1.0, 3.0]])
    for scored, expected in (([[1, 0], [0, 0]], 0.5), ([[0, 0], [0, 0]], np.nan)):
        value = model_fn._batch_error(errors, tf.constant(scored) > 0)
        np.testing.assert_equal(value.numpy(), np.float32(expected))
    row = {'epoch': 1.0, 'loss': 0.5, 'learning_rate': 0.25}
    assert log._describe(row) == 'epoch 1.00  loss 0.5  NE -  lr 0.25'
