"""Batch-norm statistics of given weights are the exact means over the data."""

from __future__ import annotations

import collections
import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from config import NetworkConfig
from nets import build_network
from nets.norms import BatchNorm
from utility.checkpoints.batch_statistics import reestimated
from utility.checkpoints.variables import variable_name

CONFIG = NetworkConfig('resnet18', 'dhn', (32, 32), (8, 8), {'width': 4}, {'channels': 4})
KEYPOINTS = 3
BATCHES = np.random.default_rng(0).integers(0, 256, (4, 6, 32, 32, 3)).astype(np.uint8)
BATCHES[1::2] //= 4  # some are darker: the statistics of one batch are not those of all


def _input_fn(batches=BATCHES):
    return tf.data.Dataset.from_tensor_slices(({'image': batches}, {'keypoints': np.zeros([4])}))


@pytest.fixture(scope='module')
def network():
    """A network in eager mode with random weights and with statistics that are far off."""
    tf.random.set_seed(0)
    network = build_network(CONFIG, KEYPOINTS)
    network(BATCHES[0], False)
    rng = np.random.default_rng(1)
    for variable in network.variables:
        shift = 1.0 if variable_name(variable).endswith('moving_variance') else 0.0
        variable.assign(np.abs(rng.normal(0.0, 0.3, variable.shape) + shift))
    return network


def _weights(network):
    return {variable_name(v): v.numpy() for v in network.variables}


@pytest.fixture(scope='module')
def exact(network):
    """Name -> mean over the batches of the batch's own statistic of what a layer is given."""
    seen = collections.defaultdict(list)
    call = BatchNorm.call

    def watched(layer, inputs, training):
        values = inputs.numpy().astype(np.float64).reshape(-1, inputs.shape[-1])
        seen[f'{layer.path}/moving_mean'].append(values.mean(axis=0))
        seen[f'{layer.path}/moving_variance'].append(values.var(axis=0, ddof=1))
        return call(layer, inputs, training)

    before = _weights(network)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BatchNorm, 'call', watched)
        for batch in BATCHES:
            network(batch, True)
    for variable in network.variables:
        variable.assign(before[variable_name(variable)])
    return {name: np.mean(values, axis=0) for name, values in seen.items()}


def _farthest(weights, exact):
    """Return the largest difference, of values above 1 as a share of them."""
    return max(
        np.max(np.abs(weights[name] - value) / np.maximum(1.0, np.abs(value)))
        for name, value in exact.items()
    )


def test_statistics_are_the_means_over_the_data(network, exact):
    weights = _weights(network)
    found = reestimated(weights, CONFIG, KEYPOINTS, _input_fn, len(BATCHES))
    assert _farthest(found, exact) < 1e-5
    assert _farthest(weights, exact) > 0.5  # what they are without it
    assert len(exact) == sum('moving' in name for name in weights) > 40
    for name in weights.keys() - exact.keys():
        np.testing.assert_array_equal(found[name], weights[name], name)


def test_more_batches_are_other_means(network, exact):
    found = reestimated(_weights(network), CONFIG, KEYPOINTS, _input_fn, 1)
    assert _farthest(found, exact) > 1e-3


@pytest.mark.parametrize('norm', ['frozen', 'group'])
def test_without_statistics_that_move_nothing_is_read(norm):
    config = dataclasses.replace(CONFIG, norm=norm)
    with tf.Graph().as_default():
        other = build_network(config, KEYPOINTS)
        other(BATCHES[0], False)
        names = [variable_name(v) for v in other.variables]
    weights = {name: np.full([1], i, np.float32) for i, name in enumerate(names)}
    none = lambda: _input_fn().take(0)  # noqa: E731
    assert reestimated(weights, config, KEYPOINTS, none, 2) == weights
