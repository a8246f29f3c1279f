"""What goes wrong in a reader is counted: errors, hangs, deaths, nonsense."""

import multiprocessing
import os
import time

import pytest

from benchmarks import fuzz
from benchmarks.common.fuzz_targets import NonsenseError, Target
from config import UserError


@pytest.mark.parametrize(
    ('error', 'kind'),
    [
        (None, 'accepted'),
        (UserError('line 3: no number'), 'refused'),
        (FileNotFoundError(2, 'No such file', 'x'), 'refused'),
        (KeyError('x'), 'traceback'),
        (ValueError('of NumPy'), 'traceback'),
        (RecursionError(), 'traceback'),
        (NonsenseError('25 points'), 'traceback'),
    ],
)
def test_what_came_of_an_input(tmp_path, error, kind):
    def read(path):
        if error:
            raise error

    assert fuzz._outcome(Target((b'',), read), tmp_path)[0] == kind


def _follow(tell):
    """Return the counts of a worker that tells what the function gives it, or does worse."""
    context = multiprocessing.get_context('fork')
    results = context.SimpleQueue()
    worker = context.Process(target=tell, args=(results,))
    worker.start()
    counts = {'inputs': 0, 'refused': 0, 'tracebacks': 0, 'hangs': 0, 'deaths': 0}
    counts.update(memory=0, found=[])
    return fuzz._follow(worker, results, counts, patience=0.5), counts


def test_inputs_errors_and_memory_are_counted():
    def tell(results):
        for outcome in (('refused', '', 3), ('traceback', 'KeyError', 9), ('accepted', '', 5)):
            results.put(('begin', b'x'))
            results.put(outcome)
        results.put(('end', None))

    ended, counts = _follow(tell)
    assert ended and counts == {
        'inputs': 3, 'refused': 1, 'tracebacks': 1, 'hangs': 0, 'deaths': 0, 'memory': 9,
        'found': ['KeyError'],
    }  # fmt: skip


@pytest.mark.parametrize('kind', ['hangs', 'deaths'])
def test_what_stops_a_process_is_counted_with_its_input(kind):
    def tell(results):
        results.put(('begin', b'the input'))
        if kind == 'hangs':
            time.sleep(60)
        os._exit(3)

    ended, counts = _follow(tell)
    assert not ended and counts[kind] == 1 and "b'the input'" in counts['found'][0]


def test_settings_are_read_in_a_process_of_their_own():
    counts = fuzz.run('settings', seconds=1, seed=0, patience=20)
    assert counts['inputs'] > counts['refused'] > 0
    assert (counts['tracebacks'], counts['hangs'], counts['deaths']) == (0, 0, 0), counts['found']


def test_an_input_is_a_sound_one_with_changes():
    assert fuzz._edited(b'abcdef', [(1, 2, b'XY'), (6, 3, b'!')]) == b'aXYdef!'
