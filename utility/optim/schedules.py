"""The learning rate over a training, a pure function of the global step and the planned length.

Nothing here remembers anything: a resumed training has the rates of one that was not interrupted.
"""

from __future__ import annotations

import dataclasses
import math

import tensorflow as tf

from config import POSITIVE, OptimizerConfig, Registry, ScheduleConfig, check

SCHEDULES = Registry(
    'schedule',
    """Name -> f(config, base, step, length) -> the rate, float32 of the shape of `step`, between
    the base rate `base` and config.end_learning_rate. `step`: float32 updates made so far, 0 to
    total_steps; `length`: the training's Length, in updates.""",
)


@dataclasses.dataclass(frozen=True)
class Length:
    """How long a training is planned to be.

    Attributes:
        total_steps: Its steps, at least 1.
        steps_per_epoch: Records of the training split over the global batch size.
        drops: Steps from which on a lower rate is due, as utility.train.plateau finds them.
    """

    total_steps: int
    steps_per_epoch: float
    drops: tuple[int, ...] = ()

    def in_updates(self, steps_per_update: int) -> Length:
        """Return the same length, in updates that take so many steps each."""
        return Length(
            max(1, self.total_steps // steps_per_update),
            self.steps_per_epoch / steps_per_update,
            tuple(step // steps_per_update for step in self.drops),
        )


def _passed(step: tf.Tensor, boundaries) -> tf.Tensor:
    """Return how many boundaries lie at or before each step, int32 of step's shape."""
    boundaries = tf.constant(list(boundaries), tf.float32)
    return tf.reduce_sum(tf.cast(step[..., tf.newaxis] >= boundaries, tf.int32), axis=-1)


def _progress(step: tf.Tensor, length: Length) -> tf.Tensor:
    return tf.clip_by_value(step / length.total_steps, 0.0, 1.0)


def _between(config: ScheduleConfig, base: float, share: tf.Tensor) -> tf.Tensor:
    """Return the rate between end rate (`share` 0) and base rate (`share` 1)."""
    return config.end_learning_rate + (base - config.end_learning_rate) * share


@SCHEDULES.register('constant')
def constant(config: ScheduleConfig, base: float, step: tf.Tensor, length: Length) -> tf.Tensor:
    return tf.fill(tf.shape(step), base)


@SCHEDULES.register('step')
def step_decay(config: ScheduleConfig, base: float, step: tf.Tensor, length: Length) -> tf.Tensor:
    """Return another constant factor from each of decay_at, or decay_epochs, on."""
    boundaries = [share * length.total_steps for share in config.decay_at]
    if config.decay_epochs is not None:
        boundaries = [epoch * length.steps_per_epoch for epoch in config.decay_epochs]
    passed = _passed(step, boundaries)
    factor = tf.gather(tf.constant(config.decay_factors), passed)
    return tf.maximum(base * factor, config.end_learning_rate)


@SCHEDULES.register('plateau')
def plateau(config: ScheduleConfig, base: float, step: tf.Tensor, length: Length) -> tf.Tensor:
    """Return the base rate times plateau_factor for each drop so far."""
    factor = config.plateau_factor ** tf.cast(_passed(step, length.drops), tf.float32)
    return tf.maximum(base * factor, config.end_learning_rate)


@SCHEDULES.register('polynomial')
def polynomial(config: ScheduleConfig, base: float, step: tf.Tensor, length: Length) -> tf.Tensor:
    return _between(config, base, (1.0 - _progress(step, length)) ** config.power)


def _half_cosine(progress: tf.Tensor) -> tf.Tensor:
    return 0.5 + 0.5 * tf.cos(math.pi * progress)


@SCHEDULES.register('cosine')
def cosine(config: ScheduleConfig, base: float, step: tf.Tensor, length: Length) -> tf.Tensor:
    """Return half a period (Loshchilov & Hutter 2017, SGDR, without restarts)."""
    return _between(config, base, _half_cosine(_progress(step, length)))


@SCHEDULES.register('flat_cosine')
def flat_cosine(config: ScheduleConfig, base: float, step: tf.Tensor, length: Length) -> tf.Tensor:
    """Return the base rate for a share `flat` of the training, then half a cosine (Jiang et al.
    2023, RTMPose, table 2).
    """
    falling = tf.nn.relu(_progress(step, length) - config.flat) / (1.0 - config.flat)
    return _between(config, base, _half_cosine(falling))


@SCHEDULES.register('cyclic')
def cyclic(config: ScheduleConfig, base: float, step: tf.Tensor, length: Length) -> tf.Tensor:
    """Return a line from near the base rate to the end rate in each cycle, whose last update has
    the end rate (Izmailov et al. 2018, Averaging Weights, section 3.2).

    It is for training on from trained weights: with it the rate is low again and again.
    """
    cycle = _cycle(config, length)
    # One more than are whole, so that every step is in one.
    ends = [round(i * cycle) for i in range(int(length.total_steps / cycle) + 2)]
    index = tf.minimum(_passed(step, ends[1:]), len(ends) - 2)
    start, end = (tf.gather(tf.constant(ends, tf.float32), index + i) for i in (0, 1))
    return _between(config, base, 1.0 - tf.minimum((step - start + 1.0) / (end - start), 1.0))


def _cycle(config: ScheduleConfig, length: Length) -> float:
    cycle = config.cycle * length.total_steps
    if config.cycle_epochs is not None:
        cycle = config.cycle_epochs * length.steps_per_epoch
    return max(1.0, cycle)


def warmup_updates(config: ScheduleConfig, length: Length) -> float:
    """Return the length of the warm-up in updates; `length` is in updates too."""
    if config.warmup_steps is not None:
        return config.warmup_steps
    return config.warmup * length.total_steps


def cycle_ends(config: ScheduleConfig, length: Length) -> tuple[int, ...]:
    """Return the steps after which a whole cycle of 'cyclic' has ended, ascending.

    There the weights are at rest and may enter an average. With optimizer.accumulate give
    length.in_updates(...), and the answer is in updates too.
    """
    cycle = _cycle(config, length)
    ends = (round(i * cycle) for i in range(1, int(length.total_steps / cycle) + 2))
    return tuple(end for end in ends if end <= length.total_steps)


@SCHEDULES.register('range_test')
def range_test(config: ScheduleConfig, base: float, step: tf.Tensor, length: Length) -> tf.Tensor:
    """Return up, from the end rate to the base rate, by the same factor at each step (Smith 2017,
    section 3.3): what `--find_learning_rate` trains with.
    """
    share = tf.minimum(step / max(1, length.total_steps - 1), 1.0)
    return config.end_learning_rate * (base / config.end_learning_rate) ** share


def check_rates(optimizer: OptimizerConfig, schedule: ScheduleConfig) -> None:
    """Refuse a schedule that is not known, or that would go above the base rate.

    Raises:
        UserError: The name or a rate of the section `schedule` is wrong; names it.
    """
    SCHEDULES.get(schedule.name)
    base = optimizer.learning_rate
    has_warmup = schedule.warmup if schedule.warmup_steps is None else schedule.warmup_steps
    warmup = schedule.warmup_learning_rate if has_warmup else 0.0
    rates = {'warmup_learning_rate': warmup, 'end_learning_rate': schedule.end_learning_rate}
    for name, rate in rates.items():
        check('schedule.', name, rate, f'at most optimizer.learning_rate={base:g}', base.__ge__)
    if schedule.name == 'range_test':
        check('schedule.', 'end_learning_rate', schedule.end_learning_rate, *POSITIVE)


def learning_rate(
    optimizer: OptimizerConfig, schedule: ScheduleConfig, step: tf.Tensor, length: Length
) -> tf.Tensor:
    """Return the rate of the step after `step` steps were taken: linear warm-up, then the schedule.

    With optimizer.accumulate it is the rate of the update that the step is a part of.

    Args:
        optimizer: Has the base rate.
        schedule: The schedule.
        step: Integer scalar or [N], steps taken so far.
        length: Of the training, in steps.

    Returns:
        float32 of the shape of `step`.
    """
    step = tf.cast(step // optimizer.accumulate, tf.float32)
    length = length.in_updates(optimizer.accumulate)
    rate = SCHEDULES.get(schedule.name)(schedule, optimizer.learning_rate, step, length)
    warmup = warmup_updates(schedule, length)
    if not warmup:
        return rate
    progress = tf.minimum(step / warmup, 1.0)
    return schedule.warmup_learning_rate + progress * (rate - schedule.warmup_learning_rate)
