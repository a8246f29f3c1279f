"""Whole-or-nothing file I/O: an output appears under its name only when it is complete."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


def read_bytes(path: str | os.PathLike) -> bytes:
    """The content of a local or remote file. Raises OSError if it cannot be read."""
    if '://' not in os.fspath(path):
        return Path(path).read_bytes()
    import tensorflow as tf  # here, because it takes seconds

    try:
        with tf.io.gfile.GFile(os.fspath(path), 'rb') as file:
            return file.read()
    except tf.errors.OpError as error:
        raise OSError(f'{path}: {error.message}') from error


def write_bytes(path: str | os.PathLike, data: bytes) -> None:
    """Writes a local or remote file beside its name and renames it: it is complete or not there."""
    partial = f'{os.fspath(path)}.{os.getpid()}.partial'
    if '://' not in os.fspath(path):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        try:
            Path(partial).write_bytes(data)
            Path(partial).replace(path)
        finally:
            Path(partial).unlink(missing_ok=True)
        return
    import tensorflow as tf  # here, because it takes seconds

    try:
        tf.io.gfile.makedirs(os.path.dirname(partial))
        with tf.io.gfile.GFile(partial, 'wb') as file:
            file.write(data)
        tf.io.gfile.rename(partial, os.fspath(path), overwrite=True)
    except tf.errors.OpError as error:
        raise OSError(f'{path}: {error.message}') from error


_PARTIAL_SUFFIX = '.partial'


@contextlib.contextmanager
def written_whole(path: str) -> Iterator[str]:
    """Gives a path beside `path` to write to; renames it to `path` once the body has succeeded.

    What an interrupted run left at the path beside is overwritten by the next one.
    """
    import tensorflow as tf  # here, because it takes seconds

    partial = path + _PARTIAL_SUFFIX
    try:
        yield partial
    except BaseException:
        if tf.io.gfile.exists(partial):
            tf.io.gfile.remove(partial)
        raise
    tf.io.gfile.rename(partial, path, overwrite=True)
