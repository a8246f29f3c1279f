"""Any keypoints in the CSV format of FashionAI, with a schema file.

    DATA/schema.json   DATA/train.csv   DATA/test.csv   and the pictures below DATA or DATA/Images

A CSV has the columns image_id, image_category and one for each keypoint, `x_y_v`. The layouts of
FashionAI are read as well: directories of splits, each with its pictures and its CSV.
"""

from __future__ import annotations

import os
import posixpath

from config import UserError
from preprocessing import schema_files
from preprocessing.datasets import fashionai_layouts, items
from preprocessing.datasets.registry import DATASETS, FormatSpec, Source, Split
from preprocessing.schema import KeypointSchema

_SCHEMA_NAMES = tuple(f'schema{suffix}' for suffix in schema_files.SUFFIXES)


def schema_beside(data_dir: str) -> KeypointSchema | None:
    """Return the schema in DATA/schema.json (or .yaml, .yml), if there is one."""
    paths = (posixpath.join(data_dir, name) for name in _SCHEMA_NAMES)
    return next((schema_files.read(path) for path in paths if items.is_file(path)), None)


def read(source: Source) -> tuple[KeypointSchema, list[Split]]:
    """Return the schema, by default that of DATA/schema.json, and the splits below `data_dir`.

    Raises:
        UserError: There is no schema, or no CSV with pictures.
    """
    if source.point_offset is not None:
        raise UserError('--point_offset: a CSV holds whole numbers, of pixels; it is 0.5')
    data_dir = source.data_dir
    schema = source.schema or schema_beside(data_dir)
    if schema is None:
        raise UserError(
            f'no schema: give --schema=FILE or {os.path.join(data_dir, _SCHEMA_NAMES[0])}, which '
            'names the keypoints and categories (docs/data.md)'
        )
    flat = fashionai_layouts.flat_splits(data_dir, schema, source.allow_links)
    return schema, flat or fashionai_layouts.find_splits(data_dir, schema, source.allow_links)


DATASETS.register('csv')(FormatSpec(read))
