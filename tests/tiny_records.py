"""Small records of noise, for tests that need a directory as convert_tfrecords.py writes it."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from preprocessing import records
from preprocessing.datasets import Annotation
from preprocessing.datasets.fashionai import SCHEMA


def write_records(
    root: pathlib.Path, splits: Mapping[str, Mapping[str, int]], size: int, identical: bool = False
) -> str:
    """Write square pictures of noise with random points, all of them visible.

    Args:
        root: Directory of the records.
        splits: Split -> category -> number of pictures; test splits have no points.
        size: Of the pictures, px.
        identical: Whether all pictures are one but for their ids.

    Returns:
        root as a string.
    """
    for split, counts in splits.items():
        (root / split).mkdir(parents=True)
        for category, count in counts.items():
            path = records.shard_path(str(root / split), category, 0, 1)
            with records.shard_writer(path) as write:
                for i in range(count):
                    rng = np.random.default_rng(0 if identical else [i, *map(ord, split)])
                    write(_record(rng, f'{category}/{i}.jpg', category, size, split))
    info = {
        'dataset': SCHEMA.name,
        'schema': {'keypoints': list(SCHEMA.keypoints)},
        'splits': {
            split: {'labelled': not split.startswith('test'), 'records': dict(counts)}
            for split, counts in splits.items()
        },
    }
    (root / records.DATASET_FILE).write_text(json.dumps(info))
    return str(root)


def _record(rng, image_id: str, category: str, size: int, split: str) -> bytes:
    image = rng.integers(0, 255, (size, size, 3)).astype(np.uint8)
    keypoints = rng.uniform(1, size - 1, (SCHEMA.num_keypoints, 2)).astype(np.float32)
    visibility = np.full(SCHEMA.num_keypoints, -1, np.int32)
    if not split.startswith('test'):
        visibility[list(SCHEMA.indices(category))] = 1
    annotation = Annotation(image_id, image_id, category, keypoints, visibility)
    return records.encode_example(tf.io.encode_jpeg(image).numpy(), annotation, (size, size))
