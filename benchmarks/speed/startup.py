"""Start-up: of `--help`, of a training until its first step, and where the time goes, of all
recipes above the target too, and of a program until its first prediction.
"""

from __future__ import annotations

import functools
import pathlib
import tempfile
import time
from collections.abc import Mapping
from types import SimpleNamespace

from benchmarks.common import (
    commands,
    interleaved,
    isolated,
    recipes,
    synthetic_data,
    synthetic_runs,
)
from benchmarks.common.report import MET, TARGET, Table, Target
from utility.command_line import imports
from utility.statistics.medians import Summary, summarize

NAME = 'Start-up'
_NETWORKS = ('resnet18_dhn', 'resnet50_cpn')
_SCRIPT_PATTERNS = ('convert_*.py', 'ensemble_*.py', 'eval_*.py', 'demos/draw_*.py')
_TRAIN = 'the slowest of the train scripts'
_HELP_TARGET = Target(at_most=0.5, unit='s')
_NUM_IMAGES = 100
_SIDE = 512  # px
_BATCH = 'data.batch_size=2'  # that steps are short beside what comes before them
_MAX_SECONDS = 20.0  # on each way to start
_WHOLE = 'from the command to the end of the first step'
_REMAINDER = 'all else, less what is done at the same time'
_FIRST_STEP_TARGET = Target(at_most=5.0, unit='s')
_FIRST_PREDICTION_TARGET = Target(at_most=3.0, unit='s')
_PREDICT = (
    'import sys; from utility.predict import load\n'
    'with load(sys.argv[1]) as model:\n'
    '    model.predict(sys.argv[2], category=sys.argv[3])\n'
    '    print("predicted", file=sys.stderr, flush=True)'
)
# Those that come before the first step has ended, and those that come later.
_BEFORE = (
    'importing TensorFlow', 'importing the project', 'looking through the records', 'graph',
    'session and weights', 'first batch', 'first step',
)  # fmt: skip
_LATER = ('second step', 'an evaluation, until its first batch is done')


def phases(name: str, data_dir: str) -> dict[str, float]:
    """Return the seconds of each of _BEFORE and _LATER; in a process of its own."""
    laps = [time.perf_counter()]
    imports.import_tensorflow()
    import tensorflow as tf

    laps.append(time.perf_counter())
    from nets.precision import FLOAT32, session_config
    from preprocessing import training_data
    from preprocessing.datasets import schema_of
    from utility.train.model_fn import Task, make_model_fn

    v1 = tf.compat.v1
    laps.append(time.perf_counter())
    experiment = recipes.load(name).override(_BATCH)
    schema = schema_of(experiment.data)
    model_fn = make_model_fn(Task(experiment, schema))
    for mode, step in (('train', 0), ('eval', None)):
        with tf.Graph().as_default():
            input_fn = training_data.input_fn(experiment, schema, data_dir, step)
            laps.append(time.perf_counter())
            v1.train.create_global_step()
            batches = v1.data.make_initializable_iterator(input_fn())
            features, labels = batches.get_next()
            spec = model_fn(features, labels, mode, SimpleNamespace(model_dir=''))
            fetched = spec.train_op if mode == 'train' else spec.loss
            laps.append(time.perf_counter())
            with v1.Session(config=session_config(FLOAT32, mode == 'train')) as session:
                session.run([v1.global_variables_initializer(), v1.local_variables_initializer()])
                laps.append(time.perf_counter())
                session.run(batches.initializer)
                session.run(features)
                laps.append(time.perf_counter())
                for _ in range(2):
                    session.run(fetched)
                    laps.append(time.perf_counter())
    lasted = [after - before for before, after in zip(laps, laps[1:])]
    evaluation = sum(lasted[len(_BEFORE) + 1 : -1])
    return dict(zip((*_BEFORE, *_LATER), [*lasted[: len(_BEFORE) + 1], evaluation]))


def first_step(name: str, data_dir: str) -> float:
    """Return seconds from the command of a training to the report of its first step."""
    with tempfile.TemporaryDirectory() as folder:
        return commands.seconds_until(
            'step 1/', f'train_{name}.py', f'--data_dir={data_dir}', f'--model_dir={folder}',
            '--category=all', '--log_every=1', f'--set={_BATCH}',
        )  # fmt: skip


def measure(repeats: int) -> list[Table]:
    """Time `--help` of every script, and the starts of trainings."""
    with tempfile.TemporaryDirectory() as folder:
        isolated.call(synthetic_data.write, folder, _NUM_IMAGES, _SIDE)
        records = f'{folder}/tfrecords'
        flags = (f'--data_dir={folder}', f'--records_dir={records}', '--val_fraction=0.2')
        commands.run('convert_tfrecords.py', *flags)
        help_table = _help(repeats)
        steps = {name: functools.partial(first_step, name, records) for name in recipes.scripts()}
        seconds = interleaved.rounds(steps, repeats, _MAX_SECONDS)
        return [help_table, _phases(records, seconds, repeats), _first_results(seconds, repeats)]


def _help(repeats: int) -> Table:
    other_scripts = [
        str(p.relative_to(recipes.ROOT))
        for pattern in _SCRIPT_PATTERNS
        for p in recipes.ROOT.glob(pattern)
    ]
    scripts = [*sorted(other_scripts), *(f'train_{name}.py' for name in recipes.scripts())]
    actions = {name: functools.partial(commands.run, name, '--help') for name in scripts}
    costs_by_name = interleaved.rounds(actions, repeats, _MAX_SECONDS)
    summaries = {name: commands.seconds_of(costs) for name, costs in costs_by_name.items()}
    listed = {name: summaries[name] for name in sorted(other_scripts)}
    train = [summaries[name] for name in summaries if name not in listed]
    listed[_TRAIN] = max(train, key=lambda summary: summary.median)
    rows = [
        (name, f'{summary.median:.3f} ± {summary.spread:.3f}', *_HELP_TARGET.cells(summary.median))
        for name, summary in listed.items()
    ]
    numbers = {name: summary._asdict() for name, summary in summaries.items()}
    slowest = max(summary.median for summary in summaries.values())
    in_short = f'`--help` answers within {slowest:.2f} s.'
    return Table('`--help`', ('command', 's', TARGET, MET), rows, (), numbers, in_short)


def _phases(data_dir: str, seconds: Mapping[str, list[float]], repeats: int) -> Table:
    """Return where the time to the first step goes: of _NETWORKS, and of all above the target.

    Args:
        seconds: Recipe -> of its first steps, from the command on.
    """
    medians = {name: summarize(wholes).median for name, wholes in seconds.items()}
    slow = [name for name in medians if medians[name] > _FIRST_STEP_TARGET.at_most]
    names = sorted({*_NETWORKS, *slow}, key=medians.get)
    actions = {name: functools.partial(isolated.call, phases, name, data_dir) for name in names}
    rounds = interleaved.rounds(actions, repeats, _MAX_SECONDS)
    columns = {name: _column(seconds[name], rounds[name]) for name in names}
    rows = [
        (phase, *(interleaved.text(columns[name][phase]) for name in names))
        for phase in (*_BEFORE, _REMAINDER, _WHOLE, *_LATER)
    ]
    numbers = {
        name: {phase: summary._asdict() for phase, summary in column.items()}
        for name, column in columns.items()
    }
    notes = (
        f'Seconds; the recipes with `--set {_BATCH}`, on {_NUM_IMAGES} pictures of {_SIDE} px. '
        'Phases are timed in a process of their own, one after the other; in a '
        'training the first batch is made beside the graph.',
        f'Further recipes are those that need more than {_FIRST_STEP_TARGET.at_most:g} s.',
        'The Estimator makes graph and session anew for each evaluation and for the training after '
        'it; `epochs_per_eval` says how often. The process, with all that is imported, stays.',
    )
    first, second = (medians[name] for name in _NETWORKS)
    in_short = (
        f'The first step of a training is done {first:.0f} ({_NETWORKS[0]}) to {second:.0f} s '
        f'({_NETWORKS[1]}) after the command.'
    )
    return Table('Until the first step', ('what', *names), rows, notes, numbers, in_short)


def _first_results(first_steps: Mapping[str, list[float]], repeats: int) -> Table:
    """Return the times to the first step of every recipe, and to the first prediction of two."""
    rows, numbers = [], {}
    with tempfile.TemporaryDirectory() as folder:
        image = pathlib.Path(folder) / 'image.jpg'
        image.write_bytes(synthetic_data.draw_jpeg(0, _SIDE))
        predictions = {}
        for name in _NETWORKS:
            run = isolated.call(_write_run, f'{folder}/{name}', name)
            words = ('-c', _PREDICT, run, str(image), synthetic_runs.CATEGORY)
            predictions[name] = functools.partial(commands.seconds_until, 'predicted', *words)
        predicted = interleaved.rounds(predictions, repeats, _MAX_SECONDS)
    for label, by_name, target in (
        ('first step', first_steps, _FIRST_STEP_TARGET),
        ('first prediction', predicted, _FIRST_PREDICTION_TARGET),
    ):
        for name, seconds in by_name.items():
            summary = summarize(seconds)
            numbers[f'{label}, {name}'] = summary._asdict()
            rows.append((label, name, interleaved.text(summary), *target.cells(summary.median)))
    slowest = max(summarize(seconds).median for seconds in first_steps.values())
    notes = (
        f'Seconds from the command to the end of the first step, `--set {_BATCH}`; and from the '
        'start of Python to the first prediction of a program, '
        '`load(RUN).predict(IMAGE, category)`, with all that is imported.',
    )
    in_short = f'The first step of the slowest recipe is done {slowest:.0f} s after the command.'
    columns = ('what', 'recipe', 's', TARGET, MET)
    return Table('First step and first prediction', columns, rows, notes, numbers, in_short)


def _write_run(folder: str, name: str) -> str:
    return synthetic_runs.write_run(folder, recipes.load(name))


def _column(wholes: list[float], rounds: list[dict[str, float]]) -> dict[str, Summary]:
    column = {
        phase: summarize([seconds[phase] for seconds in rounds]) for phase in (*_BEFORE, *_LATER)
    }
    column[_WHOLE] = summarize(wholes)
    timed = sum(column[phase].median for phase in _BEFORE)
    column[_REMAINDER] = Summary(column[_WHOLE].median - timed, 0.0, 1)
    return column
