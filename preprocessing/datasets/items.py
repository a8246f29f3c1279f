"""What readers of annotation tools have in common: items of pictures become annotations.

An item is one garment: a picture with several garments gives several annotations. Its image_id is
the name of the picture or, where a picture has several items, that name and the key of the item:
'shop/1.jpg' or 'shop/1.jpg#17'.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import os
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from absl import logging

from config import UserError
from preprocessing.datasets import fashionai_layouts
from preprocessing.datasets.registry import APART, POOLED, VAL, Annotation, Source, Split
from preprocessing.files import exists, is_folder, local_path, names_in
from preprocessing.json_input import Node
from preprocessing.schema import BOX_AREA_ROOT, KeypointSchema, named_pairs
from preprocessing.schema_files import checked_category
from preprocessing.tables import MAX_COORDINATE

# What divides errors where neither the data nor a schema tells: as the OKS of COCO does.
DEFAULT_NORMALIZER = BOX_AREA_ROOT
NO_POINTS = 'no keypoint is annotated'
# Of garments that nothing tells the category of.
DEFAULT_CATEGORY = 'garment'
HIDDEN_WORDS = ('occluded', 'hidden', 'invisible')
_CONTROL_CHARACTER = re.compile('[\x00-\x1f]')
_HIDDEN_SUFFIX = re.compile(rf'[ _:.-]*[([]?({"|".join(HIDDEN_WORDS)})[)\]]?$', re.IGNORECASE)


class Item(NamedTuple):
    """A garment in a picture.

    Attributes:
        image_name: The picture, as a path below the data with '/'.
        image_path: Where it is, or should be.
        key: Tells the items of a picture apart.
        category: Of the garment.
        names: Of its n points.
        points: float64 [n, 3]: x, y in px as the file has them, and the visibility: 1 visible,
            0 occluded, -1 absent.
        box: float64 [4] (x_min, y_min, x_max, y_max) px, or None.
        image_size: (height, width) of the picture by the file, or None.
        fault: Why it cannot be used, or None.
    """

    image_name: str
    image_path: str
    key: str
    category: str
    names: tuple[str, ...]
    points: np.ndarray
    box: np.ndarray | None = None
    image_size: tuple[int, int] | None = None
    fault: str | None = None

    @property
    def is_labelled(self) -> bool:
        return bool((self.points[:, 2] >= 0).any())


def split_of_items(
    name: str, files: Sequence[str], items: Sequence[Item], schema: KeypointSchema, offset: float
) -> Split:
    """Return a split: labelled if one of its items has a point.

    Args:
        name: Of the split; one that begins with 'val' is for validation, with 'test' for neither
            training nor validation.
        files: That it was read from.
        items: Of it.
        offset: Added to the coordinates of points, px.

    Raises:
        UserError: There is no item, or two have one key.
    """
    if not items:
        raise UserError(f'{files[0]}: holds no item of a category with keypoints')
    places = collections.Counter((item.image_name, item.key) for item in items)
    (picture, key), count = places.most_common(1)[0]
    if count > 1:
        raise UserError(f'{files[0]}: {picture} is there {count} times (item {key!r})')
    labelled = any(item.is_labelled for item in items)
    part = VAL if name.startswith('val') else APART if name.startswith('test') else POOLED
    make = functools.partial(_annotations, items, schema, offset, labelled)
    return Split(name, labelled, tuple(files), make, part, offset)


def opened(
    name: str, contents: Sequence[tuple[str, Sequence[str], Sequence[Item]]], source: Source
) -> tuple[KeypointSchema, list[Split]]:
    """Return the schema, of the source or of the items, and the splits of continuous points.

    Args:
        name: Of the format.
        contents: Of each split its name, its files and its items.
        source: Of the data.
    """
    paths = [path for _, files, _ in contents for path in files]
    every = [item for *_, found in contents for item in found]
    schema = source.schema or schema_of_items(name, paths, every)
    offset = source.point_offset or 0.0
    return schema, [split_of_items(*content, schema, offset) for content in contents]


def item_of(
    picture: tuple[str, str],
    key: str,
    category: str,
    points: Mapping[str, tuple[float, float, int]],
    box: Sequence[float] | None,
    size: tuple[int, int] | None,
) -> Item:
    """Return an item, whose fault is a box of no area.

    Args:
        picture: Its name and its path.
        key, category, points, box: As of Garment; a key '' becomes '0'.
        size: (height, width) of the picture, or None.
    """
    corners, fault = (None, None) if box is None else checked_box(box)
    values = np.array(list(points.values()), np.float64).reshape(-1, 3)
    return Item(*picture, key or '0', category, tuple(points), values, corners, size, fault)


def _annotations(
    items: Sequence[Item], schema: KeypointSchema, offset: float, labelled: bool
) -> Iterator[Annotation]:
    of_picture = collections.Counter(item.image_name for item in items)
    index = {name: k for k, name in enumerate(schema.keypoints)}
    no_points = np.full([schema.num_keypoints, 2], -1, np.float32)
    none_there = np.full(schema.num_keypoints, -1, np.int32)

    @functools.cache
    def columns(names: tuple[str, ...]) -> np.ndarray:  # the same for most items
        return np.array([index[name] for name in names], int)

    for item in items:
        several = of_picture[item.image_name] > 1
        keypoints, visibility = no_points.copy(), none_there.copy()
        own = columns(item.names)
        keypoints[own] = item.points[:, :2] + offset
        visibility[own] = item.points[:, 2]
        lacks_points = labelled and not item.is_labelled or item.category not in schema.categories
        fault = item.fault or (NO_POINTS if lacks_points else None)
        yield Annotation(
            image_path=item.image_path,
            image_id=f'{item.image_name}#{item.key}' if several else item.image_name,
            category=item.category,
            keypoints=keypoints,
            visibility=visibility,
            box=None if item.box is None else item.box.astype(np.float32),
            image_size=item.image_size,
            fault=fault,
        )


def usual_offset(items: Iterable[Item]) -> float:
    """Return 0.5 px if all points are whole numbers, hence indices of pixels; else 0."""
    for item in items:
        points = item.points[item.points[:, 2] >= 0, :2]
        if (points != np.round(points)).any():
            return 0.0
    return 0.5


def schema_of_categories(
    name: str, categories: Mapping[str, Sequence[str]], skeleton: Iterable[Sequence[str]] = ()
) -> KeypointSchema:
    """Return a schema of what a file tells: points of one name are one point in all categories.

    Pairs that change places in a mirror follow from 'left' and 'right' in the names.
    """
    keypoints = tuple(dict.fromkeys(n for names in categories.values() for n in names))
    swaps = []
    for pair in named_pairs(keypoints):
        halves = [c for c, names in categories.items() if len(set(pair) & set(names)) == 1]
        if halves:
            logging.warning('%s has only one of %s: no pair in a mirror', halves[0], list(pair))
        else:
            swaps.append(pair)
    if not swaps:
        logging.warning(
            'no pair of names tells left from right, so a flip moves no point to another one; '
            'where that is wrong, give the pairs in a schema file (swaps) or train without flip'
        )
    return KeypointSchema(
        name=name,
        keypoints=keypoints,
        categories={category: tuple(names) for category, names in categories.items()},
        normalizers=dict.fromkeys(categories, DEFAULT_NORMALIZER),
        swaps=tuple(swaps),
        skeleton=tuple(dict.fromkeys(map(tuple, skeleton))),
    )


def schema_of_items(name: str, files: Sequence[str], found: Iterable[Item]) -> KeypointSchema:
    """Return a schema of the categories and points that the items of some files have.

    Raises:
        UserError: None has a point.
    """
    categories: dict[str, dict[str, None]] = {}
    for item in found:
        categories.setdefault(item.category, {}).update(dict.fromkeys(item.names))
    categories = {category: points for category, points in categories.items() if points}
    if not categories:
        raise UserError(f'{", ".join(files[:3])}: no keypoint is annotated in any file')
    return schema_of_categories(name, {c: tuple(points) for c, points in categories.items()})


def visible_name(label: Node, schema: KeypointSchema | None) -> tuple[str, bool]:
    """Return the keypoint that a label names, and whether it ends in a word that it is hidden.

    Raises:
        UserError: It names none.
    """
    text = label.of(str)
    if schema is not None and text in schema.keypoints:
        return text, False
    name = _HIDDEN_SUFFIX.sub('', text)
    if not name:
        raise label.error(f'{text!r} names no keypoint')
    return name, name != text


class Garment(NamedTuple):
    """A garment of an annotation tool, whose points come one by one.

    Attributes:
        key: Tells the garments of a picture apart.
        category: Of the garment.
        points: By name, (x, y, visibility).
        box: (x_min, y_min, x_max, y_max) px, or None.
    """

    key: str
    category: str
    points: dict[str, tuple[float, float, int]]
    box: Sequence[float] | None = None

    def add(self, label: Node, name: str, point: Sequence[float], is_hidden: bool, schema) -> None:
        """Add a point. Raises UserError where the schema does not know it, or it is there."""
        if schema is not None:
            check_names(label, self.category, [name], schema)
        if name in self.points:
            raise label.error(f'{name!r} is there twice in one garment')
        self.points[name] = (*point, 0 if is_hidden else 1)


def category_of(label: Node, schema: KeypointSchema | None) -> str:
    """Return the category that a label names. Raises UserError where the schema has it not."""
    category = checked_category(label)
    if schema is not None:
        check_names(label, category, (), schema)
    return category


def owner(node: Node, point: Sequence[float], boxes: Mapping[str, Sequence[float]]) -> str:
    """Return the key of the box that a point without a group belongs to; '' without boxes.

    Raises:
        UserError: There are several, and not just one of them is around the point.
    """
    if len(boxes) < 2:
        return next(iter(boxes), '')
    x, y = point
    around = [k for k, (x1, y1, x2, y2) in boxes.items() if x1 <= x <= x2 and y1 <= y <= y2]
    if len(around) != 1:
        problem = f'this point is in {len(around)} of {len(boxes)} rectangles'
        raise node.error(f'{problem}; tell in the tool to which it belongs')
    return around[0]


def only_category(node: Node, schema: KeypointSchema | None) -> str:
    """Return the category of points without a box.

    Raises:
        UserError: The schema has several.
    """
    if schema is None:
        return DEFAULT_CATEGORY
    if len(schema.categories) > 1:
        raise node.error('no rectangle tells the category of this point; draw one of its group')
    return next(iter(schema.categories))


def check_names(node: Node, category: str, names: Iterable[str], schema: KeypointSchema) -> None:
    """Refuse a category, or keypoints of it, that the schema does not know."""
    if category not in schema.categories:
        known = ', '.join(schema.categories)
        raise node.error(f'category {category!r} is not one of the schema: {known}')
    for name in names:
        if name not in schema.categories[category]:
            raise node.error(f'keypoint {name!r} is not one of {category} in the schema')


def check_coordinates(node: Node, values: Iterable[float]) -> None:
    for value in values:
        if abs(value) > MAX_COORDINATE:
            raise node.error(f'{value:g} is beyond {MAX_COORDINATE} px')


def checked_box(box: Sequence[float]) -> tuple[np.ndarray, str | None]:
    """Return a box (x_min, y_min, x_max, y_max) and, if it has no area, the fault."""
    x_min, y_min, x_max, y_max = box = [float(value) for value in box]
    fault = None if x_min < x_max and y_min < y_max else f'a box of no area: {box}'
    return np.array(box), fault


def safe_name(node: Node, base: str = '') -> str:
    """Return the name of a picture as a path below the data, from the text of a file.

    Args:
        node: The text; backslashes of Windows are taken for '/'.
        base: Directory below the data that it is relative to.

    Raises:
        UserError: It is empty, or leads out of the data.
    """
    text = node.of(str).replace('\\', '/')
    name = posixpath.normpath(posixpath.join(base, text))
    bad = not text.strip() or _CONTROL_CHARACTER.search(text)
    if bad or posixpath.isabs(text) or '://' in text or text[1:2] == ':':
        raise node.error(f'{text[:80]!r} must be a path below the data')
    if name.split('/')[0] == '..':
        raise node.error(f'{text[:80]!r} leads out of the data')
    return name


def is_safe_name(text: str) -> bool:
    """Return whether safe_name takes a text."""
    try:
        safe_name(Node(text, ''))
    except UserError:
        return False
    return True


def find_picture(node: Node, name: str, directories: Sequence[str], source: Source) -> str:
    """Return where the picture of a name is, below one of the directories or the data.

    Where it is nowhere, the first place that was looked at.

    Raises:
        UserError: A symbolic link leads out of the data; tells the node.
    """
    try:
        return fashionai_layouts.picture_path(
            name, directories, source.data_dir, source.allow_links
        )
    except UserError as error:
        raise node.error(str(error)) from error


def listed(directory: str, suffix: str) -> list[str]:
    """Return paths of the files in a directory whose names end so; none without it."""
    names = names_in(directory) if is_folder(directory) else ()
    chosen = (name for name in names if name[:1] != '.' and name.lower().endswith(suffix))
    return [posixpath.join(directory, name) for name in chosen]


def walked(data_dir: str, suffix: str | tuple[str, ...], without: Sequence[str] = ()) -> list[str]:
    """Return sorted paths below a directory that end so; not in hidden or excluded ones."""
    if not is_folder(data_dir):
        raise UserError(f'no directory {data_dir!r}')
    found = []
    for directory, _, names in _walk(data_dir):
        relative = os.path.relpath(directory, data_dir).split(os.sep)
        if any(part in without or (part[:1] == '.' and part != '.') for part in relative):
            continue
        paths = (posixpath.join(directory, n) for n in names if n[:1] != '.')
        found += [path for path in paths if path.lower().endswith(suffix)]
    return sorted(found)


def _walk(data_dir: str) -> Iterator[tuple[str, list[str], list[str]]]:
    """Walk as os.walk does, also through links to directories, but into none of them twice."""
    local = local_path(data_dir)
    if local is None:
        import tensorflow as tf

        yield from tf.io.gfile.walk(data_dir)
        return
    seen: set[str] = set()
    for directory, names, files in os.walk(local, followlinks=True):
        real = os.path.realpath(directory)
        if real in seen:
            names.clear()  # of a link that leads back
            continue
        seen.add(real)
        names.sort()
        yield directory, names, files


def with_swaps(
    schema: KeypointSchema, swaps: Sequence[tuple[str, str]], node: Node
) -> KeypointSchema:
    """Return the schema with these pairs that change places in a mirror; errors name the node."""
    try:
        return dataclasses.replace(schema, swaps=tuple(swaps))
    except UserError as error:
        raise node.error(str(error)) from error


def is_file(path: str) -> bool:
    return exists(path) and not is_folder(path)
