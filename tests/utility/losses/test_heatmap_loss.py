"""The heat-map loss against NumPy: which points count, hard ones, sizes, precision, gradients."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from config import LossConfig
from tests import loss_oracles
from utility.codecs.heatmaps import HeatmapCodec, flip_heatmaps
from utility.losses.heatmap_loss import heatmap_loss, maps_per_point, to_heatmaps
from utility.losses.kinds import LOSSES, divergences
from utility.losses.ohkm import mean_over, ohkm_mask

IMAGE_SIZE = (32, 48)
SIZES = ((4, 6), (8, 12), (8, 12))
VISIBILITY = np.array(
    [[1, 1, 1, 1, 0], [1, -1, 0, 1, -1], [-1, -1, 0, -1, -1], [1, 1, 1, 1, 1]], np.int32
)


def _outputs_and_labels(seed=0, sizes=SIZES, kind='mse'):
    random = np.random.default_rng(seed)
    batch, num_keypoints = VISIBILITY.shape
    num_maps = num_keypoints * maps_per_point(LossConfig(kind=kind))
    keypoints = random.uniform(0, 1, (batch, num_keypoints, 2)) * IMAGE_SIZE[::-1]
    outputs = [random.normal(size=(batch, *s, num_maps)).astype(np.float32) for s in sizes]
    return outputs, {'keypoints': keypoints.astype(np.float32), 'visibility': VISIBILITY}


KINDS = sorted(loss_oracles.ERRORS)


def _oracle(outputs, labels, config):
    """Return the loss of each output in NumPy, hard points by sorting."""
    counts = labels['visibility'] == 1 if config.points == 'visible' else labels['visibility'] >= 0
    losses = []
    for index, output in enumerate(outputs):
        sigma = config.sigmas[min(index, len(config.sigmas) - 1)]
        errors = loss_oracles.errors(output, labels['keypoints'], sigma, IMAGE_SIZE, config)
        is_last = index == len(outputs) - 1
        kept = loss_oracles.hard_errors(errors, counts, config) if is_last else errors[counts]
        losses.append(np.mean(kept) if len(kept) else 0.0)
    return losses


def test_every_kind_has_an_oracle():
    assert LOSSES.names() == KINDS


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('points', ['visible', 'annotated'])
@pytest.mark.parametrize(
    ('ohkm', 'over'),
    [(1.0, 'image'), (0.5, 'image'), (0.01, 'image'), (0.5, 'batch'), (0.5, 'keypoint')],
)
def test_loss_is_the_numpy_one(kind, points, ohkm, over):
    config = LossConfig(
        kind=kind,
        points=points,
        ohkm=ohkm,
        ohkm_over=over,
        target_scale=3.0,
        sigmas=(1.0, 2.0),
        weights=(0.5, 0.25, 1.0),
    )
    outputs, labels = _outputs_and_labels(kind=kind)
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


def test_the_ladder_of_sigmas_neither_moves_nor_enlarges_the_targets():
    point, sigmas = np.array([74.0, 58.0], np.float32), (3.0, 2.0, 1.25)  # the center of a cell
    outputs = [tf.Variable(tf.zeros([1, 32, 32, 1])) for _ in sigmas]
    labels = {'keypoints': point[None, None], 'visibility': np.array([[1]], np.int32)}
    config = LossConfig(sigmas=sigmas, target_scale=255.0)
    with tf.GradientTape() as tape:
        total, _ = heatmap_loss(outputs, labels, config, (128, 128))
    y, x = np.indices((32, 32)) * 4 + 2
    for sigma, gradient in zip(sigmas, tape.gradient(total, outputs)):
        target = -gradient[0, :, :, 0] * 32 * 32 / 2  # of a mean square at 0
        mass = target / target.numpy().sum()
        centroid = np.array([(mass * x).numpy().sum(), (mass * y).numpy().sum()])
        np.testing.assert_allclose(centroid, point, atol=1e-3)
        assert target.numpy().max() == pytest.approx(255.0, rel=1e-5)
        variance = (mass * (x - point[0]) ** 2).numpy().sum() / 4**2
        assert variance == pytest.approx(sigma**2, rel=1e-2)


def test_perfect_output_has_no_loss():
    _, labels = _outputs_and_labels()
    output = 255.0 * HeatmapCodec(IMAGE_SIZE, (8, 12), sigma=1.5).encode(labels['keypoints'])
    total, _ = heatmap_loss(
        [output], labels, LossConfig(target_scale=255.0, sigmas=(1.5,)), IMAGE_SIZE
    )
    assert float(total) == 0.0


def test_the_logarithm_of_a_target_plus_anything_has_no_cross_entropy_and_is_that_target():
    points = np.random.default_rng(0).uniform(24, 72, (4, 5, 2)).astype(np.float32)
    points[0, 0] = 0.5, 95.0  # at a corner, where three quarters of the target are outside
    config = LossConfig(kind='cross_entropy', target_scale=255.0, sigmas=(1.5,), ohkm=1.0)
    codec = HeatmapCodec((96, 96), (24, 24), sigma=1.5)
    target = 255.0 * codec.encode(points)
    anything = np.random.default_rng(1).uniform(0, 100, (4, 1, 1, 5)).astype(np.float32)
    output = tf.math.log(target + 1e-30) + anything
    labels = {'keypoints': points, 'visibility': np.ones((4, 5), np.int32)}
    total, _ = heatmap_loss([output], labels, config, (96, 96))
    assert float(total) == pytest.approx(0.0, abs=1e-5)
    maps = to_heatmaps(output, config).numpy()
    decoded, _ = codec.decode(maps)
    assert np.abs(decoded - points).max() / 4 < 1e-3  # cells
    assert 3 < maps[0, :, :, 0].max() / 255 < 4
    np.testing.assert_allclose(maps[1:], target[1:], rtol=1e-3, atol=1e-4)


def test_cross_entropy_of_a_sum_is_the_sum_along_both_axes():
    random = np.random.default_rng(0)
    columns, rows = random.normal(size=12), random.normal(size=8)
    target = HeatmapCodec(IMAGE_SIZE, (8, 12), sigma=1.5).encode([[[31.0, 2.0]]])[0, :, :, 0]
    marginals = target.numpy().sum(axis=0), target.numpy().sum(axis=1)
    along = sum(loss_oracles.divergence(o, t) for o, t in zip((columns, rows), marginals))
    output = (rows[:, None] + columns)[None, :, :, None]
    error = divergences(tf.constant(output, tf.float32), target[None, :, :, None], LossConfig())
    np.testing.assert_allclose(error, [[along]], rtol=1e-5)


@pytest.mark.parametrize(
    ('kind', 'size'),
    [('cross_entropy', 1e30), *itertools.product(KINDS, [0.0, 1e-30, 1e2, 1e15])],
)
def test_losses_and_their_gradients_are_finite_for_extreme_outputs(kind, size):
    outputs, labels = _outputs_and_labels(sizes=((8, 12),), kind=kind)
    output = tf.Variable(size * outputs[0])
    with tf.GradientTape() as tape:
        total, _ = heatmap_loss([output], labels, LossConfig(kind=kind), IMAGE_SIZE)
    gradient = tape.gradient(total, output).numpy()
    assert np.isfinite(float(total))
    assert np.isfinite(gradient).all()
    assert gradient.any()


def test_the_gradient_of_cross_entropy_is_softmax_minus_target():
    outputs, labels = _outputs_and_labels(sizes=((8, 12),))
    output = tf.Variable(outputs[0][:1, :, :, :1])
    target = HeatmapCodec(IMAGE_SIZE, (8, 12)).encode(labels['keypoints'])[:1, :, :, :1].numpy()
    with tf.GradientTape() as tape:
        error = divergences(output, target, LossConfig())
    probability = np.exp(output) / np.exp(output).sum()
    expected = probability - target / target.sum()
    np.testing.assert_allclose(tape.gradient(error, output), expected, atol=1e-6)


def test_heat_maps_of_a_squared_error_are_the_output():
    output = tf.constant(_outputs_and_labels()[0][0])
    assert to_heatmaps(output, LossConfig(target_scale=3.0)) is output


def test_heat_maps_of_mirrored_logits_are_the_mirrored_heat_maps():
    output = tf.constant(_outputs_and_labels()[0][1])
    config = LossConfig(kind='cross_entropy')
    permutation = [1, 0, 2, 4, 3]
    np.testing.assert_allclose(
        to_heatmaps(flip_heatmaps(output, permutation), config),
        flip_heatmaps(to_heatmaps(output, config), permutation),
        rtol=1e-5,
    )


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('points', ['visible', 'annotated'])
@pytest.mark.parametrize('absent', [np.nan, np.inf, -1.0, 1e30])
def test_points_that_do_not_count_have_no_part_in_loss_or_gradient(kind, points, absent):
    outputs, labels = _outputs_and_labels(kind=kind)
    counts = VISIBILITY == 1 if points == 'visible' else VISIBILITY >= 0
    outputs = [tf.Variable(output) for output in outputs]
    config = LossConfig(kind=kind, points=points, ohkm=1.0)
    poisoned = {**labels, 'keypoints': np.where(counts[..., None], labels['keypoints'], absent)}
    expected, _ = heatmap_loss(outputs, labels, config, IMAGE_SIZE)
    with tf.GradientTape() as tape:
        total, _ = heatmap_loss(outputs, poisoned, config, IMAGE_SIZE)
    assert float(total) == pytest.approx(float(expected), rel=1e-6)
    for gradient in tape.gradient(total, outputs):
        by_map = np.abs(gradient.numpy()).max(axis=(1, 2))
        by_point = by_map.reshape(len(by_map), -1, counts.shape[1]).max(axis=1)
        np.testing.assert_array_equal(by_point > 0, counts)


@pytest.mark.parametrize('kind', KINDS)
def test_a_batch_without_points_has_loss_and_gradient_zero(kind):
    outputs, labels = _outputs_and_labels(kind=kind)
    outputs = [tf.Variable(output) for output in outputs]
    empty = {
        'keypoints': np.full((4, 5, 2), np.nan, np.float32),
        'visibility': np.full((4, 5), -1, np.int32),
    }
    with tf.GradientTape() as tape:
        config = LossConfig(kind=kind, points='annotated')
        total, losses = heatmap_loss(outputs, empty, config, IMAGE_SIZE)
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
    kept = ohkm_mask(tf.constant(errors), tf.constant(counts), share).numpy()
    np.testing.assert_array_equal(kept.sum(axis=1), [0, *numbers])
    assert not kept[~counts].any()
    for b in range(1, 6):
        assert errors[b][kept[b]].min() >= errors[b][counts[b] & ~kept[b]].max(initial=0.0)


def test_hard_points_of_the_batch_are_its_largest_wherever_they_are():
    errors = np.array([[9, 8, 7], [1, 2, 3], [4, 5, 6]], np.float32)
    counts = np.array([[True, True, False], [True] * 3, [False, True, True]])
    kept = ohkm_mask(tf.constant(errors), tf.constant(counts), 0.5, 'batch').numpy()
    np.testing.assert_array_equal(kept, [[True, True, False], [False] * 3, [False, True, True]])


def test_hard_keypoints_are_those_of_largest_mean_error_with_all_their_points():
    errors = np.array([[9, 1, 5, 7], [1, 2, np.nan, 7], [1, 2, 4, 7]], np.float32)
    counts = np.array([[True, True, True, False], [True] * 2 + [False] * 2, [True] * 3 + [False]])
    # Means 11 / 3, 5 / 3 and 4.5; the last does not occur: two of three.
    kept = ohkm_mask(tf.constant(errors), tf.constant(counts), 0.5, 'keypoint').numpy()
    np.testing.assert_array_equal(kept, counts & [True, False, True, False])


@pytest.mark.parametrize('over', ['image', 'batch', 'keypoint'])
def test_no_points_have_no_hard_ones_and_nothing_flows_through_the_choice(over):
    errors = tf.Variable(np.ones((2, 5), np.float32))
    assert not ohkm_mask(errors, tf.zeros([2, 5], tf.bool), 0.5, over).numpy().any()
    with tf.GradientTape() as tape:
        total = mean_over(errors, ohkm_mask(errors, tf.ones([2, 5], tf.bool), 0.4, over))
    # Of equal errors the first are kept, as many as the share says.
    kept = {'image': [[1, 1, 0, 0, 0]] * 2, 'batch': [[1] * 4 + [0], [0] * 5]}
    expected = np.array(kept.get(over, kept['image'])) / 4
    np.testing.assert_allclose(tape.gradient(total, errors), expected)


def test_equal_errors_and_rounding_do_not_raise_the_number_of_hard_points():
    kept = ohkm_mask(tf.zeros([2, 25]), tf.ones([2, 25], tf.bool), 0.6)
    np.testing.assert_array_equal(tf.reduce_sum(tf.cast(kept, tf.int32), axis=1), [15, 15])


def test_mean_over_does_not_touch_what_is_left_out():
    errors, kept = tf.constant([[1.0, np.nan], [4.0, np.inf]]), [[True, False], [True, False]]
    assert float(mean_over(errors, tf.constant(kept))) == 2.5


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('dtype', [tf.bfloat16, tf.float16])
def test_half_precision_outputs_have_a_float32_loss(kind, dtype):
    outputs, labels = _outputs_and_labels(kind=kind, sizes=((8, 12),))
    rounded = tf.cast(100 * outputs[0], dtype)
    config = LossConfig(kind=kind, target_scale=255.0)
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
