"""A data set of synthetic garments in FashionAI's 2018 layout.

OUT/train_0/Annotations/annotations.csv, OUT/train_0/Images/<category>/<32 hex digits>.jpg
OUT/test_0/test.csv,                     OUT/test_0/Images/<category>/<32 hex digits>.jpg
OUT/answers/test_0.csv
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from config import UserError
from demos.garments.scenes import MIN_SIZE, render
from preprocessing import files, tables
from preprocessing.conversion.parallel import Workers
from preprocessing.datasets.fashionai import SCHEMA
from utility.visualization.draw import contact_sheet, draw_keypoints, encode_image

TRAIN, TEST = 'train_0', 'test_0'
CATEGORIES = tuple(sorted(SCHEMA.categories))
_QUALITIES = (60, 95)  # of the JPEG files
QUALITY = 90  # of those with several garments


@dataclasses.dataclass(frozen=True)
class GarmentSet:
    """Which pictures: picture i of a split depends on seed, split, i and size only.

    Attributes:
        seed: Not negative.
        size: Longest side of every picture, px.
        counts: Split -> number of pictures, spread evenly over the categories.
    """

    seed: int
    size: int
    counts: dict[str, int]

    def __post_init__(self):
        if self.seed < 0:
            raise UserError(f'seed={self.seed}: must not be negative')
        if self.size < MIN_SIZE:
            raise UserError(f'size={self.size}: must be at least {MIN_SIZE}')
        for split, count in self.counts.items():
            if count < 0 or split not in (TRAIN, TEST):
                raise UserError(f'counts: {split!r}: {count} must be 0 or more of a known split')


class Sample(NamedTuple):
    """One picture as it is stored.

    Attributes:
        image_id: Its path below the split's directory.
        category: What it shows.
        jpeg: Content of the file.
        image: uint8 [H, W, 3] RGB before compression.
        keypoints: float32 [24, 2] continuous px.
        visibility: int32 [24].
    """

    image_id: str
    category: str
    jpeg: bytes
    image: np.ndarray
    keypoints: np.ndarray
    visibility: np.ndarray


def generator(garments: GarmentSet, split: str, index: int) -> np.random.Generator:
    """Return the source of all randomness of a picture."""
    # The size is no part of the seed: the same scene comes out at every size.
    digest = hashlib.sha256(f'{garments.seed}/{split}/{index}'.encode()).digest()
    return np.random.default_rng(np.frombuffer(digest, np.uint32))


def draw_sample(garments: GarmentSet, split: str, index: int) -> Sample:
    """Return the picture `index` of a split."""
    category = CATEGORIES[index % len(CATEGORIES)]
    rng = generator(garments, split, index)
    image, keypoints, visibility = render(category, rng, garments.size)
    jpeg = encode_image(image, '.jpg', int(rng.integers(*_QUALITIES)))
    name = f'{garments.seed}/{split}/{index}/{garments.size}'
    file = hashlib.sha256(name.encode()).hexdigest()[:32]
    image_id = f'Images/{category}/{file}.jpg'
    return Sample(image_id, category, jpeg, image, keypoints, visibility)


def write_dataset(
    output_dir: str,
    garments: GarmentSet,
    num_workers: int = 1,
    progress: Callable[[int], None] = lambda done: None,
) -> None:
    """Draw and write all pictures, then the CSV files: where those are, all is there.

    Args:
        output_dir: Local, or anything tf.io.gfile opens.
        num_workers: Processes that draw; the files do not depend on it.
        progress: Called with the number of pictures written so far.
    """
    tasks = [(split, i) for split, count in garments.counts.items() for i in range(count)]
    rows: dict[str, list[tuple]] = {split: [] for split in garments.counts}
    with Workers(num_workers) as workers:
        work = functools.partial(_write_sample, output_dir.rstrip('/'), garments)
        for done, (task, row) in enumerate(zip(tasks, workers.map(work, tasks)), start=1):
            rows[task[0]].append(row)
            progress(done)
    for split, split_rows in rows.items():
        if split_rows:
            _write_tables(output_dir.rstrip('/'), split, split_rows)


def draw_sheet(garments: GarmentSet, count: int = 40) -> np.ndarray:
    """Return the first pictures of the training split with their points, uint8 [H, W, 3] RGB."""
    drawn = []
    for index in range(count):
        sample = draw_sample(garments, TRAIN, index)
        drawn.append(draw_keypoints(sample.image, sample.keypoints, sample.visibility, SCHEMA))
    return contact_sheet(drawn, 8, min(garments.size, 256))


def _write_sample(output_dir: str, garments: GarmentSet, task: tuple[str, int]) -> tuple:
    """Write one picture; return its row: id, category, keypoints, visibility."""
    cv2.setNumThreads(1)  # The pictures are drawn in parallel, which is faster than parts of them.
    split, index = task
    sample = draw_sample(garments, split, index)
    files.write_bytes(f'{output_dir}/{split}/{sample.image_id}', sample.jpeg)
    return sample.image_id, sample.category, sample.keypoints, sample.visibility


def _write_tables(output_dir: str, split: str, rows: Sequence[tuple]) -> None:
    image_ids, categories, keypoints, visibility = zip(*rows)
    table = tables.KeypointTable(
        image_ids=np.array(image_ids, dtype=object),
        categories=np.array(categories),
        keypoints=np.stack(keypoints),
        visibility=np.stack(visibility),
        lines=np.arange(len(rows)) + 2,
    )
    if split == TRAIN:
        tables.write_table(f'{output_dir}/{split}/Annotations/annotations.csv', table, SCHEMA)
        return
    tables.write_table(f'{output_dir}/answers/{split}.csv', table, SCHEMA)
    lines = [
        f'{tables.IMAGE_ID},{tables.IMAGE_CATEGORY}',
        *map(','.join, zip(image_ids, categories)),
    ]
    files.write_bytes(f'{output_dir}/{split}/test.csv', ('\n'.join(lines) + '\n').encode())
