"""Refine modes: from the largest cell of a heat map to a point between the cells."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from config import Registry

REFINEMENTS = Registry(
    'refine mode',
    """Name -> f(window, peak) -> position: where between the cells the maximum of a map lies.

    f.radius tells which window it gets.
    window: 1: float32 [N, 3, 3], the map around the interior cell nearest to its largest cell.
        More: float32 [N, 2 * radius + 1, 2 * radius + 1], around the largest cell itself; cells
        outside the map are 0.
    peak: int32 [N, 2], (x, y) of the largest cell relative to the window's center, in cells;
        0 except where the radius is 1 and the largest cell is at the border of the map.
    position: float32 [N, 2], (x, y) of the refined maximum relative to the window's center, in
        cells; finite for every finite window and at most one cell from `peak` in x and in y.""",
)


def register(name: str, radius: int = 1) -> Callable:
    """Register a refine mode and the radius of its window, cells; a decorator."""

    def add(function):
        function.radius = radius
        return REFINEMENTS.register(name)(function)

    return add


# Values below this share of the peak count as this share in 'dark'. Low enough for the window of
# a border cell to be exact from sigma = 0.81 cells on (there the farthest of the nine cells is
# 2.5 cells from the maximum in x and in y), high enough that noise around zero has no long tail.
_LOG_FLOOR = 1e-4
# Peaks that are not larger have no logarithm worth expanding.
_SMALLEST_PEAK = 1e-30
_MAX_STEP = 1
# 2.5 standard deviations of the usual 2 cells.
_CENTROID_RADIUS = 5
# Cells below this share of the peak are noise to the centroid. A Gaussian less a constant, cut off
# at zero, keeps its center.
_CENTROID_FLOOR = 0.1
_FIT_RADIUS = 2
_FIT_RIDGE = 1e-6


@register('argmax')
def _argmax(window: tf.Tensor, peak: tf.Tensor) -> tf.Tensor:
    """Return the center of the largest cell."""
    del window
    return tf.cast(peak, tf.float32)


@register('quarter')
def _quarter(window: tf.Tensor, peak: tf.Tensor) -> tf.Tensor:
    """Return a quarter cell towards the larger neighbor (Newell et al. 2016, section 3.4).

    No step where the largest cell has one neighbor only, or equal ones.
    """
    row = tf.gather(window, peak[:, 1] + 1, axis=1, batch_dims=1)
    column = tf.gather(window, peak[:, 0] + 1, axis=2, batch_dims=1)
    side = tf.stack([tf.sign(v[:, 2] - v[:, 0]) for v in (row, column)], axis=-1)
    return tf.cast(peak, tf.float32) + tf.where(tf.equal(peak, 0), 0.25 * side, 0.0)


@register('dark')
def _dark(window: tf.Tensor, peak: tf.Tensor) -> tf.Tensor:
    """Return one Newton step on the log of the map (DARK: Zhang et al. 2020, section 3.1).

    The log of a Gaussian is a quadratic, so the step finds its maximum exactly, from any cell; that
    is why the border cells may borrow the window of their neighbor. Departures from the paper: the
    step is bounded, and where the log is not strictly concave the quarter step stands in.
    """
    log = _log_share(window)
    slope_x = (log[:, 1, 2] - log[:, 1, 0]) / 2
    slope_y = (log[:, 2, 1] - log[:, 0, 1]) / 2
    curve_xx = log[:, 1, 2] - 2 * log[:, 1, 1] + log[:, 1, 0]
    curve_yy = log[:, 2, 1] - 2 * log[:, 1, 1] + log[:, 0, 1]
    curve_xy = (log[:, 2, 2] - log[:, 2, 0] - log[:, 0, 2] + log[:, 0, 0]) / 4
    determinant = curve_xx * curve_yy - curve_xy**2
    concave = (curve_xx < 0) & (curve_yy < 0) & (determinant > 0)
    newton_x = (curve_xy * slope_y - curve_yy * slope_x) / tf.where(concave, determinant, 1.0)
    newton_y = (curve_xy * slope_x - curve_xx * slope_y) / tf.where(concave, determinant, 1.0)
    largest = tf.cast(peak, tf.float32)
    newton = tf.clip_by_value(
        tf.stack([newton_x, newton_y], axis=-1), largest - _MAX_STEP, largest + _MAX_STEP
    )
    return tf.where(concave[:, tf.newaxis], newton, _quarter(window, peak))


def _log_share(window: tf.Tensor) -> tf.Tensor:
    """Log of the window [N, 3, 3] over its maximum; all floor where nothing is positive."""
    peak = tf.reduce_max(window, axis=[1, 2], keepdims=True)
    share = window / tf.where(peak > _SMALLEST_PEAK, peak, 1.0)
    return tf.math.log(tf.clip_by_value(share, _LOG_FLOOR, 1.0))


@register('centroid', radius=_CENTROID_RADIUS)
def _centroid(window: tf.Tensor, peak: tf.Tensor) -> tf.Tensor:
    """Return the center of mass of what rises above a share of the peak around the largest cell."""
    top = tf.reduce_max(window, axis=[1, 2], keepdims=True)
    mass = tf.where(top > _SMALLEST_PEAK, tf.maximum(window - _CENTROID_FLOOR * top, 0.0), 0.0)
    x, y, _ = _grid(_CENTROID_RADIUS)
    total = tf.reduce_sum(mass, axis=[1, 2])
    moments = [tf.reduce_sum(mass * axis, axis=[1, 2]) for axis in (x, y)]
    step = tf.stack([tf.math.divide_no_nan(moment, total) for moment in moments], axis=-1)
    return tf.clip_by_value(step, -_MAX_STEP, _MAX_STEP)


@register('gaussian', radius=_FIT_RADIUS)
def _gaussian(window: tf.Tensor, peak: tf.Tensor) -> tf.Tensor:
    """Return the least-squares fit of a round Gaussian to the log of 5 x 5 cells.

    The squared values weigh the cells, which undoes what the logarithm does to noise (Guo 2011, 'A
    Simple Algorithm for Fitting a Gaussian Function'). Exact on a Gaussian, like DARK, and with 25
    cells instead of 9 less moved by noise. The largest cell's center where no Gaussian fits.
    """
    log = tf.reshape(_log_share(window), [-1, (2 * _FIT_RADIUS + 1) ** 2])
    axes = [tf.reshape(axis, [1, -1]) for axis in _grid(_FIT_RADIUS)]
    slope_x, slope_y, curve = _weighted_fit(tf.exp(log), log, axes)
    is_peak = curve < 0
    slopes = tf.stack([slope_x, slope_y], axis=-1)
    center = -slopes / (2 * tf.where(is_peak, curve, 1.0))[:, tf.newaxis]
    center = tf.where(tf.math.is_finite(center), center, 0.0)
    center = tf.clip_by_value(center, -_MAX_STEP, _MAX_STEP)
    return tf.where(is_peak[:, tf.newaxis], center, 0.0)


def _weighted_fit(roots: tf.Tensor, values: tf.Tensor, axes: list[tf.Tensor]) -> list[tf.Tensor]:
    """Return the weighted least squares: the slopes of `values` along axes, beside a constant.

    By Gram and Schmidt, written out: exporters of graphs know no solver of matrices, and unlike
    the normal equations it needs no more than float32, however few cells have a weight.

    Args:
        roots: float32 [N, C], the roots of the weights, of which one is 1.
        values: float32 [N, C].
        axes: A of them, float32 [1, C].

    Returns:
        A slopes, float32 [N].
    """
    weights = tf.square(roots)

    def centered(row):
        mean = tf.reduce_sum(weights * row, axis=1, keepdims=True)
        return roots * (row - mean / tf.reduce_sum(weights, axis=1, keepdims=True))

    # The ridge is one more cell for each axis, where it is small, all else and the value are 0.
    ridges = math.sqrt(_FIT_RIDGE) * tf.eye(len(axes))
    rows = [_beside(centered(axis), ridge) for axis, ridge in zip(axes, tf.unstack(ridges))]
    residual = _beside(centered(values), tf.zeros(len(axes)))
    shares, slopes = {}, []
    for pivot, row in enumerate(rows):
        square = tf.reduce_sum(row * row, axis=1, keepdims=True)
        for row_below in range(pivot + 1, len(rows)):
            share = tf.reduce_sum(row * rows[row_below], axis=1, keepdims=True) / square
            rows[row_below], shares[pivot, row_below] = rows[row_below] - share * row, share[:, 0]
        slope = tf.reduce_sum(row * residual, axis=1, keepdims=True) / square
        residual -= slope * row
        slopes.append(slope[:, 0])
    for pivot, row_below in sorted(shares, reverse=True):
        slopes[pivot] -= shares[pivot, row_below] * slopes[row_below]
    return slopes


def _beside(rows: tf.Tensor, row: tf.Tensor) -> tf.Tensor:
    """Return [N, C] and [A], put after each row: [N, C + A]."""
    more = tf.ones_like(rows[:, :1]) * row[tf.newaxis]
    return tf.concat([rows, more], axis=1)


def _grid(radius: int) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Return x, y and x^2 + y^2 of the cells of a window, float32 [2 * radius + 1] twice."""
    steps = tf.range(-radius, radius + 1, dtype=tf.float32)
    y, x = tf.meshgrid(steps, steps, indexing='ij')
    return x, y, x**2 + y**2


def windows(
    maps: tf.Tensor, cells: tf.Tensor, size: tuple[int, int], radius: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the windows of a refine mode, see REFINEMENTS.

    Args:
        maps: float32 [B, K, h * w].
        cells: int32 [B, K, 2], (row, column) of the largest cells.
        size: (h, w).
        radius: Of the window.

    Returns:
        centers int32 [B, K, 2], (row, column) of the windows' centers, and the windows, float32
        [B * K, 2 * radius + 1, 2 * radius + 1].
    """
    height, width = size
    side = 2 * radius + 1
    steps = np.stack(np.meshgrid(*[np.arange(side, dtype=np.int32)] * 2, indexing='ij'), axis=-1)
    steps = steps.reshape(-1, 2)
    if radius == 1:
        centers = tf.clip_by_value(cells, 1, [height - 2, width - 2])
        corners = centers - radius
    else:
        centers, corners = cells, cells  # of the padded map
        maps = tf.reshape(maps, [*tf.unstack(tf.shape(maps)[:2]), height, width])
        maps = tf.pad(maps, [[0, 0], [0, 0], [radius, radius], [radius, radius]])
        width += 2 * radius
        maps = tf.reshape(maps, [*tf.unstack(tf.shape(maps)[:2]), (height + 2 * radius) * width])
    around = corners[..., tf.newaxis, :] + steps
    window = tf.gather(maps, around[..., 0] * width + around[..., 1], batch_dims=2)
    return centers, tf.reshape(window, [-1, side, side])
