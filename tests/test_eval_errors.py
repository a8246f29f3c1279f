"""eval_errors.py from the command line, and what it makes of runs."""

from __future__ import annotations

import json
import re
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf

from config import DataConfig, Experiment, NetworkConfig
from preprocessing.conversion.images import pixels
from preprocessing.datasets.fashionai import SCHEMA
from preprocessing.tables import KeypointTable, write_table
from tests import commands
from tests.tiny_checkpoints import write_network
from tests.tiny_records import write_records
from tests.tiny_tables import write_skirts
from utility.errors import budget as error_budget
from utility.errors import cases as error_cases
from utility.metrics.annotations import annotations_of
from utility.predict import predictor
from utility.predict.views_to_points import PredictOptions
from utility.visualization import draw

SIZE = 48  # px
COUNTS = {'trousers': 3, 'blouse': 2, 'skirt': 4}
ANSWERS = [
    'a<b>.jpg,skirt,100_50_1,200_50_1,90_300_1,210_300_0',
    '2.jpg,skirt,100_50_0,150_50_0,90_300_1,210_300_1',
    '3.jpg,skirt,-1_-1_-1,150_50_1,90_300_1,210_300_1',
]
PREDICTION = [
    '2.jpg,skirt,0_0_1,0_0_1,-1_-1_-1,91_300_1',  # missing; at its partner's place, 119 of 50 px
    'a<b>.jpg,skirt,100_53_1,210_50_1,490_300_1,0_0_1',  # 3, 10 and 400 of 100 px
    '3.jpg,skirt,0_0_1,0_0_1,0_0_1,0_0_1',  # has no normalizer
]
MISSING = (91**2 + 301**2) ** 0.5 / 50
PARTS = {'good': 0.03, 'jitter': 0.1, 'miss': 4.0, 'inversion': 119 / 50, 'missing': MISSING}
CSVS = ('--prediction=prediction.csv', '--answers=answers.csv')


@pytest.fixture
def folder(tmp_path):
    return write_skirts(tmp_path, answers=ANSWERS, prediction=PREDICTION)


def run(folder, *arguments):
    return commands.call('eval_errors.py', *arguments, folder=folder)


def test_a_submission_without_pictures(folder):
    options = ('--missing=count', '--output_dir=out')
    result = commands.run('eval_errors.py', *CSVS, *options, folder=folder)
    assert (result.returncode, result.stderr) == (0, '')
    assert sorted(path.name for path in (folder / 'out').iterdir()) == [
        'errors.html',
        'errors.json',
    ]
    report = json.loads((folder / 'out' / 'errors.json').read_text())
    costs = {name: row['normalized_error'] for name, row in report['kinds'].items()}
    for name, part in PARTS.items():
        assert costs.pop(name) == pytest.approx(part / 5), name
    assert costs == dict.fromkeys(['garment_inversion', 'in_out_swap', 'confusion'], 0)
    total = sum(PARTS.values()) / 5
    assert report['normalized_error'] == pytest.approx(total)
    assert report['kinds']['miss']['if_fixed'] == pytest.approx(total - 4 / 5)
    assert (report['points'], report['images'], report['skipped_images']) == (5, 3, 1)
    assert report['missing_predictions'] == 1 and report['pictures_lacking'] == 2
    assert report['per_keypoint']['hemline_right']['kinds']['inversion']['points'] == 1
    assert list(report['worst'])[:3] == ['missing', 'miss', 'inversion']  # what costs most
    assert report['worst']['miss'][0]['image_id'] == 'a<b>.jpg'
    assert set(report['subsets']) == {'occlusion', 'rotation'}
    assert report['found_within'] == pytest.approx(0.11774, abs=1e-5)

    words = [line.split() for line in result.stdout.splitlines()]
    assert ['Miss', '1', '20.00', f'{80:.4f}', f'{100 * (total - 0.8):.4f}'] in words
    assert ['All', '5', f'{100 * total:.4f}'] in words
    assert 'out/errors.html' in result.stdout
    page = (folder / 'out' / 'errors.html').read_text()
    assert 'a&lt;b&gt;.jpg' in page and '<b>.jpg' not in page
    images = re.findall(r'<img [^>]*alt="([^"]+)"', page)
    assert len(images) == 5
    assert any(re.fullmatch('skirt 2.jpg .*: hemline_right 238.0 %', alt) for alt in images)


def test_without_an_error_there_is_nothing_to_fix(folder):
    write_skirts(folder, prediction=ANSWERS)
    result = run(folder, *CSVS)
    assert (result.returncode, result.stderr) == (0, '')
    report = json.loads((folder / 'errors' / 'errors.json').read_text())
    assert report['normalized_error'] == 0


def _records(tmp_path):
    """Return records of two splits, and the CSVs of one: exact but for a skirt turned
    upside down.
    """
    root = write_records(tmp_path / 'records', {'val': COUNTS, 'test_0': COUNTS}, SIZE)
    annotations = annotations_of(f'{root}/val', SCHEMA)
    whole = np.floor(annotations.keypoints) + 0.5
    annotations = annotations._replace(
        keypoints=np.where(annotations.visibility[..., None] < 0, -0.5, whole)
    )
    keypoints = annotations.keypoints.copy()
    row = np.flatnonzero(annotations.categories == 'skirt')[1]
    keypoints[row] = keypoints[row, list(SCHEMA.flip_permutation)]
    for name, table in (
        ('answers', annotations), ('prediction', annotations._replace(keypoints=keypoints))
    ):  # fmt: skip
        write_table(tmp_path / f'{name}.csv', table, SCHEMA)
    return root, row


def test_pictures_of_a_submission_come_from_records(tmp_path):
    _, row = _records(tmp_path)
    data = '--data_dir=records/test_0'
    assert run(tmp_path, *CSVS, data, '--pictures_per_kind=1').returncode == 0
    report = json.loads((tmp_path / 'errors' / 'errors.json').read_text())
    assert report['pictures_lacking'] == 0
    assert report['kinds']['garment_inversion']['points'] == 4
    assert [w['image_id'] for w in report['worst']['garment_inversion']] == ['skirt/1.jpg']
    assert sum(row['points'] for row in report['subsets']['garment_size']) == report['points']
    assert 'garment_size' in report['subsets']
    assert report['oracles']['garment_sides']['normalized_error'] == pytest.approx(0, abs=1e-9)
    page = (tmp_path / 'errors' / 'errors.html').read_text()
    assert 0 < page.rindex('<img ') < page.index('<table')  # pictures first
    of_categories = page[page.index('NE % of each category</caption>') :]
    head = re.findall('<th scope="col">(.*)</th>', of_categories[: of_categories.index('</thead>')])
    there = [kind for kind, row in report['kinds'].items() if row['points']]
    # No column of zeros.
    assert head == [
        'category',
        'points',
        *(error_budget.KINDS[kind].title for kind in there),
        'All',
    ]


def test_only_the_wanted_pictures_are_kept(tmp_path):
    root, row = _records(tmp_path)
    case = error_cases.case_of_csvs(
        str(tmp_path / 'prediction.csv'), str(tmp_path / 'answers.csv'), 'fashionai'
    )
    sizes, images = error_cases.read_images(case, {row}, f'{root}/test_0')
    np.testing.assert_array_equal(sizes, SIZE)
    assert list(images) == [row] and pixels(images[row]).shape == (SIZE, SIZE, 3)
    case.image_ids[0] = 'unknown.jpg'
    sizes, _ = error_cases.read_images(case, set(), f'{root}/test_0')
    assert np.isnan(sizes[0]).all() and not np.isnan(sizes[1:]).any()
    case.image_ids[:] = [f'unknown{i}.jpg' for i in range(len(sizes))]
    with pytest.raises(ValueError, match='test_0 holds none of the pictures of .*prediction.csv'):
        error_cases.read_images(case, set(), f'{root}/test_0')


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ((), 'give either --prediction and --answers, or --data_dir and --model_dir'),
        (CSVS[:1], '--prediction and --answers'),
        ((*CSVS, '--model_dir=run'), '--prediction and --answers'),
        (('--model_dir=run',), '--data_dir and --model_dir'),
        ((*CSVS, 'more.csv'), "'more.csv'"),
        ((*CSVS, '--data_dir=a', '--flip_test'), '--flip_test is for predicting with --model_dir'),
        (('--data_dir=a', '--model_dir=b', '--dataset=fashionai'), '--dataset is for --prediction'),
        (CSVS, 'hemline_left of 2.jpg in line 2; --missing=count'),
        ((*CSVS, '--missing=count', '--similarity_scale=0'), 'scale=0.0: must be positive'),
        ((*CSVS, '--missing=count', '--data_dir=none'), 'no ./dataset.json'),
        ((CSVS[0], '--answers=short.csv'), 'against short.csv: the prediction has 1'),
        ((CSVS[0], '--answers=none.csv'), 'none.csv'),
        ((*CSVS, '--pictures_per_kind=-1'), 'pictures_per_kind'),
        (('--data_dir=none/val', '--model_dir=none'), "'none' holds no trained network"),
        (('--data_dir=none/val', '--model_dir=none', '--passes=3'), 'passes=3: must be 1 or 2'),
    ],
)  # fmt: skip
def test_mistakes_are_told_in_one_line(folder, arguments, message):
    write_skirts(folder, short=ANSWERS[:2])
    result = run(folder, *arguments)
    commands.check_mistake(result, message)
    assert not (folder / 'errors').exists()


class _Oracle:
    """An Estimator that sees the labels, and is wrong in the first pass where it is told to."""

    wild: dict = {}  # category -> offset of the last of its points in the first pass, crop px

    def __init__(self, model_fn, model_dir, config):
        self.config = config

    def predict(self, input_fn, hooks, checkpoint_path):
        del hooks  # of a session, of which there is none
        for features, labels in input_fn():
            matrices = features['to_crop'].numpy()[:, 0]
            for row, matrix in enumerate(matrices):
                category = features['category'][row].numpy().decode()
                points = labels['keypoints'][row].numpy()
                columns = list(SCHEMA.indices(category))
                scores = np.ones(len(points), np.float32)
                first = np.isclose(matrix[0, 0], 32 / SIZE)
                if first and category in self.wild:
                    points[columns[1:]] = points[columns[0]] + self.wild[category] * np.arange(
                        1, len(columns)
                    )[:, np.newaxis]  # fmt: skip
                inverse = np.linalg.inv(matrix)
                yield {
                    'image_id': features['image_id'][row].numpy(),
                    'category': features['category'][row].numpy(),
                    'image_size': features['image_size'][row].numpy(),
                    'keypoints': points @ inverse[:2, :2].T + inverse[:2, 2],
                    'scores': scores,
                }


@pytest.fixture
def run_dir(tmp_path, monkeypatch):
    assert tf.estimator.Estimator  # loads lazily, and would load over what is put in its place
    monkeypatch.setattr(tf.estimator, 'Estimator', _Oracle)
    monkeypatch.setattr(_Oracle, 'wild', {})
    network = NetworkConfig(image_size=(32, 32), heatmap_size=(8, 8))
    experiment = Experiment(network, DataConfig(category='all'), refine='argmax')
    write_network(tmp_path / 'run' / 'all', experiment)
    return str(tmp_path / 'run')


def _report_of(case):
    errors = error_budget.find_errors(
        case.predicted, case.annotations, case.schema, evidence=case.evidence
    )
    return errors, error_cases.report_of(case, errors, 'error', 0.1, None)


def test_a_perfect_network_has_no_errors_but_a_floor_is_known(run_dir, tmp_path):
    split = write_records(tmp_path / 'records', {'val': COUNTS}, SIZE) + '/val'
    case = error_cases.case_of_runs(split, [run_dir], PredictOptions())
    assert case.image_ids[0] == 'blouse/0.jpg' and case.first_pass is None
    errors, report = _report_of(case)
    assert errors.kinds[0] == 'codec_floor' and 'crop' not in errors.kinds
    assert report['normalized_error'] < 1e-4
    assert report['kinds']['good']['points'] == report['points']
    # What argmax on 8 x 8 cells of 6 px would add is far more than there is.
    assert report['kinds']['codec_floor']['normalized_error'] == report['normalized_error']
    assert report['kinds']['codec_floor']['points'] == report['points']


def test_two_passes_are_predicted_once_each(run_dir, tmp_path, monkeypatch):
    split = write_records(tmp_path / 'records', {'val': COUNTS}, SIZE) + '/val'
    with mock.patch.object(predictor, '_predict_pass', wraps=predictor._predict_pass) as predict:
        error_cases.case_of_runs(split, [run_dir], PredictOptions(passes=2))
    assert predict.call_count == 2


def test_a_box_that_hides_points_is_what_the_crop_costs(run_dir, tmp_path):
    split = write_records(tmp_path / 'records', {'val': COUNTS}, SIZE) + '/val'
    _Oracle.wild = {'trousers': np.float32([0.1, 0.1])}  # all points beside the first one
    case = error_cases.case_of_runs(split, [run_dir], PredictOptions(passes=2))
    first, last = case.first_pass.keypoints, case.predicted.keypoints
    trousers = case.annotations.categories == 'trousers'
    assert not np.allclose(first[trousers], last[trousers], atol=1)
    visible = (case.annotations.visibility == 1) & ~trousers[:, np.newaxis]
    np.testing.assert_allclose(first[visible], last[visible], atol=1e-3)
    in_view = case.evidence.in_view
    assert in_view[visible].mean() > 0.9  # a point far from all others may be left out
    hidden = (case.annotations.visibility == 1) & ~in_view
    assert hidden[trousers].any()
    moved = last.copy()
    moved[hidden] += 1000.0
    _, report = _report_of(
        error_cases.Case(
            case.source,
            case.predicted._replace(keypoints=moved),
            *(case.annotations, case.image_ids, case.schema, case.evidence, case.first_pass),
        )
    )
    assert report['kinds']['crop']['points'] == np.count_nonzero(hidden)
    assert report['kinds']['miss']['points'] == 0
    assert report['oracles']['better_pass']['gain'] > 0


IMAGE = np.full((60, 80, 3), 90, np.uint8)


@pytest.mark.parametrize('image', [None, IMAGE])
@pytest.mark.parametrize('place', [(40.0, 30.0), (-500.0, 1e6), (np.nan, np.nan)])
def test_pictures_show_all_answers_wherever_the_prediction_is(image, place):
    visibility = np.full(SCHEMA.num_keypoints, -1)
    answers = np.full((SCHEMA.num_keypoints, 2), -0.5)
    a, b = SCHEMA.normalizer_indices('skirt')
    visibility[[a, b]], answers[[a, b]] = 1, [[20, 20], [60, 40]]
    predicted = np.full_like(answers, np.nan)
    predicted[a] = place
    chosen = np.arange(len(visibility)) == a
    drawn = draw.draw_error(image, predicted, (answers, visibility), chosen, SCHEMA)
    assert max(drawn.shape[:2]) <= draw.SIDE
    colors = {tuple(color) for color in drawn.reshape(-1, 3)}
    assert {(255, 84, 66), (52, 118, 255)} <= colors  # both crosses
    yellow = (np.abs(drawn.astype(int) - (255, 214, 40)).max(-1) < 12).any()
    assert yellow == np.isfinite(place).all()


def test_far_answers_outside_the_picture_can_be_drawn():
    visibility = np.where(np.arange(SCHEMA.num_keypoints) < 2, 1, -1)
    answers = np.full((SCHEMA.num_keypoints, 2), 900.0)
    chosen = visibility > 0
    drawn = draw.draw_error(IMAGE, answers + 5, (answers, visibility), chosen, SCHEMA)
    assert drawn.size
    drawn = draw.draw_error(None, answers + 5, (answers, visibility), chosen, SCHEMA)
    assert max(drawn.shape[:2]) <= draw.SIDE


def test_a_table_of_ten_thousand_pictures_keeps_the_worst_only():
    size = 10000
    random = np.random.default_rng(0)
    categories = np.array(['skirt'] * size)
    columns = list(SCHEMA.indices('skirt'))
    visibility = np.full((size, SCHEMA.num_keypoints), -1)
    visibility[:, columns] = 1
    points = random.uniform(0, 500, (size, SCHEMA.num_keypoints, 2)).astype(np.float32)
    ids = np.array([f'{i}.jpg' for i in range(size)], object)
    answers = KeypointTable(ids, categories, points, visibility, np.arange(size))
    moved = points + random.normal(0, 30, points.shape)
    predicted = answers._replace(keypoints=moved)
    errors = error_budget.find_errors(predicted, answers, SCHEMA)
    worst = error_cases.worst_of_all(errors, 7)
    assert all(0 < len(ranked) <= 7 for ranked in worst.values())
    totals = [errors.costs(kind).sum() for kind in worst]
    assert totals == sorted(totals, reverse=True)
