"""Times of a step, by kinds of operations."""

from __future__ import annotations

import pytest
import tensorflow as tf

from benchmarks.speed import step_trace

v1 = tf.compat.v1


@pytest.mark.parametrize(
    ('operation', 'kind'),
    [
        ('Conv2D', 'convolutions'),
        ('_MklNativeConv2DBackpropInput', 'convolutions'),
        ('_MklMatMul', 'convolutions'),
        ('_MklNativeFusedConv2D', 'convolutions'),
        ('_MklNativeFusedBatchNormGradV3', 'batch norm'),
        ('ResizeBilinearGrad', 'resizes'),
        ('ResourceApplyMomentum', 'optimiser'),
        ('Relu', 'the rest'),
        ('', 'the rest'),
    ],
)
def test_kinds_of_operations(operation, kind):
    assert step_trace.kind(operation) == kind


def test_operations_that_ran_are_timed():
    with tf.Graph().as_default(), v1.Session(config=step_trace.one_at_a_time()) as session:
        left = tf.random.uniform([512, 512], seed=1)
        action = session.make_callable(tf.nn.relu(left @ left), accept_options=True)
        spent = step_trace.seconds(action, 2)
    assert spent['convolutions'] > 0 and spent['the rest'] > 0
    assert spent['batch norm'] == spent['resizes'] == spent['optimiser'] == 0
