"""The heat-map loss against NumPy: which points count, hard ones, sizes, precision, gradients."""

import math

import numpy as np
import pytest
import tensorflow as tf

from config import LossConfig
from utility.heatmaps import HeatmapCodec
from utility.losses import hard_points, heatmap_loss, mean_over

IMAGE_SIZE = (32, 48)
SIZES = ((4, 6), (8, 12), (8, 12))
VISIBILITY = np.array(
    [[1, 1, 1, 1, 0], [1, -1, 0, 1, -1], [-1, -1, 0, -1, -1], [1, 1, 1, 1, 1]], np.int32
)


def _outputs_and_labels(seed=0, sizes=SIZES):
    random = np.random.default_rng(seed)
    batch, num_keypoints = VISIBILITY.shape
    keypoints = random.uniform(0, 1, (batch, num_keypoints, 2)) * IMAGE_SIZE[::-1]
    outputs = [random.normal(size=(batch, *s, num_keypoints)).astype(np.float32) for s in sizes]
    return outputs, {'keypoints': keypoints.astype(np.float32), 'visibility': VISIBILITY}


def _oracle(outputs, labels, config):
    """The loss of each output in NumPy, hard points by sorting."""
    counts = labels['visibility'] == 1 if config.points == 'visible' else labels['visibility'] >= 0
    losses = []
    for index, output in enumerate(outputs):
        sigma = config.sigmas[min(index, len(config.sigmas) - 1)]
        codec = HeatmapCodec(IMAGE_SIZE, output.shape[1:3])
        target = config.target_scale * codec.encode(labels['keypoints'], sigma).numpy()
        kept = []
        for b in range(len(output)):
            errors = [
                np.square(output[b, :, :, k] - target[b, :, :, k]).mean()
                for k in np.flatnonzero(counts[b])
            ]
            if errors and index == len(outputs) - 1:
                number = max(1, math.ceil(config.ohkm * len(errors) - 1e-9))
                errors = sorted(errors, reverse=True)[:number]
            kept += errors
        losses.append(np.mean(kept) if kept else 0.0)
    return losses


@pytest.mark.parametrize('points', ['visible', 'annotated'])
@pytest.mark.parametrize('ohkm', [1.0, 0.5, 0.01])
def test_loss_is_the_numpy_one(points, ohkm):
    config = LossConfig(
        points=points, ohkm=ohkm, target_scale=3.0, sigmas=(1.0, 2.0), weights=(0.5, 0.25, 1.0)
    )
    outputs, labels = _outputs_and_labels()
    total, losses = heatmap_loss([tf.constant(o) for o in outputs], labels, config, IMAGE_SIZE)
    expected = _oracle(outputs, labels, config)
    np.testing.assert_allclose([float(loss) for loss in losses], expected, rtol=1e-5)
    assert float(total) == pytest.approx(np.dot((0.5, 0.25, 1.0), expected), rel=1e-5)


def test_mining_with_share_one_is_the_plain_mean():
    outputs, labels = _outputs_and_labels(sizes=((8, 12), (8, 12)))
    same = [tf.constant(outputs[0])] * 2
    _, losses = heatmap_loss(same, labels, LossConfig(ohkm=1.0), IMAGE_SIZE)
    assert float(losses[0]) == pytest.approx(float(losses[1]), rel=1e-6)
    _, mined = heatmap_loss(same, labels, LossConfig(ohkm=0.5), IMAGE_SIZE)
    assert float(mined[0]) == pytest.approx(float(losses[0]), rel=1e-6)
    assert float(mined[1]) > float(losses[1])


def test_perfect_output_has_no_loss():
    _, labels = _outputs_and_labels()
    output = 255.0 * HeatmapCodec(IMAGE_SIZE, (8, 12), sigma=1.5).encode(labels['keypoints'])
    total, _ = heatmap_loss(
        [output], labels, LossConfig(target_scale=255.0, sigmas=(1.5,)), IMAGE_SIZE
    )
    assert float(total) == 0.0


@pytest.mark.parametrize('points', ['visible', 'annotated'])
@pytest.mark.parametrize('absent', [np.nan, np.inf, -1.0, 1e30])
def test_points_that_do_not_count_have_no_part_in_loss_or_gradient(points, absent):
    outputs, labels = _outputs_and_labels()
    counts = VISIBILITY == 1 if points == 'visible' else VISIBILITY >= 0
    outputs = [tf.Variable(output) for output in outputs]
    config = LossConfig(points=points, ohkm=1.0)
    poisoned = {**labels, 'keypoints': np.where(counts[..., None], labels['keypoints'], absent)}
    expected, _ = heatmap_loss(outputs, labels, config, IMAGE_SIZE)
    with tf.GradientTape() as tape:
        total, _ = heatmap_loss(outputs, poisoned, config, IMAGE_SIZE)
    assert float(total) == pytest.approx(float(expected), rel=1e-6)
    for gradient in tape.gradient(total, outputs):
        by_map = np.abs(gradient.numpy()).max(axis=(1, 2))
        np.testing.assert_array_equal(by_map > 0, counts)


def test_a_batch_without_points_has_loss_and_gradient_zero():
    outputs, labels = _outputs_and_labels()
    outputs = [tf.Variable(output) for output in outputs]
    empty = {
        'keypoints': np.full((4, 5, 2), np.nan, np.float32),
        'visibility': np.full((4, 5), -1, np.int32),
    }
    with tf.GradientTape() as tape:
        total, losses = heatmap_loss(outputs, empty, LossConfig(points='annotated'), IMAGE_SIZE)
    assert [float(loss) for loss in (total, *losses)] == [0.0] * 4
    for gradient in tape.gradient(total, outputs):
        assert not gradient.numpy().any()


def test_gradients_of_the_last_output_flow_through_the_hard_points_only():
    outputs, labels = _outputs_and_labels(sizes=((8, 12),))
    labels = {**labels, 'visibility': np.ones_like(VISIBILITY)}
    output = tf.Variable(outputs[0] * np.array([5, 1, 4, 2, 3], np.float32))
    with tf.GradientTape() as tape:
        total, _ = heatmap_loss([output], labels, LossConfig(ohkm=0.6), IMAGE_SIZE)
    by_map = np.abs(tape.gradient(total, output).numpy()).max(axis=(1, 2))
    np.testing.assert_array_equal(by_map > 0, [[True, False, True, False, True]] * 4)


@pytest.mark.parametrize(
    ('share', 'numbers'),
    [(0.5, [1, 1, 2, 2, 3]), (1e-6, [1] * 5), (0.7, [1, 2, 3, 3, 4]), (1.0, [1, 2, 3, 4, 5])],
)
def test_number_of_hard_points_is_a_share_of_those_that_count(share, numbers):
    counts = np.tril(np.ones((6, 5), bool), -1)
    errors = np.random.default_rng(1).uniform(size=(6, 5)).astype(np.float32)
    kept = hard_points(tf.constant(errors), tf.constant(counts), share).numpy()
    np.testing.assert_array_equal(kept.sum(axis=1), [0, *numbers])
    assert not kept[~counts].any()
    for b in range(1, 6):
        assert errors[b][kept[b]].min() >= errors[b][counts[b] & ~kept[b]].max(initial=0.0)


def test_equal_errors_and_rounding_do_not_raise_the_number_of_hard_points():
    kept = hard_points(tf.zeros([2, 25]), tf.ones([2, 25], tf.bool), 0.6)
    np.testing.assert_array_equal(tf.reduce_sum(tf.cast(kept, tf.int32), axis=1), [15, 15])


def test_mean_over_does_not_touch_what_is_left_out():
    errors, kept = tf.constant([[1.0, np.nan], [4.0, np.inf]]), [[True, False], [True, False]]
    assert float(mean_over(errors, tf.constant(kept))) == 2.5


@pytest.mark.parametrize('dtype', [tf.bfloat16, tf.float16])
def test_half_precision_outputs_have_a_float32_loss(dtype):
    outputs, labels = _outputs_and_labels(sizes=((8, 12),))
    rounded = tf.cast(100 * outputs[0], dtype)
    config = LossConfig(target_scale=255.0)
    total, losses = heatmap_loss([rounded], labels, config, IMAGE_SIZE)
    assert (total.dtype, losses[0].dtype) == (tf.float32, tf.float32)
    expected, _ = heatmap_loss([tf.cast(rounded, tf.float32)], labels, config, IMAGE_SIZE)
    assert float(total) == pytest.approx(float(expected), rel=1e-6)


def test_loss_is_the_same_in_an_estimator_graph_and_encodes_each_target_once():
    outputs, labels = _outputs_and_labels()
    expected, _ = heatmap_loss([tf.constant(o) for o in outputs], labels, LossConfig(), IMAGE_SIZE)
    with tf.Graph().as_default() as graph, tf.compat.v1.Session() as session:
        fed = [tf.compat.v1.placeholder(tf.float32, [None, *o.shape[1:]]) for o in outputs]
        total, _ = heatmap_loss(
            fed, {k: tf.constant(v) for k, v in labels.items()}, LossConfig(), IMAGE_SIZE
        )
        exponentials = [op for op in graph.get_operations() if op.type == 'Exp']
        assert len(exponentials) == 2 * len(set(SIZES))
        assert session.run(total, dict(zip(fed, outputs))) == pytest.approx(float(expected))


@pytest.mark.parametrize('field', ['sigmas', 'weights'])
def test_more_settings_than_outputs_are_refused(field):
    outputs, labels = _outputs_and_labels()
    config = LossConfig(**{field: (1.0, 2.0, 3.0, 4.0)})
    with pytest.raises(ValueError, match=f'loss.{field}=.*at most 3 entries'):
        heatmap_loss(outputs, labels, config, IMAGE_SIZE)


def test_output_of_unknown_size_is_refused():
    _, labels = _outputs_and_labels()
    with tf.Graph().as_default(), pytest.raises(ValueError, match='must be static'):
        output = tf.compat.v1.placeholder(tf.float32, [None, None, 12, 5])
        heatmap_loss([output], labels, LossConfig(), IMAGE_SIZE)
