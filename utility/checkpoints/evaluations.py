"""What the evaluations of a training found, and the callbacks that are told of it.

`FOLDER/evaluations.csv` keeps the results, a line for each evaluated step, beside the checkpoints.
A callback is told of every result, in the order of the steps, and may end the training: to keep the
best checkpoint, to stop early, to draw curves, write one in a module of its own and list it in
utility/train/runner.py.
"""

from __future__ import annotations

import gc
import math
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Optional

from absl import logging

from preprocessing.schema import METRICS
from utility.checkpoints import step_tables

FILE = 'evaluations.csv'

NE, ERROR = 'ne', 'normalized_error'  # one metric: as a schema names it, and in the table
# Of the last weights, where averaged ones are what was evaluated.
LAST_ERROR = 'last_normalized_error'
# Metric name -> value: ERROR (a fraction), ERROR/<category>, 'loss', and the schema's metric where
# that is another one of schema.METRICS.
Metrics = Mapping[str, float]
# f(step, metrics) -> why the training is to end here, or None. The step's checkpoint is the newest
# one and the step's line is in the file; without validation there are no metrics and no line. A run
# that was interrupted calls it again for the step it stood at: what it did must bear doing twice,
# and the answer must be the same. So a callback keeps no state of its own between evaluations, but
# reads the lines up to `step`.
EvaluationCallback = Callable[[int, Metrics], Optional[str]]


def read(folder: str, up_to: int | None = None) -> dict[int, dict[str, float]]:
    """Return step -> metrics, in the order of the steps; none where nothing was evaluated yet.

    Args:
        up_to: The last step asked for; None: all.

    Raises:
        UserError: The file is not what `keep` writes.
    """
    return step_tables.read(os.path.join(folder, FILE), up_to)


def keep(folder: str, step: int, metrics: Metrics) -> None:
    """Add the line of a step, in the place of an earlier one of the same step if there is any."""
    values = {n: float(value) for n, value in metrics.items() if n != 'global_step'}
    step_tables.write(os.path.join(folder, FILE), {**read(folder), step: values})


def forget_after(folder: str, step: int) -> None:
    """Drop the lines of later steps: of a training that goes on from an earlier checkpoint."""
    dropped = step_tables.forget_after(os.path.join(folder, FILE), step)
    if dropped:
        steps = ', '.join(map(str, dropped))
        logging.warning('%s: the evaluations at step %s are made again', folder, steps)


def run_callbacks(
    callbacks: Iterable[EvaluationCallback], step: int, metrics: Metrics
) -> list[str]:
    """Tell all callbacks of a result; return the reasons of those that ask to end the training."""
    reasons = [callback(step, metrics) for callback in callbacks]
    return [reason for reason in reasons if reason is not None]


def once(folder: str, step: int, evaluate: Callable[[], Metrics]) -> Metrics:
    """Return the result at a step: that kept by an earlier run, or else a new one, which is kept.

    Args:
        step: Of its newest checkpoint.
        evaluate: Gives the result; nothing where there is nothing to evaluate on.
    """
    if step not in read(folder):
        result = evaluate()
        # Graphs that are done with lie in cycles, and Python would let hundreds of MB add up.
        gc.collect()
        if not result:
            return {}
        keep(folder, step, result)
    return read(folder)[step]


def cost(result: Metrics, metric: str = NE) -> float:
    """Return what is least at the best evaluation: the metric, negative where more is better.

    Args:
        metric: One of schema.METRICS.

    Returns:
        NaN where the metric is not known.
    """
    value = result.get(ERROR if metric == NE else metric, math.nan)
    return -value if METRICS[metric] else value


def describe_metric(result: Metrics, metric: str) -> str:
    """Return the value of a metric of schema.METRICS with its name and unit."""
    value = result[ERROR if metric == NE else metric]
    name = metric.upper().replace('_', ' ')
    return f'{name} {value:.2f} px' if metric == 'epe' else f'{name} {100 * value:.2f} %'


def describe(result: Metrics) -> str:
    """Return the NE of an evaluation, by category too, and the schema's metric, in a line."""
    parts = [f'{k.split("/")[1]} {100 * v:.2f}' for k, v in sorted(result.items()) if '/' in k]
    if math.isnan(result[ERROR]):
        return 'no validation NE: no point is scored'
    text = f'validation NE {100 * result[ERROR]:.2f} %  ({", ".join(parts)})'
    for metric in METRICS.keys() & result.keys():
        text += f'; {describe_metric(result, metric)}'
    last = result.get(LAST_ERROR)
    return text if last is None else f'averaged weights: {text}; last weights: {100 * last:.2f} %'
