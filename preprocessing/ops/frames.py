"""Geometric ops on the frame of an example, and the letterbox and the warp that end them."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from config import IMAGENET_MEAN, UserError
from preprocessing import geometry, rendering
from preprocessing.ops.registry import (
    EDGE_TOLERANCE,
    MAX_HEIGHT_AND_WIDTH,
    Op,
    Stage,
    between,
    check_color,
    check_number,
    draw,
    frame_center,
    moved,
    register,
    width_height,
)


@register(Stage.GEOMETRY)
def flip(probability: float = 0.5) -> Op:
    """Mirror left and right, and give the points of each pair the other's row."""
    check_number('probability', probability, 0, 1)

    def op(example, seed):
        (u,) = draw(seed, 1)
        yes, order = u < probability, example['flip_permutation']
        keypoints, visibility = example['keypoints'], example['visibility']
        return moved(
            example,
            tf.where(yes, geometry.mirror(example['frame_size'][1]), tf.eye(3)),
            keypoints=tf.where(yes, tf.gather(keypoints, order), keypoints),
            visibility=tf.where(yes, tf.gather(visibility, order), visibility),
        )

    return op


@register(Stage.GEOMETRY)
def rotate(degrees: float, probability: float = 1.0) -> Op:
    """Turn about the frame's center by an angle uniform in +-degrees; positive is clockwise."""
    check_number('degrees', degrees, 0, 180)
    check_number('probability', probability, 0, 1)

    def op(example, seed):
        u, angle = draw(seed, 2)
        angle = tf.where(u < probability, between(angle, -degrees, degrees), 0.0)
        return moved(example, geometry.rotation(angle, frame_center(example)))

    return op


@register(Stage.GEOMETRY)
def turn(degrees: float) -> Op:
    """Turn about the frame's center by just this angle; positive is clockwise."""
    check_number('degrees', degrees, -180, 180)

    def op(example, seed):
        del seed  # Nothing is random here.
        return moved(example, geometry.rotation(degrees, frame_center(example)))

    return op


@register(Stage.GEOMETRY)
def scale(low: float, high: float) -> Op:
    """Enlarge about the frame's center by a factor uniform in [low, high]; below 1 is smaller."""
    check_number('low', low, 0.01)
    check_number('high', high, low)

    def op(example, seed):
        factor = between(draw(seed, 1)[0], low, high)
        matrix = geometry.scaling(factor, factor)
        return moved(example, geometry.about(matrix, frame_center(example)))

    return op


@register(Stage.GEOMETRY)
def shift(fraction: float) -> Op:
    """Move the picture by up to +-fraction of the frame's width and height."""
    check_number('fraction', fraction, 0, 1)

    def op(example, seed):
        dx, dy = (between(u, -fraction, fraction) for u in draw(seed, 2))
        height, width = tf.unstack(example['frame_size'])
        return moved(example, geometry.translation(dx * width, dy * height))

    return op


@register(Stage.SIZE)
def letterbox(height: int, width: int) -> Op:
    """Fit the frame into height x width px: one scale for both axes, centered."""
    for argument, value in (('height', height), ('width', width)):
        if type(value) is not int or value < 1:
            raise UserError(f'{argument}={value!r}: must be a positive whole number')
    if height + width > MAX_HEIGHT_AND_WIDTH:
        largest = f'of at most {MAX_HEIGHT_AND_WIDTH} px together'
        raise UserError(f'height={height}, width={width}: must be {largest}')

    def op(example, seed):
        del seed  # Nothing is random here.
        size = tf.constant([height, width], tf.float32)
        matrix = geometry.letterbox(example['frame_size'], size)
        return moved(example, matrix, frame_size=size)

    return op


@register(Stage.WARP)
def warp(fill: float | Sequence[float] = IMAGENET_MEAN) -> Op:
    """Decode the picture, has it resampled once, and map the points by the same matrix.

    Points outside the crop by more than EDGE_TOLERANCE become absent.

    Args:
        fill: Where there is no picture: gray in 0..255, or (red, green, blue). The default is what
            the network's standardization takes to zero.
    """
    color = check_color('fill', fill)

    def op(example, seed):
        del seed  # Nothing is random here.
        rest = dict(example)
        to_crop, size = rest['to_crop'], width_height(rest)
        # A constant from `letterbox`: known while the graph is built, hence a static shape.
        out_size = tf.get_static_value(rest['frame_size']).astype(int).tolist()
        keypoints = geometry.transform_points(rest['keypoints'], to_crop)
        tolerance = EDGE_TOLERANCE * geometry.magnification(to_crop)
        inside = (keypoints >= -tolerance) & (keypoints <= size + tolerance)
        jpeg, image_size = rest.pop('encoded'), rest['image_size']
        return {
            **rest,
            **rendering.decode_to_canvas(jpeg, image_size, to_crop, out_size),
            'fill': tf.constant(color, tf.float32),
            'keypoints': keypoints,
            'annotated': rest['visibility'],
            'visibility': tf.where(tf.reduce_all(inside, axis=1), rest['visibility'], -1),
        }

    op.fill = color
    return op
