"""Calibration on simulated classifiers, of which it is known how well they are calibrated."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from utility.statistics.reliability import (
    GroupScalings,
    Scaling,
    cross_scaled,
    expected_calibration_error,
    fit_group_scalings,
    fit_scaling,
    reliability,
)

NUMBER = 100_000


def _simulated(number=NUMBER, seed=0):
    """Return probabilities [P, 3] and outcomes [P] that happen with just these."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (number, 3))
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    outcomes = (rng.uniform(size=(number, 1)) > probabilities.cumsum(1)).sum(1)
    return probabilities, np.minimum(outcomes, 2)


def test_the_error_of_a_calibrated_classifier_is_near_0_and_that_of_a_known_one_is_known():
    rng = np.random.default_rng(0)
    probabilities = rng.uniform(size=NUMBER)
    assert (
        expected_calibration_error(probabilities, rng.uniform(size=NUMBER) < probabilities) < 0.01
    )
    # What is said to happen with p happens with p / 2: the mean gap is that of p / 2, 1 / 4.
    half = rng.uniform(size=NUMBER) < probabilities / 2
    assert expected_calibration_error(probabilities, half) == pytest.approx(0.25, abs=0.01)


def test_a_bin_has_what_was_said_and_what_happened():
    first, last = reliability([0.05, 0.0, 1.0, 0.95], [False, True, True, True])
    assert first == (0.0, 0.1, 2, 0.025, 0.5)
    assert (last.low, last.high, last.count, last.share) == (0.9, 1.0, 2, 1.0)
    error = expected_calibration_error([0.05, 0.0, 1.0, 0.95], [False, True, True, True])
    assert error == pytest.approx((2 * 0.475 + 2 * 0.025) / 4)
    assert np.isnan(expected_calibration_error([], []))


def test_what_distorted_the_probabilities_is_fitted():
    probabilities, outcomes = _simulated()
    distortion = Scaling(0.4, (0.5, -0.3, -0.2))  # too sure, and biased
    distorted = distortion(probabilities)
    event = outcomes == 2
    assert expected_calibration_error(distorted[:, 2], event) > 0.05
    fitted = fit_scaling(distorted, outcomes)
    assert fitted.temperature == pytest.approx(1 / 0.4, rel=0.05)
    assert expected_calibration_error(fitted(distorted)[:, 2], event) < 0.01
    np.testing.assert_allclose(fitted(distorted), probabilities, atol=0.02)


def test_two_scalings_are_one():
    probabilities, _ = _simulated(50)
    first, second = Scaling(2.0, (0.1, -0.4, 0.0)), Scaling(0.7, (0.0, 1.0, -1.0))
    np.testing.assert_allclose(
        second.after(first)(probabilities), second(first(probabilities)), atol=1e-6
    )
    assert not Scaling(2.0, (1.0, 0.0, 0.0))(np.zeros((2, 3))).any()  # not told stays not told
    assert Scaling.from_json({'temperature': 2, 'bias': [1, 0]}) == Scaling(2.0, (1.0, 0.0))


def test_each_group_has_its_own_scaling_and_a_small_one_that_of_its_outer_group():
    probabilities, outcomes = _simulated()
    distortions = {'a': Scaling(0.4, (0.5, -0.3, -0.2)), 'b': Scaling(2.0, (0.0, 0.0, 0.0))}
    labels = np.array(['a/x', 'b/x'])[np.arange(NUMBER) % 2]
    labels[:20:2] = 'a/rare'
    distorted = GroupScalings(Scaling(1.0, (0.0, 0.0, 0.0)), distortions)(probabilities, labels)
    fitted = fit_group_scalings(distorted, outcomes, labels)
    for name, distortion in distortions.items():
        assert fitted.of(f'{name}/x').temperature == pytest.approx(
            1 / distortion.temperature, rel=0.05
        )
        own = labels == f'{name}/x'
        scaled = fitted(distorted[own], labels[own])
        assert expected_calibration_error(scaled[:, 2], outcomes[own] == 2) < 0.015
    rare, outer = fitted.of('a/rare'), fitted.of('a/of which there are none')
    assert outer == fitted.groups['a'] and fitted.of('c/x') == fitted.pooled
    assert abs(np.log(rare.temperature / outer.temperature)) < 1


def test_scalings_of_groups_are_one_after_another_and_are_read_again():
    rng = np.random.default_rng(0)
    probabilities, labels = rng.dirichlet(np.ones(2), 3), np.array(['a/x', 'a/y', 'b/x'])
    first = GroupScalings(Scaling(2.0, (0.1, 0.0)), {'a': Scaling(0.5, (0.0, 1.0))})
    second = GroupScalings(Scaling(0.7, (0.0, 0.3)), {'a/x': Scaling(3.0, (0.2, 0.0))})
    both = second.after(first)(probabilities, labels)
    np.testing.assert_allclose(both, second(first(probabilities, labels), labels), atol=1e-9)
    assert GroupScalings.from_json(dataclasses.asdict(first)) == first
    alone = GroupScalings.from_json({'temperature': 2, 'bias': [0.1, 0]})
    assert alone == GroupScalings(first.pooled)


def test_nothing_is_scaled_by_its_own_group():
    """The outcomes of one group alone are told by its probabilities; that must not help it."""
    probabilities = np.tile([[0.6, 0.4]], (200, 1))
    outcomes = np.zeros(200, int)
    groups = np.repeat(np.arange(10), 20)
    scaled = cross_scaled(probabilities, outcomes, groups)
    last = groups == 9
    changed = np.where(last, 1, outcomes)
    rescaled = cross_scaled(probabilities, changed, groups)
    np.testing.assert_array_equal(rescaled[last], scaled[last])
    assert np.abs(rescaled[~last] - scaled[~last]).max() > 0.01
