"""Ways to combine what several models say of a point.

A new one is a function, registered in METHODS. learning.py has what is fitted to annotations.
"""

from __future__ import annotations

import numpy as np

from config import Registry

METHODS = Registry(
    'ensembling method',
    """Name -> f(points, shares) -> combined.

    points: float64 [M, R, 2], px: R points, each as M models predict it.
    shares: float64 [M, R], not negative, how much each of these counts; 0: not predicted. Each
        point has a positive one.
    combined: float64 [R, 2], px. It does not depend on points without a share.""",
)

REJECT_FLOOR = 2.0  # px; half of the models are taken to be at least so far from the median
_MAX_STEPS = 100  # towards a geometric median; most need ten
_STEP_TOLERANCE = 1e-5  # px
_NEWTON_SHARES = (1.0, 0.25, 0.06)
_NUDGE = (0.010, 0.007)  # px; the first step cannot be from just where a prediction is
_SLACK = 1e-9  # of sums of weights like 0.1 and 0.2, which floats cannot hold


def without_outliers(points: np.ndarray, shares: np.ndarray, limit: float) -> np.ndarray:
    """Return the shares [M, R] with 0 for points [M, R, 2] far from the others.

    Far is more than `limit` times the median distance from the point-wise median, or REJECT_FLOOR
    if that is more. At least half of each point's shares stay.
    """
    distances = np.linalg.norm(points - median(points, shares), axis=-1)
    scale = median(distances[..., np.newaxis], shares)[:, 0]
    return np.where(distances <= limit * np.maximum(scale, REJECT_FLOOR), shares, 0.0)


@METHODS.register('mean')
def mean(points: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Return the weighted mean."""
    return (points * shares[..., np.newaxis]).sum(0) / shares.sum(0)[:, np.newaxis]


@METHODS.register('median')
def median(points: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Return, for x and y each, the value with half of the total share on either side.

    Where a half of the share ends just between two values it is the middle of the two, so that
    equal shares give the ordinary median.
    """
    weights = np.broadcast_to(shares[..., np.newaxis], points.shape)
    order = np.argsort(points, axis=0, kind='stable')
    values = np.take_along_axis(points, order, axis=0)
    passed = np.cumsum(np.take_along_axis(weights, order, axis=0), axis=0)
    half = passed[-1] / 2
    slack = _SLACK * half
    lower = (passed >= half - slack).argmax(0)
    upper = (passed > half + slack).argmax(0)
    ends = np.take_along_axis(values, np.stack([lower, upper]), axis=0)
    return ends.mean(0)


@METHODS.register('geometric_median')
def geometric_median(points: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Return the place with the least sum of weighted distances, which NE is a sum of.

    A prediction is that place if the others do not pull it away more than it weighs (H. Kuhn, A
    note on Fermat's problem, 1973); where several are, as two of equal weight, it is their mean.
    Elsewhere the iteration of E. Weiszfeld (Sur le point pour lequel la somme des distances de n
    points donnes est minimum, 1937) leads to it.
    """
    best = _on_a_prediction(points, shares)
    rows = np.flatnonzero(np.isnan(best[:, 0]))
    best[rows] = _weiszfeld(points[:, rows], shares[:, rows])
    return best


def _on_a_prediction(points: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Return [R, 2]: the mean of the predictions that are geometric medians; NaN where none is."""
    total, count = np.zeros(points.shape[1:]), np.zeros(points.shape[1])
    for point in points:
        offsets = points - point
        distances = np.linalg.norm(offsets, axis=-1)
        is_same = distances == 0
        units = offsets / np.where(is_same, 1, distances)[..., np.newaxis]
        pull = np.linalg.norm((shares[..., np.newaxis] * units).sum(0), axis=-1)
        is_best = pull <= (shares * is_same).sum(0) + _SLACK * shares.sum(0)
        total += np.where(is_best[:, np.newaxis], point, 0)
        count += is_best
    return total / np.where(count, count, np.nan)[:, np.newaxis]


def _weiszfeld(points: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Return the geometric median where no prediction is one.

    Weiszfeld's step never fails but can be slow, Newton's is fast but can fail: the best is done of
    the one and of some shares of the other.
    """
    best = mean(points, shares) + _NUDGE
    moving = np.arange(len(best))
    for _ in range(_MAX_STEPS):
        near, weights, old = points[:, moving], shares[:, moving], best[moving]
        steps = old + _steps(near - old, weights)
        sums = (weights * np.linalg.norm(near - steps[:, np.newaxis], axis=-1)).sum(1)
        best[moving] = steps[sums.argmin(0), np.arange(len(moving))]
        moving = moving[np.linalg.norm(best[moving] - old, axis=-1) > _STEP_TOLERANCE]
        if not len(moving):
            break
    return best


def _steps(offsets: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Return steps of Weiszfeld and of Newton, [4, R, 2], for offsets [M, R, 2]."""
    x, y = offsets[..., 0], offsets[..., 1]
    squares = np.maximum(x * x + y * y, _SLACK)
    pulls = shares / np.sqrt(squares)
    downhill = np.stack([(pulls * x).sum(0), (pulls * y).sum(0)])
    total, curved = pulls.sum(0), pulls / squares
    xx, xy, yy = (curved * y * y).sum(0), -(curved * x * y).sum(0), (curved * x * x).sum(0)
    # The determinant is 0 if all points are on a line with this one.
    determinant = np.maximum(xx * yy - xy * xy, _SLACK * total**2)
    newton = np.stack([yy * downhill[0] - xy * downhill[1], xx * downhill[1] - xy * downhill[0]])
    newton /= determinant
    steps = [downhill / total, *(share * newton for share in _NEWTON_SHARES)]
    return np.moveaxis(np.stack(steps), 1, -1)
