"""The one resampling of a picture, in two steps: decoding to a canvas, and sampling the canvas.

The first step is for the host. It decodes the part of the picture that will be seen, averages where
the view shrinks it twice or more, and lays the pixels in a row: a *canvas*. The second step is
arithmetic on tensors of fixed shapes: XLA makes one loop of it, or an accelerator takes a batch of
canvases.

Sampling is bilinear. The three channels of a pixel are summed as one integer of 64 bits, of which
each has 21: eight for the value and 13 for the weight, so that a weight is rounded by 1 / 16384 and
a channel errs by 0.06 gray levels at most. A pixel is then gathered once and not three times.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from absl import logging

from preprocessing import geometry

# Pixels of a canvas that is given to compiled functions; each is another compilation.
CANVAS_LENGTHS = np.array([2**n for n in range(10, 27)], np.int32)
_STDERR = 2  # its file
_LANE = 21  # bits of a channel in a sum
_WEIGHT = 1 << 13  # of a pixel that is hit exactly


def to_uint8(image: tf.Tensor) -> tf.Tensor:
    """Round and clip a picture in 0..255."""
    return tf.saturate_cast(tf.round(image), tf.uint8)


def decode_to_canvas(
    encoded: tf.Tensor, image_size: tf.Tensor, to_crop: tf.Tensor, out_size: Sequence[int]
) -> dict[str, tf.Tensor]:
    """Decode what a view shows of a picture.

    Where the view shrinks the picture n times or more, n >= 2, n x n pixels are averaged, so that
    nothing is skipped between the samples.

    Args:
        encoded: string [], a JPEG of any size; or its pixels, uint8 [H, W, 3].
        image_size: int32 [2], (height, width) in the pixels of `to_crop`.
        to_crop: float32 [3, 3], picture -> view.
        out_size: (height, width) of the view, px.

    Returns:
        canvas: uint8 [P, 3], rows of pixels one after the other.
        canvas_size: int32 [2], (height, width) of what is on it.
        crop_to_canvas: float32 [3, 3], view -> canvas.
    """
    encoded = tf.convert_to_tensor(encoded)
    has_pixels = encoded.dtype == tf.uint8
    stored = tf.shape(encoded)[:2] if has_pixels else tf.io.extract_jpeg_shape(encoded)[:2]
    ratio = tf.cast(stored / image_size, tf.float32)
    crop_to_stored = geometry.scaling(ratio[1], ratio[0]) @ tf.linalg.inv(to_crop)
    factor = geometry.reduction(crop_to_stored, stored)
    shrink = 1 / tf.cast(factor, tf.float32)
    crop_to_reduced = geometry.scaling(shrink, shrink) @ crop_to_stored
    low, high = _seen(crop_to_reduced, out_size, -(-stored // factor))
    window = tf.concat([low * factor, tf.minimum(high * factor, stored) - low * factor], axis=0)
    if has_pixels:
        corner, size = tf.concat([window[:2], [0]], axis=0), tf.concat([window[2:], [3]], axis=0)
        image = tf.slice(encoded, corner, size)
    else:
        # The default method is off by a gray level or two on the average, and no faster.
        image = tf.io.decode_and_crop_jpeg(
            encoded, window, channels=3, dct_method='INTEGER_ACCURATE', fancy_upscaling=True
        )
    image = tf.cond(factor > 1, lambda: _averaged(image, factor), lambda: image)
    corner = tf.cast(low, tf.float32)
    return {
        'canvas': tf.reshape(image, [-1, 3]),
        'canvas_size': tf.shape(image)[:2],
        'crop_to_canvas': geometry.translation(-corner[1], -corner[0]) @ crop_to_reduced,
    }


def _seen(
    crop_to: tf.Tensor, out_size: Sequence[int], size: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return corners, int32 [2] (y, x) each, of what a view samples of a picture of `size`."""
    height, width = map(float, out_size)
    corners = tf.constant([[0, 0], [width, 0], [width, height], [0, height]], tf.float32)
    corners = tf.reverse(geometry.transform_points(corners, crop_to), axis=[1])
    low = tf.cast(tf.floor(tf.reduce_min(corners, axis=0)), tf.int32) - 1
    high = tf.cast(tf.math.ceil(tf.reduce_max(corners, axis=0)), tf.int32) + 1
    low = tf.clip_by_value(low, 0, size - 1)
    return low, tf.clip_by_value(high, low + 1, size)


def _averaged(image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    return to_uint8(geometry.average(image[tf.newaxis], factor)[0])


def lengthened(canvas: tf.Tensor) -> tf.Tensor:
    """Return uint8 [P, 3], padded with zeros to the next of CANVAS_LENGTHS."""
    number, lengths = tf.shape(canvas)[0], tf.constant(CANVAS_LENGTHS)
    length = tf.gather(lengths, tf.searchsorted(lengths, number[tf.newaxis])[0])
    return tf.concat([canvas, tf.zeros([length - number, 3], tf.uint8)], axis=0)


def sample(
    canvas: tf.Tensor, size: tf.Tensor, crop_to_canvas: tf.Tensor, out_size: Sequence[int]
) -> tuple[tf.Tensor, tf.Tensor]:
    """Sample a canvas at the centers of a view's pixels.

    Args:
        canvas, size, crop_to_canvas: From decode_to_canvas; the canvas may be longer.
        out_size: (h, w) of the view, px.

    Returns:
        sums: int64 [h, w], for `colors`.
        covered: float32 [h, w], how much of the pixel is picture, in [0, 1].
    """
    x, y = _sample_places(crop_to_canvas, out_size)
    height, width = tf.unstack(tf.cast(size, tf.float32))
    left, top = tf.floor(x), tf.floor(y)
    to_left, to_right = _axis_weights(x - left, left, width)
    to_top, to_bottom = _axis_weights(y - top, top, height)
    # Float32 is exact up to 2^24, and unlike int32 it is counted where an accelerator counts.
    first = top * width + left
    channels = tf.cast(canvas, tf.int32)
    packed = channels[:, 0] + (channels[:, 1] * (1 << 8) + channels[:, 2] * (1 << 16))
    last = tf.cast(tf.shape(canvas)[0] - 1, tf.float32)

    def weighted(place, weight):
        pixel = tf.gather(packed, tf.cast(tf.clip_by_value(place, 0.0, last), tf.int32))
        weight = tf.cast(tf.cast(weight * _WEIGHT + 0.5, tf.int32), tf.int64)
        return _spread(tf.cast(pixel, tf.int64)) * weight

    sums = (
        weighted(first, to_left * to_top)
        + weighted(first + 1, to_right * to_top)
        + weighted(first + width, to_left * to_bottom)
        + weighted(first + width + 1, to_right * to_bottom)
    )
    return sums, (to_left + to_right) * (to_top + to_bottom)


def _sample_places(
    crop_to_canvas: tf.Tensor, out_size: Sequence[int]
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return x and y of the pixel centers of a view, float32 [h, w], in canvas indices.

    Index i is coordinate i + 0.5.
    """
    height, width = out_size
    x = tf.range(width, dtype=tf.float32) + 0.5
    y = tf.range(height, dtype=tf.float32)[:, tf.newaxis] + 0.5
    rows = tf.unstack(crop_to_canvas[:2])
    return tuple(row[0] * x + row[1] * y + (row[2] - 0.5) for row in rows)


def _axis_weights(
    fraction: tf.Tensor, first: tf.Tensor, size: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return weights of the pixels `first` and `first` + 1 of an axis; 0 beyond the border."""
    return (
        tf.where((first >= 0) & (first < size), 1 - fraction, 0.0),
        tf.where((first >= -1) & (first < size - 1), fraction, 0.0),
    )


def _spread(pixel: tf.Tensor) -> tf.Tensor:
    """Return the three bytes of an int64 in a lane each."""
    green = (pixel & 0xFF00) * (1 << _LANE - 8)
    return (pixel & 0xFF) + (green + (pixel & 0xFF0000) * (1 << 2 * (_LANE - 8)))


def colors(sums: tf.Tensor, covered: tf.Tensor, fill: tf.Tensor) -> tf.Tensor:
    """Return the sampled picture, with `fill`, float32 [3], where it does not cover the view.

    float32 [h, w, 3], in 0..255, not rounded.
    """
    lanes = [
        tf.bitwise.right_shift(sums, tf.constant(_LANE * c, tf.int64)) & ((1 << _LANE) - 1)
        for c in range(3)
    ]
    values = [tf.cast(tf.cast(lane, tf.int32), tf.float32) * (1 / _WEIGHT) for lane in lanes]
    return tf.stack([v + (1 - covered) * fill[c] for c, v in enumerate(values)], axis=-1)


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return `function` of tensors as one kernel of XLA; as it is where TensorFlow has no XLA.

    It must not depend on shapes that are not known when it is compiled.
    """
    if not _can_compile():
        return function
    return tf.function(function, autograph=False, jit_compile=True)


@functools.cache
def _can_compile() -> bool:
    """Return whether XLA compiles for the CPU here; tried in a graph of its own."""
    on_cpu = tf.compat.v1.ConfigProto(device_count={'GPU': 0})
    with tf.Graph().as_default(), tf.compat.v1.Session(config=on_cpu) as session:
        number = tf.compat.v1.placeholder(tf.int32, [])  # what is constant is not compiled
        try:
            with _mute():
                twice = tf.function(lambda x: x + x, autograph=False, jit_compile=True)(number)
                return session.run(twice, {number: 1}) == 2
        except tf.errors.OpError as error:
            logging.warning('pictures are augmented without XLA, slower: %s', error.message)
            return False


@contextlib.contextmanager
def _mute() -> Iterator[None]:
    """Keep off what TensorFlow says of a first compilation, a warning of its own log included.

    It writes to the file of standard error, and heeds no level of logging.
    """
    sys.stderr.flush()
    stderr, nowhere = os.dup(_STDERR), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, _STDERR)
        yield
    finally:
        os.dup2(stderr, _STDERR)
        os.close(stderr)
        os.close(nowhere)
