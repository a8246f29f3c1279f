"""Radii hold as many points as is said, are pooled, written, read, and warn of other pictures."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math

import numpy as np
import pytest

from config import UserError
from tests.simulated_errors import SCHEMA, simulate
from utility.predict import uncertainty
from utility.predict.views_to_points import PredictOptions

OPTIONS = PredictOptions(flip_test=True)


def _calibrated(count=600, seed=0, **settings):
    return uncertainty.calibrate(*simulate(count, seed), SCHEMA, OPTIONS, **settings)


@pytest.mark.parametrize('features', [uncertainty.FEATURES, uncertainty.POINT_FEATURES])
def test_radii_hold_the_share_that_is_said_and_are_small_where_errors_are(features):
    held, categories, thirds, sizes = [], {'hat': [], 'cone': []}, [], []
    for seed in range(8):
        calibration = _calibrated(seed=seed, features=features)
        predictions, annotations = simulate(1500, 100 + seed)
        radii = calibration.radii(predictions, 0.9)
        assert np.isnan(radii[predictions.visibility < 0]).all()
        errors = np.linalg.norm(predictions.keypoints - annotations.keypoints, axis=-1)
        annotated = annotations.visibility >= 0
        held.append(np.mean((errors <= radii)[annotated]))
        for name, shares in categories.items():
            rows = predictions.categories == name
            shares.append(np.mean((errors <= radii)[rows][annotated[rows]]))
        sure = annotated & (predictions.scores > 0.67)
        unsure = annotated & (predictions.scores < 0.33)
        thirds.append([np.mean((errors <= radii)[part]) for part in (sure, unsure)])
        sizes.append([np.median(radii[part]) for part in (sure, unsure)])
    assert np.mean(held) == pytest.approx(0.9, abs=0.012)
    # Of the rarer one 180 pictures calibrate: ranks are rounded up, and models of fewer are worse.
    assert [np.mean(s) for s in categories.values()] == pytest.approx([0.9, 0.9], abs=0.025)
    np.testing.assert_allclose(np.mean(thirds, 0), 0.9, atol=0.06)
    small, large = np.mean(sizes, 0)
    assert large / small > 3.5  # of the scales it is 4.6


def test_the_expected_error_is_the_mean_error():
    calibration = _calibrated(1000)
    predictions, annotations = simulate(1500, 5)
    expected = calibration.expected_errors(predictions)
    errors = np.linalg.norm(predictions.keypoints - annotations.keypoints, axis=-1)
    annotated = annotations.visibility >= 0
    assert expected[annotated].mean() == pytest.approx(errors[annotated].mean(), rel=0.08)


def test_lengths_are_held_too():
    calibration = _calibrated(1500, seed=3)
    predictions, annotations = simulate(2000, 4)
    sizes, held = calibration.sizes(predictions), {}
    for row, category in enumerate(predictions.categories):
        for name, ends in SCHEMA.measurements_of(category).items():
            points = [k for k, n in enumerate(SCHEMA.keypoints) for end in ends if n in end]
            if (annotations.visibility[row][points] < 0).any():
                continue
            found, true = (
                uncertainty.length(ends, one.keypoints[row], SCHEMA.keypoints)
                for one in (predictions, annotations)
            )
            half = calibration.length_interval(category, name, ends, sizes[row])
            held.setdefault(name, []).append(abs(found - true) <= half)
    assert set(held) == set(SCHEMA.measurements)
    assert {n: np.mean(h) for n, h in held.items()} == pytest.approx(
        dict.fromkeys(held, 0.9), abs=0.035
    )


def test_a_length_goes_from_middle_to_middle():
    points = np.array([[0, 0], [10, 0], [5, 12], [0, 7]], float)
    lengths = {
        name: uncertainty.length(ends, points, SCHEMA.keypoints)
        for name, ends in SCHEMA.measurements.items()
    }
    assert lengths == {'brim': 10, 'height': 12, 'slant': 7}
    points[2] = np.nan
    assert math.isnan(uncertainty.length(SCHEMA.measurements['height'], points, SCHEMA.keypoints))


def test_what_is_written_is_read_again(tmp_path):
    calibration = _calibrated()
    path = tmp_path / 'uncertainty.json'
    calibration.write(path)
    again = uncertainty.read(path)
    predictions, _ = simulate(50, 1)
    np.testing.assert_array_equal(again.radii(predictions), calibration.radii(predictions))
    assert dataclasses.asdict(again) == dataclasses.asdict(calibration)
    again.check(SCHEMA, OPTIONS, str(path))


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'version': 2}, 'version 2, not 1'),
        ({'features': ['peak', 'taste']}, 'features must be different ones of peak'),
        ({'scores': {'hat/top': [-1.0]}}, 'a score is negative'),
        ({'scores': {'hat/top': ['x']}}, 'must be a finite number'),
        ({'known': {'hat': [[1.0]]}}, 'known.hat'),
        ({'model': {'low': [0]}}, 'model.low'),
        ({'keypoints': None}, "'keypoints' is missing"),
        ({'features': [], 'known': {}}, 'features must be different ones'),
        ({'features': ['peak'] * 6}, 'features must be different ones'),
        ({'scores': {}}, 'holds no score'),
        ({'scores': {'hat/top': []}}, 'holds no score'),
        ({'scores': {'hat/top': [1e299]}}, 'scores.hat/top: a number is larger than'),
        ({'known': {'hat': [[10**25] * 6] * 8}}, r'known.hat\[0\]: a number is larger than'),
        ({'model': {'intercept': 1e4}}, 'model: tells of errors of more than exp'),
        ({'model': {'weights': [-40.0] * 6}}, 'model: tells of errors of more than exp'),
        ({'model': {'offsets': {'hat/top': 1e9}}}, 'model: tells of errors of more than exp'),
        ({'model': {'low': [9.0] * 6, 'high': [1.0] * 6}}, 'a number of low is above'),
    ],
)
def test_a_hostile_file_is_refused_in_one_line(tmp_path, change, message):
    path = tmp_path / 'uncertainty.json'
    sound = json.loads(json.dumps(_calibrated(100).to_dict()))
    model = {**sound['model'], **change.get('model', {})}
    path.write_text(json.dumps({**sound, **change, 'model': model}))
    with pytest.raises(UserError, match=message) as error:
        uncertainty.read(path)
    assert '\n' not in str(error.value) and str(path) in str(error.value)


@pytest.mark.parametrize('content', ['', '[]', '{', '{"version": 1, "version": 1}', '\x00'])
def test_what_is_no_such_file_is_refused(tmp_path, content):
    path = tmp_path / 'uncertainty.json'
    path.write_text(content)
    with pytest.raises(UserError, match='uncertainty.json'):
        uncertainty.read(path)


def test_another_predictor_is_refused():
    calibration = _calibrated(100)
    with pytest.raises(UserError, match='flip_test=True, not False'):
        calibration.check(SCHEMA, PredictOptions(), 'a.json')
    with pytest.raises(UserError, match='4 keypoints brim_left, .* not for those of hats'):
        calibration.check(SCHEMA.subset('hat'), OPTIONS, 'a.json')
    predictions = dataclasses.replace(simulate(5, 0)[0], map_features=None)
    with pytest.raises(UserError, match='do not tell disagreement'):
        calibration.radii(predictions)


def test_too_few_pictures_are_refused_and_a_level_beyond_them_has_no_radius():
    with pytest.raises(UserError, match='too few'):
        _calibrated(6)
    radii = _calibrated(20).radii(simulate(5, 1)[0], 0.999)
    assert np.isinf(radii[~np.isnan(radii)]).all()


def test_pictures_of_another_kind_are_warned_of():
    calibration = _calibrated()
    alike, _ = simulate(200, 7)
    assert uncertainty.sentence_of(calibration.shifts(alike)) is None
    blurred = dataclasses.replace(alike, scores=alike.scores * 0.6)
    sentence = uncertainty.sentence_of(calibration.shifts(blurred))
    assert 'unlike those that calibrated' in sentence and 'peak' in sentence
    # Another share of the categories is not another kind of pictures.
    cones, _ = simulate(200, 8, cones=0.9)
    assert uncertainty.sentence_of(calibration.shifts(cones)) is None


def test_an_assessment_counts_by_hand():
    predictions, annotations = simulate(40, 9)
    errors = np.linalg.norm(predictions.keypoints - annotations.keypoints, axis=-1)
    radii = np.full(errors.shape, 20.0)
    annotated = annotations.visibility >= 0
    found = uncertainty.assess(radii, predictions, annotations, SCHEMA)
    assert found.points == annotated.sum()
    assert found.coverage == pytest.approx(np.mean(errors[annotated] <= 20))
    assert found.interval[0] < found.coverage < found.interval[1]
    assert found.mean_radius == 20
    assert sum(row[3] for row in found.per_category.values()) == found.points
    assert json.loads(json.dumps(found.to_dict()))['level'] == 0.9


def test_the_table_has_a_row_for_each_point():
    calibration = _calibrated()
    predictions, _ = simulate(10, 1)
    text = uncertainty.table_of(calibration, predictions, reject_above=50).decode()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == (predictions.visibility >= 0).sum()
    assert all(float(row['radius']) > float(row['expected_error']) > 0 for row in rows)
    assert [row['rejected'] == '1' for row in rows] == [float(r['radius']) > 50 for r in rows]
    assert 0 < sum(int(row['rejected']) for row in rows) < len(rows)
