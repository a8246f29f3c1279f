"""Smoothing of points over the frames of a video."""

from __future__ import annotations

import dataclasses
import math

import numpy as np


@dataclasses.dataclass(frozen=True)
class FilterOptions:
    """How much is smoothed; lengths are shares of the longer side of a frame.

    The defaults were chosen with benchmarks/video_smoothing.py.

    Attributes:
        cutoff: Hz, of points at rest: lower is steadier.
        speed_gain: Hz for a side per second: higher lags less behind fast points.
        speed_cutoff: Hz, at which speeds are smoothed themselves.
    """

    cutoff: float = 1.5
    speed_gain: float = 80.0
    speed_cutoff: float = 1.0


class OneEuroFilter:
    """A low-pass filter for each point, the faster the point the higher its cutoff.

    Casiez, Roussel, Vogel: 1 Euro Filter, CHI 2012. Departure: speed is that of the point in the
    plane, so that x and y of a point have one cutoff.

    Args:
        rate: Frames per second.
        side: Longer side of a frame, px.
    """

    def __init__(self, rate: float, side: float, options: FilterOptions = FilterOptions()):  # noqa: B008  frozen
        self._rate, self._side, self._options = rate, side, options
        self._points = self._velocity = None

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Return the points of the next frame, [K, 2] px, smoothed: float64 [K, 2]."""
        points = np.asarray(points, np.float64)
        if self._points is None:
            self._points, self._velocity = points, np.zeros_like(points)
            return points
        velocity = (points - self._points) * self._rate
        self._velocity += self._weight(self._options.speed_cutoff) * (velocity - self._velocity)
        speed = np.linalg.norm(self._velocity, axis=-1, keepdims=True) / self._side
        weight = self._weight(self._options.cutoff + self._options.speed_gain * speed)
        self._points = self._points + weight * (points - self._points)
        return self._points

    def _weight(self, cutoff):
        """Return the share of a new value in the mean, of a cutoff in Hz."""
        return 1 / (1 + self._rate / (2 * math.pi * cutoff))
