"""Update rules: the formulas by which a gradient moves a weight, by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import tensorflow as tf

from config import OptimizerConfig, Registry, UserError
from nets import operations
from utility.optim import addons

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
        decay: config.weight_decay where the weight decays, else 0.
        shared: What the rule has made once for all weights.
    """

    rate: tf.Tensor
    count: tf.Tensor
    config: OptimizerConfig
    decay: float = 0.0
    shared: Mapping[str, tf.Tensor] = MappingProxyType({})


class Rule(NamedTuple):
    """How a gradient moves a weight.

    Attributes:
        slots: f(config) -> what is kept for each weight: name -> f(shape, dtype), its value at
            first. The variable is called 'weight/name'.
        move: f(weight, gradient, slots, update) -> the operation.
        options: The fields of OptimizerConfig that only some rules use and this one does.
        decay: What weight_decay is: the coefficient of an L2 'loss' (Loshchilov & Hutter 2019 tell
            why that is another thing); the share, times the rate, by which weights shrink before
            each 'step'; or a part of the 'rule'.
        share: f(update) -> what moves of all weights have in common, as Update.shared. A network
            has hundreds of weights, and each operation of the graph delays the first step.
    """

    slots: Callable[[OptimizerConfig], Mapping[str, Callable]]
    move: Callable[..., tf.Operation]
    options: tuple[str, ...]
    decay: str = 'loss'
    share: Callable[[Update], Mapping[str, tf.Tensor]] = lambda update: {}


def _momentum(weight, gradient, slots, update: Update) -> tf.Operation:
    """Return m <- momentum m + g; w <- w - rate m, or with Nesterov w - rate (g + momentum m)."""
    return operations.make(
        'ResourceApplyMomentum',
        var=weight.handle,
        accum=slots[0].handle,
        lr=update.rate,
        grad=gradient,
        momentum=update.shared['momentum'],
        use_nesterov=update.config.nesterov,
    )


def _share_momentum(update: Update) -> dict[str, tf.Tensor]:
    return {'momentum': tf.constant(update.config.momentum)}


def _adam(weight, gradient, slots, update: Update) -> tf.Operation:
    """Return Adam (Kingma & Ba 2015, end of section 2), optimizer.momentum as beta_1.

    The powers that correct for the start follow from the count, and need no variables.
    """
    return operations.make(
        'ResourceApplyAdam',
        var=weight.handle,
        m=slots[0].handle,
        v=slots[1].handle,
        lr=update.rate,
        grad=gradient,
        **update.shared,
    )


def _share_adam(update: Update) -> dict[str, tf.Tensor]:
    beta_1, beta_2 = update.config.momentum, update.config.beta_2
    return {
        'beta1_power': beta_1 ** (update.count + 1),
        'beta2_power': beta_2 ** (update.count + 1),
        'beta1': tf.constant(beta_1),
        'beta2': tf.constant(beta_2),
        'epsilon': tf.constant(update.config.epsilon),
    }


def _zeros(*names: str) -> Callable[[OptimizerConfig], Mapping[str, Callable]]:
    return lambda config: dict.fromkeys(names, tf.zeros)


_SGD = Rule(_zeros('Momentum'), _momentum, ('momentum', 'nesterov'), share=_share_momentum)
_ADAM = Rule(_zeros('Adam', 'Adam_1'), _adam, ('momentum', 'beta_2', 'epsilon'), share=_share_adam)
OPTIMIZERS.register('momentum')(_SGD)
OPTIMIZERS.register('adam')(_ADAM)
OPTIMIZERS.register('sgdw')(_SGD._replace(decay='step'))
OPTIMIZERS.register('adamw')(_ADAM._replace(decay='step'))
for _name, _decay in addons.ACCEPTED.items():
    OPTIMIZERS.register(addons.PREFIX + _name)(
        Rule(
            addons.initial_slots,
            addons.move,
            ('options',),
            decay='loss' if _decay == 'loss' else 'rule',
        )
    )


def check_optimizer(config: OptimizerConfig) -> None:
    """Refuse an optimiser that is not known, and settings that it does not use.

    Raises:
        UserError: The name or a setting of the section `optimizer` is one of these; names it.
    """
    is_addon = config.name.startswith(addons.PREFIX)
    if is_addon:
        addons.check_addon(config)
    used = OPTIMIZERS.get(config.name).options
    rules = {name: OPTIMIZERS.get(name) for name in OPTIMIZERS.names()}
    for field in dataclasses.fields(config):
        users = [name for name, rule in rules.items() if field.name in rule.options]
        users = [name for name in users if not name.startswith(addons.PREFIX)] or ['tfa/<Name>']
        is_special = any(field.name in rule.options for rule in rules.values())
        value = getattr(config, field.name)
        if (
            is_special
            and field.name not in used
            and value != getattr(OptimizerConfig(), field.name)
        ):
            instead = '; its own settings are optimizer.options.*' if is_addon else ''
            raise UserError(
                f'optimizer.{field.name}={value!r}: optimizer.name={config.name!r} has no use for '
                f'it; {" and ".join(users)} have{instead}'
            )
