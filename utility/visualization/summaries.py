"""Pictures with points and with heat maps for TensorBoard, drawn in the graph."""

from __future__ import annotations

import tensorflow as tf

MAX_IMAGES = 4
_PREDICTED_COLOR = (255.0, 48.0, 48.0)
_TRUE_COLOR = (48.0, 255.0, 48.0)
# Of the picture's width; a point is seen on a thumbnail and does not hide what it marks.
_RADIUS = 1 / 96
_DARK = 0.5  # how bright a picture is under its heat maps


def mark_points(images: tf.Tensor, points: tf.Tensor, drawn: tf.Tensor, color) -> tf.Tensor:
    """Draw discs.

    Args:
        images: float32 [B, H, W, 3] in 0..255.
        points: float32 [B, K, 2] px of the images.
        drawn: bool [B, K], which of them.
        color: RGB in 0..255.

    Returns:
        float32 [B, H, W, 3].
    """
    height, width = images.shape[1], images.shape[2]
    rows = tf.range(height, dtype=tf.float32)[:, tf.newaxis, tf.newaxis] + 0.5
    columns = tf.range(width, dtype=tf.float32)[tf.newaxis, :, tf.newaxis] + 0.5
    x, y = (points[:, tf.newaxis, tf.newaxis, :, i] for i in (0, 1))
    near = (columns - x) ** 2 + (rows - y) ** 2 <= max(1.5, _RADIUS * width) ** 2
    disc = tf.reduce_any(near & drawn[:, tf.newaxis, tf.newaxis, :], axis=-1, keepdims=True)
    return tf.where(disc, tf.constant(color), images)


def images_with_points(images: tf.Tensor, predicted: tf.Tensor, labels) -> tf.Tensor:
    """Return the first pictures with true points in green and predicted ones in red.

    Args:
        images: uint8 [B, H, W, 3].
        predicted: float32 [B, K, 2] crop px; shown where the picture has that point.
        labels: 'keypoints' [B, K, 2] crop px and 'visibility' [B, K].

    Returns:
        uint8 [min(B, MAX_IMAGES), H, W, 3].
    """
    present = labels['visibility'][:MAX_IMAGES] >= 0
    marked = tf.cast(images[:MAX_IMAGES], tf.float32)
    marked = mark_points(marked, labels['keypoints'][:MAX_IMAGES], present, _TRUE_COLOR)
    marked = mark_points(marked, predicted[:MAX_IMAGES], present, _PREDICTED_COLOR)
    return tf.cast(marked, tf.uint8)


def images_with_heatmaps(images: tf.Tensor, maps: tf.Tensor, labels) -> tf.Tensor:
    """Return the first pictures, dark, with the heat maps of their points, bright.

    Args:
        images: uint8 [B, H, W, 3].
        maps: float32 [B, h, w, K], 1 where the network is sure of a point.
        labels: 'visibility' [B, K].

    Returns:
        uint8 [min(B, MAX_IMAGES), H, W, 3].
    """
    present = labels['visibility'][:MAX_IMAGES, tf.newaxis, tf.newaxis, :] >= 0
    highest = tf.reduce_max(tf.where(present, maps[:MAX_IMAGES], 0.0), axis=-1, keepdims=True)
    share = tf.clip_by_value(tf.image.resize(highest, images.shape[1:3]), 0.0, 1.0)
    dark = _DARK * tf.cast(images[:MAX_IMAGES], tf.float32)
    return tf.cast(dark + share * (tf.constant(_PREDICTED_COLOR) - dark), tf.uint8)
