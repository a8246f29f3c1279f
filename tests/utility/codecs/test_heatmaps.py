"""Heat maps against NumPy oracles: encoding, the refine modes, borders, noise, mirrors."""

import dataclasses

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st

from utility.codecs.heatmaps import HeatmapCodec, flip_heatmaps, smooth
from utility.codecs.refinements import REFINEMENTS

MODES = REFINEMENTS.names()
SQUARE = HeatmapCodec(image_size=(64, 64), heatmap_size=(16, 16))
OBLONG = HeatmapCodec(image_size=(50, 64), heatmap_size=(15, 24), sigma=1.5)
PERMUTATION = (1, 0, 2)


def _gaussian(point, codec, sigma):
    """Return the definition, cell by cell: one map [h, w] of one point (x, y)."""
    (height, width), (stride_y, stride_x) = codec.heatmap_size, codec.stride
    heatmap = np.zeros((height, width))
    for row in range(height):
        for column in range(width):
            dx = (point[0] - (column + 0.5) * stride_x) / stride_x
            dy = (point[1] - (row + 0.5) * stride_y) / stride_y
            heatmap[row, column] = np.exp(-(dx**2 + dy**2) / (2 * sigma**2))
    return heatmap


def _decode_one(heatmap, refine, image_size=None):
    """Decode one map [h, w], at stride 4 by default."""
    heatmap = np.asarray(heatmap, np.float32)
    image_size = image_size or tuple(4 * size for size in heatmap.shape)
    codec = HeatmapCodec(image_size, heatmap.shape, refine=refine)
    keypoints, scores = codec.decode(heatmap[np.newaxis, :, :, np.newaxis])
    return keypoints.numpy()[0, 0], scores.numpy()[0, 0]


def _round_trip(points, codec, sigma=None):
    """Return distances [N], px, between points [N, 2] and what is decoded from their maps."""
    points = np.asarray(points, np.float32)
    keypoints, _ = codec.decode(codec.encode(points[np.newaxis], sigma))
    return np.linalg.norm(keypoints.numpy()[0] - points, axis=-1)


@pytest.mark.parametrize('codec', [SQUARE, OBLONG])
def test_encode_is_the_gaussian_at_the_cell_centers(codec):
    points = [[0.0, 0.0], [30.3, 17.9], [63.9, 49.9], [-5.0, 20.0], [70.0, 55.0]]
    heatmaps = codec.encode(tf.constant([points])).numpy()
    assert heatmaps.dtype == np.float32
    assert heatmaps.shape == (1, *codec.heatmap_size, len(points))
    for k, point in enumerate(points):
        np.testing.assert_allclose(
            heatmaps[0, :, :, k], _gaussian(point, codec, codec.sigma), rtol=1e-5, atol=1e-7
        )


def test_encode_takes_another_sigma():
    heatmap = SQUARE.encode([[[20.0, 30.0]]], sigma=1.0).numpy()[0, :, :, 0]
    np.testing.assert_allclose(heatmap, _gaussian((20.0, 30.0), SQUARE, 1.0), rtol=1e-5, atol=1e-7)


def test_encode_peaks_at_one_in_the_cell_of_the_point_and_has_a_tail_from_outside():
    heatmaps = SQUARE.encode([[[2.0, 2.0], [62.0, 2.0], [-2.0, 2.0]]]).numpy()[0]
    assert heatmaps[0, 0, 0] == 1.0
    assert heatmaps[0, 15, 1] == 1.0
    assert 0.8 < heatmaps[0, 0, 2] < 1.0


def test_encode_of_absent_coordinates_is_finite():
    absent = [[[np.nan, 3.0], [np.inf, -np.inf], [1e38, -1e38], [-1.0, -1.0], [3.0, np.nan]]]
    heatmaps = SQUARE.encode(tf.constant(absent, tf.float32)).numpy()
    assert np.isfinite(heatmaps).all()
    assert not heatmaps[..., [0, 1, 2, 4]].any()


def test_argmax_is_the_center_of_the_largest_cell():
    heatmap = np.zeros((5, 6))
    heatmap[1, 4] = 7.0
    point, score = _decode_one(heatmap, 'argmax', image_size=(10, 18))
    np.testing.assert_array_equal(point, [4.5 * 3, 1.5 * 2])
    assert score == 7.0


@pytest.mark.parametrize(
    ('cell', 'neighbors', 'cells'),
    [
        ((2, 3), {(2, 4): 0.5, (1, 3): 0.2}, (3.75, 2.25)),
        ((2, 3), {(2, 2): 0.5, (3, 3): 0.2}, (3.25, 2.75)),
        ((2, 3), {(2, 2): 0.5, (2, 4): 0.5}, (3.5, 2.5)),
        ((0, 3), {(1, 3): 0.5, (0, 4): 0.1, (1, 2): 0.9}, (3.75, 0.5)),
        ((2, 5), {(3, 5): -0.5, (2, 4): 0.5}, (5.5, 2.25)),
        ((4, 0), {(4, 1): 0.5, (3, 0): 0.5}, (0.5, 4.5)),
    ],
)
def test_quarter_steps_to_the_larger_neighbor_where_there_are_two(cell, neighbors, cells):
    heatmap = np.zeros((5, 6))
    heatmap[cell] = 1.0
    for neighbor, value in neighbors.items():
        heatmap[neighbor] = value
    point, _ = _decode_one(heatmap, 'quarter')
    np.testing.assert_allclose(point, 4 * np.array(cells))


def test_dark_is_the_newton_step_of_the_paper():
    log = np.random.default_rng(0).uniform(-3, -1, (7, 7))
    log[2:5, 2:5] = [[-1.0, -0.5, -0.9], [-0.6, 0.0, -0.3], [-0.8, -0.2, -0.9]]
    gradient = np.array([log[3, 4] - log[3, 2], log[4, 3] - log[2, 3]]) / 2
    mixed = (log[4, 4] - log[4, 2] - log[2, 4] + log[2, 2]) / 4
    hessian = np.array(
        [[log[3, 4] + log[3, 2] - 2 * log[3, 3], mixed],
         [mixed, log[4, 3] + log[2, 3] - 2 * log[3, 3]]]
    )  # fmt: skip
    point, score = _decode_one(5 * np.exp(log), 'dark')
    np.testing.assert_allclose(point, 4 * (3.5 - np.linalg.solve(hessian, gradient)), rtol=1e-5)
    assert score == pytest.approx(5.0)


@hypothesis.given(
    x=st.floats(0, 80, width=32),
    y=st.floats(0, 48, width=32),
    sigma=st.floats(1, 3),
    scale=st.sampled_from([1e-3, 1.0, 255.0]),
)
def test_dark_round_trip_is_exact_for_every_point_inside(x, y, sigma, scale):
    codec = HeatmapCodec(image_size=(48, 80), heatmap_size=(12, 20))
    points = np.array([[[x, y]]], np.float32)
    keypoints, scores = codec.decode(scale * codec.encode(points, sigma))
    assert np.abs(keypoints.numpy() - points).max() < 0.01
    assert 0 < scores.numpy()[0, 0] <= scale * 1.0001


@pytest.mark.parametrize('sigma', [1.0, 2.0, 3.0])
def test_dark_round_trip_along_the_border(sigma):
    ends, along = [0.0, 0.3, 1.9, 62.1, 63.8, 64.0], np.linspace(0, 64, 41)
    points = [(e, a) for e in ends for a in along] + [(a, e) for e in ends for a in along]
    assert _round_trip(points, SQUARE, sigma).max() < 0.01


def test_dark_round_trip_with_fractional_and_unequal_strides():
    points = np.random.default_rng(1).uniform(0, 1, (200, 2)) * [64, 50]
    assert _round_trip(points, OBLONG).max() < 0.01


def test_each_mode_is_as_exact_as_it_can_be():
    points = np.random.default_rng(2).uniform(4, 60, (500, 2))
    worst = {
        mode: _round_trip(points, HeatmapCodec((64, 64), (16, 16), refine=mode)).max()
        for mode in MODES
    }
    assert worst['argmax'] == pytest.approx(2 * 2**0.5, rel=0.1)
    assert worst['quarter'] == pytest.approx(2**0.5, rel=0.1)
    assert worst['dark'] < 0.01 and worst['gaussian'] < 0.01
    # The map must not end within the window of the centroid.
    codec = HeatmapCodec((128, 128), (32, 32), refine='centroid')
    assert _round_trip(points + 32, codec).max() < 0.05


@pytest.mark.parametrize('refine', MODES)
def test_scale_does_not_move_a_point(refine):
    codec = HeatmapCodec((64, 64), (16, 16), refine=refine)
    heatmaps = np.random.default_rng(3).uniform(0.1, 1, (2, 16, 16, 5)).astype(np.float32)
    keypoints, scores = codec.decode(heatmaps)
    for scale in (1e-6, 255.0, 1e6):
        scaled_keypoints, scaled_scores = codec.decode(scale * heatmaps)
        np.testing.assert_allclose(scaled_keypoints, keypoints, atol=1e-3)
        np.testing.assert_allclose(scaled_scores, scale * scores, rtol=1e-6)


@pytest.mark.parametrize('refine', MODES)
def test_any_map_gives_a_finite_point_within_a_cell_of_its_maximum(refine):
    random = np.random.default_rng(4)
    maps = np.stack(
        [
            *random.normal(size=(40, 9, 12)),
            *random.normal(1, 1e-6, size=(40, 9, 12)),
            *random.normal(size=(5, 9, 12)) * 1e37,
            *random.normal(size=(5, 9, 12)) * 1e-36,
            *(-random.uniform(1, 2, (5, 9, 12))),
            np.zeros((9, 12)),
            np.full((9, 12), 255.0),
            np.full((9, 12), -3.0),
            np.eye(9, 12),
        ],
        axis=-1,
    ).astype(np.float32)
    codec = HeatmapCodec((36, 48), (9, 12), refine=refine)
    keypoints, scores = (value.numpy()[0] for value in codec.decode(maps[np.newaxis]))
    flat = maps.reshape(-1, maps.shape[-1])
    rows, columns = np.unravel_index(flat.argmax(0), (9, 12))
    cells = np.stack([columns, rows], -1) + 0.5
    assert np.isfinite(keypoints).all()
    assert np.abs(keypoints / 4 - cells).max() <= 1 + 1e-5
    np.testing.assert_allclose(scores, flat.max(0))


def test_flat_and_convex_maps_fall_back_to_the_quarter_step():
    flat = np.ones((5, 5))
    np.testing.assert_allclose(_decode_one(flat, 'dark')[0], [2.0, 2.0])
    saddle = np.full((5, 5), 0.9)
    saddle[2, 2], saddle[2, 3], saddle[1, 1], saddle[3, 3] = 1.0, 0.95, 0.999, 0.999
    saddle[1, 3], saddle[3, 1] = 0.1, 0.1
    np.testing.assert_allclose(_decode_one(saddle, 'dark')[0], [4 * 2.75, 4 * 2.5])


def _noisy_errors(noise, **codec):
    """Return distances px [300], and mean offsets px [2], of points decoded from noisy maps."""
    random = np.random.default_rng(5)
    codec = HeatmapCodec((128, 128), (32, 32), **codec)
    points = random.uniform(30, 98, (1, 300, 2)).astype(np.float32)
    noisy = codec.encode(points).numpy() + random.normal(0, noise, (1, 32, 32, 300))
    keypoints, _ = codec.decode(noisy.astype(np.float32))
    offsets = keypoints.numpy()[0] - points[0]
    return np.linalg.norm(offsets, axis=-1), offsets.mean(axis=0)


@pytest.mark.parametrize('refine', MODES)
def test_no_mode_leans_to_a_side_under_noise(refine):
    distances, offset = _noisy_errors(0.02, refine=refine)
    assert np.abs(offset).max() < 0.15
    assert distances.max() < 6.0


def test_between_the_cells_every_mode_beats_the_largest_cell_under_noise():
    """Of 4 px a cell; the more cells a mode uses, the less noise moves it."""
    errors = {mode: _noisy_errors(0.02, refine=mode)[0].mean() for mode in MODES}
    assert errors['argmax'] == pytest.approx(1.53, abs=0.15)
    assert errors['gaussian'] < 0.75 * errors['dark']
    assert errors['centroid'] < errors['argmax'] / 3
    assert max(errors['dark'], errors['quarter']) < errors['argmax']


def test_smoothing_helps_where_noise_is_strong_and_keeps_the_maximum():
    rough = _noisy_errors(0.05, refine='dark')[0].mean()
    assert _noisy_errors(0.05, refine='dark', smoothing=1.5)[0].mean() < 0.6 * rough
    maps = SQUARE.encode(np.float32([[[20.3, 31.1], [60.0, 2.0]]]))
    _, scores = SQUARE.decode(maps)
    smoothed = dataclasses.replace(SQUARE, smoothing=2.0)
    points, kept = smoothed.decode(maps)
    np.testing.assert_allclose(kept, scores, rtol=1e-5)
    np.testing.assert_allclose(points[0, 0], [20.3, 31.1], atol=0.3)


def test_smooth_equals_the_separable_sum_of_numpy():
    maps = np.random.default_rng(6).uniform(0, 1, (1, 9, 12, 2)).astype(np.float32)
    steps = np.arange(-3, 4)
    weights = np.exp(-0.5 * steps**2) / np.exp(-0.5 * steps**2).sum()
    padded = np.pad(maps, [(0, 0), (3, 3), (3, 3), (0, 0)], mode='edge').astype(np.float64)
    rows = sum(w * padded[:, i : i + 9] for i, w in enumerate(weights))
    expected = sum(w * rows[:, :, i : i + 12] for i, w in enumerate(weights))
    expected *= maps.max((1, 2), keepdims=True) / expected.max((1, 2), keepdims=True)
    np.testing.assert_allclose(smooth(maps, 1.0), expected, rtol=1e-4)


def _flipped(points, width):
    """Return the points [B, K, 2], px, of a mirrored picture."""
    return points[:, PERMUTATION] * [-1, 1] + [width, 0]


@pytest.mark.parametrize(
    ('spacing', 'tolerance'), [(1 / 8, 0.0), (None, 1e-5)], ids=['dyadic', 'any']
)
@pytest.mark.parametrize('width', [64, 72])
def test_flip_of_the_maps_is_the_maps_of_the_flipped_points(spacing, tolerance, width):
    codec = HeatmapCodec((64, width), (16, width // 4), sigma=1.7)
    points = np.random.default_rng(6).uniform(-4, width + 4, (20, 3, 2)).astype(np.float32)
    if spacing:
        points = np.round(points / spacing).astype(np.float32) * np.float32(spacing)
    flipped_maps = flip_heatmaps(codec.encode(points), PERMUTATION)
    maps_of_flipped = codec.encode(_flipped(points, width))
    assert np.abs(flipped_maps.numpy() - maps_of_flipped.numpy()).max() <= tolerance


@pytest.mark.parametrize('refine', MODES)
def test_decode_commutes_with_the_flip(refine):
    codec = HeatmapCodec((32, 48), (8, 12), refine=refine)
    heatmaps = np.random.default_rng(7).normal(size=(6, 8, 12, 3)).astype(np.float32)
    keypoints, _ = codec.decode(heatmaps)
    flipped, _ = codec.decode(flip_heatmaps(heatmaps, PERMUTATION))
    np.testing.assert_allclose(flipped, _flipped(keypoints.numpy(), 48), atol=1e-3)


def test_flipping_twice_changes_nothing():
    heatmaps = np.random.default_rng(8).normal(size=(2, 16, 16, 3)).astype(np.float32)
    twice = flip_heatmaps(flip_heatmaps(heatmaps, PERMUTATION), PERMUTATION)
    np.testing.assert_array_equal(twice, heatmaps)


def test_every_image_and_keypoint_is_decoded_on_its_own():
    points = np.random.default_rng(9).uniform(0, 64, (3, 4, 2)).astype(np.float32)
    keypoints, scores = SQUARE.decode(SQUARE.encode(points))
    assert scores.shape == (3, 4)
    np.testing.assert_allclose(keypoints, points, atol=0.01)


@pytest.mark.parametrize('refine', MODES)
def test_graph_of_unknown_batch_and_half_precision(refine):
    codec = HeatmapCodec((64, 64), (16, 16), refine=refine)
    points = np.random.default_rng(10).uniform(8, 56, (2, 3, 2)).astype(np.float32)
    expected, _ = codec.decode(tf.cast(tf.cast(codec.encode(points), tf.float16), tf.float32))
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        fed = tf.compat.v1.placeholder(tf.float32, [None, 3, 2])
        keypoints, scores = codec.decode(tf.cast(codec.encode(fed), tf.float16))
        assert keypoints.shape.as_list() == [None, 3, 2]
        assert (keypoints.dtype, scores.dtype) == (tf.float32, tf.float32)
        np.testing.assert_allclose(session.run(keypoints, {fed: points}), expected, atol=1e-4)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'refine': 'drak'}, "unknown refine mode 'drak'.*did you mean 'dark'"),
        ({'sigma': 0.0}, r'sigma=0\.0: must be positive'),
        ({'sigma': float('nan')}, 'sigma=nan: must be positive'),
        ({'heatmap_size': (2, 16)}, r'heatmap_size=\(2, 16\): must be at least 3 x 3'),
        ({'image_size': (64, 0)}, r'image_size=\(64, 0\): must be positive'),
        ({'smoothing': 1e9}, 'smoothing=1000000000.0: must be'),
    ],
)
def test_settings_that_make_no_sense_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        HeatmapCodec(**{'image_size': (64, 64), 'heatmap_size': (16, 16), **arguments})


def test_maps_of_another_size_are_refused():
    with pytest.raises(ValueError, match='must be 16 x 16 cells'):
        SQUARE.decode(tf.zeros([1, 16, 12, 3]))
