"""The page of all measurements: parts in processes of their own, targets, failures, two files."""

from __future__ import annotations

import importlib
import inspect
import json

import pytest
from absl import flags

from benchmarks import __main__
from benchmarks.common import ledger, report
from benchmarks.common.interleaved import text
from benchmarks.common.report import MET, NO_TARGET, TARGET, Result, Table, Target
from tests.commands import call
from utility.statistics.medians import Summary

NAME = 'A part'  # this module is one


def measure(repeats):
    row = ('a', str(repeats), *Target(at_most=4, unit='s').cells(3.5))
    return [
        Table('Few', ('what', 's', TARGET, MET), [row], ['a note'], {'a': repeats}, 'A is fast.')
    ]


FAST = Result('Fast', measure(2) + [Table('Fast', ('b',), [('c',)])], seconds=60.0)
SLOW = Result('Slow', [Table('T', ('n', TARGET, MET), [('d', '', '**no**'), ('e', *NO_TARGET)])])
BROKEN = Result('Broken', failure='ValueError: no', seconds=30.0)


def test_a_part_is_measured_in_a_process_of_its_own():
    result = report.measure(__name__, 7)
    assert (result.title, result.failure) == (NAME, None)
    (table,) = result.tables
    assert table == measure(7)[0]
    assert table.rows == [('a', '7', 'at most 4 s', 'yes')]
    assert result.seconds > 0


def test_a_part_that_fails_is_told():
    result = report.measure('tests.no_such_part', 1)
    assert result[:3] == (
        'tests.no_such_part',
        (),
        "ModuleNotFoundError: No module named 'tests.no_such_part'",
    )


@pytest.mark.parametrize('name', __main__.PARTS)
def test_every_part_can_be_measured(name):
    part = importlib.import_module(f'benchmarks.speed.{name}')
    assert isinstance(part.NAME, str)
    assert list(inspect.signature(part.measure).parameters) == ['repeats']


def test_targets():
    assert Target(at_least=1.3, unit='x').cells(1.3) == ('at least 1.3 x', 'yes')
    assert Target(at_least=1.3).cells(1.29) == ('at least 1.3', '**no**')
    assert Target(at_most=0.0).cells(0.1) == ('at most 0', '**no**')
    assert (
        report.targets_in_words({'f': FAST, 's': SLOW, 'b': BROKEN})
        == '1 of 2 targets are met; not met: d (T).'
    )
    assert report.targets_in_words({'f': FAST}) == '1 of 1 targets are met.'


def test_the_page_and_its_numbers(tmp_path, monkeypatch, capsys):
    where = {'machine': 'a machine', 'versions': 'numpy 1', 'revision': 'abc'}
    monkeypatch.setattr(report, 'surroundings', lambda: where)
    path = tmp_path / 'new' / 'page.md'
    report.publish('python -m x', {'f': FAST, 'b': BROKEN}, str(path))
    page = path.read_text()
    assert capsys.readouterr().out == page + '\n'
    assert 'Made by `python -m x` in 1.5 minutes.\n\na machine, numpy 1; revision abc.' in page
    assert 'targets are met.\n\n**In short.** A is fast.\n\n## Fast' in page
    assert '## Fast\n\n### Few\n\n| what | s | target | met |\n' in page
    assert '| a | 2 | at most 4 s | yes |\n\n- a note\n\n| b |\n' in page  # no title is said twice
    assert '## Broken\n\nFailed: ValueError: no\n' in page
    assert '| Fast | 60 | abc | a machine |\n| Broken | 30 | abc | a machine |\n' in page
    numbers = json.loads(path.with_suffix('.json').read_text())
    assert numbers['revision'] == 'abc'
    assert numbers['parts']['f']['tables'][0]['numbers'] == {'a': 2}
    assert numbers['parts']['b']['failure'] == 'ValueError: no'


def test_parts_measured_before_are_kept_with_their_date(tmp_path, monkeypatch):
    where = {'machine': 'cores, 2026-01-01', 'versions': 'numpy 1', 'revision': 'abc'}
    monkeypatch.setattr(report, 'surroundings', lambda: where)
    path = str(tmp_path / 'page.md')
    assert report.measured_before(path) == {}
    report.publish('x', {'f': FAST, 'b': BROKEN}, path)
    where.update(machine='cores, 2026-02-02', revision='def')
    report.publish('x', {**report.measured_before(path), 'b': SLOW}, path)
    page = (tmp_path / 'page.md').read_text()
    assert 'Kept from earlier runs, see the end: Fast.' in page
    assert '; revision def.' in page and '## Slow' in page and '## Broken' not in page
    assert '| Fast | 60 | abc | 2026-01-01 |\n| Slow | 0 | def | 2026-02-02 |\n' in page
    kept = report.measured_before(path)
    assert (kept['f'].revision, kept['b'].revision) == ('abc', 'def')
    assert kept['f'].tables[0].rows == [list(FAST.tables[0].rows[0])]


def test_what_json_cannot_hold_leaves_no_file(tmp_path, monkeypatch):
    where = {'machine': '', 'versions': '', 'revision': ''}
    monkeypatch.setattr(report, 'surroundings', lambda: where)
    wrong = Result('Wrong', [Table('T', ('n',), [], numbers={'n': {1}})])
    with pytest.raises(TypeError, match='set is not JSON serializable'):
        report.publish('x', {'w': wrong}, str(tmp_path / 'page.md'))
    assert list(tmp_path.iterdir()) == []


def test_where_it_was_measured():
    where = report.surroundings()
    assert 'TensorFlow 2.15' in where['machine']
    assert 'Python 3' in where['versions'] and 'numpy 1' in where['versions']
    assert where['revision']


def test_parts_are_chosen_by_name_and_come_in_the_order_of_the_page(monkeypatch):
    monkeypatch.setattr(__main__, 'PARTS', ('a', 'b', 'c'))
    assert __main__._select([]) == ['a', 'b', 'c']
    assert __main__._select(['c', 'a']) == ['a', 'c']
    result = call('benchmarks/__main__.py', '--only=nothing')
    assert result.returncode == 2 and "unknown part '--only=nothing'; there are: " in result.stderr


@pytest.mark.parametrize(
    ('output', 'message'),
    [
        ('{folder}', 'Is a directory'),
        ('{folder}/file/page.md', 'Not a directory'),
        ('{folder}/page.json', 'the numbers get this name; give the page another'),
    ],
)
def test_what_cannot_be_written_is_not_measured(tmp_path, monkeypatch, output, message):
    (tmp_path / 'file').touch()
    monkeypatch.setattr(report, 'measure', None)
    result = call('benchmarks/__main__.py', f'--output={output.format(folder=tmp_path)}')
    assert result.returncode == 2 and result.stderr.count('\n') == 1
    assert message in result.stderr and [path.name for path in tmp_path.iterdir()] == ['file']


def test_a_page_may_be_written_to_a_folder_that_is_not_there(tmp_path):
    assert ledger._check_output(str(tmp_path / 'a' / 'b' / 'page.md'))
    assert ledger._check_output('page.md') and ledger._check_output('gs://bucket/page.md')


def test_the_command_is_told_with_what_is_not_its_default():
    values = flags.FlagValues()
    flags.DEFINE_list('only', [], '', flag_values=values)
    flags.DEFINE_integer('repeats', 5, '', flag_values=values)
    values(['x', '--only=a,b'])
    assert ledger.command('python -m x', ('only', 'repeats'), values) == 'python -m x --only=a,b'


def test_medians_are_told_in_about_three_digits():
    assert text(Summary(0.012, 0.004, 3), 100) == '1.20 ± 0.40'
    assert text(Summary(123.4, 5.0, 3)) == '123 ± 5'
    assert text(Summary(12.34, 0.0, 1)) == '12.3'
