"""NE against a loop written from its definition, and facts about scores."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest

from preprocessing.datasets.fashionai import SCHEMA
from preprocessing.tables import KeypointTable, category_points
from utility.metrics import baseline, normalized_error


def random_tables(count=30, seed=0):
    """Return answers and predictions, some 10 px off, of pictures of all categories."""
    generator = np.random.default_rng(seed)
    categories = np.array([list(SCHEMA.categories)[i % 5] for i in range(count)])
    in_category = category_points(categories, SCHEMA)
    visibility = np.where(in_category, generator.choice([1, 1, 1, 0, -1], in_category.shape), -1)
    points = generator.integers(0, 512, [*in_category.shape, 2]) + 0.5
    noise = generator.normal(0, 10, points.shape)
    ids = np.array([f'{i}.jpg' for i in range(count)], dtype=object)
    lines = np.arange(2, count + 2)

    def table(keypoints, v):
        keypoints = np.where(v[..., np.newaxis] < 0, -0.5, keypoints).astype(np.float32)
        return KeypointTable(ids, categories, keypoints, v.astype(np.int32), lines)

    return table(points + noise, np.where(in_category, 1, -1)), table(points, visibility)


def reference_errors(predicted, annotations):
    """Return (category, keypoint, distance / normalizer) of every scored point, and skipped
    pictures.
    """
    errors, skipped = [], 0
    for i, category in enumerate(annotations.categories):
        a, b = (SCHEMA.keypoints.index(name) for name in SCHEMA.normalizers[category])
        if -1 in (annotations.visibility[i, a], annotations.visibility[i, b]):
            skipped += 1
            continue
        length = math.dist(
            annotations.keypoints[i, a].tolist(), annotations.keypoints[i, b].tolist()
        )
        for k, name in enumerate(SCHEMA.keypoints):
            if annotations.visibility[i, k] == 1:
                p, t = predicted.keypoints[i, k].tolist(), annotations.keypoints[i, k].tolist()
                errors.append((category, name, math.dist(p, t) / length))
    return errors, skipped


def take(table, rows):
    return table.rows(rows)


def mean(values):
    return sum(values) / len(values)


def _pck(errors):
    return {str(t): pytest.approx(mean([e <= t for e in errors])) for t in (0.02, 0.05, 0.1, 0.2)}


def test_score_agrees_with_the_definition():
    predicted, annotations = random_tables()
    errors, skipped = reference_errors(predicted, annotations)
    score = normalized_error.score(predicted, annotations, SCHEMA)
    assert 0 < skipped < 30
    assert (score.points, score.images, score.skipped_images) == (len(errors), 30, skipped)
    assert score.normalized_error == pytest.approx(mean([e for _, _, e in errors]), rel=1e-9)
    for groups, counts, part in (
        (score.per_category, score.points_per_category, 0),
        (score.per_keypoint, score.points_per_keypoint, 1),
    ):
        assert set(groups) == {row[part] for row in errors}
        for name, value in groups.items():
            part_errors = [row[2] for row in errors if row[part] == name]
            assert value == pytest.approx(mean(part_errors), rel=1e-9)
            assert counts[name] == len(part_errors)
            shares = getattr(score, f'pck_per_{("category", "keypoint")[part]}')[name]
            assert shares == _pck(part_errors)
    assert score.pck == _pck([e for _, _, e in errors])


def test_normalized_error_is_the_same_number():
    predicted, annotations = random_tables()
    normalizer = normalized_error.normalizers_of(annotations, SCHEMA)
    value = normalized_error.normalized_error(*predicted[2:3], *annotations[2:4], normalizer)
    assert value == pytest.approx(
        normalized_error.score(predicted, annotations, SCHEMA).normalized_error
    )


def test_normalized_error_by_hand():
    predicted = [[[3.0, 4.0], [9.0, 9.0]], [[1.0, 0.0], [0.0, 0.0]], [[7.0, 7.0], [0.0, 0.0]]]
    visibility = [[1, 0], [1, -1], [1, 1]]
    value = normalized_error.normalized_error(
        predicted, np.zeros([3, 2, 2]), visibility, [10.0, 4.0, 0.0]
    )
    assert value == pytest.approx((5 / 10 + 1 / 4) / 2)


def test_nothing_scored():
    zeros = np.zeros([2, 3, 2])
    assert math.isnan(normalized_error.normalized_error(zeros, zeros, np.zeros([2, 3]), [1, 1]))
    predicted, annotations = random_tables()
    hidden = annotations._replace(visibility=np.minimum(annotations.visibility, 0))
    with pytest.raises(ValueError, match='no point of 30 images'):
        normalized_error.score(predicted, hidden, SCHEMA)


def test_a_prediction_that_is_no_number_is_refused():
    zeros = np.zeros([1, 2, 2])
    predicted = np.array([[[np.nan, 0.0], [0.0, 0.0]]])
    assert normalized_error.normalized_error(predicted, zeros, [[0, 1]], [1.0]) == 0
    with pytest.raises(ValueError, match='finite'):
        normalized_error.normalized_error(predicted, zeros, [[1, 1]], [1.0])


def test_normalizer_counts_occluded_points_but_not_absent_ones():
    keypoints = np.zeros([4, 24, 2])
    keypoints[:, SCHEMA.keypoints.index('armpit_right')] = (30, 40)
    keypoints[:, SCHEMA.keypoints.index('waistband_left')] = (0, 7)
    visibility = np.zeros([4, 24])
    visibility[2, SCHEMA.keypoints.index('armpit_left')] = -1
    categories, numbers = np.array(['dress', 'skirt', 'dress', 'skirt']), np.arange(4)
    table = KeypointTable(numbers, categories, keypoints, visibility, numbers)
    lengths = normalized_error.normalizers_of(table, SCHEMA)
    assert lengths.tolist() == [50, 7, 0, 7]


def test_pictures_and_points_on_one_place_are_skipped():
    predicted, annotations = random_tables()
    same = annotations._replace(keypoints=np.zeros_like(annotations.keypoints))
    with pytest.raises(ValueError, match='no point'):
        normalized_error.score(predicted, same, SCHEMA)


def test_error_is_invariant_to_scale_and_order():
    predicted, annotations = random_tables()
    score = normalized_error.score(predicted, annotations, SCHEMA)
    order = np.random.default_rng(1).permutation(30)
    assert normalized_error.score(take(predicted, order), annotations, SCHEMA) == score
    larger = [t._replace(keypoints=t.keypoints * 2) for t in (predicted, annotations)]
    assert normalized_error.score(*larger, SCHEMA).normalized_error == pytest.approx(
        score.normalized_error
    )


def test_perfect_predictions():
    _, annotations = random_tables()
    score = normalized_error.score(annotations, annotations, SCHEMA)
    assert score.normalized_error == 0
    assert set(score.pck.values()) == {1.0}


def missing_one(predicted, annotations):
    """Return the predictions without one scored point; and its row and column."""
    normalizer = normalized_error.normalizers_of(annotations, SCHEMA)
    row, k = np.argwhere((annotations.visibility == 1) & (normalizer > 0)[:, np.newaxis])[7]
    keypoints, visibility = predicted.keypoints.copy(), predicted.visibility.copy()
    keypoints[row, k], visibility[row, k] = (123, 45), -1
    return predicted._replace(keypoints=keypoints, visibility=visibility), row, k


def test_missing_predictions():
    predicted, annotations = random_tables()
    lacking, row, k = missing_one(predicted, annotations)
    with pytest.raises(ValueError, match=rf'1 scored .*{SCHEMA.keypoints[k]} of {row}\.jpg'):
        normalized_error.score(lacking, annotations, SCHEMA)

    outside = predicted.keypoints.copy()
    outside[row, k] = -0.5  # the center of pixel (-1, -1)
    counted = normalized_error.score(lacking, annotations, SCHEMA, 'count')
    expected = normalized_error.score(predicted._replace(keypoints=outside), annotations, SCHEMA)
    assert counted.normalized_error == expected.normalized_error
    assert (counted.points, counted.missing_predictions) == (expected.points, 1)

    hidden = annotations.visibility.copy()
    hidden[row, k] = 0
    skipped = normalized_error.score(lacking, annotations, SCHEMA, 'skip')
    expected = normalized_error.score(predicted, annotations._replace(visibility=hidden), SCHEMA)
    assert skipped.normalized_error == expected.normalized_error
    assert (skipped.points, skipped.missing_predictions) == (expected.points, 1)


def test_unscored_points_may_be_missing():
    predicted, annotations = random_tables()
    normalizer = normalized_error.normalizers_of(annotations, SCHEMA)
    scored = (annotations.visibility == 1) & (normalizer > 0)[:, np.newaxis]
    predicted = predicted._replace(visibility=np.where(scored, 1, -1))
    score = normalized_error.score(predicted, annotations, SCHEMA)
    assert (score.points, score.missing_predictions) == (scored.sum(), 0)


def test_unknown_policy():
    with pytest.raises(ValueError, match="missing='drop'.*error, count, skip"):
        normalized_error.score(*random_tables(), SCHEMA, 'drop')


def test_other_pictures_are_refused():
    predicted, annotations = random_tables()
    with pytest.raises(ValueError, match=r'prediction lacks 4 images \(26.jpg, 27.jpg, 28.jpg, \.'):
        normalized_error.score(take(predicted, range(26)), annotations, SCHEMA)
    with pytest.raises(ValueError, match=r'prediction has 1 images \(29.jpg\) unknown'):
        normalized_error.score(predicted, take(annotations, range(29)), SCHEMA)
    twice = take(predicted, [*range(30), 3])
    with pytest.raises(ValueError, match=r'prediction holds 1 images \(3.jpg\) more than once'):
        normalized_error.score(twice, annotations, SCHEMA)


def test_other_categories_are_refused():
    predicted, annotations = random_tables()
    categories = predicted.categories.copy()
    categories[3] = 'dress'
    with pytest.raises(ValueError, match=r'line 5: 3\.jpg is dress, but skirt in the answers; 1 '):
        normalized_error.score(predicted._replace(categories=categories), annotations, SCHEMA)


def test_json():
    score = normalized_error.score(*random_tables(), SCHEMA)
    values = json.loads(json.dumps(dataclasses.asdict(score)))
    assert values['normalized_error'] == score.normalized_error
    assert values['points'] == score.points
    assert values['per_category'] == score.per_category
    assert normalized_error.Score(**values) == score


def test_mean_positions():
    sizes = np.array([[100, 200], [50, 40], [10, 10]])
    keypoints = np.zeros([3, 2, 2])
    keypoints[:, 0] = [(50, 10), (30, 25), (2, 3)]
    keypoints[:, 1] = [(99, 99), (20, 10), (9, 9)]
    visibility = np.array([[1, -1], [0, 1], [1, -1]])
    categories = ['dress', 'dress', 'skirt']
    positions = baseline.mean_positions(keypoints, visibility, sizes, categories)
    np.testing.assert_allclose(positions['dress'], [(0.5, 0.3), (0.5, 0.2)])
    np.testing.assert_allclose(positions['skirt'], [(0.2, 0.3), (0.5, 0.5)])
    predicted = baseline.mean_position_baseline(positions, [[20, 30], [7, 8]], ['skirt', 'dress'])
    np.testing.assert_allclose(predicted, [[(6, 6), (15, 10)], [(4, 2.1), (4, 1.4)]])
    with pytest.raises(ValueError, match="'blouse'.*dress, skirt"):
        baseline.mean_position_baseline(positions, [[20, 30]], ['blouse'])
