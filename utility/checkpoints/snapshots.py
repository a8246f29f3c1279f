"""Folders that hold one checkpoint of the network's weights, replaced as a whole.

Beside the checkpoints of a training, with all its state, stand FOLDER/best and FOLDER/averaged.
What they hold is a checkpoint like any other, without the state of an optimizer: to predict with
and to start from, not to resume. Killed at any moment, a folder holds the old one or the new one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

import numpy as np

from config import UserError
from preprocessing.files import check_no_link, make_folder, write_bytes
from utility.checkpoints import files, variables

# Two names, in turn: what is being written never stands in the place of what is there.
_STEMS = ('model.ckpt', 'model.weights.ckpt')
_POINTER = 'checkpoint'  # TensorFlow looks up the newest checkpoint of a folder in this file
GLOBAL_STEP = 'global_step'
BEST, AVERAGED = 'best', 'averaged'  # sub-folders of a network's folder
LAST = 'last'  # the newest checkpoint of the training itself
# Where there is no best one, as in a training without validation, what comes closest.
FALLBACKS = (AVERAGED, LAST)


def step_of(prefix: str) -> int:
    """Return the global step that the name of a checkpoint tells.

    Raises:
        UserError: The name does not end with a step.
    """
    match = re.search(r'-(\d+)$', prefix)
    if not match:
        raise UserError(f'{prefix!r} is not named after a step, as in model.ckpt-1000')
    return int(match.group(1))


def newest_step(folder: str) -> int:
    """Return the global step of the newest checkpoint of a training, 0 if there is none."""
    newest = files.candidates(folder)
    return step_of(newest[0]) if newest else 0


def evaluated(folder: str, step: int) -> str:
    """Return the checkpoint that the evaluation at `step` measured: averaged if there is one."""
    averaged = files.newest(os.path.join(folder, AVERAGED))
    if averaged and step_of(averaged) == step:
        return averaged
    return os.path.join(folder, f'model.ckpt-{step}')


def read_weights(prefix: str) -> dict[str, np.ndarray]:
    """Return variables.network_tensors of a checkpoint, by name."""
    return dict(variables.network_tensors(prefix))


def replace(folder: str, step: int, weights: Mapping[str, np.ndarray]) -> str:
    """Make a checkpoint of the weights the only one of the folder; return its prefix.

    Raises:
        UserError: The folder is a symbolic link; what it leads to stays as it is.
    """
    import tensorflow as tf  # here, because it takes seconds

    check_no_link(folder)
    make_folder(folder)
    current = files.newest(folder) or ''
    stem = next(s for s in _STEMS if os.path.basename(current) != f'{s}-{step}')
    name = f'{stem}-{step}'
    prefix = os.path.join(folder, name)
    variables.save(prefix, {**weights, GLOBAL_STEP: np.int64(step)})
    # From here on it is the new one. The name is relative: the folder may be moved.
    pointer = f'model_checkpoint_path: "{name}"\nall_model_checkpoint_paths: "{name}"\n'
    write_bytes(os.path.join(folder, _POINTER), pointer.encode())
    for file in tf.io.gfile.listdir(folder):
        if '.ckpt-' in file and not file.startswith((f'{name}.index', f'{name}.data-')):
            tf.io.gfile.remove(os.path.join(folder, file))
    return prefix


def holds(folder: str, step: int, weights: Mapping[str, np.ndarray]) -> bool:
    """Return whether the checkpoint of the folder is of this step and has exactly these weights."""
    current = files.newest(folder)
    if not current or step_of(current) != step:
        return False
    try:
        stored = read_weights(current)
    except UserError:  # damaged
        return False
    return stored.keys() == weights.keys() and all(
        np.array_equal(stored[name], weights[name], equal_nan=True) for name in weights
    )


def has_any(folder: str) -> bool:
    """Tell whether there are weights of this network to choose from."""
    return any(variables.has_checkpoint(folder_of(folder, name)) for name in (BEST, *FALLBACKS))


def folder_of(folder: str, name: str) -> str:
    """Give the folder that holds the checkpoint called `name` of a network."""
    return folder if name == LAST else os.path.join(folder, name)
