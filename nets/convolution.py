"""tf.nn.conv2d, with another gradient of 1x1 kernels on a CPU.

Over all cells of a batch that gradient is one product of two matrices. TensorFlow computes it as it
does for kernels of any size, for which oneDNN, its library for CPUs, takes longer, and then lays
out the result anew. A GPU is left as it is: TensorFlow puts the channels first there, so that
matrices of cells would have to be transposed.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

v1 = tf.compat.v1

_GRADIENT = 'Conv2D1x1'


def conv2d(
    inputs: tf.Tensor,
    kernel: tf.Tensor,
    strides: int | Sequence[int] = 1,
    padding: str = 'SAME',
    dilations: int = 1,
) -> tf.Tensor:
    """Return tf.nn.conv2d of [B, H, W, C] and a kernel [h, w, C / groups, filters].

    The operation is TensorFlow's own. What differs is what tf.gradients makes of it; gradients of
    an eager tape stay TensorFlow's.
    """
    convolve = (inputs, kernel, strides, padding, 'NHWC', dilations)
    is_pointwise = [*kernel.shape[:3]] == [1, 1, inputs.shape[-1]] and strides in (1, (1, 1))
    if not is_pointwise or tf.config.list_physical_devices('GPU'):
        return tf.nn.conv2d(*convolve)
    with v1.get_default_graph().gradient_override_map({'Conv2D': _GRADIENT}):
        return tf.nn.conv2d(*convolve)


@tf.RegisterGradient(_GRADIENT)
def _gradients(convolution: tf.Operation, gradient: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    inputs, kernel = convolution.inputs
    to_inputs = tf.raw_ops.Conv2DBackpropInput(
        input_sizes=tf.shape(inputs),
        filter=kernel,
        out_backprop=gradient,
        strides=convolution.get_attr('strides'),
        padding=convolution.get_attr('padding'),
    )
    # Not before the gradient is there: what --recompute computes again waits for that.
    with tf.control_dependencies([gradient]):
        cells = _matrix(inputs)
    to_kernel = tf.matmul(cells, _matrix(gradient), transpose_a=True)
    return to_inputs, tf.reshape(to_kernel, tf.shape(kernel))


def _matrix(cells: tf.Tensor) -> tf.Tensor:
    """Return [B, H, W, C] -> [B * H * W, C]."""
    return tf.reshape(cells, [-1, cells.shape[-1]])
