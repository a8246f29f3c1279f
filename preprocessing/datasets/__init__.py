"""Data sets: readers of annotations, by name.

`DATASETS.get(name)` is a DatasetSpec or, of a format for any keypoints, a FormatSpec; `Annotation`
is one image of it, `schema_of(experiment.data)` what is annotated; registry.py has the contract.
To add a format: a file in this folder that registers its spec, and its import here.
"""

from preprocessing.datasets import (  # noqa: F401  they register themselves
    coco,
    csv_tables,
    cvat,
    deepfashion2,
    deeplabcut,
    fashionai,
    fld,
    label_studio,
    labelme,
    yolo,
)
from preprocessing.datasets.registry import (
    DATASETS,
    Annotation,
    DatasetSpec,
    FormatSpec,
    Source,
    Split,
    named_schema,
    schema_of,
)

__all__ = [
    'DATASETS',
    'Annotation',
    'DatasetSpec',
    'FormatSpec',
    'Source',
    'Split',
    'named_schema',
    'schema_of',
]
