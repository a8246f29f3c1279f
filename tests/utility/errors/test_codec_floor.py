"""What networks see of true points and make of them, against NumPy and against the input_fn."""

from __future__ import annotations

import numpy as np
import pytest

from config import DataConfig, Experiment, LossConfig, NetworkConfig
from preprocessing import make_input_fn, records
from preprocessing.datasets import Annotation
from preprocessing.datasets.fashionai import SCHEMA
from tests.tiny_checkpoints import write_network
from tests.tiny_records import write_records
from utility.errors import codec_floor
from utility.metrics.annotations import annotations_of
from utility.predict import fusion, predictor
from utility.predict.views_to_points import PredictOptions

SIZE = 48  # px
COUNTS = {'trousers': 3, 'blouse': 2}


@pytest.fixture
def split(tmp_path):
    return write_records(tmp_path / 'records', {'val': COUNTS}, SIZE) + '/val'


def _run(folder, side=32, cells=8, refine='argmax', category='all', sigma=1.5):
    """Return the folder of a network that looks at `side` x `side` px."""
    network = NetworkConfig(image_size=(side, side), heatmap_size=(cells, cells))
    data, loss = DataConfig(category=category), LossConfig(sigmas=(sigma,))
    experiment = Experiment(network, data, loss, refine=refine)
    write_network(folder / category, experiment)
    return str(folder)


def _centers(points, cell, origin=0.0):
    return (np.floor((points - origin) / cell) + 0.5) * cell + origin


def test_argmax_takes_points_to_the_centers_of_cells(split, tmp_path):
    annotations = annotations_of(split, SCHEMA)
    run = _run(tmp_path / 'run')
    evidence = codec_floor.evidence_of([run], split, annotations, PredictOptions())
    annotated = annotations.visibility == 1
    expected = _centers(annotations.keypoints, SIZE / 8)
    np.testing.assert_allclose(evidence.decoded[annotated], expected[annotated], atol=1e-3)
    assert evidence.in_view is None


def test_a_refinement_and_the_networks_of_categories_are_followed(split, tmp_path):
    annotations = annotations_of(split, SCHEMA)
    folder = tmp_path / 'run'
    _run(folder)
    run = _run(folder, side=64, cells=16, category='trousers')
    annotated = (annotations.visibility == 1) & (annotations.categories == 'trousers')[
        :, np.newaxis
    ]
    evidence = codec_floor.evidence_of([run], split, annotations, PredictOptions())
    expected = _centers(annotations.keypoints, SIZE / 16)
    np.testing.assert_allclose(evidence.decoded[annotated], expected[annotated], atol=1e-3)
    dark = codec_floor.evidence_of([run], split, annotations, PredictOptions(refine='dark'))
    errors = np.abs(dark.decoded - annotations.keypoints)[annotated]
    assert (
        np.median(errors)
        < 0.05
        < np.median(np.abs(evidence.decoded - annotations.keypoints)[annotated])
    )


def test_second_passes_have_the_cells_of_their_boxes(split, tmp_path):
    annotations = annotations_of(split, SCHEMA)
    boxes = np.tile(np.float32([12, 12, 36, 36]), [len(annotations.lines), 1])
    run = _run(tmp_path / 'run')
    evidence = codec_floor.evidence_of([run], split, annotations, PredictOptions(), boxes)
    low, high = 12 - 0.15 * 24, 36 + 0.15 * 24  # crop_box leaves room around the box
    annotated = annotations.visibility == 1
    in_view = ((annotations.keypoints >= low - 1) & (annotations.keypoints <= high + 1)).all(-1)
    np.testing.assert_array_equal(evidence.in_view[annotated], in_view[annotated])
    assert in_view[annotated].any() and not in_view[annotated].all()
    inside = ((annotations.keypoints > low) & (annotations.keypoints < high)).all(-1) & annotated
    expected = _centers(annotations.keypoints, (high - low) / 8, low)
    np.testing.assert_allclose(evidence.decoded[inside], expected[inside], atol=1e-3)


@pytest.mark.parametrize('fuse', ['heatmaps', 'keypoints'])
def test_several_networks_average_maps_of_the_finest_size_or_points(split, tmp_path, fuse):
    annotations = annotations_of(split, SCHEMA)
    runs = [_run(tmp_path / 'a'), _run(tmp_path / 'b', side=64, cells=16)]
    evidence = codec_floor.evidence_of(runs, split, annotations, PredictOptions(fuse=fuse))
    coarse, fine = (_centers(annotations.keypoints, SIZE / cells) for cells in (8, 16))
    expected = fine if fuse == 'heatmaps' else (coarse + fine) / 2
    annotated = annotations.visibility == 1
    np.testing.assert_allclose(evidence.decoded[annotated], expected[annotated], atol=1e-3)


@pytest.mark.parametrize('passes', [1, 2])
def test_the_frames_are_those_that_the_network_is_fed(split, tmp_path, passes):
    network = fusion.load_network(_run(tmp_path / 'run') + '/all', PredictOptions())
    random = np.random.default_rng(0)
    boxes = np.sort(random.uniform(0, SIZE, (3, 2, 2)), axis=1).reshape(3, 4)
    boxes = None if passes == 1 else boxes.astype(np.float32)
    ops = predictor.pass_ops(network.experiment, is_second=passes == 2)
    files = records.split_patterns(split, 'trousers')
    fed = make_input_fn(files, SCHEMA, ops, 8, training=False, boxes=boxes)
    (features, _), *_ = fed().as_numpy_iterator()
    matrices = codec_floor.crop_matrices(network, files, boxes)
    np.testing.assert_array_equal(matrices, features['to_crop'])


def test_no_picture_is_decoded(split, tmp_path):
    network = fusion.load_network(_run(tmp_path / 'run') + '/all', PredictOptions())
    path = str(tmp_path / 'skirt-00000-of-00001.tfrecord')
    nowhere, absent = np.zeros((SCHEMA.num_keypoints, 2)), np.full(SCHEMA.num_keypoints, -1)
    annotation = Annotation('a', 'a', 'skirt', nowhere, absent)
    with records.shard_writer(path) as write:
        write(records.encode_example(b'not a picture', annotation, (SIZE, SIZE)))
    matrix = [[32 / SIZE, 0, 0], [0, 32 / SIZE, 0], [0, 0, 1]]
    np.testing.assert_allclose(codec_floor.crop_matrices(network, [path]), [matrix], atol=1e-6)
