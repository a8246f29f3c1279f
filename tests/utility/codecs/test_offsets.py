"""Offset maps: what a perfect output is, and that all ways of predicting get the points from it."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

import nets
from config import FUSIONS, AveragingConfig, DataConfig, Experiment, LossConfig, NetworkConfig
from nets.heads.attributes import AttributeLogits
from nets.network import Outputs
from preprocessing import geometry, training_data
from preprocessing.datasets.fashionai import SCHEMA
from tests.tiny_records import write_records
from utility.checkpoints import average
from utility.checkpoints.variables import variable_name
from utility.codecs.heatmaps import HeatmapCodec
from utility.codecs.offsets import offset_target
from utility.codecs.refinements import REFINEMENTS
from utility.losses.heatmap_loss import heatmap_loss, maps_per_point, to_heatmaps
from utility.predict import views_to_points
from utility.predict.views_to_points import PredictOptions

SIZE, CELLS, K = (64, 96), (16, 24), 3
PERMUTATION = [1, 0, 2]
CONFIG = LossConfig(kind='offset', sigmas=(1.5,), target_scale=2.0, ohkm=1.0)
CODEC = HeatmapCodec(SIZE, CELLS, sigma=1.5)


def _points(seed=0, count=4):
    return np.random.default_rng(seed).uniform(16, (80, 48), (count, K, 2)).astype(np.float32)


def test_a_perfect_output_is_the_gaussian_target_inside_of_the_disk():
    points = _points()
    output = offset_target(CODEC, points, CONFIG)
    assert output.shape == (4, *CELLS, 3 * K)
    gaussians = 2.0 * CODEC.encode(points).numpy()
    inside = output[..., :K].numpy() == 2.0
    maps = to_heatmaps(output, CONFIG).numpy()
    np.testing.assert_allclose(maps, np.where(inside, gaussians, 0.0), rtol=1e-4)
    # As many cells as a disk of 3.5 cells has area.
    assert abs(inside.sum(axis=(1, 2)).mean() - np.pi * 3.5**2) < 1.5
    labels = {'keypoints': points, 'visibility': np.ones((4, K), np.int32)}
    total, _ = heatmap_loss([output], labels, CONFIG, SIZE)
    assert float(total) == 0.0


def test_offsets_lead_from_the_center_of_a_cell_to_the_point():
    output = offset_target(CODEC, np.array([[[50.0, 30.0]]], np.float32), CONFIG)
    # The cell of row 7 and column 12 has its center at (50, 30); the next ones are 4 px away.
    np.testing.assert_allclose(output[0, 7, 12], [2, 0, 0], atol=1e-6)
    np.testing.assert_allclose(output[0, 7, 11], [2, 2 / 3.5, 0], rtol=1e-6)
    np.testing.assert_allclose(output[0, 9, 12], [2, 0, -4 / 3.5], rtol=1e-6)
    np.testing.assert_array_equal(output[0, 11, 12], [0, 0, 0])


@pytest.mark.parametrize('refine', sorted(set(REFINEMENTS.names()) - {'argmax', 'quarter'}))
def test_points_between_the_cells_come_back(refine):
    points = _points(1, 20)
    maps = to_heatmaps(offset_target(CODEC, points, CONFIG), CONFIG)
    decoded, scores = HeatmapCodec(SIZE, CELLS, refine=refine).decode(maps)
    tolerance = 0.3 if refine == 'centroid' else 0.01  # px; the disk is cut off at its cells
    assert np.abs(decoded - points).max() < tolerance
    assert 1.7 < scores.numpy().min() <= scores.numpy().max() <= 2.0


class _Perfect:
    """A network that knows the points: (images, training) -> outputs."""

    def __init__(self, points, mirrored):
        self.points = tf.concat([points, mirrored], axis=0)

    def __call__(self, images, training):
        maps = offset_target(CODEC, self.points[: tf.shape(images)[0]], CONFIG)
        return Outputs([maps], AttributeLogits())


@pytest.mark.parametrize('fuse', FUSIONS)
@pytest.mark.parametrize('flip_test', [False, True])
def test_prediction_fuses_mirrored_views(fuse, flip_test):
    points = _points(2)
    mirrored = np.stack([SIZE[1] - points[..., 0], points[..., 1]], axis=-1)[:, PERMUTATION]
    network = _Perfect(points, mirrored)
    options = PredictOptions(flip_test=flip_test, fuse=fuse)
    images = tf.zeros([4, 1, *SIZE, 3])
    maps, _ = views_to_points.look(network, images, PERMUTATION, CONFIG, options)
    assert maps.shape == (4, 1 + flip_test, *CELLS, K)
    to_view = tf.tile(geometry.scaling(0.5, 0.5)[None, None], [4, 1, 1, 1])
    found, scores = views_to_points.points_of_views(maps, to_view, CODEC, fuse)
    assert np.abs(found - 2 * points).max() < 0.02
    assert 0.85 < scores.numpy().min() <= scores.numpy().max() <= 1.0  # over the target scale


def test_a_head_gives_offset_maps_from_its_heat_map_layers():
    config = NetworkConfig('resnet18', 'cpn', SIZE, CELLS, {'width': 8}, {'channels': 16})
    with tf.Graph().as_default():
        network = nets.build_network(config, K * maps_per_point(CONFIG))
        outputs = network(tf.zeros([1, *SIZE, 3]), False)
        assert {tuple(o.shape) for o in outputs} == {(1, *CELLS, 3 * K)}
        dependent = [v.name for v in network.variables if 3 * K in v.shape]
    assert dependent
    assert all(name.startswith('head/heatmaps') for name in dependent)


def test_statistics_of_averaged_weights_are_those_of_the_network_with_all_maps(tmp_path):
    records_dir = write_records(tmp_path, {'train': {'skirt': 4}}, 32)
    experiment = Experiment(
        network=NetworkConfig('resnet18', 'dhn', (32, 32), (8, 8), {'width': 8}, {'channels': 8}),
        data=DataConfig(category='skirt', batch_size=2),
        loss=CONFIG,
        averaging=AveragingConfig('ema', statistics_batches=2),
    )
    with tf.Graph().as_default():
        num_maps = SCHEMA.subset('skirt').num_keypoints * maps_per_point(CONFIG)
        network = nets.build_network(experiment.network, num_maps)
        network(tf.zeros([1, 32, 32, 3]), False)
        weights = {variable_name(v): np.ones(v.shape, np.float32) for v in network.variables}
    input_fn = training_data.input_fn(experiment, SCHEMA.subset('skirt'), records_dir, 0)
    found = average.with_statistics(weights, experiment, input_fn)
    assert found['head/heatmaps/bias'].shape == (12,)
    assert np.all(found['backbone/conv1/norm/moving_mean'] != 1)
