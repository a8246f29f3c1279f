"""The learning rate over a training, a pure function of the global step and the planned length."""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from config import OptimizerConfig, Registry, ScheduleConfig

SCHEDULES = Registry(
    'schedule',
    """Name -> f(config, step, length) -> the factor on the base rate, float32 of the shape of
    `step`, float32 steps taken so far; `length` is the training's Length.""",
)


@dataclasses.dataclass(frozen=True)
class Length:
    """How long a training is planned to be.

    Attributes:
        total_steps: Its steps, at least 1.
        steps_per_epoch: Records of the training split over the global batch size.
    """

    total_steps: int
    steps_per_epoch: float


@SCHEDULES.register('step')
def step_decay(config: ScheduleConfig, step: tf.Tensor, length: Length) -> tf.Tensor:
    """Another constant factor from each of decay_epochs on."""
    boundaries = tf.constant([e * length.steps_per_epoch for e in config.decay_epochs], tf.float32)
    passed = tf.reduce_sum(tf.cast(step[..., tf.newaxis] >= boundaries, tf.int32), axis=-1)
    return tf.gather(tf.constant(config.decay_factors), passed)


def learning_rate(
    optimizer: OptimizerConfig, schedule: ScheduleConfig, step: tf.Tensor, length: Length
) -> tf.Tensor:
    """The rate of the step after `step` steps were taken: linear warm-up, then the schedule.

    Args:
        optimizer: Has the base rate.
        schedule: The schedule.
        step: Integer scalar or [N], steps taken so far.
        length: Of the training.

    Returns:
        float32 of the shape of `step`.
    """
    step = tf.cast(step, tf.float32)
    factor = SCHEDULES.get(schedule.name)(schedule, step, length)
    rate = tf.maximum(optimizer.learning_rate * factor, schedule.end_learning_rate)
    if not schedule.warmup_steps:
        return rate
    progress = tf.minimum(step / schedule.warmup_steps, 1.0)
    return schedule.warmup_learning_rate + progress * (rate - schedule.warmup_learning_rate)
