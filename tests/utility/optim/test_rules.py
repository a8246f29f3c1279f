"""Optimisers against their formulas in NumPy, on one device and on two, and what they leave behind.

Every test of a formula takes several steps: errors in what is kept between them show.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
import tensorflow as tf

from config import OptimizerConfig
from tests.commands import run
from tests.optimizer_runs import FEATURES, LABELS, RATES, START, Overflow, load, train, trained
from utility.optim import loss_scale, rules, training_step
from utility.train import model_fn

v1 = tf.compat.v1
ALL_KINDS = ('kernel', 'bias', 'norm')
CASES = {
    'momentum': {'weight_decay': 0.0},
    'nesterov': {'nesterov': True, 'momentum': 0.8, 'weight_decay': 0.0},
    'l2': {'weight_decay': 0.1},
    'l2_of_all': {'weight_decay': 0.1, 'decay_kinds': ALL_KINDS},
    'sgdw': {'name': 'sgdw', 'weight_decay': 0.1},
    'sgdw_nesterov': {'name': 'sgdw', 'weight_decay': 0.1, 'nesterov': True},
    'adam': {'name': 'adam', 'weight_decay': 0.0, 'beta_2': 0.9, 'epsilon': 0.1},
    'adam_l2': {'name': 'adam', 'weight_decay': 0.1},
    'adamw': {'name': 'adamw', 'weight_decay': 0.1},
    'adamw_of_some': {'name': 'adamw', 'weight_decay': 0.1, 'decay_kinds': ('bias', 'norm')},
    'adamw_0': {'name': 'adamw', 'weight_decay': 0.0},
    'clipped': {'clip_norm': 10.0},  # of some of the updates, those of a longer gradient
    'accumulated': {'accumulate': 2},
    'lookahead': {'lookahead_steps': 2, 'lookahead_alpha': 0.3},
    'everything': {
        'name': 'adamw',
        'weight_decay': 0.1,
        'clip_norm': 0.5,
        'accumulate': 2,
        'lookahead_steps': 2,
    },
}


def _gradients(weights, rows):
    """Return the loss's gradients at the weights, float64, for these rows of FEATURES."""
    kernel, bias, gamma = weights.values()
    features, labels = FEATURES[rows].astype(np.float64), LABELS[rows]
    linear = features @ kernel + bias
    error = 2 * (linear * gamma - labels) / labels.size
    gradients = (features.T @ (error * gamma), (error * gamma).sum(0), (error * linear).sum(0))
    return dict(zip(weights, gradients))


def _moves(config, name, gradient, slots, count):
    """Return what a rule takes from a weight, per unit of the rate; `slots` are its own to keep."""
    if config.name in ('momentum', 'sgdw'):
        slots[name] = config.momentum * slots.get(name, 0.0) + gradient
        return gradient + config.momentum * slots[name] if config.nesterov else slots[name]
    first, second = slots.get(name, (0.0, 0.0))
    first = config.momentum * first + (1 - config.momentum) * gradient
    second = config.beta_2 * second + (1 - config.beta_2) * gradient**2
    slots[name] = first, second
    correction = np.sqrt(1 - config.beta_2 ** (count + 1)) / (1 - config.momentum ** (count + 1))
    return correction * first / (np.sqrt(second) + config.epsilon)


def _expected(config, steps=6, batch=8, skipped=-1):
    """Return the weights after so many steps, by the formulas of the papers, in float64.

    The gradient of the step `skipped`, from 0, changes nothing.
    """
    weights = {name: value.astype(np.float64) for name, value in START.items()}
    kinds = {'kernel': 'kernel', 'bias': 'bias', 'gamma': 'norm'}
    decay = {
        name: config.weight_decay * (kinds[name.split('/')[-1]] in config.decay_kinds)
        for name in weights
    }
    coupled = config.name in ('momentum', 'adam')
    slots, slow = {}, dict(weights)
    for count in range(steps // config.accumulate):
        gradients = dict.fromkeys(weights, 0.0)
        if config.accumulate == 1 and count == skipped:
            continue
        for i in range(config.accumulate):
            if count * config.accumulate + i == skipped:
                continue
            first = batch * (count * config.accumulate + i)
            rows = np.arange(first, first + batch) % len(FEATURES)
            for name, gradient in _gradients(weights, rows).items():
                gradients[name] += (gradient + coupled * decay[name] * weights[name]) / (
                    config.accumulate
                )
        norm = np.sqrt(sum((g**2).sum() for g in gradients.values()))
        if config.clip_norm and norm > config.clip_norm:
            gradients = {name: config.clip_norm / norm * g for name, g in gradients.items()}
        rate = RATES[count]
        for name, gradient in gradients.items():
            shrink = (not coupled) * decay[name] * weights[name]
            move = _moves(config, name, gradient, slots, count)
            weights[name] = weights[name] - rate * (move + shrink)
        if config.lookahead_steps and (count + 1) % config.lookahead_steps == 0:
            for name in weights:
                slow[name] = slow[name] + config.lookahead_alpha * (weights[name] - slow[name])
            weights = dict(slow)
    return weights


def _assert_weights(values, expected, rtol=2e-5):
    for name, value in expected.items():
        np.testing.assert_allclose(values[name], value, rtol, atol=1e-6, err_msg=name)


@pytest.mark.parametrize('case', CASES)
def test_weights_after_some_steps_are_those_of_the_formula(case, tmp_path):
    _assert_weights(trained(tmp_path, CASES[case]), _expected(OptimizerConfig(**CASES[case])))


def test_every_optimizer_is_among_the_cases():
    here = {name for name in rules.OPTIMIZERS.names() if not name.startswith('tfa/')}
    assert {case.get('name', 'momentum') for case in CASES.values()} == here


def test_micro_batches_are_one_batch_in_parts(tmp_path):
    """4 batches of 2 make the update of one batch of 8, to the 6th digit."""
    whole = trained(tmp_path, {'name': 'adamw'}, steps=3, batch=8)
    parts = trained(tmp_path, {'name': 'adamw', 'accumulate': 4}, steps=12, batch=2)
    _assert_weights(parts, {name: whole[name] for name in START}, rtol=1e-6)
    assert (whole['global_step'], parts['global_step']) == (3, 12)


def test_an_update_in_progress_survives_a_checkpoint(tmp_path):
    """Stopped between two micro-batches and between two steps back of Lookahead."""
    settings, first = CASES['everything'], str(tmp_path / 'first')
    train(OptimizerConfig(**settings), first, steps=3)
    resumed = trained(tmp_path, settings, steps=3, start=first)
    straight = trained(tmp_path, settings, steps=6)
    assert resumed.keys() == straight.keys()
    for name, value in straight.items():
        np.testing.assert_array_equal(resumed[name], value, name)


def test_a_resumed_run_takes_the_new_hyper_parameters(tmp_path):
    """None of them is a variable, which the checkpoint would bring back."""
    first = str(tmp_path / 'first')
    train(OptimizerConfig(name='adamw', weight_decay=0.0), first, steps=1)
    plain, decayed = (
        trained(tmp_path, {'name': 'adamw', 'weight_decay': decay}, steps=1, start=first)
        for decay in (0.0, 0.5)
    )
    shrunk = RATES[1] * 0.5 * load(first)['head/kernel']
    difference = plain['head/kernel'] - decayed['head/kernel']
    np.testing.assert_allclose(difference, shrunk, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(
    ('settings', 'slots'),
    [
        ({}, {'Momentum'}),
        (CASES['everything'], {'Adam', 'Adam_1', 'Gradient', 'Lookahead'}),
    ],
)
def test_a_checkpoint_holds_weights_and_their_slots(tmp_path, settings, slots):
    names = {f'{name}/{slot}' for name in START for slot in slots}
    assert trained(tmp_path, settings).keys() == {*START, *names, 'global_step'}


@pytest.fixture(scope='module')
def two_devices(tmp_path_factory):
    """A folder with the checkpoint of each case after training on two devices, and of resumes."""
    folder = tmp_path_factory.mktemp('two_devices')
    everything = CASES['everything']
    train(OptimizerConfig(**everything), str(folder / 'single'), steps=3)
    runs = [(case, {'path': str(folder / name), 'batch': 4}) for name, case in CASES.items()]
    resumed = {'path': str(folder / 'resumed'), 'start': str(folder / 'single'), 'batch': 4}
    runs.append((everything, {**resumed, 'steps': 3}))
    runs.append((everything, {'path': str(folder / 'half'), 'batch': 4, 'steps': 3}))
    overflown = {'path': str(folder / 'overflown'), 'batch': 4, 'overflow': 2}
    runs.append((CASES['adamw'], overflown))
    done = run('-m', 'tests.optimizer_runs', json.dumps(runs), timeout=600)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
@pytest.mark.parametrize('case', CASES)
def test_two_devices_with_half_the_batch_give_the_same_weights(case, two_devices):
    _assert_weights(load(str(two_devices / case)), _expected(OptimizerConfig(**CASES[case])))


@pytest.mark.slow
def test_single_and_mirrored_runs_resume_each_other(two_devices, tmp_path):
    expected = _expected(OptimizerConfig(**CASES['everything']))
    resumed = load(str(two_devices / 'resumed'))
    assert resumed.keys() == load(str(two_devices / 'single')).keys()
    _assert_weights(resumed, expected)
    half = str(two_devices / 'half')
    _assert_weights(trained(tmp_path, CASES['everything'], steps=3, start=half), expected)


@pytest.mark.parametrize(
    ('name', 'decays'),
    [
        ('head/deconv/kernel', True),
        ('backbone/block/depthwise_kernel', True),
        ('head/bias', False),
        ('head/norm/gamma', False),
        ('head/norm/beta', False),
    ],
)
def test_weight_decay_goes_by_the_kind_of_a_variable(name, decays):
    variable = tf.Variable([2.0, 1.0], name=name)
    assert training_step.decays(OptimizerConfig(), variable) == decays
    assert training_step.decays(OptimizerConfig(decay_kinds=ALL_KINDS), variable)
    assert not training_step.decays(OptimizerConfig(weight_decay=0.0), variable)
    pairs = [(tf.constant([1.0, 3.0]), variable)]
    [(gradient, same)] = training_step.with_weight_decay(
        OptimizerConfig(weight_decay=0.1), pairs, 2
    )
    np.testing.assert_allclose(gradient, [1 + 0.05 * 2 * decays, 3 + 0.05 * 1 * decays])
    assert same is variable


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (
            {'name': 'lamb'},
            "unknown optimizer 'lamb'; there are: adam, adamw, momentum, sgdw, tfa/...",
        ),
        (
            {'name': 'adamw', 'nesterov': True},
            "optimizer.nesterov=True: optimizer.name='adamw' has no use for it; "
            'momentum and sgdw have',
        ),
        (
            {'beta_2': 0.99},
            "optimizer.beta_2=0.99: optimizer.name='momentum' has no use for it; "
            'adam and adamw have',
        ),
    ],
)
def test_what_an_optimizer_does_not_use_is_refused(settings, message):
    with pytest.raises(ValueError) as caught:
        rules.check_optimizer(OptimizerConfig(**settings))
    assert str(caught.value) == message


@pytest.mark.slow
def test_all_devices_skip_a_step_together(two_devices):
    values = load(str(two_devices / 'overflown'))
    _assert_weights(values, _expected(OptimizerConfig(**CASES['adamw']), skipped=2))
    assert values['loss_scale/scale'] == loss_scale.INITIAL / 2
    assert not [name for name in values if 'replica' in name]


@pytest.mark.parametrize('case', ['momentum', 'adamw', 'clipped', 'accumulated', 'everything'])
@pytest.mark.parametrize('step', [-1, 0, 3])
def test_a_loss_scale_changes_nothing_but_skips_what_is_not_finite(tmp_path, case, step):
    config = OptimizerConfig(**CASES[case])
    train(config, str(tmp_path / 'a'), overflow=Overflow(step))
    values = load(str(tmp_path / 'a'))
    _assert_weights(values, _expected(config, skipped=step))
    assert values['global_step'] == 6
    halved = 1 if step < 0 else 2
    assert values['loss_scale/scale'] == loss_scale.INITIAL / halved
    assert values['loss_scale/good_steps'] == (6 if step < 0 else 5 - step)


def test_a_loss_scale_doubles_after_many_good_steps_and_is_resumed(tmp_path, monkeypatch):
    monkeypatch.setattr(loss_scale, 'GROWTH_STEPS', 4)
    config, half = OptimizerConfig(**CASES['momentum']), str(tmp_path / 'half')
    train(config, half, steps=3, overflow=Overflow())
    assert load(half)['loss_scale/good_steps'] == 3
    train(config, str(tmp_path / 'b'), steps=3, start=half, overflow=Overflow())
    values = load(str(tmp_path / 'b'))
    assert values['loss_scale/scale'] == 2 * loss_scale.INITIAL
    assert values['loss_scale/good_steps'] == 2
    _assert_weights(values, _expected(config))


def test_a_training_of_another_precision_has_no_loss_scale(tmp_path):
    train(OptimizerConfig(**CASES['momentum']), str(tmp_path / 'model.ckpt-6'), steps=1)
    v1.train.update_checkpoint_state(str(tmp_path), str(tmp_path / 'model.ckpt-6'))
    assert model_fn.loss_scale_of('bfloat16', str(tmp_path)) is None
    with pytest.raises(ValueError, match='model.ckpt-6 was trained in another precision'):
        model_fn.loss_scale_of('float16', str(tmp_path))
