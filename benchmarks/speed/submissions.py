"""Submissions as large as the data set: how long it takes to combine them and to score one.

The commands are those that a user gives, from their start to their end.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.common import commands, interleaved, isolated, simulated_models
from benchmarks.common.report import MET, NO_TARGET, TARGET, Table, Target
from preprocessing.datasets.fashionai import SCHEMA
from utility.statistics.bootstrap import NUM_SAMPLES

NAME = 'Submissions: combining and scoring'
NUM_IMAGES = 54_444
NUM_MODELS = 10
SIDE = 512  # px
_NOISE = 6.0  # px; what a good model is wrong by
_MAX_SECONDS = 15.0  # on each command
ANSWERS = 'answers'
_TARGETS = {
    'mean of 2': Target(at_most=4, unit='s'),
    'mean of 10': Target(at_most=15, unit='s'),
    'NE with intervals': Target(at_most=10, unit='s'),
}


def write_csvs(folder: str, num_images: int, num_models: int, side: int = SIDE) -> None:
    """Write answers.csv of pictures of some side, px, and what models say: 0.csv and so on."""
    table = simulated_models.annotations(0, num_images, list(SCHEMA.categories))
    tables = {ANSWERS: table}
    for number in range(num_models):
        tables[str(number)] = simulated_models.model(table, 1 + number, _NOISE)
    for name, predicted in tables.items():
        simulated_models.write(Path(folder), **{name: simulated_models.scaled(predicted, side)})


def command_lines(folder: str, num_models: int = NUM_MODELS) -> dict[str, list[str]]:
    """Return the commands that are timed, by name, for the files of write_csvs."""
    csvs = [f'{folder}/{number}.csv' for number in range(num_models)]
    combine = ['ensemble_from_csv.py', f'--output_csv={folder}/ensemble.csv']
    score = ['eval_metrics.py', f'--prediction={csvs[0]}', f'--answers={folder}/{ANSWERS}.csv']
    return {
        'mean of 2': [*combine, *csvs[:2]],
        f'mean of {num_models}': [*combine, *csvs],
        f'median of {num_models}': [*combine, *csvs, '--method=median'],
        'NE': score,
        'NE with intervals': [*score, '--confidence'],
        'check': ['ensemble_from_csv.py', f'--check={csvs[0]}'],
    }


def measure(repeats: int) -> list[Table]:
    """Write the CSVs and time the commands on them, in turn."""
    with tempfile.TemporaryDirectory() as folder:
        isolated.call(write_csvs, folder, NUM_IMAGES, NUM_MODELS)
        size = Path(folder, '0.csv').stat().st_size
        lines = command_lines(folder)
        actions = {name: functools.partial(commands.run, *words) for name, words in lines.items()}
        costs_by_name = interleaved.rounds(actions, repeats, _MAX_SECONDS)
    rows, numbers = [], {}
    for name, costs in costs_by_name.items():
        seconds, memory = commands.seconds_of(costs), commands.memory_of(costs)
        judged = _TARGETS[name].cells(seconds.median) if name in _TARGETS else NO_TARGET
        script = lines[name][0]
        rows.append((name, script, interleaved.text(seconds), f'{memory:.2f}', *judged))
        numbers[name] = {'seconds': seconds._asdict(), 'memory': memory}
    header = ('what', 'command', 's', 'memory, GiB', TARGET, MET)
    return [Table(NAME, header, rows, _notes(size), numbers, _in_short(numbers))]


def _in_short(numbers: Mapping[str, Any]) -> str:
    two, ten, score = (f'{numbers[name]["seconds"]["median"]:.1f} s' for name in _TARGETS)
    return (
        f'Two submissions of {NUM_IMAGES:,} pictures are combined in {two}, ten in {ten}; one '
        f'is scored with its confidence intervals in {score}, start-up included.'
    )


def _notes(size: int) -> tuple[str, ...]:
    """Return what one must know; `size`: of a file, bytes."""
    return (
        f'CSVs of {NUM_IMAGES:,} pictures of all categories, {size / 1e6:.0f} MB each; whole '
        'commands with their start-up.',
        'tf.fashionAI, measured once on such a machine and not run here, took 406 s for two such '
        'files.',
        f'Intervals: `--confidence`, {NUM_SAMPLES:,} samples of the bootstrap over all, and as '
        'many for each category.',
    )
