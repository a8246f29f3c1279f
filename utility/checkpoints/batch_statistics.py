"""Batch-norm statistics of weights that no training step has seen, such as averaged ones.

The moving statistics in a checkpoint are those of the features that its weights gave. Averaged
weights give others, and with the old statistics a network can be as bad as an untrained one. So
training batches are put through it, and the statistics become the plain means over the batches
(Izmailov et al. 2018, section 3.2).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import tensorflow as tf
from absl import logging

from config import NetworkConfig
from nets import build_network
from utility.checkpoints.variables import variable_name

v1 = tf.compat.v1


def reestimated(
    weights: Mapping[str, np.ndarray],
    config: NetworkConfig,
    num_keypoints: int,
    input_fn: Callable[[], tf.data.Dataset],
    num_batches: int,
) -> dict[str, np.ndarray]:
    """Return the weights with the batch-norm statistics that they have on training data.

    Frozen batch norm keeps those that it has, as in a training; without batch norm nothing is read.

    Args:
        weights: All tensors of the network, by name.
        config: Of the network.
        num_keypoints: Of its schema, times the maps of a point.
        input_fn: Gives batches as a training reads them, at least num_batches.
        num_batches: Over how many, at least 1.
    """
    with tf.Graph().as_default():
        batches = v1.data.make_initializable_iterator(input_fn())
        network = build_network(config, num_keypoints)
        network(batches.get_next()[0]['image'], True, remembers=False)
        updates = v1.get_collection(v1.GraphKeys.UPDATE_OPS)
        if not updates:
            return dict(weights)
        moving = {variable_name(v): v for v in network.variables if not v.trainable}
        with tf.control_dependencies(updates):
            reads = {name: variable.read_value() for name, variable in moving.items()}
        assigns = [variable.initializer for variable in network.variables]
        with v1.Session() as session:
            session.run(batches.initializer)
            for variable, assign in zip(network.variables, assigns):
                # To feed what it is initialized with adds nothing to the graph.
                session.run(assign, {assign.inputs[1]: weights[variable_name(variable)]})
            totals = {name: np.zeros(v.shape, np.float64) for name, v in moving.items()}
            for _ in range(num_batches):
                for name, value in session.run(reads).items():
                    totals[name] += value
    logging.info('batch-norm statistics estimated over %d training batches', num_batches)
    means = {name: (total / num_batches).astype(np.float32) for name, total in totals.items()}
    return {**weights, **means}
