"""Trains a recipe with many settings, one run after the other, and tables what came out.

python -m utility.sweep train_resnet18_dhn.py --data_dir=RECORDS --sweep_dir=DIR --steps=500 \\
    --grid optimizer.learning_rate=1e-3,3e-4 --grid seed=1,2
python -m utility.sweep train_resnet18_dhn.py --data_dir=RECORDS --sweep_dir=DIR --steps=500 \\
    --random "optimizer.learning_rate=log(1e-5,1e-2)" --trials=20 --seed=1

Every run takes --steps steps and is evaluated once, at their end; what an experiment counts in
epochs, such as schedule.decay_epochs, is stretched to that length unless it is set or swept. DIR
holds results.csv, results.md and the runs. Run again, a sweep goes on where it stopped; a run that
failed is a row with the reason. Words after -- go to the train script: -- --precision=bfloat16.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

from absl import flags, logging

from config import Experiment, UserError, flatten
from preprocessing.files import write_bytes
from utility import search_space, sweep_table
from utility.attempts import Attempts
from utility.command_line import scripts
from utility.sweep_table import ERROR, FAILURE, Row

DEFINITION = 'sweep.json'
_ROOT = pathlib.Path(__file__).resolve().parent.parent
_NOT_TO_SET = {
    'epochs': '--steps', 'epochs_per_eval': '--steps', 'data.category': '--category'
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Sweep:
    """What a sweep trains.

    Attributes:
        script: The train script.
        data_dir: Records.
        category: One category, or 'all': a run is one network.
        steps: Of each run.
        confidence: Whether NE gets a 95 % interval.
        set: Settings that all runs have, as texts 'key=value'.
        grid, random, seed: As in search_space.settings_of_runs.
        trials: Number of random draws; alone may be more when a sweep goes on.
        words: Further words for the train script.
    """

    script: str
    data_dir: str
    category: str = 'all'
    steps: int = 1
    confidence: bool = False
    set: tuple[str, ...] = ()
    grid: tuple[str, ...] = ()
    random: tuple[str, ...] = ()
    seed: int = 0
    trials: int = 1
    words: tuple[str, ...] = ()

    def runs(self) -> dict[str, dict[str, str]]:
        """Name of each run -> key -> value."""
        found = search_space.settings_of_runs(self.grid, self.random, self.trials, self.seed)
        return {f'run-{number:03d}': settings for number, settings in enumerate(found)}


def load_experiment(script: str) -> Experiment:
    """What a train script trains; nothing is trained.

    Raises:
        UserError: It is no train script.
    """
    path = pathlib.Path(script)
    if path.suffix != '.py' or not path.is_file():
        raise UserError(f'{script!r} is no train script; give one such as train_resnet50_cpn.py')
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    experiment = getattr(module, 'EXPERIMENT', None)
    if not isinstance(experiment, Experiment):
        raise UserError(f'{script!r} is no train script: it has no EXPERIMENT')
    return experiment


def assignments(sweep: Sweep, experiment: Experiment, settings: dict[str, str]) -> list[str]:
    """All that is set of a run: for all runs, for it alone, and to make it --steps steps long.

    Args:
        sweep: The sweep.
        experiment: Of its script.
        settings: Of the run.

    Raises:
        UserError: A setting is wrong, or not for a sweep to set.
    """
    from preprocessing.training_data import categories
    from utility.train.plan import make_plan

    own = [*sweep.set, *(f'{key}={value}' for key, value in settings.items())]
    keys = [one.partition('=')[0].strip() for one in own]
    for key in keys:
        if key in _NOT_TO_SET:
            raise UserError(f'{key} is not for a sweep to set: give {_NOT_TO_SET[key]}')
        if keys.count(key) > 1:
            raise UserError(f'{key} is set twice')
    changed = experiment.override(*own, f'data.category={sweep.category}')
    if categories(changed, sweep.data_dir, sweep.category) != [sweep.category]:
        raise UserError(f'--category={sweep.category}: a run is one network, of one name')
    steps_per_epoch = make_plan(changed, sweep.data_dir, 1).length.steps_per_epoch
    epochs = sweep.steps / steps_per_epoch
    length = {'epochs': epochs, 'epochs_per_eval': epochs}
    for key, value in flatten(dataclasses.asdict(changed)).items():
        is_used = not key.startswith('finetune.')  # of a second network, which no run has
        is_counted = key.endswith(('_epoch', '_epochs')) and value is not None
        if is_counted and is_used and key not in keys:
            length[key] = _times(epochs / changed.epochs, value)
    whole = [*own, *(f'{key}={value!r}' for key, value in length.items())]
    planned = make_plan(changed.override(*whole), sweep.data_dir, 1).length.total_steps
    if planned != sweep.steps:
        number = changed.optimizer.accumulate
        raise UserError(f'--steps={sweep.steps}: no multiple of optimizer.accumulate={number}')
    return whole


def _times(factor: float, value: Any) -> Any:
    return tuple(factor * one for one in value) if isinstance(value, tuple) else factor * value


def run_all(sweep: Sweep, sweep_dir: str, retry: bool = False) -> list[Row]:
    """Does the runs that are not done yet, and keeps the table of all that are.

    Args:
        sweep: The sweep.
        sweep_dir: Where it is kept, a local directory.
        retry: Whether runs that failed are done again.

    Raises:
        UserError: A setting is wrong, or sweep_dir holds another sweep.
    """
    experiment, folder = load_experiment(sweep.script), pathlib.Path(sweep_dir)
    runs = sweep.runs()
    # What is wrong with a later run is told before the first one has taken its time.
    settings = {name: assignments(sweep, experiment, own) for name, own in runs.items()}
    _keep_definition(sweep, folder)
    rows = sweep_table.read(folder)
    for name, own in runs.items():
        if name in rows and not (retry and rows[name][FAILURE]):
            continue
        logging.info('%s of %d: %s', name, len(runs), search_space.in_a_line(own))
        result = _run(sweep, settings[name], folder / name)
        rows[name] = sweep_table.row(name, own, result)
        sweep_table.write(folder, [rows[one] for one in runs if one in rows], _about(sweep))
        logging.info('%s: %s', name, _message(rows[name]))
    return [rows[name] for name in runs]


def _message(row: Row) -> str:
    if row[FAILURE]:
        return f'failed: {row[FAILURE]}'
    return f'NE {100 * float(row[ERROR]):.2f} %, {row["seconds"]} s'


def _about(sweep: Sweep) -> str:
    fixed = f' All have {", ".join(sweep.set)}.' if sweep.set else ''
    count = len(sweep.runs())
    return f'{count} runs of {sweep.script}, {sweep.steps} steps each, on {sweep.data_dir}.{fixed}'


def _keep_definition(sweep: Sweep, folder: pathlib.Path) -> None:
    path = folder / DEFINITION
    now = json.loads(json.dumps(dataclasses.asdict(sweep)))
    there = json.loads(path.read_text()) if path.exists() else now
    differences = [
        f'{key}: {value} / {there.get(key)}'
        for key, value in now.items()
        if value != there.get(key) and not (key == 'trials' and value > there[key])
    ]
    if differences:
        raise UserError(
            f'{folder} holds another sweep (now / there): {"; ".join(differences)}; give another '
            '--sweep_dir or the same flags'
        )
    write_bytes(path, (json.dumps(now, indent=2) + '\n').encode())


def _run(sweep: Sweep, settings: Sequence[str], folder: pathlib.Path) -> Row:
    """Trains, or goes on with, a run; what the table says of it."""
    command = [sys.executable, sweep.script, f'--data_dir={sweep.data_dir}', *sweep.words]
    command += [f'--model_dir={folder}', f'--category={sweep.category}']
    command += [word for one in settings for word in ('--set', one)]
    attempts = Attempts(folder)
    with attempts.alone():
        failure = attempts.run(command)
        result = {'seconds': f'{attempts.seconds():.0f}', 'steps': str(sweep.steps)}
        if not failure:
            try:
                result.update(_score(sweep, folder, attempts))
            except ValueError as error:
                failure = str(error)
    return {**result, FAILURE: failure, **({'steps': ''} if failure else {})}


def _score(sweep: Sweep, folder: pathlib.Path, attempts: Attempts) -> Row:
    """NE at the end of a run, and its interval if that is wanted.

    Raises:
        UserError: There is none, or it cannot be computed.
    """
    from utility.checkpoints import evaluations

    network = folder / sweep.category
    found = evaluations.read(str(network)).get(sweep.steps, {})
    if ERROR not in found:
        raise UserError(f'no NE at step {sweep.steps}: are there validation pictures?')
    if not sweep.confidence:
        return {ERROR: f'{found[ERROR]:.6f}'}
    path = folder / 'score.json'
    split = os.path.join(sweep.data_dir, 'val')
    command = [sys.executable, str(_ROOT / 'eval_metrics.py'), f'--data_dir={split}']
    failure = attempts.run(
        [*command, f'--model_dir={network}', '--confidence', f'--output_json={path}']
    )
    if failure:
        raise UserError(failure)
    score = json.loads(path.read_text())
    low, high = score['confidence'][ERROR]
    return {ERROR: f'{score[ERROR]:.6f}', 'low': f'{low:.6f}', 'high': f'{high:.6f}'}


def main(positional: list[str]) -> None:
    values = flags.FLAGS
    if not positional:
        raise UserError('give a train script: python -m utility.sweep train_resnet50_cpn.py ...')
    for name in ('data_dir', 'sweep_dir', 'steps'):
        if values[name].value is None:
            raise UserError(f'--{name} is needed')
    if not (values.grid or values.random):
        raise UserError('give --grid or --random: what to try')
    if not values.random and values.trials != 1:
        raise UserError(f'--trials={values.trials}: is for --random; a grid is tried once')
    script, *words = positional
    named = [field.name for field in dataclasses.fields(Sweep)][1:-1]
    chosen = {name: values[name].value for name in named}
    chosen = {n: tuple(v) if isinstance(v, list) else v for n, v in chosen.items()}
    rows = run_all(
        Sweep(script=script, words=tuple(words), **chosen), values.sweep_dir, values.retry_failed
    )
    print((pathlib.Path(values.sweep_dir) / sweep_table.PAGE).read_text(), end='')
    if all(row[FAILURE] for row in rows):
        raise scripts.RunError('all runs failed')


if __name__ == '__main__':
    flags.DEFINE_string('data_dir', None, 'Records, as convert_tfrecords.py wrote them.')
    flags.DEFINE_string('sweep_dir', None, 'Where the sweep is kept, and resumed from.')
    flags.DEFINE_integer('steps', None, 'Of each run.', lower_bound=1)
    flags.DEFINE_string('category', 'all', "One category, or 'all': a run is one network.")
    flags.DEFINE_multi_string('grid', [], 'key=VALUE,VALUE,..., repeatable: all combinations.')
    laws = 'key=LAW, repeatable: log(LOW,HIGH), uniform(LOW,HIGH), int(LOW,HIGH), choice(A,B,...).'
    flags.DEFINE_multi_string('random', [], laws)
    flags.DEFINE_integer('trials', 1, 'Random draws; the grid is tried with each.', lower_bound=1)
    flags.DEFINE_integer('seed', 0, 'Of the draws.', lower_bound=0)
    flags.DEFINE_multi_string('set', [], 'key=value that all runs have, repeatable.')
    flags.DEFINE_boolean('confidence', False, 'Also predict, for the 95 % interval of NE.')
    flags.DEFINE_boolean('retry_failed', False, 'Do runs again that failed.')
    scripts.run(main, __doc__)
