"""COCO keypoint JSON of any categories, as CVAT, Datumaro, SLEAP and others export it.

    DATA/annotations/person_keypoints_train2017.json    DATA/train2017/*.jpg
    DATA/annotations.json                               DATA/images/*.jpg, or beside the JSON

Each JSON file with keypoints is a split; see items.split_of_items for what it is used for. The
schema is in the categories of the files: names, skeleton, and pairs by 'left' and 'right' in the
names. A schema file may tell more; then all names must be in it.

Visibility: 0 not labelled, 1 labelled but hidden, 2 visible. Boxes are x, y, width, height.
Coordinates that are all whole numbers are taken for indices of pixels, unless the file says
otherwise (info.point_offset, which preprocessing.writers writes).
"""

from __future__ import annotations

import dataclasses
import posixpath
import re
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from absl import logging

from config import UserError
from preprocessing.datasets import items
from preprocessing.datasets.items import Item
from preprocessing.datasets.registry import DATASETS, FormatSpec, Source, Split
from preprocessing.json_input import Node, read_json
from preprocessing.schema import KeypointSchema
from preprocessing.schema_files import checked_category

_PREFIX = re.compile('^(person_keypoints|keypoints|instances|annotations)[_.-]')
# Visibility in the files -> ours.
_VISIBILITY = {0: -1, 1: 0, 2: 1}
_IMAGE_DIRECTORIES = ('images', 'Images', 'JPEGImages')
_NOT_ANNOTATIONS = ('schema.json', 'dataset.json')
# Of the people of COCO: point -> sigma of OKS (pycocotools/cocoeval.py); of left and right alike.
_SIGMAS = {'nose': 0.026, 'eye': 0.025, 'ear': 0.035, 'shoulder': 0.079, 'elbow': 0.072,
           'wrist': 0.062, 'hip': 0.107, 'knee': 0.087, 'ankle': 0.089}  # fmt: skip


class _Category(NamedTuple):
    """A category of a file: its name, those of its points, and its lines."""

    name: str
    keypoints: tuple[str, ...]
    skeleton: tuple[tuple[str, str], ...]


class _Picture(NamedTuple):
    name: str
    path: str
    size: tuple[int, int] | None


def read(source: Source) -> tuple[KeypointSchema, list[Split]]:
    """Return the schema and the splits below source.data_dir.

    Raises:
        UserError: There is no file with keypoints, or one is wrong; names file, item and field.
    """
    data_dir = source.data_dir
    paths = items.listed(posixpath.join(data_dir, 'annotations'), '.json')
    paths = paths or items.listed(data_dir, '.json')
    paths = [path for path in paths if posixpath.basename(path) not in _NOT_ANNOTATIONS]
    if not paths:
        raise UserError(f'{data_dir} holds no JSON file, nor does its directory annotations')
    found: dict[str, tuple[str, list[Item]]] = {}
    categories: dict[str, _Category] = {}
    stated = None
    for path in paths:
        node = read_json(path)
        if not (isinstance(node.value, dict) and 'categories' in node.value):
            logging.warning('%s has no categories; it is left out', path)
            continue
        own = _read_categories(node.field('categories'), source.schema)
        if not own:
            logging.warning('%s has no category with keypoints; it is left out', path)
            continue
        _join(categories, own, node)
        name = _split_name(path)
        if name in found:
            raise UserError(f'{path} and {found[name][0]} are both split {name!r}; rename one')
        pictures = _read_pictures(node.field('images'), name, posixpath.dirname(path), source)
        found[name] = path, _read_items(node, own, pictures)
        stated = _stated_offset(node, stated)
    if not found:
        raise UserError(f'{", ".join(paths)}: no categories with keypoints; not COCO keypoint JSON')
    schema = source.schema or _schema(categories)
    every = [item for _, of_split in found.values() for item in of_split]
    offset = source.point_offset
    if offset is None:
        offset = items.usual_offset(every) if stated is None else stated
    logging.info('%g px are added to the coordinates of points', offset)
    return schema, [
        items.split_of_items(name, [path], of_split, schema, offset)
        for name, (path, of_split) in found.items()
    ]


def _stated_offset(node: Node, of_others: float | None) -> float | None:
    """Return what a file of preprocessing.writers says is to be added to its coordinates; of
    other files, what those before it say.

    Raises:
        UserError: It differs from what another file says.
    """
    info = node.field('info', {}).value
    if not (isinstance(info, dict) and 'point_offset' in info):
        return of_others
    offset = node.field('info').field('point_offset').of(float)
    if of_others not in (None, offset):
        raise node.error(f'info.point_offset is {offset:g}, in another file {of_others:g}')
    return offset


def _split_name(path: str) -> str:
    stem = posixpath.basename(path).rsplit('.', 1)[0]
    name = re.sub(r'[^\w.-]', '_', _PREFIX.sub('', stem)) or 'train'
    return 'val' if name == 'validation' else name


def _schema(categories: Mapping[str, _Category]) -> KeypointSchema:
    lines = (line for category in categories.values() for line in category.skeleton)
    points = {name: category.keypoints for name, category in categories.items()}
    schema = items.schema_of_categories('coco', points, lines)
    sigmas = {}
    for name in points.get('person', ()):
        part = name.removeprefix('left_').removeprefix('right_')
        sigmas.update({name: _SIGMAS[part]} if part in _SIGMAS else {})
    return dataclasses.replace(schema, sigmas=sigmas, metric='oks_ap')


def _join(all_files: dict[str, _Category], one_file: Mapping[int, _Category], node: Node) -> None:
    """Add the categories of a file to those of all, with which they must agree."""
    for category in one_file.values():
        known = all_files.setdefault(category.name, category)
        if known.keypoints != category.keypoints:
            raise node.error(
                f'categories: {category.name!r} has other keypoints than in another file'
            )


def _read_categories(node: Node, schema: KeypointSchema | None) -> dict[int, _Category]:
    """Return the categories with keypoints, by id."""
    found, names, ids = {}, set(), set()
    for item in node.items():
        number = item.field('id').of(int)
        if number in ids:
            raise item.field('id').error(f'{number} is the id of an earlier category, too')
        ids.add(number)
        points = item.field('keypoints', []).texts()
        if not points:
            continue
        if len(set(points)) < len(points):
            raise item.field('keypoints').error('a keypoint is named twice')
        name = checked_category(item.field('name'))
        if name in names:
            raise item.field('name').error(f'{name!r} is the name of an earlier category, too')
        names.add(name)
        if schema is not None:
            items.check_names(item, name, points, schema)
        found[number] = _Category(name, points, _read_skeleton(item, points))
    return found


def _read_skeleton(item: Node, points: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Return pairs of names. Numbers count from 1 by the format, from 0 if one of them is 0."""
    pairs = [[n.of(int) for n in line.items()] for line in item.field('skeleton', []).items()]
    first = 0 if any(0 in pair for pair in pairs) else 1
    for number, pair in enumerate(pairs):
        if len(pair) != 2 or not all(first <= n < first + len(points) for n in pair):
            allowed = f'two numbers from {first} to {first + len(points) - 1}'
            raise item.error(f'skeleton[{number}] is {pair[:4]}, not {allowed}')
    named = ((points[a - first], points[b - first]) for a, b in pairs if a != b)
    return tuple(named)


def _read_pictures(node: Node, split: str, json_dir: str, source: Source) -> dict[int, _Picture]:
    data_dir = source.data_dir
    places = [posixpath.join(data_dir, d, split) for d in ('', *_IMAGE_DIRECTORIES)]
    places += [posixpath.join(data_dir, directory) for directory in _IMAGE_DIRECTORIES]
    places += [data_dir, json_dir]
    # Where the first picture is, the others are looked for first: mostly all are in one place.
    pictures: dict[int, _Picture] = {}
    for item in node.items():
        number = item.field('id').of(int)
        if number in pictures:
            raise item.field('id').error(f'{number} is the id of an earlier picture, too')
        text = item.field('file_name')
        name = items.safe_name(text)
        size = None
        if item.has('height') and item.has('width'):
            size = item.field('height').of(int), item.field('width').of(int)
            if min(size) < 1:
                size = None  # some exporters write 0 where they do not know it
        path = items.find_picture(text, name, places, source)
        root = path[: -len(name) - 1] if path.endswith(f'/{name}') else ''
        if root != places[0] and root in places:
            places.remove(root)
            places.insert(0, root)
        pictures[number] = _Picture(name, path, size)
    return pictures


def _read_items(
    node: Node, categories: Mapping[int, _Category], pictures: Mapping[int, _Picture]
) -> list[Item]:
    found: list[Item] = []
    ids: set[int] = set()
    known = {c.field('id').of(int) for c in node.field('categories').items()}
    num_others = num_crowds = 0
    for item in node.field('annotations', []).items():
        number = item.field('id').of(int)
        if number in ids:
            raise item.field('id').error(f'{number} is the id of an earlier annotation, too')
        ids.add(number)
        category_id, image_id = item.field('category_id').of(int), item.field('image_id').of(int)
        if category_id not in known:
            raise item.field('category_id').error(f'no category has the id {category_id}')
        if image_id not in pictures:
            raise item.field('image_id').error(f'no picture has the id {image_id}')
        if category_id not in categories:
            num_others += 1
        elif item.field('iscrowd', 0).value in (1, True):
            num_crowds += 1
        else:
            found.append(_item(item, str(number), categories[category_id], pictures[image_id]))
    for count, what in (
        (num_others, 'have a category without keypoints'),
        (num_crowds, 'are crowds'),
    ):
        if count:
            logging.info('%s: %d annotations %s', node.place, count, what)
    if not ids and len(categories) == 1:  # pictures to predict
        (category,) = categories.values()
        absent = np.full([len(category.keypoints), 3], -1.0)
        found = [
            Item(
                p.name, p.path, str(number), category.name, category.keypoints, absent, None, p.size
            )
            for number, p in pictures.items()
        ]
    return found


def _item(item: Node, key: str, category: _Category, picture: _Picture) -> Item:
    count = len(category.keypoints)
    if item.has('keypoints'):
        node = item.field('keypoints')
        numbers = node.numbers(3 * count)
        points = np.array(numbers, np.float64).reshape(count, 3)
        items.check_coordinates(node, (min(numbers), max(numbers)))
        wrong = [k for k, v in enumerate(numbers[2::3]) if v not in _VISIBILITY]
        if wrong:
            k = wrong[0]
            problem = (
                f'the visibility of {category.keypoints[k]} is {points[k, 2]:g}, not 0, 1 or 2'
            )
            raise node.error(problem)
        points[:, 2] -= 1  # as _VISIBILITY says
    else:
        points = np.full([count, 3], -1.0)
    box = fault = None
    if item.has('bbox'):
        node = item.field('bbox')
        x, y, width, height = node.numbers(4)
        items.check_coordinates(node, (x, y, width, height))
        box, fault = items.checked_box((x, y, x + width, y + height))
    names = picture.name, picture.path, key, category.name, category.keypoints
    return Item(*names, points, box, picture.size, fault)


DATASETS.register('coco')(FormatSpec(read))
