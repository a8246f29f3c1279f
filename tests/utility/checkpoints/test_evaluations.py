"""The results of a training's evaluations: kept whole, in order, each step once."""

from __future__ import annotations

import numpy as np
import pytest

from utility.checkpoints import evaluations


def test_what_is_kept_is_read_exactly(tmp_path):
    folder = str(tmp_path)
    assert evaluations.read(folder) == {}
    error = np.float32(0.1)
    evaluations.keep(folder, 20, {'normalized_error': error, 'global_step': 20})
    evaluations.keep(folder, 10, {'normalized_error': 0.3, 'normalized_error/skirt': np.nan})
    evaluations.keep(folder, 20, {'normalized_error': error, 'loss': np.float32(1e-9)})
    found = evaluations.read(folder)
    assert list(found) == [10, 20]  # in order, no step twice
    assert found[20] == {'normalized_error': float(error), 'loss': float(np.float32(1e-9))}
    assert np.isnan(found[10].pop('normalized_error/skirt'))
    assert found[10] == {'normalized_error': 0.3}
    assert evaluations.read(folder, up_to=19).keys() == {10}
    lines = (tmp_path / evaluations.FILE).read_text().splitlines()
    assert lines[0] == 'step,loss,normalized_error,normalized_error/skirt'


def test_a_write_that_fails_leaves_the_file_as_it_was(tmp_path):
    evaluations.keep(str(tmp_path), 1, {'loss': 2.0})
    with pytest.raises(TypeError):
        evaluations.keep(str(tmp_path), 2, {'loss': None})
    assert evaluations.read(str(tmp_path)) == {1: {'loss': 2.0}}
    assert [path.name for path in tmp_path.iterdir()] == [evaluations.FILE]


def test_later_steps_are_forgotten(tmp_path, caplog):
    for step in (1, 2, 3):
        evaluations.keep(str(tmp_path), step, {'loss': 2.0})
    evaluations.forget_after(str(tmp_path), 3)
    assert not caplog.messages
    evaluations.forget_after(str(tmp_path), 1)
    assert list(evaluations.read(str(tmp_path))) == [1]
    assert 'the evaluations at step 2, 3 are made again' in caplog.text


@pytest.mark.parametrize('text', ['a,b\n1,2\n', 'step,loss\n1,x\n', 'step,loss\nx,1\n'])
def test_another_file_of_that_name_is_refused(tmp_path, text):
    (tmp_path / evaluations.FILE).write_text(text)
    with pytest.raises(ValueError, match='evaluations.csv: not a table of numbers by step'):
        evaluations.read(str(tmp_path))


def test_the_reasons_of_all_reactions_are_heard():
    message = []

    def callback(answer):
        return lambda step, metrics: message.append((answer, step, metrics)) or answer

    reasons = evaluations.run_callbacks(map(callback, (None, 'a', None, 'b')), 7, {'loss': 1.0})
    assert reasons == ['a', 'b']
    assert message == [(answer, 7, {'loss': 1.0}) for answer in (None, 'a', None, 'b')]


def test_an_evaluation_that_scored_nothing_says_so():
    result = {'normalized_error': float('nan'), 'normalized_error/skirt': float('nan')}
    assert evaluations.describe(result) == 'no validation NE: no point is scored'
