"""A sound data set of two garments in each format, without its picture, and what a reading of a
damaged one may not be.
"""

from __future__ import annotations

import json

import numpy as np

from preprocessing import writers
from preprocessing.datasets.registry import Annotation
from preprocessing.schema import KeypointSchema
from preprocessing.tables import MAX_COORDINATE

_NAMES = ('brim_left', 'brim_right', 'top')
SCHEMA = KeypointSchema(
    'hats', _NAMES, {'hat': _NAMES, 'cap': _NAMES[:2]}, {'hat': _NAMES[:2], 'cap': 'box_diagonal'}
)
_SIZE = (60, 80)
_ITEM = {
    'category_name': 'skirt',
    'category_id': 9,
    'bounding_box': [1, 2, 30, 40],
    'landmarks': [5, 6, 2, 7, 8, 1, 0, 0, 0, *[9, 10, 2] * 5],
}
_SCHEMA = {
    'name': 'hats',
    'keypoints': _NAMES,
    'categories': {'hat': _NAMES, 'cap': _NAMES[:2]},
    'normalizers': {'hat': _NAMES[:2], 'cap': 'box_diagonal'},
    'swaps': [_NAMES[:2]],
    'skeleton': [['brim_left', 'top', 'brim_right']],
}
_ROW = 'image_id,image_category,brim_left,brim_right,top\na.png,hat,1_2_1,3_4_0,-1_-1_-1\n'
_BODYPARTS = 'bodyparts,top,top,top,tip,tip,tip\ncoords,x,y,visible,x,y,visible\n'
_LANDMARKS = '2\nimage_name clothes_type variation_type\na.png 2 1 0 5 6 1 7 8 2 0 0 0 9 10\n'
_OTHERS = {
    'csv': {'schema.json': json.dumps(_SCHEMA), 'train.csv': _ROW},
    'deeplabcut': {
        'a.csv': f'scorer,a,a,a,a,a,a\n{_BODYPARTS}a.png,1,2,2,3.5,4,1\nb.png,,,,5,6,2\n'
    },
    'deepfashion2': {'train/annos/a.json': json.dumps({'pair_id': 1, 'item1': _ITEM})},
    'fld': {
        'Anno/list_landmarks.txt': f'{_LANDMARKS}b.png 2 1' + ' 0 5 6' * 4,
        'Anno/list_bbox.txt': '1\nimage_name x_1 y_1 x_2 y_2\na.png 1 2 30 40\n',
    },
}


def files(name: str) -> dict[str, bytes]:
    """Return the files of a data set in a format of preprocessing.datasets, by name below it."""
    texts = _OTHERS.get(name)
    if texts is None:
        points = np.array([[10.5, 20.25], [30, 21], [20, 8]])
        garments = [
            writers.Garment('a.png', '', 'hat', points, np.array([1, 0, -1]), _SIZE),
            writers.Garment('a.png', '', 'cap', points + 20, np.array([1, 1, -1]), _SIZE),
        ]
        options = writers.WriteOptions()
        texts = writers.WRITERS.get(name)(garments, SCHEMA, options)
        texts = {
            path: text.replace('"predictions"', '"annotations"') for path, text in texts.items()
        }
    return {path: text.encode() for path, text in texts.items()}


def nonsense(one: Annotation, schema: KeypointSchema, data_dir: str) -> str | None:
    """Return why an annotation that is to become a record cannot be one; None if it can."""
    if one.fault is not None:
        return None
    there = one.visibility >= 0
    shape = schema.num_keypoints
    if one.keypoints.shape != (shape, 2) or one.visibility.shape != (shape,):
        return f'shapes {one.keypoints.shape}, {one.visibility.shape}'
    if one.category not in schema.categories:
        return f'category {one.category!r}'
    own = np.isin(np.arange(shape), schema.indices(one.category))
    if (there & ~own).any() or not np.isin(one.visibility, (-1, 0, 1)).all():
        return f'visibility {one.visibility.tolist()}'
    if not (np.abs(one.keypoints[there]) <= 10 * MAX_COORDINATE).all():
        return f'points {one.keypoints.tolist()}'
    if one.box is not None and not (one.box[2:] > one.box[:2]).all():
        return f'a box {one.box.tolist()}'
    if not one.image_path.startswith(f'{data_dir}/') or '/../' in one.image_path:
        return f'a picture {one.image_path}'
    return None
