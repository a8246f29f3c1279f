"""The flip test needs no shift: on a symmetric picture both looks find the same points."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from config import LossConfig
from nets.heads.attributes import AttributeLogits
from nets.network import Outputs
from preprocessing import geometry, rendering
from preprocessing.schema import KeypointSchema
from utility.codecs.heatmaps import HeatmapCodec
from utility.predict import views_to_points
from utility.predict.views_to_points import PredictOptions

SCHEMA = KeypointSchema(
    'pair', ('left', 'right'), {'shirt': ('left', 'right')}, {'shirt': ('left', 'right')}
)
CODEC = HeatmapCodec((96, 128), (24, 32), refine='dark')
STRIDE = 4


def _symmetric_picture(height: int, width: int) -> np.ndarray:
    """Return uint8 [H, W, 3]: two soft dots, mirror images of each other, between the pixels."""
    y, x = np.mgrid[:height, :width] + 0.5
    dots = [
        np.exp(-((x - at) ** 2 + (y - 0.43 * height) ** 2) / (2 * (0.06 * width) ** 2))
        for at in (0.23456 * width, width - 0.23456 * width)
    ]
    return np.round(200 * sum(dots)[..., np.newaxis] * np.ones(3)).astype(np.uint8)


def _dots(images: tf.Tensor, training: bool) -> Outputs:
    """Return a network that finds the dots: brightness, one point in each half of the picture."""
    del training
    maps = tf.nn.avg_pool2d(tf.cast(images[..., :1], tf.float32) / 255, STRIDE, STRIDE, 'VALID')
    is_left = tf.range(maps.shape[2]) < maps.shape[2] // 2
    halves = [tf.cast(half, tf.float32)[:, tf.newaxis] for half in (is_left, ~is_left)]
    maps = tf.concat([maps * half for half in halves], axis=-1)
    return Outputs([maps], AttributeLogits())


def _points(maps: tf.Tensor) -> np.ndarray:
    return CODEC.decode(maps)[0].numpy()


@pytest.mark.parametrize('size', [(150, 200), (111, 201), (160, 121)])
def test_both_looks_at_a_symmetric_picture_find_the_same_points(size):
    canvas = _symmetric_picture(*size).reshape(-1, 3)
    to_crop = geometry.letterbox(size, (96, 128))
    sampled = rendering.sample(canvas, tf.constant(size), tf.linalg.inv(to_crop), (96, 128))
    image = rendering.colors(*sampled, tf.zeros([3]))
    # Weights are rounded, either way where the last bit decides.
    np.testing.assert_allclose(image, image[:, ::-1], atol=0.06)
    maps, _ = views_to_points.look(
        _dots,
        image[tf.newaxis, tf.newaxis],
        SCHEMA.flip_permutation,
        LossConfig(),
        PredictOptions(flip_test=True),
    )
    plain, mirrored = (_points(maps[:, look]) for look in (0, 1))
    np.testing.assert_allclose(plain / STRIDE, mirrored / STRIDE, atol=1e-4)
    # They are the dots, not just equal.
    height, width = size
    expected = [[0.23456 * width, 0.43 * height], [width - 0.23456 * width, 0.43 * height]]
    found = views_to_points.to_original(tf.constant(plain), to_crop[tf.newaxis])[0]
    np.testing.assert_allclose(found, expected, atol=0.01 * width)
    one_cell_off = _points(tf.roll(maps[:, 1], 1, axis=2))
    assert np.abs(one_cell_off - plain).max() / STRIDE > 0.9
