"""Smoothing over time: what it does to a tremble, to a move, and to what it costs in delay."""

from __future__ import annotations

import numpy as np
import pytest

from utility.predict.temporal_filter import FilterOptions, OneEuroFilter

RATE, SIDE = 25.0, 400.0
NOISE = 1.0  # px


def _filtered(points, **options):
    smooth = OneEuroFilter(RATE, SIDE, FilterOptions(**options))
    return np.stack([smooth(frame) for frame in points])


def _noisy(track):
    return track + np.random.default_rng(0).normal(0, NOISE, track.shape)


def _tremble(track):
    """Return the mean way of a point from one frame to the next, px."""
    return np.linalg.norm(np.diff(track, axis=0), axis=-1).mean()


def test_the_first_frame_and_points_at_rest_stay():
    still = np.broadcast_to([[10.0, 20.0], [3.0, 4.0]], (30, 2, 2))
    np.testing.assert_allclose(_filtered(still), still)


def test_points_at_rest_tremble_less_and_none_is_moved():
    still = np.broadcast_to([[100.0, 200.0]], (200, 5, 2))
    noisy = _noisy(still)
    found = _filtered(noisy)[25:]
    assert _tremble(found) < 0.4 * _tremble(noisy)
    np.testing.assert_allclose(found.mean(0), still[0], atol=0.5)


def test_a_fast_point_is_followed_within_a_frame():
    speed = 16.0  # px a frame: the side in a second
    track = np.arange(60)[:, None, None] * [speed, 0.0] + np.zeros([60, 3, 2])
    behind = (track - _filtered(track))[20:, :, 0] / speed
    assert 0 < behind.max() < 1
    lazy = (track - _filtered(track, speed_gain=0.0))[20:, :, 0] / speed
    assert lazy.min() > 2


def test_x_and_y_have_one_cutoff():
    track = _noisy(np.arange(50)[:, None, None] * [9.0, 0.0] + np.zeros([50, 1, 2]))
    turned = track[..., ::-1]
    np.testing.assert_allclose(_filtered(turned), _filtered(track)[..., ::-1])


@pytest.mark.parametrize('side', [100.0, 1000.0])
def test_the_size_of_the_frame_does_not_matter(side):
    track = _noisy(np.zeros([20, 2, 2]))
    scaled = OneEuroFilter(RATE, side)
    found = np.stack([scaled(frame * side / SIDE) for frame in track])
    np.testing.assert_allclose(found * SIDE / side, _filtered(track))
