"""Data sets: what an annotation is, and the registry of readers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from config import Registry
from preprocessing.schema import KeypointSchema

DATASETS = Registry(
    'data set',
    """Name -> DatasetSpec. To add one: a file in this folder that registers its spec, and its
    import at the end of this module.""",
)


class Annotation(NamedTuple):
    """One picture and what is known of it.

    Attributes:
        image_path: Where the picture is.
        image_id: Its key in submissions.
        category: One of the schema's.
        keypoints: float32 [K, 2], continuous px of the original picture (pixel centres at +0.5).
        visibility: int32 [K]: 1 visible, 0 occluded, -1 not annotated.
        box: float32 [4] (x_min, y_min, x_max, y_max) of the garment, or None.
    """

    image_path: str
    image_id: str
    category: str
    keypoints: np.ndarray
    visibility: np.ndarray
    box: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Split:
    """A part of a data set, as found on disk.

    Attributes:
        name: Such as 'train_0'.
        labelled: Whether its pictures have points.
        files: The annotation files that were read for it.
        annotations: Yields its pictures in file order; may be called again.
    """

    name: str
    labelled: bool
    files: tuple[str, ...]
    annotations: Callable[[], Iterator[Annotation]]


@dataclasses.dataclass(frozen=True)
class DatasetSpec:
    """A data set: its schema and how to find its splits below a directory.

    Attributes:
        schema: Its keypoints.
        find_splits: data_dir -> its splits; raises UserError where there are none.
    """

    schema: KeypointSchema
    find_splits: Callable[[str], list[Split]]
