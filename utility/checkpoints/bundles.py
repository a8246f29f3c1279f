"""Reads checkpoints once it is known that they are what TensorFlow writes.

TensorFlow trusts the index of a checkpoint: a negative size ends the process, a string of 10^9
bytes takes as much memory, and characters of patterns in a path name other files.
Here the index is read first. It is a table as of LevelDB (its table_format.md): blocks of keys that
share their beginnings, a block that tells where the others are, and a footer that tells where that
one is. A value is a BundleEntryProto (tensorflow/core/protobuf/tensor_bundle.proto).
"""

from __future__ import annotations

import atexit
import functools
import math
import os
import re
import shutil
import struct
import tempfile
from collections.abc import Iterator

from config import UserError
from preprocessing import files
from preprocessing.wire_format import VARINT_BYTES, varint

PATTERN_CHARACTERS = '*?[\\'  # of tf.io.gfile.glob, to which TensorFlow gives the path as it is
_FOOTER = 48  # bytes: two places of blocks, padded, and the number that ends every table
_MAGIC = 0xDB4775248B80FB57
_MAX_INDEX_BYTES = 64 << 20  # a tensor takes some 100
_MAX_SHARDS = 10_000
_TRAILER = 5  # bytes after a block: how it is compressed, and a checksum


def reader(prefix: str):
    """Return TensorFlow's reader of a checkpoint, which lists and reads its tensors.

    Raises:
        UserError: It is damaged, or is not what TensorFlow writes; says why.
    """
    import tensorflow as tf

    reason = None
    try:
        check(prefix)
        return tf.train.load_checkpoint(literal(prefix))
    except (tf.errors.OpError, RuntimeError, OSError, ValueError) as error:
        reason = str(error).split('\n')[0]
    raise UserError(f'{prefix!r} is not a readable checkpoint: {reason}')


def literal(prefix: str) -> str:
    """Return a prefix of the same checkpoint that TensorFlow does not take for a pattern.

    Links to its files stand in a temporary directory where its own path would be one.
    """
    local = files.local_path(prefix)
    if local is None or not set(local) & set(PATTERN_CHARACTERS):
        return prefix
    return _linked(os.path.abspath(local))


@functools.cache
def _linked(prefix: str) -> str:
    folder, name = os.path.split(prefix)
    place = tempfile.mkdtemp(prefix='checkpoint_')
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    linked = os.path.join(place, 'weights')  # its own name may be a pattern, too
    for file in os.listdir(folder):
        if file.startswith((f'{name}.index', f'{name}.data-')):
            os.symlink(os.path.join(folder, file), f'{linked}{file[len(name) :]}')
    return linked


def check(prefix: str) -> None:
    """Compare the index of a checkpoint with itself and with the sizes of its files.

    Raises:
        ValueError: It promises what its files cannot hold; says which tensor.
        OSError: It cannot be read.
    """
    from tensorflow.core.protobuf import tensor_bundle_pb2

    files.keep([f'{prefix}.index'])
    size = _size(f'{prefix}.index')
    if size > _MAX_INDEX_BYTES:
        raise ValueError(f'its index has {size} bytes; at most {_MAX_INDEX_BYTES} are read')
    try:
        entries = dict(_entries(files.read_bytes(f'{prefix}.index')))
        header = tensor_bundle_pb2.BundleHeaderProto.FromString(entries.pop(b''))
        parsed = {
            key.decode(errors='replace'): tensor_bundle_pb2.BundleEntryProto.FromString(value)
            for key, value in entries.items()
        }
    except (IndexError, KeyError, struct.error, _decode_error()) as error:
        raise ValueError('its index is damaged') from error
    if not 0 < header.num_shards <= _MAX_SHARDS or header.endianness:
        raise ValueError(f'its index tells of {header.num_shards} files of data')
    shards = [
        f'{prefix}.data-{number:05d}-of-{header.num_shards:05d}'
        for number in range(header.num_shards)
    ]
    files.keep(shards)
    sizes = [_size(shard) for shard in shards]
    for name, entry in parsed.items():
        _check_entry(name, entry, shards, sizes)
    total = sum(entry.size for entry in parsed.values())
    if total > sum(sizes):
        raise ValueError(f'its tensors take {total} bytes, its files have {sum(sizes)}')


def _decode_error() -> type[Exception]:
    from google.protobuf.message import DecodeError

    return DecodeError


def _size(path: str) -> int:
    import tensorflow as tf

    try:
        return tf.io.gfile.stat(path).length
    except tf.errors.OpError as error:
        raise OSError(error.message) from error


def _check_entry(name: str, entry, shards: list[str], sizes: list[int]) -> None:
    """Raise ValueError where an entry of the index cannot be of a tensor in these files."""
    import tensorflow as tf

    shape = [dimension.size for dimension in entry.shape.dim]
    described = f'its tensor {name!r} of shape {shape}'
    if entry.shape.unknown_rank or any(side < 0 for side in shape):
        raise ValueError(f'{described} cannot be')
    is_inside = 0 <= entry.shard_id < len(shards) and entry.offset >= 0 and entry.size >= 0
    if not is_inside or entry.offset + entry.size > sizes[entry.shard_id]:
        raise ValueError(f'{described} lies outside of its files')
    try:
        dtype = tf.dtypes.as_dtype(entry.dtype)
        item_size = 1 if dtype == tf.string else dtype.size
    except (TypeError, KeyError) as error:
        raise ValueError(f'{described} is of the unknown type {entry.dtype}') from error
    needed = math.prod(shape) * item_size
    if entry.slices:  # stands in parts, each of which has an entry of its own
        if needed > sum(sizes):
            raise ValueError(f'{described} takes {needed} bytes, its files have {sum(sizes)}')
    elif dtype == tf.string:
        if not _fits(shards[entry.shard_id], entry, math.prod(shape)):
            raise ValueError(f'{described} has strings that are longer than its {entry.size} bytes')
    elif needed != entry.size:
        raise ValueError(f'{described} takes {needed} bytes, but {entry.size} are there')


def _fits(shard: str, entry, count: int) -> bool:
    """Return whether the lengths of `count` strings before these add up to the entry's."""
    import tensorflow as tf

    if count > entry.size:
        return False
    with tf.io.gfile.GFile(shard, 'rb') as file:
        file.seek(entry.offset)
        data, position, total = file.read(min(entry.size, count * VARINT_BYTES)), 0, 0
    try:
        for _ in range(count):
            length, position = varint(data, position)
            total += length
    except IndexError:
        return False
    return position + total <= entry.size


def _entries(table: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the keys and values of a table. Raises IndexError or ValueError where it is none."""
    footer = table[-_FOOTER:]
    if len(footer) < _FOOTER or struct.unpack('<Q', footer[-8:])[0] != _MAGIC:
        raise ValueError('its index is not a table')
    _, position = _place(footer, 0)
    place, _ = _place(footer, position)
    number = 0
    for _, value in _block(table, *place):
        for entry in _block(table, *_place(value, 0)[0]):
            number += 1
            if number > len(table):  # a block that is listed again and again
                raise IndexError('more entries than there is room for')
            yield entry


def _place(data: bytes, position: int) -> tuple[tuple[int, int], int]:
    """Return offset and size of a block, and the position after them."""
    offset, position = varint(data, position)
    size, position = varint(data, position)
    return (offset, size), position


def _block(table: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    if offset + size + _TRAILER > len(table):
        raise IndexError('a block lies outside of the table')
    if table[offset + size]:
        raise ValueError('its index is compressed, which TensorFlow does not do')
    block, key, position = table[offset : offset + size], b'', 0
    (restarts,) = struct.unpack('<I', block[-4:])
    end = size - 4 * (restarts + 1)
    while position < end:
        shared, position = varint(block, position)
        fresh, position = varint(block, position)
        length, position = varint(block, position)
        if shared > len(key) or position + fresh + length > end:
            raise IndexError('an entry lies outside of its block')
        key = key[:shared] + block[position : position + fresh]
        position += fresh
        yield key, block[position : position + length]
        position += length


def path_problem(path: str) -> str | None:
    """Return why nothing can be trained in a directory of this path; None where it can."""
    wildcard = re.search(r'[*?\[\\]', path)
    if wildcard:
        return f'TensorFlow takes {wildcard.group()!r} in a path for a pattern of names'
    if ',' in path:
        return 'the eval scripts take a comma for the end of a path'
    return None
