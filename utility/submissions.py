"""Submissions: what a valid one is, writing one, and one out of several."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from preprocessing.schema import KeypointSchema
from preprocessing.tables import KeypointTable, own_points, write_table
from utility.metrics import in_order_of, matching_rows

METHODS = ('mean', 'median')


def check(
    table: KeypointTable,
    expected_ids: Sequence[str],
    schema: KeypointSchema,
    image_sizes: np.ndarray | None = None,
) -> None:
    """Checks that a table is a valid submission: every picture once, every point of its category.

    Args:
        table: The submission, in any order.
        expected_ids: The pictures of the test split.
        schema: Of the table.
        image_sizes: [N, 2], (height, width), px, of the table's pictures; None: the points are
            only checked not to lie left of or above the picture.

    Raises:
        ValueError: Tells the first picture and point that is wrong.
    """
    matching_rows(table.image_ids, expected_ids, 'the submission', 'the test split')
    own = own_points(table.categories, schema)
    _refuse(own & (table.visibility != 1), table, schema, 'not predicted')
    _refuse(~own & (table.visibility != -1), table, schema, 'not a point of the category')
    limits = np.inf if image_sizes is None else np.asarray(image_sizes)[:, np.newaxis, ::-1]
    inside = ((table.keypoints >= 0) & (table.keypoints < limits)).all(-1)
    _refuse(own & ~inside, table, schema, 'outside of the image')


def _refuse(wrong: np.ndarray, table: KeypointTable, schema: KeypointSchema, problem: str) -> None:
    """Raises the ValueError about the first point that is True in wrong [N, K], if any is."""
    if wrong.any():
        row, k = np.argwhere(wrong)[0]
        where = f'{table.image_ids[row]} ({table.categories[row]}), {schema.keypoints[k]}'
        at = f' at {table.keypoints[row, k].tolist()}' if table.visibility[row, k] >= 0 else ''
        raise ValueError(f'{where}{at}: {problem}')


def write_submission(
    path: str | os.PathLike,
    image_ids: Sequence[str],
    categories: Sequence[str],
    keypoints: np.ndarray,
    image_sizes: np.ndarray,
    schema: KeypointSchema,
    expected_ids: Sequence[str],
) -> None:
    """Writes predictions as a submission, in the order of expected_ids.

    Args:
        path: Of the CSV, local or remote; gzipped if it ends in .gz.
        image_ids: [N].
        categories: [N].
        keypoints: [N, K, 2], continuous px of the original pictures; points outside are moved to
            the nearest pixel of the picture.
        image_sizes: [N, 2], (height, width), px.
        schema: Names the points.
        expected_ids: The pictures of the test split, each of which must be predicted once.

    Raises:
        ValueError: The pictures are not those expected, or a coordinate is not a finite number.
    """
    own = own_points(categories, schema)
    table = KeypointTable(
        image_ids=np.array(image_ids, dtype=object),
        categories=np.asarray(categories, dtype=str),
        keypoints=np.asarray(keypoints),
        visibility=np.where(own, 1, -1),
        lines=np.arange(2, len(own) + 2),
    )
    _refuse(own & ~np.isfinite(table.keypoints).all(-1), table, schema, 'not a finite number')
    last_pixel = np.asarray(image_sizes)[:, np.newaxis, ::-1] - 1
    table = table._replace(keypoints=np.clip(np.floor(table.keypoints), 0, last_pixel) + 0.5)
    check(table, expected_ids, schema, image_sizes)
    rows = matching_rows(table.image_ids, expected_ids, 'the submission', 'the test split')
    write_table(path, KeypointTable(*(values[rows] for values in table)), schema)


def ensemble(
    tables: Sequence[KeypointTable],
    schema: KeypointSchema,
    method: str = 'mean',
    weights: Sequence[float] | None = None,
    names: Sequence[str] | None = None,
) -> KeypointTable:
    """Combines the submissions of several models, point by point.

    A point that a submission leaves out (-1) does not count there. x and y are combined each on
    its own. What would fall left of or above the picture is moved to its edge.

    Args:
        tables: The submissions, of the same pictures in whatever order.
        schema: Of all tables.
        method: 'mean' or 'median'.
        weights: A positive number for each table; None: all the same.
        names: Of the tables, for error messages.

    Returns:
        The combined points, continuous px, not rounded, in the order of the first table;
        visibility is 1 for every point of a picture's category.

    Raises:
        ValueError: The tables do not fit together, no table has a point, or an argument is wrong.
    """
    names = names or [f'submission {i}' for i in range(1, len(tables) + 1)]
    if method not in METHODS:
        raise ValueError(f'method={method!r}: must be one of {", ".join(METHODS)}')
    weights = _checked_weights(weights, len(tables))
    tables = [in_order_of(table, tables[0], name, names[0]) for table, name in zip(tables, names)]
    first, own = tables[0], own_points(tables[0].categories, schema)
    present = np.stack([own & (table.visibility >= 0) for table in tables])
    for name, mask in zip(names, present):
        if not mask.any():
            raise ValueError(f'{name}: predicts no point at all; is it a submission?')
    _refuse(own & ~present.any(0), first, schema, 'predicted in no submission')
    values = np.stack([np.asarray(table.keypoints, dtype=np.float64) for table in tables])
    shares = (present * weights[:, np.newaxis, np.newaxis])[..., np.newaxis]
    points = (
        _weighted_mean(values, shares) if method == 'mean' else _weighted_median(values, shares)
    )
    return first._replace(
        keypoints=np.where(own[..., np.newaxis], np.maximum(points, 0), -0.5).astype(np.float32),
        visibility=np.where(own, 1, -1).astype(np.int32),
    )


def round_to_pixels(table: KeypointTable) -> KeypointTable:
    """Moves points to the centre of the nearest pixel; of two as near, to the even one.

    Means and medians of whole pixels lie just between two pixels very often. To take the floor of
    continuous px, as the writers do, would move all of those the same way.
    """
    indices = np.rint(table.keypoints - 0.5)
    return table._replace(keypoints=(indices + 0.5).astype(np.float32))


def _checked_weights(weights: Sequence[float] | None, count: int) -> np.ndarray:
    if not count:
        raise ValueError('no submission to combine')
    values = np.asarray([1.0] * count if weights is None else weights, dtype=np.float64)
    if values.shape != (count,):
        raise ValueError(f'weights={weights}: must be {count} numbers, one for each submission')
    if not (np.isfinite(values) & (values > 0)).all():
        raise ValueError(f'weights={weights}: must be positive')
    return values


def _weighted_mean(values: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Means over the first axis of values [M, N, K, 2] with shares [M, N, K, 1]; 0 for no share."""
    total = shares.sum(0)
    return (values * shares).sum(0) / np.where(total > 0, total, 1)


def _weighted_median(values: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """As _weighted_mean: the value with half of the total share on either side.

    Where a half of the share ends just between two values it is the middle of the two, so that
    equal shares give the ordinary median.
    """
    shares = np.broadcast_to(shares, values.shape)
    order = np.argsort(values, axis=0, kind='stable')
    values = np.take_along_axis(values, order, axis=0)
    passed = np.cumsum(np.take_along_axis(shares, order, axis=0), axis=0)
    half = passed[-1] / 2
    slack = 1e-9 * half  # for sums of weights like 0.1 and 0.2, which floats cannot hold
    lower = (passed >= half - slack).argmax(0)
    upper = (passed > half + slack).argmax(0)
    ends = np.take_along_axis(values, np.stack([lower, upper]), axis=0)
    return ends.mean(0)
