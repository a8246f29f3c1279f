"""What tells category and presence: it is there only if asked for, and leaves heat maps alone."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

import nets
from config import NetworkConfig
from nets import names
from nets.heads.attributes import AttributeSizes
from nets.network import num_parameters

K, C = 6, 3
SIZES = AttributeSizes(C, K)
CONFIG = NetworkConfig('resnet18', 'dhn', (64, 64), (16, 16), {'width': 8}, {'channels': 8})
IMAGES = tf.random.stateless_uniform([2, 64, 64, 3], [0, 0], 0, 255)


def _network(sizes, config=CONFIG):
    tf.random.set_seed(0)
    network = nets.build_network(config, K, attributes=sizes)
    return network, network.outputs(IMAGES, False)


def test_without_it_a_network_is_as_it_was():
    plain, outputs = _network(AttributeSizes())
    assert outputs.attributes == (None, None)
    assert not any(v.name.startswith(names.ATTRIBUTES) for v in plain.variables)
    telling, told = _network(SIZES)
    np.testing.assert_array_equal(told.heatmaps[-1], outputs.heatmaps[-1])
    # hidden and category; attention, hidden and kernel on C3; of the mean and of the peaks.
    own = 64 * 256 + 256 + (256 + 1) * C
    own += 16 * K + K + 16 * 64 + 64 + K * 64 * 3 + (256 + 1) * K * 3 + (K + 1) * K * 3
    assert num_parameters(telling) - num_parameters(plain) == own


@pytest.mark.parametrize('sizes', [AttributeSizes(C, 0), AttributeSizes(0, K)])
def test_each_can_be_told_alone(sizes):
    _, outputs = _network(sizes)
    shapes = [None if part is None else tuple(part.shape) for part in outputs.attributes]
    assert shapes == [(2, C) if sizes[0] else None, (2, K, 3) if sizes[1] else None]


@pytest.mark.parametrize(
    ('backbone', 'head', 'options'),
    [('hourglass_stem', 'hourglass', {}), ('efficientnet_lite0', 'cpn', {})],
)
def test_any_features_will_do(backbone, head, options):
    config = NetworkConfig(backbone, head, (64, 64), (16, 16), options)
    with tf.Graph().as_default():
        outputs = nets.build_network(config, K, attributes=SIZES).outputs(
            tf.zeros([2, 64, 64, 3]), False
        )
        assert outputs.attributes.presence.shape == (2, K, 3)


def test_no_category_or_presence_is_preferred_at_first_and_heat_maps_learn_nothing_from_it():
    network, _ = _network(SIZES)
    with tf.GradientTape() as tape:
        logits = network.outputs(IMAGES, False).attributes
        total = tf.reduce_sum(logits.category[:, 0]) + tf.reduce_sum(logits.presence[..., 0])
    assert not np.any(logits.category) and not np.any(logits.presence)
    for variable in network.attribute_head.trainable_variables:
        variable.assign(tf.random.stateless_normal(variable.shape, [1, 0]))
    with tf.GradientTape() as tape:
        logits = network.outputs(IMAGES, False).attributes
        total = tf.reduce_sum(logits.category[:, 0]) + tf.reduce_sum(logits.presence[..., 0])
    head, backbone = network.head.trainable_variables, network.backbone.trainable_variables
    gradients = tape.gradient(total, [*head, *backbone])
    assert all(gradient is None for gradient in gradients[: len(head)])
    assert all(gradient is not None for gradient in gradients[len(head) :])
