"""Computing blocks twice: the same gradients, updates and statistics, and copies that wait."""

from __future__ import annotations

import types

import numpy as np
import pytest
import tensorflow as tf

from config import Experiment, LossConfig, NetworkConfig, OptimizerConfig
from nets import precision
from nets.precision import Compute
from preprocessing.datasets.fashionai import SCHEMA
from tests.tiny_batches import skirts
from utility.optim import gradient_checkpointing
from utility.train.model_fn import Task, make_model_fn

v1 = tf.compat.v1
SIZE = 64
SKIRT = SCHEMA.subset('skirt')
NETWORKS = {
    'resnet': ('resnet18', 'cpn', {'width': 8}, {'channels': 16}),
    'seresnext': ('seresnext50_32x4d', 'cpn_seresnext', {}, {}),
    'hourglass': ('hourglass_stem', 'hourglass', {'width': 8}, {'stacks': 2, 'channels': 16}),
}
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ('seresnext', 'hourglass')]


def train(network: str, computed: Compute):
    """Return all variables after two steps, and the names of what the session ran."""
    backbone, head, *options = NETWORKS[network]
    sizes = (SIZE, SIZE), (SIZE // 4, SIZE // 4)
    experiment = Experiment(
        network=NetworkConfig(backbone, head, *sizes, *options),
        loss=LossConfig(sigmas=(1.5,)),
        optimizer=OptimizerConfig(learning_rate=1e-2),
    )
    with tf.Graph().as_default(), v1.Session() as session:
        v1.set_random_seed(1)
        features, labels = tf.nest.map_structure(
            lambda value: v1.placeholder_with_default(value, value.shape), skirts(2, (SIZE, SIZE))
        )
        model_fn = make_model_fn(Task(experiment, SKIRT, compute=computed))
        spec = model_fn(features, labels, 'train', types.SimpleNamespace(model_dir=''))
        session.run(v1.global_variables_initializer())
        message = v1.RunMetadata()
        asked = v1.RunOptions(output_partition_graphs=True)
        session.run(spec.train_op, options=asked, run_metadata=message)
        session.run(spec.train_op)
        values = session.run({v.name: v for v in v1.global_variables()})
    return values, [node.name for graph in message.partition_graphs for node in graph.node]


def _copies(names) -> list[str]:
    return [name for name in names if name.startswith(gradient_checkpointing._SCOPE)]


@pytest.mark.parametrize('network', ['resnet', *SLOW])
def test_updates_and_statistics_are_the_same(network):
    (plain, ran), (again, ran_again) = (
        train(network, Compute(recompute=flag)) for flag in (False, True)
    )
    assert not _copies(ran)
    convolutions = [name for name in _copies(ran_again) if name.endswith('Conv2D')]
    assert len(convolutions) > 12  # TensorFlow has not merged them with the first ones
    assert plain.keys() == again.keys()
    for name, value in plain.items():
        # What is left of a gradient whose terms cancel is rounding: two plain runs differ as much.
        atol = 4e-6 * max(np.abs(value).max(), 1e-5)
        np.testing.assert_allclose(again[name], value, rtol=1e-6, atol=atol, err_msg=name)


def _two_blocks():
    """Return a picture, what the second of two blocks makes of it, and a tensor from inside of
    each.
    """
    picture = v1.placeholder(tf.float32, [1, 4, 4, 2], 'picture')
    first, second = 'backbone/stage1/block1', 'backbone/stage1/block2'
    inner = tf.nn.relu(tf.square(picture, f'{first}/square'), f'{first}/relu')
    handed = tf.tanh(inner, f'{first}/tanh')
    noise = tf.random.uniform([1, 4, 4, 2], name=f'{second}/noise')
    curve = tf.sigmoid(tf.multiply(handed, noise, f'{second}/product'), f'{second}/sigmoid')
    return picture, tf.exp(curve, f'{second}/exp'), (inner, curve)


def test_what_blocks_hand_on_is_kept_and_so_is_what_is_random():
    with tf.Graph().as_default() as graph:
        picture, last, inner = _two_blocks()
        gradients = gradient_checkpointing.recomputing(tf.gradients)(tf.reduce_sum(last), [picture])
        copies = {name.split('/')[-1] for name in _copies(op.name for op in graph.get_operations())}
        assert {'square', 'relu', 'sigmoid'} <= copies
        assert not {'tanh', 'noise', 'RandomUniform', 'exp', 'picture'} & copies
        users = {user.name for tensor in inner for user in tensor.consumers()}
        assert not [name for name in users if name.startswith('gradients')]
        arrived = graph.get_operation_by_name(
            f'{gradient_checkpointing._SCOPE}/backbone/stage1/block1/relu'
        )
        waits_for = [op.name for op in arrived.control_inputs]
        assert any('tanh_grad' in name for name in waits_for), waits_for
    assert gradients[0].shape == picture.shape


def test_the_gradients_are_those_of_the_same_numbers():
    with tf.Graph().as_default(), v1.Session() as session:
        picture, last, _ = _two_blocks()
        loss = tf.reduce_sum(last)
        plain = tf.gradients(loss, [picture])
        again = gradient_checkpointing.recomputing(tf.gradients)(loss, [picture])
        values = np.linspace(-1, 1, 32, dtype=np.float32).reshape(picture.shape)
        np.testing.assert_array_equal(*session.run([plain, again], {picture: values}))


def test_xla_does_not_wait():
    with pytest.raises(ValueError, match='^--recompute --xla: give one of them'):
        precision.check(Compute(xla=True, recompute=True))
    precision.check(Compute(recompute=True))
