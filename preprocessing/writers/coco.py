"""COCO: keypoint JSON ('coco'), and results to be evaluated against one ('coco_results').

coco: px from the outer corner of the picture, as here; nothing is taken off. `info.point_offset`
tells our reader so, which otherwise adds 0.5 to whole numbers.
coco_results: px as the data have them: what the conversion added to them is taken off.

Visibility -1, 0, 1 is 0, 1, 2. Results have the score of each point in its place.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from preprocessing.datasets import items
from preprocessing.json_input import read_json
from preprocessing.schema import KeypointSchema
from preprocessing.writers.registry import (
    DECIMALS,
    WRITERS,
    Garment,
    WriteOptions,
    box_of,
    points_of,
)

ANNOTATIONS_FILE, RESULTS_FILE = 'annotations.json', 'results.json'
_SCORE_DECIMALS = 6
# Its evaluation wants all points in every category, zeros for those of others.
_ALL_POINTS = ('deepfashion2',)


class CocoIds(NamedTuple):
    """The numbers by which COCO files know pictures and categories.

    Attributes:
        images: Name of the picture -> number.
        categories: Category -> number.
        keypoints: Category -> the keypoints that a list of it has, by our names.
    """

    images: Mapping[str, int]
    categories: Mapping[str, int]
    keypoints: Mapping[str, Sequence[str]]


def usual_ids(
    names: Iterable[str], schema: KeypointSchema, has_all_points: bool = False
) -> CocoIds:
    """Return numbers for pictures and categories, without a file that has some.

    Pictures named by numbers, as those of COCO and DeepFashion2 are ('000123.jpg'), have these;
    if only one is not, or two have the same, all are numbered from 1 in the order of their names.
    Categories are numbered from 1 in the order of the schema. Their lists have their own keypoints,
    or all of the schema.
    """
    names = sorted(set(names))
    stems = [posixpath.basename(name).rsplit('.', 1)[0] for name in names]
    images = {name: number for number, name in enumerate(names, 1)}
    if all(stem.isascii() and stem.isdigit() and len(stem) <= 15 for stem in stems):
        own = [int(stem) for stem in stems]
        images = dict(zip(names, own)) if len(set(own)) == len(own) else images
    keypoints = {
        category: schema.keypoints if has_all_points else schema.subset(category).keypoints
        for category in schema.categories
    }
    return CocoIds(images, {name: n for n, name in enumerate(schema.categories, 1)}, keypoints)


def read_ids(path: str, schema: KeypointSchema) -> CocoIds:
    """Return the numbers of a COCO annotation file: pictures by file_name, categories by name.

    The keypoints of a category may have other names there: as many as the category has are taken
    for these, as many as the schema has for all, in order.

    Raises:
        UserError: It is no such file, or the keypoints of a category are of another number.
    """
    node = read_json(path)
    images = {
        items.safe_name(image.field('file_name')): image.field('id').of(int)
        for image in node.field('images').items()
    }
    numbers, keypoints = {}, {}
    for category in node.field('categories').items():
        name = category.field('name').of(str)
        if name not in schema.categories:
            continue
        there, own = category.field('keypoints', []).texts(), schema.subset(name).keypoints
        numbers[name] = category.field('id').of(int)
        if set(own) <= set(there) and len(set(there)) == len(there):
            keypoints[name] = there
        elif len(there) in (len(own), schema.num_keypoints):
            keypoints[name] = own if len(there) == len(own) else schema.keypoints
        else:
            raise category.error(f'{len(there)} keypoints, but {name} has {len(own)}')
    return CocoIds(images, numbers, keypoints)


def _ids(
    garments: Sequence[Garment],
    schema: KeypointSchema,
    options: WriteOptions,
    has_all_points: bool = False,
) -> CocoIds:
    if options.coco_ids is None:
        return usual_ids((one.image_name for one in garments), schema, has_all_points)
    ids, node = read_ids(options.coco_ids, schema), read_json(options.coco_ids)
    for garment in garments:
        if garment.image_name not in ids.images:
            raise node.error(f'no picture has the file_name {garment.image_name!r}')
        if garment.category not in ids.categories:
            raise node.error(f'no category is called {garment.category!r}')
    return ids


def results(
    garments: Sequence[Garment], schema: KeypointSchema, ids: CocoIds, point_offset: float = 0.0
) -> list[dict[str, Any]]:
    """Return what the COCO tools evaluate, one object a garment; a point is x, y and its score.

    Args:
        garments: Of a network; their score is the mean of those of their points. Without scores
            each is 1.
        point_offset: Taken off the coordinates, px.
    """
    return [
        {
            'image_id': ids.images[garment.image_name],
            'category_id': ids.categories[garment.category],
            'keypoints': _scored_points(garment, schema, ids, point_offset),
            'score': 1.0 if garment.scores is None else round(garment.score, _SCORE_DECIMALS),
        }
        for garment in garments
    ]


def _scored_points(garment, schema, ids: CocoIds, point_offset: float) -> list[float]:
    points, numbers = points_of(garment, schema), []
    for name in ids.keypoints[garment.category]:
        x, y, v = points.get(name, (0, 0, -1))
        if v < 0:
            numbers += [0, 0, 0]
            continue
        score = 1.0
        if garment.scores is not None:
            score = round(float(garment.scores[schema.keypoints.index(name)]), _SCORE_DECIMALS)
        numbers += [round(x - point_offset, DECIMALS), round(y - point_offset, DECIMALS), score]
    return numbers


def annotations(
    garments: Sequence[Garment], schema: KeypointSchema, ids: CocoIds
) -> dict[str, Any]:
    """Return the content of a COCO keypoint file; annotations of a network have a score."""
    images = {garment.image_name: garment.image_size for garment in garments}
    return {
        'info': {'description': schema.name, 'point_offset': 0},
        'licenses': [],
        'images': [
            {'id': ids.images[name], 'file_name': name, 'width': width, 'height': height}
            for name, (height, width) in images.items()
        ],
        'annotations': [
            _annotation(number, garment, schema, ids) for number, garment in enumerate(garments, 1)
        ],
        'categories': [
            {
                'id': ids.categories[name],
                'name': name,
                'supercategory': '',
                'keypoints': list(ids.keypoints[name]),
                'skeleton': _skeleton(ids.keypoints[name], schema),
            }
            for name in schema.categories
            if name in ids.categories
        ],
    }


def _annotation(
    number: int, garment: Garment, schema: KeypointSchema, ids: CocoIds
) -> dict[str, Any]:
    points = points_of(garment, schema)
    rows = [points.get(name, (0, 0, -1)) for name in ids.keypoints[garment.category]]
    x_min, y_min, x_max, y_max = box_of(garment)
    width, height = round(x_max - x_min, DECIMALS), round(y_max - y_min, DECIMALS)
    written = {
        'id': number,
        'image_id': ids.images[garment.image_name],
        'category_id': ids.categories[garment.category],
        'keypoints': [value for x, y, v in rows for value in (x, y, v + 1)],
        'num_keypoints': sum(v >= 0 for _, _, v in rows),
        'bbox': [x_min, y_min, width, height],
        'area': round(width * height, DECIMALS),
        'iscrowd': 0,
    }
    return (
        written
        if garment.scores is None
        else {**written, 'score': round(garment.score, _SCORE_DECIMALS)}
    )


def _skeleton(names: Sequence[str], schema: KeypointSchema) -> list[list[int]]:
    """Return the lines between points of a list, counted from 1."""
    number = {name: n for n, name in enumerate(names, 1)}
    lines = (line for chain in schema.skeleton for line in zip(chain, chain[1:]))
    return [[number[a], number[b]] for a, b in lines if a in number and b in number]


@WRITERS.register('coco')
def _write(garments, schema, options) -> dict[str, str]:
    content = annotations(garments, schema, _ids(garments, schema, options))
    return {ANNOTATIONS_FILE: json.dumps(content) + '\n'}


@WRITERS.register('coco_results')
def _write_results(garments, schema, options) -> dict[str, str]:
    ids = _ids(garments, schema, options, schema.name in _ALL_POINTS)
    return {RESULTS_FILE: json.dumps(results(garments, schema, ids, options.point_offset)) + '\n'}
