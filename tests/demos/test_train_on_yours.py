"""What is trained on a folder of pictures in the time given: the plan, the mistakes, all of it."""

from __future__ import annotations

import json
import re
import subprocess

import pytest

from config import UserError
from demos import train_on_yours
from demos.train_on_yours import BATCH_SIZE, CANDIDATES, ENOUGH_STEPS, Training
from preprocessing.datasets import schema_of
from preprocessing.datasets.fashionai import SCHEMA
from tests.commands import ROOT, check_mistake, run, users_environment

SCRIPT = 'demos/train_on_yours.py'
TIMES = {'float32': 0.2, 'bfloat16': 0.3}


def test_more_time_or_a_faster_machine_gives_a_better_candidate():
    places = [CANDIDATES.index(train_on_yours.choose(s, 0.15)) for s in (10, 150, 400, 1000, 4000)]
    assert places == sorted(places, reverse=True)
    assert (places[0], places[-1]) == (len(CANDIDATES) - 1, 0)
    assert train_on_yours.choose(10, 0.15 / 400) == train_on_yours.choose(4000, 0.15)


@pytest.mark.parametrize('candidate', CANDIDATES[:-1])
def test_a_candidate_is_taken_as_soon_as_it_has_enough_steps(candidate):
    seconds = ENOUGH_STEPS * candidate.cost * train_on_yours.INPUT_FACTOR
    assert train_on_yours.choose(seconds * 1.001, 1.0) == candidate
    assert train_on_yours.choose(seconds * 0.999, 1.0) != candidate


def test_candidates_are_recipes_that_get_cheaper(tmp_path):
    described = {'dataset': 'fashionai', 'schema': {'keypoints': SCHEMA.keypoints}, 'splits': {}}
    (tmp_path / 'dataset.json').write_text(json.dumps(described))
    costs = [candidate.cost for candidate in CANDIDATES]
    assert costs == sorted(costs, reverse=True) and costs[-1] == 1.0
    for candidate in CANDIDATES:
        experiment = train_on_yours._experiment(candidate, str(tmp_path))
        assert experiment.network.head == candidate.head
        assert experiment.network.map_size == (candidate.size // 4,) * 2


def test_steps_fill_the_time_in_the_faster_precision():
    training = train_on_yours.fit(CANDIDATES[1], TIMES, 230.0, 1000, False)
    assert training == Training('cpn', 192, 1000, 0, 'float32')


def test_garments_take_half_of_the_time_that_drawing_them_leaves():
    fixed = train_on_yours.GARMENT_SECONDS + train_on_yours.START_SECONDS
    training = train_on_yours.fit(CANDIDATES[-1], TIMES, fixed + 460.0, 100, True)
    assert (training.steps, training.garment_steps) == (1000, 1000)


def test_few_pictures_are_not_seen_for_ever():
    training = train_on_yours.fit(CANDIDATES[0], TIMES, 1e5, 160, False)
    assert training.steps == train_on_yours.MOST_EPOCHS * 160 // BATCH_SIZE


def test_no_time_is_a_mistake():
    with pytest.raises(UserError, match='^--minutes: leaves time for 4 steps of 0.23 s; 20 is'):
        train_on_yours.fit(CANDIDATES[-1], TIMES, 1.0, 100, False)
    with pytest.raises(UserError, match='leaves time for 0 steps'):
        train_on_yours.fit(CANDIDATES[-1], TIMES, -50.0, 100, False)


@pytest.mark.parametrize(
    ('dataset', 'num_train', 'seconds', 'expected'),
    [
        ('fashionai', 100, 500, True),
        ('coco', 100, 500, False),  # garments have other keypoints
        ('fashionai', 5000, 500, False),
        ('fashionai', 100, 200, False),
    ],
)
def test_garments_come_first_where_pictures_are_few(dataset, num_train, seconds, expected):
    assert train_on_yours.sees_garments(dataset, num_train, seconds) == expected


def test_the_outlook_multiplies_once_for_each_doubling():
    text = train_on_yours.outlook(0.4, 100, 'ImageNet')
    factor = train_on_yours.DOUBLING['ImageNet']
    found = re.findall(r'^ *([\d,]+) pictures .* near ([\d.]+) %$', text, re.MULTILINE)
    assert [number for number, _ in found] == ['200', '400', '800']
    expected = [40 * factor**power for power in (1, 2, 3)]
    assert [float(error) for _, error in found] == pytest.approx(expected, abs=0.05)


def test_the_factors_of_a_doubling_are_those_of_the_measured_page():
    page = (ROOT / 'docs' / 'few_pictures.md').read_text()
    measured = {}
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip('|').split('|')]
        if cells[0] in train_on_yours.DOUBLING:
            measured.setdefault(cells[0], float(cells[-1]))  # the first table: no flip test
    assert measured == train_on_yours.DOUBLING


def test_a_plan_is_kept_for_the_next_call_and_for_no_other_data(tmp_path):
    training, path = Training('dhn', 128, 50, 0, 'float32'), tmp_path / 'plan.json'
    assert train_on_yours._kept_plan(path, {'data': 'a'}, lambda: training) == training
    assert train_on_yours._kept_plan(path, {'data': 'a'}, None) == training
    with pytest.raises(UserError, match='give --output_dir'):
        train_on_yours._kept_plan(path, {'data': 'b'}, None)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda text: text[:-9], 'no JSON'),
        (lambda text: '[]', 'must be an object'),
        (lambda text: text.replace('"head"', '"tail"'), "unknown field 'tail'"),
        (lambda text: text.replace('"steps": 900', '"steps": "900"'), 'must be a whole number'),
        (lambda text: text.replace('"of"', '"off"'), "'of' is missing"),
    ],
)
def test_a_damaged_plan_is_told(tmp_path, change, message):
    path, training = tmp_path / 'plan.json', Training('cpn', 256, 900, 0, 'float32')
    train_on_yours._kept_plan(path, {'data': 'a'}, lambda: training)
    path.write_text(change(path.read_text()))
    with pytest.raises(UserError, match=f'plan.json.*{message}'):
        train_on_yours._kept_plan(path, {'data': 'a'}, None)


def test_a_folder_is_of_one_data_set(tmp_path):
    path = tmp_path / 'source.json'
    for _ in range(2):
        train_on_yours._keep_source(path, {'data': 'a', 'dataset': 'coco'})
    with pytest.raises(UserError, match='give --output_dir'):
        train_on_yours._keep_source(path, {'data': 'b', 'dataset': 'coco'})


def test_data_of_any_format_have_the_points_of_their_records(tmp_path):
    points = ['brim_left', 'brim_right', 'top']
    schema = {'name': 'hats', 'keypoints': points, 'categories': {'hat': points}}
    schema['normalizers'] = {'hat': points[:2]}
    splits = {'train': {'records': {'hat': 30}}, 'val': {'records': {'hat': 10}}}
    info = {'dataset': 'coco', 'schema': schema, 'splits': splits}
    (tmp_path / 'dataset.json').write_text(json.dumps(info))
    for candidate in CANDIDATES:
        data = train_on_yours._experiment(candidate, str(tmp_path)).data
        assert data.dataset == 'coco' and schema_of(data).keypoints == tuple(points)


def test_mistakes_are_told_in_one_line(tmp_path):
    out = f'--output_dir={tmp_path}/out'
    check_mistake(run(SCRIPT, out), 'DATA is missing')
    check_mistake(run(SCRIPT, out, '--data_dir=nowhere'), 'DATA=nowhere: there is no such folder')
    check_mistake(run(SCRIPT, out, '--minutes=soon'), '--minutes=soon')
    done = run(SCRIPT, out, f'--data_dir={tmp_path}')
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith('error: ')


def test_the_plan_counts_what_measuring_takes_and_halves_the_time_for_garments(
    monkeypatch, tmp_path
):
    asked = []

    def step_times(experiment, data_dir, compute, precisions):
        asked.append((experiment.network.image_size[0], list(precisions)))
        return dict.fromkeys(precisions, 0.1)

    from utility.train.preflight import faster_precision

    monkeypatch.setattr(faster_precision, 'step_times', step_times)
    monkeypatch.setattr(faster_precision, 'available', lambda _: ['float32'])
    counts = {'train': {'records': {'skirt': 400}}, 'val': {'records': {'skirt': 100}}}
    described = {'dataset': 'fashionai', 'schema': {'keypoints': SCHEMA.keypoints}}
    (tmp_path / 'dataset.json').write_text(json.dumps({**described, 'splits': counts}))
    training = train_on_yours._plan(str(tmp_path), 'fashionai', 600.0)
    assert asked[0] == (CANDIDATES[-1].size, ['float32'])
    assert asked[1] == (training.size, ['float32'])
    assert training.garment_steps == training.steps
    spent = 2 * training.steps * 0.1 * train_on_yours.INPUT_FACTOR
    fixed = 2 * train_on_yours.START_SECONDS + train_on_yours.SCORE_SECONDS
    assert 590 < spent + fixed + train_on_yours.GARMENT_SECONDS <= 600


@pytest.mark.slow
def test_a_folder_of_pictures_becomes_a_scored_network_and_a_sheet(tmp_path):
    drawn = ('--count=60', '--test_count=0', '--size=64')
    made = run('demos/make_garments.py', f'--output_dir={tmp_path}/data', *drawn)
    assert made.returncode == 0, made.stderr
    out = tmp_path / 'out'
    out.mkdir()
    # As if the plan were from an earlier call: the time of a busy machine decides nothing here.
    key = {'data': f'{tmp_path}/data', 'minutes': 3.0, 'weights': 'none'}
    training = {'head': 'dhn', 'size': 64, 'steps': 3, 'garment_steps': 0, 'precision': 'float32'}
    (out / 'plan.json').write_text(json.dumps({'of': key, 'training': training}))

    def call(minutes):
        words = ['bash', 'demos/train_on_yours.sh', f'{tmp_path}/data', minutes]
        words += [f'--output_dir={out}', '--init_checkpoint=none']
        environment = users_environment()
        return subprocess.run(
            words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900
        )

    done = call('3')
    assert done.returncode == 0, done.stderr
    assert '3 steps in all' in done.stderr
    assert 0 < json.loads((out / 'scores.json').read_text())['normalized_error'] < 10
    assert (out / 'keypoints.jpg').stat().st_size > 1000
    assert "by Training(head='dhn', size=64, steps=3" in done.stdout
    assert 'pictures to train with: NE near' not in done.stdout  # measured from weights only
    other = call('4')
    assert other.returncode == 2 and 'give --output_dir' in other.stderr
