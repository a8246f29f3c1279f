"""What stops a training that went wrong before it costs anything, and what warns.

A loss or a gradient that is not finite stops the step before it touches a weight; weights that are
not finite are never saved. So the last checkpoint is always one to go on from. Weights of another
network are not restored.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import tensorflow as tf
from absl import logging
from tensorflow.python.training import training_util

from nets import graph_variables, operations
from preprocessing import graph_messages

v1 = tf.compat.v1

_SHOWN = 5  # names in a message
# A map whose values differ by less than this share of the targets' peak is flat. Networks that are
# just initialized stand far above it: at 0.04 and more.
_FLAT = 1e-3


def stop_unless_finite(
    loss: tf.Tensor,
    image_ids: tf.Tensor,
    pairs: Sequence[tuple[tf.Tensor, tf.Variable]],
    forgives: tf.Tensor | bool = False,
) -> tf.Operation:
    """Return an op that fails where the loss or a gradient is not finite; to run before the update.

    Args:
        loss: float [].
        image_ids: string [B], of the batch.
        pairs: (gradient, weight).
        forgives: Whether gradients may be anything, because they would then not be used.
    """
    gradients, weights = zip(*pairs)
    names = [weight.name.split(':')[0] for weight in weights]
    are_finite = _finite(gradients)
    is_right = tf.math.is_finite(loss) & (tf.reduce_all(are_finite) | forgives)
    # What tf.cond makes, but for an input of both branches for each weight: of hundreds of weights
    # these delay the first step. What waits for `is_wrong` is computed where that is given; so a
    # GPU hands out no weight before.
    is_wrong, goes_on = tf.raw_ops.Switch(data=is_right, pred=is_right)
    with tf.control_dependencies([tf.identity(is_wrong)]):
        values = [v1.train.get_global_step(), loss, image_ids, are_finite]
        message = tf.numpy_function(
            functools.partial(_message, names), values + graph_variables.read(weights), tf.string
        )
        stop = tf.raw_ops.Assert(condition=is_wrong, data=[message], summarize=1)
    with tf.control_dependencies([stop]):
        stopped = tf.identity(is_wrong)
    return tf.raw_ops.Merge(inputs=[stopped, goes_on]).output.op


def _message(names: Sequence[str], step, loss, image_ids, are_finite, *weights) -> str:
    """Return why a step is stopped.

    Args:
        names: Of the weights.
        step: Before it.
        loss: Of the batch.
        image_ids: Of the batch, bytes.
        are_finite: Which gradients are.
        weights: Before the step.
    """
    gradients = _listed([name for name, is_right in zip(names, are_finite) if not is_right], names)
    words = [
        f'step {step + 1}: the loss is {loss:.3e}; weights that are not finite: ',
        not_finite_values(dict(zip(names, weights))) or 'none',
        f'; gradients that are not finite: {gradients or "none"}; pictures of the batch: ',
        ', '.join(name.decode() for name in image_ids),
    ]
    return ''.join(graph_messages.marked(graph_messages.NOT_FINITE, words))


def _finite(tensors: Sequence) -> tf.Tensor:
    """Return which of some tensors, of known rank, are finite: bool [N]."""
    # What is not finite makes the sum so; one pass over the tensor instead of two. Of hundreds of
    # tensors each operation of the graph delays the first step, and so does what tf.reduce_sum does
    # before it makes one.
    axes, sums = {}, []
    for tensor in map(tf.convert_to_tensor, tensors):
        rank = tensor.shape.rank
        if rank not in axes:
            axes[rank] = tf.constant(list(range(rank)), tf.int32, [rank])
        total = operations.make('Sum', input=tensor, axis=axes[rank])
        sums.append(total if total.dtype == tf.float32 else tf.cast(total, tf.float32))
    return tf.math.is_finite(tf.stack(sums))


class NotFiniteError(ArithmeticError):
    """Weights that are about to be saved are not finite."""


class SaveOnlyFinite(v1.train.CheckpointSaverListener):
    """Refuses to save variables that are not finite, whatever has made them so."""

    def begin(self):
        variables = [v for v in v1.global_variables() if v.dtype.is_floating]
        graph = v1.get_default_graph()
        self._values = {v.name.split(':')[0]: graph.as_graph_element(v) for v in variables}

    def before_save(self, session, global_step_value):
        # Operations that look at each of the variables would be as many as those of the network,
        # and delay its first step.
        problems = not_finite_values(session.run(self._values))
        if problems:
            raise NotFiniteError(
                f'step {global_step_value}: variables that are not finite: {problems}'
            )


def not_finite_values(values: Mapping[str, np.ndarray]) -> str:
    """Return how many variables are not finite, and the names of the first few; '' if all are."""
    return _listed([name for name, value in values.items() if not _is_finite(value)], values)


def _listed(wrong: Sequence[str], names: Collection[str]) -> str:
    """Return how many of the names are wrong, and the first few; '' if none is."""
    more = ', ...' if len(wrong) > _SHOWN else ''
    return f'{len(wrong)} of {len(names)} ({", ".join(wrong[:_SHOWN])}{more})' if wrong else ''


def _is_finite(value: np.ndarray) -> bool:
    # What is not finite makes the sum so: as a rule one pass over the values, not two.
    with np.errstate(over='ignore', invalid='ignore'):
        return bool(np.isfinite(np.sum(value)) or np.isfinite(value).all())


class FlatMaps(v1.train.SessionRunHook):
    """Warns once a session if every heat map of a batch is constant, or nearly so.

    Args:
        heatmaps: float32 [B, h, w, K], the last output.
        peak: Of the targets.
        every: Steps between two looks.
    """

    def __init__(self, heatmaps: tf.Tensor, peak: float, every: int):
        heights = tf.reduce_max(heatmaps, axis=[1, 2]) - tf.reduce_min(heatmaps, axis=[1, 2])
        self._height = tf.reduce_max(heights)
        self._peak = peak
        self._every = every
        self._has_warned = False

    def begin(self):
        self._step_tensor = training_util._get_or_create_global_step_read()  # as in log.py

    def after_create_session(self, session, coord):
        self._step = int(session.run(self._step_tensor))

    def before_run(self, run_context):
        self._step += 1
        looks = self._step % self._every == 0 and not self._has_warned
        return v1.train.SessionRunArgs(self._height) if looks else None

    def after_run(self, run_context, run_values):
        height = run_values.results
        if height is None or height >= _FLAT * self._peak:
            return
        self._has_warned = True
        logging.warning(
            'step %d: every heat map of the batch is flat: none rises more than %.2g above its '
            'lowest value, but the targets peak at %g. Usual causes: a learning rate that is too '
            'high (optimizer.learning_rate, optimizer.clip_norm), targets of less than a cell '
            '(loss.sigmas), few points that count (loss.points), or inputs that are all alike',
            self._step, height, self._peak,
        )  # fmt: skip
