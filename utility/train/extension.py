"""A training made longer: the same command with more `epochs`, or a larger patience, goes on where
the shorter one ended.

Only where that is exact: the longer training would have taken the very same steps.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from config import Experiment, UserError
from utility.checkpoints import runs, snapshots, variables
from utility.optim import schedules
from utility.train import plateau
from utility.train.plan import Plan, make_plan


def check(folder: str, experiment: Experiment, plan: Plan, data_dir: str) -> None:
    """Refuse another length that would have changed the steps which were taken.

    Args:
        folder: Of the network; nothing is wrong where no checkpoint is.
        experiment: What is to be trained, that of the folder but for its `epochs` and
            `schedule.stop_patience`.

    Raises:
        UserError: A step would have been another; tells which.
    """
    if not variables.has_checkpoint(folder):
        return
    saved = runs.load_experiment(folder)
    taken = snapshots.newest_step(folder)
    if saved.schedule.stop_patience != experiment.schedule.stop_patience:
        _check_patience(folder, experiment, taken)
    if saved.epochs == experiment.epochs:
        return
    planned = make_plan(saved, data_dir, plan.replicas)
    difference = _difference(experiment, planned, plan, taken)
    if difference:
        raise UserError(
            f'epochs={experiment.epochs:g}: {folder} was planned for epochs={saved.epochs:g} and '
            f'stands at step {taken}; with the new length {difference}. Give another --model_dir, '
            f'and --init_checkpoint={folder} to start from its weights'
        )


def _check_patience(folder: str, experiment: Experiment, taken: int) -> None:
    """Refuse a patience with which the training would have ended before the step it stands at."""
    errors: dict[int, float] = {}
    for step, error in plateau.errors_so_far(folder, up_to=taken - 1).items():
        errors[step] = error
        reason = plateau.why_stop(experiment.optimizer, experiment.schedule, errors)
        if reason:
            raise UserError(
                f'schedule.stop_patience={experiment.schedule.stop_patience}: {folder} stands at '
                f'step {taken}, but would have ended at step {step}: {reason}. Give another '
                f'--model_dir'
            )


def _difference(experiment: Experiment, planned: Plan, plan: Plan, taken: int) -> str:
    """Return what of the steps taken depends on the length, in words; '' if nothing does."""
    if plan.length.total_steps < taken:
        return f'the training would have ended at step {plan.length.total_steps}'
    steps = np.arange(taken)
    rates = [
        schedules.learning_rate(
            experiment.optimizer, experiment.schedule, tf.constant(steps), training.length
        ).numpy()
        for training in (planned, plan)
    ]
    differing = steps[rates[0] != rates[1]]
    if differing.size:
        before, now = (values[differing[0]] for values in rates)
        return (
            f'the learning rate of schedule.name={experiment.schedule.name!r} after step '
            f'{differing[0]} would have been {now:g}, not {before:g}'
        )
    late = [
        round(experiment.data.late_from * training.length.total_steps)
        for training in (planned, plan)
    ]
    if experiment.data.late_ops and min(late) < taken and late[0] != late[1]:
        return f'data.late_ops would have come after step {late[1]}, not {late[0]}'
    frozen = planned.freeze_at, plan.freeze_at
    if frozen[0] != frozen[1] and any(step is not None and step < taken for step in frozen):
        return f'batch norm would have kept its statistics from step {frozen[1]}, not {frozen[0]}'
    stops = [{stop for stop in training.stops if stop <= taken} for training in (planned, plan)]
    goes_by_evaluations = experiment.schedule.name == 'plateau' or experiment.schedule.stop_patience
    if goes_by_evaluations and stops[0] != stops[1]:
        return f'step {min(stops[0] ^ stops[1])} would not be evaluated in both'
    return ''
