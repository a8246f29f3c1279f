"""The schedule is a pure function of the step; weight decay knows kernels from the rest."""

import numpy as np
import pytest
import tensorflow as tf

from config import OptimizerConfig
from utility import optimizers

CONFIG = OptimizerConfig(
    learning_rate=1.0,
    warmup_steps=10,
    warmup_learning_rate=0.1,
    decay_epochs=(2.0, 3.0),
    decay_factors=(1.0, 0.5, 0.01),
    end_learning_rate=0.05,
)


def _rates(steps, config=CONFIG, steps_per_epoch=10.5):
    return optimizers.learning_rate(config, tf.constant(steps), steps_per_epoch).numpy()


def test_warm_up_is_linear_and_ends_at_the_base_rate():
    np.testing.assert_allclose(_rates([0, 5, 10]), [0.1, 0.55, 1.0], rtol=1e-6)


def test_factors_hold_from_their_epoch_on_and_the_end_rate_bounds_them():
    np.testing.assert_allclose(_rates([20, 21, 31, 32, 1000]), [1, 0.5, 0.5, 0.05, 0.05], rtol=1e-6)


def test_without_warm_up_the_first_step_has_the_base_rate():
    config = OptimizerConfig(learning_rate=1.0, warmup_steps=0)
    assert _rates(0, config) == 1.0


def test_resuming_does_not_change_the_rate():
    whole = _rates(list(range(50)))
    parts = np.concatenate([_rates(list(range(20))), _rates(list(range(20, 50)))])
    np.testing.assert_array_equal(whole, parts)


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
