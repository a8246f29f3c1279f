"""Operations that are made directly are those of tf.raw_ops."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from nets import graph_variables, operations
from nets.layers import KERNEL_3X3, ConvNorm

v1 = tf.compat.v1
PIXELS = np.random.default_rng(0).standard_normal([2, 6, 4, 8]).astype(np.float32)
CALLS = {
    # In another order than the operation's own.
    'MatMul': lambda: {'transpose_a': True, 'b': _column(2.0), 'a': _column(3.0)},
    'Sub': lambda: {'y': _column(2.0), 'x': _column(3.0)},
    'Sum': lambda: {'input': tf.constant(PIXELS), 'axis': tf.constant([1, 3])},
    'Cast': lambda: {'x': tf.constant(PIXELS), 'DstT': tf.bfloat16},
    'MaxPool': lambda: {
        'input': tf.constant(PIXELS),
        'ksize': [1, 2, 2, 1],
        'strides': [1, 2, 2, 1],
        'padding': 'VALID',
    },
    'LeakyRelu': lambda: {'features': tf.constant(PIXELS), 'alpha': 0.5},
    'AddN': lambda: {'inputs': [_column(1.0), _column(2.0), _column(4.0)]},
}


def _column(value: float) -> tf.Tensor:
    return tf.constant([[value], [value + 1]])


@pytest.mark.parametrize('kind', CALLS)
def test_the_operation_is_the_same_wherever_it_is_made(kind):
    eager = operations.make(kind, **CALLS[kind]())
    with tf.Graph().as_default(), v1.Session() as session:
        ours = operations.make(kind, **CALLS[kind]())
        wanted = getattr(tf.raw_ops, kind)(**CALLS[kind]())
        assert ours.op.node_def.attr == wanted.op.node_def.attr
        assert ours.shape == wanted.shape
        values = session.run(tf.cast([ours, wanted], tf.float32))
    np.testing.assert_array_equal(values[0], values[1])
    np.testing.assert_array_equal(values[0], tf.cast(eager, tf.float32))
    in_function = tf.function(lambda: operations.make(kind, **CALLS[kind]()))()
    np.testing.assert_array_equal(in_function, eager)


def test_a_missing_input_is_no_other():
    with tf.Graph().as_default(), pytest.raises(KeyError, match='y'):
        operations.make('Sub', x=_column(1.0))


def test_constants_of_a_graph_are_shared():
    with tf.Graph().as_default() as graph, v1.Session() as session:
        made = [graph_variables.constant((3, 4), dtype=tf.int32) for _ in range(2)]
        other = graph_variables.constant(3, dtype=tf.int32)
        assert made[0] is made[1]
        assert len(graph.get_operations()) == 2
        assert [value.tolist() for value in session.run([made[0], other])] == [[3, 4], 3]


def _operations(num_layers: int) -> int:
    """Return how many operations compute the gradients and statistics of so many layers."""
    with tf.Graph().as_default() as graph:
        outputs = tf.zeros([2, 8, 8, 4], tf.bfloat16)
        chain = [ConvNorm(f'layer{n}', 4, KERNEL_3X3) for n in range(num_layers)]
        for layer in chain:
            outputs = layer(outputs, True)
        weights = [v for layer in chain for v in layer.trainable_variables]
        tf.gradients(outputs, weights)
        return len(graph.get_operations())


def test_a_training_has_few_operations_for_each_layer():
    # Five variables and as many reads; convolution, norm and ReLU, and their gradients, of which
    # the convolution has two; casts of the kernel to bfloat16 and of its gradient back; two moves
    # of statistics; five zeros of TensorFlow's for outputs of the norm that have no gradients.
    assert _operations(3) - _operations(2) == 2 * 5 + 7 + 2 + 2 + 5
