"""Averages of weights against NumPy, over steps in a graph and over checkpoints."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from config import AveragingConfig, Experiment, OptimizerConfig, ScheduleConfig
from tests.tiny_checkpoints import write_checkpoint
from utility.checkpoints import average
from utility.optim import weight_averaging
from utility.optim.schedules import Length

v1 = tf.compat.v1
LENGTH = Length(total_steps=12, steps_per_epoch=2.0)
NAMES = ('backbone/conv/kernel', 'head/heatmaps/bias')


def _experiment(kind, **settings):
    return Experiment(averaging=AveragingConfig(kind, **settings))


EMA = _experiment('ema', decay=0.9, start_epoch=1.0)
SWA = _experiment('swa', start_epoch=1.0, period_epochs=1.0)


def _train(experiment, num_steps=12, before=None):
    """Return the weights and all variables after each step of a made-up training.

    Args:
        experiment: How it averages.
        num_steps: How many.
        before: The values that the variables begin with, to go on with a training.
    """
    with tf.Graph().as_default(), v1.Session() as session:
        step = v1.train.get_or_create_global_step()
        rng = np.random.default_rng(0)
        weights = []
        for name in NAMES:
            scope, _, last = name.rpartition('/')
            with tf.name_scope(scope + '/'):
                value = rng.normal(size=[3]).astype(np.float32)
                weights.append(v1.Variable(value, name=last, use_resource=True))
        # At this rate the weights leap to and fro, and an average differs from all of them.
        train_op = v1.train.GradientDescentOptimizer(0.5).minimize(
            tf.add_n([tf.reduce_sum(tf.cos(3.0 * w)) for w in weights]), step
        )
        op = weight_averaging.averaging_step(train_op, weights, experiment, LENGTH)
        session.run(v1.global_variables_initializer())
        variables = {v.name[:-2]: v for v in v1.global_variables()}
        for name, value in (before or {}).items():
            variables[name].load(value, session)
        return [(session.run(op), session.run(variables))[1] for _ in range(num_steps)]


def _ema(weights, decay, start):
    """By the definition, from the weights after each step."""
    average = None
    for i, value in enumerate(weights[start:]):
        kept = min(decay, (1 + i) / (10 + i)) if i else 0.0
        average = (average * kept if i else 0.0) + value * (1 - kept)
        yield average


@pytest.mark.parametrize('start_epoch', [0.0, 2.0])
@pytest.mark.parametrize('decay', [0.3, 0.999])
def test_ema(decay, start_epoch):
    states = _train(_experiment('ema', decay=decay, start_epoch=start_epoch))
    start = int(2 * start_epoch)
    for name in NAMES:
        expected = list(_ema([np.float64(state[name]) for state in states], decay, start))
        found = [state[weight_averaging.SCOPE + name] for state in states[start:]]
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
        # A training whose weights hardly move would show nothing.
        assert np.abs(expected[-1] - states[-1][name]).max() > 1e-3
    counts = [state[weight_averaging.COUNT] for state in states]
    assert counts == [0] * start + list(range(1, 13 - start))


@pytest.mark.parametrize(
    ('start_epoch', 'period_epochs', 'steps'),
    [
        (0.0, 1.0, (2, 4, 6, 8, 10, 12)),
        (2.0, 1.5, (7, 10)),
        (3.0, 3.0, (12,)),
        (1.0, 1.25, (4, 7, 10, 12)),  # 4.5, 7, 9.5 and 12, rounded to even
        (5.0, 1e-9, (11, 12)),
    ],
)
def test_swa_is_the_mean_of_the_weights_at_the_ends_of_the_periods(
    start_epoch, period_epochs, steps
):
    experiment = _experiment('swa', start_epoch=start_epoch, period_epochs=period_epochs)
    assert weight_averaging.taken_updates(experiment, LENGTH) == steps
    states = _train(experiment)
    for i, state in enumerate(states, 1):
        taken = [states[step - 1] for step in steps if step <= i]
        assert state[weight_averaging.COUNT] == len(taken)
        for name in NAMES if taken else ():
            expected = np.mean([np.float64(one[name]) for one in taken], axis=0)
            np.testing.assert_allclose(state[weight_averaging.SCOPE + name], expected, rtol=1e-5)


def test_swa_takes_the_ends_of_the_cycles_of_a_cyclic_schedule():
    cyclic = ScheduleConfig(name='cyclic', cycle_epochs=1.5)
    experiment = dataclasses.replace(_experiment('swa', start_epoch=1.5), schedule=cyclic)
    # Of those at 3, 6, 9 and 12; what ends where the averaging begins is before it.
    assert weight_averaging.taken_updates(experiment, LENGTH) == (6, 9, 12)
    assert [state[weight_averaging.COUNT] for state in _train(experiment)][4::3] == [0, 1, 2]


@pytest.mark.parametrize(
    ('kind', 'counts'),
    [('ema', [0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4]), ('swa', [0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 2])],
)
def test_with_accumulation_whole_updates_are_averaged(kind, counts):
    averaged = _experiment(kind, period_epochs=3.0 if kind == 'swa' else 0.0)
    experiment = dataclasses.replace(averaged, optimizer=OptimizerConfig(accumulate=3))
    states = _train(experiment)
    assert [state[weight_averaging.COUNT] for state in states] == counts
    if kind == 'swa':
        expected = (states[5][NAMES[0]] + states[11][NAMES[0]]) / 2
        np.testing.assert_allclose(
            states[-1][weight_averaging.SCOPE + NAMES[0]], expected, rtol=1e-5
        )


@pytest.mark.parametrize('experiment', [EMA, SWA], ids=['ema', 'swa'])
def test_an_average_that_is_resumed_goes_on_as_if_never_stopped(experiment):
    whole = _train(experiment)
    resumed = _train(experiment, 12 - 5, before=whole[4])
    for name, value in whole[-1].items():
        np.testing.assert_array_equal(resumed[-1][name], value, name)
    assert len(whole[-1]) == 2 * len(NAMES) + 2


def test_without_averaging_nothing_is_added():
    assert set(_train(Experiment(), 1)[0]) == {*NAMES, 'global_step'}


@pytest.mark.parametrize(
    ('kind', 'settings', 'message'),
    [
        ('swa', {'start_epoch': 5.5, 'period_epochs': 1.0}, 'start=0.916667: no period or cycle'),
        ('swa', {}, "period=0.0: stands for the cycles of .* but it is 'cosine'"),
        ('swa', {'period_epochs': 1.0, 'decay': 0.5}, "decay=0.5: averaging.kind='swa' has no use"),
        ('ema', {'period_epochs': 1.0}, "period_epochs=1.0: averaging.kind='ema' has no use"),
        ('ema', {'start_epoch': 6.0}, 'start_epoch=6.0: must be below the 6 epochs'),
        ('none', {'start_epoch': 1.0}, "start_epoch=1.0: averaging.kind='none' has no use"),
    ],
)
def test_settings_that_would_average_nothing_are_refused(kind, settings, message):
    with pytest.raises(ValueError, match=f'averaging.{message}'):
        weight_averaging.check_averaging(_experiment(kind, **settings), LENGTH)


@pytest.mark.parametrize(
    'wrong',
    [{'kind': 'mean'}, {'decay': 1.0}, {'period_epochs': -1.0}, {'statistics_batches': -1}],
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=f'averaging.{next(iter(wrong))}='):
        AveragingConfig(**wrong)


def test_the_average_in_a_checkpoint_takes_the_place_of_the_weights(tmp_path):
    values = {
        'backbone/kernel': np.float32([1, 1]),
        'backbone/norm/moving_mean': np.float32([3]),
        'backbone/kernel/Momentum': np.float32([0, 0]),
        'averaging/backbone/kernel': np.float32([2, 2]),
        'averaging/count': np.int64(0),
        'global_step': np.int64(7),
    }
    path = write_checkpoint(tmp_path / 'model.ckpt-7', values)
    assert average.averaged_weights(path) is None  # nothing has entered
    path = write_checkpoint(tmp_path / 'model.ckpt-8', {**values, 'averaging/count': np.int64(1)})
    found = average.averaged_weights(path)
    assert {name: value.tolist() for name, value in found.items()} == {
        'backbone/kernel': [2, 2],
        'backbone/norm/moving_mean': [3],
    }
    del values['averaging/count']
    path = write_checkpoint(tmp_path / 'model.ckpt-9', values)
    assert average.averaged_weights(path) is None
