"""Keras's layers and operations, each made after its Keras settings (`config`).

Layers have Keras's names of variables and, unlike Keras's, all that nets/layers.py promises. Only
what the networks of tf.keras.applications consist of is here, with the settings that they use.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from nets import layers, norms
from nets.convolution import conv2d

_ACTIVATIONS = {
    'linear': lambda inputs: inputs,
    'relu': tf.nn.relu,
    'swish': tf.nn.silu,
    'sigmoid': tf.sigmoid,
    'gelu': tf.nn.gelu,
}
# Initializers that are Keras's VarianceScaling with these settings.
_INITIALIZERS = {
    'GlorotUniform': {'scale': 1.0, 'mode': 'fan_avg'},
    'HeNormal': {'scale': 2.0, 'mode': 'fan_in'},
}


def _initial_stddev(config: Mapping[str, Any], kernel: str, shape: Sequence[int]) -> float:
    """Return the standard deviation of a layer's kernel, depthwise or pointwise too."""
    initializer = config[kernel.replace('_kernel', '') + '_initializer']
    settings = _INITIALIZERS.get(initializer['class_name'], initializer['config'])
    fan_in, fan_out = math.prod(shape[:-1]), math.prod(shape[:-2]) * shape[-1]
    fans = {'fan_in': fan_in, 'fan_out': fan_out, 'fan_avg': (fan_in + fan_out) / 2}
    return math.sqrt(settings['scale'] / fans[settings['mode']])


class Convolution(layers.Layer):
    """Depthwise, over all channels, both in turn, or over the channels of a cell (Dense).

    Kernels start from a normal distribution of the variance that Keras gives them.
    """

    def __init__(self, path: str, config: Mapping[str, Any]):
        super().__init__(path)
        self.is_depthwise = 'depth_multiplier' in config
        self.filters = config.get('filters', config.get('units'))  # neither: depthwise only
        self.size = tuple(config.get('kernel_size', ()))  # Dense has none
        self.strides, self.groups = tuple(config.get('strides', (1, 1))), config.get('groups', 1)
        self.padding = config.get('padding', 'same').upper()
        self.use_bias = config['use_bias']
        self.activation = _ACTIVATIONS[config['activation']]
        self.initial_stddev = functools.partial(_initial_stddev, config)

    def build(self, inputs):
        channels, size, name = inputs.shape[-1], self.size, 'kernel'
        if self.is_depthwise:
            self.depthwise = self._add_kernel('depthwise_kernel', [*size, channels, 1])
            size, name = (1, 1), 'pointwise_kernel'
        if self.filters:
            self.kernel = self._add_kernel(name, [*size, channels // self.groups, self.filters])
        if self.use_bias:
            self.bias = self.add_variable('bias', [self.filters or channels])

    def _add_kernel(self, name, shape):
        return self.add_variable(name, shape, stddev=self.initial_stddev(name, shape))

    def call(self, inputs, training):
        outputs, strides, dtype = inputs, self.strides, inputs.dtype
        if self.is_depthwise:
            kernel = tf.cast(self.depthwise, dtype)
            outputs = tf.nn.depthwise_conv2d(outputs, kernel, [1, *strides, 1], self.padding)
            strides = (1, 1)
        if self.filters:
            kernel = tf.cast(self.kernel, dtype)
            kernel = kernel if self.size else kernel[tf.newaxis, tf.newaxis]
            outputs = conv2d(outputs, kernel, strides, self.padding)
        if self.use_bias:
            outputs = tf.nn.bias_add(outputs, tf.cast(self.bias, dtype))
        return self.activation(outputs)


def batch_norm(path: str, config: Mapping[str, Any]) -> layers.Layer:
    """Return norms.Norm with these settings' momentum and epsilon, and perhaps no scale.

    A momentum of 0, the last batch's statistics alone, is replaced by norms.BATCH_NORM_MOMENTUM.
    """
    momentum = config['momentum'] or norms.BATCH_NORM_MOMENTUM
    return norms.Norm(path, has_gamma=config['scale'], momentum=momentum, epsilon=config['epsilon'])


class LayerNorm(layers.Layer):
    """Over the channels of each cell (Ba, Kiros and Hinton 2016), in float32."""

    def __init__(self, path: str, config: Mapping[str, Any]):
        super().__init__(path)
        self.epsilon = config['epsilon']

    def build(self, inputs):
        shape = [inputs.shape[-1]]
        self.gamma = self.add_variable('gamma', shape, 1.0)
        self.beta = self.add_variable('beta', shape)

    def call(self, inputs, training):
        exact = tf.cast(inputs, tf.float32)
        moments = tf.nn.moments(exact, [-1], keepdims=True)
        outputs = tf.nn.batch_normalization(exact, *moments, self.beta, self.gamma, self.epsilon)
        return tf.cast(outputs, inputs.dtype)


class LayerScale(layers.Layer):
    """A factor for each channel (Touvron et al. 2021)."""

    def __init__(self, path: str, config: Mapping[str, Any]):
        super().__init__(path)
        self.first = config['init_values']

    def build(self, inputs):
        self.gamma = self.add_variable('gamma', [inputs.shape[-1]], self.first)

    def call(self, inputs, training):
        return inputs * tf.cast(self.gamma, inputs.dtype)


class DropSamples(layers.Layer):
    """In training, leaves a residual branch out of some samples (Huang et al. 2016)."""

    def __init__(self, path: str, config: Mapping[str, Any]):
        super().__init__(path)
        self.rate = config['rate']

    def call(self, inputs, training):
        if not training:
            return inputs
        return self.drop(inputs, self.rate, [tf.shape(inputs)[0], 1, 1, 1])


def _pad(config, inputs):
    return tf.pad(inputs, [[0, 0], *config['padding'], [0, 0]])


def _crop(config, inputs):
    (top, bottom), (left, right) = config['cropping']
    height, width = inputs.shape[1:3]
    return inputs[:, top : height - bottom, left : width - right]


def _mean(config, inputs):
    means = layers.global_average_pool(inputs)
    return means if config['keepdims'] else means[:, 0, 0]


def _pool(pool, config, inputs):
    return pool(inputs, config['pool_size'], config['strides'], config['padding'].upper())


# Class in Keras -> layer(path, config), which is called with (inputs, training).
LAYERS = {
    'BatchNormalization': batch_norm,
    'Conv2D': Convolution,
    'Dense': Convolution,
    'DepthwiseConv2D': Convolution,
    'Dropout': DropSamples,
    'LayerNormalization': LayerNorm,
    'LayerScale': LayerScale,
    'SeparableConv2D': Convolution,
}
# Class in Keras, or operation of TensorFlow that Keras met -> function(config, *inputs).
OPERATIONS = {
    'Activation': lambda config, inputs: _ACTIVATIONS[config['activation']](inputs),
    'Add': lambda config, *inputs: tf.add_n(inputs),
    'AveragePooling2D': functools.partial(_pool, tf.nn.avg_pool2d),
    'Concatenate': lambda config, *inputs: tf.concat(inputs, axis=-1),
    'Cropping2D': _crop,
    'CustomScaleLayer': lambda config, one, other: one + other * config['scale'],
    'GlobalAveragePooling2D': _mean,
    'InputLayer': lambda config, inputs: inputs,
    'MaxPooling2D': functools.partial(_pool, tf.nn.max_pool2d),
    'Multiply': lambda config, one, other: one * other,
    'ReLU': lambda config, inputs: (tf.nn.relu6 if config['max_value'] else tf.nn.relu)(inputs),
    'Reshape': lambda config, inputs: tf.reshape(inputs, [-1, *config['target_shape']]),
    'ZeroPadding2D': _pad,
    '__operators__.add': lambda config, one, other: one + other,
    'math.multiply': lambda config, one, other: one * other,
    # What they would do to the pictures is done before, see input_statistics.
    'Normalization': lambda config, inputs: inputs,
    'Rescaling': lambda config, inputs: inputs,
}
