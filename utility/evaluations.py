"""What the evaluations of a training found, and who reacts to it.

`FOLDER/evaluations.csv` keeps the results, a line for each evaluated step, beside the checkpoints.
A reaction is told of every result, in the order of the steps, and may end the training: to keep the
best checkpoint, to stop early, to draw curves, write one in a module of its own and list it in
utility/runner.py.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Optional

from absl import logging

from utility import step_tables

FILE = 'evaluations.csv'

# Metric name -> value: 'normalized_error' (a fraction), 'normalized_error/<category>', 'loss'.
Metrics = Mapping[str, float]
# f(step, metrics) -> why the training is to end here, or None. The step's checkpoint is the newest
# one and the step's line is in the file. A run that was interrupted calls it again for the step it
# stood at: what it did must bear doing twice, and the answer must be the same. So a reaction keeps
# no state of its own between evaluations, but reads the lines up to `step`.
Reaction = Callable[[int, Metrics], Optional[str]]


def read(folder: str, up_to: int | None = None) -> dict[int, dict[str, float]]:
    """Step -> metrics, in the order of the steps; none where nothing was evaluated yet.

    Args:
        folder: Of the network.
        up_to: The last step asked for; None: all.

    Raises:
        ValueError: The file is not what `keep` writes.
    """
    return step_tables.read(os.path.join(folder, FILE), up_to)


def keep(folder: str, step: int, metrics: Metrics) -> None:
    """Adds the line of a step, in the place of an earlier one of the same step if there is any."""
    own = {n: float(value) for n, value in metrics.items() if n != 'global_step'}
    step_tables.write(os.path.join(folder, FILE), {**read(folder), step: own})


def forget_after(folder: str, step: int) -> None:
    """Drops the lines of later steps: of a training that goes on from an earlier checkpoint."""
    dropped = step_tables.forget_after(os.path.join(folder, FILE), step)
    if dropped:
        again = ', '.join(map(str, dropped))
        logging.warning('%s: the evaluations at step %s are made again', folder, again)


def react(reactions: Iterable[Reaction], step: int, metrics: Metrics) -> list[str]:
    """Tells all reactions of a result; the reasons of those that ask to end the training."""
    answers = [reaction(step, metrics) for reaction in reactions]
    return [answer for answer in answers if answer is not None]
