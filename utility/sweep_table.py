"""The table of a sweep: a row for each run that is done, as CSV and as Markdown."""

from __future__ import annotations

import csv
import io
import pathlib
import textwrap
from collections.abc import Mapping, Sequence

from preprocessing.files import write_bytes

RESULTS, PAGE = 'results.csv', 'results.md'
RUN, ERROR, FAILURE = 'run', 'normalized_error', 'failure'
_WIDTH = 120  # of the reason of a failure in the Markdown table
_NUMBERS = (ERROR, 'low', 'high', 'steps', 'seconds')

# Column -> text: the run, its settings, _NUMBERS, and why it failed, '' if it did not.
Row = dict[str, str]


def row(name: str, settings: Mapping[str, str], result: Mapping[str, str]) -> Row:
    """A row; what `result` lacks is empty."""
    return {RUN: name, **settings, **dict.fromkeys((*_NUMBERS, FAILURE), ''), **result}


def read(folder: pathlib.Path) -> dict[str, Row]:
    """Name of a run -> its row, of the runs that are done."""
    path = folder / RESULTS
    if not path.exists():
        return {}
    with path.open(newline='') as file:
        return {row[RUN]: row for row in csv.DictReader(file)}


def write(folder: pathlib.Path, rows: Sequence[Row], about: str) -> None:
    """Writes both files, each complete or as it was before; `about` stands above the table."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator='\n')
    writer.writeheader()
    writer.writerows(rows)
    write_bytes(folder / RESULTS, text.getvalue().encode())
    write_bytes(folder / PAGE, f'{about}\n\n{markdown(rows)}'.encode())


def markdown(rows: Sequence[Row]) -> str:
    """The rows, the least NE first, failures last."""
    keys = [key for key in rows[0] if key not in (RUN, *_NUMBERS, FAILURE)]
    head = [RUN, *keys, 'NE, %', '95 % interval', 'steps', 'seconds']
    lines = [head, ['---', *['---:'] * (len(head) - 1)]]
    for one in sorted(rows, key=lambda row: float(row[ERROR] or 'inf')):
        reason = textwrap.shorten(one[FAILURE], _WIDTH, placeholder=' ...')
        error = f'failed: {reason}' if reason else _percent(one[ERROR])
        interval = f'{_percent(one["low"])} to {_percent(one["high"])}' if one['low'] else ''
        values = [one[key] for key in keys]
        lines.append([one[RUN], *values, error, interval, one['steps'], one['seconds']])
    if not any(row['low'] for row in rows):
        lines = [line[: len(keys) + 2] + line[len(keys) + 3 :] for line in lines]
    escaped = ([cell.replace('|', '\\|') for cell in line] for line in lines)
    return ''.join(f'| {" | ".join(line)} |\n' for line in escaped)


def _percent(number: str) -> str:
    return f'{100 * float(number):.2f}'
