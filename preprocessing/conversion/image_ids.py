"""An image_id names one record of a split: ids that annotations share are told apart, and records
that share one are found.
"""

from __future__ import annotations

import collections
import contextlib
import mmap
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from absl import logging

from config import UserError
from preprocessing.datasets import Annotation
from preprocessing.faults import AGAIN
from preprocessing.files import local_path
from preprocessing.wire_format import fields

_LENGTH = struct.Struct('<Q')
_BEFORE, _AFTER = 12, 4  # bytes around the data of a TFRecord: length and checksums
_ID = b'image/id'


def told_apart(
    annotations: Sequence[tuple[str, Annotation]], pools: Mapping[str, str]
) -> list[tuple[str, Annotation]]:
    """Return the same annotations, of which no two that may be in one split of records share an id.

    Args:
        annotations: Pairs of a split's name and an annotation of it.
        pools: Split -> what tells those apart whose records are not put together. An id that an
            earlier split of the same pool has gets the name of its own before it.

    Raises:
        UserError: An id is in a split twice.
    """
    taken: dict[tuple[str, str], str] = {}  # (pool, id) -> split
    renamed: collections.Counter = collections.Counter()
    unique = []
    for split, annotation in annotations:
        pool, image_id = pools[split], annotation.image_id
        earlier = taken.get((pool, image_id))
        if earlier not in (None, split):
            renamed[split, earlier] += 1
            image_id = f'{split}/{image_id}'
            earlier = taken.get((pool, image_id))
        if earlier is not None:
            raise UserError(f'{split}: the image_id {image_id!r} is there twice')
        taken[pool, image_id] = split
        unique.append((split, annotation._replace(image_id=image_id)))
    for (split, earlier), number in renamed.items():
        logging.warning(
            '%s and %s share %d image ids; in the records those of %s begin with %s/',
            earlier, split, number, split, split,
        )  # fmt: skip
    return unique


def check_unique(paths: Sequence[str]) -> None:
    """Look for an image_id that several records have. Pictures are not read.

    Args:
        paths: Files of the records of a split. Remote ones are not looked at, and what cannot be
            parsed is left to those who read all of a record.

    Raises:
        UserError: There is one; names it and its files.
    """
    found: dict[bytes, str] = {}
    for path in paths:
        for image_id in _ids_in(path):
            if image_id in found:
                name, first = image_id.decode(errors='replace'), found[image_id]
                where = path if first == path else f'{first} and {path}'
                raise UserError(f'{where}: two records have the image_id {name!r}; {AGAIN}')
            found[image_id] = path


def _ids_in(path: str) -> Iterator[bytes]:
    """Yield the ids of the records of a local file, up to the first that cannot be parsed."""
    local = local_path(path)
    # Of nothing there is no map.
    if local is None or not os.path.isfile(local) or not os.path.getsize(local):
        return
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(Path(local).open('rb'))
        data = stack.enter_context(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        start, size = _BEFORE, len(data)
        while start < size:
            end = start + _LENGTH.unpack_from(data, start - _BEFORE)[0]
            if end + _AFTER > size:
                return
            try:
                yield from _ids_of(data, start, end)
            except IndexError:
                return
            start = end + _AFTER + _BEFORE


def _ids_of(data, start: int, end: int) -> Iterator[bytes]:
    """Yield the values of 'image/id' of a tf.train.Example."""
    for features in fields(data, start, end, 1):
        for entry in fields(data, *features, 1):
            if any(data[slice(*key)] == _ID for key in fields(data, *entry, 1)):
                for feature in fields(data, *entry, 2):
                    for values in fields(data, *feature, 1):
                        yield from (data[slice(*value)] for value in fields(data, *values, 1))
