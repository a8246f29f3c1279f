"""Data sets: readers of annotations, by name.

`DATASETS.get(name)` is a DatasetSpec, `Annotation` one image of it; registry.py has the contract.
To add a format: a file in this folder that registers its spec, and its import here.
"""

from preprocessing.datasets import fashionai  # noqa: F401  registers itself
from preprocessing.datasets.registry import DATASETS, Annotation, DatasetSpec, Split

__all__ = ['DATASETS', 'Annotation', 'DatasetSpec', 'Split']
