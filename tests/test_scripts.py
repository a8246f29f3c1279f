"""From pictures to an ensembled submission, through the command line.

A training that is killed, and the one that goes on from it, are processes. All else runs in this
process, with flags and output of its own: TensorFlow takes longer to import than commands take.
"""

from __future__ import annotations

import collections
import csv
import io
import json
import pathlib
import re
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest
import tensorflow as tf

from preprocessing.datasets.fashionai import SCHEMA
from preprocessing.tables import read_table
from tests import commands
from tests.commands import ROOT
from utility.checkpoints import step_tables, variables
from utility.metrics.normalized_error import normalizers_of
from utility.predict import predictor
from utility.train import log as training_log
from utility.train import log_file

SIZE = 96  # px, longest side of the pictures
CROP_SIZE = 64  # px
STRIDE = 4  # px of the crop
TRAIN = 'train_resnet18_dhn.py'
SETTINGS = (
    f'network.image_size={CROP_SIZE},{CROP_SIZE}',
    f'network.heatmap_size={CROP_SIZE // STRIDE},{CROP_SIZE // STRIDE}',
    'network.backbone_options.width=8',
    'network.head_options.channels=16',
    'schedule.warmup_steps=0',
    'data.batch_size=4',
)
EPOCHS = 1
INTERRUPTED_EPOCHS = 8


def settings(*more: str) -> list[str]:
    return [word for setting in (*SETTINGS, *more) for word in ('--set', setting)]


def succeed(script: str, *arguments) -> subprocess.CompletedProcess:
    result = commands.call(script, *arguments)
    assert result.returncode == 0, result.stderr
    return result


def start(script: str, *arguments) -> subprocess.Popen:
    """Run a script as a process of its own."""
    command = [sys.executable, str(ROOT / script), *map(str, arguments)]
    env = commands.users_environment()
    return subprocess.Popen(command, cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True)


def plan(folder, run, *arguments, epochs=EPOCHS, records='records') -> list[str]:
    """Return arguments of a training of a small network, with one evaluation at its end."""
    paths = [f'--data_dir={folder}/{records}', f'--model_dir={folder}/{run}']
    return [*paths, *settings(f'epochs={epochs}', f'epochs_per_eval={epochs}'), *arguments]


def wait(process: subprocess.Popen) -> str:
    """Return what a process that succeeds has logged."""
    _, log = process.communicate(timeout=300)
    assert process.returncode == 0, log
    return log


def checkpoint_step(run_dir: pathlib.Path) -> int:
    return int(variables.resolve(str(run_dir)).rsplit('-', 1)[1])


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Garments, their records, and the records of the test pictures with their answers."""
    folder = tmp_path_factory.mktemp('scripts')
    counts = ('--count=20', '--test_count=10', f'--size={SIZE}', '--num_workers=1')
    succeed('demos/make_garments.py', f'--output_dir={folder}/garments', *counts)
    convert = ('convert_tfrecords.py', '--num_workers=1')
    paths = (f'--data_dir={folder}/garments', f'--records_dir={folder}/records')
    succeed(*convert, *paths, '--val_fraction=0.4')
    answered = folder / 'answered' / 'train_0'
    shutil.copytree(folder / 'garments' / 'test_0' / 'Images', answered / 'Images')
    (answered / 'Annotations').mkdir()
    shutil.copy(folder / 'garments' / 'answers' / 'test_0.csv', answered / 'Annotations')
    paths = (f'--data_dir={folder}/answered', f'--records_dir={folder}/answered_records')
    succeed(*convert, *paths, '--val_fraction=0')
    return folder


@pytest.fixture(scope='module')
def trained(folder):
    """The log of a training for all categories, in folder/run/all."""
    return succeed(TRAIN, *plan(folder, 'run', '--category=all', '--log_every=1')).stderr


@pytest.fixture(scope='module')
def interrupted(folder):
    """The step of the checkpoint that a killed training left, and the log of its resumption."""
    logged = ('--category=all', '--log_every=1', '--save_every=3')
    arguments = plan(folder, 'second', *logged, epochs=INTERRUPTED_EPOCHS)
    process = start(TRAIN, *arguments)
    for line in process.stderr:
        if ' step 5/' in line:
            process.kill()
            break
    process.communicate()
    step = checkpoint_step(folder / 'second' / 'all')
    return step, wait(start(TRAIN, *arguments))


@pytest.fixture(scope='module')
def specialised(folder, trained):
    """The log of two trainings that start from the one for all categories."""
    arguments = plan(folder, 'few', '--category=skirt,trousers')
    return succeed(TRAIN, *arguments, f'--init_checkpoint={folder}/run/all').stderr


def num_steps(folder, split='train', epochs=EPOCHS) -> int:
    info = json.loads((folder / 'records' / 'dataset.json').read_text())
    return max(1, round(epochs * sum(info['splits'][split]['records'].values()) / 4))


def printed_errors(log: str) -> dict[str, float]:
    """Return the category, or 'all' -> the last NE that a training printed, in percent."""
    [(overall, parts)] = re.findall(r'validation NE (\S+) %  \((.*)\)', log)
    by_category = (part.split() for part in parts.split(', '))
    return {'all': float(overall), **{name: float(error) for name, error in by_category}}


def scores(path) -> dict[str, float]:
    """Return the category, or 'all' -> NE in percent, from what eval_metrics.py has written."""
    values = json.loads(path.read_text())
    errors = {'all': values['normalized_error'], **values['per_category']}
    return {name: 100 * error for name, error in errors.items()}


def test_training_ends_at_the_planned_step(folder, trained):
    steps = num_steps(folder)
    assert checkpoint_step(folder / 'run' / 'all') == steps
    assert f'{steps} steps in all' in trained
    assert f'step {steps}/{steps}' in trained
    assert 'Traceback' not in trained and 'WARNING' not in trained


def test_the_same_training_again_takes_no_step(folder, trained):
    before = {p.name: p.stat().st_mtime_ns for p in (folder / 'run' / 'all').glob('model.*')}
    again = succeed(TRAIN, *plan(folder, 'run', '--category=all'))
    assert 'is trained already' in again.stderr
    assert printed_errors(again.stderr) == printed_errors(trained)
    after = {p.name: p.stat().st_mtime_ns for p in (folder / 'run' / 'all').glob('model.*')}
    assert after == before


def test_other_settings_for_the_same_run_are_refused(folder, trained):
    arguments = plan(folder, 'run', '--category=all', '--set=seed=1', '--set=loss.ohkm=0.25')
    result = commands.call(TRAIN, *arguments)
    assert result.returncode == 2
    [line] = result.stderr.splitlines()
    assert line.startswith('error: ')
    assert 'loss.ohkm: 0.25 / 1.0; seed: 1 / 20180417' in line
    assert 'batch_size' not in line


def test_a_killed_training_goes_on_from_its_checkpoint(folder, interrupted):
    step, log = interrupted
    total = num_steps(folder, epochs=INTERRUPTED_EPOCHS)
    assert 3 <= step < total
    assert checkpoint_step(folder / 'second' / 'all') == total
    taken = [int(number) for number in re.findall(r' step (\d+)/', log)]
    assert taken == list(range(step + 1, total + 1))
    assert set(printed_errors(log)) >= {'all'}


def test_the_table_and_the_log_of_a_killed_training_are_whole(folder, interrupted):
    step, log = interrupted
    run = folder / 'second'
    rows = step_tables.read(str(run / 'all' / training_log.FILE))
    assert list(rows) == list(range(1, num_steps(folder, epochs=INTERRUPTED_EPOCHS) + 1))
    columns = {'epoch', 'loss', 'loss/output_0', 'normalized_error', 'learning_rate'}
    assert all(row.keys() >= columns for row in rows.values())
    # Of the first step of each process no speed is known.
    assert [n for n, row in rows.items() if 'waiting' not in row] == [1, step + 1]
    lines = (run / log_file.FILE).read_text().splitlines()
    assert [line.partition(' ')[2] for line in lines[-log.count('\n') :]] == log.splitlines()
    taken = [int(number) for number in re.findall(r' step (\d+)/', '\n'.join(lines))]
    # The file may lack what the terminal showed right before the kill.
    assert taken[:4] == [1, 2, 3, 4] and set(taken) == set(rows)


def test_steps_that_are_taken_again_repeat_their_losses_and_rates(folder, interrupted):
    lines = (folder / 'second' / log_file.FILE).read_text().splitlines()
    told = collections.defaultdict(set)
    for line in lines:
        found = re.search(r' step (\d+)/\d+  (epoch .*  loss .*  lr [^ ]+)', line)
        if found:
            told[int(found.group(1))].add(found.group(2))
    assert set(map(len, told.values())) == {1}
    assert len([line for line in lines if ' step 4/' in line]) == 2  # saved at 3, killed at 5


@pytest.mark.parametrize(('category', 'num_keypoints'), [('skirt', 4), ('trousers', 7)])
def test_other_categories_start_from_all_but_the_last_layers(
    folder, specialised, category, num_keypoints
):
    origin, start = (
        tf.train.load_checkpoint(variables.resolve(str(folder / path)))
        for path in ('run/all', f'few/{category}/model.ckpt-0')
    )
    names = [name for name, _, _ in variables.list_variables(str(folder / 'run' / 'all'))]
    weights = [n for n in names if n.startswith(('backbone/', 'head/')) and '/Adam' not in n]
    for name in weights:
        before, after = origin.get_tensor(name), start.get_tensor(name)
        if name.startswith('head/heatmaps'):
            assert (before.shape[-1], after.shape[-1]) == (24, num_keypoints)
        else:
            np.testing.assert_array_equal(after, before, name)
    assert len(weights) > 100
    assert re.search(f'{category}: .*\n.*start from .* 2 of another shape', specialised)


def test_the_printed_error_is_that_of_eval_metrics(folder, trained):
    paths = (f'--data_dir={folder}/records/val', f'--model_dir={folder}/run')
    # Another batch size than in training: the metric does not depend on it.
    result = succeed(
        'eval_metrics.py', *paths, '--batch_size=3', f'--output_json={folder}/val.json'
    )
    printed, measured = printed_errors(trained), scores(folder / 'val.json')
    assert printed.keys() == measured.keys()
    for name, error in measured.items():
        assert printed[name] == pytest.approx(error, abs=0.0051), name
    assert f'{measured["all"]:.4f}' in result.stdout


def test_runs_are_compared(folder, trained, interrupted):
    paths = f'--data_dir={folder}/records/val', f'--output_json={folder}/compared.json'
    runs = f'--model_dir={folder}/second', f'--against={folder}/run'
    result = succeed('eval_metrics.py', *paths, *runs)
    values = json.loads((folder / 'compared.json').read_text())
    # That of the run alone is what its training printed last.
    difference = 100 * values['normalized_error'] - printed_errors(trained)['all']
    measured = values['comparison']['difference']['value']
    assert 100 * measured == pytest.approx(difference, abs=0.0051)
    assert measured != 0
    assert f'{folder}/second against {folder}/run: ' in result.stdout


def test_labels_are_audited_by_a_run(folder, trained):
    result = succeed(
        'eval_labels.py',
        f'--data_dir={folder}/records/val',
        f'--model_dir={folder}/run',
        f'--output_dir={folder}/audit',
    )
    assert f'{folder}/audit/index.html' in result.stdout
    assert (folder / 'audit' / 'corrections.csv').exists()


def submission(folder, name, *arguments, run='run', split='records/test_0') -> pathlib.Path:
    """Write folder/name and check its format."""
    path = folder / name
    result = succeed(
        'eval_submission.py',
        f'--data_dir={folder}/{split}',
        '--model_dir=' + ','.join(f'{folder}/{r}' for r in run.split(',')),
        f'--output_csv={path}',
        *arguments,
    )
    assert f'{path}: 10 pictures' in result.stdout
    check_format(path, folder / 'garments' / 'test_0')
    return path


def check_format(path: pathlib.Path, test_dir: pathlib.Path) -> None:
    """Check the format of the competition, read without the project's own reader."""
    header, *rows = csv.reader(io.StringIO(path.read_text()))
    assert header == ['image_id', 'image_category', *SCHEMA.keypoints]
    expected = list(csv.reader(io.StringIO((test_dir / 'test.csv').read_text())))[1:]
    assert sorted(row[:2] for row in rows) == sorted(expected)
    for image_id, category, *cells in rows:
        height, width = cv2.imread(str(test_dir / image_id)).shape[:2]
        for name, cell in zip(SCHEMA.keypoints, cells):
            if name not in SCHEMA.categories[category]:
                assert cell == '-1_-1_-1'
                continue
            x, y, visibility = (int(number) for number in cell.split('_'))
            assert visibility == 1 and 0 <= x < width and 0 <= y < height
            assert cell == f'{x}_{y}_1'


def points(path) -> np.ndarray:
    """Return the points [M, 2] of a submission, px, in the order of image_id."""
    table = read_table(str(path), SCHEMA)
    order = np.argsort(table.image_ids.astype(str))
    return table.keypoints[order][table.visibility[order] == 1]


@pytest.fixture(scope='module')
def first(folder, trained):
    return submission(folder, 'first.csv')


@pytest.fixture(scope='module')
def second(folder, interrupted):
    return submission(folder, 'second.csv', run='second')


def test_a_submission_scores_as_the_records_do_up_to_whole_pixels(folder, first):
    answers = f'{folder}/garments/answers/test_0.csv'
    succeed(
        'eval_metrics.py',
        f'--prediction={first}',
        f'--answers={answers}',
        f'--output_json={folder}/csv.json',
    )
    split = f'{folder}/answered_records/train'
    succeed(
        'eval_metrics.py',
        f'--data_dir={split}',
        f'--model_dir={folder}/run',
        f'--output_json={folder}/records.json',
    )
    table = read_table(answers, SCHEMA)
    lengths = normalizers_of(table, SCHEMA)
    tolerance = 100 * np.sqrt(0.5) / lengths[lengths > 0].min()
    by_csv, by_records = scores(folder / 'csv.json'), scores(folder / 'records.json')
    assert by_csv.keys() == by_records.keys()
    for name, error in by_records.items():
        assert by_csv[name] == pytest.approx(error, abs=tolerance), name
    check_pixels(first, folder, ['run'])


def check_pixels(path, folder, runs) -> None:
    """A submission holds the points of the runs, each in the picture's pixel it lies in."""
    split, options = f'{folder}/records/test_0', predictor.PredictOptions()
    run_dirs = [f'{folder}/{run}' for run in runs]
    predictions = predictor.predict_split(run_dirs, split, options)
    limits = predictions.image_sizes[:, np.newaxis, ::-1] - 1
    expected = np.clip(np.floor(predictions.keypoints), 0, limits) + 0.5
    written = read_table(str(path), SCHEMA)
    rows = [written.image_ids.tolist().index(i) for i in predictions.image_ids]
    own = predictions.visibility == 1
    distances = np.abs(written.keypoints[rows][own] - expected[own])
    # A point may lie just between two pixels, and a float be rounded to either side.
    assert distances.max() <= 1
    assert (distances == 0).mean() > 0.98


@pytest.mark.parametrize(('refine', 'cells'), [('argmax', 1.0), ('quarter', 1.25)])
def test_refinements_stay_near_each_other(folder, first, refine, cells):
    refined = points(submission(folder, f'{refine}.csv', f'--refine={refine}'))
    scale = SIZE / CROP_SIZE
    distance = np.abs(refined - points(first)).max()
    assert 0 < distance <= cells * STRIDE * scale + 1


def test_the_decoder_of_the_network_is_the_default(folder, first):
    gaussian = submission(folder, 'gaussian.csv', '--refine=gaussian', '--batch_size=3')
    assert np.abs(points(gaussian) - points(first)).max() <= 1


def test_flip_test_and_second_pass_change_points(folder, first):
    flipped = submission(folder, 'flipped.csv', '--flip_test')
    twice = submission(folder, 'twice.csv', '--flip_test', '--passes=2')
    assert (points(flipped) != points(first)).any()
    assert (points(twice) != points(flipped)).any()


def test_several_runs_are_averaged(folder, first, second):
    both = submission(folder, 'both.csv', run='run,second')
    check_pixels(both, folder, ['run', 'second'])
    succeed('ensemble_from_csv.py', first, second, f'--output_csv={folder}/ensemble.csv')
    check_format(folder / 'ensemble.csv', folder / 'garments' / 'test_0')
    mean = (points(first) + points(second)) / 2
    assert np.abs(points(folder / 'ensemble.csv') - mean).max() <= 0.5
    scored = succeed(
        'eval_metrics.py',
        f'--prediction={folder}/ensemble.csv',
        f'--answers={folder}/garments/answers/test_0.csv',
    )
    assert '10 images' in scored.stdout


def test_points_are_drawn_on_picture_files(folder, specialised):
    images = sorted((folder / 'garments' / 'test_0' / 'Images' / 'skirt').iterdir())
    arguments = (f'--model_dir={folder}/few', '--category=skirt', f'--output_dir={folder}/drawn')
    result = succeed('demos/draw_keypoints.py', *arguments, *images)
    names = {f'{path.stem}_keypoints.jpg' for path in images} | {'keypoints.csv', 'scores.csv'}
    assert {path.name for path in (folder / 'drawn').iterdir()} == names
    assert f'{images[0]} -> {folder}/drawn/{images[0].stem}_keypoints.jpg' in result.stdout
    table = read_table(str(folder / 'drawn' / 'keypoints.csv'), SCHEMA)
    assert table.image_ids.tolist() == list(map(str, images))
    assert (table.visibility == 1).sum() == len(images) * 4


def test_points_are_drawn_on_a_split(folder, trained):
    arguments = (f'--model_dir={folder}/run', f'--data_dir={folder}/records/val', '--count=3')
    succeed('demos/draw_keypoints.py', *arguments, f'--output_dir={folder}/sheet', '--passes=2')
    assert [path.name for path in (folder / 'sheet').iterdir()] == ['keypoints.jpg']


def test_the_variables_of_a_checkpoint_are_listed(folder, trained):
    result = succeed(LIST_VARIABLES, folder / 'run' / 'all')
    assert re.search(r'head/heatmaps\S*/kernel +float32 +\S*x24\n', result.stdout)
    assert re.search(r'\d+ tensors; [\d,]+ numbers of the network', result.stdout)


def test_a_mistake_does_not_keep_the_folder(folder):
    records = 'answered_records'
    arguments = plan(folder, 'mended', '--category=skirt', epochs=0.01, records=records)
    assert commands.call(TRAIN, *arguments, '--set=network.backbone=resnet20').returncode == 2
    assert 'no validation pictures, no NE' in succeed(TRAIN, *arguments).stderr


@pytest.fixture(scope='module')
def broken(folder, trained):
    """Folders with something wrong with them; folder/broken."""
    root = folder / 'broken'
    (root / 'empty').mkdir(parents=True)
    for name in ('unread', 'untrained'):
        (root / name / 'all').mkdir(parents=True)
        shutil.copy(folder / 'run' / 'all' / 'experiment.json', root / name / 'all')
    shutil.copy(folder / 'run' / 'all' / 'checkpoint', root / 'unread' / 'all')
    (root / 'unread' / 'all' / 'experiment.json').write_text('{"seed": "x"}')
    (root / 'foreign.ckpt.index').write_bytes(b'no checkpoint')
    (root / 'picture.jpg').write_text('no picture')
    return root


LIST_VARIABLES = 'utility/checkpoints/__main__.py'
METRICS, SUBMISSION, DRAW = 'eval_metrics.py', 'eval_submission.py', 'demos/draw_keypoints.py'
VAL, TEST = '--data_dir={records}/val', '--data_dir={records}/test_0'
RUN, OUT = '--model_dir={run}', '--output_csv={broken}/x.csv'
TRAIN_ALL = (TRAIN, '--data_dir={records}', '--model_dir={broken}/new', '--category=all')


@pytest.mark.parametrize(
    ('command', 'message'),
    [
        ((TRAIN, '--bach_size=3'), 'unknown flag --bach_size'),
        ((TRAIN, '--strategy=two'), 'strategy'),
        ((TRAIN, '--log_every=0'), 'log_every'),
        ((TRAIN, 'blouse'), "unexpected argument 'blouse'"),
        ((*TRAIN_ALL, '--set=data.bach_size=3'), "did you mean 'batch_size'"),
        ((*TRAIN_ALL, '--set=epochs=many'), "epochs='many': must be of type float"),
        ((*TRAIN_ALL, '--set=epochs'), 'must look like key=value'),
        ((*TRAIN_ALL, '--set=data.category=skirt'), '--category'),
        ((*TRAIN_ALL, '--set=schedule.flat=0.3'), 'schedule.flat: has no effect with'),
        ((*TRAIN_ALL, '--set=data.dataset=koko'), "unknown data set 'koko'"),
        ((*TRAIN_ALL, '--set=data.train_ops=flip|wrap'), "'wrap'; there are"),
        ((*TRAIN_ALL, '--set=data.eval_ops=letterbox(64)|warp'), 'letterbox(64)'),
        ((*TRAIN_ALL, '--set=network.backbone=resnet20'), "unknown backbone 'resnet20'"),
        ((*TRAIN_ALL, '--set=network.head_options.depth=3'), "no option 'depth'"),
        ((*TRAIN_ALL, '--set=network.image_size=60,64'), 'needs multiples of 32'),
        (
            (*TRAIN_ALL, '--init_checkpoint={broken}/no'),
            "cannot read weights from '{broken}/no': there is no such file",
        ),
        ((*TRAIN_ALL, '--init_checkpoint={broken}/empty'), 'holds no checkpoint'),
        ((*TRAIN_ALL, '--init_checkpoint={broken}/foreign.ckpt'), 'not a readable checkpoint'),
        (
            (*TRAIN_ALL, '--init_checkpoint={run}/all', '--set=network.backbone_options.width=4'),
            'Pass --allow_partial_init',
        ),
        (
            (*TRAIN_ALL, '--run_on_cloud', '--init_checkpoint=x'),
            "cannot read weights from '{records}/x': there is no such file",
        ),
        ((*TRAIN_ALL[:3], '--category=shirt'), "unknown category 'shirt'"),
        ((TRAIN, '--data_dir={broken}/no'), "no directory '{broken}/no'"),
        ((TRAIN, '--data_dir={broken}/empty'), 'not a directory written by convert_tfrecords.py'),
        ((METRICS,), 'give either --prediction and --answers'),
        ((METRICS, VAL), '--data_dir and --model_dir'),
        ((METRICS, VAL, RUN, '--prediction=x.csv'), 'give either'),
        ((METRICS, TEST, RUN), 'not a labelled split'),
        ((METRICS, '--data_dir={records}', RUN), 'holds all records; give one of its splits'),
        ((METRICS, VAL, RUN, '--against={run},{broken}/no'), "'{broken}/no' holds no trained"),
        ((METRICS, VAL, RUN, '--passes=3'), 'passes=3: must be 1 or 2'),
        ((METRICS, VAL, RUN, '--refine=darc'), "did you mean 'dark'"),
        ((METRICS, VAL, RUN, '--batch_size=0'), 'batch_size'),
        ((METRICS, VAL, '--model_dir={broken}/no'), 'holds no trained network'),
        ((METRICS, VAL, '--model_dir={broken}/unread'), 'experiment.json'),
        ((METRICS, VAL, '--model_dir={broken}/untrained'), 'no checkpoint yet'),
        ((SUBMISSION, RUN, OUT), '--data_dir is missing'),
        ((SUBMISSION, TEST, RUN), '--output_csv is missing'),
        ((SUBMISSION, TEST, RUN, '--backbone=resnet18_dhn'), 'either --model_dir or --backbone'),
        ((SUBMISSION, TEST, '--backbone=resnet0'), "'logs/resnet0' holds no trained network"),
        ((SUBMISSION, '--data_dir={records}/test_9', RUN, OUT), "unknown split 'test_9'"),
        ((SUBMISSION, TEST, RUN, OUT, '--passes=0'), 'passes=0: must be 1 or 2'),
        (
            (SUBMISSION, TEST, RUN, OUT, '--refine='),
            '--refine= is empty; give it a value or leave it out',
        ),
        ((SUBMISSION, TEST, RUN + ',{few}', OUT), "'{few}' has no network for "),
        ((SUBMISSION, TEST, RUN + ',{broken}/empty', OUT), 'holds no trained network'),
        ((DRAW,), '--model_dir and --output_dir are needed'),
        (
            (DRAW, RUN, '--output_dir={broken}'),
            'either pictures or videos, or a folder of pictures, or --data_dir',
        ),
        ((DRAW, RUN, '--output_dir={broken}', 'x.jpg'), '--category is missing'),
        (
            (DRAW, RUN, '--output_dir={broken}', '--category=shirt', '{broken}/picture.jpg'),
            "unknown category 'shirt'",
        ),
        (
            (DRAW, RUN, '--output_dir={broken}', '--category=all', '{broken}/picture.jpg'),
            "unknown category 'all'",
        ),
        (
            (DRAW, RUN, '--output_dir={broken}', '--category=skirt', '{broken}/picture.jpg'),
            '{broken}/picture.jpg: not a picture',
        ),
        (
            (DRAW, RUN, '--output_dir={broken}', '--category=skirt', '{broken}/no.jpg'),
            'no file {broken}/no.jpg',
        ),
        ((LIST_VARIABLES,), 'give one checkpoint'),
        (
            (LIST_VARIABLES, '{broken}/no'),
            "no checkpoint at '{broken}/no'",
        ),
    ],
)
def test_mistakes_are_told_in_one_line(folder, broken, specialised, command, message):
    places = {'records': folder / 'records', 'run': folder / 'run', 'few': folder / 'few'}
    script, *arguments = (word.format(broken=broken, **places) for word in command)
    small = settings() if command[:2] == TRAIN_ALL[:2] else []
    result = commands.call(script, *small, *arguments)
    assert result.returncode == 2, result
    logged = ('steps in all', '--precision=auto: ')
    [line] = [
        line for line in result.stderr.splitlines() if not any(words in line for words in logged)
    ]
    assert line.startswith('error: ')
    assert message.format(broken=broken, **places) in line
    assert result.stdout == ''
    assert not (broken / 'x.csv').exists()
    assert not list((broken / 'new').glob('*/model.ckpt*'))
