"""Several predictions of the same pictures combined into one, point by point.

A new way to combine is a function, registered in METHODS. What is fitted to answers is in
ensemble_learning.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from config import Registry
from preprocessing.schema import KeypointSchema
from preprocessing.tables import ABSENT_INDEX, KeypointTable, own_points
from utility.metrics import in_order_of

METHODS = Registry(
    'ensembling method',
    """Name -> f(points, shares) -> combined.

    points: float64 [M, R, 2], px: R points, each as M models predict it.
    shares: float64 [M, R], not negative, how much each of these counts; 0: not predicted. Each
        point has a positive one.
    combined: float64 [R, 2], px. It does not depend on points without a share.""",
)

REJECT_FLOOR = 2.0  # px; nearer to the median than this many times the limit nothing is rejected
_ROWS_AT_A_TIME = 1 << 15  # points that are combined at once, so that their copies stay in caches
_MAX_STEPS = 100  # towards a geometric median; most need ten
_STEP_TOLERANCE = 1e-5  # px
_NEWTON_SHARES = (1.0, 0.25, 0.06)
_NUDGE = (0.010, 0.007)  # px; the first step cannot be from just where a prediction is
_SLACK = 1e-9  # of sums of weights like 0.1 and 0.2, which floats cannot hold


class Predictions(NamedTuple):
    """What M models say of the same N pictures.

    Attributes:
        names: Of the models, for people.
        categories: str [N].
        keypoints: float64 [M, N, K, 2], continuous px; anything where not present.
        present: bool [M, N, K], whether a model predicts a point. Own points only.
        own: bool [N, K], whether a point is of the picture's category.
    """

    names: tuple[str, ...]
    categories: np.ndarray
    keypoints: np.ndarray
    present: np.ndarray
    own: np.ndarray

    def of_pictures(self, rows: np.ndarray) -> Predictions:
        return Predictions(
            self.names,
            self.categories[rows],
            self.keypoints[:, rows],
            self.present[:, rows],
            self.own[rows],
        )

    def of_models(self, indices: Sequence[int]) -> Predictions:
        index = list(indices)
        names = tuple(self.names[i] for i in index)
        return self._replace(
            names=names, keypoints=self.keypoints[index], present=self.present[index]
        )


def stack(
    tables: Sequence[KeypointTable], schema: KeypointSchema, names: Sequence[str]
) -> Predictions:
    """Tables of the same pictures as Predictions, in the order of the first.

    Args:
        tables: Submissions, in whatever order.
        schema: Of all tables.
        names: Of the tables, for error messages.

    Raises:
        ValueError: The tables do not fit together, or one has no point.
    """
    if not tables:
        raise ValueError('no submission to combine')
    tables = [in_order_of(table, tables[0], name, names[0]) for table, name in zip(tables, names)]
    own = own_points(tables[0].categories, schema)
    present = np.stack([own & (table.visibility >= 0) for table in tables])
    for name, mask in zip(names, present):
        if not mask.any():
            raise ValueError(f'{name}: predicts no point at all; is it a submission?')
    keypoints = np.stack([np.asarray(table.keypoints, dtype=np.float64) for table in tables])
    return Predictions(tuple(names), tables[0].categories, keypoints, present, own)


def ensemble(
    tables: Sequence[KeypointTable],
    schema: KeypointSchema,
    method: str = 'mean',
    weights: Sequence[float] | None = None,
    names: Sequence[str] | None = None,
) -> KeypointTable:
    """Combines the submissions of several models, point by point.

    A point that a submission leaves out (-1) does not count there. What would fall left of or above
    the picture is moved to its edge.

    Args:
        tables: The submissions, of the same pictures in whatever order.
        schema: Of all tables.
        method: Name in METHODS.
        weights: A positive number for each table; None: all the same.
        names: Of the tables, for error messages.

    Returns:
        The combined points, continuous px, not rounded, in the order of the first table;
        visibility is 1 for every point of a picture's category.

    Raises:
        ValueError: The tables do not fit together, no table has a point, or an argument is wrong.
    """
    names = names or [f'submission {i}' for i in range(1, len(tables) + 1)]
    points, _ = combine(stack(tables, schema, names), method, weights)
    return as_table(points, tables, schema)


def as_table(
    points: np.ndarray, tables: Sequence[KeypointTable], schema: KeypointSchema
) -> KeypointTable:
    """Combined points [N, K, 2] as a table, in the order of the first of the combined tables.

    Raises:
        ValueError: A point is predicted in no table.
    """
    first = tables[0]
    own = own_points(first.categories, schema)
    lost = own & (points == ABSENT_INDEX + 0.5).all(-1)
    if lost.any():
        row, k = np.argwhere(lost)[0]
        where = f'{first.image_ids[row]} ({first.categories[row]}), {schema.keypoints[k]}'
        raise ValueError(f'{where}: predicted in no submission')
    return first._replace(
        keypoints=np.where(own[..., np.newaxis], np.maximum(points, 0), -0.5).astype(np.float32),
        visibility=np.where(own, 1, -1).astype(np.int32),
    )


def combine(
    predictions: Predictions,
    method: str,
    weights: Sequence[float] | None = None,
    reject: float | None = None,
) -> tuple[np.ndarray, int]:
    """Combines predictions by a registered method.

    Args:
        predictions: Of M models.
        method: Name in METHODS.
        weights: A positive number for each model; None: all the same.
        reject: Leaves out predictions that are more than so many times as far from the point-wise
            median as half of them are, where half of them means at least REJECT_FLOOR px.

    Returns:
        float64 [N, K, 2], px, at pixel (-1, -1) where nobody predicts a point; how many predictions
        of a point were left out.

    Raises:
        ValueError: An argument is wrong.
    """
    combined_by = METHODS.get(method)
    factors = checked_weights(weights, len(predictions.names))
    if reject is not None and not 1 <= reject < np.inf:
        raise ValueError(f'reject={reject}: must be 1 or more, or half could be left out')
    points, shares, n, k = rows_of(predictions)
    shares = shares * factors[:, np.newaxis]
    combined = np.full([*predictions.own.shape, 2], ABSENT_INDEX + 0.5)
    rejected = 0
    for start in range(0, len(n), _ROWS_AT_A_TIME):
        part = slice(start, start + _ROWS_AT_A_TIME)
        kept = shares[:, part]
        if reject is not None:
            kept = without_outliers(points[:, part], kept, reject)
            rejected += int(np.count_nonzero(kept != shares[:, part]))
        combined[n[part], k[part]] = combined_by(points[:, part], kept)
    return combined, rejected


def rows_of(predictions: Predictions) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The R points that any of M models predicts.

    Returns:
        points: float64 [M, R, 2], px.
        shares: float64 [M, R]: 1 where the model predicts the point, else 0.
        n, k: int64 [R]: the picture and the keypoint of each.
    """
    n, k = np.nonzero(predictions.present.any(0))
    return predictions.keypoints[:, n, k], predictions.present[:, n, k].astype(np.float64), n, k


def checked_weights(weights: Sequence[float] | None, count: int) -> np.ndarray:
    """One positive number for each of `count` models: float64 [count].

    Raises:
        ValueError: They are not.
    """
    values = np.asarray([1.0] * count if weights is None else weights, dtype=np.float64)
    if values.shape != (count,):
        raise ValueError(f'weights={weights}: must be {count} numbers, one for each submission')
    if not (np.isfinite(values) & (values > 0)).all():
        raise ValueError(f'weights={weights}: must be positive')
    return values


def without_outliers(points: np.ndarray, shares: np.ndarray, limit: float) -> np.ndarray:
    """The shares [M, R] with 0 for points [M, R, 2] far from the others.

    Far is more than `limit` times the median distance from the point-wise median, or REJECT_FLOOR
    if that is more. At least half of each point's shares stay.
    """
    distances = np.linalg.norm(points - median(points, shares), axis=-1)
    scale = median(distances[..., np.newaxis], shares)[:, 0]
    return np.where(distances <= limit * np.maximum(scale, REJECT_FLOOR), shares, 0.0)


@METHODS.register('mean')
def mean(points: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """The weighted mean."""
    return (points * shares[..., np.newaxis]).sum(0) / shares.sum(0)[:, np.newaxis]


@METHODS.register('median')
def median(points: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """For x and y, each on its own, the value with half of the total share on either side.

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
    """The place with the least sum of weighted distances, which NE is a sum of.

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
    """[R, 2]: the mean of the predictions that are geometric medians; NaN where none is."""
    total, count = np.zeros(points.shape[1:]), np.zeros(points.shape[1])
    for point in points:
        offsets = points - point
        distances = np.linalg.norm(offsets, axis=-1)
        here = distances == 0
        units = offsets / np.where(here, 1, distances)[..., np.newaxis]
        pull = np.linalg.norm((shares[..., np.newaxis] * units).sum(0), axis=-1)
        is_best = pull <= (shares * here).sum(0) + _SLACK * shares.sum(0)
        total += np.where(is_best[:, np.newaxis], point, 0)
        count += is_best
    return total / np.where(count, count, np.nan)[:, np.newaxis]


def _weiszfeld(points: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """As geometric_median, where no prediction is one.

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
    """Steps of Weiszfeld and of Newton, [4, R, 2], from where points are at offsets [M, R, 2]."""
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


def round_to_pixels(table: KeypointTable) -> KeypointTable:
    """Moves points to the centre of the nearest pixel; of two as near, to the even one.

    Means and medians of whole pixels lie just between two pixels very often. To take the floor of
    continuous px, as the writers do, would move all of those the same way.
    """
    indices = np.rint(table.keypoints - 0.5)
    return table._replace(keypoints=(indices + 0.5).astype(np.float32))
