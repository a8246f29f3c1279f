"""Category and presence from a run: pixels alone tell them, and what is done with them."""

from __future__ import annotations

import csv
import dataclasses
import io
import json

import numpy as np
import pytest
import tensorflow as tf

import eval_metrics
from config import LossConfig, UserError
from preprocessing.conversion.images import DecodedImage
from preprocessing.datasets.fashionai import SCHEMA
from tests.commands import call
from tests.tiny_records import write_records
from tests.tiny_runs import score_model, smooth_image, write_run
from utility.metrics import attributes, normalized_error
from utility.predict import load, predictor, probabilities
from utility.predict.views_to_points import PredictOptions
from utility.statistics.reliability import GroupScalings, Scaling

NAMES = list(SCHEMA.categories)
BOTH = LossConfig(category_weight=0.1, presence_weight=0.1)
SIZE = 64


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp('run') / 'all', loss=BOTH)


@pytest.fixture(scope='module')
def pictures():
    colors = [(1, 1, 1), (1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, 0)]
    images = [smooth_image(SIZE, SIZE, n) * np.uint8(color) for n, color in enumerate(colors)]
    return [DecodedImage(tf.io.encode_jpeg(i).numpy(), (SIZE, SIZE), ()) for i in images]


def _predict(run, pictures, categories, **options):
    ids = [str(number) for number in range(len(pictures))]
    return predictor.predict_images([run], ids, pictures, categories, PredictOptions(**options))


@pytest.fixture(scope='module')
def plain(run, pictures):
    """Predictions with the given categories."""
    return _predict(run, pictures, NAMES)


def test_the_given_category_is_not_seen(run, pictures, plain):
    permuted = _predict(run, pictures, NAMES[2:] + NAMES[:2])
    assert plain.category_probabilities.shape == (5, len(NAMES))
    np.testing.assert_allclose(plain.category_probabilities.sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose(plain.presence.sum(2), 1, rtol=1e-5)
    for name in ('category_probabilities', 'presence', 'keypoints', 'scores'):
        np.testing.assert_allclose(getattr(permuted, name), getattr(plain, name), atol=1e-5)
    # They are of the pictures, not the same for all.
    assert np.ptp(plain.category_probabilities, axis=0).max() > 0.01
    assert np.ptp(plain.presence, axis=0).max() > 0.01


@pytest.mark.parametrize('passes', [1, 2])
def test_points_are_those_of_the_predicted_category(run, pictures, passes):
    predicted = _predict(run, pictures, NAMES, use_predicted_category=True, passes=passes)
    told = predicted.predicted_categories(SCHEMA)
    assert (told != NAMES).any()
    assert predicted.categories.tolist() == NAMES  # as given
    for row, category in enumerate(told):
        shown = np.flatnonzero(predicted.visibility[row] == 1)
        assert shown.tolist() == list(SCHEMA.indices(category))


def test_a_network_that_tells_no_category_is_not_asked_for_it(tmp_path, pictures):
    untold = write_run(tmp_path / 'all')
    assert _predict(untold, pictures, NAMES).category_probabilities is None
    with pytest.raises(UserError, match=r'does not tell the category.*loss\.category_weight'):
        _predict(untold, pictures, NAMES, use_predicted_category=True)


def test_the_presence_of_one_category_stands_in_its_columns(tmp_path, pictures):
    skirts = write_run(tmp_path / 'skirt', 'skirt', loss=BOTH)
    predicted = _predict(skirts, pictures[:2], ['skirt'] * 2)
    own = np.isin(np.arange(SCHEMA.num_keypoints), SCHEMA.indices('skirt'))
    assert predicted.category_probabilities is None
    np.testing.assert_allclose(predicted.presence[:, own].sum(2), 1, rtol=1e-5)
    assert not predicted.presence[:, ~own].any()


def test_several_networks_tell_their_mean(run, tmp_path, pictures, plain):
    other = write_run(tmp_path / 'all', seed=1, loss=BOTH)
    each = [plain, _predict(other, pictures, NAMES)]
    ids = [str(number) for number in range(len(pictures))]
    for fuse in ('heatmaps', 'keypoints'):
        options = PredictOptions(fuse=fuse)
        both = predictor.predict_images([run, other], ids, pictures, NAMES, options)
        for name in ('category_probabilities', 'presence'):
            mean = sum(getattr(predicted, name) for predicted in each) / 2
            np.testing.assert_allclose(getattr(both, name), mean, atol=1e-5)


@pytest.fixture(scope='module')
def split(tmp_path_factory):
    counts = dict.fromkeys(NAMES, 3)
    return write_records(tmp_path_factory.mktemp('records'), {'val': counts}, SIZE) + '/val'


def test_a_wrong_category_costs_the_points_that_it_lacks(run, split):
    options = PredictOptions(use_predicted_category=True)
    predictions, points, answers, schema = eval_metrics.predict_runs(split, [run], options)
    told = predictions.predicted_categories(SCHEMA)
    lost = sum(
        len(set(SCHEMA.indices(given)) - set(SCHEMA.indices(own)))
        for given, own in zip(answers.categories, told)
    )
    assert lost > 0
    score = normalized_error.score(points, answers, schema, 'count')
    assert score.missing_predictions == lost
    assert score.points == np.count_nonzero(answers.visibility == 1)
    given = score_model(split, [run], PredictOptions())
    assert score.normalized_error > given.normalized_error
    assert score_model(split, [run], options) == score


def test_scores_are_written_and_the_scaling_of_probabilities_is_kept_in_the_run(tmp_path, split):
    folder = write_run(tmp_path / 'all', loss=BOTH, seed=3)
    words = [f'--data_dir={split}', f'--model_dir={folder}', f'--output_json={tmp_path}/a.json']
    printed = call('eval_metrics.py', *words, '--calibrate').stdout
    assert 'of 15 categories are right' in printed and probabilities.SCALINGS_FILE in printed
    before = json.loads((tmp_path / 'a.json').read_text())
    assert before['category']['images'] == 15 and before['presence']['all']['points'] > 100
    kept = probabilities.read(folder)
    assert set(kept) == {'category_probabilities', 'presence'}
    predictions, _, answers, _ = eval_metrics.predict_runs(split, [folder], PredictOptions())
    after = attributes.report_of(predictions, answers, SCHEMA)
    # All points are visible: the scaling says so.
    errors = [
        report['presence']['all']['visible']['expected_calibration_error']
        for report in (before, after)
    ]
    assert errors[0] > 0.2 and errors[1] < 0.1


def test_the_interface_needs_no_category_of_a_network_that_tells_it(run, pictures, tmp_path):
    predicted = _predict(run, pictures, NAMES, use_predicted_category=True, passes=2)
    told = predicted.predicted_categories(SCHEMA).tolist()
    with load(run, passes=2) as model:
        results = model.predict([picture.jpeg for picture in pictures])
        given = model.predict(pictures[0].jpeg, 'skirt')
    assert [result.category for result in results] == told and given.category == 'skirt'
    for row, result in enumerate(results):
        own = list(SCHEMA.indices(result.category))
        np.testing.assert_allclose(result.points, predicted.keypoints[row, own], atol=0.02)
        np.testing.assert_allclose(result.presence, predicted.presence[row, own], atol=1e-4)
        assert (
            max(result.category_probabilities, key=result.category_probabilities.get) == told[row]
        )
    written = json.loads(results[0].to_json())
    assert set(written['category_probabilities']) == set(NAMES)
    assert list(written['presence']) == list(results[0].names)
    assert list(results[0].to_dataframe().columns[-3:]) == ['absent', 'occluded', 'visible']
    plain = write_run(tmp_path / 'all')
    with load(plain) as model:
        with pytest.raises(UserError, match='category is missing; there are'):
            model.predict(pictures[0].jpeg)
        result = model.predict(pictures[0].jpeg, 'skirt')
    assert result.presence is None and (result.visibility == 1).all()
    assert 'presence' not in json.loads(result.to_json())


def test_absent_points_are_marked_and_not_drawn(run, pictures, plain):
    with load(run) as model:
        result = model.predict(pictures[4].jpeg, 'skirt')  # a black picture
    presence = np.array([[0.5, 0.4, 0.1], [0.4, 0.35, 0.25], [0.3, 0.3, 0.4], [0.9, 0.05, 0.05]])
    points = np.array([[10, 10], [30, 10], [10, 30], [50, 50]], np.float32)
    result = dataclasses.replace(result, presence=presence, points=points)
    assert result.visibility.tolist() == [-1, 0, 1, -1]
    drawn = result.draw()
    is_drawn = [drawn[y - 4 : y + 5, x - 4 : x + 5].any() for x, y in points.astype(int)]
    assert is_drawn == [False, True, True, False]
    absent = dataclasses.replace(plain, presence=np.eye(3)[np.zeros_like(plain.visibility)])
    assert (absent.likely_visibility() == -1).all()


def test_probabilities_are_written_as_a_table(plain):
    rows = list(csv.DictReader(io.StringIO(probabilities.table(plain, SCHEMA).decode())))
    assert [row['image_category'] for row in rows] == NAMES
    for number, (row, name) in enumerate(zip(rows, NAMES)):
        shares = [float(row[f'category_{category}']) for category in NAMES]
        np.testing.assert_allclose(shares, plain.category_probabilities[number], atol=1e-4)
        filled = {point for point in SCHEMA.keypoints if row[f'{point}_absent']}
        assert filled == set(SCHEMA.categories[name])
    first = SCHEMA.indices('blouse')[0]
    cell = rows[0][f'{SCHEMA.keypoints[first]}_visible']
    assert float(cell) == pytest.approx(plain.presence[0, first, 2], abs=1e-4)


def test_a_scaling_of_the_run_is_applied(tmp_path, pictures, plain):
    same = write_run(tmp_path / 'all', loss=BOTH)
    scaling = Scaling(0.5, (0.3, 0.0, -0.2))
    values = {'scalings': {'presence': dataclasses.asdict(scaling)}}
    (tmp_path / 'all' / probabilities.SCALINGS_FILE).write_text(json.dumps(values))
    scaled = _predict(same, pictures, NAMES)
    np.testing.assert_allclose(scaled.presence, scaling(plain.presence), atol=1e-4)
    np.testing.assert_allclose(
        scaled.category_probabilities, plain.category_probabilities, atol=1e-5
    )
    groups = {'skirt': Scaling(3.0, (0.0, 0.0, 0.0)), 'dress/armpit_left': Scaling(1.0, (40, 0, 0))}
    both = GroupScalings(scaling, groups)
    values = {'scalings': {'presence': dataclasses.asdict(both)}}
    (tmp_path / 'all' / probabilities.SCALINGS_FILE).write_text(json.dumps(values))
    scaled = _predict(same, pictures, NAMES)
    with load(same) as model:
        warm = model.predict([picture.jpeg for picture in pictures[: len(NAMES)]], NAMES)
    for row, name in enumerate(NAMES):
        labels = np.array(
            [attributes.presence_group(name, k, SCHEMA) for k in range(SCHEMA.num_keypoints)]
        )
        expected = both(plain.presence[row], labels)
        np.testing.assert_allclose(scaled.presence[row], expected, atol=1e-4)
        own = list(SCHEMA.indices(name))
        np.testing.assert_allclose(warm[row].presence, expected[own], atol=1e-4)
        if name == 'dress':
            mirrored = SCHEMA.keypoints.index('armpit_right')
            assert scaled.presence[row, mirrored, 0] > 0.99
    (tmp_path / 'all' / probabilities.SCALINGS_FILE).write_text('{}')
    with pytest.raises(UserError, match='is broken'):
        _predict(same, pictures, NAMES)


@pytest.mark.parametrize(
    'scaling',
    [
        {'temperature': 0, 'bias': [0] * 5},
        {'temperature': float('nan'), 'bias': [0] * 5},
        {'temperature': 1, 'bias': [1e400]},
        {'temperature': 10**400, 'bias': []},
        {'temperature': 1},
        None,
    ],
)
def test_scalings_that_are_none_are_refused(tmp_path, scaling):
    path = tmp_path / probabilities.SCALINGS_FILE
    text = json.dumps({'scalings': {'category_probabilities': scaling}})
    path.write_text('[' * 100_000 if scaling is None else text)
    with pytest.raises(UserError, match='probabilities.json is broken'):
        probabilities.read(str(tmp_path))


@pytest.mark.parametrize(
    ('name', 'scaling'),
    [
        ('category_probabilities', Scaling(1.0, (0.0,) * 3)),
        ('presence', GroupScalings(Scaling(1.0, (0.0,) * 3), {'skirt': Scaling(1.0, (0.0,) * 2)})),
    ],
)
def test_scalings_of_another_number_of_outcomes_are_refused(name, scaling):
    count = len(SCHEMA.categories)
    told = {'category_probabilities': tf.ones([1, count]) / count}
    told['presence'] = tf.ones([1, SCHEMA.num_keypoints, 3]) / 3
    with pytest.raises(UserError, match='biases where there are'):
        probabilities.scaled(told, {name: scaling}, SCHEMA)
