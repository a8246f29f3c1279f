"""The learning rate is a pure function of the step."""

import numpy as np
import tensorflow as tf

from config import OptimizerConfig, ScheduleConfig
from utility import schedules
from utility.schedules import Length

CONFIG = ScheduleConfig(
    warmup_steps=10,
    warmup_learning_rate=0.1,
    decay_epochs=(2.0, 3.0),
    decay_factors=(1.0, 0.5, 0.01),
    end_learning_rate=0.05,
)


def _rates(steps, config=CONFIG, steps_per_epoch=10.5):
    return schedules.learning_rate(
        OptimizerConfig(learning_rate=1.0), config, tf.constant(steps), Length(100, steps_per_epoch)
    ).numpy()


def test_warm_up_is_linear_and_ends_at_the_base_rate():
    np.testing.assert_allclose(_rates([0, 5, 10]), [0.1, 0.55, 1.0], rtol=1e-6)


def test_factors_hold_from_their_epoch_on_and_the_end_rate_bounds_them():
    np.testing.assert_allclose(_rates([20, 21, 31, 32, 1000]), [1, 0.5, 0.5, 0.05, 0.05], rtol=1e-6)


def test_without_warm_up_the_first_step_has_the_base_rate():
    config = ScheduleConfig(warmup_steps=0)
    assert _rates(0, config) == 1.0


def test_resuming_does_not_change_the_rate():
    whole = _rates(list(range(50)))
    parts = np.concatenate([_rates(list(range(20))), _rates(list(range(20, 50)))])
    np.testing.assert_array_equal(whole, parts)
