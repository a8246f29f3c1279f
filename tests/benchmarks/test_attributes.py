"""The page of category and presence says what the two networks' numbers say."""

from __future__ import annotations

import types

import numpy as np
import pytest

from benchmarks import attributes as benchmark
from benchmarks import few_pictures
from benchmarks.common import category_evidence
from preprocessing.datasets.fashionai import SCHEMA
from utility.metrics import attributes

NAMES = list(SCHEMA.categories)
SETTING = few_pictures.Setting('train_efficientnet_lite0_dhn.py', 'all', 64, 30, 100, 40, 'float32')
N, K = 40, SCHEMA.num_keypoints


def _cells():
    """Return cells of 40 pictures, of which the network takes the first for another category."""
    rng = np.random.default_rng(0)
    categories = np.array([NAMES[number % len(NAMES)] for number in range(N)])
    told = np.array([[0.9 if c == name else 0.025 for name in NAMES] for c in categories])
    told[0] = np.roll(told[0], 1)
    presence = rng.dirichlet([0.3, 0.5, 3], (N, K))
    visibility = np.array([[rng.choice(3, p=p) - 1 for p in row] for row in presence])
    predictions = types.SimpleNamespace(
        category_probabilities=told, presence=presence, scores=rng.uniform(size=(N, K))
    )
    answers = types.SimpleNamespace(categories=categories, visibility=visibility)
    distances = rng.gamma(1, 0.1, (N, K))
    row = {'machine': 'a machine', 'num_train': 7, 'given': distances.tolist()}
    told_row = {
        **row,
        'given': (distances + 0.05).tolist(),
        'predicted': (distances + 0.1).tolist(),
        'strict': (distances + 0.2).tolist(),
        'report': attributes.report_of(predictions, answers, SCHEMA),
        'calibration': benchmark._calibration(predictions, answers, SCHEMA),
        'combined': category_evidence.accuracies(predictions, answers, SCHEMA),
    }
    return {benchmark.WITHOUT: {**row, 'report': {}}, benchmark.WITH: told_row}


def test_the_page_has_each_number_and_names_what_is_missed():
    cells = _cells()
    other = {**cells[benchmark.WITH], 'given': [[0.5]]}
    rows = {
        benchmark._key(SETTING._replace(steps=90), benchmark.WITH, 1, (0.1, 0.001)): other,
        **{benchmark._key(SETTING, arm, 1, (0.01, 0.001)): row for arm, row in cells.items()},
    }
    page = benchmark.page(cells, SETTING, 1, 'the command', rows)
    for arm, name in ((benchmark.WITHOUT, 'given'), (benchmark.WITH, 'predicted')):
        error = 100 * np.mean(cells[arm][name])
        assert f'| {arm} | {name} | {error:.2f} [' in page
    assert 'The heads change NE by +5.00 points' in page and 'worse beyond chance' in page
    assert '**97.5 %** of the categories are right' in page
    assert '| 64 | 90 | 0.1 | 0.001 | 97.5 | 100.0 | 50.0 |' in page
    assert page.count('| 64 | ') == 2 and page.index('| 64 | 30 |') < page.index('| 64 | 90 |')
    assert '| blouse | 8 | 7 | 1 | 0 | 0 | 0 | 87.5 | 100.0 |' in page
    assert '97.5 % with the head alone: too little to be built in.' in page.replace('\n', ' ')
    assert '| categories that are right | at least 97 % | 97.5 % | reached |' in page
    assert '| NE by a predicted category | within 0.3 points | +5.00 points | **missed** |' in page
    assert '| NE with heads | not worse beyond chance | +5.00 points | **missed** |' in page
    row = cells[benchmark.WITH]
    errors = {
        f'{event} of {name} ({100 * np.mean(part["scaled"]):.2f})': np.mean(part['scaled'])
        for name, own in row['calibration'].items()
        for event, part in own.items()
        if name != 'all'
    }
    assert {text in page.replace('\n', ' ') for text, e in errors.items() if e > 0.03} == {True}
    assert not any(text in page for text, error in errors.items() if error <= 0.03)
    one = row['report']['presence']['after_scaling']['per_category']['skirt']['visible']
    scaled = row['calibration']['skirt']['visible']['scaled']
    assert scaled[0] == one['expected_calibration_error'] and len(set(scaled)) > 1


@pytest.mark.parametrize('tells', [True, False])
def test_peaks_that_tell_the_category_are_used_and_others_do_no_harm(tells):
    rng = np.random.default_rng(0)
    categories = np.array(NAMES * 60)
    is_own = np.array([[k in SCHEMA.indices(name) for k in range(K)] for name in categories])
    given = (np.array(NAMES) == categories[:, np.newaxis]) * 1.0
    logits = given + rng.normal(size=given.shape)
    predictions = types.SimpleNamespace(
        category_probabilities=np.exp(logits) / np.exp(logits).sum(1, keepdims=True),
        presence=np.full((*is_own.shape, 3), 1 / 3),
        scores=np.where(is_own & tells, 0.8, 0.2) + 0.05 * rng.normal(size=is_own.shape),
    )
    answers = types.SimpleNamespace(categories=categories)
    found = category_evidence.accuracies(predictions, answers, SCHEMA)
    alone, peaks, presence, both = found.values()
    assert 0.4 < alone < 0.75 and abs(presence - alone) < 0.03
    assert min(peaks, both) > 0.97 if tells else max(abs(peaks - alone), abs(both - alone)) < 0.04


def test_chance_is_what_a_calibrated_network_scores():
    """It falls with the root of the number of points."""
    rng = np.random.default_rng(1)
    errors = []
    for number in (40, 360):
        categories = np.full(number, 'skirt')
        presence = rng.dirichlet([0.3, 0.5, 3], (number, K))
        draws = rng.uniform(size=(number, K, 1)) > presence.cumsum(-1)
        predictions = types.SimpleNamespace(presence=presence)
        answers = types.SimpleNamespace(categories=categories, visibility=draws.sum(-1) - 1)
        found = benchmark._calibration(predictions, answers, SCHEMA)
        errors.append(found['skirt']['visible']['chance'])
    assert 2 < errors[0] / errors[1] < 4.5
