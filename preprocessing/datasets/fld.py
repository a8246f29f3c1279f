"""The landmark benchmarks of DeepFashion, FLD and DeepFashion-C (Liu et al. 2016).

    DATA/Anno/list_landmarks.txt   DATA/Anno/list_bbox.txt   DATA/Eval/list_eval_partition.txt
    DATA/img/img_00000001.jpg

Without the partition all pictures are for training and validation, without the list of boxes there
are none. DeepFashion-C has its lists in Anno_coarse. Lists are columns between blanks, below a line
with the number of rows and one with the names of the columns.

Visibility: 0 visible, 1 occluded, 2 cut off, without a place.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Sequence

import numpy as np

from config import UserError
from preprocessing.datasets import items
from preprocessing.datasets.items import Item
from preprocessing.datasets.registry import DATASETS, DatasetSpec, Source, Split
from preprocessing.files import exists, read_regular
from preprocessing.json_input import MAX_FILE_SIZE, Node
from preprocessing.schema import PICTURE_SIZE, KeypointSchema, named_pairs

_UPPER = ('left_collar', 'right_collar', 'left_sleeve', 'right_sleeve')
_WAIST = ('left_waistline', 'right_waistline')
_HEM = ('left_hem', 'right_hem')
_CATEGORIES = {
    'upper': (*_UPPER, *_HEM),
    'lower': (*_WAIST, *_HEM),
    'full': (*_UPPER, *_WAIST, *_HEM),
}
_BY_TYPE = dict(zip(('1', '2', '3'), _CATEGORIES))

SCHEMA = KeypointSchema(
    name='fld',
    keypoints=_CATEGORIES['full'],
    categories=_CATEGORIES,
    # The papers divide x by the width and y by the height; one length for both is next to it.
    normalizers=dict.fromkeys(_CATEGORIES, PICTURE_SIZE),
    swaps=named_pairs(_CATEGORIES['full']),
    skeleton=(
        ('left_collar', 'right_collar', 'right_sleeve'),
        ('left_collar', 'left_sleeve'),
        ('left_collar', 'left_waistline', 'left_hem', 'right_hem', 'right_waistline'),
        ('right_collar', 'right_waistline', 'left_waistline'),
    ),
)
_ANNOTATIONS = ('Anno', 'Anno_coarse')
_PARTITION = 'Eval/list_eval_partition.txt'
_PARTS = ('train', 'val', 'test')
_VISIBILITY = {'0': 1, '1': 0, '2': -1}
_NUMBER = re.compile(r'-?\d{1,5}(\.\d{1,6})?')


def find_splits(data_dir: str, allow_links: Sequence[str] = ()) -> list[Split]:
    """Return the splits of the partition.

    Raises:
        UserError: There is no list of landmarks, or a line is wrong; names file and line.
    """
    lists = [f'{directory}/list_landmarks.txt' for directory in _ANNOTATIONS]
    path = _first(data_dir, lists)
    if path is None:
        raise UserError(f'{data_dir} holds none of {", ".join(lists)}')
    directory = posixpath.dirname(path)
    boxes = _by_name(_first(directory, ['list_bbox.txt']), 5)
    partition = _by_name(_first(data_dir, [_PARTITION]), 2)
    of_split: dict[str, list[Item]] = {}
    source = Source(data_dir, allow_links=tuple(allow_links))
    for place, fields in _rows(path):
        name = items.safe_name(Node(fields[0], place))
        split = partition[name][1][1] if name in partition else 'train'
        if partition and (name not in partition or split not in _PARTS):
            raise UserError(f'{place}: {name} is in none of {", ".join(_PARTS)} of {_PARTITION}')
        of_split.setdefault(split, []).append(_item(place, fields, name, boxes, source))
    if not of_split:
        raise UserError(f'{path}: no rows below the header')
    return [items.split_of_items(n, [path], found, SCHEMA, 0.5) for n, found in of_split.items()]


def _first(directory: str, names: list[str]) -> str | None:
    paths = (posixpath.join(directory, name) for name in names)
    return next(filter(exists, paths), None)


def _rows(path: str) -> Iterator[tuple[str, list[str]]]:
    """Yield 'FILE, line N' and the fields of the lines below the two of the header."""
    try:
        lines = read_regular(path, MAX_FILE_SIZE).decode('utf-8-sig').splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f'{path} cannot be read: {error}') from error
    if len(lines) < 2 or not re.fullmatch(r'[0-9]{1,9}', lines[0].strip()):
        raise UserError(f'{path}: the first line must be the number of pictures')
    rows = [(f'{path}, line {n}', line.split()) for n, line in enumerate(lines[2:], 3)]
    rows = [row for row in rows if row[1]]
    if len(rows) != int(lines[0]):
        raise UserError(f'{path}: {len(rows)} rows, but {lines[0].strip()} by its first line')
    yield from rows


def _by_name(path: str | None, count: int) -> dict[str, tuple[str, list[str]]]:
    """Return picture -> its row in a list of `count` columns; none without the list."""
    found: dict[str, tuple[str, list[str]]] = {}
    for place, fields in _rows(path) if path else ():
        if len(fields) != count or fields[0] in found:
            problem = f'{len(fields)} fields, not {count}' if fields[0] not in found else 'repeated'
            raise UserError(f'{place}: {fields[0]}: {problem}')
        found[fields[0]] = place, fields
    return found


def _item(place: str, fields: list[str], name: str, boxes, source: Source) -> Item:
    if len(fields) < 3 or fields[1] not in _BY_TYPE:
        raise UserError(f'{place}: clothes_type must be 1, 2 or 3')
    category = _BY_TYPE[fields[1]]
    names = _CATEGORIES[category]
    values = fields[3:]
    if len(values) != 3 * len(names):
        raise UserError(f'{place}: {len(values)} fields of landmarks, not {3 * len(names)}')
    if not set(values[::3]) <= _VISIBILITY.keys():
        raise UserError(f'{place}: a visibility is not 0, 1 or 2')
    visibility = [_VISIBILITY[value] for value in values[::3]]
    x, y = (_numbers(place, values[start::3]) for start in (1, 2))
    points = np.array([x, y, visibility], np.float64).T
    box = fault = None
    if name in boxes:
        box_place, box_fields = boxes[name]
        box, fault = items.checked_box(_numbers(box_place, box_fields[1:]))
    path = items.find_picture(Node(name, place), name, [source.data_dir], source)
    return Item(name, path, '0', category, names, points, box, None, fault)


def _numbers(place: str, fields: list[str]) -> list[float]:
    """Return numbers that may be padded with zeros, such as 072."""
    for field in fields:
        if not _NUMBER.fullmatch(field):
            raise UserError(f'{place}: {field[:20]!r} must be a number of at most five digits')
    return [float(field) for field in fields]


DATASETS.register('fld')(DatasetSpec(SCHEMA, find_splits))
