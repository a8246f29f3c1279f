"""Layers of convolutional networks, as tf.Modules whose variables have absolute paths.

A variable is called 'backbone/conv1/kernel' in a graph, in eager mode, in tf.function and under a
distribution strategy alike, so one checkpoint fits them all. Layers make their float32 variables at
the first call, from the number of input channels, and compute in the dtype of their input.

Initial values depend on the seed of the graph (in eager mode the global one) and on the variable's
name alone: same seed, same weights, whatever was built before and wherever it runs.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

v1 = tf.compat.v1

# Published with ResNet (He et al. 2016). torchvision counts the momentum from the other end, 0.1.
BATCH_NORM_MOMENTUM = 0.9
BATCH_NORM_EPSILON = 1e-5

_STATISTIC = {
    'trainable': False,
    'synchronization': tf.VariableSynchronization.ON_READ,  # each replica moves its own
    'aggregation': tf.VariableAggregation.MEAN,  # of them, for a reader
}


class Window(NamedTuple):
    """How a convolution or pooling sees its input: size, step and distance of taps in cells.

    The channels are split into `groups` equal parts, each convolved on its own.
    """

    size: int = 1
    stride: int = 1
    dilation: int = 1
    groups: int = 1


POINTWISE = Window()
SQUARE = Window(3)


class Layer(tf.Module):
    """Base of all layers: an absolute path, and variables made at the first call.

    Subclasses write `call`, and `build` for what depends on the shape of the input.
    """

    def __init__(self, path: str):
        super().__init__()
        self.path = path
        self._is_built = False

    @tf.autograph.experimental.do_not_convert  # all control flow is Python's
    def __call__(self, inputs, *arguments):
        # The slash makes the scope absolute: neither prefixed nor made unique.
        with tf.name_scope(self.path + '/'):
            if not self._is_built:
                self.build(inputs)
                self._is_built = True
            return self.call(inputs, *arguments)

    def build(self, inputs) -> None:
        """Makes what depends on the shape of the inputs; nothing, unless overridden."""

    def add_variable(self, name: str, shape: Sequence[int], mean=0.0, stddev=0.0, statistic=False):
        """Makes the variable 'path/name', normally distributed; a `statistic` is not trained.

        Raises:
            ValueError: The graph has a variable of that name already.
        """
        full_name = f'{self.path}/{name}'
        seed = v1.get_seed(zlib.crc32(full_name.encode()))

        def value():  # a constant is one operation of the graph, a random tensor a dozen
            normal = tf.random.stateless_normal
            return normal(shape, seed, mean, stddev) if stddev else tf.constant(mean, shape=shape)

        with tf.name_scope(self.path + '/'):
            # Not tf.Variable, which leaves replicas in the checkpoint under MirroredStrategy.
            options = _STATISTIC if statistic else {'trainable': True}
            variable = v1.Variable(value, name=name, use_resource=True, **options)
        if variable.name != full_name + ':0':
            raise ValueError(f'the graph has a variable {full_name!r} already')
        return variable


def _pad(inputs: tf.Tensor, window: Window, value: float) -> tf.Tensor:
    """Widens all four sides alike, as published networks do.

    TensorFlow's 'SAME' pads more at the bottom and right when the stride is 2, which would move
    the features of weights from elsewhere. Paddings as an argument of tf.nn.conv2d are slower on
    a CPU, and have no gradient there when the convolution is grouped.
    """
    margin = window.dilation * (window.size - 1) // 2
    sides = [[0, 0], [margin, margin], [margin, margin], [0, 0]]
    return tf.pad(inputs, sides, constant_values=value) if margin else inputs


def max_pool(inputs: tf.Tensor, size: int = 3, stride: int = 2, ceil_mode=False) -> tf.Tensor:
    """[B, H, W, C] -> [B, ceil(H / stride), ceil(W / stride), C]; what is outside never wins.

    With `ceil_mode` an even side is widened at the bottom and right only, as Caffe does.
    """
    if ceil_mode:
        return tf.nn.max_pool2d(inputs, size, stride, 'SAME')
    padded = _pad(inputs, Window(size), inputs.dtype.min)
    return tf.nn.max_pool2d(padded, size, stride, 'VALID')


def resize(inputs: tf.Tensor, size: Sequence[int]) -> tf.Tensor:
    """Bilinear, pixel centres at +0.5: [B, H, W, C] -> [B, *size, C] of the same dtype."""
    if tuple(inputs.shape[1:3]) == tuple(size):
        return inputs
    return tf.cast(tf.image.resize(inputs, size), inputs.dtype)


def enlarge(inputs: tf.Tensor, size: Sequence[int]) -> tf.Tensor:
    """Nearest neighbours, each cell a square: [B, H, W, C] -> [B, *size, C] of the same dtype."""
    if tuple(inputs.shape[1:3]) == tuple(size):
        return inputs
    return tf.image.resize(inputs, size, 'nearest')


def check_multiples(setting: str, size: Sequence[int], multiple: int, owner: str) -> None:
    """Refuses a (height, width) that is not one of multiples; names the nearest that are.

    Args:
        setting: What the size is called, such as 'network.image_size'.
        size: px or cells.
        multiple: What both must be multiples of.
        owner: Who needs it.
    """
    size = tuple(size)
    below = tuple(max(side // multiple, 1) * multiple for side in size)
    above = tuple(-(-side // multiple) * multiple for side in size)
    if size != below:
        nearest = ' or '.join(map(str, sorted({below, above})))
        raise ValueError(
            f'{setting}={size}: {owner} needs multiples of {multiple}; nearest: {nearest}'
        )


class Conv(Layer):
    """Convolution, padded alike on all sides: [B, H, W, C] -> [B, H / stride, W / stride, filters].

    Args:
        filters: Number of output channels.
        use_bias: Whether to add one, 0 at first. Superfluous before batch norm.
        stddev: Of the initial kernel; by default it keeps the variance from layer to layer of
            convolutions with ReLU (He et al. 2015, equation 10).
    """

    def __init__(self, path: str, filters: int, window=POINTWISE, use_bias=False, stddev=None):
        super().__init__(path)
        self.filters, self.window = filters, window
        self.use_bias, self.stddev = use_bias, stddev

    def build(self, inputs):
        channels, groups = inputs.shape[-1], self.window.groups
        if channels % groups or self.filters % groups:
            sizes = f'{channels} channels in and {self.filters} out'
            raise ValueError(f'{self.path}: {sizes} cannot be split into {groups} groups')
        shape, fan_in = self.kernel_shape(channels // groups)
        stddev = math.sqrt(2.0 / fan_in) if self.stddev is None else self.stddev
        self.kernel = self.add_variable('kernel', shape, stddev=stddev)
        if self.use_bias:
            self.bias = self.add_variable('bias', [self.filters])

    def kernel_shape(self, channels: int) -> tuple[list[int], float]:
        """The shape of the kernel over so many channels, and how many inputs an output sums."""
        size = self.window.size  # tf.nn.conv2d tells the number of groups from the shape
        return [size, size, channels, self.filters], size**2 * channels

    def call(self, inputs):
        outputs = self.convolve(inputs, tf.cast(self.kernel, inputs.dtype))
        if self.use_bias:
            outputs = tf.nn.bias_add(outputs, tf.cast(self.bias, inputs.dtype))
        return outputs

    def convolve(self, inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        window, padding = self.window, 'SAME'
        if window.stride > 1:
            inputs, padding = _pad(inputs, window, 0.0), 'VALID'
        return tf.nn.conv2d(inputs, kernel, window.stride, padding, dilations=window.dilation)


class Deconv(Conv):
    """Transposed convolution: [B, H, W, C] -> [B, H * stride, W * stride, filters].

    A window twice the stride lets all outputs sum over equally many inputs.
    """

    def kernel_shape(self, channels):
        size = self.window.size
        return [size, size, self.filters, channels], (size / self.window.stride) ** 2 * channels

    def convolve(self, inputs, kernel):
        stride = self.window.stride
        height, width = inputs.shape[1] * stride, inputs.shape[2] * stride
        shape = tf.stack([tf.shape(inputs)[0], height, width, self.filters])
        return tf.nn.conv2d_transpose(inputs, kernel, shape, stride, 'SAME')


class BatchNorm(Layer):
    """Batch normalisation (Ioffe and Szegedy 2015), its statistics in float32.

    In training the batch's own statistics normalise, and move those that normalise otherwise. In
    a v1 graph the moves are operations in UPDATE_OPS, which the train operation must depend on;
    in eager mode and in tf.function they just happen. Replicas normalise on their own.
    With `zero_gamma` the scale is 0 at first instead of 1; without `has_gamma` there is none.
    """

    momentum = BATCH_NORM_MOMENTUM
    epsilon = BATCH_NORM_EPSILON
    has_gamma = True

    def __init__(self, path: str, zero_gamma: bool = False):
        super().__init__(path)
        self.zero_gamma = zero_gamma

    def build(self, inputs):
        shape = [inputs.shape[-1]]
        self.gamma = None
        if self.has_gamma:
            self.gamma = self.add_variable('gamma', shape, mean=0.0 if self.zero_gamma else 1.0)
        self.beta = self.add_variable('beta', shape)
        self.moving_mean = self.add_variable('moving_mean', shape, statistic=True)
        self.moving_variance = self.add_variable('moving_variance', shape, 1.0, statistic=True)

    def call(self, inputs, training):
        moving = (self.moving_mean, self.moving_variance)
        mean, variance = (None, None) if training else moving
        gamma = self.gamma if self.has_gamma else tf.ones_like(self.beta)
        outputs, *batch = v1.nn.fused_batch_norm(
            inputs, gamma, self.beta, mean, variance, self.epsilon, is_training=training
        )
        if training:
            for variable, value in zip(moving, batch):
                update = variable.assign_sub((variable - value) * (1 - self.momentum))
                if not v1.executing_eagerly_outside_functions():
                    v1.add_to_collection(v1.GraphKeys.UPDATE_OPS, update)
        return outputs


class ConvNorm(Layer):
    """Convolution without bias (of the class `convolution`), batch norm, activation or None."""

    convolution = Conv

    def __init__(
        self, path: str, filters: int, window=POINTWISE, activation=tf.nn.relu, zero_gamma=False
    ):
        super().__init__(path)
        self.conv = self.convolution(path, filters, window)
        self.norm = BatchNorm(f'{path}/norm', zero_gamma)
        self.activation = activation

    def call(self, inputs, training):
        outputs = self.norm(self.conv(inputs), training)
        return outputs if self.activation is None else self.activation(outputs)


class DeconvNorm(ConvNorm):
    convolution = Deconv
