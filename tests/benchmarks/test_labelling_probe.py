"""The probe of labelling: which pictures are drawn, and what its regression and its table say."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import labelling_probe
from benchmarks.labelling import RANDOM, SUGGESTED
from preprocessing.schema import PICTURE_SIZE, KeypointSchema
from preprocessing.tables import KeypointTable
from utility.labels.survey import Survey

SCHEMA = KeypointSchema('hats', ('a',), {'hat': ('a',)}, {'hat': PICTURE_SIZE}, swaps=())


def test_random_pictures_are_of_each_category_and_fewer_are_the_beginning():
    categories = np.array(['hat'] * 30 + ['cap'] * 3)
    rows = labelling_probe.chosen_at_random(categories, 12, 0)
    assert np.count_nonzero(categories[rows] == 'cap') == 3
    assert len(set(rows)) == 12
    np.testing.assert_array_equal(labelling_probe.chosen_at_random(categories, 5, 0), rows[:5])
    assert set(labelling_probe.chosen_at_random(categories, 12, 1)) != set(rows)


def _known(count, seed):
    """Pictures of 100 px whose point is where their features say."""
    features = np.random.default_rng(seed).normal(0, 1, [count, 3])
    points = 50 + 10 * features[:, np.newaxis, :2]
    sizes = np.full([count, 2], 100)
    hats, zeros = np.full(count, 'hat'), np.zeros([count, 1])
    survey = Survey(np.arange(count).astype(str), hats, sizes, points, zeros, zeros, features)
    table = KeypointTable(
        survey.image_ids, hats, points, np.ones([count, 1], int), np.arange(count), None, sizes
    )
    return labelling_probe.Known(survey, table, np.full(count, 100.0))


def test_more_pictures_predict_better_from_features_that_tell():
    train, val = _known(2000, 0), _known(200, 1)
    errors = [labelling_probe.probe(train, val, SCHEMA, np.arange(n)) for n in (2, 50, 2000)]
    in_the_middle = np.linalg.norm(val.table.keypoints - 50, axis=-1).mean() / 100
    assert errors[0] == pytest.approx(in_the_middle)
    assert errors[0] > errors[1] > 3 * errors[2]


def test_the_table_has_the_share_that_was_labelled():
    found = {
        RANDOM: {50: [0.4, 0.4], 100: [0.36, 0.36], 200: [0.324, 0.324]},
        SUGGESTED: {50: [0.4, 0.4], 100: [0.334, 0.314], 200: [0.324, 0.324]},
    }
    lines = labelling_probe.table(found, [50, 100, 200]).splitlines()
    cells = [[cell.strip() for cell in line.split('|')[1:-1]] for line in lines]
    assert cells[3][:3] == ['suggested', '40.00 ± 0.00', '32.40 ± 1.00']
    assert cells[4] == ['as many random ones', '', '200 (50 %)', '200 (100 %)']
