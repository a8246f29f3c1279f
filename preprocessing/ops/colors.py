"""Ops on the colors of a picture: affine maps of its (R, G, B) columns in 0..255."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import tensorflow as tf

from preprocessing.ops.registry import Example, Op, Stage, check_number, draw, register

# Luma and the two chroma axes of NTSC's YIQ, of an (R, G, B) column.
_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
_RGB_TO_LUMA = np.tile(_YIQ[:1], (3, 1))
_RGB_TO_CHROMA = np.eye(3) - _RGB_TO_LUMA
_QUARTER_TURN = np.linalg.inv(_YIQ) @ [[0, 0, 0], [0, 0, -1], [0, 1, 0]] @ _YIQ


def _color_matrix(saturation: tf.Tensor, turns: tf.Tensor) -> tf.Tensor:
    """Return [3, 3] that scales the chroma and turns it in the I-Q plane; gray and luma stay."""
    along = saturation * tf.cos(2 * math.pi * turns)
    across = saturation * tf.sin(2 * math.pi * turns)
    return tf.eye(3) + (along - 1) * _RGB_TO_CHROMA + across * _QUARTER_TURN


def _recolored(example: Example, matrix: tf.Tensor, offset: Any = 0.0) -> Example:
    """Return `matrix` [3, 3] on each color, and `offset`, [3] or one number, added."""
    # The factor is there because XLA does not look through a matrix product: else it would work out
    # the numbers of the matrix, sines and all, for each pixel anew.
    matrix = matrix @ tf.eye(3)
    # Written as products and sums to be compiled into one loop; as a matrix product it is slower.
    channels = tf.unstack(example['image'], axis=-1)
    changed = [sum(row[c] * channels[c] for c in range(3)) for row in tf.unstack(matrix)]
    return {**example, 'image': tf.stack(changed, axis=-1) + offset}


@register(Stage.PIXELS)
def color(
    brightness: float = 0.125,
    contrast: float = 0.5,
    saturation: float = 0.5,
    hue: float = 0.2,
    probability: float = 1.0,
) -> Op:
    """Change the colors by one affine map for the whole picture.

    Without clipping in between, the four steps commute, so that their order is no parameter.

    Args:
        brightness: Adds up to +-brightness of the full range.
        contrast: Distances from the picture's mean color times 1 - contrast to 1 + contrast.
        saturation: Distances from gray of the same luma times 1 - saturation to 1 + saturation.
        hue: Turns the color circle by up to +-hue of a full turn.
        probability: Share of the pictures that are changed at all.
    """
    arguments = {'brightness': brightness, 'contrast': contrast, 'saturation': saturation}
    for argument, value in {**arguments, 'probability': probability}.items():
        check_number(argument, value, 0, 1)
    check_number('hue', hue, 0, 0.5)

    def op(example, seed):
        u, *draws = draw(seed, 5)
        strengths = tf.constant([brightness, contrast, saturation, hue], tf.float32)
        change = tf.where(u < probability, (2 * tf.stack(draws) - 1) * strengths, 0.0)
        added, contrast_change, saturation_change, turns = tf.unstack(change)
        matrix = _color_matrix(1 + saturation_change, turns)
        mean = tf.stack([tf.reduce_mean(c) for c in tf.unstack(example['image'], axis=-1)])
        offset = 255 * added - contrast_change * tf.linalg.matvec(matrix, mean)
        return _recolored(example, (1 + contrast_change) * matrix, offset)

    return op


@register(Stage.PIXELS)
def grayscale(probability: float = 0.1) -> Op:
    """Replace the colors by their luma."""
    check_number('probability', probability, 0, 1)

    def op(example, seed):
        (u,) = draw(seed, 1)
        return _recolored(example, _color_matrix(tf.where(u < probability, 0.0, 1.0), 0.0))

    return op
