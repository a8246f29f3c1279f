"""Checkpoints of a few tensors, without a network."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from config import Experiment


def write_checkpoint(prefix: os.PathLike | str, values: Mapping[str, object]) -> str:
    """Write a name-based checkpoint of the values; the prefix as a string."""
    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=list(values),
        shape_and_slices=[''] * len(values),
        tensors=[tf.constant(value) for value in values.values()],
    )
    return str(prefix)


def write_network(folder: pathlib.Path, experiment: Experiment, trained: bool = True) -> None:
    """Make the folder of a network, as far as those look at it who do not restore its weights."""
    folder.mkdir(parents=True)
    (folder / 'experiment.json').write_text(experiment.to_json())
    if trained:
        write_checkpoint(folder / 'model.ckpt-1', {'global_step': np.int64(1)})
        (folder / 'checkpoint').write_text('model_checkpoint_path: "model.ckpt-1"\n')
