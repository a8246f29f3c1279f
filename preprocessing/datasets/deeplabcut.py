"""CSV of DeepLabCut and Lightning Pose: one row a picture, two or three columns a keypoint.

    DATA/CollectedData.csv, or DATA/labeled-data/<video>/CollectedData_<scorer>.csv

The first rows name the scorer, perhaps the individuals, the keypoints (bodyparts) and the columns
(coords: x, y, and perhaps visible or likelihood). A row begins with the path of its picture, in one
column or in three: labeled-data, video, name. An empty cell is a point that is not there.

All files together are the split 'labelled'. The category is the only one of the schema file, or
'garment'; of each individual there is a record. Coordinates are fractions of a pixel from the
corner of the picture.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from config import DEFAULT_RECORDS_SUBDIR, UserError
from preprocessing.datasets import items
from preprocessing.datasets.items import Item
from preprocessing.datasets.registry import DATASETS, FormatSpec, Source, Split
from preprocessing.files import check_regular
from preprocessing.json_input import Node
from preprocessing.schema import KeypointSchema
from preprocessing.tables import read_rows

_HEADER = ('scorer', 'individuals', 'bodyparts', 'coords')
_COORDS = ('x', 'y', 'visible', 'likelihood')
# Lightning Pose's column `visible` -> ours.
_VISIBLE = {0.0: -1, 1.0: 0, 2.0: 1}

# individual -> keypoint -> coord -> number of the column.
Columns = dict[str, dict[str, dict[str, int]]]


def read(source: Source) -> tuple[KeypointSchema, list[Split]]:
    """Return the schema and the one split below source.data_dir.

    Raises:
        UserError: There is no such CSV, or one is wrong; names file, line and column.
    """
    data_dir = source.data_dir
    paths = items.walked(data_dir, '.csv', without=(DEFAULT_RECORDS_SUBDIR,))
    for path in paths:
        check_regular(path)
    tables = [(path, *read_rows(path)) for path in paths]
    tables = [table for table in tables if table[1][0][0].strip() in _HEADER]
    if not tables:
        raise UserError(f'{data_dir} holds no CSV that begins with scorer, bodyparts and coords')
    category, names = items.DEFAULT_CATEGORY, {}
    if source.schema is not None:
        if len(source.schema.categories) > 1:
            raise UserError('a CSV of DeepLabCut has one category, but the schema has several')
        category = next(iter(source.schema.categories))
    found: list[Item] = []
    for path, rows, lines in tables:
        header = {row[0].strip(): row for row in rows[: len(_HEADER)] if row[0].strip() in _HEADER}
        columns = _columns(path, header)
        for keypoints in columns.values():
            names.update(dict.fromkeys(keypoints))
        if source.schema is not None:
            items.check_names(Node(None, path), category, names, source.schema)
        body = zip(rows[len(header) :], lines[len(header) :])
        for row, line in body:
            place = f'{path}, line {line}'
            found += _read_row(place, row, len(rows[0]), columns, path, source, category)
    schema = source.schema or items.schema_of_categories('deeplabcut', {category: list(names)})
    offset = source.point_offset or 0.0
    return schema, [items.split_of_items('labelled', paths, found, schema, offset)]


def _columns(path: str, header: Mapping[str, Sequence[str]]) -> Columns:
    for name in ('bodyparts', 'coords'):
        if name not in header:
            raise UserError(f'{path}: the header lacks the row {name!r}')
    if len({len(row) for row in header.values()}) > 1:
        raise UserError(f'{path}: the rows of the header have not the same number of fields')
    parts, coords = header['bodyparts'], header['coords']
    individuals = header.get('individuals', [''] * len(parts))
    columns: Columns = {}
    for number, (individual, part, coord) in enumerate(zip(individuals, parts, coords)):
        if coord.strip() not in _COORDS:
            continue  # those of the path
        own = columns.setdefault(individual.strip(), {}).setdefault(part.strip(), {})
        if coord.strip() in own or not part.strip():
            raise UserError(f'{path}, column {number + 1}: {part!r} {coord!r} is there twice')
        own[coord.strip()] = number
    for keypoints in columns.values():
        for name, own in keypoints.items():
            if not {'x', 'y'} <= own.keys():
                raise UserError(f'{path}: keypoint {name!r} lacks the column x or y')
    if not columns:
        raise UserError(f'{path}: no column has x or y in the row coords')
    return columns


def _read_row(
    place: str,
    row: Sequence[str],
    width: int,
    columns: Columns,
    path: str,
    source: Source,
    category: str,
) -> Iterator[Item]:
    if len(row) != width:
        raise UserError(f'{place}: {len(row)} fields, not {width}')
    first = min(n for parts in columns.values() for own in parts.values() for n in own.values())
    text = Node('/'.join(field.strip() for field in row[:first]), f'{place}, picture')
    directory = posixpath.dirname(path)
    name = items.safe_name(text)
    # A path from the project, or the name of a picture beside the CSV.
    data_dir = source.data_dir
    project = posixpath.dirname(posixpath.dirname(directory))
    places = [data_dir, directory]
    if f'{project}/'.startswith(f'{data_dir.rstrip("/")}/'):  # not above the data
        places.append(project)
    image_path = items.find_picture(text, name, places, source)
    for individual, keypoints in columns.items():
        points = np.array([_point(place, row, name, own) for name, own in keypoints.items()])
        if individual and (points[:, 2] < 0).all():
            continue  # an animal, here a garment, that is not in this picture
        key = individual or '0'
        yield Item(name, image_path, key, category, tuple(keypoints), points)


def _point(
    place: str, row: Sequence[str], name: str, columns: Mapping[str, int]
) -> tuple[float, float, int]:
    values = {}
    for coord, number in columns.items():
        cell = row[number].strip()
        try:
            values[coord] = float(cell) if cell and cell.lower() != 'nan' else None
        except ValueError:
            raise UserError(f'{place}, {name} {coord}: {cell[:40]!r} must be a number') from None
    x, y = values['x'], values['y']
    if x is None or y is None:
        return -1.0, -1.0, -1
    node = Node((x, y), f'{place}, {name}')
    if not (abs(x) < 1e300 and abs(y) < 1e300):
        raise node.error('must be finite numbers')
    items.check_coordinates(node, (x, y))
    visible = values.get('visible', 2.0)
    if visible not in _VISIBLE:
        raise node.error(f'visible is {visible}, not 0, 1 or 2')
    return x, y, _VISIBLE[visible]


DATASETS.register('deeplabcut')(FormatSpec(read))
