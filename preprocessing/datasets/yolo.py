"""YOLO pose: a text file of each picture, and a data.yaml with the names.

    DATA/data.yaml    DATA/images/train/1.jpg    DATA/labels/train/1.txt

A line of a text file is a garment: its class, the box as center and size, then x, y and, if
kpt_shape is [K, 3], the visibility of each point; all as shares of the picture's width and height.
All classes have the same K points in data.yaml, named by kpt_names, or node_names as SLEAP writes
it, paired by flip_idx. With a schema file the points of a class are those of its category there: by
their names, if all names of the schema are there, or else the first ones, in the order of the
schema. A split is a directory of pictures, or a text file with their paths.

Visibility: 0 not labelled, 1 hidden, 2 visible. Of [K, 2] a point at (0, 0) is not labelled.
"""

from __future__ import annotations

import io
import posixpath
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image

from config import UserError
from preprocessing.conversion.decoding import FORMATS, SUFFIXES, orientation
from preprocessing.conversion.decoding import MAX_FILE_SIZE as MAX_IMAGE_SIZE
from preprocessing.datasets import items
from preprocessing.datasets.items import Item
from preprocessing.datasets.registry import DATASETS, FormatSpec, Source, Split
from preprocessing.files import is_folder, read_regular
from preprocessing.json_input import MAX_FILE_SIZE, Node, read_json_or_yaml
from preprocessing.schema import KeypointSchema
from preprocessing.schema_files import checked_category

_SPLITS = ('train', 'val', 'test')
_LIST_SUFFIX = '.txt'
_MOST_POINTS = 2000
_MAX_LABELS_SIZE = 16 << 20  # bytes; a line of 294 points has some 10 kB
_LARGEST_SHARE = 10.0  # of a picture; what lies farther out is no coordinate of this format


class _Layout(NamedTuple):
    """What data.yaml says.

    Attributes:
        classes: Number -> category.
        points: Number -> its keypoints.
        count: How many points a line has.
        dimensions: How many numbers a point has.
        places: Number -> which of the points of a line its keypoints are.
    """

    classes: dict[int, str]
    points: dict[int, tuple[str, ...]]
    count: int
    dimensions: int
    places: dict[int, list[int]]


def read(source: Source) -> tuple[KeypointSchema, list[Split]]:
    """Return the schema and the splits of source.data_dir.

    Raises:
        UserError: data.yaml or a line of a text file is wrong; names file, item and field.
    """
    node = _data_yaml(source.data_dir)
    layout = _layout(node, source.schema)
    schema = source.schema or _schema(node, layout)
    splits = []
    for split in _SPLITS:
        if node.has(split):
            paths = _pictures(node.field(split), node, source.data_dir)
            found = [item for path in paths for item in _read_items(path, source, layout)]
            if not found and split == 'test' and len(layout.points) == 1:
                found = [_to_predict(path, source, layout) for path in paths]
            if not found:
                raise node.field(split).error('none of its pictures has labels')
            splits.append(items.split_of_items(split, [node.place], found, schema, 0.0))
    if not splits:
        raise node.error(f'has none of {", ".join(_SPLITS)}')
    return schema, splits


def _data_yaml(data_dir: str) -> Node:
    paths = items.listed(data_dir, '.yaml') + items.listed(data_dir, '.yml')
    paths = [path for path in paths if not posixpath.basename(path).startswith('schema')]
    if len(paths) != 1:
        raise UserError(f'{data_dir}: {len(paths)} YAML files; there must be one, data.yaml')
    return read_json_or_yaml(paths[0])


def _layout(node: Node, schema: KeypointSchema | None) -> _Layout:
    count, dimensions = (n.of(int) for n in _two(node.field('kpt_shape')))
    if not 1 <= count <= _MOST_POINTS or dimensions not in (2, 3):
        raise node.field('kpt_shape').error(f'[{count}, {dimensions}] must be [K, 2] or [K, 3]')
    classes = _classes(node.field('names'))
    points, places = {}, {}
    for number, category in classes.items():
        if schema is None:
            points[number] = _point_names(node, number, count)
            places[number] = list(range(count))
            continue
        items.check_names(node.field('names'), category, (), schema)
        points[number] = schema.subset(category).keypoints
        if len(points[number]) > count:
            problem = f'{category} has {len(points[number])} points in the schema, not {count}'
            raise node.error(problem)
        there = _given_names(node, number).texts()
        is_named = len(there) == count and set(schema.keypoints) <= set(there)
        places[number] = [
            there.index(name) if is_named else k for k, name in enumerate(points[number])
        ]
    return _Layout(classes, points, count, dimensions, places)


def _two(node: Node) -> list[Node]:
    parts = list(node.items())
    if len(parts) != 2:
        raise node.error(f'{len(parts)} numbers; there must be 2')
    return parts


def _classes(node: Node) -> dict[int, str]:
    """Return number -> category; a list of names, or an object whose names are numbers."""
    if isinstance(node.value, list):
        classes = {number: checked_category(item) for number, item in enumerate(node.items())}
    else:
        classes = {}
        for key, name in node.fields():
            if not key.isdecimal():
                raise node.error(f'{key!r} must be the number of a class')
            classes[int(key)] = checked_category(name)
    if not classes or len(set(classes.values())) < len(classes):
        raise node.error('there must be classes, each with a name of its own')
    return classes


def _given_names(node: Node, number: int) -> Node:
    """Return the names of the points of a class; an empty list where there are none."""
    names = node.field('node_names' if node.has('node_names') else 'kpt_names', [])
    return names.field(str(number)) if isinstance(names.value, dict) else names


def _point_names(node: Node, number: int, count: int) -> tuple[str, ...]:
    names = _given_names(node, number)
    if not names.value:
        return tuple(f'point_{k}' for k in range(count))
    texts = names.texts()
    if len(texts) != count or len(set(texts)) < count:
        raise names.error(f'{len(texts)} names; there must be {count}, all different')
    return texts


def _schema(node: Node, layout: _Layout) -> KeypointSchema:
    categories = {layout.classes[n]: names for n, names in layout.points.items()}
    schema = items.schema_of_categories('yolo', categories)
    if not node.has('flip_idx'):
        return schema
    flips = node.field('flip_idx')
    order = [item.of(int) for item in flips.items()]
    if sorted(order) != list(range(layout.count)):
        raise flips.error(f'must have each of 0 to {layout.count - 1} once')
    wrong = [k for k, p in enumerate(order) if order[p] != k]
    if wrong:
        k = wrong[0]
        problem = f'{k} changes places with {order[k]}, but {order[k]} with {order[order[k]]}'
        raise flips.error(f'{problem}; mirroring twice must give the same points')
    pairs = {
        (names[k], names[p])
        for names in layout.points.values()
        for k, p in enumerate(order)
        if k < p
    }
    return items.with_swaps(schema, sorted(pairs), flips)


def _pictures(node: Node, root: Node, data_dir: str) -> list[str]:
    """Return the pictures of a split, below the data: of a directory or a text file."""
    base = root.field('path', '.').of(str)
    texts = [node.of(str)] if not isinstance(node.value, list) else list(node.texts())
    names: list[str] = []
    for text in texts:
        place = Node(text, node.place)
        if text.endswith(_LIST_SUFFIX):
            names += _listed_pictures(place, data_dir)
            continue
        # `path` is often that of another machine; then the directories are below the data.
        directory = items.safe_name(Node(base, '')) if items.is_safe_name(base) else ''
        below = posixpath.join(data_dir, items.safe_name(place, directory))
        if not is_folder(below):
            below = posixpath.join(data_dir, items.safe_name(place))
        if not is_folder(below):
            raise place.error(f'{below} is no directory of pictures')
        found = items.walked(below, SUFFIXES)
        names += [posixpath.relpath(path, data_dir) for path in found]
    if not names:
        raise node.error('holds no picture')
    return names


def _listed_pictures(node: Node, data_dir: str) -> list[str]:
    """Return names below the data of the pictures in a text file, a line each, relative to it."""
    list_name = items.safe_name(node)
    path = posixpath.join(data_dir, list_name)
    try:
        lines = read_regular(path, MAX_FILE_SIZE).decode('utf-8-sig').splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise node.error(f'{path} cannot be read: {error}') from error
    lines = [(n, line.strip()) for n, line in enumerate(lines, 1) if line.strip()]
    directory = posixpath.dirname(list_name)
    return [items.safe_name(Node(line, f'{path}, line {n}'), directory) for n, line in lines]


def labels_path(name: str) -> str:
    """Return images/train/1.jpg -> labels/train/1.txt, at the last directory images."""
    parts = posixpath.splitext(name)[0].split('/')
    places = [place for place, part in enumerate(parts[:-1]) if part == 'images']
    if places:
        parts[places[-1]] = 'labels'
    return '/'.join(parts) + '.txt'


def _read_items(name: str, source: Source, layout: _Layout) -> Iterator[Item]:
    path = posixpath.join(source.data_dir, labels_path(name))
    image_path = items.find_picture(Node(name, path), name, [source.data_dir], source)
    try:
        text = read_regular(path, _MAX_LABELS_SIZE).decode('utf-8-sig')
    except FileNotFoundError:
        return  # a picture of nothing
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f'{path} cannot be read: {error}') from error
    lines = [(n, line.split()) for n, line in enumerate(text.splitlines(), 1) if line.strip()]
    size = _size(image_path) if lines else None
    for number, fields in lines:
        place = f'{path}, line {number}'
        yield _item(place, str(number), fields, (name, image_path), size, layout)


def _to_predict(name: str, source: Source, layout: _Layout) -> Item:
    """Return the garment of the only class in a picture that has no labels."""
    ((number, names),) = layout.points.items()
    path = items.find_picture(Node(name, name), name, [source.data_dir], source)
    return Item(name, path, '0', layout.classes[number], names, np.full([len(names), 3], -1.0))


def _size(path: str) -> tuple[int, int] | None:
    """Return (height, width) of a picture by its header, upright; None where it is none."""
    try:
        with Image.open(io.BytesIO(read_regular(path, MAX_IMAGE_SIZE)), formats=FORMATS) as image:
            width, height = image.size
            return (width, height) if orientation(image) in (5, 6, 7, 8) else (height, width)
    except Exception:  # what is wrong with a picture is told by the check of all pictures
        return None


def _item(place: str, key: str, fields: list[str], picture, size, layout: _Layout) -> Item:
    expected = 5 + layout.count * layout.dimensions
    if len(fields) != expected:
        raise UserError(f'{place}: {len(fields)} numbers, not {expected} by kpt_shape')
    try:
        values = np.array([float(field) for field in fields])
    except ValueError as error:
        raise UserError(f'{place}: {error}') from error
    if not np.isfinite(values).all() or int(values[0]) != values[0]:
        raise UserError(f'{place}: a number is not finite, or the class is no whole number')
    number = int(values[0])
    if number not in layout.classes:
        raise UserError(f'{place}: no class has the number {number}')
    category, names = layout.classes[number], layout.points[number]
    points = values[5:].reshape(layout.count, layout.dimensions)
    if layout.dimensions == 2:
        points = np.column_stack([points, np.where((points == 0).all(1), 0, 2)])
    if not np.isin(points[:, 2], (0, 1, 2)).all():
        raise UserError(f'{place}: a visibility is not 0, 1 or 2')
    if max(np.abs(points[:, :2]).max(), np.abs(values[1:5]).max()) > _LARGEST_SHARE:
        raise UserError(f'{place}: coordinates must be shares of the width and height')
    x, y, width, height = values[1:5]
    sides = np.array((size or (1, 1))[::-1], np.float64)
    box, fault = items.checked_box(
        [*(np.array([x - width / 2, y - height / 2]) * sides),
         *(np.array([x + width / 2, y + height / 2]) * sides)]
    )  # fmt: skip
    own = points[layout.places[number]]
    pixels = np.column_stack([own[:, :2] * sides, own[:, 2] - 1])
    return Item(*picture, key, category, names, pixels, box, None, fault)


DATASETS.register('yolo')(FormatSpec(read))
