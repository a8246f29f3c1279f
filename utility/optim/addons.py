"""TensorFlow Addons' optimisers as update rules: optimizer.name=tfa/<Name>.

Used as they are, with apply_gradients in an Estimator, they keep hyper-parameters as variables, so
that a resumed run silently finds the old ones; take the loss of a replica for that of all; save the
slots of each replica; and count steps of their own. Here one of them only computes the update of
one weight, on one device, between what training_step.py does with every rule: the slots are this
project's variables, the count of updates follows from the global step, the gradient is the sum over
the replicas, and everything else is a constant of the graph. So accumulation, clip_norm, Lookahead
and the loss scale go with all of them.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Sequence
from typing import Any

from config import OptimizerConfig, UserError, unknown

PREFIX = 'tfa/'
# Where optimizer.weight_decay acts: in an L2 'loss', where an optimiser has no decay of its own; in
# its own 'rule', which multiplies it by the learning rate; 'rate': in its own, which does not, so
# that it is done here.
ACCEPTED = {
    'AdaBelief': 'rule',
    'AdamW': 'rate',
    'LAMB': 'rule',
    'LazyAdam': 'loss',
    'NovoGrad': 'rule',
    'ProximalAdagrad': 'loss',
    'RectifiedAdam': 'rule',
    'SGDW': 'rate',
    'Yogi': 'loss',
}
REFUSED = {
    'COCOB': 'it has no learning rate, so that the schedule would do nothing; and in a graph it '
    'reads and replaces what it keeps of a weight in no certain order',
    'ConditionalGradient': 'its learning rate is the share of a weight that stays, so that a low '
    'rate makes the network forget its weights',
    'Lookahead': 'in an Estimator it fails; take optimizer.lookahead_steps',
    'MovingAverage': "over several devices it fails; take averaging.kind='ema'",
    'MultiOptimizer': 'it wraps optimisers of Keras layers, which there are none of here',
    'SWA': "in an Estimator its average stays 0; take averaging.kind='swa'",
}
# Arguments that are settings of this project.
_SETTINGS = {
    'learning_rate': 'optimizer.learning_rate',
    'weight_decay': 'optimizer.weight_decay',
    'exclude_from_weight_decay': 'optimizer.decay_kinds',
}
_NOT_OPTIONS = ('self', 'name', 'use_locking', 'kwargs', *_SETTINGS)


def check_addon(config: OptimizerConfig) -> None:
    """Refuse an optimiser that does not train here, and options that it does not have.

    Raises:
        UserError: Its name or an option is refused; lists the options that there are.
    """
    name = config.name[len(PREFIX) :]
    if name in REFUSED:
        raise UserError(f'optimizer.name={config.name!r}: {REFUSED[name]}')
    if name not in ACCEPTED:
        raise unknown('optimizer', config.name, config.name, [PREFIX + known for known in ACCEPTED])
    defaults = _defaults(name)
    for option, value in config.options.items():
        key = f'optimizer.options.{option}'
        if option in _SETTINGS:
            raise UserError(f'{key}={value!r}: set {_SETTINGS[option]}')
        if option not in defaults:
            raise unknown('setting', key, option, defaults)
        kind = type(defaults[option])
        allowed = (int, float) if kind is float else (list,) if kind is type(None) else (kind,)
        if type(value) not in allowed:
            raise UserError(f'{key}={value!r}: must be of type {allowed[-1].__name__}')
        if option.startswith('beta') and not 0 <= value < 1:
            raise UserError(f'{key}={value!r}: must be in [0, 1)')
        if option == 'sma_threshold' and value <= 4:
            raise UserError(f'{key}={value!r}: must be above 4: below, the formula has no value')
    try:
        _build(config)
    except (TypeError, ValueError, NotImplementedError) as error:
        raise UserError(f'optimizer.options={dict(config.options)!r}: {error}') from error


def _class(name: str) -> type:
    import tensorflow_addons as tfa  # takes a second

    return getattr(tfa.optimizers, name)


def _defaults(name: str) -> dict[str, Any]:
    """Return the options of an optimiser and their defaults."""
    parameters = inspect.signature(_class(name).__init__).parameters
    return {n: p.default for n, p in parameters.items() if n not in _NOT_OPTIONS}


class _OneWeight:
    """What of a Keras optimiser would make variables, made of the values of one update.

    Attributes:
        slots: Name -> the variable; while they are looked for, what makes its initial value.
        iterations: Updates before this one, int64 [].
    """

    slots: dict[str, Any]
    iterations = None

    def add_slot(self, var, slot_name, initializer='zeros', shape=None):
        self.slots[slot_name] = initializer

    def get_slot(self, var, slot_name):
        return self.slots[slot_name]

    def _create_hypers(self):
        """Leave the hyper-parameters what they are: constants."""


def _optimizer(config: OptimizerConfig, rate: Any = 0.0, decay: float = 0.0, count: Any = 0):
    """Return an optimiser of one update of one weight."""
    name = config.name[len(PREFIX) :]
    settings = dict(config.options)
    if ACCEPTED[name] == 'rule':
        settings['weight_decay'] = decay
    elif ACCEPTED[name] == 'rate':
        settings['weight_decay'] = (lambda: rate * decay) if decay else 0.0
    optimizer = type(name, (_OneWeight, _class(name)), {})(learning_rate=lambda: rate, **settings)
    optimizer.slots, optimizer.iterations = {}, count
    return optimizer


def _build(config: OptimizerConfig) -> None:
    """Make an update, of no use but that what is wrong with an option shows."""
    import tensorflow as tf

    with tf.Graph().as_default():
        make = functools.partial(tf.compat.v1.Variable, use_resource=True)
        slots = [make(initial([1], tf.float32)) for initial in initial_slots(config).values()]
        update = types.SimpleNamespace(rate=0.1, count=0, config=config, decay=0.0)
        move(make([0.0]), tf.constant([0.0]), slots, update)


def initial_slots(config: OptimizerConfig) -> dict[str, Callable]:
    """Return what an optimiser keeps for each weight: name -> f(shape, dtype) -> start."""
    import tensorflow as tf

    optimizer = _optimizer(config)
    # The initial value may be a tensor of another shape than the weight's.
    with tf.Graph().as_default():
        optimizer._create_slots([tf.TensorSpec([], tf.float32)])
    return {
        name: initial if callable(initial) else _zeros_of(initial)
        for name, initial in optimizer.slots.items()
    }


def _zeros_of(initial: Any) -> Callable:
    """Return f(shape, dtype) of zeros, of what is either that word or a tensor of its own shape."""
    import tensorflow as tf

    if isinstance(initial, str):
        return tf.zeros
    return lambda shape, dtype: tf.zeros(initial.shape, dtype)


def move(weight, gradient, slots: Sequence, update) -> Any:
    """Return the operation that moves a weight; as Rule.move."""
    import tensorflow as tf

    names = initial_slots(update.config)
    optimizer = _optimizer(
        update.config, update.rate, update.decay, tf.cast(update.count, tf.int64)
    )
    optimizer.slots = dict(zip(names, slots))
    # Once there is a gradient, all that it comes from has read the weight, which decay changes.
    with tf.control_dependencies([gradient]):
        return tf.group(optimizer._resource_apply_dense(gradient, weight))
