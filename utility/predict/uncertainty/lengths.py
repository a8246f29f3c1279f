"""Lengths between points, and the sizes of their errors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from preprocessing.schema import Measurement


def length(ends: Measurement, points: np.ndarray, keypoints: Sequence[str]) -> float:
    """Return the length of a measurement between points [K, 2]; NaN where one is NaN."""
    middles = [points[[keypoints.index(name) for name in end]].mean(0) for end in ends]
    return float(np.linalg.norm(middles[0] - middles[1]))


def size_of_error(ends: Measurement, sizes: np.ndarray, keypoints: Sequence[str]) -> float:
    """Return the size of a length's error, by those of its points [K], as if these were independent
    of each other; whether they are is for the calibration to tell.
    """
    own = [sizes[[keypoints.index(name) for name in end]] / len(end) for end in ends]
    return float(np.sqrt(np.square(np.concatenate(own)).sum()))
