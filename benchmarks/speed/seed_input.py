"""The input of the public TensorFlow system for this competition (2018), as a reference.

Its steps, in TensorFlow 2: four color changes in one of four orders, hue and saturation by way of
HSV; a rotation on the same canvas, by the nearest pixel; a random crop that holds all points, from
`sample_distorted_bounding_box`; a resize by one of four methods; a flip; and one heat map at a time
from NumPy, by `py_function`. Pictures leave the host as float32, heat maps beside them.
"""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf

MEAN = (171.04, 162.98, 159.89)  # of the training pictures, as the seed has it
_BORDER = 25.0  # px around the points
_ROTATED = 0.4  # share of the pictures
_SIGMA = 1.0  # cells


def _distorted(image: tf.Tensor) -> tf.Tensor:
    """Return colors of a picture in [0, 1], changed in one of four orders."""
    brightness = lambda image: tf.image.random_brightness(image, 32 / 255)  # noqa: E731
    saturation = lambda image: tf.image.random_saturation(image, 0.5, 1.5)  # noqa: E731
    contrast = lambda image: tf.image.random_contrast(image, 0.5, 1.5)  # noqa: E731
    hue = lambda image: tf.image.random_hue(image, 0.2)  # noqa: E731
    orders = [
        (brightness, saturation, hue, contrast),
        (saturation, brightness, contrast, hue),
        (contrast, hue, brightness, saturation),
        (hue, saturation, contrast, brightness),
    ]

    def in_order(order):
        changed = image
        for change in order:
            changed = change(changed)
        return changed

    choice = tf.random.uniform([], 0, len(orders), tf.int32)
    branches = [lambda order=order: in_order(order) for order in orders]
    return tf.clip_by_value(tf.switch_case(choice, branches), 0, 1)


def _rotated(image: tf.Tensor, points: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Turn about the middle of the points, and bring it to the middle of the picture."""
    angle = tf.random.uniform([], -math.pi / 6, math.pi / 6)
    cos, sin = tf.cos(angle), tf.sin(angle)
    linear = tf.stack([tf.stack([cos, -sin]), tf.stack([sin, cos])])
    middle = (tf.reduce_min(points, axis=0) + tf.reduce_max(points, axis=0)) / 2
    half = tf.reverse(tf.cast(tf.shape(image)[:2], tf.float32), [0]) / 2
    offset = middle - tf.linalg.matvec(linear, half)
    rows = tf.concat([linear, offset[:, tf.newaxis]], axis=1)
    turned = tf.raw_ops.ImageProjectiveTransformV3(
        images=image[tf.newaxis],
        transforms=tf.concat([tf.reshape(rows, [1, 6]), tf.zeros([1, 2])], axis=1),
        output_shape=tf.shape(image)[:2],
        interpolation='NEAREST',
        fill_mode='CONSTANT',
        fill_value=0.0,
    )
    return turned[0], (points - offset) @ linear


def _cropped(image: tf.Tensor, points: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return a random crop around all points; these as shares of it."""
    size = tf.cast(tf.shape(image)[:2], tf.float32)
    places = tf.reverse(points, [1])
    low = tf.clip_by_value((tf.reduce_min(places, axis=0) - _BORDER) / size, 0, 1)
    high = tf.clip_by_value((tf.reduce_max(places, axis=0) + _BORDER) / size, 0, 1)
    begin, extent, _ = tf.image.sample_distorted_bounding_box(
        tf.shape(image),
        tf.concat([low, high], axis=0)[tf.newaxis, tf.newaxis],
        min_object_covered=1.0,
        aspect_ratio_range=(0.75, 1.33),
        area_range=(0.45, 1.0),
        max_attempts=100,
        use_image_if_no_bounding_boxes=True,
    )
    crop = tf.slice(image, begin, extent)
    places = (places - tf.cast(begin[:2], tf.float32)) / tf.cast(extent[:2], tf.float32)
    return crop, tf.reverse(places, [1])


def _resized(image: tf.Tensor, size: int) -> tf.Tensor:
    methods = ('bilinear', 'nearest', 'bicubic', 'area')
    choice = tf.random.uniform([], 0, len(methods), tf.int32)
    branches = [lambda m=method: tf.image.resize(image, [size, size], m) for method in methods]
    return tf.ensure_shape(tf.switch_case(choice, branches), [size, size, 3])


def _drawn(place: np.ndarray, size: int) -> np.ndarray:
    """Return the heat map of one point, (x, y) in cells: a window of a Gaussian, pasted."""
    map_, reach = np.zeros((size, size), np.float32), int(3 * _SIGMA)
    x, y = (int(value) for value in place)
    low, high = np.maximum([x - reach, y - reach], 0), np.minimum([x + reach, y + reach], size - 1)
    if np.all(low <= high):
        columns, rows = np.arange(low[0], high[0] + 1), np.arange(low[1], high[1] + 1)
        squares = (columns - x) ** 2 + (rows[:, np.newaxis] - y) ** 2
        map_[low[1] : high[1] + 1, low[0] : high[0] + 1] = np.exp(-squares / (2 * _SIGMA**2))
    return map_


def _targets(points: tf.Tensor, size: int) -> tf.Tensor:
    """Return float32 [K, size, size]; points [K, 2] in shares of the picture."""

    def draw(place):
        (drawn,) = tf.py_function(lambda at: [_drawn(at.numpy(), size)], [place], [tf.float32])
        return drawn

    cells = tf.round(points * size)
    return tf.ensure_shape(tf.map_fn(draw, cells), [points.shape[0], size, size])


def prepare(example: dict[str, tf.Tensor], image_size: int, heatmap_size: int):
    """Return a picture and its targets, of what records.decode_example gives."""
    image = tf.io.decode_jpeg(example['encoded'], channels=3)
    image = _distorted(tf.image.convert_image_dtype(image, tf.float32))
    image = tf.cast(tf.image.convert_image_dtype(image, tf.uint8, saturate=True), tf.float32) - MEAN
    points = example['keypoints']
    image, points = tf.cond(
        tf.random.uniform([]) < _ROTATED,
        lambda: _rotated(image, points),
        lambda: (image, points),
    )
    image, points = _cropped(image, points)
    image = _resized(image, image_size)
    mirrored = tf.random.uniform([]) < 0.5
    image = tf.where(mirrored, image[:, ::-1], image)
    points = tf.where(mirrored, [1.0, 0.0] + [-1.0, 1.0] * points, points)
    return image / 255, _targets(points, heatmap_size)
