"""From networks to points of a split: which rows belong to which pictures, and second looks."""

from __future__ import annotations

import dataclasses
import json
import os

import numpy as np
import pytest
import tensorflow as tf

import eval_metrics
from config import DataConfig, Experiment, NetworkConfig
from nets import build_network
from preprocessing.conversion.images import DecodedImage
from preprocessing.datasets.fashionai import SCHEMA
from preprocessing.records import first_examples
from tests.tiny_checkpoints import write_network
from tests.tiny_records import write_records
from tests.tiny_runs import score_model
from utility.checkpoints import snapshots
from utility.checkpoints.choice import CheckpointChoice
from utility.checkpoints.variables import variable_name
from utility.metrics.annotations import annotations_of
from utility.predict import predictor
from utility.predict.predictor import confident_box
from utility.predict.views_to_points import PredictOptions

SIZE = 48  # px
COUNTS = {'trousers': 3, 'blouse': 2, 'skirt': 5, 'dress': 0}


class _Oracle:
    """An Estimator that sees the labels. Scores tell the length of its folder's name."""

    seen: list[np.ndarray] = []
    configs: list = []

    def __init__(self, model_fn, model_dir, config):
        self.config = config
        self.configs.append(config)
        self.score = len(model_dir.rsplit('/', 1)[1])

    def predict(self, input_fn, hooks, checkpoint_path):
        for features, labels in input_fn():
            to_original = np.linalg.inv(features['to_crop'].numpy()[:, 0])  # the first view
            self.seen.append(labels['keypoints'].numpy())
            for row, matrix in enumerate(to_original):
                points = labels['keypoints'][row].numpy()
                yield {
                    'image_id': features['image_id'][row].numpy(),
                    'category': features['category'][row].numpy(),
                    'image_size': features['image_size'][row].numpy(),
                    'keypoints': points @ matrix[:2, :2].T + matrix[:2, 2],
                    'scores': np.full(len(points), self.score, np.float32),
                }


@pytest.fixture
def run_dir(tmp_path, monkeypatch):
    """A run with a network for all categories and one for skirts, both of them oracles."""
    assert tf.estimator.Estimator  # loads lazily, and would load over what is put in its place
    monkeypatch.setattr(tf.estimator, 'Estimator', _Oracle)
    monkeypatch.setattr(_Oracle, 'seen', [])
    monkeypatch.setattr(_Oracle, 'configs', [])
    for category in ('all', 'skirt'):
        network = NetworkConfig(image_size=(32, 32), heatmap_size=(8, 8))
        experiment = Experiment(network, DataConfig(category=category))
        write_network(tmp_path / 'run' / category, experiment)
    return str(tmp_path / 'run')


@pytest.fixture
def records_dir(tmp_path):
    splits = {'val': COUNTS, 'train': {'skirt': 1, 'trousers': 1, 'blouse': 1}, 'test_0': COUNTS}
    return write_records(tmp_path / 'records', splits, SIZE)


def test_predictions_of_several_networks_stand_in_the_order_of_the_annotations(
    run_dir, records_dir
):
    split = f'{records_dir}/val'
    predicted = predictor.predict_split([run_dir], split, PredictOptions(batch_size=2))
    answers = annotations_of(split, SCHEMA)
    expected = [f'{c}/{i}.jpg' for c in ('blouse', 'skirt', 'trousers') for i in range(COUNTS[c])]
    assert predicted.image_ids.tolist() == answers.image_ids.tolist() == expected
    np.testing.assert_array_equal(predicted.categories, answers.categories)
    np.testing.assert_array_equal(predicted.image_sizes, answers.image_sizes)
    np.testing.assert_array_equal(predicted.visibility, answers.visibility)
    own = answers.visibility == 1
    np.testing.assert_allclose(predicted.keypoints[own], answers.keypoints[own], atol=1e-3)
    # 'skirt' has five letters, 'all' three.
    scores = np.where(predicted.categories == 'skirt', 5, 3)
    np.testing.assert_array_equal(predicted.scores[own], np.repeat(scores, own.sum(axis=1)))


@pytest.mark.parametrize(
    'jobs', [{'worker': ['x:1', 'y:1']}, {'chief': ['x:1'], 'worker': ['y:1']}], ids=str
)
def test_a_cluster_that_the_environment_names_is_not_joined(
    run_dir, records_dir, monkeypatch, jobs
):
    """Without a chief the Estimator would refuse it, with one it would wait for the others."""
    task = {'type': sorted(jobs)[0], 'index': 0}
    monkeypatch.setenv('TF_CONFIG', json.dumps({'cluster': jobs, 'task': task}))
    predictor.predict_split([run_dir], f'{records_dir}/test_0', PredictOptions())
    assert [bool(config.cluster_spec) for config in _Oracle.configs] == [False, False]
    assert 'TF_CONFIG' in os.environ


def test_perfect_predictions_score_nothing_and_beat_the_baseline(run_dir, records_dir):
    split = f'{records_dir}/val'
    score = score_model(split, [run_dir], PredictOptions(batch_size=2))
    assert score.normalized_error < 1e-4
    assert score.points == sum(n * len(SCHEMA.indices(c)) for c, n in COUNTS.items())
    assert eval_metrics.score_baseline(split, run_dir).normalized_error > 0.1


def test_pictures_keep_the_order_they_are_given_in(run_dir, records_dir):
    examples = first_examples(f'{records_dir}/val', SCHEMA, 8)
    categories = [example['category'].decode() for example in examples]
    assert len(set(categories[:3])) == 3 and categories != sorted(categories)
    ids = [f'{i}.jpg' for i in range(8)]
    pictures = [DecodedImage(e['encoded'], (SIZE, SIZE), ()) for e in examples]
    predicted = predictor.predict_images([run_dir], ids, pictures, categories, PredictOptions())
    assert predicted.image_ids.tolist() == ids
    assert predicted.categories.tolist() == categories
    for row, category in enumerate(categories):
        own = list(SCHEMA.indices(category))
        assert (predicted.scores[row, own] == (5 if category == 'skirt' else 3)).all()
        assert np.flatnonzero(predicted.visibility[row] == 1).tolist() == own


def test_the_second_pass_looks_at_the_box_around_the_points_of_each_picture(run_dir, records_dir):
    split = f'{records_dir}/val'
    once = predictor.predict_split([run_dir], split, PredictOptions())
    _Oracle.seen.clear()
    twice = predictor.predict_split([run_dir], split, PredictOptions(passes=2))
    own = once.visibility == 1
    np.testing.assert_allclose(twice.keypoints[own], once.keypoints[own], atol=1e-3)
    first, second = _Oracle.seen[:2]  # of one network
    assert first.shape == second.shape
    assert not np.allclose(first, second)
    present = (first != first.min()).all(-1)
    assert ((second[present] > 0) & (second[present] < 32)).all()


def test_a_path_cannot_be_the_checkpoint_of_several_networks(run_dir, records_dir):
    options = PredictOptions(checkpoint=CheckpointChoice(f'{run_dir}/all/model.ckpt-1'))
    with pytest.raises(ValueError, match='is a path, of one network, but there are .*all, .*skirt'):
        predictor.predict_split([run_dir], f'{records_dir}/val', options)
    predictor.predict_split([f'{run_dir}/all'], f'{records_dir}/val', options)


@pytest.mark.parametrize(('split', 'warned'), [('val', True), ('test_0', False)])
def test_weights_that_were_chosen_on_the_split_that_is_scored_are_told(
    run_dir, records_dir, caplog, split, warned
):
    for category in ('all', 'skirt'):
        snapshots.replace(f'{run_dir}/{category}/best', 1, {})
    predictor.predict_split([run_dir], f'{records_dir}/{split}', PredictOptions())
    assert ('were chosen by their scores on' in caplog.text) == warned
    caplog.clear()
    last = PredictOptions(checkpoint=CheckpointChoice('last'))
    predictor.predict_split([run_dir], f'{records_dir}/{split}', last)
    assert 'were chosen' not in caplog.text


@pytest.mark.parametrize(('more', 'message'), [(1, '5 records, but 6'), (-1, '5 records, but 4')])
def test_another_number_of_records_than_expected_is_told(
    run_dir, records_dir, tmp_path, more, message
):
    path = tmp_path / 'records' / 'dataset.json'
    info = json.loads(path.read_text())
    info['splits']['test_0']['records']['blouse'] += more
    path.write_text(json.dumps(info))
    with pytest.raises(ValueError, match=f'{message} by dataset.json'):
        predictor.predict_split([run_dir], f'{records_dir}/test_0', PredictOptions())


def _initial_weights(config):
    """Return name -> tensor of a network as it is initialized."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        network = build_network(config, SCHEMA.num_keypoints)
        network(tf.zeros([1, *config.image_size, 3]), False)
        session.run(tf.compat.v1.global_variables_initializer())
        return session.run({variable_name(v): v for v in network.variables})


def test_weights_of_another_width_are_refused(records_dir, tmp_path):
    network = NetworkConfig('resnet18', 'dhn', (32, 32), (8, 8), {'width': 4}, {'channels': 4})
    weights = _initial_weights(network)
    for name in ('right', 'edited'):
        write_network(tmp_path / name, Experiment(network), trained=False)
        best = snapshots.replace(str(tmp_path / name / 'best'), 1, weights)
    run_dirs = [str(tmp_path / 'right'), str(tmp_path / 'edited')]
    split = f'{records_dir}/train'
    found = predictor.predict_split(run_dirs, split, PredictOptions())
    assert len(found.image_ids) == 3
    other = dataclasses.replace(network, backbone_options={'width': 2})
    (tmp_path / 'edited' / 'experiment.json').write_text(Experiment(other).to_json())
    told = rf"'{best}' holds .*: backbone/\S+ is \[.*2\] in this one, but \[.*4\] in the checkpoint"
    with pytest.raises(ValueError, match=told):
        predictor.predict_split(run_dirs, split, PredictOptions())


def test_only_labelled_splits_have_annotations(records_dir):
    with pytest.raises(ValueError, match='test_0.*not a labelled split'):
        annotations_of(f'{records_dir}/test_0', SCHEMA)
    with pytest.raises(ValueError, match='nowhere.*not a labelled split'):
        annotations_of(f'{records_dir}/nowhere/', SCHEMA)


def test_categories_without_records_need_no_network(records_dir):
    assert predictor.categories_of(f'{records_dir}/val') == {'trousers': 3, 'blouse': 2, 'skirt': 5}


def test_an_empty_split_is_told(tmp_path):
    records_dir = write_records(tmp_path / 'records', {'test_0': {'skirt': 0}}, SIZE)
    with pytest.raises(ValueError, match='holds no records'):
        predictor.categories_of(f'{records_dir}/test_0')


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'passes': 3}, 'passes=3: must be 1 or 2'),
        ({'passes': 0}, 'passes=0: must be 1 or 2'),
        ({'refine': 'darc'}, "unknown refine mode 'darc'.*did you mean 'dark'"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        PredictOptions(**options)


POINTS = np.array([[10, 20], [30, 5], [90, 95], [50, 60], [0, 0]], np.float32)
VISIBILITY = np.array([1, 1, 1, 1, -1])


def test_the_box_leaves_out_doubtful_points_and_those_of_other_categories():
    box = confident_box(POINTS, np.array([0.8, 1.0, 0.3, 0.7, 9.0]), VISIBILITY)
    assert box.dtype == np.float32
    np.testing.assert_array_equal(box, [10, 5, 50, 60])


def test_a_point_of_half_the_median_score_is_confident():
    np.testing.assert_array_equal(
        confident_box(POINTS, np.array([0.8, 0.8, 0.4, 0.8, 0.0]), VISIBILITY), [10, 5, 90, 95]
    )


@pytest.mark.parametrize('scores', [[-1.0] * 5, [-3, -2, -1, -4, 0], [0.0] * 5])
def test_scores_below_zero_make_a_box_too(scores):
    x_min, y_min, x_max, y_max = confident_box(POINTS, np.array(scores), VISIBILITY)
    assert x_max > x_min and y_max > y_min


def test_a_picture_without_points_has_an_empty_box():
    box = confident_box(POINTS, np.ones(5), np.full(5, -1))
    np.testing.assert_array_equal(box, np.zeros(4))


def test_one_wild_point_does_not_shape_the_box():
    points = np.array([[100, 100], [200, 110], [105, 220], [190, 215], [150, 105]], np.float32)
    expected = [100, 100, 200, 220]
    np.testing.assert_allclose(confident_box(points, np.ones(5), np.ones(5)), expected)
    wild = np.concatenate([points, [[480, 400]]]).astype(np.float32)
    scores = np.array([0.9, 0.9, 0.8, 0.8, 0.9, 0.7])
    np.testing.assert_allclose(confident_box(wild, scores, np.ones(6)), expected)
    # Surer than most of the others it may well be right.
    sure = np.array([0.9, 0.9, 0.8, 0.8, 0.9, 1.0])
    np.testing.assert_allclose(confident_box(wild, sure, np.ones(6)), [100, 100, 480, 400])
    # A leg that is stretched out is two points.
    leg = np.concatenate([wild, [[470, 420]]]).astype(np.float32)
    box = confident_box(leg, np.append(scores, 0.7), np.ones(7))
    np.testing.assert_allclose(box, [100, 100, 480, 420])
