"""Data sets: what an annotation is, and the registry of readers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from config import DataConfig, Registry, UserError
from preprocessing import schema_files
from preprocessing.schema import KeypointSchema

DATASETS = Registry(
    'data set',
    """Name -> DatasetSpec or FormatSpec. To add one: a file in this folder that registers its spec,
    and its import in __init__.py.""",
)


# What a labelled split is for: see Split.part.
POOLED, VAL, APART = 'pooled', 'val', 'apart'


class Annotation(NamedTuple):
    """One picture and what is known of it.

    Attributes:
        image_path: Where the picture is.
        image_id: Its key in submissions.
        category: One of the schema's.
        keypoints: float32 [K, 2], continuous px of the original picture (pixel centers at +0.5).
        visibility: int32 [K]: 1 visible, 0 occluded, -1 not annotated.
        box: float32 [4] (x_min, y_min, x_max, y_max) of the garment, or None.
        image_size: (height, width) that the picture must have, px; None: any.
        fault: Why it cannot be used; None: nothing is known against it.
    """

    image_path: str
    image_id: str
    category: str
    keypoints: np.ndarray
    visibility: np.ndarray
    box: np.ndarray | None = None
    image_size: tuple[int, int] | None = None
    fault: str | None = None


@dataclasses.dataclass(frozen=True)
class Split:
    """A part of a data set, as found on disk.

    Attributes:
        name: Such as 'train_0'.
        labelled: Whether its pictures have points.
        files: The annotation files that were read for it.
        annotations: Yields its pictures in file order; may be called again.
        part: What it is for, if it is labelled: POOLED is divided into train and val, VAL is all
            for validation, APART is written by its own name.
        point_offset: px that were added to the coordinates of points in the files.
    """

    name: str
    labelled: bool
    files: tuple[str, ...]
    annotations: Callable[[], Iterator[Annotation]]
    part: str = POOLED
    point_offset: float = 0.5

    @property
    def is_apart(self) -> bool:
        """Whether its records go to a directory of its own."""
        return not self.labelled or self.part == APART


class Source(NamedTuple):
    """Data in a format for any keypoints.

    Attributes:
        data_dir: Holds them.
        schema: Of a schema file; None: it is in the data.
        point_offset: px, from the coordinates in the files to those from the outer corner of the
            top-left pixel; None: what the format usually needs.
        allow_links: Directories that symbolic links to pictures may lead to, out of the data.
    """

    data_dir: str
    schema: KeypointSchema | None = None
    point_offset: float | None = None
    allow_links: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class DatasetSpec:
    """A data set: its schema and how to find its splits below a directory.

    Attributes:
        schema: Its keypoints.
        find_splits: (data_dir, Source.allow_links) -> its splits; raises UserError where there are
            none. Without the latter no link leads out of the data.
    """

    schema: KeypointSchema
    find_splits: Callable[..., list[Split]]

    def open(self, source: Source) -> tuple[KeypointSchema, list[Split]]:
        """Return the schema and the splits of the data.

        Raises:
            UserError: What only a format needs is given, or there are no splits.
        """
        for flag, value in (('schema', source.schema), ('point_offset', source.point_offset)):
            if value is not None:
                name = self.schema.name
                raise UserError(f'--{flag}: data set {name!r} has a {flag} of its own')
        return self.schema, self.find_splits(source.data_dir, source.allow_links)


@dataclasses.dataclass(frozen=True)
class FormatSpec:
    """A format of data sets: what is annotated is in the data or in a schema file.

    Attributes:
        read: Source -> the schema and the splits; raises UserError where the data are wrong, or
            have no schema and none is given.
    """

    read: Callable[[Source], tuple[KeypointSchema, list[Split]]]
    schema = None

    def open(self, source: Source) -> tuple[KeypointSchema, list[Split]]:
        """Return the schema and the splits of the data, as of `read`."""
        return self.read(source)


def named_schema(dataset: str) -> KeypointSchema:
    """Return the schema of a data set.

    Args:
        dataset: Name in DATASETS; or the path, ending in .json, .yaml or .yml, of a schema file or
            of the dataset.json of records.

    Raises:
        UserError: The name is unknown or of a format, or the file is wrong.
    """
    if dataset.lower().endswith(schema_files.SUFFIXES):
        return schema_files.read(dataset)
    schema = DATASETS.get(dataset).schema
    if schema is None:
        raise UserError(
            f'dataset={dataset!r} is a format for any keypoints; give the path of a schema file or '
            'of a dataset.json instead'
        )
    return schema


def schema_of(data: DataConfig) -> KeypointSchema:
    """Return the schema of the data set that an experiment is for."""
    if data.schema:
        return schema_files.parse(data.schema, 'data.schema')
    return named_schema(data.dataset)
