"""Tables by step: exact numbers, no step twice, and nothing of a torn row."""

from __future__ import annotations

import math

import pytest

from utility.checkpoints import step_tables


def test_numbers_are_exact_and_steps_in_order(tmp_path):
    path = str(tmp_path / 'a.csv')
    rows = {20: {'loss': 0.1 + 0.2, 'b': math.inf}, 3: {'b': 1e-300, 'a': -2.0}}
    step_tables.write(path, rows, ['loss'])
    assert step_tables.read(path) == rows
    assert list(step_tables.read(path)) == [3, 20]
    assert step_tables.read(path, up_to=19) == {3: rows[3]}
    lines = (tmp_path / 'a.csv').read_text().splitlines()
    assert lines == ['step,loss,a,b', '3,,-2.0,1e-300', '20,0.30000000000000004,,inf']


def test_no_file_has_no_rows(tmp_path):
    assert step_tables.read(str(tmp_path / 'a.csv')) == {}
    assert step_tables.forget_after(str(tmp_path / 'a.csv'), 0) == []
    assert not list(tmp_path.iterdir())


def test_a_table_grows_and_a_row_is_there_at_once(tmp_path):
    path = str(tmp_path / 'a.csv')
    table = step_tables.GrowingTable(path, ['x', 'y'], 0)
    assert step_tables.read(path) == {}
    table.add(5, {'y': 0.25, 'x': 1})
    assert step_tables.read(path) == {5: {'x': 1.0, 'y': 0.25}}
    table.add(10, {'y': math.nan})
    assert math.isnan(step_tables.read(path)[10]['y'])


@pytest.mark.parametrize('torn', ['2', '20', '20,0.', '20,0.75,3', ''])
def test_what_a_kill_left_of_a_row_goes(tmp_path, torn):
    path = tmp_path / 'a.csv'
    path.write_text('step,x,y\n10,0.5,2\n' + torn)
    assert step_tables.read(str(path)) == {10: {'x': 0.5, 'y': 2.0}}
    step_tables.GrowingTable(str(path), ['x', 'y'], 15).add(20, {'x': 1, 'y': 2})
    assert path.read_text() == 'step,x,y\n10,0.5,2.0\n20,1,2\n'


def test_a_training_that_goes_on_from_an_earlier_step_has_no_step_twice(tmp_path):
    path = str(tmp_path / 'a.csv')
    step_tables.write(path, {step: {'x': step} for step in (5, 10, 15, 20)})
    table = step_tables.GrowingTable(path, ['x'], 10)
    assert list(step_tables.read(path)) == [5, 10]
    table.add(15, {'x': -1.0})
    assert step_tables.read(path) == {5: {'x': 5.0}, 10: {'x': 10.0}, 15: {'x': -1.0}}


def test_columns_of_earlier_and_of_later_rows_are_kept(tmp_path):
    path = tmp_path / 'a.csv'
    step_tables.write(str(path), {1: {'a': 1.5, 'b': 2.5}})
    step_tables.GrowingTable(str(path), ['c', 'a'], 1).add(2, {'a': 3.5, 'c': 4.5})
    assert path.read_text() == 'step,c,a,b\n1,,1.5,2.5\n2,4.5,3.5,\n'


@pytest.mark.parametrize('text', ['st', 'step,x', ''])
def test_a_file_without_a_whole_line_is_empty(tmp_path, text):
    (tmp_path / 'a.csv').write_text(text)
    assert step_tables.read(str(tmp_path / 'a.csv')) == {}


@pytest.mark.parametrize(
    'text', ['a,b\n1,2\n', 'step,x\n1,y\n', 'step,x\n1\n', 'step,x\n1,2,3\n', 'step,x\n\0,1\n']
)
def test_another_file_is_refused(tmp_path, text):
    (tmp_path / 'a.csv').write_text(text)
    with pytest.raises(ValueError, match='a.csv: not a table of numbers by step'):
        step_tables.read(str(tmp_path / 'a.csv'))


def test_a_write_that_fails_leaves_the_table_as_it_was(tmp_path):
    path = str(tmp_path / 'a.csv')
    step_tables.write(path, {1: {'x': 2.0}})
    with pytest.raises(TypeError):
        step_tables.write(path, {1: {'x': 2.0}, 2: None}, ['x'])
    assert step_tables.read(path) == {1: {'x': 2.0}}
    assert [file.name for file in tmp_path.iterdir()] == ['a.csv']


@pytest.mark.parametrize('line', [b'3,nan,x', b'3,1', b'\xff\xfe', b'3,"1', b'three,1,2', b'\0'])
def test_a_damaged_line_does_not_stop_a_training_that_goes_on(tmp_path, caplog, line):
    path = str(tmp_path / 'metrics.csv')
    (tmp_path / 'metrics.csv').write_bytes(b'step,loss,error\n1,2,3\n' + line + b'\n5,6,7\n')
    with pytest.raises(ValueError, match='not a table of numbers by step'):
        step_tables.read(path)
    step_tables.GrowingTable(path, ['loss', 'error'], 9).close()
    assert step_tables.read(path) == {1: {'loss': 2, 'error': 3}, 5: {'loss': 6, 'error': 7}}
    assert f'{path}: 1 damaged lines left out: 3' in caplog.text
