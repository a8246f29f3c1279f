"""The learning rate is a pure function of the step: at the boundaries, and for any settings."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from config import OptimizerConfig, ScheduleConfig, UserError
from utility.optim import schedules
from utility.optim.schedules import Length

CONFIG = ScheduleConfig(
    name='step',
    warmup_steps=10,
    warmup_learning_rate=0.1,
    decay_epochs=(2.0, 3.0),
    decay_factors=(1.0, 0.5, 0.01),
    end_learning_rate=0.05,
)
LENGTH = Length(100, 10.5)
PLAIN = ScheduleConfig(warmup_steps=0, end_learning_rate=0.1, cycle_epochs=1.0)


def _rates(steps, config=CONFIG, length=LENGTH, accumulate=1):
    optimizer = OptimizerConfig(learning_rate=1.0, accumulate=accumulate)
    return schedules.learning_rate(optimizer, config, tf.constant(steps), length).numpy()


def _named(name, **fields):
    return dataclasses.replace(PLAIN, name=name, **fields)


def test_warm_up_is_linear_and_ends_at_the_base_rate():
    np.testing.assert_allclose(_rates([0, 5, 10]), [0.1, 0.55, 1.0], rtol=1e-6)


def test_factors_hold_from_their_epoch_on_and_the_end_rate_bounds_them():
    np.testing.assert_allclose(_rates([20, 21, 31, 32, 1000]), [1, 0.5, 0.5, 0.05, 0.05], rtol=1e-6)


def test_what_is_no_step_and_no_epoch_is_a_share_of_the_training():
    """The same shape whatever the length, which is what --set epochs=10 changes."""
    shares = ScheduleConfig(
        name='step', warmup=0.1, warmup_learning_rate=0.1, decay_at=(0.5, 0.8), cycle=0.25
    )
    for total in (20, 100, 10_000):
        length = Length(total, 7.0)
        steps = [total // 20, total // 10, total // 2 - 1, total // 2, total * 4 // 5, total - 1]
        rates = _rates(steps, shares, length)
        np.testing.assert_allclose(rates, [0.55, 1, 1, 0.2, 0.04, 0.04], rtol=1e-5)
        cycles = dataclasses.replace(shares, name='cyclic')
        quarters = tuple(total * n // 4 for n in (1, 2, 3, 4))
        assert schedules.cycle_ends(cycles, length) == quarters


def test_without_warm_up_the_first_step_has_the_base_rate():
    config = ScheduleConfig(name='step', warmup_steps=0)
    assert _rates(0, config) == 1.0


@pytest.mark.parametrize(
    ('config', 'rates'),
    [
        (_named('constant'), [1, 1, 1, 1, 1]),
        (_named('polynomial'), [1, 0.775, 0.55, 0.325, 0.1]),
        (_named('polynomial', power=2.0), [1, 0.60625, 0.325, 0.15625, 0.1]),
        (_named('cosine'), [1, 0.55 + 0.45 * 0.5**0.5, 0.55, 0.55 - 0.45 * 0.5**0.5, 0.1]),
        (_named('flat_cosine'), [1, 1, 1, 0.55, 0.1]),
        (_named('flat_cosine', flat=0.25), [1, 1, 0.775, 0.325, 0.1]),
        (_named('flat_cosine', flat=0.0), [1, 0.55 + 0.45 * 0.5**0.5, 0.55, 0.2318, 0.1]),
        # 10 steps a cycle: the first update is a tenth of the way down, the last at the end.
        (_named('cyclic'), [0.91, 0.46, 0.91, 0.46, 0.91]),
        (_named('range_test'), 0.1 ** (1 - np.array([0, 25, 50, 75, 99]) / 99)),
    ],
)
def test_rates_at_quarters_of_the_training(config, rates):
    np.testing.assert_allclose(
        _rates([0, 25, 50, 75, 100], config, Length(100, 10.0)), rates, rtol=1e-4
    )


def test_the_plateau_lowers_the_rate_at_each_drop_and_not_below_the_end():
    length = Length(100, 10.0, drops=(20, 40, 60))
    rates = _rates([0, 19, 20, 40, 99], _named('plateau', plateau_factor=0.3), length)
    np.testing.assert_allclose(rates, [1, 1, 0.3, 0.1, 0.1], rtol=1e-6)


@pytest.mark.parametrize(
    ('epochs', 'length', 'ends'),
    [
        (1.0, Length(40, 10.0), (10, 20, 30, 40)),
        (2.0, Length(50, 10.0), (20, 40)),  # a cycle that is not finished has no end
        (1.0, Length(26, 2.6), (3, 5, 8, 10, 13, 16, 18, 21, 23, 26)),
        (0.01, Length(3, 10.0), (1, 2, 3)),  # not shorter than a step
        (9.0, Length(40, 10.0), ()),
    ],
)
def test_a_cycle_ends_with_the_end_rate(epochs, length, ends):
    config = _named('cyclic', cycle_epochs=epochs)
    assert schedules.cycle_ends(config, length) == ends
    rates = _rates(list(range(length.total_steps)), config, length)
    lowest = np.flatnonzero(np.isclose(rates, 0.1, rtol=1e-5)) + 1
    np.testing.assert_array_equal(lowest, ends)


def test_the_cycle_is_the_saw_tooth_of_a_line_by_steps():
    steps = np.arange(20)
    share = (steps % 10 + 1) / 10
    rates = _rates(steps, _named('cyclic'), Length(20, 10.0))
    np.testing.assert_allclose(rates, (1 - share) * 1.0 + share * 0.1, rtol=1e-6)


CONFIGS = st.builds(
    ScheduleConfig,
    name=st.sampled_from([n for n in schedules.SCHEDULES.names() if n != 'range_test']),
    warmup_steps=st.integers(0, 50),
    warmup_learning_rate=st.floats(0, 1),
    end_learning_rate=st.floats(0, 1),
    power=st.floats(0.1, 5),
    flat=st.floats(0, 0.99),
    cycle_epochs=st.floats(0.01, 50),
    plateau_factor=st.floats(0.01, 0.99),
)
LENGTHS = st.builds(
    Length,
    total_steps=st.integers(1, 300),
    steps_per_epoch=st.floats(0.1, 100),
    drops=st.lists(st.integers(0, 300), max_size=5).map(lambda steps: tuple(sorted(steps))),
)


@settings(max_examples=60, deadline=None)
@given(config=CONFIGS, length=LENGTHS, accumulate=st.integers(1, 4))
def test_any_schedule_stays_between_the_lowest_and_the_base_rate(config, length, accumulate):
    steps = np.arange(length.total_steps + 2)
    rates = _rates(steps, config, length, accumulate)
    assert rates.shape == steps.shape and rates.dtype == np.float32
    lowest = config.end_learning_rate
    if config.warmup_steps:
        lowest = min(lowest, config.warmup_learning_rate)
    assert np.all(rates >= lowest - 1e-6) and np.all(rates <= 1 + 1e-6)
    # A pure function: of each step alone, whatever was asked before.
    middle = len(steps) // 2
    assert _rates(int(steps[middle]), config, length, accumulate) == rates[middle]
    # All steps of one update have its rate.
    np.testing.assert_array_equal(rates, rates[steps // accumulate * accumulate])


@settings(max_examples=30, deadline=None)
@given(config=CONFIGS, length=LENGTHS)
def test_the_warm_up_is_a_line_that_meets_the_schedule(config, length):
    """By its last step nothing of it is left, and no step before differs from a blend with it."""
    without = dataclasses.replace(config, warmup_steps=0)
    steps = np.arange(length.total_steps)
    share = np.minimum(1, steps / max(1, config.warmup_steps)) if config.warmup_steps else 1.0
    blend = (1 - share) * config.warmup_learning_rate + share * _rates(steps, without, length)
    np.testing.assert_allclose(_rates(steps, config, length), blend, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('name', ['cosine', 'flat_cosine', 'polynomial'])
@settings(max_examples=20, deadline=None)
@given(length=LENGTHS, end=st.floats(0, 1))
def test_at_the_end_stands_the_end_rate(name, length, end):
    config = _named(name, end_learning_rate=end)
    np.testing.assert_allclose(_rates(length.total_steps, config, length), end, atol=1e-6)


def test_a_step_schedule_that_is_extended_keeps_its_beginning():
    steps = list(range(50))
    np.testing.assert_array_equal(_rates(steps), _rates(steps, length=Length(1000, 10.5)))


def test_the_rate_is_the_same_within_a_graph():
    eager = _rates(list(range(100)), _named('cyclic'))
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        step = tf.compat.v1.train.get_or_create_global_step()
        rate = schedules.learning_rate(
            OptimizerConfig(learning_rate=1.0), _named('cyclic'), step, Length(100, 10.5)
        )
        session.run(tf.compat.v1.global_variables_initializer())
        for expected in eager[:25]:
            assert session.run(rate) == expected
            session.run(step.assign_add(1))


def test_accumulated_steps_make_the_schedule_of_their_updates():
    """4 steps an update: the rates of the training with one step an update, each four times."""
    for name in schedules.SCHEDULES.names():
        config = dataclasses.replace(CONFIG, name=name)
        length = Length(100, 10.0, drops=(20,))
        parts = _rates(np.arange(400), config, Length(400, 40.0, drops=(80,)), accumulate=4)
        np.testing.assert_allclose(parts, np.repeat(_rates(np.arange(100), config, length), 4))


@pytest.mark.parametrize(
    ('fields', 'message'),
    [
        ({'name': 'linear'}, "unknown schedule 'linear'; there are: constant, cosine, cyclic"),
        (
            {'end_learning_rate': 2e-4},
            'schedule.end_learning_rate=0.0002: must be at most optimizer.learning_rate=0.0001',
        ),
        ({'warmup_learning_rate': 1.0}, 'schedule.warmup_learning_rate=1.0: must be at most'),
        (
            {'name': 'range_test', 'end_learning_rate': 0.0},
            'schedule.end_learning_rate=0.0: must be positive',
        ),
    ],
)
def test_rates_that_make_no_schedule_are_refused(fields, message):
    with pytest.raises(ValueError) as caught:
        schedules.check_rates(OptimizerConfig(), ScheduleConfig(**fields))
    assert str(caught.value).startswith(message)


def test_a_warm_up_rate_without_warm_up_does_not_matter():
    config = ScheduleConfig(warmup_steps=0, warmup_learning_rate=1.0)
    schedules.check_rates(OptimizerConfig(), config)


# Another value of each setting, none of them a default or of the CONFIG below.
OTHER = {
    'decay_at': (0.3, 0.4),
    'decay_epochs': (1.0, 2.0),
    'decay_factors': (1.0, 0.7, 0.6),
    'power': 2.0,
    'flat': 0.2,
    'cycle': 0.4,
    'cycle_epochs': 3.0,
    'plateau_factor': 0.5,
}


@pytest.mark.parametrize('name', schedules.SCHEDULES.names())
@pytest.mark.parametrize('field', OTHER)
def test_a_setting_is_refused_exactly_where_it_changes_no_rate(name, field):
    plain = ScheduleConfig(name=name, warmup_steps=0, end_learning_rate=1e-3)
    other = dataclasses.replace(plain, **{field: OTHER[field]})
    length = Length(100, 10.0, drops=(50,))
    steps = np.arange(100)
    changes = not np.allclose(_rates(steps, plain, length), _rates(steps, other, length))
    if changes:
        other.check_effect(field, f'schedule.{field}')
    else:
        with pytest.raises(
            UserError, match=f'^schedule.{field}: has no effect .*set schedule.name='
        ):
            other.check_effect(field, f'schedule.{field}')


@pytest.mark.parametrize(
    ('field', 'instead', 'value'),
    [
        ('warmup', 'warmup_steps', 0),
        ('decay_at', 'decay_epochs', (1.0, 2.0)),
        ('cycle', 'cycle_epochs', 2.0),
    ],
)
def test_a_share_is_refused_where_steps_or_epochs_take_its_place(field, instead, value):
    name = {'decay_at': 'step', 'cycle': 'cyclic'}.get(field, 'cosine')
    ScheduleConfig(name=name).check_effect(field, f'schedule.{field}')
    config = ScheduleConfig(name=name, **{instead: value})
    with pytest.raises(UserError, match=f'{field}: has no effect where schedule.{instead}='):
        config.check_effect(field, f'schedule.{field}')
