"""DeepFashion2: 13 categories of garments with points of their own, 294 in all (Ge et al. 2019).

    DATA/train/image/000001.jpg         DATA/train/annos/000001.json
    DATA/validation/image/000001.jpg    DATA/validation/annos/000001.json

The validation set is for validation. The test set has no annotations and is left out: what its
pictures show is not known. A picture holds several items, each of which is a record with its box.

Visibility: 0 not labelled, 1 occluded, 2 visible.
"""

from __future__ import annotations

import functools
import posixpath
from collections.abc import Sequence

import numpy as np
from absl import logging

from config import UserError
from preprocessing.datasets import items
from preprocessing.datasets.items import Item
from preprocessing.datasets.registry import DATASETS, DatasetSpec, Source, Split
from preprocessing.json_input import Node, read_json
from preprocessing.schema import BOX_AREA_ROOT, KeypointSchema

# Category, number of points, and the pairs that change places in a mirror, counted from 1 as in
# the official figure; all other points are their own mirror images. Point 1 is the middle of the
# upper edge, the others follow the outline from the left of the picture round to the right.
#
# Of short_sleeve_outwear published tables pair 2-26 and 4-6, as the figure has it. Its official
# sigmas are equal for 2-6 and 4-26, as those of long_sleeve_outwear are, hence these here; the
# conversion warns if the data say otherwise.
_NECK = '2-6 3-5'
_TABLE = (
    ('short_sleeve_top', 25, f'{_NECK} 7-25 8-24 9-23 10-22 11-21 12-20 13-19 14-18 15-17'),
    (
        'long_sleeve_top',
        33,
        f'{_NECK} 7-33 8-32 9-31 10-30 11-29 12-28 13-27 14-26 15-25 16-24 17-23 18-22 19-21',
    ),
    (
        'short_sleeve_outwear',
        31,
        f'{_NECK} 4-26 7-25 8-24 9-23 10-22 11-21 12-20 13-19 14-18 15-17 16-29 27-30 28-31',
    ),
    (
        'long_sleeve_outwear',
        39,
        f'{_NECK} 4-34 7-33 8-32 9-31 10-30 11-29 12-28 13-27 14-26 15-25 16-24 17-23 18-22 19-21'
        ' 20-37 35-38 36-39',
    ),
    ('vest', 15, f'{_NECK} 7-15 8-14 9-13 10-12'),
    ('sling', 15, f'{_NECK} 7-15 8-14 9-13 10-12'),
    ('shorts', 10, '1-3 4-10 5-9 6-8'),
    ('trousers', 14, '1-3 4-14 5-13 6-12 7-11 8-10'),
    ('skirt', 8, '1-3 4-8 5-7'),
    (
        'short_sleeve_dress',
        29,
        f'{_NECK} 7-29 8-28 9-27 10-26 11-25 12-24 13-23 14-22 15-21 16-20 17-19',
    ),
    (
        'long_sleeve_dress',
        37,
        f'{_NECK} 7-37 8-36 9-35 10-34 11-33 12-32 13-31 14-30 15-29 16-28 17-27 18-26 19-25 20-24'
        ' 21-23',
    ),
    ('vest_dress', 19, f'{_NECK} 7-19 8-18 9-17 10-16 11-15 12-14'),
    ('sling_dress', 19, f'{_NECK} 7-19 8-18 9-17 10-16 11-15 12-14'),
)
# The official sigmas of OKS, in ten-thousandths, in the order of the points (switchablenorms/
# DeepFashion2, deepfashion2_api/PythonAPI/pycocotools/cocoeval.py).
_SIGMAS = {
    'short_sleeve_top': (
        '120 158 169 165 169 158 298 329 321 323 340 388 452 574 492 352 492 574 452 388 340 '
        '323 321 329 298'
    ),
    'long_sleeve_top': (
        '194 170 185 193 185 170 286 471 547 526 430 392 513 566 509 564 542 604 599 520 599 '
        '604 542 564 509 566 513 392 430 526 547 471 286'
    ),
    'short_sleeve_outwear': (
        '74 85 165 248 165 85 156 231 296 137 195 250 347 380 257 370 257 380 347 250 195 137 '
        '296 231 156 248 469 632 370 469 632'
    ),
    'long_sleeve_outwear': (
        '137 153 243 377 243 153 203 366 467 433 393 329 418 477 399 331 420 492 436 478 436 '
        '492 420 331 399 477 418 329 393 433 467 366 203 377 645 573 478 645 573'
    ),
    'vest': '352 158 210 214 210 158 196 500 489 404 401 404 489 500 196',
    'sling': '276 548 283 204 283 548 369 726 677 640 251 640 677 726 369',
    'shorts': '308 216 308 506 494 463 477 463 494 506',
    'trousers': '275 202 275 651 451 350 280 392 362 392 280 350 451 651',
    'skirt': '253 195 253 513 543 415 543 513',
    'short_sleeve_dress': (
        '153 230 167 145 167 230 332 391 391 396 440 452 498 514 585 655 635 602 635 655 585 '
        '514 498 452 440 396 391 391 332'
    ),
    'long_sleeve_dress': (
        '121 134 158 162 158 134 246 406 470 404 463 466 435 499 455 440 411 490 576 685 618 '
        '483 618 685 576 490 411 440 486 499 435 466 463 404 470 406 246'
    ),
    'vest_dress': '116 167 160 180 160 167 196 385 421 497 562 528 428 528 562 497 421 385 196',
    'sling_dress': '244 297 244 208 244 297 173 616 659 712 707 685 339 685 707 712 659 616 173',
}
_LOWER = ('shorts', 'trousers', 'skirt')
_OPENING = {'short_sleeve_outwear': 26, 'long_sleeve_outwear': 34}  # the first point of the front
_NOT_ITEMS = ('source', 'pair_id')
_SPLITS = {'train': 'train', 'validation': 'val'}


def _names(category: str, count: int) -> tuple[str, ...]:
    return tuple(f'{category}_{number}' for number in range(1, count + 1))


def _lines(category: str, count: int) -> list[tuple[str, ...]]:
    """Return the edge at the top and the outline, as chains of names."""
    if category in _LOWER:
        chains = [(1, *range(4, count + 1), 3, 2, 1)]
    else:
        last = _OPENING.get(category, count + 1) - 1
        chains = [(1, 2, 3, 4, 5, 6, 1), (2, *range(7, last + 1), 6)]
    # Round and back to the first point: the line that closes it is a chain of its own.
    chains = [part for c in chains for part in ((c[:-1], c[-2:]) if c[0] == c[-1] else (c,))]
    return [tuple(f'{category}_{number}' for number in chain) for chain in chains]


def _pairs(category: str, pairs: str) -> list[tuple[str, str]]:
    numbers = (pair.split('-') for pair in pairs.split())
    return [(f'{category}_{a}', f'{category}_{b}') for a, b in numbers]


_CATEGORIES = {category: _names(category, count) for category, count, _ in _TABLE}

SCHEMA = KeypointSchema(
    name='deepfashion2',
    keypoints=tuple(name for names in _CATEGORIES.values() for name in names),
    categories=_CATEGORIES,
    normalizers=dict.fromkeys(_CATEGORIES, BOX_AREA_ROOT),
    swaps=tuple(pair for category, _, pairs in _TABLE for pair in _pairs(category, pairs)),
    skeleton=tuple(line for category, count, _ in _TABLE for line in _lines(category, count)),
    sigmas={
        name: int(sigma) / 10_000
        for category, names in _CATEGORIES.items()
        for name, sigma in zip(names, _SIGMAS[category].split())
    },
    metric='oks_ap',
)
_BY_ID = dict(enumerate(_CATEGORIES, start=1))


def find_splits(data_dir: str, allow_links: Sequence[str] = ()) -> list[Split]:
    """Return the splits below `data_dir`.

    Raises:
        UserError: There is none, or an annotation is wrong; names file, item and field.
    """
    splits, source = [], Source(data_dir, allow_links=tuple(allow_links))
    for directory, name in _SPLITS.items():
        paths = items.listed(posixpath.join(data_dir, directory, 'annos'), '.json')
        if paths:
            found = [item for path in paths for item in _read_file(path, directory, source)]
            # The list of 190,000 files is not for dataset.json: its first one names the split.
            splits.append(items.split_of_items(name, paths[:1], found, SCHEMA, 0.5))
    if not splits:
        raise UserError(f'{data_dir} holds neither train/annos/*.json nor validation/annos/*.json')
    logging.info('0.5 px are added to the coordinates of points: they are indices of pixels')
    return splits


def _read_file(path: str, split: str, source: Source) -> list[Item]:
    node = read_json(path)
    stem = posixpath.basename(path).rsplit('.', 1)[0]
    name = f'{split}/image/{stem}.jpg'
    image_path = items.find_picture(node, name, [source.data_dir], source)
    make = functools.partial(_item, image_name=name, image_path=image_path)
    return [make(key, item) for key, item in node.fields() if key not in _NOT_ITEMS]


def _item(key: str, node: Node, image_name: str, image_path: str) -> Item:
    number = node.field('category_id').of(int)
    if number not in _BY_ID:
        raise node.field('category_id').error(f'{number} must be 1 to {len(_BY_ID)}')
    category = _BY_ID[number]
    names = _CATEGORIES[category]
    text = node.field('category_name', category).of(str).replace(' ', '_')
    if text != category:
        problem = f'{text!r} is not the category with the id {number}, {category!r}'
        raise node.field('category_name').error(problem)
    landmarks = node.field('landmarks', [0] * (3 * len(names)))
    values = landmarks.numbers(3 * len(names))
    points = np.array(values, np.float64).reshape(-1, 3)
    items.check_coordinates(landmarks, (points[:, :2].min(), points[:, :2].max()))
    if not np.isin(points[:, 2], (0, 1, 2)).all():
        raise landmarks.error('a visibility is not 0, 1 or 2')
    points[:, 2] -= 1
    corners = node.field('bounding_box').numbers(4)
    items.check_coordinates(node.field('bounding_box'), corners)
    box, fault = items.checked_box(corners)
    key = key.removeprefix('item')
    return Item(image_name, image_path, key, category, names, points, box, None, fault)


DATASETS.register('deepfashion2')(DatasetSpec(SCHEMA, find_splits))
