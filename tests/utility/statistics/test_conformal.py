"""Conformal radii: the exact rank, the share that they hold, pooling, and what a shift is."""

from __future__ import annotations

import math

import numpy as np
import pytest

from config import UserError
from utility.statistics import conformal


def test_the_quantile_is_the_score_of_the_exact_rank():
    scores = np.arange(1.0, 20.0)  # 19 of them: 20 * 0.9 is 18
    assert conformal.quantile(scores[::-1], 0.9) == 18
    assert conformal.quantile(np.arange(1.0, 21.0), 0.9) == 19  # 21 * 0.9 is 18.9
    assert conformal.quantile(np.arange(1.0, 10.0), 0.9) == 9
    assert conformal.quantile(np.arange(1.0, 9.0), 0.9) == math.inf
    # 30 * 0.7 is 20.999999999999996, 10 * 0.7 and others are above: the rank is exact.
    for count in range(1, 400):
        for percent in (50, 70, 80, 90, 95, 99):
            expected = -(-(count + 1) * percent // 100)
            assert conformal.rank(count, percent / 100) == expected


@pytest.mark.parametrize('level', [0, 1, -0.1, 90])
def test_a_level_is_a_share(level):
    with pytest.raises(UserError, match=f'level={level}'):
        conformal.quantile(np.ones(9), level)


def _draw(rng, count):
    """Return features [n, 2], whose first tells the scale, groups, and heavy-tailed errors."""
    features = rng.normal(size=(count, 2))
    groups = rng.choice(['a/x', 'a/y', 'b/x'], count)
    scales = np.exp(1.0 + 0.8 * features[:, 0] + 0.7 * (groups == 'b/x'))
    return features, groups, scales * np.abs(rng.standard_t(3, count))


@pytest.mark.parametrize('level', [0.8, 0.9])
def test_radii_hold_the_share_of_errors_that_is_said_and_are_smaller_than_one_for_all(level):
    rng = np.random.default_rng(0)
    held, typical, of_tenths = [], [], []
    for _ in range(20):
        model = conformal.ErrorModel.fit(*_draw(rng, 600), floor=0.1)
        features, groups, errors = _draw(rng, 400)
        scores = errors / model.predict(features, groups)
        new_features, new_groups, new_errors = _draw(rng, 2000)
        radii = conformal.quantile(scores, level) * model.predict(new_features, new_groups)
        held.append(np.mean(new_errors <= radii))
        typical.append(np.median(radii) / conformal.quantile(errors, level))
        parts = np.array_split(np.argsort(new_features[:, 0]), 5)
        of_tenths.append([np.mean((new_errors <= radii)[part]) for part in parts])
    # Of 20 means of binomial shares of 400 scores the standard deviation is below half a point.
    assert np.mean(held) == pytest.approx(level, abs=0.015)
    assert np.mean(typical) < 0.85
    # Also where the feature says that errors are small, or large; one radius for all would hold
    # nearly all of the former and far too few of the latter.
    np.testing.assert_allclose(np.mean(of_tenths, 0), level, atol=0.06)


def test_radii_of_scores_that_were_learned_from_are_told_apart():
    """The split matters: the same scores for both hold fewer new errors than they should."""
    rng = np.random.default_rng(1)
    held = []
    for _ in range(40):
        features, errors = rng.normal(size=(60, 30)), np.abs(rng.standard_t(3, 60))
        model = conformal.ErrorModel.fit(features, ['a/x'] * 60, errors, floor=0.1)
        scores = errors / model.predict(features, ['a/x'] * 60)
        new = rng.normal(size=(500, 30))
        radii = conformal.quantile(scores, 0.9) * model.predict(new, ['a/x'] * 500)
        held.append(np.mean(np.abs(rng.standard_t(3, 500)) <= radii))
    assert np.mean(held) < 0.87


def test_features_beyond_what_was_learned_from_change_nothing_more():
    rng = np.random.default_rng(2)
    model = conformal.ErrorModel.fit(*_draw(rng, 300), floor=0.1)
    at, beyond = np.array([[50.0, 0.0], [5000.0, 0.0]])
    assert model.predict(at[None], ['a/x']) == model.predict(beyond[None], ['a/x'])
    assert np.isfinite(model.predict(beyond[None], ['unknown'])).all()


def test_groups_with_too_few_scores_are_pooled():
    assert conformal.enough(0.9) == 100
    scores = {'a/x': np.full(100, 1.0), 'a/y': np.full(99, 2.0), 'b/x': np.full(5, 3.0)}
    groups = conformal.GroupScores(scores)
    assert set(groups.of('a/x', 0.9)) == {1.0}
    assert set(groups.of('a/y', 0.9)) == {1.0, 2.0}
    assert set(groups.of('b/x', 0.9)) == {1.0, 2.0, 3.0} == set(groups.of('c/z', 0.9))
    assert set(groups.of('a/x', 0.95)) == {1.0, 2.0, 3.0}  # which needs 200
    assert len(conformal.GroupScores({}).of('a/x', 0.9)) == 0


def test_a_shift_is_found_and_no_shift_is_not():
    rng = np.random.default_rng(3)
    names, false_alarms = ('peak', 'spread', 'extent'), 0
    for _ in range(100):
        known = {'a': rng.normal(size=(60, 3)), 'b': rng.normal(size=(60, 3))}
        new = {'a': rng.normal(size=(40, 3)), 'b': rng.normal(size=(40, 3))}
        found = conformal.shifts(known, new, names)
        assert len(found) == 6
        false_alarms += found[0].p_value < 0.05
    assert false_alarms <= 12  # 5 are expected; 12 or less in 99.8 % of the cases
    new['b'] = new['b'] + [0, 1.5, 0]
    first = conformal.shifts(known, new, names)[0]
    assert (first.group, first.feature) == ('b', 'spread')
    assert first.p_value < 1e-4 and first.distance > 0.4
    assert conformal.shifts(known, {'a': new['a'][:7], 'c': new['b']}, names) == []


def test_the_surest_points_are_kept():
    radii, errors = np.array([4.0, 1.0, 3.0, 2.0]), np.array([8.0, 1.0, 3.0, 2.0])
    kept = conformal.risk_coverage(radii, errors, (1.0, 0.5, 0.01))
    assert kept == [(1.0, 4.0, 3.5), (0.5, 2.0, 1.5), (0.01, 1.0, 1.0)]
