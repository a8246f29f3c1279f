"""Boxes of garments from a CSV, such as a detector's: what prediction crops to.

    image_id,x_min,y_min,x_max,y_max,category
    shop/1.jpg,12,40,220.5,300,blouse

px of the picture from its outer corner. The column `category` may be missing. A picture may have
several rows; each gives a prediction.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from config import UserError
from preprocessing import faults, records
from preprocessing.schema import KeypointSchema
from preprocessing.tables import MAX_COORDINATE, read_rows

CORNERS = ('x_min', 'y_min', 'x_max', 'y_max')
_COLUMNS = ('image_id', *CORNERS)
_CATEGORY = 'category'
LEAST_SIDE = 1  # px
_RECORDS_AT_A_TIME = 1024


class Box(NamedTuple):
    """A garment in a picture.

    Attributes:
        corners: float32 [4] (x_min, y_min, x_max, y_max) px.
        category: Or None, where the file does not tell.
        place: The file and line, for errors.
    """

    corners: np.ndarray
    category: str | None
    place: str


def read_boxes(path: str | os.PathLike, schema: KeypointSchema) -> dict[str, list[Box]]:
    """Return image_id -> its boxes, in the order of the file.

    Raises:
        UserError: The file is broken; tells the line and the column.
    """
    (header, *rows), (first, *lines) = read_rows(os.fspath(path))
    names = [name.strip() for name in header]
    known = (*_COLUMNS, _CATEGORY)
    for name in _COLUMNS:
        if name not in names:
            raise UserError(f'{path}, line {first}: the header lacks column {name!r}')
    for name in names:
        if name not in known or names.count(name) > 1:
            raise UserError(f'{path}, line {first}: column {name!r} is unknown or there twice')
    found: dict[str, list[Box]] = {}
    for row, line in zip(rows, lines):
        place = f'{path}, line {line}'
        if len(row) != len(names):
            raise UserError(f'{place}: {len(row)} fields, not {len(names)}')
        cells = dict(zip(names, (cell.strip() for cell in row)))
        category = cells.get(_CATEGORY) or None
        if category is not None and category not in schema.categories:
            allowed = ', '.join(schema.categories)
            raise UserError(f'{place}, column {_CATEGORY!r}: {category!r} is none of: {allowed}')
        found.setdefault(cells['image_id'], []).append(Box(_corners(cells, place), category, place))
    return found


def _corners(cells: Mapping[str, str], place: str) -> np.ndarray:
    values = []
    for name in CORNERS:
        try:
            values.append(float(cells[name]))
        except ValueError:
            values.append(np.nan)
        if not abs(values[-1]) <= MAX_COORDINATE:
            allowed = f'a number of px, at most {MAX_COORDINATE}'
            raise UserError(f'{place}, column {name!r}: {cells[name][:40]!r} must be {allowed}')
    corners = np.array(values, np.float32)
    if (corners[2:] - corners[:2] < LEAST_SIDE).any():
        raise UserError(f'{place}: a box with a side of less than {LEAST_SIDE} px: {values}')
    return corners


def check_inside(corners: np.ndarray, size: Sequence[int], place: str) -> None:
    """Refuse a box that shows nothing of its picture, as one of a picture of another size does.

    Args:
        corners: [4], px.
        size: (height, width) of the picture, px.
        place: Of the box, for the error.

    Raises:
        UserError: They have no pixel in common.
    """
    height, width = map(int, size)
    if (corners[2:] <= 0).any() or (corners[:2] >= (width, height)).any():
        told = ', '.join(f'{corner:g}' for corner in corners)
        raise UserError(f'{place}: the box {told} is outside of the picture of {width}x{height} px')


class RecordBoxes(NamedTuple):
    """Boxes of the records of some files, in their order.

    Attributes:
        counts: int64 [R], how many each of the records has, at least 1.
        boxes: float32 [N, 4], px; zeros where a record has none.
        are_given: Whether they are not all the records' own.
    """

    counts: np.ndarray
    boxes: np.ndarray
    are_given: bool

    @classmethod
    def one_each(cls, boxes: Sequence[np.ndarray | None], are_given: bool) -> RecordBoxes:
        """Return those of records with one box or none."""
        there = [np.zeros(4) if box is None else box for box in boxes]
        return cls(np.ones(len(there), np.int64), np.array(there, np.float32), are_given)

    def of(self, rows: np.ndarray) -> RecordBoxes:
        """Return those of some records that have one each."""
        return RecordBoxes(self.counts[rows], self.boxes[rows], self.are_given)

    def numbered(self, image_ids: np.ndarray) -> np.ndarray:
        """Return the image_ids of N rows; of a record with several boxes they end in '#1', ..."""
        numbers = np.concatenate([np.arange(1, count + 1) for count in self.counts])
        is_several = np.repeat(self.counts > 1, self.counts)
        rows = zip(image_ids, numbers, is_several)
        return np.array([f'{i}#{n}' if several else i for i, n, several in rows], object)


def of_records(
    files: Sequence[str], schema: KeypointSchema, given: Mapping[str, Sequence[Box]]
) -> tuple[RecordBoxes, set[str]]:
    """Return the boxes of records: those given for their image_id, or else their own.

    Args:
        schema: Of the whole data set.
        given: image_id -> boxes.

    Returns:
        The boxes; and the image_ids of `given` that are among the records.

    Raises:
        UserError: A box is of another category than its record, or outside of its picture.
    """
    keys = ('image_id', 'category', 'box', 'image_size')
    examples = records.decoded(tf.data.TFRecordDataset(list(files)), schema)
    chosen = examples.map(lambda example: {key: example[key] for key in keys})
    counts, boxes, met = [], [], set()
    with faults.explained(files, schema):
        for batch in chosen.batch(_RECORDS_AT_A_TIME).as_numpy_iterator():
            for image_id, category, box, size in zip(*(batch[key] for key in keys)):
                name, category = image_id.decode(), category.decode()
                own = given.get(name, ())
                for one in own:
                    if one.category not in (None, category):
                        problem = f'{name!r} is a {category} in the records, not {one.category!r}'
                        raise UserError(f'{one.place}: {problem}')
                    check_inside(one.corners, size, one.place)
                met.update([name] if own else [])
                counts.append(max(len(own), 1))
                boxes += [one.corners for one in own] or [box]
    values = np.array(counts, np.int64), np.array(boxes, np.float32)
    return RecordBoxes(*values, are_given=bool(given)), met
