"""Variables of a graph of sessions: what they share, and that they do not keep the graph."""

from __future__ import annotations

import gc
import weakref

import tensorflow as tf

from nets import graph_variables


def test_equal_constants_of_a_graph_are_one_tensor():
    with tf.Graph().as_default():
        first = graph_variables.constant(0.0, [2, 3])
        assert graph_variables.constant(0.0, [2, 3]) is first
        assert graph_variables.constant(0.0, [3, 2]) is not first
    with tf.Graph().as_default() as other:
        assert graph_variables.constant(0.0, [2, 3]).graph is other


def test_constants_and_variables_do_not_keep_their_graph():
    with tf.Graph().as_default() as graph:
        graph_variables.constant(0.0, [2, 3])
        graph_variables.make('v', [2], 1.0, trainable=True)
    kept = weakref.ref(graph)
    del graph
    gc.collect()
    assert kept() is None
