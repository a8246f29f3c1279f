"""Affine maps between picture frames, and the one place where pixels are resampled.

Coordinates are continuous (x, y) with the origin at the outer corner of the top-left pixel: the
center of pixel [r, c] is (c + 0.5, r + 0.5). Sizes are (height, width). A map is a float32 [3, 3]
matrix that takes a homogeneous column (x, y, 1) of one frame to another; its last row is (0, 0, 1).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf


def _affine(x_row: Sequence[Any], y_row: Sequence[Any]) -> tf.Tensor:
    values = (*x_row, *y_row, 0, 0, 1)
    # One constant a number: an input has dozens of maps, and each operation delays its first batch.
    numbers = {v: tf.constant(float(v)) for v in values if isinstance(v, (int, float))}
    parts = [numbers[v] if isinstance(v, (int, float)) else tf.cast(v, tf.float32) for v in values]
    return tf.reshape(tf.stack(parts), [3, 3])


def translation(dx: Any, dy: Any) -> tf.Tensor:
    """Move points by (dx, dy) px."""
    return _affine((1, 0, dx), (0, 1, dy))


def scaling(factor_x: Any, factor_y: Any) -> tf.Tensor:
    """Multiply coordinates: a resize is this and nothing else."""
    return _affine((factor_x, 0, 0), (0, factor_y, 0))


def about(matrix: tf.Tensor, center: tf.Tensor) -> tf.Tensor:
    """Return the same map with `center`, float32 [2] (x, y), in the place of the origin."""
    there, back = translation(center[0], center[1]), translation(-center[0], -center[1])
    return there @ matrix @ back


def rotation(degrees: Any, center: tf.Tensor) -> tf.Tensor:
    """Turn about `center` (x, y). Positive is clockwise on screen, since y points down."""
    angle = tf.cast(degrees, tf.float32) * (3.141592653589793 / 180)
    cos, sin = tf.cos(angle), tf.sin(angle)
    return about(_affine((cos, -sin, 0), (sin, cos, 0)), center)


def mirror(width: Any) -> tf.Tensor:
    """Mirror left and right in a frame `width` px wide: x -> width - x."""
    return _affine((-1, 0, width), (0, 1, 0))


def crop(box: tf.Tensor) -> tf.Tensor:
    """Move the origin to the corner of `box`, float32 [4] (x_min, y_min, x_max, y_max)."""
    return translation(-box[0], -box[1])


def letterbox(from_size: tf.Tensor, to_size: tf.Tensor) -> tf.Tensor:
    """Fit a frame into another, centered, by one scale for both axes; sizes (height, width) px."""
    from_size, to_size = tf.cast(from_size, tf.float32), tf.cast(to_size, tf.float32)
    scale = tf.reduce_min(to_size / from_size)
    margin = (to_size - scale * from_size) / 2
    return _affine((scale, 0, margin[1]), (0, scale, margin[0]))


def transform_points(points: tf.Tensor, matrix: tf.Tensor) -> tf.Tensor:
    """Map points from the first frame of a matrix to its second.

    Written as products and sums because `tf.matmul` on a GPU may round its inputs to TF32, which
    is half a pixel at x = 512.

    Args:
        points: float32 [.., K, 2] (x, y).
        matrix: float32 [.., 3, 3], one for each leading index of `points`, or one for all.

    Returns:
        float32 [.., K, 2].
    """
    linear, offset = matrix[..., None, :2, :2], matrix[..., None, :2, 2]
    return tf.reduce_sum(linear * points[..., None, :], axis=-1) + offset


def magnification(matrix: tf.Tensor) -> tf.Tensor:
    """Return the root of the area ratio of a map: [.., 3, 3] -> [..]."""
    return tf.sqrt(tf.abs(tf.linalg.det(matrix[..., :2, :2])))


def warp_image(
    image: tf.Tensor, from_to: tf.Tensor, out_size: Sequence[int], fill: Any = 0.0
) -> tf.Tensor:
    """Resample a picture into another frame, bilinearly.

    Where the map shrinks the picture n times or more, n >= 2, the picture is first averaged over
    n x n pixels, so that nothing is skipped between the samples. In a batch the picture that
    shrinks least decides n for all.

    Args:
        image: [H, W, C] or [B, H, W, C], any real type.
        from_to: float32 [3, 3] or [B, 3, 3], from the picture's frame to the new one.
        out_size: (height, width) of the new frame, px.
        fill: Value outside the picture, one number or one for each channel.

    Returns:
        float32 [h, w, C] or [B, h, w, C], on the scale of `image`; not rounded.
    """
    single = image.shape.rank == 3
    images, matrices = (image[None], from_to[None]) if single else (image, from_to)
    to_from = tf.linalg.inv(matrices)
    factor = tf.reduce_min(reduction(to_from, tf.shape(images)[1:3]))
    # The op truncates integer pixels instead of rounding them, hence sees float32 only.
    reduced = tf.cond(
        factor > 1, lambda: average(images, factor), lambda: tf.cast(images, tf.float32)
    )
    # Its fill is one number: a color needs zeros around the difference to that color.
    warped = tf.raw_ops.ImageProjectiveTransformV3(
        images=reduced - fill,
        transforms=_index_transforms(to_from[:, :2] / tf.cast(factor, tf.float32)),
        output_shape=tf.cast(out_size, tf.int32),
        interpolation='BILINEAR',
        fill_mode='CONSTANT',
        fill_value=0.0,
    )
    warped += fill
    return warped[0] if single else warped


def _index_transforms(to_from: tf.Tensor) -> tf.Tensor:
    """Return [B, 2, 3] between continuous coordinates -> the op's [B, 8] between pixel indices.

    Index i is coordinate i + 0.5: shift by half a pixel before the map, and back after it.
    """
    half = tf.constant([[0.5, 0.5]])
    offset = transform_points(half, to_from)[:, 0] - 0.5
    rows = tf.concat([to_from[:, :, :2], offset[:, :, None]], axis=2)
    return tf.pad(tf.reshape(rows, [-1, 6]), [[0, 0], [0, 2]])


def reduction(to_from: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Return the whole number of times, at least 1, by which a map shrinks a picture.

    Args:
        to_from: float32 [.., 3, 3], the inverse of the map.
        size: int32 [2], of the picture; no side is averaged to less than a pixel.

    Returns:
        int32 [..].
    """
    # The small number keeps a map of exactly 1 / n, as computed in float32, on the right side.
    times = tf.cast(magnification(to_from) + 1e-3, tf.int32)
    return tf.clip_by_value(times, 1, tf.maximum(tf.reduce_min(size), 1))


def average(images: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Return means over factor x factor pixels, which divides coordinates by `factor` exactly.

    [B, H, W, C] -> float32 [B, ceil(H / factor), ceil(W / factor), C]; sides that are no multiple
    are continued by reflection.
    """
    padding = -tf.shape(images)[1:3] % factor
    paddings = tf.pad(padding[:, None], [[1, 1], [1, 0]])
    padded = tf.pad(images, paddings, 'SYMMETRIC')
    padded = tf.ensure_shape(padded, [None, None, None, images.shape[3]])  # tf.pad forgets it.
    return tf.image.resize(padded, tf.shape(padded)[1:3] // factor, method='area')
