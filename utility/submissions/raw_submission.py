"""Submission files as they are: nothing that can be told about stops the reading.

preprocessing.tables refuses a broken file at the first place that is wrong. Here, by the same
splitting into rows and fields, all such places are to be found.
"""

from __future__ import annotations

import io
import os
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from config import UserError
from preprocessing.schema import KeypointSchema
from preprocessing.tables import (
    EXTRA_CATEGORY,
    IMAGE_CATEGORY,
    IMAGE_ID,
    TooLargeError,
    open_table,
    split_rows,
)
from utility.submissions.findings import ERROR, WARNING, Example, Finding, num_errors

_TOO_LARGE = 'larger than any submission'
_BOM = '\ufeff'
_WRONG_SEPARATORS = (';', '\t', '|')


class RawSubmission(NamedTuple):
    """The rows of a file, not yet understood.

    Attributes:
        lines: int64 [N], the number of the line that each row stood in, from 1.
        image_ids: str objects [N].
        categories: str objects [N].
        cells: Keypoint -> N cells; without the keypoints that have no column.
    """

    lines: np.ndarray
    image_ids: np.ndarray
    categories: np.ndarray
    cells: dict[str, tuple[str, ...]]


def read_raw(
    path: str | os.PathLike, schema: KeypointSchema
) -> tuple[RawSubmission | None, list[Finding]]:
    """Read a submission, gzipped or not, whatever is wrong with it.

    Returns:
        The rows that have as many fields as there are columns, or None if none can be made use of;
        and what is wrong with the text, the header and the lengths of the rows.

    Raises:
        OSError: The file cannot be read.
    """
    text, findings = _read_text(path)
    rows, lines, new_findings = _split_rows(text, path)
    findings += new_findings
    if not rows:
        return None, findings or _file_finding('the file is empty', Example(1))
    names, num_header_rows, new_findings = _column_names(rows, lines[0], schema)
    findings += new_findings
    body = list(zip(rows, lines))[num_header_rows:]
    findings += _check_lengths(body, len(names))
    complete_rows = [(row, line) for row, line in body if len(row) == len(names)]
    # The first of several columns of one name counts.
    columns = dict(reversed(list(zip(names, zip(*(row for row, _ in complete_rows))))))
    if IMAGE_ID not in columns or IMAGE_CATEGORY not in columns:
        if not num_errors(findings):
            findings += _file_finding('no rows below the header', Example(lines[0]))
        return None, findings
    raw = RawSubmission(
        lines=np.array([line for _, line in complete_rows]),
        image_ids=np.array(columns[IMAGE_ID], dtype=object),
        categories=np.array(columns[IMAGE_CATEGORY], dtype=object),
        cells={name: columns[name] for name in schema.keypoints if name in columns},
    )
    return raw, findings


def _file_finding(problem: str, example: Example) -> list[Finding]:
    return Finding(ERROR, 'file', problem, 'write it again, as plain UTF-8 CSV', 'file').at(
        1, [example]
    )


def _read_text(path: str | os.PathLike) -> tuple[str, list[Finding]]:
    try:
        with open_table(path) as file:
            data = file.read()
    except TooLargeError as error:
        return '', _file_finding(_TOO_LARGE, Example(1, detail=str(error)))
    except UserError as error:
        return '', _file_finding('broken gzip data', Example(1, detail=str(error)))
    findings = []
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b'\n', 0, error.start) + 1
        findings += _file_finding('not UTF-8 text', Example(line, detail=error.reason))
        text = data.decode(errors='replace')
    if text.startswith(_BOM):
        text = text[len(_BOM) :]
        problem = 'a byte order mark stands before the first column, which many readers take for it'
        advice = "save it as UTF-8 without one (encoding='utf-8', not 'utf-8-sig')"
        findings += Finding(ERROR, 'columns', problem, advice, 'file').at(1)
    return text, findings


def _split_rows(
    text: str, path: str | os.PathLike
) -> tuple[list[list[str]], list[int], list[Finding]]:
    """Return the fields of the lines as far as they can be told apart, and the line numbers."""
    findings = []
    header = text.split('\n', 1)[0]
    separator = max(_WRONG_SEPARATORS, key=header.count)
    if ',' not in header and separator in header:
        problem = f'fields are separated by {separator!r}'
        findings += Finding(ERROR, 'columns', problem, 'separate them by commas', 'file').at(1)
    else:
        separator = ','
    try:
        split = split_rows(io.StringIO(text, newline=''), path, delimiter=separator)
    except TooLargeError as error:
        return [], [], _file_finding(_TOO_LARGE, Example(1, detail=str(error)))
    rows, lines, blank, broken = split
    if broken:
        findings += _file_finding('not CSV from here on', Example(broken[0], detail=broken[1]))
    if rows:
        advice = 'delete them: some readers take them for pictures'
        blank_lines = Finding(WARNING, 'file', 'blank lines', advice, 'lines')
        findings += blank_lines.at(len(blank), map(Example, blank))
    return rows, lines, findings


def _column_names(
    rows: list[list[str]], line: int, schema: KeypointSchema
) -> tuple[list[str], int, list[Finding]]:
    """Return what each column holds, how many rows the header is, and what is wrong with it."""
    canonical = [IMAGE_ID, IMAGE_CATEGORY, *schema.keypoints]
    header = rows[0]
    clean = [name.strip().lower() for name in header]
    if not set(clean) & set(canonical):
        names = [*canonical, EXTRA_CATEGORY][: max(len(header), 2)]
        return names, 0, _header_findings('there is no header', canonical, line)
    if clean == canonical[:2] and len(rows) > 1 and len(rows[1]) == len(canonical):
        problem = 'the header names only the first two columns'
        return canonical, 1, _header_findings(problem, canonical[2:], line)
    return clean, 1, _compare_header(header, clean, canonical, line)


def _compare_header(
    header: Sequence[str], clean: Sequence[str], canonical: Sequence[str], line: int
) -> list[Finding]:
    counts = Counter(clean)
    same_names = sorted(clean) == sorted(canonical)
    spelling = [name for name, plain in zip(header, clean) if name != plain and plain in canonical]
    problems = {
        'columns are missing': [name for name in canonical if name not in counts],
        'unknown columns': [name for name in header if name.strip().lower() not in canonical],
        'columns are there more than once': [name for name, n in counts.items() if n > 1],
        'columns are written with other letters or spaces': spelling,
        'columns are in another order': [
            a for a, b in zip(clean, canonical) if same_names and a != b
        ],
    }
    return [
        finding
        for problem, names in problems.items()
        for finding in _header_findings(problem, names, line)
    ]


def _header_findings(problem: str, names: Sequence[str], line: int) -> list[Finding]:
    advice = 'begin with the header of the annotations: image_id, image_category, all keypoints'
    example = Example(line, detail=', '.join(map(repr, names)))
    return Finding(ERROR, 'columns', problem, advice, 'columns').at(len(names), [example])


def _check_lengths(rows: list[tuple[list[str], int]], width: int) -> list[Finding]:
    examples = [
        Example(line, row[0], f'{len(row)} fields') for row, line in rows if len(row) != width
    ]
    problem = f'rows without {width} fields, not looked at any further'
    advice = f'write {width} fields in every row: id, category and a cell for each keypoint'
    return Finding(ERROR, 'columns', problem, advice).at(len(examples), examples)
