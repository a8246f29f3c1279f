"""Views of a picture: what is known in one of them is found in the frame of the first."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from preprocessing import geometry
from preprocessing.ops.op_string import parse_ops
from utility.codecs.heatmaps import HeatmapCodec, flip_heatmaps
from utility.predict import test_time_augmentation
from utility.predict.test_time_augmentation import ViewOptions

CODEC = HeatmapCodec((96, 128), (24, 32), sigma=2.0)
POINTS = np.array([[[50.3, 41.7], [81.2, 60.9], [64.0, 30.5]]], np.float32)
CENTER = tf.constant([64.0, 48.0])
TO_FIRST = geometry.scaling(0.5, 0.5)


def _maps(to_views):
    """Return perfect maps of POINTS, which are px of the first view: [1, V, h, w, K]."""
    original = geometry.transform_points(tf.constant(POINTS), tf.linalg.inv(to_views[0]))
    seen = [CODEC.encode(geometry.transform_points(original, matrix)) for matrix in to_views]
    return tf.stack(seen, axis=1)


VIEWS = {
    'turned': geometry.rotation(17, CENTER) @ TO_FIRST,
    'larger': geometry.about(geometry.scaling(1.2, 1.2), CENTER) @ TO_FIRST,
    'smaller': geometry.about(geometry.scaling(0.8, 0.8), CENTER) @ TO_FIRST,
    'moved': geometry.translation(3.3, -2.1) @ TO_FIRST,
}


@pytest.mark.parametrize('name', VIEWS)
@pytest.mark.parametrize('refine', ['dark', 'argmax'])
def test_each_view_finds_the_points_where_they_are(name, refine):
    """The maps of one view alone, resampled: the first view's are zero."""
    to_views = [TO_FIRST, VIEWS[name]]
    maps = _maps(to_views)
    only = tf.concat([tf.zeros_like(maps[:, :1]), maps[:, 1:]], axis=1)
    fused = test_time_augmentation.fuse_heatmaps(only, tf.stack(to_views)[None], CODEC)
    codec = HeatmapCodec(CODEC.image_size, CODEC.heatmap_size, refine=refine)
    found, _ = codec.decode(fused)
    cells = np.abs(found - POINTS).max() / 4
    assert cells < {'dark': 0.15, 'argmax': 0.75}[refine]


def test_all_views_together_are_as_sharp_as_one():
    to_views = [TO_FIRST, *VIEWS.values()]
    fused = test_time_augmentation.fuse_heatmaps(_maps(to_views), tf.stack(to_views)[None], CODEC)
    found, scores = CODEC.decode(fused)
    assert np.abs(found - POINTS).max() < 0.05 * 4
    assert scores.numpy().min() > 0.85


def test_equal_views_change_nothing():
    maps = _maps([TO_FIRST] * 3)
    fused = test_time_augmentation.fuse_heatmaps(maps, tf.stack([TO_FIRST] * 3)[None], CODEC)
    np.testing.assert_allclose(fused, maps[:, 0], atol=1e-5)
    alone = test_time_augmentation.fuse_heatmaps(maps[:, :1], tf.stack([TO_FIRST])[None], CODEC)
    np.testing.assert_array_equal(alone, maps[:, 0])


def test_a_cell_averages_over_the_views_that_see_it():
    half = geometry.translation(64.0, 0.0) @ TO_FIRST  # sees the left half of the first, moved
    ones = tf.ones([1, 2, 24, 32, 3])
    fused = test_time_augmentation.fuse_heatmaps(ones, tf.stack([TO_FIRST, half])[None], CODEC)
    np.testing.assert_allclose(fused, 1.0, atol=1e-5)


def test_a_mirrored_view_is_a_view_like_any_other():
    """What flip_heatmaps does exactly, the matrices do up to rounding."""
    mirror = geometry.mirror(128.0) @ TO_FIRST
    maps = _maps([TO_FIRST, mirror])
    by_matrix = test_time_augmentation.fuse_heatmaps(
        maps, tf.stack([TO_FIRST, mirror])[None], CODEC
    )
    exact = (maps[:, 0] + flip_heatmaps(maps[:, 1], (0, 1, 2))) / 2
    np.testing.assert_allclose(by_matrix, exact, atol=1e-4)
    np.testing.assert_allclose(exact, maps[:, 0], atol=1e-5)


def test_points_are_averaged_by_their_scores():
    keypoints = tf.constant([[[[0.0, 0.0], [4.0, 8.0]], [[10.0, 20.0], [4.0, 8.0]]]])
    scores = tf.constant([[[0.9, 0.5], [0.3, -0.2]]])
    points, means = test_time_augmentation.fuse_keypoints(keypoints, scores)
    np.testing.assert_allclose(points, [[[2.5, 5.0], [4.0, 8.0]]], rtol=1e-5)
    np.testing.assert_allclose(means, [[0.6, 0.15]], rtol=1e-5)


def test_the_plain_view_comes_first_and_once():
    options = ViewOptions(scales=(0.9, 1.0, 1.1), rotations=(0.0, 10.0), num_crops=2)
    strings = options.op_strings('letterbox(96,128)|warp')
    assert strings[0] == 'letterbox(96,128)|warp'
    assert len(strings) == 1 + 5 + 2 and len(set(strings)) == 7
    for text in strings:
        parse_ops(text)
    assert ViewOptions().op_strings('a') == ['a']


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'scales': (0.1,)}, r'scales=\(0.1,\): must be from 0.25 to 4'),
        ({'scales': (float('nan'),)}, 'scales'),
        ({'rotations': (200.0,)}, r'rotations=\(200.0,\): must be from -180 to 180'),
        ({'num_crops': -1}, 'num_crops=-1'),
    ],
)
def test_wrong_options_are_told(options, message):
    with pytest.raises(ValueError, match=message):
        ViewOptions(**options)


def test_views_of_a_box_move_after_the_crop_to_it():
    views = ViewOptions(scales=(1.0, 0.8), num_crops=1).op_strings(
        'crop_box(0.2)|letterbox(8,8)|warp'
    )
    assert views == [
        'crop_box(0.2)|letterbox(8,8)|warp',
        'crop_box(0.2)|turn(0.0)|scale(0.8,0.8)|letterbox(8,8)|warp',
        'crop_box(0.2)|scale(0.93,1.07)|shift(0.04)|letterbox(8,8)|warp',
    ]
