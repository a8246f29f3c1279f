"""FLOPs of graphs: 2 for each multiply-add of a convolution or a matrix product, no others.

Counted from the shapes of the graph's operations, which must be known. A tap on the padding counts,
as in published numbers. TensorFlow's own profiler is no substitute: it counts element-wise
operations as well, and for gradients of convolutions the cells of the input instead of the output
(1.8 times too many for a 3x3 without padding on 8 x 8 cells).
"""

from __future__ import annotations

import collections
import math
from collections.abc import Callable, Iterable

import tensorflow as tf

from config import UserError


def _elements(tensor: tf.Tensor, *axes: int) -> int:
    """Return the product of a tensor's sides, of all or of those named."""
    sides = tensor.shape.as_list()
    chosen = [sides[axis] for axis in axes] if axes else sides
    if None in chosen:
        raise UserError(f'{tensor.name}: cannot count FLOPs of the shape {tensor.shape}')
    return math.prod(chosen)


def _convolution(kernel: tf.Tensor, result: tf.Tensor) -> int:
    # The kernel is [h, w, C / groups, filters]: each element of the result sums over the first
    # three. The gradients do the same multiplications, with the result's gradient in its place.
    return _elements(result) * _elements(kernel, 0, 1, 2)


def _depthwise(kernel: tf.Tensor, result: tf.Tensor) -> int:
    return _elements(result) * _elements(kernel, 0, 1)


def _matrix_product(operation: tf.Operation) -> int:
    transposed = operation.get_attr('transpose_a' if operation.type == 'MatMul' else 'adj_x')
    return _elements(operation.outputs[0]) * _elements(
        operation.inputs[0], -2 if transposed else -1
    )


# Kind of operation -> its number of multiply-adds.
_COUNTS: dict[str, Callable[[tf.Operation], int]] = {
    'Conv2D': lambda op: _convolution(op.inputs[1], op.outputs[0]),
    'Conv2DBackpropInput': lambda op: _convolution(op.inputs[1], op.inputs[2]),
    'Conv2DBackpropFilter': lambda op: _convolution(op.outputs[0], op.inputs[2]),
    'DepthwiseConv2dNative': lambda op: _depthwise(op.inputs[1], op.outputs[0]),
    'DepthwiseConv2dNativeBackpropInput': lambda op: _depthwise(op.inputs[1], op.inputs[2]),
    'DepthwiseConv2dNativeBackpropFilter': lambda op: _depthwise(op.outputs[0], op.inputs[2]),
    'MatMul': _matrix_product,
    'BatchMatMulV2': _matrix_product,
}
# These multiply too, or hold operations that may.
_NOT_COUNTABLE = {
    'BatchMatMul', 'Conv3D', 'Einsum', 'PartitionedCall', 'StatefulPartitionedCall', 'While',
    'StatelessWhile', 'XlaConv', 'XlaConvV2', 'XlaDot', 'XlaDotV2',
}  # fmt: skip


def count_flops(*fetches: tf.Tensor | tf.Operation) -> dict[str, int]:
    """Return FLOPs by kind of operation, of all operations that must run for the fetches.

    Raises:
        UserError: A shape is not known, or an operation cannot be counted.
    """
    flops: collections.Counter[str] = collections.Counter()
    for operation in _needed(fetches):
        if operation.type in _NOT_COUNTABLE:
            raise UserError(f'{operation.name}: cannot count the FLOPs of {operation.type}')
        if operation.type in _COUNTS:
            flops[operation.type] += 2 * _COUNTS[operation.type](operation)
    return dict(flops)


def _needed(fetches: Iterable[tf.Tensor | tf.Operation]) -> set[tf.Operation]:
    """Return the operations of fetches and all that these wait for."""
    needed: set[tf.Operation] = set()
    waiting = [getattr(fetch, 'op', fetch) for fetch in fetches]
    while waiting:
        operation = waiting.pop()
        if operation not in needed:
            needed.add(operation)
            waiting += [tensor.op for tensor in operation.inputs] + operation.control_inputs
    return needed
