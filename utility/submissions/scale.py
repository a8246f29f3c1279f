"""Are points in the coordinates of the pictures, or of pictures that were resized for a network?

Where garments stand in the middle of their picture and reach close to its border, which the schema
of a data set tells, the middle of the points tells how large the picture is that they lie in.
"""

from __future__ import annotations

import numpy as np

from preprocessing.schema import KeypointSchema
from utility.submissions.findings import WARNING, Finding

MIN_IMAGES = 20  # fewer say nothing
_COMMON_SIDES = np.array([128, 192, 224, 256, 320, 368, 384, 416, 448, 480, 512, 640, 768, 1024])
_MIN_ASPECT = 1.1  # from which on a picture is clearly no square
# How much of a picture's aspect its points have lost: 1 for pictures made square; measured -0.16 to
# 0.05 of annotations and of submissions.
_SQUARED = 0.5


def check_scale(
    keypoints: np.ndarray, image_sizes: np.ndarray, schema: KeypointSchema
) -> list[Finding]:
    """Return whether the points of a whole submission lie in other pictures than they should.

    Args:
        keypoints: float64 [N, K, 2], px; NaN where there is no point.
        image_sizes: float64 [N, 2], (height, width), px; NaN where unknown.
        schema: Tells what is usual; nothing is found without its usual_middle.
    """
    if schema.usual_middle is None:
        return []
    has_points = (~np.isnan(keypoints).any(-1)).sum(1) > 1
    has_size = has_points & ~np.isnan(image_sizes).any(-1)
    if np.count_nonzero(has_size) >= MIN_IMAGES:
        chosen, width_height = keypoints[has_size], image_sizes[has_size, ::-1]
        assumption = 'by the sizes of the pictures'
    elif np.count_nonzero(has_points) >= MIN_IMAGES and schema.usual_side is not None:
        chosen, width_height = keypoints[has_points], np.full([1, 2], float(schema.usual_side))
        assumption = f'if their longest side is {schema.usual_side} px, as that of most usually is'
    else:
        return []
    high = np.fmax.reduce(chosen, axis=1)
    doubled = np.maximum(np.fmin.reduce(chosen, axis=1) + high, 1)
    resized = _resized(doubled, high, width_height, assumption, schema)
    return resized or _squared(doubled, width_height)


def _resized(
    doubled: np.ndarray,
    high: np.ndarray,
    width_height: np.ndarray,
    assumption: str,
    schema: KeypointSchema,
) -> list[Finding]:
    """Return whether both coordinates are too small, or too large.

    Args:
        doubled: [N, 2], px, twice the middle of each picture's points.
        high: [N, 2], px, the largest x and y of them.
        width_height: [N, 2] or [1, 2], px.
        assumption: How the sizes are known.
    """
    scale = np.median(doubled / width_height)
    reach = np.quantile((high / width_height).max(-1), 0.99)
    low, high_end = schema.usual_middle
    reaches_as_usual = schema.usual_reach is not None and reach > schema.usual_reach
    if low <= scale <= high_end or (scale < 1 and reaches_as_usual):
        return []
    side = scale * np.median(width_height.max(-1))
    nearest = _COMMON_SIDES[np.abs(np.log(_COMMON_SIDES / side)).argmin()]
    problem = (
        f'coordinates are probably those of pictures resized to about {nearest} px, {assumption}'
    )
    advice = f'multiply by about {1 / scale:.2f}: map points back from the input of the network'
    return Finding(WARNING, 'scale', problem, advice, 'pictures').at(len(doubled))


def _squared(doubled: np.ndarray, width_height: np.ndarray) -> list[Finding]:
    """Find scales of x and y as different as the sides of the picture; arguments as of _resized."""
    aspect = np.log(width_height[:, 1] / width_height[:, 0])
    oblong = np.abs(aspect) > np.log(_MIN_ASPECT)
    if np.count_nonzero(oblong) < MIN_IMAGES:
        return []
    relative = np.log(doubled / width_height)[oblong]
    slope = np.median((relative[:, 0] - relative[:, 1]) / aspect[oblong])
    if slope <= _SQUARED:
        return []
    side = np.median(doubled[oblong])
    problem = f'coordinates are probably those of pictures made square, of about {side:.0f} px'
    advice = 'scale x and y each by its own factor, or take off the padding'
    return Finding(WARNING, 'scale', problem, advice, 'pictures').at(np.count_nonzero(oblong))
