"""Label Studio: its JSON export, a list of tasks.

    DATA/export.json    DATA/images/1.jpg, or anywhere below DATA by the name in the task

Each JSON file is a split by its name. A rectangle is a garment, with its label as the category;
points whose parentID is that of a rectangle, or that a relation joins with one, are its points.
Others belong to the only rectangle, or to the only one that they lie in; without rectangles they
are one garment, of the only category of the schema file or of 'garment'. Coordinates are percent of
the picture.

A region's choice of the same id hides a point ('occluded', 'hidden'), as do labels that end so.
Rotated rectangles and pictures are refused. A task may have one annotation that counts: cancelled
ones do not, and of several the last one does.
"""

from __future__ import annotations

import posixpath
import re
import urllib.parse
from collections.abc import Iterable, Mapping
from typing import Any

from absl import logging

from config import UserError
from preprocessing.datasets import items
from preprocessing.datasets.items import Garment, Item
from preprocessing.datasets.registry import DATASETS, FormatSpec, Source, Split
from preprocessing.json_input import Node, read_json
from preprocessing.schema import KeypointSchema

_UPLOAD_PREFIX = re.compile('^[0-9a-f]{8}-')  # that Label Studio puts before an uploaded name
_IMAGE_DIRECTORIES = ('images', 'Images', 'upload')
_NOT_EXPORTS = ('schema.json', 'dataset.json')


def read(source: Source) -> tuple[KeypointSchema, list[Split]]:
    """Return the schema and the splits below source.data_dir.

    Raises:
        UserError: There is no export, or one is wrong; names file, task and field.
    """
    data_dir = source.data_dir
    paths = items.listed(data_dir, '.json')
    paths = [path for path in paths if posixpath.basename(path) not in _NOT_EXPORTS]
    if not paths:
        raise UserError(f'{data_dir} holds no JSON file')
    names = [posixpath.basename(path)[: -len('.json')] for path in paths]
    found = [_read_file(read_json(path), source) for path in paths]
    contents = [(name, [path], of_file) for name, path, of_file in zip(names, paths, found)]
    return items.opened('label_studio', contents, source)


def _read_file(node: Node, source: Source) -> list[Item]:
    found: list[Item] = []
    num_without = 0
    for task in node.items():
        results = _results(task)
        if results is None:
            num_without += 1
            continue
        picture = _picture(task, source)
        size, garments = _garments(results, source.schema)
        found += [items.item_of(picture, *garment, size) for garment in garments]
    if num_without:
        logging.info('%s: %d tasks have no annotation; left out', node.place, num_without)
    return found


def _results(task: Node) -> Node | None:
    """Return the regions of the last annotation of a task that counts."""
    whole = [
        annotation
        for annotation in task.field('annotations', []).items()
        if annotation.field('was_cancelled', False).value is not True
    ]
    return whole[-1].field('result') if whole else None


def _picture(task: Node, source: Source) -> tuple[str, str]:
    """Return the name below the data of the picture of a task, and its path.

    It is the path in a folder of local files, if it is there below the data too, or the end of the
    URL.
    """
    data = task.field('data')
    field = data.field('image') if data.has('image') else data.field('img')
    url = urllib.parse.urlparse(field.of(str))
    query = urllib.parse.parse_qs(url.query).get('d', [''])[0]  # /data/local-files/?d=...
    text = query or urllib.parse.unquote(url.path)
    last = posixpath.basename(text.replace('\\', '/'))
    place = Node(last, field.place)
    names = list(dict.fromkeys([last, _UPLOAD_PREFIX.sub('', last)]))
    if query and items.is_safe_name(query):
        names.insert(0, query)
    places = [posixpath.join(source.data_dir, part) for part in _IMAGE_DIRECTORIES]
    for name in names:
        safe = items.safe_name(Node(name, place.place))
        path = items.find_picture(place, safe, places, source)
        if items.is_file(path):
            break
    return safe, path


def _garments(results: Node, schema: KeypointSchema | None) -> tuple[Any, list[Garment]]:
    """Return the size of the picture, (height, width) or None, and what is annotated in it."""
    size, regions, hidden = None, {'keypointlabels': [], 'rectanglelabels': []}, set()
    for region in results.items():
        kind = region.field('type', '').of(str)
        if kind == 'choices':
            choices = region.field('value').field('choices', []).texts()
            if any(choice.lower() in items.HIDDEN_WORDS for choice in choices):
                hidden.add(region.field('id').of(str))
        if kind not in regions:
            continue
        if region.field('image_rotation', 0).of(float) != 0:
            raise region.field('image_rotation').error('a rotated picture cannot be read')
        size = region.field('original_height').of(int), region.field('original_width').of(int)
        regions[kind].append(region)
    garments = {}
    for number, region in enumerate(regions['rectanglelabels']):
        key = region.field('id').of(str)
        category = items.category_of(_label(region, 'rectanglelabels'), schema)
        garments[key] = Garment(str(number), category, {}, _box(region, size))
    owners = _owners(results, garments)
    for region in regions['keypointlabels']:
        _add_point(garments, region, size, owners, hidden, schema)
    return size, list(garments.values())


def _owners(results: Node, garments: Mapping[str, Garment]) -> dict[str, Node]:
    """Return region -> the rectangle that a relation, of either direction, joins it with."""
    owners: dict[str, Node] = {}
    for relation in results.items():
        if relation.field('type', '').value != 'relation':
            continue
        ends = [relation.field(name) for name in ('from_id', 'to_id')]
        ends.sort(key=lambda end: end.of(str) in garments)
        point, rectangle = ends
        if rectangle.value not in garments or point.value in garments:
            continue  # of two points, or of two rectangles
        if owners.setdefault(point.value, rectangle).value != rectangle.value:
            raise relation.error(f'{point.value!r} has a relation with another rectangle, too')
    return owners


def _label(region: Node, name: str) -> Node:
    labels = list(region.field('value').field(name).items())
    if len(labels) != 1:
        raise region.field('value').error(f'{len(labels)} {name}; there must be one')
    return labels[0]


def _percent(region: Node, names: Iterable[str], size: tuple[int, int]) -> list[float]:
    """Return values of a region in px: those of x and width by the width, others by the height."""
    value = region.field('value')
    found = []
    for name in names:
        share = value.field(name).of(float) / 100
        if not abs(share) < 10:
            raise value.field(name).error('must be percent of the picture')
        found.append(share * size[1 if name in ('x', 'width') else 0])
    return found


def _box(region: Node, size: tuple[int, int]) -> tuple[float, float, float, float]:
    if region.field('value').field('rotation', 0).of(float) != 0:
        raise region.field('value').error('a rotated rectangle is no box; draw it upright')
    x, y, width, height = _percent(region, ('x', 'y', 'width', 'height'), size)
    return x, y, x + width, y + height


def _add_point(
    garments: dict[str, Garment],
    region: Node,
    size: tuple[int, int],
    owners: Mapping[str, Node],
    hidden: set[str],
    schema: KeypointSchema | None,
) -> None:
    x, y = _percent(region, ('x', 'y'), size)
    label = _label(region, 'keypointlabels')
    name, is_hidden = items.visible_name(label, schema)
    parent = region.field('parentID', '').of(str)
    related = owners.get(region.field('id', '').of(str))
    if not parent and related is not None:
        parent = related.value
    if parent and parent not in garments:
        raise region.field('parentID').error(f'no rectangle has the id {parent!r}')
    boxes = {key: garment.box for key, garment in garments.items() if garment.box}
    key = parent or items.owner(region, (x, y), boxes)
    if key not in garments:
        garments[key] = Garment(key, items.only_category(region, schema), {})
    is_hidden = is_hidden or region.field('id').of(str) in hidden
    garments[key].add(label, name, (x, y), is_hidden, schema)


DATASETS.register('label_studio')(FormatSpec(read))
