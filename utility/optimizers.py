"""Optimisers, weight decay, and how a loss becomes the update of a training step."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from config import OptimizerConfig, Registry

v1 = tf.compat.v1

OPTIMIZERS = Registry(
    'optimizer',
    """Name -> f(learning_rate, config) -> tf.compat.v1.train.Optimizer. These divide the loss by
    the number of replicas themselves and keep clean slot names under a distribution strategy.""",
)


@OPTIMIZERS.register('momentum')
def momentum(learning_rate: tf.Tensor, config: OptimizerConfig):
    return v1.train.MomentumOptimizer(learning_rate, config.momentum)


@OPTIMIZERS.register('adam')
def adam(learning_rate: tf.Tensor, config: OptimizerConfig):
    """Kingma & Ba 2015, with optimizer.momentum as beta_1."""
    return v1.train.AdamOptimizer(learning_rate, beta1=config.momentum)


def training_step(
    loss: tf.Tensor, rate: tf.Tensor, variables: Sequence, config: OptimizerConfig
) -> tuple[tf.Tensor, tf.Operation]:
    """One update of the weights, of the batch-norm statistics and of the global step.

    Args:
        loss: float32 [], without weight decay.
        rate: Learning rate, float32 [].
        variables: The network's trainable ones.
        config: The optimiser.

    Returns:
        What is minimised, float32 []; the op that does all updates.
    """
    if config.weight_decay:
        loss += weight_decay_loss(config, variables)
    optimizer = OPTIMIZERS.get(config.name)(rate, config)
    with tf.control_dependencies(v1.get_collection(v1.GraphKeys.UPDATE_OPS)):
        return loss, optimizer.minimize(loss, v1.train.get_or_create_global_step())


def weight_decay_loss(config: OptimizerConfig, variables) -> tf.Tensor:
    """weight_decay times the sum of squares / 2 over the kernels; biases and norms are left out."""
    kernels = [v for v in variables if is_kernel(v)]
    return config.weight_decay * tf.add_n([tf.nn.l2_loss(v) for v in kernels])


def is_kernel(variable) -> bool:
    """Whether weight decay applies: by the kind of the variable, which its last name tells."""
    return variable.name.split(':')[0].split('/')[-1].endswith('kernel')
