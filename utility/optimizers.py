"""Optimisers and the learning-rate schedule, a pure function of the global step."""

from __future__ import annotations

import tensorflow as tf

from config import OptimizerConfig, Registry

OPTIMIZERS = Registry(
    'optimizer',
    """Name -> f(learning_rate, config) -> tf.compat.v1.train.Optimizer. These divide the loss by
    the number of replicas themselves and keep clean slot names under a distribution strategy.""",
)


@OPTIMIZERS.register('momentum')
def momentum(learning_rate: tf.Tensor, config: OptimizerConfig):
    return tf.compat.v1.train.MomentumOptimizer(learning_rate, config.momentum)


@OPTIMIZERS.register('adam')
def adam(learning_rate: tf.Tensor, config: OptimizerConfig):
    """Kingma & Ba 2015, with optimizer.momentum as beta_1."""
    return tf.compat.v1.train.AdamOptimizer(learning_rate, beta1=config.momentum)


def learning_rate(config: OptimizerConfig, step: tf.Tensor, steps_per_epoch: float) -> tf.Tensor:
    """The rate of the step after `step` steps were taken: linear warm-up, then factors by epoch.

    Args:
        config: The schedule.
        step: Integer scalar or [N], steps taken so far.
        steps_per_epoch: Records of the training split over the global batch size.

    Returns:
        float32 of the shape of `step`.
    """
    step = tf.cast(step, tf.float32)
    boundaries = tf.constant([e * steps_per_epoch for e in config.decay_epochs], tf.float32)
    passed = tf.reduce_sum(tf.cast(step[..., tf.newaxis] >= boundaries, tf.int32), axis=-1)
    rate = config.learning_rate * tf.gather(tf.constant(config.decay_factors), passed)
    rate = tf.maximum(rate, config.end_learning_rate)
    if not config.warmup_steps:
        return rate
    progress = tf.minimum(step / config.warmup_steps, 1.0)
    return config.warmup_learning_rate + progress * (rate - config.warmup_learning_rate)


def weight_decay_loss(config: OptimizerConfig, variables) -> tf.Tensor:
    """weight_decay times the sum of squares / 2 over the kernels; biases and norms are left out."""
    kernels = [v for v in variables if is_kernel(v)]
    return config.weight_decay * tf.add_n([tf.nn.l2_loss(v) for v in kernels])


def is_kernel(variable) -> bool:
    """Whether weight decay applies: by the kind of the variable, which its last name tells."""
    return variable.name.split(':')[0].split('/')[-1].endswith('kernel')
