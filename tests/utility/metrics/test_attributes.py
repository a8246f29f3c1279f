"""Scores of categories and presence, against counts by hand."""

from __future__ import annotations

import numpy as np
import pytest

from preprocessing.datasets.fashionai import SCHEMA
from utility.metrics import attributes
from utility.predict.predictor import Predictions

NAMES = list(SCHEMA.categories)
K = SCHEMA.num_keypoints


def _sure(indices, number):
    """Return probabilities [N, number] that are 0.9 at the indices."""
    shares = np.full((len(indices), number), 0.1 / (number - 1))
    shares[np.arange(len(indices)), indices] = 0.9
    return shares


def test_categories_are_counted():
    given = np.array(['blouse', 'blouse', 'skirt', 'dress'])
    predicted = [NAMES.index(name) for name in ('blouse', 'dress', 'skirt', 'dress')]
    report = attributes.category_report(_sure(predicted, len(NAMES)), given, SCHEMA)
    assert report['accuracy'] == 0.75 and report['images'] == 4
    told = np.array([[0.5, 0.3, 0.1, 0.1, 0.0], [0.5, 0.3, 0.2, 0.0, 0.0]])
    pair = attributes.category_report(told, np.array([NAMES[1], NAMES[2]]), SCHEMA)
    assert (pair['accuracy'], pair['top_2_accuracy']) == (0.0, 0.5)
    assert report['confusion']['blouse'] == {'blouse': 1, 'dress': 1}
    assert report['per_category']['blouse'] == {'images': 2, 'accuracy': 0.5, 'precision': 1.0}
    assert report['per_category']['dress']['precision'] == 0.5
    assert set(report['per_category']) == {'blouse', 'skirt', 'dress'}
    assert report['expected_calibration_error'] == pytest.approx(0.15)
    assert '75.00 % of 4 categories are right' in attributes.format_report({'category': report})


def test_only_points_of_the_annotated_category_are_scored():
    own = list(SCHEMA.indices('skirt'))
    visibility = np.full((2, K), 1)
    visibility[:, own] = [[1, 1, 0, -1], [1, 0, -1, 1]]
    told = np.tile(_sure([0], 3), (2, K, 1))
    told[0, own] = _sure([2, 0, 2, 2], 3)
    told[1, own] = _sure([2, 1, 0, 2], 3)
    categories = np.array(['skirt', 'skirt'])
    report = attributes.presence_report(told, visibility, categories, SCHEMA)
    assert report['all']['points'] == 8
    present, visible = report['all']['present'], report['all']['visible']
    assert (present['share'], visible['share']) == (6 / 8, 4 / 8)
    assert (present['precision'], present['recall']) == (5 / 6, 5 / 6)
    assert (visible['precision'], visible['recall']) == (3 / 5, 3 / 4)
    others = np.where(np.isin(np.arange(K), own)[:, np.newaxis], told, [0.0, 1.0, 0.0])
    again = attributes.presence_report(others, visibility, categories, SCHEMA)
    assert again['all'] == report['all']
    assert list(report['per_category']) == ['skirt']
    assert 'skirt' in attributes.format_report({'presence': report})


def test_what_is_not_told_is_not_scored():
    nothing = Predictions(*[np.zeros(0)] * 6)
    assert attributes.report_of(nothing, None, SCHEMA) == {}
