"""tf.nn.conv2d, made directly, with another gradient on a CPU.

Over all cells of a batch the gradient of a 1x1 kernel is one product of two matrices. TensorFlow
computes it as it does for kernels of any size, for which oneDNN, its library for CPUs, takes
longer, and then lays out the result anew. A GPU is left as it is: TensorFlow puts the channels
first there, so that matrices of cells would have to be transposed.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from nets import graph_variables, operations

v1 = tf.compat.v1

_GRADIENT = 'Conv2DOnCpu'
_ATTRIBUTES = ('strides', 'padding', 'dilations')


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
    rows, columns = (strides, strides) if isinstance(strides, int) else strides
    gradients = {} if tf.config.list_physical_devices('GPU') else {'Conv2D': _GRADIENT}
    with v1.get_default_graph().gradient_override_map(gradients):
        return operations.make(
            'Conv2D',
            input=inputs,
            filter=kernel,
            strides=[1, rows, columns, 1],
            padding=padding,
            dilations=[1, dilations, dilations, 1],
        )


@tf.RegisterGradient(_GRADIENT)
def _gradients(convolution: tf.Operation, gradient: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    inputs, kernel = convolution.inputs
    attributes = {name: convolution.get_attr(name) for name in _ATTRIBUTES}
    attributes['padding'] = attributes['padding'].decode()
    to_inputs = operations.make(
        'Conv2DBackpropInput',
        input_sizes=_size(inputs),
        filter=kernel,
        out_backprop=gradient,
        **attributes,
    )
    if any(side != 1 for side in (*kernel.shape[:2], *attributes['strides'])) or (
        kernel.shape[2] != inputs.shape[3]
    ):
        to_kernel = operations.make(
            'Conv2DBackpropFilter',
            input=inputs,
            filter_sizes=_size(kernel),
            out_backprop=gradient,
            **attributes,
        )
        return to_inputs, to_kernel
    # Not before the gradient is there: what --recompute computes again waits for that.
    with tf.control_dependencies([gradient]):
        cells = _matrix(inputs)
    to_kernel = operations.make('MatMul', a=cells, b=_matrix(gradient), transpose_a=True)
    return to_inputs, _reshape(to_kernel, kernel.shape)


def _matrix(cells: tf.Tensor) -> tf.Tensor:
    """Return [B, H, W, C] -> [B * H * W, C]."""
    return _reshape(cells, [-1, cells.shape[-1]])


def _reshape(tensor: tf.Tensor, shape: Sequence[int]) -> tf.Tensor:
    size = graph_variables.constant(tuple(shape), dtype=tf.int32)
    return operations.make('Reshape', tensor=tensor, shape=size)


def _size(tensor: tf.Tensor) -> tf.Tensor:
    """Return tf.shape(tensor), where it is known always the same tensor."""
    if not tensor.shape.is_fully_defined():
        return tf.shape(tensor)
    return graph_variables.constant(tuple(tensor.shape), dtype=tf.int32)
