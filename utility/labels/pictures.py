"""Pictures to choose from: of a split of the records, or of a folder."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator

import numpy as np
import tensorflow as tf

from config import UserError
from preprocessing import faults, records
from preprocessing.conversion import decoding, images
from preprocessing.files import check_name
from preprocessing.schema import KeypointSchema
from utility.labels.survey import Picture

_NO_BOX = np.zeros(4, np.float32)


def of_folder_or_split(
    path: str,
    schema: KeypointSchema,
    category: str | None = None,
    left_out: Collection[str] = (),
) -> Iterator[Picture]:
    """Return of_folder or, where dataset.json lies beside the folder, of_split.

    Raises:
        UserError: A category is given for a split, whose records have theirs; or as these.
    """
    parent = os.path.dirname(os.path.abspath(path))
    if not tf.io.gfile.exists(os.path.join(parent, records.DATASET_FILE)):
        return of_folder(path, schema, category, left_out)
    if category is not None:
        raise UserError(f'--category={category}: the records of {path} have their categories')
    return of_split(path, schema, left_out)


def of_split(
    split_dir: str, schema: KeypointSchema, left_out: Collection[str] = ()
) -> Iterator[Picture]:
    """Yield the pictures of a split of the records, but for those of some names.

    Raises:
        UserError: It is no split, or of another data set.
    """
    records.check_is_split(split_dir)
    records.check_schema(split_dir, schema)
    files = records.record_files(records.split_patterns(split_dir, 'all'))
    dataset = records.decoded(tf.data.TFRecordDataset(files), schema)
    for example in faults.named(dataset.as_numpy_iterator(), files, schema):
        name = example['image_id'].decode()
        if name not in left_out:
            pixels = images.pixels(records.picture(example))
            yield Picture(name, example['category'].decode(), pixels, example['box'])


def of_folder(
    folder: str,
    schema: KeypointSchema,
    category: str | None = None,
    left_out: Collection[str] = (),
) -> Iterator[Picture]:
    """Yield the pictures of a folder and its sub-folders, sorted, but for those of some names.

    A name is the path below the folder, with '/'.

    Args:
        folder: Local.
        schema: Whose categories they have.
        category: Of all of them; None: by the sub-folder that they are in, or the only one.
        left_out: Names.

    Raises:
        UserError: There is none, one is no picture, or nothing tells its category.
    """
    every = (os.path.join(parent, name) for parent, _, files in os.walk(folder) for name in files)
    paths = decoding.named_pictures(every)
    names = [os.path.relpath(path, folder).replace(os.sep, '/') for path in paths]
    if not names:
        raise UserError(f'{folder!r} holds no images ({", ".join(decoding.SUFFIXES)})')
    # What nothing tells is an error before the network has looked at thousands.
    categories = {name: _category_of(name, folder, schema, category) for name in names}
    for name in names:
        check_name(name)
    for name in names:
        if name in left_out:
            continue
        path = os.path.join(folder, name)
        try:
            pixels = decoding.decode(images.read_image(path))
        except decoding.BadImageError as error:
            raise UserError(f'{path}: {error}') from error
        yield Picture(name, categories[name], pixels, _NO_BOX)


def _category_of(name: str, folder: str, schema: KeypointSchema, category: str | None) -> str:
    """Return the category of a picture by its path below the folder."""
    if category is not None:
        schema.indices(category)
        return category
    of_path = [part for part in name.split('/')[:-1] if part in schema.categories]
    if of_path:
        return of_path[-1]
    if len(schema.categories) == 1:
        return next(iter(schema.categories))
    raise UserError(
        f'{os.path.join(folder, name)}: nothing tells its category; give --category, or sort the '
        f'images into folders named {", ".join(schema.categories)}'
    )
