"""Pictures of noise on disk, and what a conversion makes of them."""

from __future__ import annotations

import pathlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image

from preprocessing import records
from preprocessing.conversion import convert


def write(root: pathlib.Path, names: Iterable[str], size: tuple[int, int] = (60, 80)) -> None:
    """Write pictures of (height, width) below a directory, each another one."""
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(number).integers(0, 256, (*size, 3), np.uint8)
        Image.fromarray(noise).save(path)


def converted(root: pathlib.Path, dataset: str, **settings: Any) -> tuple[dict, dict]:
    """Convert data in `root`.

    Returns:
        dataset.json; and split -> image_id -> the record, as decode_example gives it.
    """
    target = str(root / 'records')
    all_settings = convert.Settings(str(root), target, dataset, **{'val_fraction': 0.0, **settings})
    convert.convert(all_settings, lambda items, total, label: items)
    info = records.load_dataset_info(target)
    schema = records.schema_of(info)
    found: dict[str, dict] = {}
    for split, described in info['splits'].items():
        found[split] = {}
        if not any(described['records'].values()):
            continue
        files = records.record_files(records.split_patterns(f'{target}/{split}', 'all'))
        for example in records.decoded(tf.data.TFRecordDataset(files), schema).as_numpy_iterator():
            found[split][example['image_id'].decode()] = example
    return info, found
