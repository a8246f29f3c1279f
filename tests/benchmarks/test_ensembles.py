"""benchmarks.ensembles: what is learned on one half is measured on the other."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from benchmarks import ensembles
from benchmarks.common import simulated_models
from preprocessing.datasets.fashionai import SCHEMA
from tests.commands import ROOT
from utility.ensembles.choice import distances_of
from utility.ensembles.combination import combine

TABLE = simulated_models.annotations(0, 160)
MODELS = [
    simulated_models.model(TABLE, 1, lost=0.2),
    simulated_models.model(TABLE, 2, offset=(8, -8)),
    simulated_models.model(TABLE, 3, noise=20),
]


@pytest.fixture(scope='module')
def rows():
    stacked, annotated = (
        simulated_models.predictions(TABLE, *MODELS),
        simulated_models.annotated(TABLE),
    )
    found = ensembles.measure(stacked, annotated, SCHEMA, range(3), max_models=1)
    return {row.name: row for row in found}


def test_every_way_is_measured_on_every_half(rows):
    assert set(rows) == {
        'best single submission', 'mean', 'median', 'geometric_median', 'learned', 'learned, best 1'
    }  # fmt: skip
    assert all(len(row.errors) == 3 for row in rows.values())
    assert len(set(rows['median'].errors)) == 3


def test_halves_are_about_as_hard_as_the_whole(rows):
    stacked, annotated = (
        simulated_models.predictions(TABLE, *MODELS),
        simulated_models.annotated(TABLE),
    )
    whole = np.nanmean(distances_of(combine(stacked, 'median')[0], annotated))
    assert np.mean(rows['median'].errors) == pytest.approx(whole, rel=0.05)


def test_differences_are_to_the_median(rows):
    assert rows['median'].gain == (0, 0, 0)
    value, low, high = rows['learned'].gain
    medians, errors = (np.mean(rows[name].errors) for name in ('median', 'learned'))
    assert value == pytest.approx(medians - errors, rel=0.02)
    assert 0 < low < value < high


def test_choices_are_counted(rows):
    assert rows['learned'].chosen == {'votes': 3}
    assert rows['learned, best 1'].chosen == {'B': 3}
    assert not rows['mean'].chosen


def test_the_command_writes_its_page(tmp_path):
    named = dict(zip('abc', MODELS))
    simulated_models.write(tmp_path, answers=TABLE, **named)
    files = [f'{tmp_path}/{name}.csv' for name in ('a', 'b', 'c')]
    options = [f'--answers={tmp_path}/answers.csv', '--splits=2', f'--output={tmp_path}/page.md']
    command = [sys.executable, '-m', 'benchmarks.ensembles', *files, *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, '')
    page = (tmp_path / 'page.md').read_text()
    assert done.stdout.strip() == page.strip()
    assert '3 submissions, 160 images, 2 random halves' in page
    assert page.count('\n| ') == 7
    assert '- learned: votes 2 times' in page

    done = subprocess.run(command[:-3], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == 'error: give --answers=ANSWERS.csv and the CSVs to combine\n'
