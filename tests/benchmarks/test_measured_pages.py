"""Pages that follow from measurements, and README, say what the measurements say."""

from __future__ import annotations

import json

import pytest

from benchmarks import ledger, report
from tests.commands import ROOT
from tests.test_scripts import succeed

MEASURED = json.loads((ROOT / 'docs' / 'measurements_speed.json').read_bytes())
TABLES = [table for part in MEASURED['parts'].values() for table in part['tables']]


def _words(name: str) -> str:
    """The text of a page, its lines joined."""
    return ' '.join((ROOT / name).read_text().split())


@pytest.mark.parametrize('sentences', [t['in_short'] for t in TABLES if t['in_short']])
def test_readme_quotes_what_was_measured(sentences):
    assert sentences in _words('README.md')


def test_the_page_of_measurements_is_of_the_same_run_as_its_numbers():
    page = (ROOT / 'docs' / 'measurements_speed.md').read_text()
    assert f'; revision {MEASURED["revision"]}.' in page
    for table in TABLES:
        assert ledger.markdown_table(table['header'], table['rows']) in page


def test_readme_tells_how_many_targets_are_missed():
    judged = [row for t in TABLES if t['header'][-1] == report.MET for row in t['rows'] if row[-1]]
    missed = [row for row in judged if row[-1] != 'yes']
    number = ('', 'one of', 'two of', 'three of', 'four of', 'five of')[len(missed)]
    assert f'{number} {len(judged)} targets' in _words('README.md')


def test_the_model_on_paper_is_of_these_measurements(monkeypatch):
    monkeypatch.chdir(ROOT)
    page = (ROOT / 'docs' / 'scaling.md').read_text()
    made_by = ' --output=docs/scaling.md`'
    assert made_by in page
    assert (
        succeed('benchmarks/scaling_model.py').out.rstrip() == page.replace(made_by, '`').rstrip()
    )
