"""Tables of numbers by step, as CSV: a row for each step, a column for each name.

A table is written whole, or grows row by row while a training runs. What a killed process left of
its last row is not read, and goes when the table is next grown.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping

from absl import logging

from config import UserError
from preprocessing import files

STEP = 'step'
_SHOWN = 5  # numbers of lines in a message

Row = Mapping[str, float]


def read(path: str, up_to: int | None = None, skips: bool = False) -> dict[int, dict[str, float]]:
    """Return step -> name -> number, in the order of the steps; empty where there is no file.

    Args:
        up_to: The last step asked for; None: all.
        skips: Whether lines that are damaged are left out, with a warning.

    Raises:
        UserError: The file is no such table.
    """
    if not files.exists(path):
        return {}
    # What a killed process left of its last line has no end.
    first, *lines = files.read_bytes(path).split(b'\n')[:-1] or [b'']
    names, rows, damaged = _fields(first), {}, []
    for number, line in enumerate(lines, 2):
        if not line.strip():
            continue
        try:
            step, row = _row(names, line)
        except (KeyError, TypeError, ValueError, csv.Error) as error:
            if not skips:
                raise UserError(f'{path}: not a table of numbers by step: {error!r}') from error
            damaged.append(number)
        else:
            rows[step] = row
    if damaged:
        numbers = ', '.join(map(str, damaged[:_SHOWN])) + (', ...' if len(damaged) > _SHOWN else '')
        logging.warning('%s: %d damaged lines left out: %s', path, len(damaged), numbers)
    return {step: rows[step] for step in sorted(rows) if up_to is None or step <= up_to}


def _fields(line: bytes) -> list[str]:
    """Return the fields of a line; none where it is damaged."""
    try:
        return next(csv.reader([line.decode()], strict=True), [])
    except (UnicodeDecodeError, csv.Error):
        return []


def _row(names: list[str], line: bytes) -> tuple[int, dict[str, float]]:
    """Return step and numbers of a line. Raises ValueError or KeyError where it has none."""
    cells = _fields(line.rstrip(b'\r'))
    if len(cells) != len(names):
        raise ValueError(f'{len(cells)} cells, not {len(names)}')
    row = dict(zip(names, cells))
    step = int(row.pop(STEP))
    return step, {name: float(cell) for name, cell in row.items() if cell != ''}


def write(path: str, rows: Mapping[int, Row], names: Iterable[str] = ()) -> None:
    """Write a table: it is complete or as it was before.

    Args:
        rows: Step -> name -> number.
        names: Of the first columns; the others follow in the order of the alphabet.
    """

    names = list(names)
    names += sorted({name for row in rows.values() for name in row} - set(names))
    cells = [[STEP, *names], *(_cells(step, rows[step], names) for step in sorted(rows))]
    files.write_bytes(path, files.csv_bytes(cells), rewrites=True)


def forget_after(path: str, step: int) -> list[int]:
    """Drop the rows of later steps; return these steps."""
    rows = read(path)
    dropped = [row_step for row_step in rows if row_step > step]
    if dropped:
        write(path, {row_step: rows[row_step] for row_step in rows if row_step <= step})
    return dropped


class GrowingTable:
    """A table that a training adds to as it goes on.

    Rows of later steps are dropped: those of a training that now goes on from an earlier one.

    Args:
        names: The columns of the rows to come, without the step. The table may have others.
        step: After which rows are to come.
    """

    def __init__(self, path: str, names: Iterable[str], step: int):
        rows = read(path, up_to=step, skips=True)
        self._names = list(dict.fromkeys([*names, *(n for row in rows.values() for n in row)]))
        write(path, rows, self._names)
        self._file = files.open_to_add(path)

    def add(self, step: int, row: Row) -> None:
        """Add a row; it is in the file when this returns."""
        self._file.write(files.csv_bytes([_cells(step, row, self._names)]))
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def _cells(step: int, row: Row, names: Iterable[str]) -> list:
    return [step, *(row.get(name, '') for name in names)]
