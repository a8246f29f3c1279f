"""eval_metrics.py scores CSVs from the command line."""

from __future__ import annotations

import json

import pytest

from tests import commands
from tests.tiny_tables import HEADER, write_skirts

ANSWERS = [
    '1.jpg,skirt,100_50_1,200_50_1,90_300_1,210_300_0',
    '2.jpg,skirt,100_50_0,150_50_0,90_300_1,210_300_1',
    '3.jpg,skirt,-1_-1_-1,150_50_1,90_300_1,210_300_1',
]
PREDICTION = [
    '2.jpg,skirt,0_0_1,0_0_1,-1_-1_-1,210_305_1',  # 5 of 50 px
    '1.jpg,skirt,100_53_1,204_50_1,90_300_1,0_0_1',  # 3, 4 and 0 of 100 px
    '3.jpg,skirt,0_0_1,0_0_1,0_0_1,0_0_1',  # has no normalizer
]
SKIPPED = (0.03 + 0.04 + 0.0 + 0.1) / 4
OUTSIDE = (91**2 + 301**2) ** 0.5 / 50


@pytest.fixture
def folder(tmp_path):
    return write_skirts(tmp_path, answers=ANSWERS, prediction=PREDICTION)


def run(folder, *arguments):
    return commands.call('eval_metrics.py', *arguments, folder=folder)


CSVS = ('--prediction=prediction.csv', '--answers=answers.csv')
RUN = ('--data_dir=records/val', '--model_dir=run')


@pytest.mark.parametrize(
    'missing, error, points', [('skip', SKIPPED, 4), ('count', (4 * SKIPPED + OUTSIDE) / 5, 5)]
)
def test_scores(folder, missing, error, points):
    result = run(folder, *CSVS, f'--missing={missing}', '--output_json=out/score.json')
    assert (result.returncode, result.stderr) == (0, '')
    values = json.loads((folder / 'out' / 'score.json').read_text())
    assert values['normalized_error'] == pytest.approx(error)
    assert values['points'] == points
    assert values['skipped_images'] == 1
    assert values['missing_predictions'] == 1
    assert values['per_category'] == {'skirt': pytest.approx(error)}
    assert values['per_keypoint']['waistband_left'] == pytest.approx(0.03)

    words = [line.split() for line in result.stdout.splitlines()]
    shares = [f'{100 * part / points:.2f}' for part in (1, 3, 4, 4)]  # of 0, 3, 4 and 10 %
    assert words[0][:4] == ['NE', '%', 'points', 'PCK@0.02']
    assert ['all', f'{100 * error:.4f}', str(points), *shares] in words
    assert ['skirt', f'{100 * error:.4f}', str(points), *shares] in words
    assert ['waistband_left', '3.0000', '1', '0.00', '100.00', '100.00', '100.00'] in words
    assert '3 images, 1 of them skipped' in result.stdout
    assert '1 points to score had no prediction' in result.stdout


def test_further_metrics_are_further_tables(folder):
    plain = run(folder, *CSVS, '--missing=skip')
    more = run(
        folder, *CSVS, '--missing=skip', '--metrics=epe,oks', '--pck_by=box_side',
        '--output_json=score.json',
    )  # fmt: skip
    assert (more.returncode, more.stderr) == (0, '')
    assert more.stdout.startswith(plain.stdout)
    tables = more.stdout[len(plain.stdout) :]
    assert 'visible points' in tables and 'with occluded points' in tables
    assert 'EPE px' in tables and 'AP75' in tables and 'AUC' not in tables
    values = json.loads((folder / 'score.json').read_text())
    both = values['metrics']['with_occluded']
    far = [(90**2 + 300**2) ** 0.5, (210**2 + 300**2) ** 0.5]
    corners = [(100**2 + 50**2) ** 0.5, (150**2 + 50**2) ** 0.5]
    offsets = [3, 4, 0, far[1], *corners, 5, corners[1], *far]
    assert both['all']['epe'] == pytest.approx(sum(offsets) / len(offsets))
    assert (both['all']['points'], values['pck_by']) == (10, 'box_side')
    assert both['oks']['skirt']['AP'] == both['oks']['all']['AP']


def test_columns_are_aligned(folder):
    table = run(folder, *CSVS, '--missing=skip').stdout.split('\n\n')
    lines = [line for group in table[:3] for line in group.splitlines()]
    assert len({len(line) for line in lines}) == 1


@pytest.mark.parametrize(
    'arguments, message',
    [
        (CSVS, 'hemline_left of 2.jpg in line 2; --missing=count'),
        ((), '--prediction and --answers'),
        (CSVS[:1], '--prediction and --answers'),
        (CSVS[1:], '--prediction and --answers'),
        ((*CSVS, 'more.csv'), "'more.csv'"),
        ((*CSVS, '--data_dir=records/val'), 'give either --prediction and --answers'),
        ((*CSVS, '--passes=2'), '--passes is for predicting with --model_dir only'),
        ((*CSVS, '--metrics=ne,map'), '--metrics=map: must be some of ne, pck, auc, epe, oks'),
        ((*CSVS, '--baseline'), '--baseline needs --data_dir and --model_dir'),
        ((*RUN, '--missing=skip'), '--missing is for --prediction and --answers only'),
        ((*CSVS, '--missing=drop'), 'missing'),
        ((*CSVS, '--dataset=none'), "unknown data set 'none'"),
        ((CSVS[0], '--answers=none.csv'), 'none.csv'),
        (
            (CSVS[0], '--answers=short.csv'),
            'prediction.csv against short.csv: the prediction has 1',
        ),
        ((CSVS[0], '--answers=broken.csv'), "broken.csv, line 3, column 'hemline_right'"),
    ],
)
def test_mistakes_are_told_in_one_line(folder, arguments, message):
    write_skirts(folder, short=ANSWERS[:2])
    (folder / 'broken.csv').write_text('\n'.join([HEADER, *ANSWERS])[: -len(ANSWERS[2]) - 3])
    arguments = (*arguments, '--output_json=score.json')
    result = commands.call('eval_metrics.py', *arguments, folder=folder)
    commands.check_mistake(result, message)
    assert not (folder / 'score.json').exists()
