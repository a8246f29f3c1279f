"""The progress of a training: a bar on a terminal, plain lines otherwise, and a row of metrics.csv.

How long a step waits for its input is measured in the graph, from when it begins until the batch is
there. From outside, what TensorFlow does before it begins, such as to plan a step that fetches more
than the last, would look like waiting.
"""

from __future__ import annotations

import dataclasses
import datetime
import math
import os
import sys
import time
from collections.abc import Mapping

import tensorflow as tf
from absl import logging
from tensorflow.python.training import training_util
from tqdm import tqdm

from utility.checkpoints import step_tables
from utility.optim.schedules import Length
from utility.train import log_file

v1 = tf.compat.v1

FILE = 'metrics.csv'
EPOCH, RATE, WAITING = 'epoch', 'images_per_second', 'waiting'
LOSS, ERROR, LEARNING_RATE = 'loss', 'normalized_error', 'learning_rate'
OUTPUT_LOSS = 'loss/output_'  # and its number
_WAITED = 'waited'
# What matters most comes first: a narrow terminal shows the beginning.
_BAR = '{percentage:3.0f} %|{bar:8}| {n_fmt}/{total_fmt}{postfix}'
_STEP = 'global_step'


@dataclasses.dataclass(frozen=True)
class Watch:
    """What of a training is watched.

    Attributes:
        every: Steps between two reports.
        folder: Of the network: reports go into its metrics.csv and TensorBoard; None: nowhere.
        histograms: Whether TensorBoard gets histograms of the weights.
    """

    every: int = 20
    folder: str | None = None
    histograms: bool = False


def waiting_time(batch: tf.Tensor) -> tf.Tensor:
    """Return how long the graph is run before a batch is there, s: float64 []."""
    begun = tf.timestamp()
    with tf.control_dependencies([batch]):
        # Where the batch is there at once the clock may be read in any order.
        return tf.maximum(tf.timestamp() - begun, 0.0)


class _Speed:
    """Steps per second and the share of time that they waited, since `restart`."""

    def __init__(self):
        self.restart()

    def restart(self) -> None:
        self._start, self._steps, self._waited = time.monotonic(), 0, 0.0

    def add(self, waited: float) -> None:
        self._steps += 1
        self._waited += waited

    def read(self) -> tuple[float, float]:
        seconds = max(1e-9, time.monotonic() - self._start)
        return self._steps / seconds, min(1.0, self._waited / seconds)


class TrainingLog(v1.train.SessionRunHook):
    """Reports step, epoch, loss, NE, learning rate, images/s, waiting and time left.

    The watched tensors are fetched on reported steps only. Speed and waiting are those since the
    report before; time left goes by the mean speed of this stretch of the training and is without
    evaluations. The first step of a session, which pays for building the graph, counts for neither.

    Args:
        watched: 'loss', 'normalized_error' (a fraction), 'learning_rate', 'loss/output_<i>' and
            whatever else is to be a column of metrics.csv; scalars.
        waited: Of `waiting_time`.
        batch_size: Pictures of one step, over all replicas.
    """

    def __init__(
        self,
        watched: Mapping[str, tf.Tensor],
        waited: tf.Tensor,
        *,
        length: Length,
        batch_size: int,
        watch: Watch,
    ):
        self._watched = dict(watched)
        self._waited = waited
        self._length = length
        self._batch_size = batch_size
        self._watch = watch
        self._bar = self._table = None

    def begin(self):
        # What hooks of TensorFlow's ask for: a session plans for one question less.
        self._step_tensor = training_util._get_or_create_global_step_read()
        folder = self._watch.folder
        self._writer = folder and v1.summary.FileWriterCache.get(folder)

    def after_create_session(self, session, coord):
        self._step = int(session.run(self._step_tensor))
        self._stretch = self._lately = None  # of type _Speed, once the first step is done
        if self._watch.folder is not None:
            path = os.path.join(self._watch.folder, FILE)
            names = [EPOCH, *self._watched, RATE, WAITING]
            self._table = step_tables.GrowingTable(path, names, self._step)
        if sys.stderr.isatty() and self._bar is None:
            self._bar = tqdm(
                total=self._length.total_steps,
                initial=self._step,
                bar_format=_BAR,
                dynamic_ncols=True,
            )

    def before_run(self, run_context):
        self._step += 1
        is_reported = self._step % self._watch.every == 0 or self._step == self._length.total_steps
        return v1.train.SessionRunArgs(
            {_WAITED: self._waited, **(self._reported() if is_reported else {})}
        )

    def _reported(self):
        return {**self._watched, _STEP: self._step_tensor}

    def after_run(self, run_context, run_values):
        values = dict(run_values.results)
        waited = float(values.pop(_WAITED))
        if self._bar is not None:
            self._bar.update(1)
        if self._stretch is not None:
            self._stretch.add(waited)
            self._lately.add(waited)
        if values:
            # Ahead of the own count where other workers take steps at their own pace; read while
            # this step is taken, so perhaps one behind it otherwise.
            self._step = max(self._step, int(values.pop(_STEP)))
            # As many digits as tell any two float32 numbers apart.
            known = {name: value for name, value in values.items() if not math.isnan(value)}
            self._report({name: float(f'{value:.9g}') for name, value in known.items()})
        if self._stretch is None:
            self._stretch, self._lately = _Speed(), _Speed()

    def _report(self, values: Mapping[str, float]) -> None:
        row = {EPOCH: round(self._step / self._length.steps_per_epoch, 4), **values}
        text = _describe(row)
        if self._stretch is not None:
            rate, waiting = self._lately.read()
            row.update({RATE: round(rate * self._batch_size, 2), WAITING: round(waiting, 4)})
            steps_left = max(0, self._length.total_steps - self._step)
            left = datetime.timedelta(seconds=round(steps_left / self._stretch.read()[0]))
            text += f'  {row[RATE]:.1f} images/s  waiting {100 * row[WAITING]:.0f} %  {left} left'
            self._lately.restart()
        text += _describe_outputs(row)
        self._keep(row)
        log = logging.info
        if self._bar is not None:
            self._bar.set_postfix_str(text)
            log = log_file.log_aside
        log('step %d/%d  %s', self._step, self._length.total_steps, text)

    def _keep(self, row: Mapping[str, float]) -> None:
        if self._table is None:
            return
        self._table.add(self._step, row)
        names = [name for name in (RATE, WAITING) if name in row]  # the others are in the graph
        values = [v1.Summary.Value(tag=name, simple_value=row[name]) for name in names]
        self._writer.add_summary(v1.Summary(value=values), self._step)

    def end(self, session):
        if self._bar is not None:
            self._bar.close()
        if self._table is not None:
            self._table.close()


def _describe(row: Mapping[str, float]) -> str:
    """Return epoch, loss, NE where a point of the batch was scored, and learning rate."""
    error = f'{100 * row[ERROR]:.2f} %' if ERROR in row else '-'
    return f'epoch {row[EPOCH]:.2f}  loss {row[LOSS]:.4g}  NE {error}  lr {row[LEARNING_RATE]:.3g}'


def _describe_outputs(row: Mapping[str, float]) -> str:
    """Return the loss of each output, where there are several."""
    outputs = [f'{value:.4g}' for name, value in row.items() if name.startswith(OUTPUT_LOSS)]
    return f'  losses {", ".join(outputs)}' if len(outputs) > 1 else ''
