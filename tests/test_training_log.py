"""What the training tells of itself: the arithmetic, and on which steps."""

from __future__ import annotations

import io
import types

import pytest
import tensorflow as tf

from utility import training_log
from utility.schedules import Length

VALUES = {'loss': 0.0123456, 'normalized_error': 0.0625, 'learning_rate': 3e-4}


class _Clock:
    """A time that stands still unless it is told to pass."""

    now = 1000.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = _Clock()
    monkeypatch.setattr(training_log, 'time', clock)
    return clock


@pytest.fixture
def lines(monkeypatch):
    lines = []
    info = lambda text, *values: lines.append(text % values)  # noqa: E731
    monkeypatch.setattr(training_log.logging, 'info', info)
    return lines


def _hook(start=20, total=40, every=5):
    """A hook whose session has taken `start` steps."""
    with tf.Graph().as_default():
        tf.compat.v1.train.get_or_create_global_step()
        hook = training_log.TrainingLog(
            VALUES, length=Length(total, 10.0), batch_size=8, every=every
        )
        hook.begin()
    hook.after_create_session(types.SimpleNamespace(run=lambda tensor: start), None)
    return hook


def _take_steps(hook, clock, count, seconds):
    """Takes steps; returns on which of them, from 1, the values were fetched."""
    fetched = []
    for i in range(1, count + 1):
        arguments = hook.before_run(None)
        clock.now += seconds
        if arguments is not None:
            fetched.append(i)
        results = arguments and arguments.fetches
        hook.after_run(None, types.SimpleNamespace(results=results))
    return fetched


def test_a_line_tells_speed_and_time_left_without_the_first_step(clock, lines):
    hook = _hook()
    _take_steps(hook, clock, 1, seconds=100.0)
    _take_steps(hook, clock, 4, seconds=2.0)
    assert lines == [
        'step 25/40  epoch 2.50  loss 0.01235  NE 6.25 %  lr 0.0003  4.0 images/s  0:00:30 left'
    ]


def test_speed_is_the_mean_since_the_start(clock, lines):
    hook = _hook()
    _take_steps(hook, clock, 5, seconds=2.0)
    _take_steps(hook, clock, 5, seconds=1.0)  # 9 steps in 13 s
    assert lines[-1].endswith('5.5 images/s  0:00:14 left')


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


def test_a_terminal_gets_a_bar(monkeypatch, lines):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr('sys.stderr', terminal)
    hook = _hook()
    for _ in range(20):
        arguments = hook.before_run(None)
        results = arguments and arguments.fetches
        hook.after_run(None, types.SimpleNamespace(results=results))
    hook.end(None)
    assert '40/40' in terminal.getvalue()
    assert 'NE 6.25 %' in terminal.getvalue()
    assert lines == []
