"""Trains a recipe with many settings, one run after the other, and tables what came out.

python -m utility.sweep train_resnet18_dhn.py --data_dir=RECORDS --sweep_dir=DIR --steps=500 \\
    --grid optimizer.learning_rate=1e-3,3e-4 --grid seed=1,2
python -m utility.sweep train_resnet18_dhn.py --data_dir=RECORDS --sweep_dir=DIR --steps=500 \\
    --tpe "optimizer.learning_rate=log(1e-5,1e-2)" --trials=20 --prune=5

Every run takes --steps steps and is evaluated at their end; what an experiment counts in epochs,
such as schedule.decay_epochs, is stretched to that length unless it is set or swept. DIR holds
results.csv, results.md, study.journal (of Optuna) and a folder for each run, with what it printed
in output.log. Run again, a sweep goes on where it stopped; a run that failed is a row with the
reason. Words after -- go to the train script: -- --precision=bfloat16.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import importlib.util
import itertools
import json
import math
import os
import pathlib
import re
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from absl import flags, logging

from config import Experiment, UserError, flatten
from preprocessing.files import write_bytes
from utility.checkpoints import evaluations
from utility.command_line import scripts
from utility.command_line.text_table import markdown_table

RESULTS, PAGE, STUDY, OUTPUT = 'results.csv', 'results.md', 'study.journal', 'output.log'
ERROR, COMPLETE = 'normalized_error', 'complete'
_REFUSED = 2  # the exit code of a mistake of the user
_RUNS_BEFORE_PRUNING = 4
_POLL_SECONDS = 0.5
_NOT_TO_SET = {
    'epochs': '--steps',
    'epochs_per_eval': '--prune',
    'evaluations': '--prune',
    'data.category': '--category',
}
# Column -> text: the run, its settings, NE, seconds from its start to its end, how it ended.
Row = dict[str, str]


def split_values(text: str) -> list[str]:
    """Return the parts between commas that are in no brackets, without spaces around them.

    Raises:
        UserError: Brackets do not match, or a part is empty.
    """
    parts, depth = [''], 0
    for sign in text:
        depth += (sign in '([{') - (sign in ')]}')
        if sign == ',' and not depth:
            parts.append('')
        else:
            parts[-1] += sign
    parts = [part.strip() for part in parts]
    if depth or not all(parts):
        raise UserError(f'{text!r}: a value is empty, or its brackets do not match')
    return parts


def parse_setting(flag: str, text: str) -> tuple[str, Any]:
    """Return a setting and its Optuna distribution.

    Args:
        flag: 'grid', of 'key=VALUE,VALUE', or 'random' or 'tpe', of 'key=LAW(...)'.
        text: What it was given.

    Raises:
        UserError: The text is something else, has a value twice, or an empty range.
    """
    from optuna import distributions

    laws = {
        'log': lambda a, b: distributions.FloatDistribution(float(a), float(b), log=True),
        'uniform': lambda a, b: distributions.FloatDistribution(float(a), float(b)),
        'int': lambda a, b: distributions.IntDistribution(int(a), int(b)),
        'choice': lambda *values: distributions.CategoricalDistribution(values),
    }
    key, _, law_text = (part.strip() for part in text.partition('='))
    law = re.fullmatch(
        r'(\w+)\((.*)\)', f'choice({law_text})' if flag == 'grid' else law_text, re.DOTALL
    )
    expected = 'VALUE,VALUE,...' if flag == 'grid' else f'LAW(...), LAW of {", ".join(laws)}'
    if not (key and law_text) or law is None or law[1] not in laws:
        raise UserError(f'--{flag} {text}: must look like key={expected}')
    try:
        values = split_values(law[2])
        if law[1] == 'choice' and len(set(values)) < len(values):
            raise UserError('a value is there twice')
        return key, laws[law[1]](*values)
    except (TypeError, ValueError) as error:
        raise UserError(f'--{flag} {text}: {error}') from error


@dataclasses.dataclass(frozen=True)
class Sweep:
    """What a sweep trains.

    Attributes:
        script: The train script.
        data_dir: Records.
        category: One category, or 'all': a run is one network.
        steps: Of each run.
        prune: Evaluations of a run, after each of which it may end; 0: one, at its end.
        set: Settings that all runs have, as texts 'key=value'.
        grid, random, tpe: As parse_setting; not both of the last two.
        trials: Number of draws, each tried with the whole grid; alone may be more when a sweep
            goes on.
        seed: Of the draws.
        words: Further words for the train script.
    """

    script: str
    data_dir: str
    category: str = 'all'
    steps: int = 1
    prune: int = 0
    set: tuple[str, ...] = ()
    grid: tuple[str, ...] = ()
    random: tuple[str, ...] = ()
    tpe: tuple[str, ...] = ()
    trials: int = 1
    seed: int = 0
    words: tuple[str, ...] = ()

    def settings(self) -> dict[str, Any]:
        """Return key -> distribution, those of the grid first.

        Raises:
            UserError: A text is wrong, or a key is there twice.
        """
        if self.random and self.tpe:
            raise UserError('--random and --tpe: give one of them')
        flags_and_texts = [
            (f, text) for f in ('grid', 'random', 'tpe') for text in getattr(self, f)
        ]
        pairs = [parse_setting(flag, text) for flag, text in flags_and_texts]
        keys = [key for key, _ in pairs]
        for key in keys:
            if keys.count(key) > 1:
                raise UserError(f'{key} is there twice in --grid, --random and --tpe')
        return dict(pairs)

    def combinations(self) -> list[dict[str, str]]:
        """Return all combinations of the grid, in order: key -> value."""
        grid = list(self.settings().items())[: len(self.grid)]
        values = itertools.product(*(distribution.choices for _, distribution in grid))
        return [dict(zip([key for key, _ in grid], chosen)) for chosen in values]


def load_experiment(script: str) -> Experiment:
    """Return what a train script trains; nothing is trained.

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
    """Return all that is set of a run, that which makes it --steps steps long included.

    Raises:
        UserError: A setting is wrong, or not for a sweep to set.
    """
    from preprocessing.training_data import categories
    from utility.train.plan import make_plan

    chosen = [*sweep.set, *(f'{key}={value}' for key, value in settings.items())]
    keys = [text.partition('=')[0].strip() for text in chosen]
    for key in keys:
        if key in _NOT_TO_SET:
            raise UserError(f'{key} is not for a sweep to set: give {_NOT_TO_SET[key]}')
        if keys.count(key) > 1:
            raise UserError(f'{key} is set twice')
    changed = experiment.override(*chosen, f'data.category={sweep.category}')
    if categories(changed, sweep.data_dir, sweep.category) != [sweep.category]:
        raise UserError(f'--category={sweep.category}: a run is one network, of one name')
    steps_per_epoch = make_plan(changed, sweep.data_dir, 1).length.steps_per_epoch
    epochs = sweep.steps / steps_per_epoch
    length = {'epochs': epochs, 'epochs_per_eval': epochs / max(1, sweep.prune)}
    for key, value in flatten(dataclasses.asdict(changed)).items():
        is_used = not key.startswith('finetune.')  # of a second network, which no run has
        is_counted = key.endswith(('_epoch', '_epochs')) and value is not None
        if is_counted and is_used and key not in keys:
            length[key] = _times(epochs / changed.epochs, value)
    whole = [*chosen, *(f'{key}={value!r}' for key, value in length.items())]
    planned = make_plan(changed.override(*whole), sweep.data_dir, 1).length.total_steps
    if planned != sweep.steps:
        number = changed.optimizer.accumulate
        raise UserError(f'--steps={sweep.steps}: no multiple of optimizer.accumulate={number}')
    return whole


def _times(factor: float, value: Any) -> Any:
    return tuple(factor * part for part in value) if isinstance(value, tuple) else factor * value


def _text(value: str | float) -> str:
    return f'{value:.4g}' if isinstance(value, float) else str(value)


def _check_all(sweep: Sweep, experiment: Experiment) -> None:
    """Refuse what is wrong with any combination of the grid, a choice or an end of a range."""
    drawn = list(sweep.settings().items())[len(sweep.grid) :]
    values = {k: getattr(d, 'choices', None) or (d.low, d.high) for k, d in drawn}
    first_values = {key: _text(choices[0]) for key, choices in values.items()}
    for combination in sweep.combinations():
        assignments(sweep, experiment, {**combination, **first_values})
    for key, choices in values.items():
        for value in choices[1:]:
            assignments(sweep, experiment, {**combination, **first_values, key: _text(value)})


@contextlib.contextmanager
def _locked(folder: pathlib.Path) -> Iterator[int]:
    """Wait until nobody else works in the folder, neither a sweep nor a training that outlived it
    and inherited the lock; the file descriptor that holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / 'lock').open('w') as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logging.warning('%s: an earlier process still works; waiting for it', folder)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock.fileno()


def _open_study(sweep: Sweep, folder: pathlib.Path):
    """Return the study that the folder holds, or a new one.

    Raises:
        UserError: It is another sweep's.
    """
    import optuna
    from optuna.storages import journal

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path = folder / STUDY
    if path.exists():  # a kill can leave half a line and Optuna's lock, which nobody else holds now
        os.truncate(path, path.read_bytes().rfind(b'\n') + 1)
        path.with_name(f'{STUDY}.lock').unlink(missing_ok=True)
    study = optuna.create_study(
        study_name='sweep',
        storage=optuna.storages.JournalStorage(journal.JournalFileBackend(str(path))),
        pruner=optuna.pruners.MedianPruner(_RUNS_BEFORE_PRUNING),
        load_if_exists=True,
    )
    current = json.loads(json.dumps(dataclasses.asdict(sweep)))
    stored = study.user_attrs.get('sweep', current)
    differences = [
        f'{key}: {value} / {stored.get(key)}'
        for key, value in current.items()
        if value != stored.get(key) and not (key == 'trials' and value > stored[key])
    ]
    if differences:
        raise UserError(
            f'{folder} holds another sweep (now / there): {"; ".join(differences)}; give another '
            '--sweep_dir or the same flags'
        )
    study.set_user_attr('sweep', current)
    return study


def _latest(study) -> dict[int, Any]:
    """Return the number of a run -> its trial, the last where it was tried again."""
    trials = study.get_trials(deepcopy=False)
    return {trial.user_attrs['run']: trial for trial in trials}


def _next_trial(sweep: Sweep, study, run: int, retry: bool):
    """Return the trial of a run that is not done yet, begun before or new; None if it is done."""
    import optuna

    State, samplers = optuna.trial.TrialState, optuna.samplers  # noqa: N806
    latest, combinations = _latest(study), sweep.combinations()
    trial, index = latest.get(run), run % len(combinations)
    is_retry = retry and trial is not None and trial.state == State.FAIL
    if trial is not None and trial.state.is_finished() and not is_retry:
        return None
    # A sampler forgets in a kill what it has drawn: each run has one of its own.
    seed = zlib.crc32(f'{sweep.seed} {run}'.encode())
    study.sampler = (samplers.TPESampler if sweep.tpe else samplers.RandomSampler)(seed=seed)
    if trial is not None and trial.state == State.RUNNING:
        return optuna.trial.Trial(study, trial._trial_id)
    if trial is None or is_retry:
        # The runs of one draw share it, and differ in the grid.
        drawn = trial or latest.get(run - index)
        fixed = {**(drawn.params if drawn else {}), **combinations[index]}
        study.enqueue_trial(fixed, user_attrs={'run': run})
    return study.ask()  # what was enqueued, perhaps just before a kill


def run_all(sweep: Sweep, sweep_dir: str, retry: bool = False) -> list[Row]:
    """Do the runs that are not done yet, and keep the table of all that are.

    Args:
        sweep_dir: Where it is kept, a local directory.
        retry: Whether runs that failed are done again.

    Raises:
        UserError: A setting is wrong, sweep_dir holds another sweep, or the train script refuses
            its settings before any run has succeeded.
    """
    experiment, folder, rows = load_experiment(sweep.script), pathlib.Path(sweep_dir), []
    _check_all(sweep, experiment)
    with _locked(folder) as lock:
        study = _open_study(sweep, folder)
        for run in range(sweep.trials * len(sweep.combinations())):
            trial = _next_trial(sweep, study, run, retry)
            if trial is not None:
                settings = {k: _text(trial._suggest(k, d)) for k, d in sweep.settings().items()}
                logging.info('run-%03d: %s', run, ' '.join(map('='.join, settings.items())))
                trial.set_user_attr('settings', settings)
                _do(sweep, experiment, trial, folder / f'run-{run:03d}', lock)
            rows = _write_table(sweep, study, folder)
    return rows


def _do(sweep: Sweep, experiment: Experiment, trial, folder: pathlib.Path, lock: int) -> None:
    """Train, or go on with, the run of a trial, and tell the study what came out."""
    from optuna.trial import TrialState

    network, study = folder / sweep.category, trial.study

    def errors() -> dict[int, float]:
        results = evaluations.read(str(network))
        return {step: result[ERROR] for step, result in results.items() if ERROR in result}

    def report() -> dict[int, float]:
        errors_by_step = errors() if sweep.prune else {}
        reported = study.get_trials(deepcopy=False)[trial.number].intermediate_values
        for number, error in enumerate(errors_by_step.values(), 1):
            if number not in reported:
                trial.report(error, number)
        return errors_by_step

    def is_worse() -> bool:
        errors_by_step = report()
        return bool(errors_by_step) and sweep.steps not in errors_by_step and trial.should_prune()

    def tell(state: TrialState, outcome: str, error: float | None = None) -> None:
        trial.set_user_attr('outcome', outcome)
        study.tell(trial, error, state)
        logging.info('%s: %s', folder.name, outcome if error is None else f'NE {_percent(error)} %')

    try:
        words = assignments(sweep, experiment, trial.user_attrs['settings'])
    except UserError as error:  # of a draw; all else was checked before
        return tell(TrialState.FAIL, str(error))
    command = [sys.executable, sweep.script, f'--data_dir={sweep.data_dir}', *sweep.words]
    command += [f'--model_dir={folder}', f'--category={sweep.category}']
    command += [word for assignment in words for word in ('--set', assignment)]
    code = _execute(command, folder / OUTPUT, lock, is_worse)
    report()  # what came since the last look, for later runs to be compared with
    if code is None:
        return tell(TrialState.PRUNED, f'pruned after evaluation {len(errors())} of {sweep.prune}')
    if code == _REFUSED and not study.get_trials(deepcopy=False, states=[TrialState.COMPLETE]):
        # Probably all runs would be. The trial stays open, and is begun anew the next time.
        raise UserError(f'{folder.name} was refused; {folder / OUTPUT} tells why')
    if code:
        ending = f'killed by signal {-code}' if code < 0 else f'exit code {code}'
        return tell(TrialState.FAIL, f'{ending}: see {folder.name}/{OUTPUT}')
    error = errors().get(sweep.steps, math.nan)
    if math.isnan(error):
        return tell(TrialState.FAIL, f'no NE at step {sweep.steps}: are there validation pictures?')
    return tell(TrialState.COMPLETE, COMPLETE, error)


def _execute(
    command: Sequence[str], output: pathlib.Path, lock: int, is_worse: Callable[[], bool]
) -> int | None:
    """Run a command to its end, or until is_worse(); its exit code, None if it was stopped.

    What it prints is added to `output`. It holds the lock as long as it lives.
    """
    output.parent.mkdir(exist_ok=True)
    with output.open('ab') as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, pass_fds=[lock])
    try:
        while not is_worse():
            with contextlib.suppress(subprocess.TimeoutExpired):
                return process.wait(_POLL_SECONDS)
        return None
    finally:
        process.terminate()  # where it was stopped or waiting was interrupted
        process.wait()


def _write_table(sweep: Sweep, study, folder: pathlib.Path) -> list[Row]:
    """Return the rows of the runs that are done, in order; writes them to both files."""
    import pandas as pd

    rows = []
    for run, trial in sorted(_latest(study).items()):
        if trial.state.is_finished():
            outcome = trial.user_attrs['outcome']
            error = f'{trial.value:.6f}' if outcome == COMPLETE else ''
            ends = {'seconds': f'{trial.duration.total_seconds():.0f}', 'outcome': outcome}
            settings = trial.user_attrs['settings']
            rows.append({'run': f'run-{run:03d}', **settings, ERROR: error, **ends})
    count = sweep.trials * len(sweep.combinations())
    about = f'{count} runs of {sweep.script}, {sweep.steps} steps each, on {sweep.data_dir}.'
    about += f' All have {", ".join(sweep.set)}.' if sweep.set else ''
    write_bytes(folder / RESULTS, pd.DataFrame(rows).to_csv(index=False).encode())
    write_bytes(folder / PAGE, f'{about}\n\n{_markdown(rows)}'.encode())
    return rows


def _markdown(rows: Sequence[Row]) -> str:
    """Return the rows as a table, the least NE first, what did not come to its end last."""
    ranked = sorted(rows, key=lambda row: float(row[ERROR] or 'inf'))
    printed = [{**row, ERROR: row[ERROR] and _percent(row[ERROR])} for row in ranked]
    head = ['NE, %' if column == ERROR else column for column in rows[0]]
    return markdown_table(head, [list(row.values()) for row in printed])


def _percent(error: str | float) -> str:
    return f'{100 * float(error):.2f}'


def main(positional: list[str]) -> None:
    values = flags.FLAGS
    if not positional:
        raise UserError('give a train script: python -m utility.sweep train_resnet50_cpn.py ...')
    for name in ('data_dir', 'sweep_dir', 'steps'):
        if values[name].value is None:
            raise UserError(f'--{name} is needed')
    if not (values.grid or values.random or values.tpe):
        raise UserError('give --grid, --random or --tpe: what to try')
    if not (values.random or values.tpe) and values.trials != 1:
        raise UserError(f'--trials={values.trials}: is for draws; a grid is tried once')
    script, *words = positional
    chosen = {field.name: values[field.name].value for field in dataclasses.fields(Sweep)[1:-1]}
    chosen = {n: tuple(v) if isinstance(v, list) else v for n, v in chosen.items()}
    sweep = Sweep(script=script, words=tuple(words), **chosen)
    rows = run_all(sweep, values.sweep_dir, values.retry_failed)
    print((pathlib.Path(values.sweep_dir) / PAGE).read_text(), end='')
    if not any(row[ERROR] for row in rows):
        raise scripts.RunError('no run came to its end')


if __name__ == '__main__':
    flags.DEFINE_string('data_dir', None, 'Records, as convert_tfrecords.py wrote them.')
    flags.DEFINE_string('sweep_dir', None, 'Where the sweep is kept, and resumed from.')
    flags.DEFINE_integer('steps', None, 'Of each run.', lower_bound=1)
    flags.DEFINE_string('category', 'all', "One category, or 'all': a run is one network.")
    grid = 'key=VALUE,VALUE,..., repeatable: all combinations. Commas in brackets are of a value.'
    flags.DEFINE_multi_string('grid', [], grid)
    laws = 'key=LAW, repeatable: log(LOW,HIGH), uniform(LOW,HIGH), int(LOW,HIGH), choice(A,B,...).'
    flags.DEFINE_multi_string('random', [], f'{laws} Drawn at random.')
    tpe = 'The same, drawn where earlier runs were good (TPE), after 10 runs at random.'
    flags.DEFINE_multi_string('tpe', [], tpe)
    flags.DEFINE_integer('trials', 1, 'Draws; the grid is tried with each.', lower_bound=1)
    flags.DEFINE_integer('seed', 0, 'Of the draws.', 0, 2**32 - 1)  # what NumPy takes
    prune = 'Evaluate a run so many times, and end it where its NE is above the median of those '
    prune += f'before it, of which {_RUNS_BEFORE_PRUNING} go to their end; 0: evaluate at the end.'
    flags.DEFINE_integer('prune', 0, prune, lower_bound=0)
    flags.DEFINE_multi_string('set', [], 'key=value that all runs have, repeatable.')
    flags.DEFINE_boolean('retry_failed', False, 'Do runs again that failed.')
    scripts.run(main, __doc__)
