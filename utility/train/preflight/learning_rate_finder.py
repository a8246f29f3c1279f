"""The loss by the learning rate: a short training whose rate rises by the same factor each time.

Where the loss falls the network learns; where it shoots up the rate is too high (Smith 2017,
Cyclical Learning Rates for Training Neural Networks, section 3.3). Which rate trains best the curve
does not tell: at some settings the lowest loss was at a hundred times that rate, at others at a
fifth of it. So it is shown, and no rate is advised. The training has a graph and a
session of its own: no run is touched, and all that stays of it is a table and a page.
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from config import AveragingConfig, Experiment, ScheduleConfig
from nets.precision import FLOAT32, Compute, session_config
from preprocessing import graph_messages, training_data
from utility.checkpoints import step_tables
from utility.command_line import progress
from utility.command_line.scripts import RunError
from utility.optim import schedules
from utility.optim.schedules import Length
from utility.train.model_fn import Task, make_model_fn
from utility.train.plan import Plan
from utility.visualization import charts, html_page

v1 = tf.compat.v1

UPDATES = 100
LOWEST, HIGHEST = 1e-7, 10.0
TABLE, PAGE = 'learning_rate_finder.csv', 'learning_rate_finder.html'
_REACH = 3  # updates to each side that a loss is averaged with
_DIVERGED = 4.0  # times the lowest loss so far


class Ramp(NamedTuple):
    """What a training with rising rates gave.

    Attributes:
        rates: [N], of its updates, increasing.
        losses: [N], what is minimized, the mean over the batches of an update; not finite in the
            last place if the training broke down there.
    """

    rates: np.ndarray
    losses: np.ndarray


class Finding(NamedTuple):
    """What a ramp says.

    Attributes:
        smoothed: [M], losses averaged over neighbors, up to where they shoot up; M <= N.
        lowest: The rate of the lowest of these.
        steepest: The rate before it where they fall most steeply over the logarithm of the rate.
        falls: Whether the losses fall at all.
    """

    smoothed: np.ndarray
    lowest: float
    steepest: float
    falls: bool

    def __str__(self) -> str:
        if not self.falls:
            return 'the loss does not fall at any rate'
        return (
            f'the loss falls most steeply at a rate of {self.steepest:.2g} and is lowest at '
            f'{self.lowest:.2g}; which rate trains best only trainings tell'
        )


def run(
    experiment: Experiment,
    plan: Plan,
    data_dir: str,
    folder: str,
    weights=None,
    compute: Compute = FLOAT32,
) -> Finding:
    """Find a rate and write TABLE and PAGE into the folder of the network.

    Args:
        folder: Where a training would keep the network.
        weights: That a training would start from, in a checkpoint, or None.
    """
    ramp = make_ramp(experiment, plan, data_dir, weights, compute)
    finding = read_ramp(ramp)
    smoothed = [{'smoothed': value} for value in finding.smoothed]
    smoothed += [{}] * (len(ramp.losses) - len(smoothed))
    rows = {
        i: {'learning_rate': rate, 'loss': loss, **more}
        for i, (rate, loss, more) in enumerate(zip(*ramp, smoothed))
    }
    step_tables.write(os.path.join(folder, TABLE), rows, ('learning_rate', 'loss', 'smoothed'))
    _write_page(os.path.join(folder, PAGE), ramp, finding)
    return finding


def rising(experiment: Experiment) -> Experiment:
    """Return the experiment with a rate that rises from LOWEST to HIGHEST."""
    return dataclasses.replace(
        experiment,
        optimizer=dataclasses.replace(experiment.optimizer, learning_rate=HIGHEST),
        schedule=ScheduleConfig('range_test', warmup_steps=0, end_learning_rate=LOWEST),
        averaging=AveragingConfig(),
    )


def make_ramp(
    experiment: Experiment, plan: Plan, data_dir: str, weights=None, compute: Compute = FLOAT32
) -> Ramp:
    """Train for UPDATES updates on one device, or until the loss is no longer finite.

    Raises:
        RunError: The loss of the first update is not finite.
    """
    trained, number = rising(experiment), experiment.optimizer.accumulate
    length = Length(UPDATES * number, plan.length.steps_per_epoch)
    options = {'weights': weights, 'allow_partial_init': True, 'compute': compute}
    task = Task(trained, plan.schema, length, **options)
    settings = session_config(compute, trains=True)
    batches = training_data.input_fn(trained, plan.schema, data_dir, 0, plan.length.total_steps)
    losses = []
    folder, session = tempfile.TemporaryDirectory(), v1.Session(graph=tf.Graph(), config=settings)
    with folder as empty, session.graph.as_default(), session:
        tf.random.set_seed(experiment.seed)
        iterator = v1.data.make_initializable_iterator(batches())
        spec = make_model_fn(task)(*iterator.get_next(), 'train', SimpleNamespace(model_dir=empty))
        session.run([iterator.initializer, v1.global_variables_initializer()])
        for _ in progress.track(range(length.total_steps), length.total_steps, 'rising rate'):
            losses.append(_step(session, spec))
            if not np.isfinite(losses[-1]):
                break
    means = [np.mean(losses[i : i + number]) for i in range(0, len(losses), number)]
    if not np.isfinite(means[0]):
        raise RunError(
            f'the loss is not finite at the lowest rate, {LOWEST:g}: no rate can be suggested; '
            'usual causes: weights to start from that are not finite, or a wrong annotation'
        )
    steps = tf.constant(number * np.arange(len(means)))
    rates = schedules.learning_rate(trained.optimizer, trained.schedule, steps, length)
    return Ramp(rates.numpy().astype(np.float64), np.array(means, np.float64))


def _step(session, spec) -> float:
    """Return the loss of a step; NaN where the graph itself refuses numbers that are not finite."""
    try:
        return float(session.run([spec.loss, spec.train_op])[0])
    except tf.errors.InvalidArgumentError as error:
        if graph_messages.find(graph_messages.NOT_FINITE, error) is None:
            raise  # of the records, say
        return np.nan


def read_ramp(ramp: Ramp) -> Finding:
    """Return what the losses say; at least one of them is finite."""
    smoothed = _smooth(ramp.losses)
    low = int(np.argmin(smoothed))
    lowest = float(ramp.rates[low])
    if low == 0:
        return Finding(smoothed, lowest, lowest, falls=False)
    slopes = np.diff(smoothed[: low + 1]) / np.diff(np.log(ramp.rates[: low + 1]))
    steepest = float(ramp.rates[int(np.argmin(slopes))])
    return Finding(smoothed, lowest, steepest, falls=True)


def _smooth(losses: np.ndarray) -> np.ndarray:
    """Return means over neighbors, as far as losses are finite and not many times the lowest
    before.

    A mean to both sides does not lag behind the rate, as one over the past would.
    """
    finite = np.isfinite(losses)
    losses = losses[: len(losses) if finite.all() else int(np.argmin(finite))]
    far = losses > _DIVERGED * np.minimum.accumulate(losses)
    # A single high loss is a hard batch.
    ends = [i for i in range(len(far)) if far[i : i + _REACH].all()]
    losses = losses[: ends[0]] if ends else losses
    sides = ((max(0, i - _REACH), i + _REACH + 1) for i in range(len(losses)))
    return np.array([losses[first:end].mean() for first, end in sides])


def _write_page(path: str, ramp: Ramp, finding: Finding) -> None:
    shown = len(finding.smoothed)
    lines = [
        charts.Line('loss of an update', ramp.rates[:shown], ramp.losses[:shown]),
        charts.Line('mean of neighbors', ramp.rates[:shown], finding.smoothed),
    ]
    scale = charts.Scale('learning rate', float(ramp.rates[0]), is_log=True)
    values = {
        'title': 'Learning rates',
        'text': finding,
        'chart': charts.draw('Loss by learning rate', lines, float(ramp.rates[shown - 1]), scale),
        'note': f'{len(ramp.rates)} updates, the rate of each the same factor above the one before '
        f'it; shown as far as the loss is finite and below {_DIVERGED:g} times its lowest.',
    }
    html_page.write_page(path, html_page.template(__file__, 'learning_rate_finder.html'), values)
