"""Optimisers of TensorFlow Addons: as their authors' in eager mode, resumed, and on two devices."""

from __future__ import annotations

import inspect
import json

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_addons as tfa

from config import Experiment, OptimizerConfig, UserError
from tests import optimizer_runs
from tests.commands import run
from tests.optimizer_runs import FEATURES, LABELS, RATES, START, load, train, trained
from utility.optim import addons, rules

DECAY = 0.1
# What differs from the defaults; all else is theirs.
OPTIONS = {
    # Rectified in the last of the steps only.
    'AdaBelief': {'epsilon': 1e-4, 'beta_2': 0.9, 'sma_threshold': 4.5},
    'AdamW': {'amsgrad': True},
    'LAMB': {'exclude_from_layer_adaptation': ['gamma']},
    'NovoGrad': {'grad_averaging': True},
    'RectifiedAdam': {'beta_2': 0.9, 'sma_threshold': 4.5},
    'SGDW': {'momentum': 0.9, 'nesterov': True},
}
SLOTS = {
    'AdaBelief': {'m', 'v'},
    'AdamW': {'m', 'v', 'vhat'},
    'LAMB': {'m', 'v'},
    'LazyAdam': {'m', 'v'},
    'NovoGrad': {'m', 'v'},
    'ProximalAdagrad': {'accumulator'},
    'RectifiedAdam': {'m', 'v'},
    'SGDW': {'momentum'},
    'Yogi': {'m', 'v'},
}
FAST = ('AdamW', 'NovoGrad', 'Yogi')
SOME_FAST = [
    pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in addons.ACCEPTED
]


def _settings(name, **more):
    return {
        'name': f'tfa/{name}',
        'options': OPTIONS.get(name, {}),
        'weight_decay': DECAY,
        **more,
    }


def _loss(weights):
    kernel, bias, gamma = (weights[name] for name in START)
    return tf.reduce_mean(((FEATURES @ kernel + bias) * gamma - LABELS) ** 2)


def _as_published(name):
    """Return the weights after the steps of RATES, in eager mode, by the optimiser as it is."""
    weights = {name: tf.Variable(value, name=name) for name, value in START.items()}
    kind = addons.ACCEPTED[name]
    takes_decay = () if kind == 'loss' else ('weight_decay',)
    make = getattr(tfa.optimizers, name)
    # Kernels decay, other weights do not.
    pair = [
        make(learning_rate=1.0, **OPTIONS.get(name, {}), **dict.fromkeys(takes_decay, on * DECAY))
        for on in (1.0, 0.0)
    ]
    for rate in RATES:
        with tf.GradientTape() as tape:
            loss = _loss(weights)
        gradients = tape.gradient(loss, weights)
        if kind == 'loss':
            gradients['head/kernel'] += DECAY * weights['head/kernel']
        for path in weights:
            optimizer = pair[path != 'head/kernel']
            optimizer.learning_rate = float(rate)
            if kind == 'rate':
                optimizer.weight_decay = float(rate) * DECAY * (path == 'head/kernel')
        for chosen, optimizer in zip((['head/kernel'], list(START)[1:]), pair):
            optimizer.apply_gradients([(gradients[path], weights[path]) for path in chosen])
    return {path: weight.numpy() for path, weight in weights.items()}


@pytest.mark.parametrize('name', SOME_FAST)
def test_weights_are_those_of_the_published_optimiser(name, tmp_path):
    values = trained(tmp_path, _settings(name))
    for path, expected in _as_published(name).items():
        assert np.isfinite(expected).all()
        np.testing.assert_allclose(values[path], expected, 2e-5, 1e-6, err_msg=path)
    slots = {f'{path}/{slot}' for path in START for slot in SLOTS[name]}
    assert values.keys() == {*START, *slots, 'global_step'}


@pytest.mark.parametrize('name', SOME_FAST)
def test_it_trains(name, tmp_path, monkeypatch):
    monkeypatch.setattr(optimizer_runs, 'RATES', np.full(60, 0.05, np.float32))
    values = trained(tmp_path, _settings(name, weight_decay=0.0), steps=60)
    assert _loss(values) < 0.8 * _loss(START)


@pytest.mark.parametrize('name', SOME_FAST)
def test_a_resumed_training_is_the_uninterrupted_one_to_the_last_bit(name, tmp_path):
    first = str(tmp_path / 'first')
    train(OptimizerConfig(**_settings(name)), first, steps=3)
    resumed = trained(tmp_path, _settings(name), steps=3, start=first)
    straight = trained(tmp_path, _settings(name))
    assert resumed.keys() == straight.keys()
    for path, value in straight.items():
        np.testing.assert_array_equal(resumed[path], value, path)


def test_a_resumed_training_takes_the_new_hyper_parameters(tmp_path):
    first = str(tmp_path / 'first')
    train(OptimizerConfig(**_settings('AdamW', weight_decay=0.0)), first, steps=1)
    plain, decayed, other = (
        trained(tmp_path, _settings('AdamW', **changed), steps=1, start=first)['head/kernel']
        for changed in (
            {'weight_decay': 0.0},
            {'weight_decay': 0.5},
            {'weight_decay': 0.0, 'options': {'amsgrad': True, 'beta_1': 0.0}},
        )
    )
    shrunk = RATES[1] * 0.5 * load(first)['head/kernel']
    np.testing.assert_allclose(plain - decayed, shrunk, rtol=1e-4, atol=1e-7)
    assert np.abs(plain - other).max() > 1e-3


def test_it_goes_with_all_that_surrounds_a_rule(tmp_path):
    """AdamW of the addons is this project's, with clipping, accumulation, Lookahead and a scale
    of the loss whose first gradient overflows.
    """
    shared = {'weight_decay': DECAY, 'clip_norm': 0.5, 'accumulate': 2, 'lookahead_steps': 2}
    overflow = optimizer_runs.Overflow(0)
    here = trained(tmp_path, {'name': 'adamw', 'epsilon': 1e-7, **shared}, overflow=overflow)
    there = trained(tmp_path, {'name': 'tfa/AdamW', **shared}, overflow=overflow)
    assert there['loss_scale/good_steps'] == 5
    for path in START:
        np.testing.assert_allclose(there[path], here[path], 1e-6, 1e-7, err_msg=path)


@pytest.fixture(scope='module')
def two_devices(tmp_path_factory):
    """A folder with a checkpoint of each optimiser, trained on two devices, and of resumes."""
    folder = tmp_path_factory.mktemp('two_devices')
    runs = []
    for name in addons.ACCEPTED:
        train(OptimizerConfig(**_settings(name)), str(folder / f'{name}_single'), steps=3)
        whole = {'path': str(folder / name), 'batch': 4}
        resumed = {**whole, 'path': str(folder / f'{name}_resumed'), 'steps': 3}
        resumed['start'] = str(folder / f'{name}_single')
        half = {**whole, 'path': str(folder / f'{name}_half'), 'steps': 3}
        runs += [(_settings(name), arguments) for arguments in (whole, resumed, half)]
    done = run('-m', 'tests.optimizer_runs', json.dumps(runs), timeout=600)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
@pytest.mark.parametrize('name', addons.ACCEPTED)
def test_two_devices_are_one_with_the_double_batch_and_resume_each_other(
    name, two_devices, tmp_path
):
    single = trained(tmp_path, _settings(name))
    half = str(two_devices / f'{name}_half')
    others = [load(str(two_devices / name)), load(str(two_devices / f'{name}_resumed'))]
    others.append(trained(tmp_path, _settings(name), steps=3, start=half))
    for values in others:
        assert values.keys() == single.keys()
        for path, value in single.items():
            np.testing.assert_allclose(values[path], value, 2e-5, 1e-6, err_msg=path)


def test_the_table_is_true_of_all_that_there_is():
    classes = {
        name
        for name, value in vars(tfa.optimizers).items()
        if inspect.isclass(value) and issubclass(value, tf.keras.optimizers.legacy.Optimizer)
    }
    abstract = {'KerasLegacyOptimizer', 'AveragedOptimizerWrapper'}
    assert classes - abstract == {*addons.ACCEPTED, *addons.REFUSED} == {*SLOTS, *addons.REFUSED}
    for name, kind in addons.ACCEPTED.items():
        parameters = inspect.signature(getattr(tfa.optimizers, name).__init__).parameters
        assert ('weight_decay' in parameters) == (kind != 'loss'), name


@pytest.mark.parametrize(
    ('name', 'options', 'message'),
    [
        ('SWA', {}, "optimizer.name='tfa/SWA': in an Estimator its average stays 0; take"),
        ('Lookahead', {}, 'take optimizer.lookahead_steps'),
        ('COCOB', {}, 'it has no learning rate'),
        ('AdamV', {}, "tfa/SGDW, tfa/Yogi; did you mean 'tfa/AdamW'?"),
        ('AdamW', {'beta1': 0.9}, "'optimizer.options.beta1'; there are: amsgrad, beta_1, beta_2"),
        ('AdamW', {'beta1': 0.9}, "did you mean 'beta_1'?"),
        ('AdamW', {'clipnorm': 1.0}, "unknown setting 'optimizer.options.clipnorm'"),
        ('AdamW', {'weight_decay': 0.1}, 'options.weight_decay=0.1: set optimizer.weight_decay'),
        ('Yogi', {'learning_rate': 0.1}, 'options.learning_rate=0.1: set optimizer.learning_rate'),
        ('LAMB', {'exclude_from_weight_decay': ['a']}, 'set optimizer.decay_kinds'),
        ('AdaBelief', {'beta_1': 'x'}, "optimizer.options.beta_1='x': must be of type float"),
        ('AdaBelief', {'beta_1': 1.0}, r'beta_1=1.0: must be in [0, 1)'),
        ('RectifiedAdam', {'sma_threshold': 4.0}, 'sma_threshold=4.0: must be above 4'),
        ('AdaBelief', {'rectify': 1}, 'rectify=1: must be of type bool'),
        ('SGDW', {'momentum': 2.0}, "optimizer.options={'momentum': 2.0}: "),
        ('Yogi', {'activation': 'relu'}, 'Activation function can be sign or tanh'),
    ],
)  # fmt: skip
def test_what_does_not_train_or_is_no_option_is_refused(name, options, message):
    with pytest.raises(UserError) as caught:
        rules.check_optimizer(OptimizerConfig(name=f'tfa/{name}', options=options))
    assert message in str(caught.value)


def test_settings_of_other_optimisers_are_refused():
    with pytest.raises(UserError, match=r'optimizer.momentum=0.8: .* are optimizer.options'):
        rules.check_optimizer(OptimizerConfig(name='tfa/SGDW', momentum=0.8))
    with pytest.raises(UserError, match=r"name='adam' has no use for it; tfa/<Name> have"):
        rules.check_optimizer(OptimizerConfig(name='adam', options={'beta_1': 0.9}))


def test_options_are_settings():
    words = ('optimizer.name=tfa/SGDW', 'optimizer.options.momentum=0.9')
    experiment = Experiment().override(*words)
    rules.check_optimizer(experiment.optimizer)
    assert Experiment.from_json(experiment.to_json()) == experiment
