"""Which checkpoint of a trained network is used: the best, the last one, or another."""

from __future__ import annotations

import dataclasses
import math
import os
import tempfile

from absl import logging

from config import NOT_NEGATIVE, UserError, check
from utility.checkpoints import average, evaluations, files, snapshots, variables
from utility.checkpoints.snapshots import FALLBACKS, LAST, folder_of


@dataclasses.dataclass(frozen=True)
class CheckpointChoice:
    """Which weights of a network are used.

    Attributes:
        which: 'best', by the evaluations of the training; 'last'; a name in the network's
            folder, such as 'averaged' or 'model.ckpt-1000'; or, with a '/', the path of a
            checkpoint, for one network only.
        average_last, average_best: The mean of so many checkpoints instead, of the last ones or of
            those with the lowest NE; 0: none.
        data_dir: Records whose training pictures give the mean its batch-norm statistics, or None.
    """

    which: str = snapshots.BEST
    average_last: int = 0
    average_best: int = 0
    data_dir: str | None = None

    def __post_init__(self):
        numbers = {name: getattr(self, name) for name in ('average_last', 'average_best')}
        for name, number in numbers.items():
            check('', name, number, *NOT_NEGATIVE)
        if sum(map(bool, [*numbers.values(), self.which != snapshots.BEST])) > 1:
            raise UserError(
                f'checkpoint={self.which!r}, average_last={self.average_last}, average_best='
                f'{self.average_best}: give one of them'
            )

    @property
    def is_path(self) -> bool:
        return '/' in self.which


def is_best(prefix: str, choice: CheckpointChoice) -> bool:
    """Return whether what `choose` gave was selected by the validation split."""
    return bool(choice.average_best) or prefix.split('/')[-2:-1] == [snapshots.BEST]


def choose(folder: str, choice: CheckpointChoice, scratch: str = '') -> str:
    """Return the prefix of the checkpoint to use; the log says which it is.

    Args:
        scratch: A folder in which the mean of several is saved, for as long as it is used; needed
            for a choice of a mean.

    Raises:
        UserError: There is no such checkpoint.
    """
    if choice.average_last or choice.average_best:
        return _mean(folder, choice, scratch)
    if choice.which == snapshots.BEST:
        return _best(folder)
    if choice.which == LAST:
        path = folder
    else:
        path = choice.which if choice.is_path else os.path.join(folder, choice.which)
    prefix = variables.resolve(path)
    logging.info('weights: %s', prefix)
    return prefix


def _mean(folder: str, choice: CheckpointChoice, scratch: str) -> str:
    assert scratch, 'a mean needs a folder'
    if choice.average_last:
        prefixes = average.last_checkpoints(folder, choice.average_last)
    else:
        prefixes = average.best_checkpoints(folder, choice.average_best)
    output = tempfile.mkdtemp(dir=scratch)
    return average.save_mean(folder, prefixes, choice.data_dir, output)


def _newest(folder: str, name: str) -> str | None:
    """Return the newest checkpoint of that name that can be read."""
    try:
        return files.usable(folder_of(folder, name))
    except ValueError as error:
        logging.warning('%s', error)
        return None


def _best(folder: str) -> str:
    best = _newest(folder, snapshots.BEST)
    if best:
        logging.info(
            'weights: %s, the best one%s', best, _of_which(folder, snapshots.step_of(best))
        )
        return best
    is_there = variables.has_checkpoint(folder_of(folder, snapshots.BEST))
    reason = 'the best one cannot be read' if is_there else 'no evaluation has chosen a best one'
    for name in FALLBACKS:
        prefix = _newest(folder, name)
        if prefix:
            logging.info('weights: %s, the %s one: %s', prefix, name, reason)
            return prefix
    return variables.resolve(folder)  # which tells that there is none


def _of_which(folder: str, step: int) -> str:
    results = evaluations.read(folder)
    if step not in results:
        return ''
    error = 100 * results[step].get(evaluations.ERROR, math.nan)
    return f' of {len(results)} evaluated on the validation split, NE {error:.2f} %'
