"""ensemble_from_csv.py, from the command line."""

from __future__ import annotations

import json

import pytest

from benchmarks.common import simulated_models
from preprocessing.datasets.fashionai import SCHEMA
from preprocessing.tables import read_table
from tests import commands
from utility.metrics import normalized_error


def write_csv(path, points, ids=('1.jpg', '2.jpg')):
    """Write a submission of skirts; all points of a picture are at one pixel, None for -1."""
    lines = [','.join(['image_id', 'image_category', *SCHEMA.keypoints])]
    for image_id, point in zip(ids, points):
        own = '-1_-1_-1' if point is None else f'{point[0]}_{point[1]}_1'
        cells = [own if n in SCHEMA.categories['skirt'] else '-1_-1_-1' for n in SCHEMA.keypoints]
        lines.append(','.join([image_id, 'skirt', *cells]))
    path.write_text('\n'.join(lines) + '\n')


@pytest.fixture
def folder(tmp_path):
    write_csv(tmp_path / 'a.csv', [(10, 20), (5, 5)])
    write_csv(tmp_path / 'b.csv', [(20, 31), None])
    write_csv(tmp_path / 'c.csv', [(300, 24), (9, 9)], ids=('2.jpg', '1.jpg'))
    return tmp_path


def run(folder, *arguments):
    return commands.call('ensemble_from_csv.py', *arguments, folder=folder)


@pytest.mark.parametrize(
    'arguments, points',
    [
        (['a.csv'], [(10, 20), (5, 5)]),
        (['a.csv', 'b.csv'], [(15, 26), (5, 5)]),  # 25.5 goes to the even 26
        (['a.csv', 'b.csv', '--weights=0.7,0.3'], [(13, 23), (5, 5)]),
        (['a.csv', 'b.csv', 'c.csv'], [(13, 20), (152, 14)]),
        (['a.csv', 'b.csv', 'c.csv', '--method=median'], [(10, 20), (152, 14)]),
        (['a.csv', 'c.csv', '--weights=1,2', '--method=median'], [(9, 9), (300, 24)]),
        (['a.csv', 'b.csv', 'c.csv', '--method=geometric_median'], [(10, 20), (152, 14)]),
        # 14.9, 11.0 and 0 px from the median: what is more than 11.0 px away is left out.
        (['a.csv', 'b.csv', 'c.csv', '--reject=1'], [(10, 14), (152, 14)]),
    ],
)
def test_combined_points(folder, arguments, points):
    result = run(folder, *arguments, '--output_csv=out/all.csv')
    assert (result.returncode, result.stderr) == (0, '')
    assert 'out/all.csv' in result.stdout
    write_csv(folder / 'wanted.csv', points)
    assert (folder / 'out' / 'all.csv').read_text() == (folder / 'wanted.csv').read_text()


def test_default_output(folder):
    assert run(folder, 'a.csv', 'b.csv').returncode == 0
    assert (folder / 'ensemble.csv').exists()


@pytest.mark.parametrize(
    'arguments, message',
    [
        ([], 'give the CSVs'),
        (['a.csv', 'b.csv', '--output_csv=./b.csv'], '--output_csv=./b.csv'),
        (['a.csv', 'none.csv'], 'none.csv'),
        (['a.csv', 'b.csv', '--weights=1'], 'must be 2 numbers'),
        (['a.csv', 'b.csv', '--weights=1,x'], '--weights=1,x'),
        (['a.csv', 'b.csv', '--weights=1,-1'], 'must be positive'),
        (['a.csv', '--method=mode'], "unknown ensembling method 'mode'"),
        (['a.csv', 'b.csv', '--reject=0.5'], 'reject=0.5: must be 1 or more'),
        (['a.csv', 'b.csv', '--reject=x'], 'reject'),
        (['a.csv', '--dataset=none'], "unknown data set 'none'"),
        (['b.csv'], '2.jpg (skirt), waistband_left: predicted in no submission'),
        (['a.csv', 'short.csv'], 'short.csv lacks 1 images (2.jpg) of a.csv'),
        (['a.csv', 'broken.csv'], "broken.csv, line 2, column 'waistband_left'"),
    ],
)
def test_mistakes_are_told_in_one_line(folder, arguments, message):
    write_csv(folder / 'short.csv', [(1, 1)])
    text = (folder / 'short.csv').read_text()
    (folder / 'broken.csv').write_text(text.replace('1_1_1', '1_1', 1))
    before = {path.name: path.read_text() for path in folder.iterdir()}
    result = commands.call('ensemble_from_csv.py', *arguments, folder=folder)
    commands.check_mistake(result, message)
    assert {path.name: path.read_text() for path in folder.iterdir()} == before


@pytest.fixture
def runs(tmp_path):
    """Three models: their predictions of pictures with answers, and of others."""
    known, others = simulated_models.annotations(0, 120), simulated_models.annotations(1, 40)

    def models(table, seed):
        return {
            'a': simulated_models.model(table, seed, noise=2, lost=0.2),
            'b': simulated_models.model(table, seed + 1, noise=3, offset=(6, -4)),
            'c': simulated_models.model(table, seed + 2, lost=1.0),
        }

    simulated_models.write(tmp_path, answers=known, other_answers=others, **models(others, 1))
    learning = {f'val_{name}': table for name, table in models(known, 5).items()}
    simulated_models.write(tmp_path, **learning)
    return tmp_path


CSVS = ('a.csv', 'b.csv', 'c.csv')
FIT = ('--fit=val_a.csv,val_b.csv,val_c.csv', '--answers=answers.csv')


def error_of(folder, name):
    tables = [read_table(folder / f'{n}.csv', SCHEMA) for n in (name, 'other_answers')]
    return normalized_error.score(*tables, SCHEMA).normalized_error


def test_what_is_learned_is_told_used_saved_and_used_again(runs):
    learned = run(
        runs, *CSVS, *FIT, '--output_csv=l.csv', '--save_weights=w.json', '--output_json=r.json'
    )
    assert (learned.returncode, learned.stderr) == (0, '')
    report = json.loads((runs / 'r.json').read_text())
    assert report['method'] == 'votes'
    assert report['gains']['median']['low'] > 0
    assert 'chosen: votes (learned)' in learned.stdout
    assert 'expected gain over median: +' in learned.stdout
    assert 'l.csv: votes of a.csv as val_a.csv, b.csv as val_b.csv' in learned.stdout

    assert run(runs, *CSVS, '--method=median', '--output_csv=m.csv').returncode == 0
    found = error_of(runs, 'm') - error_of(runs, 'l')
    expected = report['gains']['median']['value']
    assert found == pytest.approx(expected, rel=0.5)

    again = run(runs, *CSVS, '--weights_file=w.json', '--output_csv=again.csv')
    assert again.returncode == 0, again.stderr
    assert (runs / 'again.csv').read_bytes() == (runs / 'l.csv').read_bytes()


def test_the_best_two_models(runs):
    options = ('--max_models=2', '--save_weights=w.json', '--output_json=r.json')
    result = run(runs, *CSVS, *FIT, *options, '--output_csv=two.csv')
    assert (result.returncode, result.stderr) == (0, '')
    assert result.stdout.startswith('NE % of sets of models\nval_a.csv + val_b.csv ')
    assert json.loads((runs / 'r.json').read_text())['models'] == ['val_a.csv', 'val_b.csv']
    result = run(runs, 'a.csv', 'b.csv', '--weights_file=w.json', '--output_csv=again.csv')
    assert result.returncode == 0, result.stderr
    assert (runs / 'again.csv').read_bytes() == (runs / 'two.csv').read_bytes()
    result = run(runs, *CSVS, '--weights_file=w.json')
    assert result.returncode == 2
    assert '3 CSVs to combine, but the ensemble is of 2: val_a.csv, val_b.csv' in result.stderr


def test_without_submissions_it_only_tells(runs):
    before = set(runs.iterdir())
    result = run(runs, *FIT, '--method=median')
    assert (result.returncode, result.stderr) == (0, '')
    assert 'chosen: median' in result.stdout
    assert set(runs.iterdir()) == before


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['--fit=val_a.csv'], '--fit needs --answers'),
        (['--answers=answers.csv', 'a.csv'], '--answers needs --fit'),
        (['--max_models=2', 'a.csv'], '--max_models needs --fit'),
        (['--save_weights=w.json', 'a.csv'], '--save_weights needs --fit'),
        (['--output_json=r.json', 'a.csv'], '--output_json need --check'),
        (['--method=learned', 'a.csv'], '--method=learned needs --fit'),
        (['a.csv', *FIT], 'must be 1 CSVs, one for each submission'),
        ([*CSVS, *FIT, '--weights=1,1,1'], '--weights does not go with --fit'),
        ([*CSVS, *FIT, '--reject=3'], '--reject does not go with --fit'),
        ([*CSVS, *FIT, '--weights_file=w.json'], '--weights_file does not go with --fit'),
        (
            [*CSVS, '--weights_file=w.json', '--method=mean'],
            '--method does not go with --weights_f',
        ),
        (['--weights_file=w.json'], 'give the CSVs'),
        ([*CSVS, *FIT, '--save_weights=answers.csv'], '--save_weights=answers.csv: is one of'),
        ([*CSVS, *FIT, '--output_csv=x', '--output_json=x'], '--output_json=x: is one of'),
        ([*CSVS, *FIT, '--max_models=0'], 'max_models=0: must be 1 or more'),
        ([*CSVS, *FIT, '--method=mode'], "unknown ensembling method 'mode'"),
        ([*CSVS, FIT[0], '--answers=a.csv'], 'a.csv lacks'),
        ([*CSVS, FIT[0], '--answers=few.csv'], 'few.csv lacks 80 images (Images/skirt/4'),
        ([*CSVS, FIT[0], '--answers=val_test.csv'], 'no point of 120 images can be scored'),
        ([*CSVS, '--fit=val_a.csv,few.csv,val_c.csv', FIT[1]], 'few.csv lacks 80 images'),
        ([*CSVS, '--fit=val_a.csv,none.csv,val_c.csv', FIT[1]], 'none.csv'),
        ([*CSVS, '--weights_file=none.json'], 'none.json'),
        ([*CSVS, '--weights_file=answers.csv'], '--weights_file=answers.csv: not JSON'),
        ([*CSVS, '--weights_file=list.json'], '--weights_file=list.json: the file: must have just'),
    ],
)
def test_mistakes_in_learning_are_told_in_one_line(runs, arguments, message):
    (runs / 'list.json').write_text('[]')
    lines = (runs / 'answers.csv').read_text().splitlines(keepends=True)
    (runs / 'few.csv').write_text(''.join(lines[:41]))
    hidden = ''.join(lines).replace('_1,', '_0,').replace('_1\n', '_0\n')
    (runs / 'val_test.csv').write_text(hidden)
    before = {path.name: path.read_bytes() for path in runs.iterdir()}
    result = commands.call('ensemble_from_csv.py', *arguments, folder=runs)
    commands.check_mistake(result, message)
    assert {path.name: path.read_bytes() for path in runs.iterdir()} == before
