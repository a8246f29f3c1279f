"""Lower rates and an early end, where the validation error no longer falls.

All is computed anew from the results that checkpoints/evaluations.py keeps beside the checkpoints,
so that a training that was killed goes on as if it had not been.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from config import Experiment, OptimizerConfig, ScheduleConfig
from utility.checkpoints import evaluations


def errors_so_far(folder: str, up_to: int | None = None) -> dict[int, float]:
    """Return step -> NE of the evaluations of the network in `folder`, up to a step if one is
    given.
    """
    results = evaluations.read(folder, up_to)
    return {step: metrics.get(evaluations.ERROR, math.nan) for step, metrics in results.items()}


def drops_so_far(config: ScheduleConfig, folder: str) -> tuple[int, ...]:
    """Return the drops that the evaluations of the network in `folder` have led to."""
    return drops(config, errors_so_far(folder)) if config.name == 'plateau' else ()


def drops(config: ScheduleConfig, errors: Mapping[int, float]) -> tuple[int, ...]:
    """Return the steps at whose evaluations the schedule 'plateau' lowers the rate; none of others.

    Args:
        config: The schedule.
        errors: Step -> NE of all evaluations so far. NaN is never the best.
    """
    steps, best, waited = [], math.inf, 0
    for step in sorted(errors):
        if errors[step] < best:
            best, waited = errors[step], 0
        else:
            waited += 1
        if waited == config.plateau_patience:
            steps.append(step)
            waited = 0
    return tuple(steps) if config.name == 'plateau' else ()


def why_stop(
    optimizer: OptimizerConfig, schedule: ScheduleConfig, errors: Mapping[int, float]
) -> str | None:
    """Return why a training is to end after these evaluations; None: it goes on.

    Args:
        optimizer: Has the base rate.
        errors: Step -> NE of all evaluations so far, at least one.
    """
    best = min(sorted(errors), key=lambda step: (math.isnan(errors[step]), errors[step]))
    since = sum(step > best for step in errors)
    if schedule.stop_patience and since >= schedule.stop_patience:
        return f'{since} evaluations have not bettered the NE of step {best}'
    lowered = optimizer.learning_rate * schedule.plateau_factor ** len(drops(schedule, errors))
    # A rate that equals the end rate but for rounding is not below it.
    if lowered < schedule.end_learning_rate * (1 - 1e-6):
        end = schedule.end_learning_rate
        return f'the NE no longer falls, and the rate would fall below {end:g}'
    return None


def make_evaluation_callback(experiment: Experiment, folder: str) -> evaluations.EvaluationCallback:
    """Return the callback that ends the training of the network in `folder`."""

    def run_callbacks(step: int, metrics: evaluations.Metrics) -> str | None:
        errors = errors_so_far(folder, up_to=step)
        if not errors:  # nothing is validated
            return None
        return why_stop(experiment.optimizer, experiment.schedule, errors)

    return run_callbacks
