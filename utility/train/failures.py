"""Errors of a training that are no faults of the program, as what a person can do about them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import tensorflow as tf

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
    """Tells of the failures of the training in the body in one line.

    Args:
        folder: Of the network.
        check_records: Reads the records of the training; raises UserError if they are broken.

    Raises:
        RunError: The training has failed in one of the known ways.
        UserError: It has failed because of its records.
    """
    try:
        yield
    except guards.NotFiniteError as error:
        raise RunError(f'{error}; {_going_on(folder)}. {_CAUSES}') from error
    except tf.errors.InvalidArgumentError as error:
        message = guards.stopped(error)
        if message is None:
            raise
        raise RunError(f'{message}; {_going_on(folder)}. {_CAUSES}') from error
    except _OF_RECORDS:
        check_records()
        raise


def _going_on(folder: str) -> str:
    newest = tf.train.latest_checkpoint(folder)
    return f'nothing was saved since {newest}' if newest else 'nothing was saved'
