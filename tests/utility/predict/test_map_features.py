"""Spread, second peak and disagreement of heat maps, in px of the original picture."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from utility.codecs.heatmaps import HeatmapCodec
from utility.predict import map_features

CODEC = HeatmapCodec((96, 128), (24, 32), sigma=1.5, refine='gaussian')
POINT = np.float32([[[62.0, 50.0]]])
# The crop is the picture at half its size.
TO_CROP = np.float32([[[[0.5, 0, 3], [0, 0.5, 5], [0, 0, 1]]]])


def _features(*maps):
    stacked = tf.stack(maps, axis=1)
    return map_features.of_maps(stacked, tf.reduce_mean(stacked, 1), TO_CROP, CODEC)[0, 0].numpy()


def test_the_spread_is_that_of_the_gaussian_in_px_of_the_picture():
    narrow, wide = (_features(CODEC.encode(POINT, sigma)) for sigma in (1.5, 3.0))
    # 1.5 cells of 4 px of a crop of half the size. Of exp(-u) - 0.1, from u = r^2 / 2 sigma^2 = 0
    # to ln 10, the mean of u is 0.40465 / 0.66974.
    assert narrow[map_features.SPREAD] == pytest.approx(1.5 * 8 * np.sqrt(2 * 0.6042), rel=0.03)
    assert wide[map_features.SPREAD] / narrow[map_features.SPREAD] == pytest.approx(2, rel=0.1)
    assert narrow[map_features.SECOND_PEAK] < 0.1
    assert narrow[map_features.DISAGREEMENT] == 0


def test_a_second_peak_is_told_with_its_height_and_spreads_the_map():
    one, other = CODEC.encode(POINT), CODEC.encode(POINT + [[[40.0, -20.0]]])
    plain, twofold = _features(one), _features(one + 0.6 * other)
    assert twofold[map_features.SECOND_PEAK] == pytest.approx(0.6, abs=0.05)
    assert twofold[map_features.SPREAD] > 2 * plain[map_features.SPREAD]
    # The scale of the map does not matter.
    np.testing.assert_allclose(_features(3 * (one + 0.6 * other)), twofold, rtol=1e-3)


def test_maps_that_disagree_are_told_by_how_much():
    maps = [CODEC.encode(POINT + [[[step, 0.0]]]) for step in (-3, 3)]
    assert _features(*maps)[map_features.DISAGREEMENT] == pytest.approx(3 / 0.5, rel=0.1)
    assert _features(maps[0], maps[0])[map_features.DISAGREEMENT] == pytest.approx(0, abs=1e-4)


def test_a_map_of_noise_has_finite_features():
    for fill in (0.0, -1.0):
        assert np.isfinite(_features(tf.fill([1, 24, 32, 1], fill))).all()
