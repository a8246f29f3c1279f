"""Data sets of pictures with several garments, boxes and DeepFashion2's 294 points.

deepfashion2    OUT/train/image/000001.jpg    OUT/train/annos/000001.json    OUT/validation/...
coco            OUT/train/000001.jpg          OUT/annotations/train.json     OUT/val/...

A picture is one to three scenes beside each other, each of which covers an edge of the one before:
what it covers is occluded, and boxes overlap.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np

from demos.garments import dataset, scenes
from demos.garments.dataset import CATEGORIES
from demos.garments.outlines import with_points
from demos.garments.parts import pick
from preprocessing import files
from preprocessing.conversion.parallel import Workers
from preprocessing.datasets.deepfashion2 import SCHEMA
from preprocessing.writers import Garment, coco
from utility.visualization.draw import encode_image

_COUNTS, _COUNT_WEIGHTS = (1, 2, 3), (40, 40, 20)
_OVERLAP = 0.15  # of a scene's width, at most
_NUMBERS = {category: number for number, category in enumerate(SCHEMA.categories, 1)}


class Layout(NamedTuple):
    """Where a data set has its pictures and annotations.

    Attributes:
        splits: Of our counts -> of the data set.
        image_dir: Of a split, with {split}.
        write: (output_dir, split, samples) writes the annotations.
    """

    splits: Mapping[str, str]
    image_dir: str
    write: Callable[[str, str, Sequence[Sample]], None]


class Sample(NamedTuple):
    """A picture.

    Attributes:
        name: Of the file.
        image: uint8 [H, W, 3] RGB.
        garments: From left to right.
    """

    name: str
    image: np.ndarray
    garments: list[Garment]


def draw_sample(garments: dataset.GarmentSet, split: str, index: int) -> Sample:
    """Return picture `index` of a split; its height is at most garments.size."""
    rng = dataset.generator(garments, split, index)
    count = pick(rng, _COUNTS, _COUNT_WEIGHTS)
    drawn = [
        scenes.draw(pick(rng, CATEGORIES), rng, garments.size, with_points) for _ in range(count)
    ]
    height = max(scene.image.shape[0] for scene in drawn)
    image, found = np.zeros((height, 0, 3), np.uint8), []
    for scene in drawn:
        own_height, width = scene.image.shape[:2]
        below = height - own_height
        padded = cv2.copyMakeBorder(scene.image, 0, below, 0, 0, cv2.BORDER_REPLICATE)
        reach = min(width, image.shape[1])
        start = image.shape[1] - int(rng.uniform(0, _OVERLAP) * reach)
        found = [_covered(garment, start) for garment in found]
        image = np.concatenate([image[:, :start], padded], axis=1)
        found.append(_moved(scene, start))
    name = f'{index + 1:06d}.jpg'
    size = image.shape[:2]
    return Sample(name, image, [one._replace(image_name=name, image_size=size) for one in found])


def _moved(scene: scenes.Scene, x: int) -> Garment:
    """Return the garment of a scene that begins at `x` px of the picture."""
    keypoints, visibility = scene.answers(SCHEMA)
    keypoints = np.where(visibility[:, np.newaxis] >= 0, keypoints + (x, 0), 0)
    box = scene.box + np.array([x, 0, x, 0], np.float32)
    size = scene.image.shape[:2]
    return Garment('', '', scene.category, keypoints, visibility, size, None, box)


def _covered(garment: Garment, x: float) -> Garment:
    """Return a garment of which nothing is seen from `x` px on."""
    is_hidden = (garment.keypoints[:, 0] >= x) & (garment.visibility > 0)
    return garment._replace(visibility=np.where(is_hidden, 0, garment.visibility))


def write_dataset(
    output_dir: str,
    layout_name: str,
    garments: dataset.GarmentSet,
    num_workers: int = 1,
    progress: Callable[[int], None] = lambda done: None,
) -> None:
    """Draw and write all pictures, then their annotations.

    Args:
        output_dir: Local, or anything tf.io.gfile opens.
        layout_name: Of LAYOUTS.
        garments: Which pictures; its test split is for validation.
        num_workers: Processes that draw; the files do not depend on it.
        progress: Called with the number of pictures written so far.
    """
    layout, output_dir = LAYOUTS[layout_name], output_dir.rstrip('/')
    tasks = [(split, i) for split, count in garments.counts.items() for i in range(count)]
    written: dict[str, list[Sample]] = {}
    with Workers(num_workers) as workers:
        work = functools.partial(_write_picture, output_dir, layout_name, garments)
        for done, (task, sample) in enumerate(zip(tasks, workers.map(work, tasks)), start=1):
            written.setdefault(layout.splits[task[0]], []).append(sample)
            progress(done)
    for split, samples in written.items():
        layout.write(output_dir, split, samples)


def _write_picture(
    output_dir: str, layout_name: str, garments: dataset.GarmentSet, task: tuple[str, int]
) -> Sample:
    """Write one picture; return the sample without it."""
    cv2.setNumThreads(1)
    layout, (split, index) = LAYOUTS[layout_name], task
    sample = draw_sample(garments, split, index)
    directory = layout.image_dir.format(split=layout.splits[split])
    jpeg = encode_image(sample.image, '.jpg', dataset.QUALITY)
    files.write_bytes(f'{output_dir}/{directory}/{sample.name}', jpeg)
    return sample._replace(image=sample.image[:0])


def _write_coco(output_dir: str, split: str, samples: Sequence[Sample]) -> None:
    garments = [garment for sample in samples for garment in sample.garments]
    ids = coco.usual_ids([garment.image_name for garment in garments], SCHEMA)
    text = json.dumps(coco.annotations(garments, SCHEMA, ids)) + '\n'
    files.write_bytes(f'{output_dir}/annotations/{split}.json', text.encode())


def _write_deepfashion2(output_dir: str, split: str, samples: Sequence[Sample]) -> None:
    for number, sample in enumerate(samples, 1):
        items = {f'item{n}': _item(garment) for n, garment in enumerate(sample.garments, 1)}
        text = json.dumps({'source': 'shop', 'pair_id': number, **items}) + '\n'
        name = sample.name.replace('.jpg', '.json')
        files.write_bytes(f'{output_dir}/{split}/annos/{name}', text.encode())


def _item(garment: Garment) -> dict[str, Any]:
    """Return an item of DeepFashion2: points are indices of pixels, 0, 0, 0 where absent."""
    own = list(SCHEMA.indices(garment.category))
    visibility = garment.visibility[own]
    pixels = np.where(visibility[:, np.newaxis] >= 0, np.floor(garment.keypoints[own]), 0)
    rows = np.column_stack([pixels, visibility + 1]).astype(int)
    low, high = np.floor(garment.box[:2]), np.ceil(garment.box[2:])
    return {
        'category_name': garment.category.replace('_', ' '),
        'category_id': _NUMBERS[garment.category],
        'style': 0,
        'bounding_box': [*map(int, low), *map(int, high)],
        'landmarks': rows.ravel().tolist(),
        'segmentation': [],
        'scale': 2,
        'occlusion': 1 if (visibility != 0).all() else 2,
        'zoom_in': 1,
        'viewpoint': 2,
    }


LAYOUTS = {
    'deepfashion2': Layout(
        {dataset.TRAIN: 'train', dataset.TEST: 'validation'}, '{split}/image', _write_deepfashion2
    ),
    'coco': Layout({dataset.TRAIN: 'train', dataset.TEST: 'val'}, '{split}', _write_coco),
}
