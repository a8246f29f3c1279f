"""Update rules: the formulas by which a gradient moves a weight, by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from config import OptimizerConfig, Registry, UserError

OPTIMIZERS = Registry(
    'optimizer',
    """Name -> Rule. An update runs on one device, with a gradient that is the same on all.""",
)


class Update(NamedTuple):
    """What a rule is told besides the weight and its gradient.

    Attributes:
        rate: Learning rate, float32 [].
        count: Updates that were made before this one, float32 [].
        config: The optimiser.
    """

    rate: tf.Tensor
    count: tf.Tensor
    config: OptimizerConfig


class Rule(NamedTuple):
    """How a gradient moves a weight.

    Attributes:
        slots: Names of the variables that are kept for each weight, of its shape, 0 at first.
        move: f(weight, gradient, slots, update) -> the operation.
        options: The fields of OptimizerConfig that only some rules use and this one does.
        decoupled: Weights shrink by themselves (Loshchilov & Hutter 2019) and not by an L2 loss.
    """

    slots: tuple[str, ...]
    move: Callable[..., tf.Operation]
    options: tuple[str, ...]
    decoupled: bool = False


def _momentum(weight, gradient, slots, update: Update) -> tf.Operation:
    """m <- momentum m + g;  w <- w - rate m, or with Nesterov w - rate (g + momentum m)."""
    return tf.raw_ops.ResourceApplyMomentum(
        var=weight.handle,
        accum=slots[0].handle,
        lr=update.rate,
        grad=gradient,
        momentum=update.config.momentum,
        use_nesterov=update.config.nesterov,
    )


def _adam(weight, gradient, slots, update: Update) -> tf.Operation:
    """Kingma & Ba 2015, in the form at the end of their section 2, optimizer.momentum as beta_1.

    The powers that correct for the start follow from the count, and need no variables.
    """
    beta_1, beta_2 = update.config.momentum, update.config.beta_2
    return tf.raw_ops.ResourceApplyAdam(
        var=weight.handle,
        m=slots[0].handle,
        v=slots[1].handle,
        beta1_power=beta_1 ** (update.count + 1),
        beta2_power=beta_2 ** (update.count + 1),
        lr=update.rate,
        beta1=beta_1,
        beta2=beta_2,
        epsilon=update.config.epsilon,
        grad=gradient,
    )


_SGD = Rule(('Momentum',), _momentum, ('nesterov',))
_ADAM = Rule(('Adam', 'Adam_1'), _adam, ('beta_2', 'epsilon'))
OPTIMIZERS.register('momentum')(_SGD)
OPTIMIZERS.register('adam')(_ADAM)
OPTIMIZERS.register('sgdw')(_SGD._replace(decoupled=True))
OPTIMIZERS.register('adamw')(_ADAM._replace(decoupled=True))


def check_optimizer(config: OptimizerConfig) -> None:
    """Refuses an optimiser that is not known, and settings that it does not use.

    Raises:
        UserError: So it is; names the setting.
    """
    own = OPTIMIZERS.get(config.name).options
    rules = {name: OPTIMIZERS.get(name) for name in OPTIMIZERS.names()}
    for field in dataclasses.fields(config):
        users = [name for name, rule in rules.items() if field.name in rule.options]
        value = getattr(config, field.name)
        if users and field.name not in own and value != field.default:
            raise UserError(
                f'optimizer.{field.name}={value!r}: optimizer.name={config.name!r} has no use for '
                f'it; {" and ".join(users)} have'
            )
