"""Each optimiser goes downhill; weight decay knows kernels from the rest."""

import numpy as np
import pytest
import tensorflow as tf

from config import OptimizerConfig
from utility import optimizers


@pytest.mark.parametrize('name', optimizers.OPTIMIZERS.names())
def test_optimizer_moves_a_weight_downhill(name):
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        weight = tf.compat.v1.get_variable('w', initializer=3.0, use_resource=True)
        config = OptimizerConfig(name=name)
        optimizer = optimizers.OPTIMIZERS.get(name)(tf.constant(0.01), config)
        step = optimizer.minimize(weight**2)
        session.run(tf.compat.v1.global_variables_initializer())
        for _ in range(20):
            session.run(step)
        assert abs(session.run(weight)) < 2.9


def test_weight_decay_leaves_norms_and_biases_alone():
    kernel = tf.Variable([2.0, 1.0], name='head/deconv/kernel')
    others = [tf.Variable([5.0], name=f'head/{name}') for name in ('bias', 'norm/gamma')]
    config = OptimizerConfig(weight_decay=0.1)
    loss = optimizers.weight_decay_loss(config, [kernel, *others])
    np.testing.assert_allclose(loss.numpy(), 0.1 * (4 + 1) / 2)
