"""utility.ensembles and its methods: they agree with NumPy, and with what defines them."""

from __future__ import annotations

import numpy as np
import pytest

from preprocessing.datasets.fashionai import SCHEMA
from preprocessing.tables import KeypointTable, category_points, write_table
from utility.ensembles import combination, methods
from utility.ensembles.methods import METHODS

CATEGORIES = ['blouse', 'dress', 'outwear', 'skirt', 'trousers', 'skirt']
IDS = [f'Images/{category}/{i}.jpg' for i, category in enumerate(CATEGORIES)]
OWN = category_points(CATEGORIES, SCHEMA)


def submission(seed, visibility=None, order=None):
    """Return random predictions in whole pixels; visibility [N, K] marks those that are there."""
    generator = np.random.default_rng(seed)
    visibility = np.where(OWN, 1, -1) if visibility is None else visibility
    points = generator.integers(0, 512, [*OWN.shape, 2]) + 0.5
    points = np.where(visibility[..., np.newaxis] < 0, -0.5, points).astype(np.float32)
    table = KeypointTable(
        np.array(IDS, dtype=object), np.array(CATEGORIES), points, visibility, np.arange(2, 8)
    )
    return table if order is None else table.rows(order)


def ensemble(tables, schema, method='mean', weights=None, names=None):
    """Return tables combined by a method, as a table in the order of the first."""
    names = names or [f'submission {number}' for number in range(1, len(tables) + 1)]
    stacked = combination.stack(tables, schema, names)
    points, _ = combination.combine(stacked, method, weights)
    return combination.as_table(points, stacked, tables[0], schema)


def holes(seed):
    """Return the visibility with a third of the points missing, though none in every seed from 0 to
    2.
    """
    present = np.arange(OWN.size).reshape(OWN.shape) % 3 != seed
    return np.where(OWN & present, 1, -1)


def reference(tables, combine):
    """Return combine(values, indices of the tables they are from) of every coordinate that is
    there.
    """
    result = np.full([*OWN.shape, 2], np.nan)
    for i, k, axis in np.ndindex(result.shape):
        present = [t for t, table in enumerate(tables) if table.visibility[i, k] >= 0]
        if present:
            values = [float(tables[t].keypoints[i, k, axis]) for t in present]
            result[i, k, axis] = combine(values, present)
    return result


@pytest.mark.parametrize('method, combine', [('mean', np.mean), ('median', np.median)])
@pytest.mark.parametrize('count', [1, 2, 3])
def test_ensemble_agrees_with_numpy(method, combine, count):
    tables = [submission(seed) for seed in range(count)]
    result = ensemble(tables, SCHEMA, method)
    expected = reference(tables, lambda values, _: combine(values))
    np.testing.assert_allclose(result.keypoints[OWN], expected[OWN], rtol=1e-6)
    np.testing.assert_array_equal(result.visibility, np.where(OWN, 1, -1))
    assert (result.keypoints[~OWN] == -0.5).all()


@pytest.mark.parametrize('method, combine', [('mean', np.mean), ('median', np.median)])
def test_missing_predictions_do_not_count(method, combine):
    tables = [submission(seed, holes(seed)) for seed in range(3)]
    result = ensemble(tables, SCHEMA, method)
    expected = reference(tables, lambda values, _: combine(values))
    np.testing.assert_allclose(result.keypoints[OWN], expected[OWN], rtol=1e-6)


def test_weighted_mean():
    weights = [0.5, 2.0, 3.5]
    tables = [submission(seed, holes(seed)) for seed in range(3)]
    result = ensemble(tables, SCHEMA, 'mean', weights)

    def combine(values, present):
        return np.average(values, weights=[weights[t] for t in present])

    np.testing.assert_allclose(result.keypoints[OWN], reference(tables, combine)[OWN], rtol=1e-6)


def test_whole_weights_of_a_median_are_repetitions():
    weights = [1, 3, 2, 4]
    tables = [submission(seed, holes(seed)) for seed in range(4)]
    result = ensemble(tables, SCHEMA, 'median', [w / 10 for w in weights])

    def combine(values, present):
        return np.median(np.repeat(values, [weights[t] for t in present]))

    np.testing.assert_allclose(result.keypoints[OWN], reference(tables, combine)[OWN], rtol=1e-6)


def test_order_of_the_rows_and_of_the_files():
    orders = [[3, 0, 5, 1, 4, 2], None, [5, 4, 3, 2, 1, 0]]
    tables = [submission(seed, order=order) for seed, order in enumerate(orders)]
    result = ensemble(tables, SCHEMA)
    assert result.image_ids.tolist() == [IDS[i] for i in orders[0]]
    plain = ensemble([submission(seed) for seed in range(3)], SCHEMA)
    np.testing.assert_allclose(result.keypoints, plain.keypoints[orders[0]])
    np.testing.assert_allclose(ensemble(tables[::-1], SCHEMA).keypoints, plain.keypoints[orders[2]])


def test_inputs_stay_as_they_are():
    tables = [submission(0, holes(0)), submission(1)]
    ensemble(tables, SCHEMA, 'median')
    for table, fresh in zip(tables, [submission(0, holes(0)), submission(1)]):
        np.testing.assert_array_equal(table.keypoints, fresh.keypoints)


def test_points_left_of_the_picture_move_to_its_edge():
    table = submission(0)
    table.keypoints[0, 0] = (-2.5, 7.5)
    assert ensemble([table], SCHEMA).keypoints[0, 0].tolist() == [0, 7.5]


def test_rounding_takes_ties_to_even_pixels():
    table = submission(0)
    table.keypoints[0, :3] = [(11.0, 12.0), (11.3, 11.9), (10.5, 0.0)]
    rounded = combination.round_to_pixels(table).keypoints[0, :3] - 0.5
    np.testing.assert_array_equal(rounded, [(10, 12), (11, 11), (10, 0)])


def test_a_point_that_nobody_predicts():
    nobody = np.where(OWN, 1, -1)
    nobody[4, SCHEMA.keypoints.index('crotch')] = -1
    tables = [submission(0, nobody), submission(1, nobody)]
    with pytest.raises(ValueError, match=rf'{IDS[4]} .*crotch: predicted in no submission'):
        ensemble(tables, SCHEMA)


def test_a_list_of_pictures_is_no_submission():
    tables = [submission(0), submission(1, np.full(OWN.shape, -1))]
    with pytest.raises(ValueError, match=r'test\.csv: predicts no point'):
        ensemble(tables, SCHEMA, names=['a.csv', 'test.csv'])


def test_tables_that_do_not_fit():
    names = ['a.csv', 'b.csv']
    with pytest.raises(ValueError, match=rf'b\.csv lacks 1 images \({IDS[5]}\) of a\.csv'):
        ensemble([submission(0), submission(1, order=range(5))], SCHEMA, names=names)
    with pytest.raises(ValueError, match=rf'b\.csv has 1 images \({IDS[5]}\) unknown to a\.csv'):
        ensemble([submission(0, order=range(5)), submission(1)], SCHEMA, names=names)
    relabeled = submission(1)
    relabeled.categories[3] = 'dress'
    with pytest.raises(
        ValueError, match=rf'b\.csv, line 5: {IDS[3]} is dress, but skirt in a\.csv'
    ):
        ensemble([submission(0), relabeled], SCHEMA, names=names)


@pytest.mark.parametrize('weights', [[1], [1, 2, 3], [1, 0], [1, -1], [1, np.nan], [1, np.inf]])
def test_bad_weights(weights):
    with pytest.raises(ValueError, match='weights='):
        ensemble([submission(0), submission(1)], SCHEMA, weights=weights)


def test_bad_method_and_no_table():
    with pytest.raises(ValueError, match="ensembling method 'mode'.*mean, median"):
        ensemble([submission(0)], SCHEMA, 'mode')
    with pytest.raises(ValueError, match='no submission'):
        ensemble([], SCHEMA)


def on_a_grid(seed, count, rows=300, side=6):
    """Return points [count, rows, 2] of which many are equal or on a line, and shares, some of them
    0.
    """
    generator = np.random.default_rng(seed)
    points = generator.integers(0, side, [count, rows, 2]).astype(np.float64)
    shares = generator.choice([0, 0.1, 0.5, 1, 1, 1], [count, rows])
    shares[0] += shares.sum(0) == 0
    return points, shares


def sum_of_distances(place, points, shares):
    return (shares * np.linalg.norm(points - place, axis=-1)).sum(0)


@pytest.mark.parametrize('side', [3, 6, 500])
@pytest.mark.parametrize('count', [1, 2, 3, 4, 6, 10])
def test_nowhere_near_is_the_sum_of_distances_less_than_at_the_geometric_median(count, side):
    points, shares = on_a_grid(count, count, side=side)
    place = methods.geometric_median(points, shares)
    least = sum_of_distances(place, points, shares)
    for angle in np.linspace(0, 2 * np.pi, 24, endpoint=False):
        for step in (1e-3, 0.1, 1.0, 0.1 * side):
            moved = place + step * np.array([np.cos(angle), np.sin(angle)])
            assert (least <= sum_of_distances(moved, points, shares) + 1e-7).all()


def test_geometric_medians_that_are_known():
    def place(points, *shares):
        values = np.array(points, np.float64)[:, np.newaxis]
        weights = np.array(shares or [1.0] * len(points))[:, np.newaxis]
        return methods.geometric_median(values, weights)[0]

    assert place([(0, 0), (4, 2)]).tolist() == [2, 1]
    assert place([(0, 0), (4, 2)], 1, 1.1).tolist() == [4, 2]
    assert place([(0, 0), (1, 1), (8, 8), (9, 9)]).tolist() == [4.5, 4.5]
    assert place([(0, 0), (0, 10), (5, 1), (5, 1)]).tolist() == [5, 1]
    # Fermat's point of a triangle sees all sides at 120 degrees.
    triangle = [(0, 0), (6, 0), (3, 3 * 3**0.5)]
    np.testing.assert_allclose(place(triangle), [3, 3**0.5], atol=1e-5)
    # Of a convex quadrangle it is where the diagonals cross.
    np.testing.assert_allclose(
        place([(0, 0), (9, 1), (8, 7), (1, 6)]),
        [*np.linalg.solve([[8, -8], [7, 5]], [1, 6])[0] * np.array([8, 7])],
        atol=1e-5,
    )


@pytest.mark.parametrize('name', METHODS.names())
class TestEveryMethod:
    def test_points_without_a_share_do_not_count(self, name):
        points, shares = on_a_grid(0, 5)
        displaced = np.where(shares[..., np.newaxis] > 0, points, 1e4)
        combined = METHODS.get(name)
        np.testing.assert_allclose(combined(points, shares), combined(displaced, shares), atol=1e-6)

    def test_moving_all_points_moves_the_result(self, name):
        points, shares = on_a_grid(1, 4, side=400)
        combined = METHODS.get(name)
        moved = combined(points + (30, -20), shares)
        np.testing.assert_allclose(moved, combined(points, shares) + (30, -20), atol=1e-4)

    def test_only_the_ratios_of_shares_matter(self, name):
        points, shares = on_a_grid(2, 4, side=400)
        combined = METHODS.get(name)
        np.testing.assert_allclose(
            combined(points, 7 * shares), combined(points, shares), atol=1e-4
        )

    def test_whole_shares_are_repetitions(self, name):
        points, _ = on_a_grid(3, 4, side=400)
        shares = np.repeat([[1.0], [3.0], [0.0], [2.0]], points.shape[1], axis=1)
        repeated = np.repeat(points, [1, 3, 0, 2], axis=0)
        combined = METHODS.get(name)
        np.testing.assert_allclose(
            combined(points, shares),
            combined(repeated, np.ones(repeated.shape[:2])),
            atol=1e-4,
        )

    def test_inputs_stay_as_they_are(self, name):
        points, shares = on_a_grid(4, 4)
        before = points.copy(), shares.copy()
        METHODS.get(name)(points, shares)
        np.testing.assert_array_equal(points, before[0])
        np.testing.assert_array_equal(shares, before[1])

    def test_in_parts_it_is_the_same(self, name, monkeypatch):
        predictions = combination.stack([submission(s, holes(s)) for s in range(3)], SCHEMA, 'abc')
        whole = combination.combine(predictions, name)[0]
        monkeypatch.setattr(combination, '_ROWS_AT_A_TIME', 7)
        np.testing.assert_array_equal(combination.combine(predictions, name)[0], whole)


def around(distances):
    """Return points at these distances to the right of (100, 100), and shares of 1."""
    points = np.array([[(100.0 + distance, 100.0)] for distance in distances])
    return points, np.ones(points.shape[:2])


@pytest.mark.parametrize(
    'distances, limit, expected',
    [
        # The median is at 1, half of the models are within 1 px of it: the floor of 2 px counts.
        ([0, 1, 2, 8.9, 0.5], 4, [1, 1, 1, 1, 1]),
        ([0, 1, 2, 9.1, 0.5], 4, [1, 1, 1, 0, 1]),
        # The median is at 10, half of the models are within 10 px of it.
        ([0, 10, 20, 39, -90], 3, [1, 1, 1, 1, 0]),
        ([0, 10, 20, 41, -90], 3, [1, 1, 1, 0, 0]),
        ([0, 300], 1, [1, 1]),
        ([7], 1, [1]),
    ],
)
def test_outliers(distances, limit, expected):
    points, shares = around(distances)
    kept_shares = methods.without_outliers(points, shares, limit)
    np.testing.assert_array_equal(kept_shares[:, 0], expected)


def test_half_of_the_shares_stay_whatever_is_rejected():
    points, shares = on_a_grid(5, 6, rows=2000, side=400)
    kept_shares = methods.without_outliers(points, shares, 1.0)
    assert (kept_shares.sum(0) >= 0.5 * shares.sum(0) - 1e-9).all()
    assert (kept_shares.sum(0) < shares.sum(0)).any()


def test_rejected_predictions_are_counted_and_have_no_part():
    tables = [submission(1) for _ in range(3)]
    tables[2].keypoints[0, 0] += 50
    predictions = combination.stack(tables, SCHEMA, 'abc')
    points, rejected = combination.combine(predictions, 'mean', reject=3.0)
    assert rejected == 1
    np.testing.assert_array_equal(points[OWN], tables[0].keypoints[OWN])
    assert combination.combine(predictions, 'mean')[1] == 0


@pytest.mark.parametrize('reject', [0.5, -1.0, np.nan, np.inf])
def test_bad_limits(reject):
    predictions = combination.stack([submission(0)], SCHEMA, 'a')
    with pytest.raises(ValueError, match=r'reject=.*must be 1 or more'):
        combination.combine(predictions, 'mean', reject=reject)


def test_large_files_are_read_in_several_processes(tmp_path, monkeypatch):
    paths = [str(tmp_path / f'{seed}.csv') for seed in range(3)]
    for seed, path in enumerate(paths):
        write_table(path, submission(seed), SCHEMA)
    monkeypatch.setattr(combination, '_PARALLEL_BYTES', 0)
    for seed, table in enumerate(combination.read_tables(paths, SCHEMA)):
        np.testing.assert_array_equal(table.keypoints, submission(seed).keypoints)
    with pytest.raises(FileNotFoundError, match=r'none\.csv'):
        combination.read_tables([paths[0], str(tmp_path / 'none.csv')], SCHEMA)
