"""Whether the files of a split are those that dataset.json tells of."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import tensorflow as tf

from config import UserError
from preprocessing import records
from preprocessing.conversion import image_ids
from preprocessing.faults import AGAIN as _AGAIN

SIZES = 'bytes'  # in dataset.json: of a split by category, those of its files


def sizes(paths: Sequence[str]) -> list[int]:
    return [tf.io.gfile.stat(path).length for path in paths]


def check_split(split_dir: str, category: str, reads: bool = False) -> None:
    """Look for files of a split that are missing, too many or in pieces, and for ids twice.

    Names and sizes take no time, ids some 20 microseconds a record. Records are read only on
    demand: where dataset.json is of a time before it told the sizes, a file in pieces may be found
    by that alone.

    Args:
        split_dir: RECORDS/<split>.
        category: As in records.count_by_category.
        reads: Whether to read all records, which takes as long as it takes to copy them.

    Raises:
        UserError: A file is not as it should be; names it.
    """
    info, split = records.info_of_split(split_dir)
    described = info['splits'].get(split, {})
    every: list[str] = []
    for name, count in records.count_by_category(split_dir, category).items():
        if count:
            paths = _whole_set(split_dir, name)
            every += paths
            _check_sizes(paths, described.get(SIZES, {}).get(name, ()))
            if reads:
                _check_count(paths, count)
    image_ids.check_unique(every)


def _whole_set(split_dir: str, category: str) -> list[str]:
    """Return the files of a category, in order."""
    found = records.record_files(records.split_patterns(split_dir, category))
    number = max(int(re.search(r'-of-(\d+)\.tfrecord$', path).group(1)) for path in found)
    paths = [records.shard_path(split_dir, category, i, number) for i in range(number)]
    for path in paths:
        if path not in found:
            raise UserError(f'{path} is missing; {_AGAIN}')
    for path in found:
        if path not in paths:
            raise UserError(f'{path} is of another conversion than {paths[-1]}; {_AGAIN}')
    return paths


def _check_sizes(paths: Sequence[str], expected: Sequence[int]) -> None:
    for path, size, there in zip(paths, expected, sizes(paths)):
        if size != there:
            by = f'{size} by {records.DATASET_FILE}'
            raise UserError(f'{path} has {there} bytes, but {by}: cut off or altered; {_AGAIN}')


def _check_count(paths: Sequence[str], count: int) -> None:
    found: Mapping[str, int] = {path: _num_records(path) for path in paths}
    total = sum(found.values())
    if total != count:
        parts = ', '.join(f'{path} {number}' for path, number in found.items())
        raise UserError(f'{total} records ({parts}), but {count} by {records.DATASET_FILE}')


def _num_records(path: str) -> int:
    number = 0
    try:
        for _ in tf.data.TFRecordDataset(path):
            number += 1
    except tf.errors.DataLossError as error:
        raise UserError(f'{path}: record {number + 1} is cut off or damaged; {_AGAIN}') from error
    return number
