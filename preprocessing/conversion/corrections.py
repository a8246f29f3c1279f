"""Corrections of annotations: a CSV that a person has looked over, applied without changing a file.

A row says what a point is and what it should be: `from_x, from_y, from_v` must be what the
annotation says, so that no correction is ever applied to something else than it was made for.
Coordinates are as in the annotations, indices of pixels; an absent point is -1, -1, -1.
"""

from __future__ import annotations

import collections
import hashlib
import math
import os
import posixpath
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from config import UserError
from preprocessing.datasets import Annotation
from preprocessing.files import csv_bytes, read_bytes, write_bytes
from preprocessing.schema import KeypointSchema
from preprocessing.tables import ABSENT_INDEX, IMAGE_ID, MAX_COORDINATE, read_rows

_FROM, _TO = ('from_x', 'from_y', 'from_v'), ('to_x', 'to_y', 'to_v')
KEYPOINT, KIND, SCORE = 'keypoint', 'kind', 'score'
COLUMNS = (IMAGE_ID, KEYPOINT, *_FROM, *_TO, KIND, SCORE)
_OPTIONAL = (KIND, SCORE)
_TOLERANCE = 0.01  # px; files hold at most two decimals of a coordinate
_ABSENT = (ABSENT_INDEX, ABSENT_INDEX, -1)

Cell = tuple[float, float, int]  # x, y, visibility, as in the annotations


class Correction(NamedTuple):
    """A row of the file.

    Attributes:
        line: Of the file, from 1.
        image_id: Of the picture.
        keypoint: Name of the point.
        before: What the annotation must say.
        after: What it should say.
        kind: Why; any word.
        score: For people.
    """

    line: int
    image_id: str
    keypoint: str
    before: Cell
    after: Cell
    kind: str = ''
    score: str = ''


def cell(point: np.ndarray, visibility: int) -> Cell:
    """Return what annotations say of a point [2], continuous px, to two decimals."""
    if visibility < 0:
        return _ABSENT
    x, y = (round(float(value) - 0.5, 2) for value in point)
    return x, y, int(visibility)


def read_corrections(path: str | os.PathLike, schema: KeypointSchema) -> list[Correction]:
    """Read a file of corrections, gzipped or not; columns of other names do not count.

    Raises:
        UserError: It is broken, or corrects a point twice; tells the line.
    """
    rows, lines = read_rows(os.fspath(path))
    names = [name.strip() for name in rows[0]]
    for name in COLUMNS:
        if name not in (*names, *_OPTIONAL):
            raise UserError(
                f'{path}, line {lines[0]}: the header lacks column {name!r}; there must be: '
                f'{", ".join(COLUMNS)}'
            )
    found: dict[tuple[str, str], Correction] = {}
    for row, line in zip(rows[1:], lines[1:]):
        try:
            one = _parse(dict(zip(names, row)), line, len(row) - len(names), schema)
        except ValueError as error:
            raise UserError(f'{path}, line {line}: {error}') from error
        earlier = found.setdefault((one.image_id, one.keypoint), one)
        if earlier is not one:
            raise UserError(
                f'{path}, line {line}: {one.keypoint} of {one.image_id} is corrected in line '
                f'{earlier.line}, too; leave one of them'
            )
    return list(found.values())


def _parse(fields: Mapping[str, str], line: int, excess: int, schema: KeypointSchema) -> Correction:
    if excess:
        raise UserError(f'{abs(excess)} fields too {"many" if excess > 0 else "few"}')
    if fields[KEYPOINT] not in schema.keypoints:
        raise UserError(f'unknown keypoint {fields[KEYPOINT]!r}')
    return Correction(
        line,
        fields[IMAGE_ID],
        fields[KEYPOINT],
        _parse_cell(fields, _FROM),
        _parse_cell(fields, _TO),
        fields.get(KIND, ''),
        fields.get(SCORE, ''),
    )


def _parse_cell(fields: Mapping[str, str], names: Sequence[str]) -> Cell:
    values = []
    for name in names:
        try:
            value = float(fields[name])
        except ValueError:
            value = math.nan
        if not abs(value) <= MAX_COORDINATE:
            problem = f'must be a number of at most {MAX_COORDINATE}'
            raise UserError(f'column {name!r}: {fields[name]!r} {problem}')
        values.append(value)
    x, y, visibility = values
    if visibility not in (-1, 0, 1):
        raise UserError(f'column {names[2]!r}: {visibility:g} must be 1, 0 or -1')
    if visibility == -1:
        return _ABSENT
    if x == y == ABSENT_INDEX:
        raise UserError(f'column {names[2]!r}: a point at -1, -1 is absent; it must be -1')
    return x, y, int(visibility)


def write_corrections(path: str | os.PathLike, corrections: Iterable[Correction]) -> None:
    """Write a file for read_corrections; lines do not count."""
    rows = [COLUMNS]
    for one in corrections:
        cells = [f'{value:g}' for value in (*one.before, *one.after)]
        rows.append([one.image_id, one.keypoint, *cells, one.kind, one.score])
    write_bytes(path, csv_bytes(rows))


def correct(
    annotations: Sequence[tuple[str, Annotation]],
    labelled: Iterable[str],
    path: str | os.PathLike,
    schema: KeypointSchema,
) -> tuple[list[tuple[str, Annotation]], dict[str, Any]]:
    """Apply a file of corrections.

    Args:
        annotations: Pairs of a split's name and an annotation of it; they stay as they are.
        labelled: Names of the splits that have points. Where an image_id is in several of these,
            its corrections are for all annotations that say what they must.

    Returns:
        The annotations, and for dataset.json what was corrected.

    Raises:
        UserError: The file is broken, or a row is not of these annotations; tells the line.
    """
    corrections = read_corrections(path, schema)
    wanted: dict[str, list[Correction]] = {}
    for one in corrections:
        wanted.setdefault(one.image_id, []).append(one)
    # What is wrong with the corrections of an image_id, until an annotation fits them.
    faults = {name: f'no annotation of {name!r}' for name in wanted}
    lines = {name: rows[0].line for name, rows in wanted.items()}
    fitted, labelled, corrected, num_images = set(), set(labelled), [], 0
    for source, annotation in annotations:
        rows = wanted.get(annotation.image_id) if source in labelled else None
        if rows:
            try:
                annotation = _corrected(annotation, rows, schema)
            except _MisfitError as misfit:
                faults[annotation.image_id] = misfit.fault
                lines[annotation.image_id] = misfit.line
            else:
                fitted.add(annotation.image_id)
                num_images += 1
        corrected.append((source, annotation))
    for name in wanted:
        if name not in fitted:
            raise UserError(f'{path}, line {lines[name]}: {faults[name]}')
    return corrected, {
        'file': posixpath.basename(os.fspath(path)),
        'sha256': hashlib.sha256(read_bytes(path)).hexdigest(),
        'points': len(corrections),
        'pictures': num_images,
        'kinds': dict(sorted(collections.Counter(one.kind for one in corrections).items())),
    }


class _MisfitError(Exception):
    """A correction that an annotation does not fit: what is wrong, and in which line."""

    def __init__(self, line: int, fault: str):
        super().__init__(fault)
        self.line, self.fault = line, fault


def _corrected(
    annotation: Annotation, corrections: Sequence[Correction], schema: KeypointSchema
) -> Annotation:
    """Return the annotation after corrections of its picture.

    Raises:
        _MisfitError: It does not say what the corrections were made for.
    """
    keypoints, visibility = annotation.keypoints.copy(), annotation.visibility.copy()
    for one in corrections:
        k = schema.keypoints.index(one.keypoint)
        where = f'{one.keypoint} of {one.image_id}'
        if k not in schema.indices(annotation.category):
            raise _MisfitError(one.line, f'{where} is no point of a {annotation.category}')
        says = cell(annotation.keypoints[k], annotation.visibility[k])
        if not np.allclose(says, one.before, rtol=0, atol=_TOLERANCE):
            problem = 'the correction is stale, or not of this data'
            raise _MisfitError(
                one.line, f'{where} is {_text(says)}, not {_text(one.before)}: {problem}'
            )
        keypoints[k] = np.add(one.after[:2], 0.5)
        visibility[k] = one.after[2]
    for one in corrections:
        k = schema.keypoints.index(one.keypoint)
        same = (visibility >= 0) & (np.abs(keypoints - keypoints[k]) <= _TOLERANCE).all(-1)
        same[k] = False
        if visibility[k] >= 0 and same.any():
            other = schema.keypoints[int(same.argmax())]
            problem = 'an exchange needs the rows of both points'
            raise _MisfitError(one.line, f'{one.keypoint} would be where {other} is; {problem}')
    return annotation._replace(keypoints=keypoints, visibility=visibility)


def _text(says: Cell) -> str:
    return '{:g}_{:g}_{}'.format(*says)
