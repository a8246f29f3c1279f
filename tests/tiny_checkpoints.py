"""Checkpoints of a few tensors, without a network."""

from __future__ import annotations

import os
from collections.abc import Mapping

import tensorflow as tf


def write_checkpoint(prefix: os.PathLike | str, values: Mapping[str, object]) -> str:
    """Writes a name-based checkpoint of the values; the prefix as a string."""
    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=list(values),
        shape_and_slices=[''] * len(values),
        tensors=[tf.constant(value) for value in values.values()],
    )
    return str(prefix)
