"""A data set in the layout of the challenge's, of as many pictures as wanted, quickly.

Few pictures are drawn; of each there are many copies that differ in a comment inside the JPEG, so
that each file has a content of its own and costs as much as any other to read and decode.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from benchmarks.common import simulated_models
from preprocessing.datasets.fashionai import SCHEMA
from preprocessing.tables import write_table

SPLIT = 'train_0'
ANNOTATIONS = f'{SPLIT}/Annotations/train.csv'
_NUM_DIFFERENT = 16
# At 512 px this makes files of about 74 kB, as those of the challenge.
_GRAIN = 9.0  # standard deviation of a pixel, gray levels
_QUALITY = 88
_START, _COMMENT = b'\xff\xd8', b'\xff\xfe'  # markers of JPEG


def write(folder: str, num_images: int, side: int) -> None:
    """Write an annotated split of square pictures, of all categories.

    Args:
        side: Of the pictures, px.
    """
    table = simulated_models.annotations(0, num_images, list(SCHEMA.categories))
    write_table(Path(folder, ANNOTATIONS), simulated_models.scaled(table, side), SCHEMA)
    distinct = [draw_jpeg(number, side) for number in range(_NUM_DIFFERENT)]
    for category in SCHEMA.categories:
        Path(folder, SPLIT, 'Images', category).mkdir(parents=True)
    for number, image_id in enumerate(table.image_ids):
        data = numbered(distinct[number % _NUM_DIFFERENT], number)
        Path(folder, SPLIT, image_id).write_bytes(data)


def draw_jpeg(seed: int, side: int) -> bytes:
    """Return a JPEG of colored clouds with grain."""
    generator = np.random.default_rng(seed)
    clouds = generator.uniform(0, 255, [8, 8, 3])
    image = cv2.resize(clouds, (side, side), interpolation=cv2.INTER_CUBIC)
    image += generator.normal(0, _GRAIN, image.shape)
    image = np.clip(image, 0, 255).astype(np.uint8)
    return cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].tobytes()


def numbered(jpeg: bytes, number: int) -> bytes:
    """Return the same picture as a file of another content."""
    comment = str(number).encode()
    length = (2 + len(comment)).to_bytes(2, 'big')  # of itself and the comment
    return _START + _COMMENT + length + comment + jpeg[len(_START) :]
