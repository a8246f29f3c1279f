"""The average of the weights over a training, kept in its graph and in its checkpoints.

Every trainable variable `NAME` has its average `averaging/NAME`, and `averaging/count` tells how
many weights have entered it, so a resumed training goes on averaging as if it had never stopped.

    EMA    average += (1 - decay) (weights - average)      decay = min(d, (1 + n) / (10 + n))
    SWA    average += (weights - average) / (n + 1)        at the end of each period or cycle

where n weights have entered before; the first of them begin the average. Sources: Polyak & Juditsky
1992, and for the growing decay the documentation of tf.train.ExponentialMovingAverage; Izmailov et
al. 2018, Averaging Weights Leads to Wider Optima and Better Generalization.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from config import AveragingConfig, Experiment, UserError, check
from utility.optim import schedules
from utility.optim.schedules import Length

v1 = tf.compat.v1

SCOPE = 'averaging/'
COUNT = SCOPE + 'count'


def check_averaging(experiment: Experiment, length: Length) -> None:
    """Refuse settings that would average nothing, or that have no effect.

    Raises:
        UserError: A setting of the section `averaging` is one of these; names it.
    """
    config = experiment.averaging
    of_swa = ('period', 'period_epochs')
    unused = {'none': ('decay', 'start', 'start_epoch', *of_swa), 'ema': of_swa}
    for name in unused.get(config.kind, ('decay',)):
        value = getattr(config, name)
        # An experiment of a time before there were shares has 0 epochs.
        if value and value != getattr(AveragingConfig(), name):
            raise UserError(
                f'averaging.{name}={value!r}: averaging.kind={config.kind!r} has no use for it'
            )
    if config.kind == 'swa':
        taken_updates(experiment, length)
    epochs = length.total_steps / length.steps_per_epoch
    check('averaging.', 'start_epoch', config.start_epoch or 0.0, *_below(epochs))


def first_step(config: AveragingConfig, length: Length) -> float:
    """Return how much of the training goes before the averaging, in the unit of `length`."""
    return _in_steps(config.start, config.start_epoch, length)


def _in_steps(share: float, epochs: float | None, length: Length) -> float:
    return share * length.total_steps if epochs is None else epochs * length.steps_per_epoch


def _below(epochs: float):
    return f'below the {epochs:g} epochs of the training', lambda value: value < epochs


def taken_updates(experiment: Experiment, length: Length) -> tuple[int, ...]:
    """Return the updates after which SWA takes the weights, counted from 1, in increasing order.

    Args:
        experiment: Its averaging and its schedule tell them.
        length: Of the training, in steps.

    Raises:
        UserError: There are none.
    """
    config, length = experiment.averaging, length.in_updates(experiment.optimizer.accumulate)
    start = first_step(config, length)
    period = _in_steps(config.period, config.period_epochs, length)
    if period:
        count = max(0, int((length.total_steps - start) / max(1.0, period)) + 1)
        ends = [round(start + i * max(1.0, period)) for i in range(1, count + 1)]
    elif experiment.schedule.name == 'cyclic':
        ends = schedules.cycle_ends(experiment.schedule, length)
    else:
        raise UserError(
            "averaging.period=0.0: stands for the cycles of schedule.name='cyclic', but it is "
            f'{experiment.schedule.name!r}; give the share of the training between two weights to '
            'average'
        )
    taken = tuple(end for end in ends if start < end <= length.total_steps)
    if not taken:
        raise UserError(
            f'averaging.start={start / length.total_steps:g}: no period or cycle ends between it '
            f'and the end of the training, {length.total_steps / length.steps_per_epoch:g} epochs; '
            'nothing would be averaged'
        )
    return taken


def averaging_step(
    train_op: tf.Operation, variables: Sequence, experiment: Experiment, length: Length
) -> tf.Operation:
    """Return the step of a training, and after it that of the average.

    Args:
        train_op: Moves the weights and the global step.
        variables: The network's trainable ones.
        experiment: What is trained.
        length: Of the training, in steps.
    """
    config = experiment.averaging
    if config.kind == 'none':
        return train_op
    count = _variable(COUNT, [], tf.int64)
    averages = [_variable(SCOPE + v.name.split(':')[0], v.shape, v.dtype) for v in variables]
    with tf.control_dependencies([train_op]):
        taken = _is_taken(experiment, length, v1.train.get_or_create_global_step().read_value())
        entered = count.read_value()
        share = tf.where(taken, _share_of_new(config, tf.cast(entered, tf.float32)), 0.0)
        moves = [
            average.assign_add((variable.read_value() - average.read_value()) * share)
            for variable, average in zip(variables, averages)
        ]
    with tf.control_dependencies([entered, *moves]):
        return tf.group(count.assign_add(tf.cast(taken, tf.int64)))


def _variable(name: str, shape, dtype: tf.DType):
    """Return a variable of the training's state that all replicas change alike, 0 at first."""
    scope, _, last = name.rpartition('/')
    with tf.name_scope(scope + '/'):
        return v1.Variable(
            lambda: tf.zeros(shape, dtype),
            name=last,
            trainable=False,
            use_resource=True,
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
        )


def _is_taken(experiment: Experiment, length: Length, steps: tf.Tensor) -> tf.Tensor:
    """Return whether the weights after so many steps enter the average: bool []."""
    accumulate, config = experiment.optimizer.accumulate, experiment.averaging
    updates = steps // accumulate
    if config.kind == 'swa':
        taken = tf.constant(taken_updates(experiment, length), tf.int64)
        enters = tf.reduce_any(tf.equal(updates, taken))
    else:
        enters = steps > round(first_step(config, length))
    return enters & tf.equal(steps % accumulate, 0)


def _share_of_new(config: AveragingConfig, entered: tf.Tensor) -> tf.Tensor:
    """Return the share of the average, float32 [], that weights get after so many others."""
    if config.kind == 'swa':
        return 1.0 / (entered + 1.0)
    decay = tf.minimum(config.decay, (1.0 + entered) / (10.0 + entered))
    return tf.where(entered > 0, 1.0 - decay, 1.0)
