"""Which outputs of a network become points, views fused to points, and the flags that say so."""

from __future__ import annotations

import types

import numpy as np
import pytest
import tensorflow as tf

from config import FUSIONS, Experiment, LossConfig
from nets.heads.attributes import AttributeLogits
from nets.network import Outputs
from preprocessing import geometry
from preprocessing.datasets.fashionai import SCHEMA
from utility.checkpoints.choice import CheckpointChoice
from utility.codecs.heatmaps import HeatmapCodec
from utility.predict import flags as prediction_flags
from utility.predict import views_to_points
from utility.predict.model_fn import PredictTask
from utility.predict.test_time_augmentation import ViewOptions
from utility.predict.views_to_points import PredictOptions

LOSS = LossConfig(target_scale=4.0)
IMAGES = tf.zeros([1, 8, 8, 3])
# Of three outputs, coarse to final.
MAPS = [tf.random.stateless_uniform([1, 4, 4, 2], [seed, 0]) for seed in range(3)]
CODEC = HeatmapCodec((96, 128), (24, 32), refine='gaussian')
POINTS = np.array([[[50.3, 41.7], [81.2, 60.9], [64.0, 30.5]]], np.float32)  # px of the first view
PERMUTATION = (1, 0, 2)


def _three_outputs(images, training):
    assert not training
    return Outputs(MAPS, AttributeLogits())


@pytest.mark.parametrize(
    ('weights', 'expected'),
    [
        ((), MAPS[2]),
        ((1.0,), (MAPS[0] + MAPS[1] + MAPS[2]) / 3),
        ((0.0, 0.5, 2.0), (MAPS[1] + 4 * MAPS[2]) / 5),
        ((3.0, 1.0), (3 * MAPS[0] + MAPS[1] + MAPS[2]) / 5),  # the last is repeated
    ],
)
def test_the_last_output_or_a_weighted_mean_is_taken(weights, expected):
    maps = views_to_points.network_heatmaps(MAPS, LOSS, weights)
    np.testing.assert_allclose(maps, expected / LOSS.target_scale, rtol=1e-5)


def test_options_reach_the_network_and_the_codec():
    options = PredictOptions(outputs=(1.0,), smoothing=1.5)
    views = IMAGES[:, tf.newaxis]
    maps, told = views_to_points.look(_three_outputs, views, (1, 0), LOSS, options)
    np.testing.assert_allclose(maps[:, 0], sum(MAPS) / 3 / LOSS.target_scale, rtol=1e-5)
    assert not told
    task = PredictTask(Experiment(refine='quarter'), SCHEMA, options=options)
    assert (task.codec.refine, task.codec.smoothing) == ('quarter', 1.5)


def test_more_weights_than_outputs_are_refused():
    with pytest.raises(ValueError, match=r'outputs=.*must have at most 3 entries'):
        views_to_points.network_heatmaps(MAPS, LOSS, (1.0,) * 4)


def test_what_is_told_of_views_is_their_mean_and_mirrored_points_change_places():
    """The second half of the batch are the mirrored looks."""
    rng = np.random.default_rng(0)
    presence = rng.normal(size=[4, 3, 3]).astype(np.float32)
    category = rng.normal(size=[4, 2]).astype(np.float32)

    def outputs_of(images, training):
        assert images.shape[0] == 4 and not training
        maps = [tf.zeros([4, 4, 4, 3])]
        return Outputs(maps, AttributeLogits(tf.constant(category), tf.constant(presence)))

    images = tf.zeros([1, 2, 8, 8, 3])  # two views
    _, told = views_to_points.look(
        outputs_of, images, PERMUTATION, LOSS, PredictOptions(flip_test=True)
    )
    shares = np.exp(presence) / np.exp(presence).sum(-1, keepdims=True)
    expected = (shares[0] + shares[1] + shares[2, PERMUTATION] + shares[3, PERMUTATION]) / 4
    np.testing.assert_allclose(told['presence'][0], expected, rtol=1e-5)
    shares = np.exp(category) / np.exp(category).sum(-1, keepdims=True)
    np.testing.assert_allclose(told['category_probabilities'][0], shares.mean(0), rtol=1e-5)


class _Perfect:
    """A network that knows where the points are in each view and in its mirror image."""

    def __init__(self, to_views):
        plain = [geometry.transform_points(tf.constant(POINTS), matrix) for matrix in to_views]
        width = CODEC.image_size[1]
        mirrored = [np.stack([width - p[..., 0], p[..., 1]], -1)[:, PERMUTATION] for p in plain]
        self.points = tf.concat([*plain, *mirrored], axis=0)

    def __call__(self, images, training):
        return Outputs([CODEC.encode(self.points)], AttributeLogits())


@pytest.mark.parametrize('fuse', FUSIONS)
def test_every_fusion_brings_the_points_of_all_views_to_one_frame(fuse):
    """Of views alone and mirrored; a picture that is turned gives the points turned with it."""
    center = tf.constant([64.0, 48.0])
    to_views = [
        tf.eye(3),
        geometry.rotation(12, center),
        geometry.about(geometry.scaling(1.15, 1.15), center),
        geometry.translation(5.3, -3.1),
    ]
    options = PredictOptions(flip_test=True, fuse=fuse)
    images = tf.zeros([1, len(to_views), *CODEC.image_size, 3])
    maps, _ = views_to_points.look(_Perfect(to_views), images, PERMUTATION, LOSS, options)
    # The original is the first view, turned: what is found is in its px.
    to_first = geometry.rotation(30, center) @ geometry.scaling(0.5, 0.5)
    to_view = tf.stack([matrix @ to_first for matrix in to_views])[tf.newaxis]
    found, _ = views_to_points.points_of_views(maps, to_view, CODEC, fuse)
    expected = geometry.transform_points(tf.constant(POINTS), tf.linalg.inv(to_first))
    cell = 2 * CODEC.stride[0]  # original px
    tolerance = {'heatmaps': 0.05, 'keypoints': 0.005}[fuse]  # maps are resampled
    assert np.abs(found - expected).max() < tolerance * cell


class _Flags(types.SimpleNamespace):
    """Parsed flags."""

    def __contains__(self, name):
        return hasattr(self, name)

    def __getitem__(self, name):
        return types.SimpleNamespace(value=getattr(self, name))


DEFAULTS = {
    'flip_test': False, 'passes': 1, 'refine': None, 'batch_size': 16, 'scales': '1',
    'rotations': '0', 'num_crops': 0, 'fuse': 'heatmaps', 'outputs': 'last', 'smoothing': 0.0,
    'checkpoint': 'best', 'average_last': 0, 'average_best': 0, 'statistics_from': None,
    'precision': 'float32', 'xla': False, 'use_predicted_category': False,
}  # fmt: skip


@pytest.mark.parametrize(
    ('flags', 'fields'),
    [
        ({}, {}),
        ({'flip_test': True, 'passes': 2, 'refine': 'dark'},) * 2,
        ({'smoothing': 1.5, 'fuse': 'keypoints', 'batch_size': 3},) * 2,
        ({'outputs': 'all'}, {'outputs': (1.0,)}),
        ({'use_predicted_category': True},) * 2,
        ({'outputs': '0.2,0.3,1'}, {'outputs': (0.2, 0.3, 1.0)}),
        (
            {'scales': '0.9,1', 'rotations': '-10,0', 'num_crops': 4},
            {'views': ViewOptions((0.9, 1.0), (-10.0, 0.0), 4)},
        ),
        (
            {'average_last': 2, 'statistics_from': 'r'},
            {'checkpoint': CheckpointChoice(average_last=2, data_dir='r')},
        ),
    ],
)
def test_each_flag_has_its_option(flags, fields):
    assert prediction_flags.options(_Flags(**{**DEFAULTS, **flags})) == PredictOptions(**fields)


@pytest.mark.parametrize('split_dirs', ['{}/val', ['{}/val', 'elsewhere/val'], ['{}/train']])
def test_training_pictures_are_those_beside_the_split(tmp_path, split_dirs):
    (tmp_path / 'train').mkdir()
    one = isinstance(split_dirs, str)
    given = split_dirs.format(tmp_path) if one else [path.format(tmp_path) for path in split_dirs]
    options = prediction_flags.options(_Flags(**DEFAULTS, data_dir=given))
    assert options.checkpoint.data_dir == str(tmp_path)
    (tmp_path / 'train').rmdir()
    options = prediction_flags.options(_Flags(**DEFAULTS, data_dir=given))
    assert options.checkpoint.data_dir is None
