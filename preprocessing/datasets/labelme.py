"""labelme: a JSON file beside each picture, with its keypoints as named points.

    DATA/train/1.jpg    DATA/train/1.json    DATA/val/...    or all in DATA

The label of a point is the name of a keypoint. Garments of one picture are told apart by group_id;
a rectangle with the same group_id is the box, and its label the category. Points without a group_id
belong to the only rectangle, or to the only one that they lie in. Without rectangles the category
is the only one of the schema file, or 'garment'.

labelme has no visibility. A point is hidden if its flag `occluded` is set, if its description is
'occluded' or 'hidden', or if its label ends so: 'cuff_left_in (occluded)'.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Sequence

from absl import logging

from config import DEFAULT_RECORDS_SUBDIR, UserError
from preprocessing.conversion import decoding
from preprocessing.datasets import items
from preprocessing.datasets.items import Garment, Item
from preprocessing.datasets.registry import DATASETS, FormatSpec, Source, Split
from preprocessing.files import exists
from preprocessing.json_input import Node, read_json
from preprocessing.schema import KeypointSchema


def read(source: Source) -> tuple[KeypointSchema, list[Split]]:
    """Return the schema and the splits: of each directory of source.data_dir one, or one.

    Raises:
        UserError: There is no file of labelme, or one is wrong; names file, item and field.
    """
    data_dir = source.data_dir
    paths = items.walked(data_dir, '.json', without=(DEFAULT_RECORDS_SUBDIR,))
    found = {path: _read_file(path, source) for path in paths}
    files = {path: of_file for path, of_file in found.items() if of_file is not None}
    if not files:
        raise UserError(f'{data_dir} holds no JSON file of labelme (none has shapes)')
    if len(files) < len(found):
        logging.warning('%d JSON files are not of labelme; left out', len(found) - len(files))
    contents: dict[str, tuple[str, list[str], list[Item]]] = {}
    for path, of_file in files.items():
        name = _split_name(path, data_dir)
        _, split_files, split_items = contents.setdefault(name, (name, [], []))
        split_files.append(path)
        split_items += of_file
    return items.opened('labelme', list(contents.values()), source)


def _split_name(path: str, data_dir: str) -> str:
    """Return the directory of the data that a file is in, if it is named after a split."""
    first, *rest = posixpath.relpath(path, data_dir).split('/')
    return first if rest and first.startswith(('train', 'val', 'test')) else 'labelled'


def _read_file(path: str, source: Source) -> list[Item] | None:
    """Return the garments of a file; None where it is not of labelme."""
    node = read_json(path)
    if not (isinstance(node.value, dict) and 'shapes' in node.value):
        return None
    size = None
    if node.has('imageHeight') and node.has('imageWidth'):
        size = node.field('imageHeight').of(int), node.field('imageWidth').of(int)
    picture = _picture(node, path, source)
    garments = _read_garments(node.field('shapes'), source.schema)
    return [items.item_of(picture, *garment, size) for garment in garments]


def _picture(node: Node, path: str, source: Source) -> tuple[str, str]:
    """Return the name below the data of the picture of a file, and its path.

    It is where imagePath says, relative to the file; or beside the file, by the same name, or with
    the name of the file.
    """
    data_dir = source.data_dir
    directory = posixpath.dirname(posixpath.relpath(path, data_dir))
    text = node.field('imagePath')
    stem = posixpath.basename(path).rsplit('.', 1)[0]
    last = text.of(str).replace('\\', '/').rsplit('/', 1)[-1]
    beside = [last, *(stem + suffix for suffix in decoding.SUFFIXES)]
    names = [posixpath.normpath(posixpath.join(directory, name)) for name in beside if name]
    try:
        names.insert(0, items.safe_name(text, directory))
    except UserError:
        # Of another machine: the picture may be beside the file all the same.
        if not any(exists(posixpath.join(data_dir, name)) for name in names):
            raise
    there = (name for name in names if exists(posixpath.join(data_dir, name)))
    name = next(there, names[0])
    return name, items.find_picture(text, name, [data_dir], source)


def _read_garments(node: Node, schema: KeypointSchema | None) -> list[Garment]:
    shapes: dict[str, list[tuple[Node, str]]] = {'point': [], 'rectangle': []}
    num_others = 0
    for shape in node.items():
        kind = shape.field('shape_type', 'polygon').of(str)
        if kind in shapes:
            group = shape.field('group_id', '').value
            if type(group) not in (int, str):
                raise shape.field('group_id').error(f'{group!r} must be a whole number')
            shapes[kind].append((shape, str(group)))
        else:
            num_others += 1
    if num_others:
        logging.info('%s: %d shapes are neither points nor rectangles', node.place, num_others)
    boxes = _boxes(shapes['rectangle'])
    garments = {
        group: Garment(group, items.category_of(shape.field('label'), schema), {}, box)
        for group, (shape, box) in boxes.items()
    }
    for shape, group in shapes['point']:
        point = _read_points(shape, 1)[0]
        corners = {key: box for key, (_, box) in boxes.items()}
        owner = group or items.owner(shape, point, corners)
        if owner not in garments:
            category = items.only_category(shape, schema)
            garments[owner] = Garment(owner, category, {})
        _add_point(garments[owner], shape, point, schema)
    return list(garments.values())


def _boxes(shapes: Iterable[tuple[Node, str]]) -> dict[str, tuple[Node, list[float]]]:
    """Return group (or number) -> its rectangle and (x_min, y_min, x_max, y_max)."""
    boxes: dict[str, tuple[Node, list[float]]] = {}
    for number, (shape, group) in enumerate(shapes):
        key = group or f'box{number}'
        if key in boxes:
            raise shape.field('group_id').error(f'{group} is that of an earlier rectangle, too')
        (x1, y1), (x2, y2) = _read_points(shape, 2)
        boxes[key] = shape, [min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)]
    return boxes


def _read_points(shape: Node, count: int) -> list[tuple[float, float]]:
    node = shape.field('points')
    points = [tuple(point.numbers(2)) for point in node.items()]
    if len(points) != count:
        kind = shape.field('shape_type').value
        raise node.error(f'a {kind} has {count}, not {len(points)} points')
    items.check_coordinates(node, (value for point in points for value in point))
    return points


def _add_point(
    garment: Garment, shape: Node, point: Sequence[float], schema: KeypointSchema | None
) -> None:
    label = shape.field('label')
    name, hidden = items.visible_name(label, schema)
    flags = shape.field('flags', {}).of(dict)
    words = re.sub(r'\W+', '', shape.field('description', '').of(str)).lower()
    hidden = hidden or flags.get('occluded') is True or words in items.HIDDEN_WORDS
    garment.add(label, name, point, hidden, schema)


DATASETS.register('labelme')(FormatSpec(read))
