"""What the evaluations of a training found, and who reacts to it.

`FOLDER/evaluations.csv` keeps the results, a line for each evaluated step, beside the checkpoints.
A reaction is told of every result, in the order of the steps, and may end the training: to keep the
best checkpoint, to stop early, to draw curves, write one in a module of its own and list it in
utility/runner.py.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Optional

from absl import logging

from preprocessing import tables

FILE = 'evaluations.csv'
STEP = 'step'

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
    import tensorflow as tf

    path = os.path.join(folder, FILE)
    if not tf.io.gfile.exists(path):
        return {}
    (header, *rows), _ = tables.read_rows(path)
    results = {}
    for row in rows:
        cells = dict(zip(header, row))
        try:
            step = int(cells.pop(STEP))
            results[step] = {name: float(cell) for name, cell in cells.items() if cell}
        except (KeyError, ValueError) as error:
            raise ValueError(f'{path}: not a table of evaluations: {error}') from error
    return {step: results[step] for step in sorted(results) if up_to is None or step <= up_to}


def keep(folder: str, step: int, metrics: Metrics) -> None:
    """Adds the line of a step, in the place of an earlier one of the same step if there is any."""
    own = {n: float(value) for n, value in metrics.items() if n != 'global_step'}
    _write(folder, {**read(folder), step: own})


def forget_after(folder: str, step: int) -> None:
    """Drops the lines of later steps: of a training that goes on from an earlier checkpoint."""
    results, left = read(folder), read(folder, up_to=step)
    if len(left) < len(results):
        dropped = ', '.join(str(one) for one in results if one not in left)
        logging.warning('%s: the evaluations at step %s are made again', folder, dropped)
        _write(folder, left)


def react(reactions: Iterable[Reaction], step: int, metrics: Metrics) -> list[str]:
    """Tells all reactions of a result; the reasons of those that ask to end the training."""
    answers = [reaction(step, metrics) for reaction in reactions]
    return [answer for answer in answers if answer is not None]


def _write(folder: str, results: Mapping[int, Metrics]) -> None:
    names = sorted({name for metrics in results.values() for name in metrics})
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow([STEP, *names])
    for step in sorted(results):
        writer.writerow([step, *(results[step].get(name, '') for name in names)])
    tables.write_bytes(os.path.join(folder, FILE), text.getvalue().encode())
