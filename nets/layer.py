"""The base of all layers: tf.Modules whose variables have absolute paths.

A variable is called 'backbone/conv1/kernel' in a graph, in eager mode, in tf.function and under a
distribution strategy alike, so one checkpoint fits them all.

Initial values depend on the seed of the graph (in eager mode the global one) and on the variable's
name alone: same seed, same weights, whatever was built before and wherever it runs.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Sequence

import tensorflow as tf

from nets import graph_variables, operations

v1 = tf.compat.v1

_ANY_ALGORITHM = 3  # as tf.random.Algorithm.AUTO_SELECT
_STATISTIC = {
    'trainable': False,
    'synchronization': tf.VariableSynchronization.ON_READ,  # each replica moves its own
    'aggregation': tf.VariableAggregation.MEAN,  # of them, for a reader
}


class Layer(tf.Module):
    """Base of all layers: an absolute path, and variables made at the first call.

    Subclasses write `call`, and `build` for what depends on the shape of the input.

    Attributes:
        is_depthwise: Whether it convolves each channel on its own.
    """

    is_depthwise = False

    def __init__(self, path: str):
        super().__init__()
        self.path = path
        self._is_built = False

    def __setattr__(self, name: str, value) -> None:
        # TensorFlow remembers what it is, for SavedModels, which no graph of sessions becomes.
        if operations.has_sessions():
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    @tf.autograph.experimental.do_not_convert  # all control flow is Python's
    def __call__(self, inputs, *arguments):
        # The slash makes the scope absolute: neither prefixed nor made unique.
        with tf.name_scope(self.path + '/'):
            if not self._is_built:
                self.build(inputs)
                self._is_built = True
            return self.call(inputs, *arguments)

    def build(self, inputs) -> None:
        """Make what depends on the shape of the inputs; nothing, unless overridden."""

    def add_variable(self, name: str, shape: Sequence[int], mean=0.0, stddev=0.0, statistic=False):
        """Make the variable 'path/name', normally distributed; a `statistic` is not trained.

        Raises:
            ValueError: The graph has a variable of that name already.
        """
        full_name = f'{self.path}/{name}'
        initial = mean
        if stddev:
            seed = v1.get_seed(zlib.crc32(full_name.encode()))
            initial = functools.partial(_normal, shape, seed, mean, stddev)
        options = _STATISTIC if statistic else {'trainable': True}
        with tf.name_scope(self.path + '/'):
            variable = graph_variables.make(name, shape, initial, **options)
        if variable.name != full_name + ':0':
            raise ValueError(f'the graph has a variable {full_name!r} already')
        return variable

    def drop(self, inputs: tf.Tensor, rate: float, shape: Sequence) -> tf.Tensor:
        """Return `inputs`, zero at a random share `rate` of the places of `shape`, the others
        scaled so that the expected sum stays. `shape` is that of the inputs, or 1 where places go
        together.
        """
        # In float32: a rate of bfloat16 would be coarse.
        factor = tf.cast(self._draw(shape) >= rate, tf.float32) / (1.0 - rate)
        return inputs * tf.cast(factor, inputs.dtype)

    def _draw(self, shape: Sequence) -> tf.Tensor:
        """Return numbers in [0, 1), float32 of the shape.

        In a training they depend on the seed of the graph, the layer's path, the global step and
        the replica alone, so that one which goes on from a checkpoint draws what it would have
        drawn. Without a global step, every call draws others.
        """
        seed, step = zlib.crc32(self.path.encode()), v1.train.get_global_step()
        if step is None:
            return tf.random.uniform(shape, seed=seed)
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        seed = tf.constant(v1.get_seed(seed), tf.int64)
        for part in (step, replica):
            seed = tf.random.experimental.stateless_fold_in(seed, tf.cast(part, tf.int64))
        return tf.random.stateless_uniform(shape, seed)


def _normal(shape: Sequence[int], seed, mean: float, stddev: float) -> tf.Tensor:
    """Return tf.random.stateless_normal(shape, seed, mean, stddev), by fewer operations.

    They are given tensors: to make these of lists and numbers themselves takes as long again.
    """
    constant = functools.partial(graph_variables.constant, dtype=tf.int32)
    key, counter = operations.make('StatelessRandomGetKeyCounter', seed=tf.constant(seed, tf.int64))
    normal = operations.make(
        'StatelessRandomNormalV2',
        shape=constant(tuple(shape)),
        key=key,
        counter=counter,
        alg=constant(_ANY_ALGORITHM),
        dtype=tf.float32,
    )
    normal = operations.make('Mul', x=normal, y=graph_variables.constant(stddev))
    return normal + mean if mean else normal
