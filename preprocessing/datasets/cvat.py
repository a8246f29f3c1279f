"""CVAT for images 1.1: annotations.xml, with skeletons or with single points.

    DATA/annotations.xml    DATA/images/1.jpg, or beside the XML

Each XML file in DATA is a split by its name; a file annotations.xml in a directory of DATA is one
by the name of the directory. A skeleton is a garment: its label is the category, the labels of its
points are the keypoints. A box with the label of a skeleton and the same group_id, or the only one
around all its points, is its box. Without skeletons each `points` element is one keypoint, or
several without names, which are refused; a box around them, or a group_id, tells the garments apart
as in labelme.

outside="1": not there. occluded="1": hidden.
"""

from __future__ import annotations

import posixpath
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from config import DEFAULT_RECORDS_SUBDIR, UserError
from preprocessing.datasets import items
from preprocessing.datasets.items import Item
from preprocessing.datasets.registry import DATASETS, FormatSpec, Source, Split
from preprocessing.files import read_regular
from preprocessing.json_input import MAX_FILE_SIZE, Node
from preprocessing.schema import KeypointSchema
from preprocessing.schema_files import checked_category

_IMAGE_DIRECTORIES = ('images', 'Images')
_FORBIDDEN = (b'<!DOCTYPE', b'<!ENTITY')  # nothing that CVAT writes; they can expand without end


class _Garment(NamedTuple):
    category: str
    group: str
    points: dict[str, tuple[float, float, int]]
    place: str


class _Box(NamedTuple):
    category: str
    group: str
    corners: tuple[float, float, float, float]


def read(source: Source) -> tuple[KeypointSchema, list[Split]]:
    """Return the schema and the splits below source.data_dir.

    Raises:
        UserError: There is no XML file, or one is wrong; names file, picture and element.
    """
    data_dir = source.data_dir
    paths = items.walked(data_dir, '.xml', without=(DEFAULT_RECORDS_SUBDIR,))
    if not paths:
        raise UserError(f'{data_dir} holds no XML file')
    found: dict[str, tuple[str, list[Item]]] = {}
    for path in paths:
        name = _split_name(path, data_dir)
        if name in found:
            raise UserError(f'{path} and {found[name][0]} are both split {name!r}; rename one')
        found[name] = path, list(_read_file(path, source))
    contents = [(name, [path], of_split) for name, (path, of_split) in found.items()]
    return items.opened('cvat', contents, source)


def _split_name(path: str, data_dir: str) -> str:
    directory, name = posixpath.split(posixpath.relpath(path, data_dir))
    stem = name[: -len('.xml')]
    return directory.split('/')[0] if directory and stem == 'annotations' else stem


def _read_file(path: str, source: Source) -> Iterator[Item]:
    data_dir, schema = source.data_dir, source.schema
    directory = posixpath.dirname(path)
    places = [posixpath.join(directory, name) for name in _IMAGE_DIRECTORIES] + [directory]
    places += [posixpath.join(data_dir, name) for name in _IMAGE_DIRECTORIES]
    root = _parsed(path)
    if root.tag != 'annotations':
        raise UserError(f'{path}: the outermost element is {root.tag!r}, not annotations')
    if root.find('track') is not None:
        raise UserError(f'{path}: holds tracks of a video; export it as CVAT for images 1.1')
    for image in root.iter('image'):
        place = f'{path}: image {image.get("id", "?")}'
        name = items.safe_name(Node(image.get('name', ''), f'{place}, name'))
        size = tuple(int(_number(image, side, place)) for side in ('height', 'width'))
        image_path = items.find_picture(Node(name, place), name, places, source)
        boxes = [_box(element, place) for element in image.iter('box')]
        skeletons = [_skeleton(element, place) for element in image.iter('skeleton')]
        garments = skeletons or _flat(image, place, boxes, schema)
        for number, garment in enumerate(garments):
            if schema is not None:
                node = Node(garment.points, garment.place)
                items.check_names(node, garment.category, garment.points, schema)
            box = _box_of(garment, boxes)
            described = garment.category, garment.points, box and box.corners, size
            yield items.item_of((name, image_path), str(number), *described)


def _parsed(path: str) -> ET.Element:
    try:
        data = read_regular(path, MAX_FILE_SIZE)
    except OSError as error:
        raise UserError(f'{path} cannot be read: {error.strerror or error}') from error
    for word in _FORBIDDEN:
        if word in data:
            raise UserError(f'{path}: holds {word.decode()}, which CVAT does not write')
    try:
        return ET.fromstring(data)
    # LookupError: of an encoding that there is not.
    except (ET.ParseError, RecursionError, LookupError, ValueError) as error:
        raise UserError(f'{path}: no XML: {error}') from error


def _number(element: ET.Element, attribute: str, place: str) -> float:
    text = element.get(attribute)
    try:
        value = float(text)
    except (TypeError, ValueError):
        value = float('nan')
    node = Node(value, f'{place}, {element.tag} {attribute}')
    if not abs(value) < 1e9:
        raise node.error(f'{text!r} must be a number')
    items.check_coordinates(node, [value])
    return value


def _box(element: ET.Element, place: str) -> _Box:
    corners = tuple(_number(element, name, place) for name in ('xtl', 'ytl', 'xbr', 'ybr'))
    return _Box(element.get('label', ''), element.get('group_id', ''), corners)


def _point(element: ET.Element, place: str) -> tuple[str, tuple[float, float, int]]:
    label = element.get('label', '')
    node = Node(element.get('points', ''), f'{place}, points {label!r}')
    try:
        (x, y), *others = (tuple(map(float, pair.split(','))) for pair in node.value.split(';'))
    except ValueError:
        raise node.error(f'{node.value[:40]!r} must be x,y') from None
    if others or not label:
        raise node.error('must be one point with a label; several in one element have no names')
    if not (abs(x) < 1e9 and abs(y) < 1e9):
        raise node.error(f'{node.value[:40]!r} must be finite numbers')
    items.check_coordinates(node, (x, y))
    if element.get('outside') == '1':
        return label, (-1.0, -1.0, -1)
    return label, (x, y, 0 if element.get('occluded') == '1' else 1)


def _collect(elements: Iterable[ET.Element], place: str) -> dict[str, tuple[float, float, int]]:
    points: dict[str, tuple[float, float, int]] = {}
    for element in elements:
        label, point = _point(element, place)
        if label in points:
            raise UserError(f'{place}: {label!r} is there twice in one garment')
        points[label] = point
    return points


def _skeleton(element: ET.Element, place: str) -> _Garment:
    place = f'{place}, skeleton {element.get("label", "")!r}'
    category = checked_category(Node(element.get('label', ''), place))
    group = element.get('group_id', '')
    return _Garment(category, group, _collect(element.iter('points'), place), place)


def _flat(
    image: ET.Element, place: str, boxes: list[_Box], schema: KeypointSchema | None
) -> list[_Garment]:
    """Return garments of an old task: points by group_id, the category by the box of the group."""
    by_group: dict[str, list[ET.Element]] = {}
    for element in image.findall('points'):
        by_group.setdefault(element.get('group_id', ''), []).append(element)
    garments = []
    for group, elements in by_group.items():
        of_group = [box.category for box in boxes if box.group == group] or [
            box.category for box in boxes if len(boxes) == len(by_group) == 1
        ]
        if of_group:
            category = checked_category(Node(of_group[0], f'{place}, box label'))
        else:
            category = items.only_category(Node(group, f'{place}, group_id {group!r}'), schema)
        garments.append(_Garment(category, group, _collect(elements, place), place))
    return garments


def _box_of(garment: _Garment, boxes: list[_Box]) -> _Box | None:
    """Return the box of the group; or the only one of the category around all points; else none."""
    same = [box for box in boxes if box.group and box.group == garment.group]
    if same:
        return same[0]
    there = np.array([p for p in garment.points.values() if p[2] >= 0], np.float64).reshape(-1, 3)
    around = [
        box
        for box in boxes
        if box.category == garment.category
        and len(there)
        and (there[:, :2] >= box.corners[:2]).all()
        and (there[:, :2] <= box.corners[2:]).all()
    ]
    return around[0] if len(around) == 1 else None


DATASETS.register('cvat')(FormatSpec(read))
