"""Category and presence from a run: pixels alone tell them, and what is done with them."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf

import eval_metrics
from config import LossConfig, UserError
from preprocessing.conversion.images import DecodedImage
from preprocessing.datasets.fashionai import SCHEMA
from tests.commands import run as run_command
from tests.tiny_records import write_records
from tests.tiny_runs import smooth_image, write_run
from utility.metrics import attributes, normalized_error
from utility.predict import predictor, scalings
from utility.predict.views_to_points import PredictOptions
from utility.statistics.reliability import Scaling

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


def test_the_given_category_is_not_seen(run, pictures):
    plain = _predict(run, pictures, NAMES)
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
    plain = write_run(tmp_path / 'all')
    assert _predict(plain, pictures, NAMES).category_probabilities is None
    with pytest.raises(UserError, match=r'does not tell the category.*loss\.category_weight'):
        _predict(plain, pictures, NAMES, use_predicted_category=True)


def test_the_presence_of_one_category_stands_in_its_columns(tmp_path, pictures):
    skirts = write_run(tmp_path / 'skirt', 'skirt', loss=BOTH)
    predicted = _predict(skirts, pictures[:2], ['skirt'] * 2)
    own = np.isin(np.arange(SCHEMA.num_keypoints), SCHEMA.indices('skirt'))
    assert predicted.category_probabilities is None
    np.testing.assert_allclose(predicted.presence[:, own].sum(2), 1, rtol=1e-5)
    assert not predicted.presence[:, ~own].any()


def test_several_networks_tell_their_mean(run, tmp_path, pictures):
    other = write_run(tmp_path / 'all', seed=1, loss=BOTH)
    each = [_predict(folder, pictures, NAMES) for folder in (run, other)]
    ids = [str(number) for number in range(len(pictures))]
    for fuse in ('heatmaps', 'keypoints'):
        options = PredictOptions(fuse=fuse)
        both = predictor.predict_images([run, other], ids, pictures, NAMES, options)
        for name in ('category_probabilities', 'presence'):
            mean = sum(getattr(one, name) for one in each) / 2
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
    given = eval_metrics.score_model(split, [run], PredictOptions())
    assert score.normalized_error > given.normalized_error
    assert eval_metrics.score_model(split, [run], options) == score


def test_scores_are_written_and_the_scaling_of_probabilities_is_kept_in_the_run(tmp_path, split):
    folder = write_run(tmp_path / 'all', loss=BOTH, seed=3)
    words = [f'--data_dir={split}', f'--model_dir={folder}', f'--output_json={tmp_path}/a.json']
    printed = run_command('eval_metrics.py', *words, '--calibrate').stdout
    assert 'of 15 categories are right' in printed and scalings.SCALINGS_FILE in printed
    before = json.loads((tmp_path / 'a.json').read_text())
    assert before['category']['images'] == 15 and before['presence']['all']['points'] > 100
    kept = scalings.read(folder)
    assert set(kept) == {'category_probabilities', 'presence'}
    predictions, _, answers, _ = eval_metrics.predict_runs(split, [folder], PredictOptions())
    after = attributes.report_of(predictions, answers, SCHEMA)
    # All points are visible: the scaling says so.
    errors = [
        report['presence']['all']['visible']['expected_calibration_error']
        for report in (before, after)
    ]
    assert errors[0] > 0.2 and errors[1] < 0.1


def test_a_scaling_of_the_run_is_applied(tmp_path, pictures):
    run = write_run(tmp_path / 'all', loss=BOTH)
    plain = _predict(run, pictures, NAMES)
    scaling = Scaling(0.5, (0.3, 0.0, -0.2))
    values = {'scalings': {'presence': dataclasses.asdict(scaling)}}
    (tmp_path / 'all' / scalings.SCALINGS_FILE).write_text(json.dumps(values))
    scaled = _predict(run, pictures, NAMES)
    np.testing.assert_allclose(scaled.presence, scaling(plain.presence), atol=1e-4)
    np.testing.assert_allclose(
        scaled.category_probabilities, plain.category_probabilities, atol=1e-5
    )
    (tmp_path / 'all' / scalings.SCALINGS_FILE).write_text('{}')
    with pytest.raises(UserError, match='is broken'):
        _predict(run, pictures, NAMES)
