"""Progress of long work, where there is no terminal, and its rate."""

import math

import pytest

from utility.command_line import progress


def test_the_items_pass_and_the_end_is_told(capsys):
    assert list(progress.track(iter('abc'), 3, 'reading')) == ['a', 'b', 'c']
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith('reading: 3/3 (100 %)')


def test_a_line_comes_now_and_then(capsys, monkeypatch):
    monkeypatch.setattr(progress, 'SECONDS_PER_LINE', 0.0)
    assert list(progress.track(iter('ab'), None, 'reading')) == ['a', 'b']
    starts = [line.split(',')[0] for line in capsys.readouterr().err.splitlines()]
    assert starts == ['reading: 1', 'reading: 2', 'reading: 2']


def test_items_are_taken_one_by_one():
    taken = []
    tracked = progress.track((taken.append(n) or n for n in range(5)), 5, 'reading')
    assert next(tracked) == 0
    assert taken == [0]


def test_a_terminal_gets_a_bar(capsys, monkeypatch):
    monkeypatch.setattr('sys.stderr.isatty', lambda: True, raising=False)
    assert list(progress.track(range(3), 3, 'reading')) == [0, 1, 2]
    assert 'reading: 100%' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('passes', 'stretches', 'rate'),
    [
        (1, [(6, 0.1)], 1 / 0.1),
        (2, [(6, 0.1), (6, 0.4)], 1 / (0.1 + 0.4)),
        # Two networks, one after the other, each of its own pictures.
        (1, [(6, 0.1), (12, 0.4)], 18 / (6 * 0.1 + 12 * 0.4)),
        (2, [(6, 0.1), (6, 0.2), (12, 0.4), (12, 0.8)], 18 / (6 * 0.3 + 12 * 1.2)),
    ],
)
def test_the_stopwatch_leaves_out_first_batches(monkeypatch, passes, stretches, rate):
    now = [0.0]
    monkeypatch.setattr(progress.time, 'perf_counter', lambda: now[0])
    watch = progress.Stopwatch(batch_size=2, passes=passes)
    for count, seconds in stretches:
        now[0] += 50  # to build the graph and predict the first batch
        for row in range(count):
            now[0] += seconds if row >= 2 else 0
            watch(row)
    assert watch.rate() == pytest.approx(rate)


def test_one_batch_has_no_rate():
    watch = progress.Stopwatch(batch_size=8)
    watch(0)
    assert math.isnan(watch.rate())
