"""Submissions: what a valid one is, and writing one."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from config import UserError
from preprocessing.schema import KeypointSchema
from preprocessing.tables import KeypointTable, category_points, write_table
from utility.metrics.normalized_error import matching_rows


def check(
    table: KeypointTable,
    expected_ids: Sequence[str],
    schema: KeypointSchema,
    image_sizes: np.ndarray | None = None,
) -> None:
    """Check that a table is a valid submission: every picture once, every point of its category.

    Args:
        table: The submission, in any order.
        image_sizes: [N, 2], (height, width), px, of the table's pictures; None: the points are
            only checked not to lie left of or above the picture.

    Raises:
        UserError: Tells the first picture and point that is wrong.
    """
    matching_rows(table.image_ids, expected_ids, 'the submission', 'the test split')
    in_category = category_points(table.categories, schema)
    refuse(in_category & (table.visibility != 1), table, schema, 'not predicted')
    refuse(~in_category & (table.visibility != -1), table, schema, 'not a point of the category')
    limits = np.inf if image_sizes is None else np.asarray(image_sizes)[:, np.newaxis, ::-1]
    inside = ((table.keypoints >= 0) & (table.keypoints < limits)).all(-1)
    refuse(in_category & ~inside, table, schema, 'outside of the image')


def refuse(wrong: np.ndarray, table: KeypointTable, schema: KeypointSchema, problem: str) -> None:
    """Raise a UserError about the first of the table's points that is True in wrong [N, K]."""
    if wrong.any():
        row, k = np.argwhere(wrong)[0]
        where = f'{table.image_ids[row]} ({table.categories[row]}), {schema.keypoints[k]}'
        at = f' at {table.keypoints[row, k].tolist()}' if table.visibility[row, k] >= 0 else ''
        raise UserError(f'{where}{at}: {problem}')


def write_submission(
    path: str | os.PathLike,
    image_ids: Sequence[str],
    categories: Sequence[str],
    keypoints: np.ndarray,
    image_sizes: np.ndarray,
    schema: KeypointSchema,
    expected_ids: Sequence[str],
) -> None:
    """Write predictions as a submission, in the order of expected_ids.

    Args:
        path: Of the CSV, local or remote; gzipped if it ends in .gz.
        image_ids: [N].
        categories: [N].
        keypoints: [N, K, 2], continuous px of the original pictures; points outside are moved to
            the nearest pixel of the picture.
        image_sizes: [N, 2], (height, width), px.
        expected_ids: The pictures of the test split, each of which must be predicted once.

    Raises:
        UserError: The pictures are not those expected, or a coordinate is not a finite number.
    """
    in_category = category_points(categories, schema)
    table = KeypointTable(
        image_ids=np.array(image_ids, dtype=object),
        categories=np.asarray(categories, dtype=str),
        keypoints=np.asarray(keypoints),
        visibility=np.where(in_category, 1, -1),
        lines=np.arange(2, len(in_category) + 2),
    )
    refuse(
        in_category & ~np.isfinite(table.keypoints).all(-1), table, schema, 'not a finite number'
    )
    last_pixel = np.asarray(image_sizes)[:, np.newaxis, ::-1] - 1
    table = table._replace(keypoints=np.clip(np.floor(table.keypoints), 0, last_pixel) + 0.5)
    check(table, expected_ids, schema, image_sizes)
    rows = matching_rows(table.image_ids, expected_ids, 'the submission', 'the test split')
    write_table(path, table.rows(rows), schema)
