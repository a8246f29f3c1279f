"""Ops that crop: around the points or a box, at random or just so. They only move the frame."""

from __future__ import annotations

import math

import tensorflow as tf

from preprocessing import geometry
from preprocessing.ops.registry import (
    Example,
    Op,
    Stage,
    between,
    check_number,
    draw,
    moved,
    register,
    width_height,
)


def _cropped(example: Example, box: tf.Tensor) -> Example:
    """Return the example with `box`, float32 [4] in px of the current frame, as its frame."""
    size = tf.stack([box[3] - box[1], box[2] - box[0]])
    return moved(example, geometry.crop(box), frame_size=size)


@register(Stage.GEOMETRY)
def crop_keep(min_area: float = 0.45, margin: float = 0.1, max_aspect: float = 1.33) -> Op:
    """Crop at random, keeping every annotated point; without points nothing is cut.

    Args:
        min_area: Least share of the frame's area; the share drawn is uniform in [min_area, 1], and
            enlarged where the points need more room.
        margin: Room around the points, as a share of the longer side of their box.
        max_aspect: The crop's aspect ratio over the frame's is drawn from 1 / max_aspect to
            max_aspect, uniformly in its logarithm.
    """
    check_number('min_area', min_area, 0.01, 1)
    check_number('margin', margin, 0)
    check_number('max_aspect', max_aspect, 1)

    def op(example, seed):
        area, aspect, *place = draw(seed, 4)
        area = between(area, min_area, 1.0)
        aspect = tf.exp(between(aspect, -math.log(max_aspect), math.log(max_aspect)))
        low, high = _needed_share(example, margin)
        need = high - low
        # No side may fall below `area`, or the other would have to be longer than the frame.
        width = tf.clip_by_value(tf.sqrt(area * aspect), tf.maximum(need[0], area), 1.0)
        height = tf.clip_by_value(area / width, need[1], 1.0)
        share = tf.stack([width, height])
        origin = between(tf.stack(place), tf.maximum(high - share, 0), tf.minimum(low, 1 - share))
        size = width_height(example)
        return _cropped(example, tf.concat([origin * size, (origin + share) * size], axis=0))

    return op


def _needed_share(example: Example, margin: float) -> tuple[tf.Tensor, tf.Tensor]:
    """Return corners (x, y) of the box of the points, shares; the whole frame without any."""
    size = width_height(example)
    points = geometry.transform_points(example['keypoints'], example['to_crop'])
    annotated = example['visibility'][:, None] >= 0
    low = tf.reduce_min(tf.where(annotated, points, math.inf), axis=0)
    high = tf.reduce_max(tf.where(annotated, points, -math.inf), axis=0)
    room = margin * tf.reduce_max(high - low)
    found = tf.reduce_any(annotated)
    low = tf.where(found, tf.clip_by_value((low - room) / size, 0, 1), 0.0)
    high = tf.where(found, tf.clip_by_value((high + room) / size, 0, 1), 1.0)
    return low, high


@register(Stage.GEOMETRY)
def crop_box(margin: float = 0.15, min_size: float = 0.2) -> Op:
    """Crop to example['box']; keep the whole frame where the box is empty or not in the frame.

    Args:
        margin: Room on each side, as a share of the box's width or height.
        min_size: Least width and height, as a share of the frame's longer side: a box from few or
            bad points does not become a picture of nothing.
    """
    check_number('margin', margin, 0)
    check_number('min_size', min_size, 0, 1)

    def op(example, seed):
        del seed  # Nothing is random here.
        size = width_height(example)
        x_min, y_min, x_max, y_max = tf.unstack(example['box'])
        corners = tf.stack([[x_min, y_min], [x_max, y_min], [x_max, y_max], [x_min, y_max]])
        corners = geometry.transform_points(corners, example['to_crop'])
        low = tf.clip_by_value(tf.reduce_min(corners, axis=0), 0, size)
        high = tf.clip_by_value(tf.reduce_max(corners, axis=0), 0, size)
        # A comparison with NaN is false, so a box of NaN is an empty one, too.
        real = (x_max > x_min) & (y_max > y_min) & tf.reduce_all(high > low)
        box = _with_room(low, high, size, margin, min_size)
        return _cropped(example, tf.where(real, box, _whole(size)))

    return op


def _whole(size: tf.Tensor) -> tf.Tensor:
    return tf.concat([[0.0, 0.0], size], axis=0)


def _with_room(
    low: tf.Tensor, high: tf.Tensor, size: tf.Tensor, margin: float, min_size: float
) -> tf.Tensor:
    """Return the box of `low` and `high` (x, y), widened and within the frame: [4]."""
    least = tf.minimum(min_size * tf.reduce_max(size), size)
    half = tf.maximum((0.5 + margin) * (high - low), least / 2)
    center = tf.clip_by_value((low + high) / 2, least / 2, size - least / 2)
    return tf.concat([tf.maximum(center - half, 0), tf.minimum(center + half, size)], axis=0)


@register(Stage.GEOMETRY)
def crop_points(
    margin: float = 0.15, jitter: float = 0.1, probability: float = 1.0, min_size: float = 0.2
) -> Op:
    """Crop to the box of the annotated points, its sides moved at random: what a second pass sees.

    A network that is to look twice must have seen crops. `crop_box` takes the box from predicted
    points; this op takes it from the true ones and errs as those do. With a probability of about
    one half the network sees whole pictures too, and serves both passes.

    Args:
        margin, min_size: As in crop_box.
        jitter: Each side moves by up to this share of the box's longer side, in or out.
        probability: Of cropping; otherwise, and without points, the frame stays.
    """
    check_number('margin', margin, 0)
    check_number('jitter', jitter, 0, 0.5)
    check_number('probability', probability, 0, 1)
    check_number('min_size', min_size, 0, 1)

    def op(example, seed):
        yes, *moves = draw(seed, 5)
        size = width_height(example)
        low, high = _needed_share(example, 0.0)
        low, high = low * size, high * size
        moves = jitter * tf.reduce_max(high - low) * between(tf.reshape(moves, [2, 2]), -1.0, 1.0)
        # However the sides move, they do not pass each other.
        middle = (low + high) / 2
        low, high = tf.minimum(low + moves[0], middle), tf.maximum(high + moves[1], middle)
        box = _with_room(low, high, size, margin, min_size)
        crops = (yes < probability) & tf.reduce_any(example['visibility'] >= 0)
        return _cropped(example, tf.where(crops, box, _whole(size)))

    return op
