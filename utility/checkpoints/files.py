"""The checkpoints of a folder on disk: which is the newest that can be read in full.

A disk that is full or failing, or a copy that was cut short, leaves a newest checkpoint, or the
file that points to it, in pieces. Then the one before is as good as ever.
"""

from __future__ import annotations

import os
import re

from absl import logging

from config import UserError
from preprocessing.files import exists, is_folder, names_in, remove_tree
from utility.checkpoints import bundles


def candidates(folder: str) -> list[str]:
    """Return prefixes of the checkpoints of a folder, whole or not, the newest first.

    Those that the folder's `checkpoint` file lists come in its order, before all others. Of what it
    lists the names count and not the folders: a run may have been moved, or the file forged.
    """
    if not is_folder(folder):
        return []
    steps = {}
    for name in names_in(folder):
        match = re.fullmatch(r'(.*ckpt-(\d+))\.index', name)
        if match:
            steps[os.path.join(folder, match.group(1))] = int(match.group(2))
    by_step = sorted(steps, key=lambda prefix: (steps[prefix], prefix), reverse=True)
    return list(dict.fromkeys([*_listed(folder), *by_step]))


def _listed(folder: str) -> list[str]:
    """Return the prefixes in a folder that its `checkpoint` file names, the newest first."""
    return [os.path.join(folder, os.path.basename(path)) for path in _paths_listed(folder)]


def _paths_listed(folder: str) -> list[str]:
    """Return what a folder's `checkpoint` file lists, the newest first; none if broken."""
    import tensorflow as tf

    try:
        state = tf.train.get_checkpoint_state(folder)
    except ValueError:  # no text, or no checkpoint named in it
        state = None
    if state is None:
        return []
    return [state.model_checkpoint_path, *reversed(state.all_model_checkpoint_paths)]


def newest(folder: str) -> str | None:
    """Return the checkpoint that a training saved last in a folder, whole or not; None without any.

    As tf.train.latest_checkpoint, which takes the path of the folder for a pattern, and follows
    the `checkpoint` file out of it.
    """
    listed = _listed(folder)[:1]
    return listed[0] if listed and exists(f'{listed[0]}.index') else None


def problem(prefix: str) -> str | None:
    """Return why a checkpoint cannot be read in full, or None.

    Every tensor is read and its checksum compared: 0.1 s for 300 MB in memory.
    """
    import tensorflow as tf

    try:
        reader = bundles.reader(prefix)
        for name in reader.get_variable_to_shape_map():
            reader.get_tensor(name)
    except (tf.errors.OpError, RuntimeError, ValueError, IndexError) as error:
        return str(error).split('\n')[0]
    return None


def usable(folder: str) -> str | None:
    """Return the newest checkpoint of a folder that can be read; None if there is none at all.

    Says which newer ones it passed over, and why.

    Raises:
        UserError: There are checkpoints, but not one of them can be read.
    """
    passed = {}
    for prefix in candidates(folder):
        reason = problem(prefix)
        if reason is None:
            for broken, why in passed.items():
                logging.warning('%s cannot be read (%s); using %s', broken, why, prefix)
            return prefix
        passed[prefix] = reason
    if passed:
        message = '; '.join(f'{os.path.basename(prefix)}: {why}' for prefix, why in passed.items())
        raise UserError(f'{folder!r}: none of its checkpoints can be read ({message})')
    return None


def recover(folder: str, is_alone: bool = True) -> None:
    """Make the `checkpoint` file of a folder point to the newest checkpoint that can be read.

    Removes what a process that was killed left half written, but not what symbolic links lead to.

    Args:
        is_alone: Whether this process alone may write there: see preprocessing.files.alone_in.

    Raises:
        UserError: There are checkpoints, but not one of them can be read.
    """
    import tensorflow as tf

    try:
        prefix = usable(folder)
    except ValueError as error:
        raise UserError(f'{error}; bring one back, or remove the folder to start anew') from error
    if is_alone:
        _remove_leftovers(folder)
    if prefix is None or _leads_to(folder, prefix):
        return
    known = candidates(folder)
    # Relative, so that the folder may be moved.
    names = [os.path.basename(other) for other in known[known.index(prefix) :]]
    tf.compat.v1.train.update_checkpoint_state(folder, names[0], names[::-1])
    logging.warning('%s goes on from %s', folder, prefix)


def _leads_to(folder: str, prefix: str) -> bool:
    """Return whether TensorFlow, which trusts the paths of the `checkpoint` file, agrees."""
    listed = _paths_listed(folder)[:1]
    return listed == [prefix] and os.path.dirname(listed[0]) == folder.rstrip('/')


def _remove_leftovers(folder: str) -> None:
    import tensorflow as tf

    if is_folder(folder):
        for name in names_in(folder):
            path = os.path.join(folder, name)
            if re.fullmatch(r'.*ckpt-\d+_temp', name):
                remove_tree(path)
            elif re.fullmatch(r'.*\.tmp[0-9a-f]{32}', name):
                tf.io.gfile.remove(path)
