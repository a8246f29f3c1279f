"""The annotations of a split of the records, in the order of the predictions."""

from __future__ import annotations

import os

import numpy as np
import tensorflow as tf

from preprocessing import records
from preprocessing.schema import KeypointSchema
from preprocessing.tables import KeypointTable


def annotations_of(split_dir: str, schema: KeypointSchema) -> tuple[KeypointTable, np.ndarray]:
    """The annotations of a labelled split of the records, in the order of predict_split.

    Returns:
        The table, and the sizes of the pictures, int32 [N, 2], (height, width), px.

    Raises:
        ValueError: The split is not labelled.
    """
    records_dir, split = os.path.split(split_dir.rstrip('/'))
    info = records.load_dataset_info(records_dir or '.')
    if not info['splits'].get(split, {}).get('labelled', False):
        raise ValueError(f'{split_dir!r} is not a labelled split of the records')
    keys = ('image_id', 'category', 'keypoints', 'visibility', 'image_size')
    files = records.record_files(records.split_patterns(split_dir, 'all'))
    examples = records.decoded(tf.data.TFRecordDataset(files), schema).as_numpy_iterator()
    rows = [{key: example[key] for key in keys} for example in examples]
    rows.sort(key=lambda row: row['category'])
    table = KeypointTable(
        np.array([row['image_id'].decode() for row in rows], object),
        np.array([row['category'].decode() for row in rows], str),
        np.stack([row['keypoints'] for row in rows]),
        np.stack([row['visibility'] for row in rows]),
        np.arange(1, len(rows) + 1),
    )
    return table, np.stack([row['image_size'] for row in rows])
