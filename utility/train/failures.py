"""Errors of a training that are no faults of the program, as what a person can do about them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator

import tensorflow as tf

from config import EXPERIMENT_FILE, UserError
from preprocessing import graph_messages
from preprocessing.files import exists
from utility.checkpoints import files
from utility.command_line.scripts import RunError
from utility.train import guards

_CAUSES = (
    'Usual causes: a learning rate that is too high (optimizer.learning_rate, schedule.warmup_steps'
    ', optimizer.clip_norm) or a picture with a wrong annotation'
)
# What reading records raises when they are no longer those that were counted.
_OF_RECORDS = (tf.errors.DataLossError, tf.errors.FailedPreconditionError, tf.errors.NotFoundError)


@contextlib.contextmanager
def explained(folder: str, check_records: Callable[[], None]) -> Iterator[None]:
    """Tell of the failures of the training in the body in one line.

    Args:
        folder: Of the network.
        check_records: Reads the records of the training; raises UserError if they are broken.

    Raises:
        RunError: The training has failed in one of the known ways.
        UserError: It has failed because of its records.
    """
    try:
        with _removed_told(folder):
            yield
    except guards.NotFiniteError as error:
        raise RunError(f'{error}; {_going_on(folder)}. {_CAUSES}') from error
    except tf.errors.InvalidArgumentError as error:
        message = graph_messages.find(graph_messages.NOT_FINITE, error)
        if message is None:
            check_records()
            raise
        raise RunError(f'{message}; {_going_on(folder)}. {_CAUSES}') from error
    # TensorFlow's message quotes a record that it cannot parse, which may be no text.
    except (*_OF_RECORDS, UnicodeDecodeError):
        check_records()
        raise


@contextlib.contextmanager
def _removed_told(folder: str) -> Iterator[None]:
    """Tell where the body fails because the folder is no longer there."""
    try:
        yield
    except UserError:
        raise
    except (
        tf.errors.OpError,
        OSError,
        RuntimeError,
        ValueError,
    ) as error:  # by what meets it first
        # Some of it makes the directory again, but not what lay in it.
        if exists(os.path.join(folder, EXPERIMENT_FILE)):
            raise
        raise RunError(
            f'{folder} was removed or renamed while it was trained; nothing more can be saved there'
        ) from error


def _going_on(folder: str) -> str:
    newest = files.newest(folder)
    return f'nothing was saved since {newest}' if newest else 'nothing was saved'
