"""Several predictions of the same pictures combined into one, point by point."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from config import UserError
from preprocessing.conversion.parallel import Workers
from preprocessing.schema import KeypointSchema
from preprocessing.tables import ABSENT_INDEX, KeypointTable, category_points, read_table
from utility.ensembles.methods import METHODS, without_outliers
from utility.metrics.normalized_error import in_order_of
from utility.submissions.write import refuse

_PARALLEL_BYTES = 20_000_000  # of all files; to read less takes no longer than to start processes
_ROWS_AT_A_TIME = 1 << 15  # points that are combined at once, so that their copies stay in caches


class Predictions(NamedTuple):
    """What M models say of the same N pictures.

    Attributes:
        names: Of the models, for people.
        categories: str [N].
        keypoints: float64 [M, N, K, 2], continuous px; anything where not present.
        present: bool [M, N, K], whether a model predicts a point. Own points only.
        in_category: bool [N, K], whether a point is of the picture's category.
    """

    names: tuple[str, ...]
    categories: np.ndarray
    keypoints: np.ndarray
    present: np.ndarray
    in_category: np.ndarray

    def of_images(self, rows: np.ndarray) -> Predictions:
        return Predictions(
            self.names,
            self.categories[rows],
            self.keypoints[:, rows],
            self.present[:, rows],
            self.in_category[rows],
        )

    def of_models(self, indices: Sequence[int]) -> Predictions:
        index = list(indices)
        names = tuple(self.names[i] for i in index)
        return self._replace(
            names=names, keypoints=self.keypoints[index], present=self.present[index]
        )


def read_tables(paths: Sequence[str], schema: KeypointSchema) -> list[KeypointTable]:
    """Read submissions; large ones in several processes.

    Raises:
        UserError: As preprocessing.tables.read_table.
    """
    local = [path for path in paths if '://' not in path and os.path.exists(path)]
    is_long = sum(os.path.getsize(path) for path in local) >= _PARALLEL_BYTES
    num_workers = min(len(paths), os.cpu_count() or 1) if is_long else 1
    with Workers(num_workers) as workers:
        return list(workers.map(functools.partial(read_table, schema=schema), paths))


def stack(
    tables: Sequence[KeypointTable], schema: KeypointSchema, names: Sequence[str]
) -> Predictions:
    """Return tables of the same pictures as Predictions, in the order of the first.

    Args:
        tables: Submissions, in whatever order.
        schema: Of all tables.
        names: Of the tables, for error messages.

    Raises:
        UserError: The tables do not fit together, or one has no point.
    """
    if not tables:
        raise UserError('no submission to combine')
    tables = [in_order_of(table, tables[0], name, names[0]) for table, name in zip(tables, names)]
    in_category = category_points(tables[0].categories, schema)
    present = np.stack([in_category & (table.visibility >= 0) for table in tables])
    for name, mask in zip(names, present):
        if not mask.any():
            raise UserError(f'{name}: predicts no point at all; is it a submission?')
    keypoints = np.stack([np.asarray(table.keypoints, dtype=np.float64) for table in tables])
    return Predictions(tuple(names), tables[0].categories, keypoints, present, in_category)


def as_table(
    points: np.ndarray, predictions: Predictions, first: KeypointTable, schema: KeypointSchema
) -> KeypointTable:
    """Return combined points [N, K, 2] as a table, in the order of the first table.

    Raises:
        UserError: A point is predicted in no table.
    """
    in_category, lost = (
        predictions.in_category,
        predictions.in_category & ~predictions.present.any(0),
    )
    unseen = first._replace(visibility=np.full(in_category.shape, -1))
    refuse(lost, unseen, schema, 'predicted in no submission')
    return first._replace(
        keypoints=np.where(in_category[..., np.newaxis], np.maximum(points, 0), -0.5).astype(
            np.float32
        ),
        visibility=np.where(in_category, 1, -1).astype(np.int32),
    )


def combine(
    predictions: Predictions,
    method: str,
    weights: Sequence[float] | None = None,
    reject: float | None = None,
) -> tuple[np.ndarray, int]:
    """Combine predictions by a registered method.

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
        UserError: An argument is wrong.
    """
    combined_by = METHODS.get(method)
    factors = checked_weights(weights, len(predictions.names))
    if reject is not None and not 1 <= reject < np.inf:
        raise UserError(f'reject={reject}: must be 1 or more, or half could be left out')
    points, shares, n, k = rows_of(predictions)
    shares = shares * factors[:, np.newaxis]
    combined = np.full([*predictions.in_category.shape, 2], ABSENT_INDEX + 0.5)
    rejected = 0
    for start in range(0, len(n), _ROWS_AT_A_TIME):
        part = slice(start, start + _ROWS_AT_A_TIME)
        kept_shares = shares[:, part]
        if reject is not None:
            kept_shares = without_outliers(points[:, part], kept_shares, reject)
            rejected += int(np.count_nonzero(kept_shares != shares[:, part]))
        combined[n[part], k[part]] = combined_by(points[:, part], kept_shares)
    return combined, rejected


def rows_of(predictions: Predictions) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the R points that any of M models predicts.

    Returns:
        points: float64 [M, R, 2], px.
        shares: float64 [M, R]: 1 where the model predicts the point, else 0.
        n, k: int64 [R]: the picture and the keypoint of each.
    """
    n, k = np.nonzero(predictions.present.any(0))
    return predictions.keypoints[:, n, k], predictions.present[:, n, k].astype(np.float64), n, k


def checked_weights(weights: Sequence[float] | None, count: int) -> np.ndarray:
    """Return one positive number for each of `count` models: float64 [count].

    Raises:
        UserError: There are more or fewer weights, or one is not positive.
    """
    values = np.asarray([1.0] * count if weights is None else weights, dtype=np.float64)
    if values.shape != (count,):
        raise UserError(f'weights={weights}: must be {count} numbers, one for each submission')
    if not (np.isfinite(values) & (values > 0)).all():
        raise UserError(f'weights={weights}: must be positive')
    return values


def round_to_pixels(table: KeypointTable) -> KeypointTable:
    """Move points to the center of the nearest pixel; of two as near, to the even one.

    Means and medians of whole pixels lie just between two pixels very often. To take the floor of
    continuous px, as the writers do, would move all of those the same way.
    """
    indices = np.rint(table.keypoints - 0.5)
    return table._replace(keypoints=(indices + 0.5).astype(np.float32))
