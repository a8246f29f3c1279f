"""The progress of a training: a bar on a terminal, plain lines otherwise."""

from __future__ import annotations

import datetime
import sys
import time
from collections.abc import Mapping

import tensorflow as tf
from absl import logging
from tqdm import tqdm

from utility.schedules import Length

v1 = tf.compat.v1


class TrainingLog(v1.train.SessionRunHook):
    """Reports step, epoch, loss, NE, learning rate, images/s and time left every few steps.

    The watched tensors are fetched on those steps only. Speed is the mean since the start of this
    stretch of the training; time left is without the evaluations.

    Args:
        watched: 'loss', 'normalized_error' (a fraction) and 'learning_rate', scalars.
        length: Of the training.
        batch_size: Pictures of one step, over all replicas.
        every: Steps between two reports.
    """

    def __init__(
        self,
        watched: Mapping[str, tf.Tensor],
        *,
        length: Length,
        batch_size: int,
        every: int,
    ):
        self._watched = dict(watched)
        self._length = length
        self._batch_size = batch_size
        self._every = every
        self._bar = None

    def begin(self):
        self._step_tensor = v1.train.get_global_step()

    def after_create_session(self, session, coord):
        self._step = int(session.run(self._step_tensor))
        # The first step pays for building the graph: the clock starts after it.
        self._clock_step = self._clock = None
        if sys.stderr.isatty():
            self._bar = tqdm(
                total=self._length.total_steps, initial=self._step, unit='step', desc='training'
            )

    def before_run(self, run_context):
        self._step += 1
        if self._step % self._every == 0 or self._step == self._length.total_steps:
            return v1.train.SessionRunArgs(self._watched)
        return None

    def after_run(self, run_context, run_values):
        if self._bar is not None:
            self._bar.update(1)
        if self._clock is None:
            self._clock, self._clock_step = time.monotonic(), self._step
        elif run_values.results is not None:
            self._report(run_values.results)

    def _report(self, values):
        rate = (self._step - self._clock_step) / max(1e-9, time.monotonic() - self._clock)
        left = datetime.timedelta(seconds=round((self._length.total_steps - self._step) / rate))
        text = (
            f'epoch {self._step / self._length.steps_per_epoch:.2f}'
            f'  loss {values["loss"]:.4g}  NE {100 * values["normalized_error"]:.2f} %'
            f'  lr {values["learning_rate"]:.3g}  {rate * self._batch_size:.1f} images/s'
        )
        if self._bar is not None:
            self._bar.set_postfix_str(text)
        else:
            logging.info(
                'step %d/%d  %s  %s left', self._step, self._length.total_steps, text, left
            )

    def end(self, session):
        if self._bar is not None:
            self._bar.close()
