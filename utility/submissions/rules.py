"""The rules of a submission, told of every place that breaks them.

They are those of submissions.check, and stricter about the text: every picture of the split once,
`x_y_1` in integers and inside the picture for the points of its category, `-1_-1_-1` for all
others. The rows may come in any order.
"""

from __future__ import annotations

import math
import posixpath
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from preprocessing.schema import KeypointSchema
from preprocessing.tables import ABSENT_INDEX, MAX_COORDINATE, category_points
from utility.submissions.findings import ERROR, WARNING, Example, Finding
from utility.submissions.raw_submission import RawSubmission

# What a cell can be; the last two are no point.
_INTEGERS, _NUMBERS, _NOT_FINITE, _UNREADABLE = range(4)
_PLAIN_CELL = re.compile(r'(-?[0-9]+_){2}-?[0-9]+', re.ASCII)
_ABSENT_CELL = '_'.join([str(ABSENT_INDEX)] * 3)
_ABSOLUTE = re.compile(r'[/\\~]|[A-Za-z]:|[a-z][a-z0-9+.-]*://')
_LIKE_THE_LIST = 'write ids as in the list of test pictures, such as Images/skirt/0123abcd.jpg'
_TAKE_CATEGORY = 'take the category from the list of test pictures'
_PREDICT = 'predict all of them: the challenge scores one left out as a prediction at (-1, -1)'


class Split(NamedTuple):
    """The pictures that a submission must predict.

    Attributes:
        image_ids: str objects [N].
        categories: str [N].
        image_sizes: int [N, 2], (height, width), px.
        rejected_ids: Pictures of any split that no record could be made of.
        num_rejected: How many of them are of this split.
    """

    image_ids: np.ndarray
    categories: np.ndarray
    image_sizes: np.ndarray
    rejected_ids: frozenset[str] = frozenset()
    num_rejected: int = 0

    def sizes_of(self, image_ids: Sequence[str]) -> np.ndarray:
        """Return float64 [M, 2], (height, width), px; NaN where a picture is not of the split."""
        size = dict(zip(self.image_ids, self.image_sizes.tolist()))
        unknown = (np.nan, np.nan)
        return np.array([size.get(i, unknown) for i in image_ids], np.float64).reshape(-1, 2)


class Cells(NamedTuple):
    """The cells of N pictures, all of known categories.

    Attributes:
        values: float64 [N, K, 3], x, y and visibility; NaN where they cannot be read.
        kinds: int8 [N, K], how well they can be read.
        in_category: bool [N, K], the points that the picture's category has, as far as there are
            columns.
        present: bool [N, K], those of them that are predicted, wherever.
    """

    values: np.ndarray
    kinds: np.ndarray
    in_category: np.ndarray
    present: np.ndarray


def check_ids(raw: RawSubmission, schema: KeypointSchema) -> list[Finding]:
    """Return what is wrong with ids and categories by themselves."""
    ids = raw.image_ids.tolist()
    bare = [image_id.strip() for image_id in ids]
    folders = [re.split(r'[/\\]', image_id)[:-1] for image_id in bare]
    problems = {
        'empty ids': [not image_id for image_id in bare],
        'ids with spaces around them': [a != b for a, b in zip(ids, bare)],
        'absolute paths as ids': [bool(_ABSOLUTE.match(image_id)) for image_id in bare],
        'backslashes in ids': ['\\' in image_id for image_id in bare],
        'ids with . or .. for a folder': [not {'.', '..'}.isdisjoint(path) for path in folders],
    }
    findings = []
    for problem, mask in problems.items():
        findings += _at_rows(Finding(ERROR, 'ids', problem, _LIKE_THE_LIST), raw, mask)
    categories = raw.categories.tolist()
    unknown = [category not in schema.categories for category in categories]
    advice = f'write one of: {", ".join(schema.categories)}'
    finding = Finding(ERROR, 'ids', 'unknown categories, not looked at any further', advice)
    findings += _at_rows(finding, raw, unknown, categories)
    named = [next((f for f in path if f in schema.categories), None) for path in folders]
    differs = [f is not None and f != c for f, c in zip(named, categories)]
    finding = Finding(ERROR, 'ids', 'the folder in the id is of another category', _TAKE_CATEGORY)
    return findings + _at_rows(finding, raw, differs, categories) + _check_repeated(raw)


def _check_repeated(raw: RawSubmission) -> list[Finding]:
    first_rows: dict[str, int] = {}
    earlier = np.array([first_rows.setdefault(i, row) for row, i in enumerate(raw.image_ids)])
    repeated = earlier != np.arange(len(earlier))
    rows = list(zip(raw.categories, *raw.cells.values()))
    details = [
        f'{"the same" if row == rows[e] else "other values than"} in line {raw.lines[e]}'
        for row, e in zip(rows, earlier)
    ]
    finding = Finding(ERROR, 'ids', 'pictures are there more than once', 'keep one row of each')
    return _at_rows(finding, raw, repeated, details)


def check_split(raw: RawSubmission, split: Split) -> list[Finding]:
    """Return which pictures are missing or do not belong, and whose category differs."""
    category = dict(zip(split.image_ids, split.categories))
    submitted_ids = set(raw.image_ids)
    missing = [image_id for image_id in split.image_ids if image_id not in submitted_ids]
    advice = 'predict every picture of the split'
    finding = Finding(ERROR, 'ids', 'pictures of the split are missing', advice, 'pictures')
    findings = finding.at(len(missing), (Example(0, image_id) for image_id in missing))
    unknown = [i not in category and i not in split.rejected_ids for i in raw.image_ids]
    by_name = {posixpath.basename(image_id): image_id for image_id in missing}
    similar_ids = [by_name.get(re.split(r'[/\\]', i.strip())[-1]) for i in raw.image_ids]
    finding = Finding(ERROR, 'ids', 'ids that are not of the split', _LIKE_THE_LIST)
    details = [f'is it {image_id}?' if image_id else '' for image_id in similar_ids]
    findings += _at_rows(finding, raw, unknown, details)
    expected = [category.get(i, c) for i, c in zip(raw.image_ids, raw.categories)]
    differs = [a != b for a, b in zip(expected, raw.categories)]
    details = [f'{c}, but {e} in the split' for c, e in zip(raw.categories, expected)]
    finding = Finding(ERROR, 'ids', 'another category than in the split', _TAKE_CATEGORY)
    findings += _at_rows(finding, raw, differs, details)
    lost = split.num_rejected - len(submitted_ids & split.rejected_ids)
    problem = 'pictures of the split are in no record, and the challenge still expects them'
    advice = (
        'see rejected.csv of the records; give them rows, such as the points of another picture'
    )
    return findings + Finding(WARNING, 'ids', problem, advice, 'pictures').at(max(lost, 0))


def read_cells(raw: RawSubmission, schema: KeypointSchema) -> Cells:
    """Read the cells of pictures of known categories; keypoints without a column are NaN."""
    shape = [len(raw.lines), schema.num_keypoints]
    values, kinds = np.full([*shape, 3], np.nan), np.zeros(shape, np.int8)
    for k, name in enumerate(schema.keypoints):
        # Cells repeat so often that each text is read once.
        rank = {text: i for i, text in enumerate(dict.fromkeys(raw.cells.get(name, ())))}
        if rank:
            parsed = np.array([_parse_cell(text) for text in rank])
            column = parsed[[rank[text] for text in raw.cells[name]]]
            values[:, k], kinds[:, k] = column[:, :3], column[:, 3]
    in_category = category_points(raw.categories, schema)
    in_category &= [name in raw.cells for name in schema.keypoints]
    absent = (values[..., :2] == ABSENT_INDEX).all(-1) | (values[..., 2] == -1)
    return Cells(values, kinds, in_category, in_category & (kinds <= _NUMBERS) & ~absent)


def _parse_cell(text: str) -> tuple[float, float, float, int]:
    """Return x, y, visibility, and how well they can be read."""
    try:
        x, y, visibility = map(float, text.split('_'))
    except ValueError:
        return np.nan, np.nan, np.nan, _UNREADABLE
    if not all(map(math.isfinite, (x, y, visibility))):
        return np.nan, np.nan, np.nan, _NOT_FINITE
    return x, y, visibility, _INTEGERS if _PLAIN_CELL.fullmatch(text) else _NUMBERS


def check_cells(
    raw: RawSubmission, schema: KeypointSchema, cells: Cells, sizes: np.ndarray
) -> list[Finding]:
    """Return what is wrong with points one by one.

    Args:
        raw: Pictures of known categories.
        cells: Of read_cells.
        sizes: float64 [N, 2], (height, width), px; NaN where unknown.
    """
    x, y, visibility = np.moveaxis(cells.values, -1, 0)
    readable, in_category, present = cells.kinds <= _NUMBERS, cells.in_category, cells.present
    has_column = np.isin(np.array(schema.keypoints), list(raw.cells))
    foreign = ~in_category & readable & has_column
    negative = (x < 0) | (y < 0)
    beyond = (np.abs(cells.values[..., :2]) > MAX_COORDINATE).any(-1)
    outside = ~negative & ~beyond & ((x >= sizes[:, 1:]) | (y >= sizes[:, :1]))
    odd = foreign & ~np.isin(visibility, (-1, 0, 1))
    integers = 'write integers: the index of the pixel, the floor of continuous px'
    clip = 'move points outside to the nearest pixel of the picture'
    problems = [
        (cells.kinds == _NOT_FINITE, 'NaN or infinite points', 'find out where it comes from'),
        ((cells.kinds == _UNREADABLE) | odd, 'cells that are not x_y_v', 'write x_y_1'),
        ((cells.kinds == _NUMBERS) & has_column, 'points that are not integers', integers),
        (
            in_category & readable & ~present,
            'points of the category are marked as absent',
            _PREDICT,
        ),
        (present & (visibility != 1), 'points with a visibility other than 1', 'write x_y_1'),
        (present & negative, 'points left of or above the picture', clip),
        (readable & beyond, f'points beyond {MAX_COORDINATE} px', clip),
        (present & outside, 'points right of or below the picture', clip),
    ]
    findings = []
    for mask, problem, advice in problems:
        check = 'marks' if 'absent' in problem or 'visibility' in problem else 'ranges'
        findings += _at_cells(Finding(ERROR, check, problem, advice, 'points'), raw, schema, mask)
    filled = foreign & (cells.values != ABSENT_INDEX).any(-1) & ~odd
    problem, advice = 'points that the category does not have', f'write {_ABSENT_CELL} there'
    finding = Finding(WARNING, 'marks', problem, advice, 'points')
    return findings + _at_cells(finding, raw, schema, filled)


def _at_rows(
    finding: Finding, raw: RawSubmission, mask: Sequence[bool], details: Sequence[str] | None = None
) -> list[Finding]:
    """Return the finding about the rows that are True in mask [N]; details [N] are told of them."""
    rows = np.flatnonzero(mask)
    details = details or [''] * len(raw.lines)
    return finding.at(
        len(rows), (Example(raw.lines[r], raw.image_ids[r], details[r]) for r in rows)
    )


def _at_cells(
    finding: Finding, raw: RawSubmission, schema: KeypointSchema, mask: np.ndarray
) -> list[Finding]:
    """Return the finding about the cells that are True in mask [N, K]."""
    places = ((row, schema.keypoints[k]) for row, k in np.argwhere(mask))
    examples = (
        Example(raw.lines[row], raw.image_ids[row], f'{name} is {raw.cells[name][row]}')
        for row, name in places
    )
    return finding.at(np.count_nonzero(mask), examples)
