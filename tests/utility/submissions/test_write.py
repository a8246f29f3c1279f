"""utility.submissions.write: only valid submissions are written."""

from __future__ import annotations

import numpy as np
import pytest

from preprocessing.datasets.fashionai import SCHEMA
from preprocessing.tables import KeypointTable, category_points, read_table
from utility.submissions import write as submissions

CATEGORIES = ['blouse', 'dress', 'outwear', 'skirt', 'trousers', 'skirt']
IDS = [f'Images/{category}/{i}.jpg' for i, category in enumerate(CATEGORIES)]
OWN = category_points(CATEGORIES, SCHEMA)


def submission(seed):
    """Return random predictions in whole pixels."""
    generator = np.random.default_rng(seed)
    visibility = np.where(OWN, 1, -1)
    points = generator.integers(0, 512, [*OWN.shape, 2]) + 0.5
    points = np.where(visibility[..., np.newaxis] < 0, -0.5, points).astype(np.float32)
    return KeypointTable(
        np.array(IDS, dtype=object), np.array(CATEGORIES), points, visibility, np.arange(2, 8)
    )


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
    expected = np.stack(
        [
            np.clip(np.floor(points[..., 0]), 0, sizes[:, 1:] - 1),
            np.clip(np.floor(points[..., 1]), 0, sizes[:, :1] - 1),
        ],
        axis=-1,
    )
    np.testing.assert_array_equal(table.keypoints[own], expected[own] + 0.5)
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
