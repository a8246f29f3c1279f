"""The letter-box in operations that every exporter knows, equal to that of preprocessing.

A letter-box neither turns nor shears, so rows and columns are resampled apart from each other: the
product of two matrices with an image, of which each row has two entries that are not 0. Here the
zeros are left out: two rows and two columns are gathered. Averaging, weights and rounding are those
of preprocessing/rendering.py, so the pixels are the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

_TO_ONE = 1e-3  # of preprocessing.geometry.reduction
_WEIGHT_STEPS = 1 << 13  # of preprocessing.rendering


def letterbox(
    image: tf.Tensor, size: Sequence[int], fill: Sequence[float]
) -> tuple[tf.Tensor, tf.Tensor]:
    """Fit an image into a crop of fixed size.

    Args:
        image: uint8 [H, W, 3] RGB, of any size.
        size: (height, width) of the crop, px.
        fill: (red, green, blue) around the image.

    Returns:
        crop: float32 [h, w, 3], whole numbers in 0..255.
        placing: float32 [3], what to_original needs: scale, margin in x, margin in y.
    """
    shape = tf.cast(tf.shape(image)[:2], tf.float32)
    scale = tf.minimum(size[0] / shape[0], size[1] / shape[1])
    margins = [(side - scale * shape[axis]) / 2 for axis, side in enumerate(size)]
    reduced, factor = _averaged(image, 1 / scale)
    inverse = 1 / scale
    rows, columns = (
        _Taps(side, tf.shape(reduced)[axis], inverse / factor, -margins[axis] * inverse / factor)
        for axis, side in enumerate(size)
    )
    # Columns and channels are one axis: a product that repeats a weight over the three channels of
    # each pixel takes a runtime ten times as long.
    columns_of = [(column, _thrice(weight)) for column, weight in columns.pairs]
    covered = rows.covered[:, tf.newaxis] * _thrice(columns.covered)
    total = 0.0
    for row, row_weight in rows.pairs:
        band = tf.gather(reduced, row, axis=0)
        steps = row_weight[:, tf.newaxis] * _WEIGHT_STEPS
        for column, column_weight in columns_of:
            weight = tf.floor(steps * column_weight + 0.5)
            total += tf.reshape(tf.gather(band, column, axis=1), [size[0], 3 * size[1]]) * weight
    around = (1 - covered) * tf.constant(np.tile(fill, size[1]), tf.float32)
    crop = tf.clip_by_value(tf.round(total / _WEIGHT_STEPS + around), 0.0, 255.0)
    crop = tf.reshape(crop, [*size, 3])
    return crop, tf.stack([scale, margins[1], margins[0]])


def to_original(points: tf.Tensor, placing: tf.Tensor) -> tf.Tensor:
    """Return points [.., K, 2] of crops as px of the images that `letterbox` placed so."""
    return (points - placing[..., tf.newaxis, 1:]) / placing[..., tf.newaxis, :1]


def _thrice(weights: tf.Tensor) -> tf.Tensor:
    """Return weights of pixels [n] as those of their channels [3n]."""
    return tf.reshape(tf.tile(weights[:, tf.newaxis], [1, 3]), [-1])


def _averaged(image: tf.Tensor, shrinks: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return means over f x f pixels, float32 [h, w, 3]; and f, the floor of `shrinks`.

    Sides that are no multiple are continued by reflection.
    """
    height, width = tf.unstack(tf.shape(image)[:2])
    factor = tf.cast(shrinks + _TO_ONE, tf.int32)
    factor = tf.maximum(tf.minimum(factor, tf.minimum(height, width)), 1)
    rows, columns = ((side + factor - 1) // factor for side in (height, width))
    taken = tf.gather(image, _reflected(rows * factor, height), axis=0)
    taken = tf.reshape(tf.cast(taken, tf.float32), tf.stack([rows, factor, width * 3]))
    taken = tf.reshape(tf.reduce_sum(taken, axis=1), tf.stack([rows, width, 3]))
    taken = tf.gather(taken, _reflected(columns * factor, width), axis=1)
    taken = tf.reshape(taken, tf.stack([rows * columns, factor * 3]))
    # A product with ones and zeros: ONNX Runtime takes long over many short sums.
    sums = tf.matmul(taken, tf.tile(tf.eye(3), tf.stack([factor, 1])))
    size = tf.cast(factor, tf.float32)
    means = tf.round(sums / (size * size))
    return tf.reshape(means, tf.stack([rows, columns, 3])), size


def _reflected(count: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Return the indices 0 to `count` - 1, mirrored at the end of a side of `size`."""
    places = tf.range(count)
    return tf.minimum(places, 2 * size - 1 - places)


class _Taps:
    """Along one axis, the two pixels that each pixel of a crop lies between, and their weights.

    Attributes:
        pairs: Twice indices int32 [n] and weights float32 [n], 0 for what is no pixel.
        covered: float32 [n], the sum of the two weights.
    """

    def __init__(self, count: int, size: tf.Tensor, step: tf.Tensor, offset: tf.Tensor):
        places = step * (tf.range(count, dtype=tf.float32) + 0.5) + (offset - 0.5)
        last = tf.cast(size - 1, tf.float32)
        first = tf.floor(places)
        fraction = places - first
        self.pairs = []
        for tap, weight in ((first, 1 - fraction), (first + 1, fraction)):
            inside = tf.cast((tap >= 0) & (tap <= last), tf.float32)
            index = tf.cast(tf.maximum(tf.minimum(tap, last), 0.0), tf.int32)
            self.pairs.append((index, weight * inside))
        self.covered = self.pairs[0][1] + self.pairs[1][1]
