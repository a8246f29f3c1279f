"""Sweeps: equal lengths, rows that stay, failures that are rows, pruning, and real kills."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from config import Experiment, flatten
from tests.commands import ROOT, check_mistake, run
from tests.tiny_records import write_records
from utility import sweep
from utility.sweep import Sweep
from utility.train.plan import make_plan

STEPS = 12
# What a recipe counts in epochs.
COUNTED = ('schedule.decay_epochs=(10,20)', 'schedule.cycle_epochs=1')
# Trains nothing: NE is 0.1 for each unit of the learning rate. With a rate of 3 it waits after the
# first of several evaluations, with 8 as long as a file is there.
SCRIPT = """
import os, pathlib, sys, time
import config

EXPERIMENT = config.Experiment(data=config.DataConfig(batch_size=2)).override(*{counted!r})

if __name__ == '__main__':
    words = [word.partition('=') for word in sys.argv[1:] if word.startswith('--') and '=' in word]
    given = {{name: value for name, _, value in words}}
    settings = [sys.argv[i + 1] for i, word in enumerate(sys.argv) if word == '--set']
    experiment = EXPERIMENT.override(*settings)
    rate = experiment.optimizer.learning_rate
    print('rate', rate, os.getpid(), flush=True)
    folder = pathlib.Path(given['--model_dir']) / given['--category']
    folder.mkdir(exist_ok=True)
    number = round(experiment.epochs / experiment.epochs_per_eval)
    rows = [f'{{{steps} * (i + 1) // number}},{{0.1 * rate}}' for i in range(number)]
    partial = folder / 'partial'
    for end in range(1, number + 1):
        partial.write_text('\\n'.join(['step,normalized_error', *rows[:end], '']))
        partial.replace(folder / 'evaluations.csv')
        if end < number and rate == 3:
            time.sleep(60)
    while rate == 8 and os.path.exists({hold!r}):
        time.sleep(0.05)
    print('done', flush=True)
"""
RATES = 'optimizer.learning_rate='


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
    splits = {'train': {'skirt': 6, 'dress': 4}, 'val': {'skirt': 3}}
    return write_records(tmp_path_factory.mktemp('records'), splits, 32)


@pytest.fixture
def script(tmp_path):
    path = tmp_path / 'train_nothing.py'
    path.write_text(SCRIPT.format(counted=COUNTED, steps=STEPS, hold=str(tmp_path / 'hold')))
    return str(path)


@pytest.fixture(autouse=True)
def _path(monkeypatch):
    monkeypatch.setenv('PYTHONPATH', str(ROOT))
    monkeypatch.setattr(os, 'fsync', lambda file: None)


@pytest.fixture
def started(monkeypatch):
    """Runs end at once, without processes: with a rate of 4, 5 or 7 in exit code 2, 1 or -9, with 6
    before their last step. Which runs were started, in order.
    """
    names = []

    def execute(command, output, lock, is_worse):
        names.append(output.parent.name)
        [rate] = [float(word.partition('=')[2]) for word in command if word.startswith(RATES)]
        folder = output.parent / 'all'
        folder.mkdir(parents=True, exist_ok=True)
        row = f'{STEPS - (rate == 6)},{0.1 * rate}\n'
        (folder / 'evaluations.csv').write_text(f'step,normalized_error\n{row}')
        return {4: 2, 5: 1, 7: -9}.get(rate, 0)

    monkeypatch.setattr(sweep, '_execute', execute)
    return names


def _sweep(script, data_dir, *grid, **more):
    return Sweep(script, data_dir, steps=STEPS, grid=grid, **more)


def test_a_row_for_each_run_and_the_best_first_in_the_table(tmp_path, script, data_dir, started):
    folder = tmp_path / 's'
    rows = sweep.run_all(_sweep(script, data_dir, f'{RATES}3,1,4,5,7,2,6'), str(folder))
    assert [(row['normalized_error'], row['outcome']) for row in rows] == [
        ('0.300000', 'complete'),
        ('0.100000', 'complete'),
        ('', 'exit code 2: see run-002/output.log'),
        ('', 'exit code 1: see run-003/output.log'),
        ('', 'killed by signal 9: see run-004/output.log'),
        ('0.200000', 'complete'),
        ('', 'no NE at step 12: are there validation pictures?'),
    ]
    with (folder / sweep.RESULTS).open() as file:
        assert list(csv.DictReader(file)) == rows
    lines = (folder / sweep.PAGE).read_text().splitlines()
    assert lines[0] == f'7 runs of {script}, 12 steps each, on {data_dir}.'
    assert lines[2] == '| run | optimizer.learning_rate | NE, % | seconds | outcome |'
    assert [line.split(' | ')[:3] for line in lines[4:8]] == [
        ['| run-001', '1', '10.00'],
        ['| run-005', '2', '20.00'],
        ['| run-000', '3', '30.00'],
        ['| run-002', '4', ''],
    ]


def test_what_is_done_is_not_done_again(tmp_path, script, data_dir, started):
    folder, asked = str(tmp_path / 's'), _sweep(script, data_dir, f'{RATES}1,5')
    first = sweep.run_all(asked, folder)
    assert sweep.run_all(asked, folder) == first
    assert started == ['run-000', 'run-001']
    again = sweep.run_all(asked, folder, retry=True)
    assert [row['run'] for row in again] == ['run-000', 'run-001']
    assert started == ['run-000', 'run-001', 'run-001']


def test_what_a_kill_leaves_of_the_study_is_mended(tmp_path, script, data_dir, started):
    folder, asked = tmp_path / 's', _sweep(script, data_dir, f'{RATES}1,2')
    rows = sweep.run_all(asked, str(folder))
    whole = (folder / sweep.STUDY).read_bytes()
    lines = whole.splitlines(keepends=True)
    for left in range(0, len(lines), 3):
        half = b''.join(lines[:left]) + lines[left][: len(lines[left]) // 2]
        (folder / sweep.STUDY).write_bytes(half)
        (folder / f'{sweep.STUDY}.lock').symlink_to(folder / sweep.STUDY)
        again = sweep.run_all(asked, str(folder))
        assert [row['run'] for row in again] == ['run-000', 'run-001']
        for row, first in zip(again, rows):
            assert {**row, 'seconds': ''} == {**first, 'seconds': ''}


def test_a_refusal_stops_a_sweep_of_which_nothing_has_worked(tmp_path, script, data_dir, started):
    folder, asked = str(tmp_path / 's'), _sweep(script, data_dir, f'{RATES}4,1')
    for _ in range(2):  # the run stays open
        with pytest.raises(ValueError, match=r'run-000 was refused; .*/run-000/output.log tells'):
            sweep.run_all(asked, folder)
    assert started == ['run-000', 'run-000']


@pytest.mark.parametrize('sampler', ['random', 'tpe'])
def test_draws_are_those_of_the_seed_and_trials_may_be_added(
    tmp_path, script, data_dir, started, sampler
):
    """Whether or not a sweep was stopped in between; the runs of a draw share it."""
    law = {sampler: (f'{RATES}log(0.1,1)', 'data.batch_size=int(1,4)')}
    grid = ('optimizer.nesterov=true,false',)
    folder = str(tmp_path / 's')
    asked = [_sweep(script, data_dir, *grid, **law, trials=n) for n in (2, 12)]
    few = sweep.run_all(asked[0], folder)
    many = sweep.run_all(asked[1], folder)
    assert many[:4] == few and len(many) == 24 == len(started)
    values = [[row[key] for key in list(row)[1:4]] for row in many]
    assert [row[0] for row in values] == ['true', 'false'] * 12
    assert [row[1:] for row in values[::2]] == [row[1:] for row in values[1::2]]
    assert len({row[1] for row in values}) == 12
    assert {row[2] for row in values} <= {'1', '2', '3', '4'}
    whole = sweep.run_all(asked[1], str(tmp_path / 'whole'))
    assert values == [[row[key] for key in list(row)[1:4]] for row in whole]
    for other in ({'trials': 11}, {'trials': 12, 'seed': 1}, {'trials': 12, 'set': ('seed=1',)}):
        with pytest.raises(ValueError, match=r's holds another sweep \(now / there\): '):
            sweep.run_all(_sweep(script, data_dir, *grid, **law, **other), folder)


def test_draws_are_of_their_law(tmp_path, script, data_dir, started):
    """TPE goes where NE is least, at the low end."""
    rates = {}
    for law, laws in {
        'random': {'random': ('log(0.01,1)',)},
        'tpe': {'tpe': ('log(0.01,1)',)},
    }.items():
        laws = {name: (RATES + text,) for name, [text] in laws.items()}
        rows = sweep.run_all(_sweep(script, data_dir, **laws, trials=30), str(tmp_path / law))
        rates[law] = np.log10([float(row['optimizer.learning_rate']) for row in rows])
        assert rates[law].min() >= -2 and rates[law].max() <= 0
    # Uniform from -2 to 0, within four standard deviations of a mean of 30.
    assert abs(rates['random'].mean() + 1) < 4 * (2 / 12**0.5) / 30**0.5
    assert rates['tpe'][15:].mean() < rates['random'][15:].mean() - 0.3


def test_a_run_that_is_worse_than_most_ends_early(tmp_path, script, data_dir):
    asked = _sweep(script, data_dir, f'{RATES}1,1.1,1.2,1.3,3,0.5', prune=3)
    rows = sweep.run_all(asked, str(tmp_path / 's'))
    assert [row['outcome'] for row in rows] == [
        *['complete'] * 4, 'pruned after evaluation 1 of 3', 'complete'
    ]  # fmt: skip
    assert 'done' not in (tmp_path / 's' / 'run-004' / sweep.OUTPUT).read_text()
    assert sweep.run_all(asked, str(tmp_path / 's')) == rows


def _flat(words):
    return flatten(json.loads(Experiment().override(*words).to_json()))


@pytest.mark.parametrize(('batch', 'category'), [('2', 'all'), ('5', 'all'), ('4', 'skirt')])
def test_runs_are_equally_long_and_their_schedules_are_stretched(script, data_dir, batch, category):
    recipe = Experiment().override(*COUNTED)
    asked = Sweep(script, data_dir, steps=STEPS, category=category, prune=3)
    batch = {'data.batch_size': batch}
    words = sweep.assignments(asked, sweep.load_experiment(script), batch)
    experiment = recipe.override(*words, f'data.category={category}')
    assert make_plan(experiment, data_dir, 1).stops == (4, 8, STEPS)
    share = [epochs / recipe.epochs for epochs in recipe.schedule.decay_epochs]
    stretched = [epochs / experiment.epochs for epochs in experiment.schedule.decay_epochs]
    assert stretched == pytest.approx(share)
    assert experiment.schedule.cycle_epochs == pytest.approx(experiment.epochs / recipe.epochs)
    assert experiment.finetune == recipe.finetune


def test_what_is_set_or_swept_is_not_stretched(script, data_dir):
    asked = _sweep(script, data_dir, set=('schedule.decay_epochs=(1,2)',))
    swept = {'schedule.cycle_epochs': '0.5'}
    values = _flat(sweep.assignments(asked, sweep.load_experiment(script), swept))
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
        ('seed=1', {'random': ('optimizer.accumulate=int(1,5)',)}, 'no multiple of .*=5'),
        ('seed=1', {'tpe': ('optimizer.name=choice(adam,sgd)',)}, "unknown optimizer 'sgd'"),
        ('seed=1', {'category': 'blouse'}, 'has no pictures of blouse'),
        ('seed=1', {'category': 'each'}, '--category=each: a run is one network'),
        ('seed=1', {'category': 'skirt,dress'}, '--category=skirt,dress: a run is one network'),
        ('seed=1', {'category': 'shirt'}, "unknown category 'shirt'"),
        ('seed', {}, '--grid seed: must look like key=VALUE,VALUE'),
        ('seed=1,,2', {}, 'a value is empty'),
        ('network.image_size=(1,2', {}, 'its brackets do not match'),
        ('seed=1,1', {}, 'a value is there twice'),
        ('seed=1', {'random': ('seed=int(1,2)',)}, 'seed is there twice in --grid, --random'),
        ('seed=1', {'random': ('a=int(1,2)',), 'tpe': ('b=int(1,2)',)}, 'give one of them'),
        ('seed=1', {'random': ('a=1e-3',)}, r'--random a=1e-3: .* key=LAW\(...\), LAW of log,'),
        ('seed=1', {'tpe': ('a=normal(0,1)',)}, r'--tpe a=normal\(0,1\): .* uniform, int, choice'),
        ('seed=1', {'random': ('a=log(1)',)}, r'--random a=log\(1\): .* missing 1 required'),
        ('seed=1', {'random': ('a=log(0,1)',)}, r'--random a=log\(0,1\): .*low'),
        ('seed=1', {'random': ('a=uniform(2,1)',)}, r'--random a=uniform\(2,1\): .*low'),
        ('seed=1', {'random': ('a=int(1,2.5)',)}, r'--random a=int\(1,2.5\): invalid literal'),
        ('seed=1', {'random': ('a=choice()',)}, 'a value is empty'),
    ],
)
def test_mistakes_in_any_run_are_told_before_the_first(
    tmp_path, script, data_dir, grid, more, message
):
    with pytest.raises(ValueError, match=message):
        sweep.run_all(_sweep(script, data_dir, grid, **more), str(tmp_path / 's'))
    assert not (tmp_path / 's').exists()


def test_a_draw_that_is_refused_is_a_row(tmp_path, script, data_dir, started):
    law = {'random': ('optimizer.accumulate=int(1,6)',), 'trials': 12}
    asked = _sweep(script, data_dir, f'{RATES}1', **law)
    rows = sweep.run_all(asked, str(tmp_path / 's'))
    outcomes = {row['optimizer.accumulate']: row['outcome'] for row in rows}
    assert outcomes.pop('5') == '--steps=12: no multiple of optimizer.accumulate=5'
    assert set(outcomes.values()) == {'complete'}


@pytest.mark.parametrize('text', [None, 'x = 1\n'])
def test_what_is_no_train_script_is_told(tmp_path, data_dir, text):
    path = tmp_path / 'a.py'
    if text:
        path.write_text(text)
    with pytest.raises(ValueError, match='a.py. is no train script'):
        sweep.run_all(_sweep(str(path), data_dir, 'seed=1'), str(tmp_path / 's'))


@pytest.mark.parametrize(
    ('text', 'parts'),
    [
        ('1e-3,3e-4', ['1e-3', '3e-4']),
        (' a , b ', ['a', 'b']),
        ('(1,2),[3,(4,5)],{"a,": 1}', ['(1,2)', '[3,(4,5)]', '{"a,": 1}']),
        ('flip|scale(0.8,1.2)|warp,flip|warp', ['flip|scale(0.8,1.2)|warp', 'flip|warp']),
    ],
)
def test_commas_within_brackets_part_nothing(text, parts):
    assert sweep.split_values(text) == parts


def _command(script, data_dir, folder, steps, *words):
    told = [f'--data_dir={data_dir}', f'--sweep_dir={folder}', f'--steps={steps}', *words]
    return [sys.executable, '-m', 'utility.sweep', str(script), *told]


@contextlib.contextmanager
def _started_until(command, path, **options):
    """A sweep in a process of its own, once a file is there; it is killed in the end, but not the
    training that it has started.
    """
    process = subprocess.Popen(command, cwd=ROOT, **options)
    try:
        deadline = time.monotonic() + 900
        while not (path.exists() and path.read_text()):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_killed_sweep_goes_on_when_its_training_has_ended(tmp_path, script, data_dir):
    folder, hold, log = tmp_path / 's', tmp_path / 'hold', tmp_path / 'log'
    hold.touch()
    command = _command(script, data_dir, folder, STEPS, '--grid', f'{RATES}1,8,2')
    with _started_until(command, folder / 'run-001' / sweep.OUTPUT):
        pass
    done = (folder / sweep.RESULTS).read_text()
    with log.open('w') as file, _started_until(command, log, stderr=file) as again:
        assert 'an earlier process still works' in log.read_text()
        hold.unlink()
        assert again.wait() == 0
    outputs = [(folder / f'run-00{i}' / sweep.OUTPUT).read_text() for i in range(3)]
    starts = [len(re.findall('rate .*\ndone\n', output)) for output in outputs]
    assert starts == [1, 2, 1] and outputs[1].count('\n') == 4
    rows = list(csv.DictReader(io.StringIO((folder / sweep.RESULTS).read_text())))
    assert (folder / sweep.RESULTS).read_text().startswith(done)
    assert [row['normalized_error'] for row in rows] == ['0.100000', '0.800000', '0.200000']


def test_an_interrupted_sweep_ends_its_training(tmp_path, script, data_dir):
    (tmp_path / 'hold').touch()
    command = _command(script, data_dir, tmp_path / 's', STEPS, '--grid', f'{RATES}8')
    output = tmp_path / 's' / 'run-000' / sweep.OUTPUT
    with _started_until(command, output, stderr=subprocess.PIPE) as process:
        process.send_signal(signal.SIGINT)
        assert process.communicate()[1].endswith(b'interrupted\n') and process.returncode == 1
    with pytest.raises(ProcessLookupError):
        os.kill(int(output.read_text().split()[-1]), 0)


def test_what_is_missing_is_told():
    mistakes = {
        (): 'give a train script',
        ('a.py',): '--data_dir is needed',
        ('a.py', '--data_dir=a', '--sweep_dir=b', '--steps=1'): 'give --grid, --random or --tpe',
        ('a.py', '--data_dir=a', '--sweep_dir=b', '--steps=1', '--grid=a=1', '--trials=2'): (
            '--trials=2: is for draws'
        ),
    }
    for words, message in mistakes.items():
        check_mistake(run('-m', 'utility.sweep', *words), message)


TINY = (
    'network.image_size=(32,32)', 'network.heatmap_size=(8,8)', 'network.backbone_options.width=8',
    'network.head_options.channels=8', 'data.batch_size=2', 'schedule.warmup_steps=0',
)  # fmt: skip


@pytest.mark.slow
def test_a_killed_sweep_of_real_trainings_goes_on(tmp_path, data_dir):
    folder = tmp_path / 's'
    words = ['--grid', 'seed=1,2', '--prune=2', *(w for tiny in TINY for w in ('--set', tiny))]
    command = _command(ROOT / 'train_resnet18_dhn.py', data_dir, folder, 2, *words)
    with _started_until(command, folder / 'run-001' / 'all' / 'evaluations.csv'):
        pass
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    rows = list(csv.DictReader(io.StringIO((folder / sweep.RESULTS).read_text())))
    assert [(row['run'], row['outcome']) for row in rows] == [
        ('run-000', 'complete'),
        ('run-001', 'complete'),
    ]
    assert all(float(row['normalized_error']) > 0 for row in rows)
    assert 'run-000:' not in again.stderr and 'run-001:' in again.stderr
