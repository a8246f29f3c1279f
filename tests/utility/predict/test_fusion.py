"""Several networks as one: heat maps or points averaged, in step, with nothing held."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from config import DataConfig, Experiment, NetworkConfig
from preprocessing.datasets.fashionai import SCHEMA
from utility.codecs.heatmaps import HeatmapCodec
from utility.predict import fusion
from utility.predict.fusion import TrainedNetwork
from utility.predict.views_to_points import PredictOptions

SIZE = (64, 48)
NUM_PICTURES = 5
TO_CROP = np.float32([[0.5, 0, 3], [0, 0.5, 5], [0, 0, 1]])
SKIRT = list(SCHEMA.indices('skirt'))


def _network(category='all', image_size=SIZE, heatmap_size=(16, 12), **data):
    network = NetworkConfig(image_size=image_size, heatmap_size=heatmap_size)
    experiment = Experiment(network, DataConfig(category=category, **data))
    schema = SCHEMA.subset(category)
    return TrainedNetwork(f'run/{category}', 'model.ckpt-1', experiment, SCHEMA, schema)


def _points():
    """Return float32 [N, K, 2], px of the crop, of all keypoints."""
    random = np.random.default_rng(0)
    return random.uniform(12, 36, (NUM_PICTURES, SCHEMA.num_keypoints, 2)).astype(np.float32)


def _row(i, **values):
    return {
        'image_id': b'%d.jpg' % i,
        'category': b'skirt',
        'image_size': np.int32([100, 80]),
        **values,
    }


def _heatmap_rows(network, points, scale=1.0):
    codec = HeatmapCodec(SIZE, (16, 12))
    maps = scale * codec.encode(points[:, network.columns]).numpy()
    return lambda: (_row(i, heatmaps=m, to_crop=TO_CROP) for i, m in enumerate(maps))


def _original(points):
    return (points - TO_CROP[:2, 2]) / 0.5


def test_mean_heat_maps_of_two_networks_have_their_peak_between_them():
    networks = [_network('all'), _network('skirt')]
    first = _points()
    sources = [_heatmap_rows(networks[0], first), _heatmap_rows(networks[1], first + 2)]
    rows = list(fusion.together(sources, networks, PredictOptions(batch_size=2)))
    assert [row['image_id'] for row in rows] == [b'%d.jpg' % i for i in range(NUM_PICTURES)]
    found = np.stack([row['keypoints'] for row in rows])
    np.testing.assert_allclose(found[:, SKIRT], _original(first + 1)[:, SKIRT], atol=0.3)
    others = np.setdiff1d(np.arange(SCHEMA.num_keypoints), SKIRT)
    assert not found[:, others].any()
    scores = np.stack([row['scores'] for row in rows])
    assert scores[:, SKIRT].min() > 0.7


def test_mean_heat_maps_are_smoothed_before_they_are_decoded():
    network, points = _network('skirt'), _points()
    maps = HeatmapCodec(SIZE, (16, 12)).encode(points[:, network.columns]).numpy()
    maps[:, 1, 1] = 1.5  # one cell alone, higher than the points

    def source():
        return (_row(i, heatmaps=m, to_crop=TO_CROP) for i, m in enumerate(maps))

    def errors(smoothing):
        options = PredictOptions(smoothing=smoothing)
        rows = fusion.together([source] * 2, [network] * 2, options)
        found = np.stack([row['keypoints'] for row in rows])
        return np.linalg.norm(found - _original(points), axis=-1)[:, SKIRT]

    assert errors(0.0).min() > 10
    assert errors(2.0).max() < 4


def test_a_sure_network_pulls_harder_than_a_doubtful_one():
    networks = [_network(), _network()]
    first = _points()
    sources = [_heatmap_rows(networks[0], first, 0.9), _heatmap_rows(networks[1], first + 2, 0.1)]
    rows = list(fusion.together(sources, networks, PredictOptions()))
    moved = np.stack([row['keypoints'] for row in rows]) - _original(first)
    assert 0 < moved.mean() < 0.8  # of 4 px


def test_points_are_averaged_by_their_scores():
    networks = [_network('all'), _network('skirt')]
    points = _points()

    def source(network, offset, score):
        own = points[:, network.columns] + offset
        scores = np.full(own.shape[1], score, np.float32)
        return lambda: (_row(i, keypoints=k, scores=scores) for i, k in enumerate(own))

    sources = [source(networks[0], 0, 0.9), source(networks[1], 4, 0.3)]
    rows = list(fusion.together(sources, networks, PredictOptions(fuse='keypoints')))
    found = np.stack([row['keypoints'] for row in rows])
    np.testing.assert_allclose(found[:, SKIRT], points[:, SKIRT] + 1, atol=1e-4)


def test_heat_maps_are_averaged_in_the_finest_size():
    networks = [_network(), _network(image_size=(128, 96), heatmap_size=(32, 24))]
    assert fusion.common_heatmap_size(networks) == (32, 24)


@pytest.mark.parametrize(
    ('fields', 'message'),
    [
        ({'image_size': (64, 64)}, r"pictures of \(64, 64\) have other proportions.*fuse='key"),
        ({'eval_ops': 'letterbox(64,48)|warp(0)'}, "data.eval_ops=.*fuse='keypoints'"),
    ],
)
def test_networks_that_see_different_parts_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        fusion.common_heatmap_size([_network(), _network(**fields)])


def test_a_failure_of_one_network_is_told():
    def broken():
        yield _row(0, keypoints=np.zeros((24, 2)), scores=np.ones(24))
        raise ValueError('no such record')

    endless = lambda: (  # noqa: E731
        _row(i, keypoints=np.zeros((24, 2)), scores=np.ones(24)) for i in itertools.count()
    )
    networks, options = [_network(), _network()], PredictOptions(fuse='keypoints', batch_size=1)
    with pytest.raises(ValueError, match='no such record'):
        list(fusion.together([broken, endless], networks, options))


def test_a_network_is_never_far_ahead_of_the_others():
    started = []

    def source(number):
        def rows():
            for i in range(500):
                started.append(number)
                yield _row(i, keypoints=np.zeros((24, 2)), scores=np.ones(24))

        return rows

    networks, options = [_network(), _network()], PredictOptions(fuse='keypoints', batch_size=4)
    rows = fusion.together([source(0), source(1)], networks, options)
    for _ in range(8):
        next(rows)
    assert len(started) < 2 * (8 + 4 + 40)
    rows.close()
