"""Layers of convolutional networks: convolutions, pooling, resizing.

They make their float32 variables at the first call, from the number of input channels, and compute
in the dtype of their input. layer.py has their base, norms.py what normalises.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from config import UserError
from nets import operations
from nets.convolution import conv2d
from nets.layer import Layer
from nets.norms import Norm


class ConvSpec(NamedTuple):
    """How a convolution or pooling sees its input: size, step and distance of taps in cells.

    The channels are split into `groups` equal parts, each convolved on its own. A convolution that
    strides is padded alike on all sides, or with `tf_same` as TensorFlow's 'SAME', which weights of
    TensorFlow need: an even side has one cell more at the bottom or right.
    """

    size: int = 1
    stride: int = 1
    dilation: int = 1
    groups: int = 1
    tf_same: bool = False


POINTWISE = ConvSpec()
KERNEL_3X3 = ConvSpec(3)


def _pad(inputs: tf.Tensor, window: ConvSpec, value: float) -> tf.Tensor:
    """Widen all four sides alike, as published networks do.

    TensorFlow's 'SAME' pads more at the bottom and right when the stride is 2, which would move
    the features of weights from elsewhere. Paddings as an argument of tf.nn.conv2d are slower on
    a CPU, and have no gradient there when the convolution is grouped.
    """
    margin = window.dilation * (window.size - 1) // 2
    sides = [[0, 0], [margin, margin], [margin, margin], [0, 0]]
    return tf.pad(inputs, sides, constant_values=value) if margin else inputs


def relu(inputs: tf.Tensor) -> tf.Tensor:
    """Return tf.nn.relu(inputs)."""
    return operations.make('Relu', features=inputs)


def cast(tensor: tf.Tensor | tf.Variable, dtype: tf.DType) -> tf.Tensor:
    """Return tf.cast(tensor, dtype)."""
    tensor = tf.convert_to_tensor(tensor)
    return tensor if tensor.dtype == dtype else operations.make('Cast', x=tensor, DstT=dtype)


def max_pool(inputs: tf.Tensor, size: int = 3, stride: int = 2, ceil_mode=False) -> tf.Tensor:
    """Return [B, ceil(H / stride), ceil(W / stride), C]; what is outside never wins.

    With `ceil_mode` an even side is widened at the bottom and right only, as Caffe does. Otherwise
    a window larger than 2 needs inputs that are not negative, as after ReLU: it is widened with
    zeros. The smallest number of the type would do for all, but leaves an integer quantisation,
    which sees it as a value like any other, one step for everything else.
    """
    if ceil_mode:
        return tf.nn.max_pool2d(inputs, size, stride, 'SAME')
    padded = _pad(inputs, ConvSpec(size), 0.0)
    return tf.nn.max_pool2d(padded, size, stride, 'VALID')


def global_average_pool(inputs: tf.Tensor) -> tf.Tensor:
    """Return [B, H, W, C] -> [B, 1, 1, C] of the same dtype."""
    # In float32: on a CPU, sums of many bfloat16 numbers are bfloat16 all the way and stop growing.
    # Not by tf.reduce_mean, whose gradient divides every cell instead of the sums.
    sums = tf.reduce_sum(tf.cast(inputs, tf.float32), [1, 2], keepdims=True)
    return tf.cast(sums / math.prod(inputs.shape[1:3]), inputs.dtype)


def resize(inputs: tf.Tensor, size: Sequence[int]) -> tf.Tensor:
    """Return bilinear, pixel centres at +0.5: [B, H, W, C] -> [B, *size, C] of the same dtype."""
    if tuple(inputs.shape[1:3]) == tuple(size):
        return inputs
    return tf.cast(tf.image.resize(inputs, size), inputs.dtype)


def enlarge(inputs: tf.Tensor, size: Sequence[int]) -> tf.Tensor:
    """Return nearest neighbours, each cell a square: [B, H, W, C] -> [B, *size, C]."""
    if tuple(inputs.shape[1:3]) == tuple(size):
        return inputs
    return tf.image.resize(inputs, size, 'nearest')


def check_multiples(setting: str, size: Sequence[int], multiple: int, owner: str) -> None:
    """Refuse a (height, width) that is not one of multiples; name the nearest that are.

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
        raise UserError(
            f'{setting}={size}: {owner} needs multiples of {multiple}; nearest: {nearest}'
        )


class Conv(Layer):
    """Convolution, padded as ConvSpec says: [B, H, W, C] -> [B, H / stride, W / stride, filters].

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
            raise UserError(f'{self.path}: {sizes} cannot be split into {groups} groups')
        shape, fan_in = self.kernel_shape(channels // groups)
        stddev = math.sqrt(2.0 / fan_in) if self.stddev is None else self.stddev
        self.kernel = self.add_variable('kernel', shape, stddev=stddev)
        if self.use_bias:
            self.bias = self.add_variable('bias', [self.filters])

    def kernel_shape(self, channels: int) -> tuple[list[int], float]:
        """Return the shape of the kernel over so many channels, and the inputs of an output."""
        size = self.window.size  # tf.nn.conv2d tells the number of groups from the shape
        return [size, size, channels, self.filters], size**2 * channels

    def call(self, inputs):
        outputs = self.convolve(inputs, cast(self.kernel, inputs.dtype))
        if self.use_bias:
            outputs = tf.nn.bias_add(outputs, tf.cast(self.bias, inputs.dtype))
        return outputs

    def convolve(self, inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        """Return the convolution of [B, H, W, C] by a kernel of kernel_shape, without bias."""
        window, padding = self.window, 'SAME'
        if window.stride > 1 and not window.tf_same:
            inputs, padding = _pad(inputs, window, 0.0), 'VALID'
        return self.convolve_padded(inputs, kernel, padding)

    def convolve_padded(self, inputs: tf.Tensor, kernel: tf.Tensor, padding: str) -> tf.Tensor:
        """Return the same, padded as TensorFlow's `padding` says."""
        return conv2d(inputs, kernel, self.window.stride, padding, self.window.dilation)


class DepthwiseConv(Conv):
    """Each channel by a kernel of its own; `filters` must be the number of channels.

    Not a Conv of as many groups, although it computes the same: exporters and GPUs have special
    kernels for this operation only.

    On a CPU it computes in float32 where it strides or is larger than 3x3: oneDNN's gradients in
    bfloat16 take 2 to 20 times as long there. The results have the dtype of the inputs in any case.
    """

    is_depthwise = True

    def kernel_shape(self, channels):
        if self.filters != channels:
            raise UserError(f'{self.path}: {channels} channels in and {self.filters} out')
        return [self.window.size, self.window.size, channels, 1], self.window.size**2

    def convolve_padded(self, inputs, kernel, padding):
        size, stride, dilation = self.window[:3]
        dtype = inputs.dtype
        if (stride > 1 or size > 3) and not tf.config.list_physical_devices('GPU'):
            inputs, kernel = tf.cast(inputs, tf.float32), tf.cast(kernel, tf.float32)
        strides, dilations = [1, stride, stride, 1], [dilation, dilation]
        outputs = tf.nn.depthwise_conv2d(inputs, kernel, strides, padding, dilations=dilations)
        return tf.cast(outputs, dtype)


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


class ConvNorm(Layer):
    """Convolution without bias (of the class `convolution`), norm, activation or None.

    Args:
        norm_options: Of nets.norms.Norm: momentum, epsilon.
    """

    convolution = Conv

    def __init__(
        self,
        path: str,
        filters: int,
        window=POINTWISE,
        activation=relu,
        first_gamma=1.0,
        **norm_options: float,
    ):
        super().__init__(path)
        self.conv = self.convolution(path, filters, window)
        self.norm = Norm(f'{path}/norm', first_gamma, **norm_options)
        self.activation = activation

    def call(self, inputs, training):
        outputs = self.norm(self.conv(inputs), training)
        return outputs if self.activation is None else self.activation(outputs)


class DepthwiseConvNorm(ConvNorm):
    """ConvNorm with a kernel for each channel."""

    convolution = DepthwiseConv


class DeconvNorm(ConvNorm):
    """ConvNorm with a transposed convolution."""

    convolution = Deconv
