"""labelme: a JSON file for each picture, to be put beside it.

px from the outer corner of the picture; nothing is taken off. A garment is a group: a rectangle
with its category, and its points. Absent points are not there, an occluded one has the flag.
"""

from __future__ import annotations

import json
import posixpath
from collections import Counter
from typing import Any

from config import UserError
from preprocessing.writers.registry import WRITERS, box_of, by_picture, points_of

_VERSION = '5.5.0'


@WRITERS.register('labelme')
def _write(garments, schema, options) -> dict[str, str]:
    del options
    pictures = by_picture(garments)
    stems = Counter(name.rsplit('.', 1)[0] for name in pictures)
    texts = {}
    for name, own in pictures.items():
        stem = name.rsplit('.', 1)[0]
        height, width = own[0].image_size
        content = {
            'version': _VERSION,
            'flags': {},
            'shapes': [
                s for number, one in enumerate(own, 1) for s in _shapes(one, number, schema)
            ],
            'imagePath': posixpath.basename(name),
            'imageData': None,
            'imageHeight': height,
            'imageWidth': width,
        }
        # a.jpg and a.png cannot both have a.json.
        path = f'{stem if stems[stem] == 1 else name}.json'
        if path in texts:
            raise UserError(f'{name}: another picture has its points in {path}, too; rename one')
        texts[path] = json.dumps(content, indent=1) + '\n'
    return texts


def _shapes(garment, group: int, schema) -> list[dict[str, Any]]:
    x_min, y_min, x_max, y_max = box_of(garment)
    corners = [[x_min, y_min], [x_max, y_max]]
    shapes = [_shape(garment.category, corners, group, 'rectangle')]
    for name, (x, y, v) in points_of(garment, schema).items():
        if v >= 0:
            shapes.append(_shape(name, [[x, y]], group, 'point', is_occluded=v == 0))
    return shapes


def _shape(label: str, points, group: int, kind: str, is_occluded: bool = False) -> dict[str, Any]:
    return {
        'label': label,
        'points': points,
        'group_id': group,
        'description': '',
        'shape_type': kind,
        'flags': {'occluded': True} if is_occluded else {},
        'mask': None,
    }
