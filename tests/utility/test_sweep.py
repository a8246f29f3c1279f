"""Sweeps: equal lengths, rows that stay, failures that are rows, and real kills."""

from __future__ import annotations

import csv
import json
import pathlib
import subprocess
import sys
import time

import pytest

from config import Experiment, flatten
from tests.commands import ROOT
from tests.tiny_records import write_records
from utility import sweep, sweep_table
from utility.sweep import Sweep
from utility.train.plan import make_plan

STEPS = 12
# Trains nothing: NE is 0.1 for each unit of the learning rate.
# What a recipe counts in epochs.
COUNTED = ('schedule.decay_epochs=(10,20)', 'schedule.cycle_epochs=1')
SCRIPT = """
import pathlib, sys
import config

EXPERIMENT = config.Experiment(data=config.DataConfig(batch_size=2)).override(*{counted!r})

if __name__ == '__main__':
    words = [word.partition('=') for word in sys.argv[1:] if word.startswith('--') and '=' in word]
    given = {{name: value for name, _, value in words}}
    settings = [sys.argv[i + 1] for i, word in enumerate(sys.argv) if word == '--set']
    experiment = EXPERIMENT.override(*settings)
    with open({told!r}, 'a') as file:
        file.write(given['--model_dir'] + '\\n')
    rate = experiment.optimizer.learning_rate
    if rate == 5:
        sys.exit('error: a rate of 5 | is wrong')
    folder = pathlib.Path(given['--model_dir']) / given['--category']
    folder.mkdir()
    row = 'step,normalized_error\\n12,' + str(0.1 * rate) + '\\n'
    (folder / 'evaluations.csv').write_text(row if rate != 6 else row.replace('12', '11'))
"""


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
    splits = {'train': {'skirt': 6, 'dress': 4}, 'val': {'skirt': 3}}
    return write_records(tmp_path_factory.mktemp('records'), splits, 32)


@pytest.fixture
def script(tmp_path):
    path = tmp_path / 'train_nothing.py'
    path.write_text(SCRIPT.format(counted=COUNTED, told=str(tmp_path / 'told')))
    return str(path)


@pytest.fixture(autouse=True)
def _path(monkeypatch):
    monkeypatch.setenv('PYTHONPATH', str(ROOT))


def _sweep(script, data_dir, *grid, **more):
    return Sweep(script, data_dir, steps=STEPS, grid=grid, **more)


def _message(tmp_path):
    """Which runs were started, in order."""
    return [pathlib.Path(line).name for line in (tmp_path / 'told').read_text().splitlines()]


RATES = 'optimizer.learning_rate='


def test_a_row_for_each_run_and_the_best_first_in_the_table(tmp_path, script, data_dir):
    rows = sweep.run_all(_sweep(script, data_dir, f'{RATES}3,1,5,2'), str(tmp_path / 's'))
    assert [row['normalized_error'] for row in rows] == ['0.300000', '0.100000', '', '0.200000']
    assert [row['failure'] for row in rows] == ['', '', 'a rate of 5 | is wrong', '']
    with (tmp_path / 's' / sweep_table.RESULTS).open() as file:
        assert list(csv.DictReader(file)) == rows
    assert list(rows[0]) == [
        'run', 'optimizer.learning_rate', 'normalized_error', 'low', 'high', 'steps', 'seconds',
        'failure',
    ]  # fmt: skip
    lines = (tmp_path / 's' / sweep_table.PAGE).read_text().splitlines()
    assert lines[0] == f'4 runs of {script}, 12 steps each, on {data_dir}.'
    assert lines[2] == '| run | optimizer.learning_rate | NE, % | steps | seconds |'
    cells = [line.split(' | ')[:4] for line in lines[4:]]
    assert [cell[:3] for cell in cells[:3]] == [
        ['| run-001', '1', '10.00'],
        ['| run-003', '2', '20.00'],
        ['| run-000', '3', '30.00'],
    ]
    assert cells[3][2] == 'failed: a rate of 5 \\| is wrong'


def test_what_is_done_is_not_done_again(tmp_path, script, data_dir):
    folder = str(tmp_path / 's')
    first = sweep.run_all(_sweep(script, data_dir, f'{RATES}1,5'), folder)
    assert sweep.run_all(_sweep(script, data_dir, f'{RATES}1,5'), folder) == first
    assert _message(tmp_path) == ['run-000', 'run-001']
    sweep.run_all(_sweep(script, data_dir, f'{RATES}1,5'), folder, retry=True)
    assert _message(tmp_path) == ['run-000', 'run-001', 'run-001']


def test_trials_may_be_added_and_nothing_else_changed(tmp_path, script, data_dir):
    folder, law = str(tmp_path / 's'), (f'{RATES}log(0.1,1)',)
    two = sweep.run_all(_sweep(script, data_dir, random=law, trials=2), folder)
    three = sweep.run_all(_sweep(script, data_dir, random=law, trials=3), folder)
    assert three[:2] == two and _message(tmp_path) == ['run-000', 'run-001', 'run-002']
    for other in ({'trials': 2}, {'trials': 3, 'seed': 1}, {'trials': 3, 'set': ('seed=1',)}):
        with pytest.raises(ValueError, match=r's holds another sweep \(now / there\): '):
            sweep.run_all(_sweep(script, data_dir, random=law, **other), folder)


def test_a_run_without_an_evaluation_at_its_end_has_failed(tmp_path, script, data_dir):
    [row] = sweep.run_all(_sweep(script, data_dir, f'{RATES}6'), str(tmp_path / 's'))
    assert row['failure'] == 'no NE at step 12: are there validation pictures?'
    assert (row['steps'], row['normalized_error']) == ('', '')


def _flat(words):
    return flatten(json.loads(Experiment().override(*words).to_json()))


@pytest.mark.parametrize(('batch', 'category'), [('2', 'all'), ('5', 'all'), ('4', 'skirt')])
def test_runs_are_equally_long_and_their_schedules_are_stretched(
    tmp_path, script, data_dir, batch, category
):
    recipe = Experiment().override(*COUNTED)
    asked = _sweep(script, data_dir, f'data.batch_size={batch}', category=category)
    [own] = asked.runs().values()
    words = sweep.assignments(asked, sweep.load_experiment(script), own)
    experiment = recipe.override(*words, f'data.category={category}')
    plan = make_plan(experiment, data_dir, 1)
    assert plan.stops == (STEPS,)
    share = [epochs / recipe.epochs for epochs in recipe.schedule.decay_epochs]
    stretched = [epochs / experiment.epochs for epochs in experiment.schedule.decay_epochs]
    assert stretched == pytest.approx(share)
    assert experiment.schedule.cycle_epochs == pytest.approx(experiment.epochs / recipe.epochs)
    assert experiment.finetune == recipe.finetune


def test_what_is_set_or_swept_is_not_stretched(script, data_dir):
    asked = _sweep(
        script, data_dir, 'schedule.cycle_epochs=0.5', set=('schedule.decay_epochs=(1,2)',)
    )
    [own] = asked.runs().values()
    values = _flat(sweep.assignments(asked, sweep.load_experiment(script), own))
    assert values['schedule.decay_epochs'] == [1.0, 2.0]
    assert values['schedule.cycle_epochs'] == 0.5


@pytest.mark.parametrize(
    ('grid', 'more', 'message'),
    [
        ('epochs=1,2', {}, 'epochs is not for a sweep to set: give --steps'),
        ('seed=1', {'set': ('data.category=all',)}, 'data.category is not .*: give --category'),
        ('seed=1', {'set': ('seed=2',)}, 'seed is set twice'),
        ('seed=1,x', {}, "seed='x': must be of type int"),
        ('loss.okhm=1', {}, "did you mean 'ohkm'"),
        ('optimizer.accumulate=1,5', {}, '--steps=12: no multiple of optimizer.accumulate=5'),
        ('seed=1', {'category': 'blouse'}, 'has no pictures of blouse'),
        ('seed=1', {'category': 'each'}, '--category=each: a run is one network'),
        ('seed=1', {'category': 'skirt,dress'}, '--category=skirt,dress: a run is one network'),
        ('seed=1', {'category': 'shirt'}, "unknown category 'shirt'"),
    ],
)
def test_mistakes_in_any_run_are_told_before_the_first(
    tmp_path, script, data_dir, grid, more, message
):
    with pytest.raises(ValueError, match=message):
        sweep.run_all(_sweep(script, data_dir, grid, **more), str(tmp_path / 's'))
    assert not (tmp_path / 's').exists()


@pytest.mark.parametrize('text', [None, 'x = 1\n'])
def test_what_is_no_train_script_is_told(tmp_path, data_dir, text):
    path = tmp_path / 'a.py'
    if text:
        path.write_text(text)
    with pytest.raises(ValueError, match='a.py. is no train script'):
        sweep.run_all(_sweep(str(path), data_dir, 'seed=1'), str(tmp_path / 's'))


TINY = (
    'network.image_size=(32,32)', 'network.heatmap_size=(8,8)', 'network.backbone_options.width=8',
    'network.head_options.channels=8', 'data.batch_size=2', 'schedule.warmup_steps=0',
)  # fmt: skip


def _command(data_dir, folder):
    words = [word for setting in TINY for word in ('--set', setting)]
    script = [str(ROOT / 'train_resnet18_dhn.py'), f'--data_dir={data_dir}', '--steps=3']
    grid = [f'--sweep_dir={folder}', '--grid', 'seed=1,2', '--confidence', *words]
    return [sys.executable, '-m', 'utility.sweep', *script, *grid]


@pytest.mark.slow
def test_a_killed_sweep_of_real_trainings_goes_on(tmp_path, data_dir):
    folder = tmp_path / 's'
    process = subprocess.Popen(_command(data_dir, folder), cwd=ROOT)
    deadline = time.monotonic() + 600
    while not (folder / 'run-001' / 'output.log').exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    process.kill()
    process.wait()
    done = (folder / sweep_table.RESULTS).read_text()
    again = subprocess.run(_command(data_dir, folder), cwd=ROOT, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    rows = sweep_table.read(folder)
    assert list(rows) == ['run-000', 'run-001']
    assert (folder / sweep_table.RESULTS).read_text().startswith(done)
    for row in rows.values():
        assert row['failure'] == '' and row['steps'] == '3'
        assert 0 < float(row['low']) <= float(row['normalized_error']) <= float(row['high'])
    assert 'run-000 of 2' not in again.stderr and 'run-001 of 2' in again.stderr
    assert '| 95 % interval |' in again.stdout
