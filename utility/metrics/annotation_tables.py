"""What predictions are scored against: annotations in a CSV, or those of a split of the records."""

from __future__ import annotations

import os

from config import UserError
from preprocessing.schema import KeypointSchema
from preprocessing.tables import KeypointTable, read_table


def read_annotations(path: str, schema: KeypointSchema) -> KeypointTable:
    """Return the annotations at a path.

    Args:
        path: A CSV, or the directory of a labelled split, RECORDS/val.
        schema: Of the data set.

    Raises:
        UserError: It is neither, or of another data set.
    """
    if not os.path.isdir(path):
        return read_table(path, schema)
    from preprocessing import records  # here, because it takes seconds
    from utility.metrics.annotations import annotations_of

    split_schema = records.schema_of(records.info_of_split(os.path.abspath(path))[0])
    if split_schema.keypoints != schema.keypoints:
        raise UserError(
            f'{path}: of data set {split_schema.name!r}, not {schema.name!r}; give --dataset'
        )
    return annotations_of(path, schema)[0]
