"""Points and heat maps in the pictures for TensorBoard: which pixels are colored."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from utility.visualization import summaries

COLOR = (200.0, 100.0, 50.0)


def _marked(points, shown, height=8, width=8):
    """Return bool [B, H, W]: the pixels of black pictures that are colored."""
    images = tf.zeros([len(points), height, width, 3])
    pictures = summaries.mark_points(images, tf.constant(points), tf.constant(shown), COLOR)
    colored = (pictures.numpy() == COLOR).all(-1)
    assert (pictures.numpy()[~colored] == 0).all()
    return colored


def test_a_point_at_a_pixel_center_colors_it_and_its_neighbors():
    expected = np.zeros([1, 8, 8], bool)
    expected[0, 3:6, 1:4] = True
    np.testing.assert_array_equal(_marked([[[2.5, 4.5]]], [[True]]), expected)


def test_points_that_are_not_shown_or_outside_color_nothing():
    assert not _marked([[[2.5, 4.5], [-5.0, 4.0]]], [[False, True]]).any()


@pytest.mark.parametrize(('height', 'width', 'radius'), [(20, 30, 1.5), (50, 288, 3.0)])
def test_discs_agree_with_numpy(height, width, radius):
    rng = np.random.default_rng(0)
    points = rng.uniform(0, [width, height], (3, 4, 2)).astype(np.float32)
    shown = rng.random((3, 4)) < 0.7
    expected = np.zeros([3, height, width], bool)
    for b, row, column in np.ndindex(expected.shape):
        offsets = points[b] - [column + 0.5, row + 0.5]
        expected[b, row, column] = (shown[b] & (np.hypot(*offsets.T) <= radius)).any()
    np.testing.assert_array_equal(_marked(points, shown, height, width), expected)


def test_predicted_points_lie_over_true_ones_and_absent_points_are_left_out():
    images = tf.fill([6, 16, 16, 3], tf.constant(7, tf.uint8))
    labels = {
        'keypoints': tf.tile([[[3.5, 3.5], [11.5, 3.5], [11.5, 11.5]]], [6, 1, 1]),
        'visibility': tf.tile([[1, 0, -1]], [6, 1]),
    }
    predicted = tf.tile([[[3.5, 3.5], [3.5, 11.5], [12.5, 12.5]]], [6, 1, 1])
    pictures = summaries.images_with_points(images, predicted, labels).numpy()
    assert pictures.shape == (summaries.MAX_IMAGES, 16, 16, 3)
    assert pictures.dtype == np.uint8
    red, green, plain = [255, 48, 48], [48, 255, 48], [7, 7, 7]
    for picture in pictures:
        assert picture[3, 3].tolist() == red
        assert picture[3, 11].tolist() == green
        assert picture[11, 3].tolist() == red
        assert picture[11, 11].tolist() == plain


def test_heat_maps_shine_where_they_are_high_and_the_picture_has_the_point():
    images = tf.fill([6, 8, 8, 3], tf.constant(100, tf.uint8))
    maps = np.zeros([6, 4, 4, 3], np.float32)
    maps[:, 0, 0, 0] = 1.5  # more than sure
    maps[:, 0, 3, 1] = -1.0
    maps[:, 3, 3, 2] = 1.0
    labels = {'visibility': tf.tile([[1, 0, -1]], [6, 1])}
    pictures = summaries.images_with_heatmaps(images, tf.constant(maps), labels).numpy()
    assert pictures.shape == (summaries.MAX_IMAGES, 8, 8, 3) and pictures.dtype == np.uint8
    dark = [50, 50, 50]
    for picture in pictures:
        assert picture[0, 0].tolist() == [255, 48, 48]
        assert picture[0, 7].tolist() == picture[7, 7].tolist() == picture[4, 4].tolist() == dark
        # Half way between two cells, bilinear: 0.25 of 1.5 and 0.75 * 0.25 of it in a corner.
        assert picture[0, 2].tolist() == [int(50 + 0.375 * 205), 49, 49]
