"""CSV tables of keypoints: annotations, lists of pictures to predict, and submissions.

A row is a picture: its id, its category, and a cell `x_y_v` for each keypoint, x and y being the
indices of a pixel and v the visibility. In memory points are continuous px: half a pixel more.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import os
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, NamedTuple

import numpy as np
from absl import logging

from config import UserError
from preprocessing.files import csv_bytes, open_bytes, write_bytes
from preprocessing.schema import KeypointSchema

IMAGE_ID = 'image_id'
IMAGE_CATEGORY = 'image_category'
EXTRA_CATEGORY = 'category'  # in some files; says the same as image_category
ABSENT_INDEX = -1  # both coordinates, as written, of a point that is not there
MAX_COORDINATE = 65535  # px; the longest side a JPEG can have (ITU-T T.81, B.2.2)
# The largest table to be believed: five times the pictures of FashionAI. Beyond it stand only files
# that were made to fill a memory, as a megabyte of gzip can.
MAX_LINES = 500_000
MAX_LINE_BYTES = 1 << 20  # one of 294 points, the most that a data set of clothes has, has 6 kB
MAX_TABLE_BYTES = 256 << 20  # 500 bytes a line; one of FashionAI has some 250
MAX_CELLS = 20_000_000  # 40 a line
_PART = 1 << 16  # bytes that are read at once
# Every repetition can end in one way only, so that a match takes linear time whatever the cell.
_NUMBER = r'[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?'
_VISIBILITY = r'(?:-1|[+-]?0|\+?1)(?:\.0*)?'
_BAD_CELL = re.compile(rf'^(?!{_NUMBER}_{_NUMBER}_{_VISIBILITY}$)', re.MULTILINE)


class KeypointTable(NamedTuple):
    """Pictures and their points, in the order of a file.

    Attributes:
        image_ids: str objects [N], each once.
        categories: str [N].
        keypoints: float32 [N, K, 2], continuous (x, y) px; (-0.5, -0.5) where absent.
        visibility: int32 [N, K]: 1 visible, 0 occluded, -1 absent.
        lines: int64 [N], the number of the line of the file that a row stood in, from 1.
        boxes: float32 [N, 4], (x_min, y_min, x_max, y_max) px, zeros where there is none; None in
            a table of a CSV, which has no boxes.
        image_sizes: [N, 2], (height, width), px; None in a table of a CSV.
    """

    image_ids: np.ndarray
    categories: np.ndarray
    keypoints: np.ndarray
    visibility: np.ndarray
    lines: np.ndarray
    boxes: np.ndarray | None = None
    image_sizes: np.ndarray | None = None

    def rows(self, chosen: np.ndarray) -> KeypointTable:
        """Return the table of some of the rows: indices, or bool [N]."""
        return KeypointTable(*(None if values is None else values[chosen] for values in self))


class TooLargeError(UserError):
    """A file with more in it than a table can have."""


class _Grid(NamedTuple):
    """The cells of a file, not yet understood."""

    path: str
    lines: np.ndarray
    columns: dict[str, tuple[str, ...]]

    def error(self, row: int, column: str, problem: str) -> UserError:
        return UserError(f'{self.path}, line {self.lines[row]}, column {column!r}: {problem}')


def category_points(categories: Sequence[str], schema: KeypointSchema) -> np.ndarray:
    """Return which of the K points belong to each picture's category: bool [N, K]."""
    names, codes = np.unique(np.asarray(categories, dtype=str), return_inverse=True)
    masks = np.zeros([len(names), schema.num_keypoints], dtype=bool)
    for mask, name in zip(masks, names):
        mask[list(schema.indices(str(name)))] = True
    return masks[codes]


def read_table(path: str | os.PathLike, schema: KeypointSchema) -> KeypointTable:
    """Read annotations, a list of pictures (all points absent) or a submission.

    The columns are taken by the names in the header; without a header, or with one of only
    image_id and image_category over longer rows, they are in the order of the schema. A point is
    absent if its cell is `-1_-1_*` or `*_*_-1`, or if it does not belong to the picture's category.

    Args:
        path: Local, or anything tf.io.gfile opens; gzipped or not, whatever its name.

    Raises:
        UserError: The file is broken; tells the file, the line and the column.
    """
    grid = _read_grid(os.fspath(path), schema)
    _check_names(grid, schema)
    categories = np.array(grid.columns[IMAGE_CATEGORY])
    own = category_points(categories, schema)
    _check_own_columns(grid, own, schema)
    cells = np.full([*own.shape, 3], ABSENT_INDEX, dtype=np.float64)
    for k, name in enumerate(schema.keypoints):
        if name in grid.columns:
            cells[:, k] = _parse_cells(grid, name)
    written = (cells[..., :2] != ABSENT_INDEX).any(-1) & (cells[..., 2] != -1)
    foreign = np.count_nonzero(written & ~own)
    if foreign:
        logging.info('%s: %d points not of their category left out', path, foreign)
    cells[~(written & own)] = ABSENT_INDEX
    table = KeypointTable(
        image_ids=np.array(grid.columns[IMAGE_ID], dtype=object),
        categories=categories,
        keypoints=(cells[..., :2] + 0.5).astype(np.float32),
        visibility=cells[..., 2].astype(np.int32),
        lines=grid.lines,
    )
    return _without_duplicates(grid, table)


def _read_grid(path: str, schema: KeypointSchema) -> _Grid:
    rows, lines = read_rows(path)
    names, num_header_rows = _column_names(path, rows, lines, schema)
    rows, lines = rows[num_header_rows:], lines[num_header_rows:]
    if not rows:
        raise UserError(f'{path}: no rows below the header')
    width = len(names)
    for row, line in zip(rows, lines):
        if len(row) != width:
            column = names[min(len(row), width - 1)]
            problem = f'the row ends with field {len(row)}, not {width}'
            raise UserError(f'{path}, line {line}, column {column!r}: {problem}')
    return _Grid(path, np.array(lines), dict(zip(names, zip(*rows))))


def read_rows(path: str) -> tuple[list[list[str]], list[int]]:
    """Return the fields of the lines that are not blank, and the numbers of those lines.

    Raises:
        UserError: The file is broken, or larger than a table can be.
    """
    with open_table(path) as source:
        text = io.TextIOWrapper(source, encoding='utf-8-sig', newline='')
        try:
            split = split_rows(text, path, skipinitialspace=True)
        except UnicodeDecodeError as error:
            line = source.lines_before + error.object[: error.start].count(b'\n') + 1
            raise UserError(f'{path}, line {line}: not UTF-8 text: {error.reason}') from error
    if split.broken:
        raise UserError(f'{path}, line {split.broken[0]}: {split.broken[1]}')
    if not split.rows:
        raise UserError(f'{path}: the file is empty')
    return split.rows, split.lines


class Rows(NamedTuple):
    """A CSV as far as its fields can be told apart.

    Attributes:
        rows: The fields of the lines that are not blank.
        lines: The numbers of these lines, from 1.
        blank: The numbers of the blank ones.
        broken: The number of the line from which on it is no CSV, and why; None: it is one.
    """

    rows: list[list[str]]
    lines: list[int]
    blank: list[int]
    broken: tuple[int, str] | None


def split_rows(text: Iterable[str], path: str | os.PathLike, **dialect) -> Rows:
    """Split the lines of a text by csv.reader; no field ends in another line.

    Raises:
        TooLargeError: There are more fields than a table can have.
    """
    reader = csv.reader(text, strict=True, **dialect)
    rows, lines, blank, broken, last_line, cells = [], [], [], None, 0, 0
    try:
        for row in reader:
            if reader.line_num != last_line + 1:
                raise csv.Error('a quoted field goes on over the end of the line')
            last_line = reader.line_num
            cells += len(row)
            if cells > MAX_CELLS:
                raise TooLargeError(f'{path}: more than {MAX_CELLS:,} fields, which no table has')
            if any(field.strip() for field in row):
                rows.append(row)
                lines.append(last_line)
            else:
                blank.append(last_line)
    except csv.Error as error:
        broken = last_line + 1, str(error)
    return Rows(rows, lines, blank, broken)


@contextlib.contextmanager
def open_table(path: str | os.PathLike) -> Iterator[TableBytes]:
    """Open a CSV, gzipped or not, as bytes of which no more is held than is asked for.

    Raises:
        UserError: In the body, too: the data are broken, or more than a table can have.
    """
    try:
        with contextlib.ExitStack() as stack:
            file = stack.enter_context(open_bytes(path))
            if file.peek(2)[:2] == b'\x1f\x8b':
                file = stack.enter_context(gzip.GzipFile(fileobj=file))
            yield TableBytes(file, os.fspath(path))
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f'{path}: broken gzip data: {error}') from error


class TableBytes(io.BufferedIOBase):
    """What is read of a table, as long as there is not more of it than a table can have.

    Attributes:
        lines_before: Line feeds before the part that was read last.
    """

    def __init__(self, file: IO[bytes], path: str):
        self._file, self._path = file, path
        self._size = self._unended = self._line_feeds = self._returns = 0
        self.lines_before = 0

    def readable(self) -> bool:
        return True

    def read1(self, size: int = -1) -> bytes:
        """Return some bytes, empty at the end. Raises UserError where they are more than can be."""
        part = self._file.read1(_PART if size < 0 else min(size, _PART))
        first, *others = part.replace(b'\r', b'\n').split(b'\n')
        longest = max(self._unended + len(first), *map(len, others), 0)
        self._unended = len(others[-1]) if others else self._unended + len(first)
        self.lines_before = self._line_feeds
        self._size += len(part)
        self._line_feeds += part.count(b'\n')
        self._returns += part.count(b'\r')
        for number, most, what in (
            (self._size, MAX_TABLE_BYTES, 'bytes'),
            (max(self._line_feeds, self._returns), MAX_LINES, 'lines'),
            (longest, MAX_LINE_BYTES, 'bytes in a line'),
        ):
            if number > most:
                raise TooLargeError(f'{self._path}: more than {most:,} {what}, which no table has')
        return part

    def read(self, size: int = -1) -> bytes:
        """Return all that is left, or the first `size` bytes of it."""
        parts, left = [], MAX_TABLE_BYTES + 1 if size is None or size < 0 else size
        while left and (part := self.read1(left)):
            parts.append(part)
            left -= len(part)
        return b''.join(parts)


def _column_names(
    path: str, rows: list[list[str]], lines: list[int], schema: KeypointSchema
) -> tuple[tuple[str, ...], int]:
    """Return the name of each column, and of how many rows the header is: 1, or 0 without one."""
    canonical = (IMAGE_ID, IMAGE_CATEGORY, *schema.keypoints)
    first = tuple(field.strip() for field in rows[0])
    where = f'{path}, line {lines[0]}'
    lacking = [name for name in canonical[:2] if name not in first]
    if len(lacking) == 2:
        if len(first) < 2 or first[1] not in schema.categories:
            raise UserError(f'{where}: neither a header with {IMAGE_ID} nor a row of a category')
        names = {2: canonical[:2], len(canonical) + 1: (*canonical, EXTRA_CATEGORY)}
        return names.get(len(first), canonical), 0
    if lacking:
        raise UserError(f'{where}: the header lacks column {lacking[0]!r}')
    for name in first:
        if name not in (*canonical, EXTRA_CATEGORY):
            raise UserError(f'{where}: unknown column {name!r}; there are: {", ".join(canonical)}')
        if first.count(name) > 1:
            raise UserError(f'{where}: column {name!r} is there twice')
    if first == canonical[:2] and len(rows) > 1 and len(rows[1]) == len(canonical):
        return canonical, 1
    return first, 1


def _check_names(grid: _Grid, schema: KeypointSchema) -> None:
    """Check that every row has an id, a known category, and an extra one that agrees."""
    categories = grid.columns[IMAGE_CATEGORY]
    if '' in grid.columns[IMAGE_ID]:
        raise grid.error(grid.columns[IMAGE_ID].index(''), IMAGE_ID, 'the cell is empty')
    unknown = set(categories) - set(schema.categories)
    if unknown:
        row = min(map(categories.index, unknown))
        problem = f'{categories[row]!r} is none of: {", ".join(schema.categories)}'
        raise grid.error(row, IMAGE_CATEGORY, problem)
    extra = grid.columns.get(EXTRA_CATEGORY, categories)
    if extra != categories:
        row = next(i for i, category in enumerate(categories) if category != extra[i])
        raise grid.error(row, EXTRA_CATEGORY, f'{extra[row]!r} in a row of {categories[row]!r}')


def _check_own_columns(grid: _Grid, own: np.ndarray, schema: KeypointSchema) -> None:
    """Check that a file lacks only the columns of categories it does not hold, or all."""
    lacking = [name not in grid.columns for name in schema.keypoints]
    rows, columns = np.nonzero(own & lacking)
    if len(rows) and not all(lacking):
        raise grid.error(rows[0], schema.keypoints[columns[0]], 'the file lacks this column')


def _parse_cells(grid: _Grid, name: str) -> np.ndarray:
    """Return a column of N cells `x_y_v` as float64 [N, 3]."""
    cells = grid.columns[name]
    text = '\n'.join(cells)
    bad = _BAD_CELL.search(text)
    if bad:
        row = text.count('\n', 0, bad.start())
        raise grid.error(row, name, f'{cells[row][:60]!r} is not x_y_v with v of -1, 0 or 1')
    values = np.fromstring(text.replace('\n', '_'), sep='_').reshape(-1, 3)
    beyond = np.flatnonzero((np.abs(values[:, :2]) > MAX_COORDINATE).any(-1))
    if len(beyond):
        row = beyond[0]
        raise grid.error(row, name, f'{cells[row][:60]!r} is beyond {MAX_COORDINATE} px')
    return values


def _without_duplicates(grid: _Grid, table: KeypointTable) -> KeypointTable:
    """Keep the first of the rows that say the same; refuse rows that contradict each other."""
    _, first, inverse = np.unique(table.image_ids, return_index=True, return_inverse=True)
    if len(first) == len(inverse):
        return table
    earlier = first[inverse]
    differs = np.zeros(len(earlier), dtype=bool)
    for values in (table.categories, table.keypoints, table.visibility):
        differs |= (values != values[earlier]).reshape(len(earlier), -1).any(-1)
    if differs.any():
        row = int(differs.argmax())
        problem = f'other values than in line {table.lines[earlier[row]]}'
        raise grid.error(row, IMAGE_ID, f'{table.image_ids[row]!r} has {problem}')
    logging.warning('%s: %d repeated rows left out', grid.path, len(earlier) - len(first))
    return table.rows(np.sort(first))


def write_table(path: str | os.PathLike, table: KeypointTable, schema: KeypointSchema) -> None:
    """Write a table in the format of submissions and annotations; the inverse of read_table.

    Coordinates are the floor of continuous px. Points that are absent or not of the picture's
    category are `-1_-1_-1`. The file is gzipped if its name ends in .gz.

    Raises:
        UserError: A point is not finite, or would be read back as absent.
    """
    present = category_points(table.categories, schema) & (table.visibility >= 0)
    indices = np.floor(table.keypoints)
    unwritable = ~np.isfinite(indices).all(-1) | (indices == ABSENT_INDEX).all(-1)
    if (present & unwritable).any():
        row, k = np.argwhere(present & unwritable)[0]
        where = f'{table.image_ids[row]}, {schema.keypoints[k]}'
        raise UserError(f'{where}: cannot write a point at {table.keypoints[row, k].tolist()}')
    cells = np.full(present.shape, '_'.join([str(ABSENT_INDEX)] * 3), dtype=object)
    (x, y), v = indices[present].astype(np.int64).T.tolist(), table.visibility[present].tolist()
    cells[present] = [f'{x}_{y}_{v}' for x, y, v in zip(x, y, v)]
    rows = zip(table.image_ids, table.categories, *cells.T.tolist())
    data = csv_bytes([[IMAGE_ID, IMAGE_CATEGORY, *schema.keypoints], *rows])
    write_bytes(path, gzip.compress(data, mtime=0) if os.fspath(path).endswith('.gz') else data)
