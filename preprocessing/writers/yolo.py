"""YOLO pose: data.yaml, a list of the pictures, and a text file of labels for each of them.

    OUTPUT/data.yaml    OUTPUT/train.txt    OUTPUT/labels/shop/1.txt

The pictures belong into OUTPUT/images, under the names that they have here. Shares of the picture's
width and height, from its outer corner; nothing is taken off. All classes have all K points of the
schema, so that one flip_idx holds for them; those of other categories are absent, as 0 0 0. Points
and boxes are moved into the picture: Ultralytics leaves a picture out that has one outside.

Visibility -1, 0, 1 is 0, 1, 2.
"""

from __future__ import annotations

import numpy as np

from config import UserError
from preprocessing.datasets.yolo import labels_path
from preprocessing.writers.registry import WRITERS, Garment, box_of, by_picture

DATA_FILE, LIST_FILE = 'data.yaml', 'train.txt'
_PICTURES = 'images'
_DECIMALS = 9
_NOTE = (
    '# Ultralytics also wants val: a directory or a list of other pictures, with their labels.\n'
)


@WRITERS.register('yolo')
def _write(garments, schema, options) -> dict[str, str]:
    import yaml  # here, because only this format needs it

    del options
    content = {
        # Without `path`: Ultralytics takes '.' for the directory that it is started in.
        'train': LIST_FILE,
        'names': dict(enumerate(schema.categories)),
        'kpt_shape': [schema.num_keypoints, 3],
        'flip_idx': list(schema.flip_permutation),
        'kpt_names': {n: list(schema.keypoints) for n in range(len(schema.categories))},
    }
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, default_flow_style=None)
    text += _NOTE
    pictures = by_picture(garments)
    names = [n if _PICTURES in n.split('/')[:-1] else f'{_PICTURES}/{n}' for n in pictures]
    texts = {DATA_FILE: text, LIST_FILE: ''.join(f'./{name}\n' for name in names)}
    numbers = {category: number for number, category in enumerate(schema.categories)}
    for name, own in zip(names, pictures.values()):
        path = labels_path(name)
        if path in texts:
            raise UserError(f'{name}: another picture has its labels in {path}, too; rename one')
        texts[path] = ''.join(f'{_line(garment, numbers)}\n' for garment in own)
    return texts


def _line(garment: Garment, numbers: dict[str, int]) -> str:
    height, width = garment.image_size
    sides = np.array([width, height], float)
    corners = np.clip(np.reshape(box_of(garment), [2, 2]) / sides, 0, 1)
    there = garment.visibility[:, np.newaxis] >= 0
    points = np.where(there, np.clip(garment.keypoints / sides, 0, 1), 0)
    rows = np.column_stack([points, garment.visibility + 1])
    values = [*corners.mean(axis=0), *(corners[1] - corners[0]), *rows.ravel()]
    body = (f'{value:.{_DECIMALS}f}'.rstrip('0').rstrip('.') for value in values)
    return ' '.join([str(numbers[garment.category]), *body])
