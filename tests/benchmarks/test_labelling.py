"""The benchmark of labelling: which trainings there are, and what its table says."""

from __future__ import annotations

import pytest

from benchmarks import labelling
from benchmarks.labelling import RANDOM, Cell


def test_each_training_finds_what_it_needs():
    cells = list(labelling.cells_of([50, 100, 200], [1, 2]))
    assert cells[0] == Cell(RANDOM, 50, 1)
    assert len(cells) == len(set(cells)) == 10
    for place, cell in enumerate(cells):
        assert Cell(RANDOM, 50, cell.seed) in cells[: place + 1]


def test_as_many_random_ones_lie_on_the_line():
    # Each doubling takes a tenth off.
    numbers, errors = [50, 100, 200], [0.4, 0.36, 0.324]
    for number, error in zip(numbers, errors):
        assert labelling.as_many_random(numbers, errors, error) == pytest.approx(number)
    assert labelling.as_many_random(numbers, errors, 0.2916) == pytest.approx(400)


def _row(error):
    return {'plain_sums': [error, 0.0], 'plain_counts': [1, 0]}


def test_the_table_has_the_seeds_and_the_share():
    rows = {
        'random_50_1': _row(0.4),
        'random_50_2': _row(0.4),
        'random_100_1': _row(0.38),
        'random_100_2': _row(0.34),
        'random_200_1': _row(0.324),
        'random_200_2': _row(0.324),
        'suggested_100_1': _row(0.32),
        'suggested_100_2': _row(0.328),
    }
    lines = labelling.table(rows, [50, 100, 200], 'plain').splitlines()
    cells = [[cell.strip() for cell in line.split('|')[1:-1]] for line in lines]
    assert cells[2] == ['random', '40.0 (40.0, 40.0)', '36.0 (38.0, 34.0)', '32.4 (32.4, 32.4)']
    assert cells[3] == ['suggested', '', '32.4 (32.0, 32.8)', '']
    assert cells[4] == ['as many random ones', '', '200 (50 %)', '']
