"""What predictions are scored against: annotations in a CSV, or those of a split of the records."""

from __future__ import annotations

import os

import numpy as np

from config import UserError
from preprocessing.schema import KeypointSchema
from preprocessing.tables import KeypointTable, read_table

_IMAGES_AT_A_TIME = 1024  # to go from one to the next takes longer than to read it


def read_annotations(path: str, schema: KeypointSchema) -> KeypointTable:
    """Return the annotations at a path.

    Args:
        path: A CSV, or the directory of a labelled split, RECORDS/val.

    Raises:
        UserError: It is neither, or of another data set.
    """
    if not os.path.isdir(path):
        return read_table(path, schema)
    from preprocessing import records  # here, because it takes seconds

    split_schema = records.schema_of(records.info_of_split(os.path.abspath(path))[0])
    if split_schema.keypoints != schema.keypoints:
        raise UserError(
            f'{path}: of data set {split_schema.name!r}, not {schema.name!r}; give --dataset'
        )
    return annotations_of(path, schema)


def annotations_of(split_dir: str, schema: KeypointSchema) -> KeypointTable:
    """Return the annotations of a labelled split of the records, in the order of predict_split,
    with boxes and sizes.

    Raises:
        UserError: The split is not labelled.
    """
    import tensorflow as tf  # here, because it takes seconds

    from preprocessing import faults, records
    from preprocessing.conversion import integrity

    records.check_is_split(split_dir)
    info, split = records.info_of_split(split_dir)
    if not info['splits'].get(split, {}).get('labelled', False):
        raise UserError(f'{split_dir!r} is not a labelled split of the records')
    records.check_schema(split_dir, schema)
    keys = ('image_id', 'category', 'keypoints', 'visibility', 'image_size', 'box')
    files = records.record_files(records.split_patterns(split_dir, 'all'))
    examples = records.decoded(tf.data.TFRecordDataset(files), schema)
    chosen = examples.map(lambda example: {key: example[key] for key in keys})
    integrity.check_split(split_dir, 'all')
    with faults.explained(files, schema):
        batches = list(chosen.batch(_IMAGES_AT_A_TIME).as_numpy_iterator())
    columns = {key: np.concatenate([batch[key] for batch in batches]) for key in keys}
    order = np.argsort(columns['category'].astype(str), kind='stable')
    columns = {key: values[order] for key, values in columns.items()}
    return KeypointTable(
        np.array([image_id.decode() for image_id in columns['image_id']], object),
        columns['category'].astype(str),
        columns['keypoints'],
        columns['visibility'],
        np.arange(1, len(order) + 1),
        columns['box'],
        columns['image_size'],
    )
