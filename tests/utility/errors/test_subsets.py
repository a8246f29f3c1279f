"""Pictures sorted by occlusion, rotation and size: known values, bins that leave nothing out."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprocessing.datasets.fashionai import SCHEMA
from preprocessing.tables import KeypointTable, category_points
from utility.errors import subsets
from utility.errors.subsets import SUBSETS, UNKNOWN, Subset
from utility.statistics import bootstrap

BLOUSE = {
    'neckline_left': (80, 20), 'neckline_right': (120, 20), 'center_front': (100, 40),
    'shoulder_left': (50, 30), 'shoulder_right': (150, 30), 'armpit_left': (60, 80),
    'armpit_right': (140, 80), 'cuff_left_in': (50, 160), 'cuff_left_out': (30, 160),
    'cuff_right_in': (150, 160), 'cuff_right_out': (170, 160), 'top_hem_left': (60, 200),
    'top_hem_right': (140, 200),
}  # fmt: skip


def _blouse(points=BLOUSE, schema=SCHEMA):
    """Return keypoints [1, K, 2] and visibility [1, K]."""
    visibility = np.where(category_points(['blouse'], schema), 1, -1)
    keypoints = np.full((1, schema.num_keypoints, 2), -0.5)
    for name, place in points.items():
        keypoints[0, schema.keypoints.index(name)] = place
    return keypoints, visibility


def _turned(keypoints, degrees):
    """Return clockwise on screen, since y points down."""
    angle = math.radians(degrees)
    cos, sin = math.cos(angle), math.sin(angle)
    return keypoints @ np.array([[cos, -sin], [sin, cos]]).T + [300, -20]


@pytest.mark.parametrize(
    ('states', 'share'), [([1, 1, 1], 0), ([0, 1, -1], 0.5), ([0, 0, 0], 1), ([-1] * 3, math.nan)]
)
def test_occlusion_is_a_share_of_the_annotated_points(states, share):
    np.testing.assert_equal(subsets.occlusions(np.array([states])), [share])


@pytest.mark.parametrize('degrees', [0, 3, -3, 45, -90, 135, 179])
@pytest.mark.parametrize('schema', [SCHEMA, SCHEMA.subset('blouse')])
def test_a_turned_garment_has_its_angle(degrees, schema):
    keypoints, visibility = _blouse(schema=schema)
    result = subsets.rotations(_turned(keypoints, degrees), visibility, schema)
    np.testing.assert_allclose(result, [degrees], atol=1e-6)


def test_a_raised_arm_does_not_turn_the_garment():
    raised = {**BLOUSE, 'cuff_left_in': (20, -60), 'cuff_left_out': (10, -60)}
    assert subsets.rotations(*_blouse(raised), SCHEMA) == pytest.approx([0], abs=1e-6)


def test_absent_and_coinciding_points_do_not_count():
    keypoints, visibility = _blouse()
    keypoints = _turned(keypoints, 7)
    keypoints[0, SCHEMA.keypoints.index('armpit_left')] = (9999, 9999)
    visibility[0, SCHEMA.keypoints.index('armpit_left')] = -1
    assert subsets.rotations(keypoints, visibility, SCHEMA) == pytest.approx([7])
    assert np.isnan(subsets.rotations(keypoints, np.full_like(visibility, -1), SCHEMA)).all()
    assert np.isnan(subsets.rotations(np.zeros_like(keypoints), visibility, SCHEMA)).all()


def test_the_size_is_that_of_the_longest_sides():
    keypoints, visibility = _blouse()  # 140 x 180 px
    sizes = np.array([[200, 100]])
    np.testing.assert_allclose(subsets.garment_sizes(keypoints, visibility, sizes), [0.9])
    sizes = np.array([[200, 360]])
    np.testing.assert_allclose(subsets.garment_sizes(keypoints, visibility, sizes), [0.5])
    unknown = np.full((1, 2), np.nan)
    assert np.isnan(subsets.garment_sizes(keypoints, visibility, unknown)).all()
    assert np.isnan(subsets.garment_sizes(keypoints, np.full_like(visibility, -1), sizes)).all()


def test_properties_of_a_table():
    keypoints, visibility = _blouse()
    visibility[0, SCHEMA.keypoints.index('center_front')] = 0
    ids, categories = np.array(['1.jpg'], object), np.array(['blouse'])
    annotations = KeypointTable(ids, categories, _turned(keypoints, -12), visibility, np.array([2]))
    result = subsets.properties(annotations, SCHEMA)
    assert set(result) == {'occlusion', 'rotation'}
    assert result['rotation'] == pytest.approx([12])
    assert result['occlusion'] == pytest.approx([1 / 13])
    assert set(subsets.properties(annotations, SCHEMA, np.array([[400, 400]]))) == set(SUBSETS)


def test_bins_hold_their_lower_edge_and_their_own_pictures():
    subset = Subset('', (10, 20), ('low', 'middle', 'high'))
    distances = np.array([[0.1, np.nan], [0.2, 0.4], [0.3, 0.3], [0.5, np.nan], [np.nan] * 2])
    values = np.array([9.9, 10, 19, np.nan, 30])
    low, middle, unknown = subsets.bins(distances, values, subset)
    shares = {'0.02': 0, '0.05': 0, '0.1': 1, '0.2': 1}
    assert low == ('low', 1, 1, pytest.approx(0.1), None, shares)
    assert middle[:4] == ('middle', 2, 4, pytest.approx(0.3))
    assert middle.interval == bootstrap.ne_interval(distances[1:3])[1:]
    assert middle.pck == {'0.02': 0, '0.05': 0, '0.1': 0, '0.2': 0.25}
    assert unknown[:3] == (UNKNOWN, 1, 1)


@pytest.mark.parametrize('name', SUBSETS)
def test_every_bin_has_a_label(name):
    subset = SUBSETS[name]
    assert len(subset.labels) == len(subset.edges) + 1 == len(set(subset.labels))
    assert sorted(subset.edges) == list(subset.edges)


def test_only_pictures_without_any_occluded_point_have_none():
    values = np.array([0, 1 / 24, 0.15, 0.3, 1])
    distances = np.arange(5.0)[:, np.newaxis]
    result = subsets.bins(distances, values, SUBSETS['occlusion'])
    assert [row.images for row in result] == [1, 1, 1, 2]


@given(st.integers(0, 2**32 - 1), st.sampled_from(list(SUBSETS)))
def test_bins_hold_each_scored_picture_once(seed, name):
    random = np.random.default_rng(seed)
    distances = random.random((8, 3))
    distances[random.random(distances.shape) < 0.4] = np.nan
    values = np.where(random.random(8) < 0.2, np.nan, random.uniform(0, 1.2, 8))
    values *= 1 if name != 'rotation' else 30
    result = subsets.all_bins(distances, {name: values})[name]
    scored = ~np.isnan(distances)
    assert sum(row.points for row in result) == scored.sum()
    assert sum(row.images for row in result) == scored.any(1).sum()
    total = sum(row.points * row.normalized_error for row in result)
    assert total == pytest.approx(np.nansum(distances))
    for row in result:
        if row.interval:
            assert row.interval[0] <= row.normalized_error <= row.interval[1]
