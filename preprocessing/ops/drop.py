"""Ops that hide a part of the picture, so that a network learns to go by the rest."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from config import IMAGENET_MEAN
from preprocessing.ops.registry import Op, Stage, between, check_color, check_number, draw, register


@register(Stage.PIXELS)
def drop(
    probability: float = 0.5,
    low: float = 0.1,
    high: float = 0.3,
    jitter: float = 0.5,
    fill: float | Sequence[float] = IMAGENET_MEAN,
) -> Op:
    """Hide a square near one of the points: information dropping (AID, Huang et al. 2020).

    Points and visibility stay: where they are must be told from what is around. The authors switch
    it on when a network can do without: data.late_ops.

    Args:
        probability: Share of the pictures in which something is hidden, if they have a point.
        low, high: The square's side, uniform between these shares of the shorter side.
        jitter: Its center is off the point by up to this share of its side, in x and in y.
        fill: What hides: gray in 0..255, or (red, green, blue).
    """
    check_number('probability', probability, 0, 1)
    check_number('low', low, 0, 1)
    check_number('high', high, low, 1)
    check_number('jitter', jitter, 0, 1)
    color = check_color('fill', fill)

    def op(example, seed):
        image, num_points = example['image'], example['keypoints'].shape[0]
        size = tf.cast(tf.shape(image)[:2], tf.float32)
        u, side, dx, dy, *lots = draw(seed, 4 + num_points)
        side = between(side, low, high) * tf.reduce_min(size)
        is_there = example['visibility'] >= 0
        chosen = tf.argmax(tf.where(is_there, tf.stack(lots), -1.0))
        offset = side * tf.stack([between(d, -jitter, jitter) for d in (dx, dy)])
        center = tf.gather(example['keypoints'], chosen) + offset
        x, y = (
            tf.range(length) + 0.5 - middle
            for length, middle in zip(tf.unstack(size[::-1]), tf.unstack(center))
        )
        hidden = (tf.abs(y) <= side / 2)[:, tf.newaxis] & (tf.abs(x) <= side / 2)
        hidden &= (u < probability) & tf.reduce_any(is_there)
        return {**example, 'image': tf.where(hidden[..., tf.newaxis], color, image)}

    return op
