"""The annotations of a split of the records, in the order of the predictions."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from config import UserError
from preprocessing import faults, records
from preprocessing.conversion import integrity
from preprocessing.schema import KeypointSchema
from preprocessing.tables import KeypointTable

_IMAGES_AT_A_TIME = 1024  # to go from one to the next takes longer than to read it


def annotations_of(split_dir: str, schema: KeypointSchema) -> tuple[KeypointTable, np.ndarray]:
    """Return the annotations of a labelled split of the records, in the order of predict_split.

    Returns:
        The table, and the sizes of the pictures, int32 [N, 2], (height, width), px.

    Raises:
        UserError: The split is not labelled.
    """
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
    table = KeypointTable(
        np.array([image_id.decode() for image_id in columns['image_id']], object),
        columns['category'].astype(str),
        columns['keypoints'],
        columns['visibility'],
        np.arange(1, len(order) + 1),
        columns['box'],
        columns['image_size'],
    )
    return table, columns['image_size']
