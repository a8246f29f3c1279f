"""Preprocessing ops, and the op strings that name them: 'flip|letterbox(384,384)|warp'.

An op is a function (example, seed) -> example that changes nothing but its result. `seed` is an
int32 or int64 [2] of its own, so that equal seeds give equal pictures in any thread. The example:

    encoded         string [], the JPEG; gone after `warp`
    canvas, canvas_size, crop_to_canvas, fill  what `warp` leaves to be sampled (op_strings)
    image           float32 [H, W, 3], RGB in 0..255 and perhaps beyond; what pixel ops change
    image_size      int32 [2], (height, width) of the original, px
    keypoints       float32 [K, 2], original px until `warp`, crop px after it
    visibility      int32 [K]; -1 absent
    annotated       int32 [K], the visibility before `warp` made points absent; there after `warp`
    box             float32 [4], original px; zeros when unknown
    frame_size      float32 [2], (height, width) of the current frame, px
    to_crop         float32 [3, 3], original -> current frame; the crop's after `warp`
    flip_permutation  int32 [K], of the schema

A geometric op only replaces the frame and multiplies `to_crop`: it moves no pixels, so what a crop
leaves out comes back into view if a later rotation or letter-box has room for it. One letterbox
fixes the size, one warp resamples, pixel ops follow.
Pixel ops change `image` and may look at keypoints, visibility and to_crop. They are compiled, or
run for a batch on an accelerator: no shape of theirs may depend on a number.
AutoGraph is off: an op decides by tf.where or tf.cond, not by `if` on a tensor.
"""

from __future__ import annotations

import enum
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from config import Registry, UserError

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
    """Name -> factory: literal arguments -> Op. A factory checks its arguments (UserError), and
    carries its `stage`; @register(stage) sees to that.""",
)

# TensorFlow's number of the generator of random integers; by default it would depend on the device.
_PHILOX = 1
# The key with which TensorFlow makes a key and a counter of a seed.
_SEED_KEY = 0x02461E293EC8F720

# Height and width of a view together, px: what is decoded for one is then less than 2^24 pixels,
# which is as far as rendering.sample counts.
MAX_HEIGHT_AND_WIDTH = 2880

# Original px. Annotations are whole numbers from 0 to the width inclusive, read as n + 0.5: one on
# the right edge lies half a pixel outside the picture, and must not be lost.
EDGE_TOLERANCE = 1.0


def register(stage: Stage) -> Callable[[Callable[..., Op]], Callable[..., Op]]:
    """Register a factory under its own name; a decorator."""

    def add(factory):
        factory.stage = stage
        return OPS.register(factory.__name__)(factory)

    return add


def check_number(argument: str, value: Any, low: float, high: float = math.inf) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not (number and low <= value <= high and math.isfinite(value)):
        bounds = f'of at least {low}' if high == math.inf else f'from {low} to {high}'
        raise UserError(f'{argument}={value!r}: must be a number {bounds}')


def check_color(argument: str, value: float | Sequence[float]) -> list[float]:
    """Return [red, green, blue] of a gray or of three numbers, in 0..255."""
    color = value if isinstance(value, (tuple, list)) else (value,) * 3
    if len(color) != 3:
        raise UserError(f'{argument}={value!r}: must be one number or three')
    for part in color:
        check_number(argument, part, 0, 255)
    return list(map(float, color))


def random_bits(seed: Any, count: int) -> tf.Tensor:
    """Return int32 [count], stateless_uniform(.., alg='philox') of integers [2].

    That takes some 25 operations, which were half of all that an op string takes before pixels.
    """
    generate = functools.partial(tf.raw_ops.StatelessRandomUniformFullIntV2, alg=_PHILOX)
    place = tf.cast(seed, tf.uint64)
    mixed = generate(shape=[2], key=[_SEED_KEY], counter=place, dtype=tf.uint64)
    counter = tf.concat([tf.zeros([1], tf.uint64), mixed[1:]], axis=0)
    return generate(shape=[count], key=mixed[:1], counter=counter, dtype=tf.int32)


def own_seeds(seed: Any, positions: Sequence[int]) -> list[tf.Tensor]:
    """Return the seeds, int32 [2], of the ops at some positions of an op string with this seed."""
    drawn = random_bits(seed, 1)[0]
    return [tf.stack([drawn, position]) for position in positions]


def draw(seed: tf.Tensor, count: int) -> list[tf.Tensor]:
    """Return `count` independent numbers in [0, 1), the same on every device and by XLA.

    They are made of the lower bits of integers, as TensorFlow's kernels do it: of the same integers
    XLA makes other fractions.
    """
    bits = random_bits(seed, count) & (2**23 - 1)
    return tf.unstack(tf.cast(bits, tf.float32) * 2.0**-23)


def between(u: tf.Tensor, low: Any, high: Any) -> tf.Tensor:
    """Return a number of [0, 1) moved to [low, high)."""
    return low + u * (high - low)


def moved(example: Example, matrix: tf.Tensor, **changes: tf.Tensor) -> Example:
    """Return the example with its frame mapped by `matrix`, and what else the op changes."""
    return {**example, 'to_crop': matrix @ example['to_crop'], **changes}


def width_height(example: Example) -> tf.Tensor:
    """Return the frame's size as (x, y). (A stride of -1 upsets TensorFlow's optimizer.)"""
    return tf.reverse(example['frame_size'], [0])


def frame_center(example: Example) -> tf.Tensor:
    """Return (x, y) of the frame's center, float32 [2], px."""
    return width_height(example) / 2
