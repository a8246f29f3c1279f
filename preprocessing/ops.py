"""Preprocessing ops, and the op strings that name them: 'flip|letterbox(384,384)|warp'.

An op is a function (example, seed) -> example that changes nothing but its result. `seed` is an
int32 or int64 [2] of its own, so that equal seeds give equal pictures in any thread. The example:

    encoded         string [], the JPEG; gone after `warp`
    image           float32 [H, W, 3], RGB in 0..255 and perhaps beyond; there after `warp`
    image_size      int32 [2], (height, width) of the original, px
    keypoints       float32 [K, 2], original px until `warp`, crop px after it
    visibility      int32 [K]; -1 absent
    box             float32 [4], original px; zeros when unknown
    frame_size      float32 [2], (height, width) of the current frame, px
    to_crop         float32 [3, 3], original -> current frame; the crop's after `warp`
    flip_permutation  int32 [K], of the schema

A geometric op only replaces the frame and multiplies `to_crop`: it moves no pixels, so what a crop
leaves out comes back into view if a later rotation or letter-box has room for it. One letterbox
fixes the size, one warp resamples, pixel ops follow (color_ops.py). AutoGraph is off:
an op decides by tf.where or tf.cond, not by `if` on a tensor.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from config import IMAGENET_MEAN, Registry
from preprocessing import geometry

Example = Mapping[str, tf.Tensor]
Op = Callable[[Example, tf.Tensor], Example]


class Stage(enum.IntEnum):
    """Ops of an op string come in this order."""

    GEOMETRY = 0
    SIZE = 1
    WARP = 2
    PIXELS = 3


OPS = Registry(
    'op',
    """Name -> factory: literal arguments -> Op. A factory checks its arguments (ValueError), and
    carries its `stage`; @register(stage) sees to that.""",
)

# Original px. Annotations are whole numbers from 0 to the width inclusive, read as n + 0.5: one on
# the right edge lies half a pixel outside the picture, and must not be lost.
EDGE_TOLERANCE = 1.0


def register(stage: Stage) -> Callable[[Callable[..., Op]], Callable[..., Op]]:
    """Decorator that registers a factory under its own name."""

    def add(factory):
        factory.stage = stage
        return OPS.register(factory.__name__)(factory)

    return add


def check_number(argument: str, value: Any, low: float, high: float = math.inf) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not (number and low <= value <= high and math.isfinite(value)):
        bounds = f'of at least {low}' if high == math.inf else f'from {low} to {high}'
        raise ValueError(f'{argument}={value!r}: must be a number {bounds}')


def draw(seed: tf.Tensor, count: int) -> list[tf.Tensor]:
    """`count` independent numbers, uniform in [0, 1)."""
    return tf.unstack(tf.random.stateless_uniform([count], seed))


def _between(u: tf.Tensor, low: Any, high: Any) -> tf.Tensor:
    return low + u * (high - low)


def _moved(example: Example, matrix: tf.Tensor, **changes: tf.Tensor) -> Example:
    """The example with its frame mapped by `matrix`, and what else the op changes."""
    return {**example, 'to_crop': matrix @ example['to_crop'], **changes}


def _width_height(example: Example) -> tf.Tensor:
    """The frame's size in the order of points. (A stride of -1 upsets TensorFlow's optimiser.)"""
    return tf.reverse(example['frame_size'], [0])


def _frame_center(example: Example) -> tf.Tensor:
    return _width_height(example) / 2


def _cropped(example: Example, box: tf.Tensor) -> Example:
    """The example with `box`, float32 [4] in px of the current frame, as its frame."""
    size = tf.stack([box[3] - box[1], box[2] - box[0]])
    return _moved(example, geometry.crop(box), frame_size=size)


@register(Stage.GEOMETRY)
def flip(probability: float = 0.5) -> Op:
    """Mirrors left and right, and gives the points of each pair the other's row."""
    check_number('probability', probability, 0, 1)

    def op(example, seed):
        (u,) = draw(seed, 1)
        yes, order = u < probability, example['flip_permutation']
        keypoints, visibility = example['keypoints'], example['visibility']
        return _moved(
            example,
            tf.where(yes, geometry.mirror(example['frame_size'][1]), tf.eye(3)),
            keypoints=tf.where(yes, tf.gather(keypoints, order), keypoints),
            visibility=tf.where(yes, tf.gather(visibility, order), visibility),
        )

    return op


@register(Stage.GEOMETRY)
def rotate(degrees: float, probability: float = 1.0) -> Op:
    """Turns about the frame's centre by an angle uniform in +-degrees; positive is clockwise."""
    check_number('degrees', degrees, 0, 180)
    check_number('probability', probability, 0, 1)

    def op(example, seed):
        u, angle = draw(seed, 2)
        angle = tf.where(u < probability, _between(angle, -degrees, degrees), 0.0)
        return _moved(example, geometry.rotation(angle, _frame_center(example)))

    return op


@register(Stage.GEOMETRY)
def scale(low: float, high: float) -> Op:
    """Enlarges about the frame's centre by a factor uniform in [low, high]; below 1 is smaller."""
    check_number('low', low, 0.01)
    check_number('high', high, low)

    def op(example, seed):
        factor = _between(draw(seed, 1)[0], low, high)
        matrix = geometry.scaling(factor, factor)
        return _moved(example, geometry.about(matrix, _frame_center(example)))

    return op


@register(Stage.GEOMETRY)
def shift(fraction: float) -> Op:
    """Moves the picture by up to +-fraction of the frame's width and height."""
    check_number('fraction', fraction, 0, 1)

    def op(example, seed):
        dx, dy = (_between(u, -fraction, fraction) for u in draw(seed, 2))
        height, width = tf.unstack(example['frame_size'])
        return _moved(example, geometry.translation(dx * width, dy * height))

    return op


@register(Stage.GEOMETRY)
def crop_keep(min_area: float = 0.45, margin: float = 0.1, max_aspect: float = 1.33) -> Op:
    """Crops at random, keeping every annotated point; without points nothing is cut.

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
        area = _between(area, min_area, 1.0)
        aspect = tf.exp(_between(aspect, -math.log(max_aspect), math.log(max_aspect)))
        low, high = _needed_share(example, margin)
        need = high - low
        # No side may fall below `area`, or the other would have to be longer than the frame.
        width = tf.clip_by_value(tf.sqrt(area * aspect), tf.maximum(need[0], area), 1.0)
        height = tf.clip_by_value(area / width, need[1], 1.0)
        share = tf.stack([width, height])
        origin = _between(tf.stack(place), tf.maximum(high - share, 0), tf.minimum(low, 1 - share))
        size = _width_height(example)
        return _cropped(example, tf.concat([origin * size, (origin + share) * size], axis=0))

    return op


def _needed_share(example: Example, margin: float) -> tuple[tf.Tensor, tf.Tensor]:
    """Corners (x, y), as shares of the frame, of the box around the points; all without points."""
    size = _width_height(example)
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
    """Crops to example['box']; keeps the whole frame where the box is empty or not in the frame.

    Args:
        margin: Room on each side, as a share of the box's width or height.
        min_size: Least width and height, as a share of the frame's longer side: a box from few or
            bad points does not become a picture of nothing.
    """
    check_number('margin', margin, 0)
    check_number('min_size', min_size, 0, 1)

    def op(example, seed):
        del seed  # Nothing is random here.
        size = _width_height(example)
        x_min, y_min, x_max, y_max = tf.unstack(example['box'])
        corners = tf.stack([[x_min, y_min], [x_max, y_min], [x_max, y_max], [x_min, y_max]])
        corners = geometry.transform_points(corners, example['to_crop'])
        low = tf.clip_by_value(tf.reduce_min(corners, axis=0), 0, size)
        high = tf.clip_by_value(tf.reduce_max(corners, axis=0), 0, size)
        least = tf.minimum(min_size * tf.reduce_max(size), size)
        half = tf.maximum((0.5 + margin) * (high - low), least / 2)
        center = tf.clip_by_value((low + high) / 2, least / 2, size - least / 2)
        box = tf.concat([tf.maximum(center - half, 0), tf.minimum(center + half, size)], axis=0)
        # A comparison with NaN is false, so a box of NaN is an empty one, too.
        real = (x_max > x_min) & (y_max > y_min) & tf.reduce_all(high > low)
        return _cropped(example, tf.where(real, box, tf.concat([[0.0, 0.0], size], axis=0)))

    return op


@register(Stage.SIZE)
def letterbox(height: int, width: int) -> Op:
    """Fits the frame into height x width px: one scale for both axes, centred."""
    for argument, value in (('height', height), ('width', width)):
        if type(value) is not int or value < 1:
            raise ValueError(f'{argument}={value!r}: must be a positive whole number')

    def op(example, seed):
        del seed  # Nothing is random here.
        size = tf.constant([height, width], tf.float32)
        matrix = geometry.letterbox(example['frame_size'], size)
        return _moved(example, matrix, frame_size=size)

    return op


@register(Stage.WARP)
def warp(fill: float | Sequence[float] = IMAGENET_MEAN) -> Op:
    """Decodes the picture, resamples it once, and maps the points by the same matrix.

    Points outside the crop by more than EDGE_TOLERANCE become absent.

    Args:
        fill: Where there is no picture: grey in 0..255, or (red, green, blue). The default is what
            the network's standardisation takes to zero.
    """
    colour = fill if isinstance(fill, (tuple, list)) else (fill,) * 3
    if len(colour) != 3:
        raise ValueError(f'fill={fill!r}: must be one number or three')
    for value in colour:
        check_number('fill', value, 0, 255)

    def op(example, seed):
        del seed  # Nothing is random here.
        rest = dict(example)
        # The default decoder is off by a grey level or two on the average, and no faster.
        image = tf.io.decode_jpeg(rest.pop('encoded'), channels=3, dct_method='INTEGER_ACCURATE')
        to_crop, frame_size = rest['to_crop'], rest['frame_size']
        # A constant from `letterbox`: known while the graph is built, hence a static shape.
        out_size = tf.get_static_value(frame_size).astype(int)
        keypoints = geometry.transform_points(rest['keypoints'], to_crop)
        tolerance = EDGE_TOLERANCE * geometry.magnification(to_crop)
        inside = (keypoints >= -tolerance) & (keypoints <= _width_height(rest) + tolerance)
        return {
            **rest,
            'image': geometry.warp_image(image, to_crop, out_size, list(map(float, colour))),
            'keypoints': keypoints,
            'visibility': tf.where(tf.reduce_all(inside, axis=1), rest['visibility'], -1),
        }

    return op


from preprocessing import color_ops  # noqa: E402, F401  registers its ops
