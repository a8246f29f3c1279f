"""utility.submissions: only valid submissions are written; ensembles agree with NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from preprocessing.datasets.fashionai import SCHEMA
from preprocessing.tables import KeypointTable, own_points, read_table
from utility import submissions

CATEGORIES = ['blouse', 'dress', 'outwear', 'skirt', 'trousers', 'skirt']
IDS = [f'Images/{category}/{i}.jpg' for i, category in enumerate(CATEGORIES)]
OWN = own_points(CATEGORIES, SCHEMA)


def submission(seed, visibility=None, order=None):
    """Random predictions in whole pixels; visibility [N, K] marks those that are there."""
    generator = np.random.default_rng(seed)
    visibility = np.where(OWN, 1, -1) if visibility is None else visibility
    points = generator.integers(0, 512, [*OWN.shape, 2]) + 0.5
    points = np.where(visibility[..., np.newaxis] < 0, -0.5, points).astype(np.float32)
    table = KeypointTable(
        np.array(IDS, dtype=object), np.array(CATEGORIES), points, visibility, np.arange(2, 8)
    )
    return table if order is None else KeypointTable(*(values[order] for values in table))


def holes(seed):
    """Visibility with a third of the points missing, though none in every seed from 0 to 2."""
    kept = np.arange(OWN.size).reshape(OWN.shape) % 3 != seed
    return np.where(OWN & kept, 1, -1)


def reference(tables, combine):
    """combine(values, indices of the tables they are from) of every coordinate that is there."""
    result = np.full([*OWN.shape, 2], np.nan)
    for i, k, axis in np.ndindex(result.shape):
        there = [t for t, table in enumerate(tables) if table.visibility[i, k] >= 0]
        if there:
            values = [float(tables[t].keypoints[i, k, axis]) for t in there]
            result[i, k, axis] = combine(values, there)
    return result


@pytest.mark.parametrize('method, combine', [('mean', np.mean), ('median', np.median)])
@pytest.mark.parametrize('count', [1, 2, 3])
def test_ensemble_agrees_with_numpy(method, combine, count):
    tables = [submission(seed) for seed in range(count)]
    result = submissions.ensemble(tables, SCHEMA, method)
    wanted = reference(tables, lambda values, _: combine(values))
    np.testing.assert_allclose(result.keypoints[OWN], wanted[OWN], rtol=1e-6)
    np.testing.assert_array_equal(result.visibility, np.where(OWN, 1, -1))
    assert (result.keypoints[~OWN] == -0.5).all()


@pytest.mark.parametrize('method, combine', [('mean', np.mean), ('median', np.median)])
def test_missing_predictions_do_not_count(method, combine):
    tables = [submission(seed, holes(seed)) for seed in range(3)]
    result = submissions.ensemble(tables, SCHEMA, method)
    wanted = reference(tables, lambda values, _: combine(values))
    np.testing.assert_allclose(result.keypoints[OWN], wanted[OWN], rtol=1e-6)


def test_weighted_mean():
    weights = [0.5, 2.0, 3.5]
    tables = [submission(seed, holes(seed)) for seed in range(3)]
    result = submissions.ensemble(tables, SCHEMA, 'mean', weights)

    def combine(values, there):
        return np.average(values, weights=[weights[t] for t in there])

    np.testing.assert_allclose(result.keypoints[OWN], reference(tables, combine)[OWN], rtol=1e-6)


def test_whole_weights_of_a_median_are_repetitions():
    weights = [1, 3, 2, 4]
    tables = [submission(seed, holes(seed)) for seed in range(4)]
    result = submissions.ensemble(tables, SCHEMA, 'median', [w / 10 for w in weights])

    def combine(values, there):
        return np.median(np.repeat(values, [weights[t] for t in there]))

    np.testing.assert_allclose(result.keypoints[OWN], reference(tables, combine)[OWN], rtol=1e-6)


def test_order_of_the_rows_and_of_the_files():
    orders = [[3, 0, 5, 1, 4, 2], None, [5, 4, 3, 2, 1, 0]]
    tables = [submission(seed, order=order) for seed, order in enumerate(orders)]
    result = submissions.ensemble(tables, SCHEMA)
    assert result.image_ids.tolist() == [IDS[i] for i in orders[0]]
    plain = submissions.ensemble([submission(seed) for seed in range(3)], SCHEMA)
    np.testing.assert_allclose(result.keypoints, plain.keypoints[orders[0]])
    np.testing.assert_allclose(
        submissions.ensemble(tables[::-1], SCHEMA).keypoints, plain.keypoints[orders[2]]
    )


def test_inputs_stay_as_they_are():
    tables = [submission(0, holes(0)), submission(1)]
    submissions.ensemble(tables, SCHEMA, 'median')
    for table, fresh in zip(tables, [submission(0, holes(0)), submission(1)]):
        np.testing.assert_array_equal(table.keypoints, fresh.keypoints)


def test_points_left_of_the_picture_move_to_its_edge():
    table = submission(0)
    table.keypoints[0, 0] = (-2.5, 7.5)
    assert submissions.ensemble([table], SCHEMA).keypoints[0, 0].tolist() == [0, 7.5]


def test_rounding_takes_ties_to_even_pixels():
    table = submission(0)
    table.keypoints[0, :3] = [(11.0, 12.0), (11.3, 11.9), (10.5, 0.0)]
    rounded = submissions.round_to_pixels(table).keypoints[0, :3] - 0.5
    np.testing.assert_array_equal(rounded, [(10, 12), (11, 11), (10, 0)])


def test_a_point_that_nobody_predicts():
    nobody = np.where(OWN, 1, -1)
    nobody[4, SCHEMA.keypoints.index('crotch')] = -1
    tables = [submission(0, nobody), submission(1, nobody)]
    with pytest.raises(ValueError, match=rf'{IDS[4]} .*crotch: predicted in no submission'):
        submissions.ensemble(tables, SCHEMA)


def test_a_list_of_pictures_is_no_submission():
    tables = [submission(0), submission(1, np.full(OWN.shape, -1))]
    with pytest.raises(ValueError, match=r'test\.csv: predicts no point'):
        submissions.ensemble(tables, SCHEMA, names=['a.csv', 'test.csv'])


def test_tables_that_do_not_fit():
    names = ['a.csv', 'b.csv']
    with pytest.raises(ValueError, match=rf'b\.csv lacks 1 images \({IDS[5]}\) of a\.csv'):
        submissions.ensemble([submission(0), submission(1, order=range(5))], SCHEMA, names=names)
    with pytest.raises(ValueError, match=rf'b\.csv has 1 images \({IDS[5]}\) unknown to a\.csv'):
        submissions.ensemble([submission(0, order=range(5)), submission(1)], SCHEMA, names=names)
    other = submission(1)
    other.categories[3] = 'dress'
    with pytest.raises(
        ValueError, match=rf'b\.csv, line 5: {IDS[3]} is dress, but skirt in a\.csv'
    ):
        submissions.ensemble([submission(0), other], SCHEMA, names=names)


@pytest.mark.parametrize('weights', [[1], [1, 2, 3], [1, 0], [1, -1], [1, np.nan], [1, np.inf]])
def test_bad_weights(weights):
    with pytest.raises(ValueError, match='weights='):
        submissions.ensemble([submission(0), submission(1)], SCHEMA, weights=weights)


def test_bad_method_and_no_table():
    with pytest.raises(ValueError, match="method='mode'.*mean, median"):
        submissions.ensemble([submission(0)], SCHEMA, 'mode')
    with pytest.raises(ValueError, match='no submission'):
        submissions.ensemble([], SCHEMA)


def write(path, **changes):
    generator = np.random.default_rng(0)
    arguments = {
        'image_ids': IDS,
        'categories': CATEGORIES,
        'keypoints': generator.uniform(-50, 400, [6, 24, 2]),
        'image_sizes': np.array([[300, 200 + i] for i in range(6)]),
        'schema': SCHEMA,
        'expected_ids': IDS[::-1],
        **changes,
    }
    submissions.write_submission(path, **arguments)
    return arguments


@pytest.mark.parametrize('name', ['s.csv', 's.csv.gz'])
def test_written_submission_is_valid_and_in_the_order_of_the_split(tmp_path, name):
    arguments = write(tmp_path / name)
    table = read_table(tmp_path / name, SCHEMA)
    assert table.image_ids.tolist() == IDS[::-1]
    sizes = arguments['image_sizes'][::-1]
    submissions.check(table, IDS, SCHEMA, sizes)
    points, own = arguments['keypoints'][::-1], OWN[::-1]
    wanted = np.stack(
        [
            np.clip(np.floor(points[..., 0]), 0, sizes[:, 1:] - 1),
            np.clip(np.floor(points[..., 1]), 0, sizes[:, :1] - 1),
        ],
        axis=-1,
    )
    np.testing.assert_array_equal(table.keypoints[own], wanted[own] + 0.5)
    np.testing.assert_array_equal(table.visibility, np.where(own, 1, -1))


def test_points_at_the_edges(tmp_path):
    points = np.full([6, 24, 2], 10.0)
    points[0, 0], points[0, 1], points[0, 2] = (200.0, 300.0), (199.99, -0.01), (-1e9, 1e9)
    write(tmp_path / 's.csv', keypoints=points)
    rows = (tmp_path / 's.csv').read_text().splitlines()
    assert rows[-1].split(',')[2:5] == ['199_299_1', '199_0_1', '0_299_1']


@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
def test_coordinates_that_are_no_numbers(tmp_path, value):
    points = np.full([6, 24, 2], 10.0)
    points[3, SCHEMA.keypoints.index('crotch')] = value  # not a point of a skirt
    write(tmp_path / 'good.csv', keypoints=points)
    points[3, SCHEMA.keypoints.index('hemline_left'), 1] = value
    with pytest.raises(ValueError, match=rf'{IDS[3]} .*hemline_left.*finite'):
        write(tmp_path / 's.csv', keypoints=points)
    assert not (tmp_path / 's.csv').exists()


@pytest.mark.parametrize(
    'changes, message',
    [
        ({'expected_ids': IDS[:5]}, rf'submission has 1 images \({IDS[5]}\) unknown'),
        ({'expected_ids': [*IDS, 'x.jpg']}, r'submission lacks 1 images \(x\.jpg\)'),
        ({'image_ids': [*IDS[:5], IDS[0]]}, rf'submission holds 1 images \({IDS[0]}\) more'),
        ({'categories': ['blouse'] * 5 + ['coat']}, "unknown category 'coat'"),
    ],
)
def test_wrong_pictures_are_not_written(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        write(tmp_path / 's.csv', **changes)
    assert not any(tmp_path.iterdir())


def test_check_names_what_is_wrong():
    crotch = SCHEMA.keypoints.index('crotch')
    sizes = np.full([6, 2], 512)
    submissions.check(submission(0), IDS, SCHEMA, sizes)
    table = submission(0)
    table.visibility[4, crotch] = -1
    with pytest.raises(ValueError, match=rf'{IDS[4]} .*crotch: not predicted'):
        submissions.check(table, IDS, SCHEMA)
    table = submission(0)
    table.visibility[3, crotch] = 1
    with pytest.raises(ValueError, match=rf'{IDS[3]} .*crotch.*not a point of the category'):
        submissions.check(table, IDS, SCHEMA)
    table = submission(0)
    table.keypoints[4, crotch] = (512.5, 3.5)
    submissions.check(table, IDS, SCHEMA)
    with pytest.raises(ValueError, match=rf'{IDS[4]} .*crotch.*512\.5.*outside'):
        submissions.check(table, IDS, SCHEMA, sizes)
    table.keypoints[4, crotch] = (3.5, -0.5)
    with pytest.raises(ValueError, match='outside'):
        submissions.check(table, IDS, SCHEMA)
