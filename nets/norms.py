"""What normalises the features between layers, as network.norm says: one layer in many guises.

All backbones and heads have `Norm`, those after Keras's descriptions too. (Layer
normalisation, of ConvNeXt, is a part of that network, and is left alone.)

Replicas normalise on their own: statistics over all replicas need an all-reduce in the forward
pass, which TF 2.15's Estimator does not do.
"""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import tensorflow as tf

from nets import operations
from nets.layer import Layer

v1 = tf.compat.v1

# Published with ResNet (He et al. 2016). torchvision counts the momentum from the other end, 0.1.
BATCH_NORM_MOMENTUM = 0.9
BATCH_NORM_EPSILON = 1e-5
GROUP_NORM_EPSILON = 1e-5  # Wu and He 2018, section 3.3


class Normalization(NamedTuple):
    """Which layer a Norm makes: a key of NORMS, and the groups of group norm."""

    kind: str = 'batch'
    groups: int = 32


@dataclasses.dataclass(frozen=True)
class Mode:
    """How a network computes: what Network hands to its layers as `training`. True in training.

    A bool in its place is a mode of batch norm.

    Attributes:
        training: Whether the network is trained.
        norm: What normalises.
        remembers: Whether batch norm in training moves its statistics towards those of the batch;
            otherwise it keeps its last batch's alone.
    """

    training: bool
    norm: Normalization = Normalization()
    remembers: bool = True

    def __bool__(self) -> bool:
        return self.training

    @classmethod
    def of(cls, training: bool | Mode) -> Mode:
        return training if isinstance(training, Mode) else cls(training)


class Norm(Layer):
    """A layer that normalises as the mode of its first call says.

    Args:
        path: Of the layer.
        first_gamma: The scale of all channels at first.
        has_gamma: Whether there is a scale.
        momentum: Of the statistics of batch norm.
        epsilon: Of batch norm.

    Attributes:
        layer: What normalises: a layer of NORMS; None before the first call.
    """

    def __init__(
        self,
        path: str,
        first_gamma: float = 1.0,
        has_gamma: bool = True,
        momentum: float = BATCH_NORM_MOMENTUM,
        epsilon: float = BATCH_NORM_EPSILON,
    ):
        super().__init__(path)
        self._scale, self._statistics = (first_gamma, has_gamma), (momentum, epsilon)
        self.layer = None

    def call(self, inputs, training):
        if self.layer is None:
            kind, groups = Mode.of(training).norm
            options = (groups,) if kind == 'group' else self._statistics
            self.layer = NORMS[kind](self.path, *self._scale, *options)
        return self.layer(inputs, training)


class _ScaleShift(Layer):
    """Base of norms, with a learned scale 'gamma' and shift 'beta' for each channel."""

    def __init__(self, path: str, first_gamma: float, has_gamma: bool):
        super().__init__(path)
        self.first_gamma, self.has_gamma = first_gamma, has_gamma

    def build(self, inputs):
        shape = [inputs.shape[-1]]
        self.gamma = None
        if self.has_gamma:
            self.gamma = self.add_variable('gamma', shape, mean=self.first_gamma)
        self.beta = self.add_variable('beta', shape)


class BatchNorm(_ScaleShift):
    """Batch normalisation (Ioffe and Szegedy 2015), its statistics in float32.

    In training the batch's own statistics normalise, and move those that normalise otherwise. In
    a v1 graph the moves are operations in UPDATE_OPS, which the train operation must depend on;
    in eager mode and in tf.function they just happen.
    """

    def __init__(
        self,
        path: str,
        first_gamma: float = 1.0,
        has_gamma: bool = True,
        momentum: float = BATCH_NORM_MOMENTUM,
        epsilon: float = BATCH_NORM_EPSILON,
    ):
        super().__init__(path, first_gamma, has_gamma)
        self.momentum, self.epsilon = momentum, epsilon

    def build(self, inputs):
        super().build(inputs)
        shape = [inputs.shape[-1]]
        self.moving_mean = self.add_variable('moving_mean', shape, statistic=True)
        self.moving_variance = self.add_variable('moving_variance', shape, 1.0, statistic=True)

    def call(self, inputs, training):
        moving = (self.moving_mean, self.moving_variance)
        is_training, remembers = bool(training), Mode.of(training).remembers
        gamma = self.gamma if self.has_gamma else tf.ones_like(self.beta)
        scale, offset, mean, variance = map(tf.convert_to_tensor, (gamma, self.beta, *moving))
        outputs, *moved = operations.make(
            'FusedBatchNormV3',
            x=inputs,
            scale=scale,
            offset=offset,
            mean=mean,
            variance=variance,
            epsilon=self.epsilon,
            exponential_avg_factor=1 - self.momentum if remembers else 1.0,
            is_training=is_training,
        )[:3]
        if is_training:
            for variable, value in zip(moving, moved):
                update = variable.assign(value, read_value=False)
                if not v1.executing_eagerly_outside_functions():
                    v1.add_to_collection(v1.GraphKeys.UPDATE_OPS, update)
        return outputs


class FrozenBatchNorm(BatchNorm):
    """Batch norm that keeps the statistics it has, also in training; scale and shift are learned.

    For batches too small for statistics of their own, from weights that have good ones.
    """

    def call(self, inputs, training):
        return super().call(inputs, False)


class GroupNorm(_ScaleShift):
    """Group normalisation (Wu and He 2018): each picture by itself, over cells and some channels.

    The same in training and after it, whatever the batch. Departure from the paper: where the
    channels are not a multiple of `groups`, there are as many groups as both have in common, the
    greatest common divisor; 48 channels make 16 groups instead of 32. In float32.
    """

    def __init__(
        self, path: str, first_gamma: float = 1.0, has_gamma: bool = True, groups: int = 32
    ):
        super().__init__(path, first_gamma, has_gamma)
        self.groups = groups

    def call(self, inputs, training):
        del training
        channels = inputs.shape[-1]
        groups = math.gcd(channels, self.groups)
        size = tf.shape(inputs)
        grouped = tf.cast(inputs, tf.float32)
        grouped = tf.reshape(grouped, [size[0], size[1] * size[2], groups, channels // groups])
        mean, variance = tf.nn.moments(grouped, [1, 3], keepdims=True)
        standard = (grouped - mean) * tf.math.rsqrt(variance + GROUP_NORM_EPSILON)
        outputs = tf.reshape(standard, size)
        outputs = outputs * self.gamma if self.has_gamma else outputs
        outputs = tf.ensure_shape(outputs + self.beta, inputs.shape)
        return tf.cast(outputs, inputs.dtype)


NORMS = {'batch': BatchNorm, 'frozen': FrozenBatchNorm, 'group': GroupNorm}
