"""The graph that our training step is compared with is that of tf.fashionAI."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from benchmarks.speed import seed_networks, step

v1 = tf.compat.v1
# groups -> parameters, variables and elements of moving statistics that its description gives.
PUBLISHED = {1: (27_085_248, 239, 60_672), 32: (29_088_240, 305, 75_904)}


def size(variables):
    return sum(variable.shape.num_elements() for variable in variables)


LAST = seed_networks.Layers(channels_first=False)


@pytest.mark.parametrize('groups', PUBLISHED)
def test_parameters_are_the_published_ones(groups):
    with tf.Graph().as_default():
        images = tf.zeros([1, 64, 64, 3])
        outputs = LAST.heatmaps(LAST.backbone(images, groups), 24, (16, 16))
        assert [output.shape.as_list() for output in outputs] == [[1, 16, 16, 24]] * 5
        trained = v1.trainable_variables()
        moving = [v for v in v1.global_variables() if 'moving' in v.name]
        assert (size(trained), len(trained), size(moving)) == PUBLISHED[groups]
        assert len(v1.get_collection(v1.GraphKeys.UPDATE_OPS)) == len(moving)


def test_a_group_is_a_convolution_each_and_equals_the_native_one():
    with tf.Graph().as_default() as graph:
        v1.set_random_seed(1)
        inputs = tf.random.stateless_normal([1, 6, 6, 8], [1, 2])
        outputs = LAST.convolution(inputs, 16, 3, stride=2, groups=4)
        assert len([op for op in graph.get_operations() if op.type == 'Conv2D']) == 4
        (kernel,) = v1.trainable_variables()
        padded = tf.pad(inputs, [[0, 0], [1, 1], [1, 1], [0, 0]])
        native = tf.nn.conv2d(padded, kernel, 2, 'VALID')
        with v1.Session() as session:
            session.run(v1.global_variables_initializer())
            np.testing.assert_allclose(*session.run([outputs, native]), rtol=1e-5, atol=1e-6)


def _block(layers: seed_networks.Layers, groups: int):
    """Return what a block and a resize make of noise, and the gradient of its kernels, channels
    last.
    """
    with tf.Graph().as_default(), v1.Session() as session:
        v1.set_random_seed(1)
        inputs = tf.random.stateless_normal([2, 8, 8, 16], [1, 2])
        inputs = tf.transpose(inputs, [0, 3, 1, 2]) if layers.format == 'NCHW' else inputs
        outputs = layers.bottleneck(inputs, 16, 32, 2, groups, project=True)
        outputs = layers.resize(outputs, (8, 8))
        gradients = tf.gradients(tf.reduce_mean(outputs**2), v1.trainable_variables())
        outputs = tf.transpose(outputs, [0, 2, 3, 1]) if layers.format == 'NCHW' else outputs
        session.run(v1.global_variables_initializer())
        return session.run([outputs, *gradients])


@pytest.mark.parametrize('groups', [1, 4])
def test_both_layouts_compute_the_same(groups):
    first, last = (_block(seed_networks.Layers(is_first), groups) for is_first in (True, False))
    assert first[0].shape == (2, 8, 8, 32)
    for one, other in zip(first, last):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_resizes_are_legacy_ones():
    row = tf.reshape([0.0, 1.0, 2.0, 3.0], [1, 1, 4, 1])
    resized = LAST.resize(row, (1, 8))
    np.testing.assert_allclose(resized[0, 0, :, 0], [0, 0.5, 1, 1.5, 2, 2.5, 3, 3])


def test_targets_are_drawn_point_by_point():
    points = tf.constant([[[5.2, 3.0], [0.4, 3.0]]])
    with tf.Graph().as_default() as graph:
        drawn = seed_networks.targets(tf.constant(points.numpy()), (8, 10))
        with v1.Session(graph=graph) as session:
            first, outside = session.run(drawn)[0]
    assert (first.shape, first[3, 5], first.argmax()) == ((8, 10), 1.0, 3 * 10 + 5)
    np.testing.assert_allclose(first[4, 7], np.exp(-2.5), rtol=1e-6)
    assert first[3, 9] == 0.0  # beyond three standard deviations
    assert not outside.any()


@pytest.mark.parametrize(('ratio', 'met'), [(1.3, 'yes'), (1.29, '**no**')])
def test_a_step_is_judged_by_its_ratio(ratio, met):
    of = {
        'flops': 8e9,
        'rate': {'median': 5.0, 'spread': 0.25, 'count': 5},
        'share': {'median': 0.625, 'spread': 0.0, 'count': 5},
    }
    measured = {'median': ratio, 'spread': 0.5, 'count': 5}
    compared = {'first': {**of, 'ratio': measured}, step._PROJECT: {**of, 'ratio': measured}}
    seed, ours = step._rows('net', compared)
    assert seed[:5] == ('net', 'first', '5.00 ± 0.25', '2.0', '62%')
    assert seed[5:] == (f'{ratio:.2f} ± 0.50 times', 'at least 1.3', met)
    assert ours[2:] == (*seed[2:5], '', '', '')
