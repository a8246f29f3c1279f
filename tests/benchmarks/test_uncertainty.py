"""The page of the radii, on simulated errors: what calibrates is not asked about."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import uncertainty
from tests.simulated_errors import SCHEMA, simulate
from utility.predict.views_to_points import PredictOptions


@pytest.fixture(scope='module')
def pictures():
    return uncertainty.Pictures(*simulate(500, 0), SCHEMA, PredictOptions())


def test_what_calibrates_is_not_asked_about(pictures):
    calibrates, _ = pictures.calibration(0)
    division = uncertainty.divide(pictures, 0.9, 0)
    assert np.isnan(division.radii[calibrates]).all()
    asked = ~np.isnan(division.radii)
    np.testing.assert_array_equal(asked, pictures.annotated & ~calibrates[:, np.newaxis])
    known = pictures.errors[pictures.annotated & calibrates[:, np.newaxis]]
    assert np.mean(known <= division.single) == pytest.approx(0.9, abs=0.005)
    other, _ = pictures.calibration(1)
    assert 0.3 < np.mean(other != calibrates) < 0.7


def test_the_page_tells_what_the_simulation_is(pictures):
    blurred, annotations = simulate(60, 1)
    blurred.scores[:] *= 0.5
    others = uncertainty.Pictures(blurred, annotations, SCHEMA, PredictOptions())
    text = uncertainty.page(pictures, others, ('A run', 'OTHERS'), 'COMMAND', 5)
    assert '`COMMAND`' in text and 'A run: 500 pictures' in text and '{' not in text
    rows = {line.split(' | ')[0]: line.split(' | ')[1:] for line in reversed(text.splitlines())}
    held = [float(cell.split()[0]) for cell in rows['| all'][1:] if '[' in cell]
    assert held == pytest.approx([80, 90, 95], abs=3)
    assert '-' in rows['| 90 %, features: all'][4]  # the median is smaller than one for all
    assert 'the other half of the split, 250 pictures: no shift' in text
    assert 'OTHERS, 60 pictures: these pictures are unlike those that calibrated' in text


def test_a_power_of_one_is_what_calibrates(pictures):
    """Its mean is that of the radii themselves; less of a power holds fewer of the hard points."""
    table = uncertainty.powers_table(pictures, 2)
    rows = [line.strip('| ').split(' | ') for line in table.splitlines()[2:]]
    assert [row[0] for row in rows] == ['1', '0.75', '0.5', '0.25', '0']
    divisions = [uncertainty.divide(pictures, 0.9, number) for number in range(2)]
    ratios = [np.nanmean(one.radii) / one.single for one in divisions]
    assert float(rows[0][1].rstrip(' %')) == pytest.approx(100 * (np.mean(ratios) - 1), abs=0.6)
    hard = [float(row[4]) for row in rows]
    assert hard[0] > hard[2] > hard[4]
