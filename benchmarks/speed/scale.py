"""What each part costs from 100 to 50,000 pictures: time should be linear, memory flat."""

from __future__ import annotations

import itertools
import math
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from absl import logging

import config
from benchmarks.common import commands, isolated, synthetic_data
from benchmarks.common.commands import Cost
from benchmarks.common.report import MET, TARGET, Table, Target
from benchmarks.speed import submissions
from preprocessing.datasets.fashionai import SCHEMA

NAME = 'Scale'
SIZES = (100, 1_000, 10_000, 50_000)
SIDE = 32  # px; the work on a picture is that on its pixels, and measured elsewhere
_BATCH_SIZE = 16
_MOST_REPEATS = 3  # of what is short
# Of the time beyond that for the fewest pictures: 1 is linear, 2 quadratic.
_EXPONENT = Target(at_most=1.15)
# Tables are held: of 24 points with coordinates, visibility and the text they were read from.
_MEMORY = Target(at_most=10, unit='kB')


class Paths(NamedTuple):
    """Where a data set of some size is, with predictions of it."""

    data: str
    records: str
    csvs: str
    out: str


def write(paths: Paths, num_images: int) -> None:
    """Write a data set, and what two models say of its pictures."""
    synthetic_data.write(paths.data, num_images, SIDE)
    Path(paths.csvs).mkdir()
    submissions.write_csvs(paths.csvs, num_images, 2, SIDE)


def read_epoch(records_dir: str, num_images: int) -> Cost:
    """Read, shuffle, decode and augment every picture once, as a training does."""
    from preprocessing import make_input_fn, records
    from preprocessing.stream import Order

    experiment = config.Experiment().override(
        f'network.image_size={SIDE},{SIDE}', f'network.heatmap_size={SIDE // 4},{SIDE // 4}'
    )
    batches = make_input_fn(
        records.split_patterns(f'{records_dir}/train', 'all'),
        SCHEMA,
        experiment.resolved_ops(experiment.data.train_ops),
        _BATCH_SIZE,
        training=True,
        order=Order(experiment.data.shuffle_buffer, num_images),
    )
    start = time.perf_counter()
    for _ in itertools.islice(batches(), num_images // _BATCH_SIZE):
        pass
    return Cost(time.perf_counter() - start, isolated.peak_memory(), '')


def costs(paths: Paths, num_images: int, repeats: int) -> Iterator[tuple[str, Cost]]:
    """Yield what each part costs on a data set; what is short is run `repeats` times."""
    train, csvs = f'{paths.records}/train', [f'{paths.csvs}/{number}.csv' for number in range(2)]
    records_dir = f'--records_dir={paths.records}'
    convert = [f'--data_dir={paths.data}', records_dir, '--val_fraction=0', '--num_workers=1']
    yield 'conversion', commands.run('convert_tfrecords.py', *convert)
    epochs = [isolated.call(read_epoch, paths.records, num_images) for _ in range(repeats)]
    yield 'an epoch of training pictures', _median(epochs)
    labels = ['eval_labels.py', f'--data_dir={train}', f'--output_dir={paths.out}']
    yield 'statistics of the labels', commands.run(*labels)
    answers = f'--answers={paths.csvs}/{submissions.ANSWERS}.csv'
    score = ['eval_metrics.py', f'--prediction={csvs[0]}', answers, '--confidence']
    yield 'scoring with intervals', _median([commands.run(*score) for _ in range(repeats)])
    output = f'--output_csv={paths.out}/ensemble.csv'
    combine = ['ensemble_from_csv.py', *csvs, output]
    yield 'ensemble of two', _median([commands.run(*combine) for _ in range(repeats)])
    check = ['ensemble_from_csv.py', f'--check={csvs[0]}', f'--data_dir={train}']
    yield 'check of a submission', commands.run(*check)


def _median(runs: Sequence[Cost]) -> Cost:
    return Cost(commands.seconds_of(runs).median, commands.memory_of(runs), '')


def measure(repeats: int) -> list[Table]:
    """Measure one size after the other."""
    costs_by_name: dict[str, list[Cost]] = {}
    for size in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            paths = Paths(*(f'{folder}/{name}' for name in Paths._fields))
            isolated.call(write, paths, size)
            for name, cost in costs(paths, size, min(repeats, _MOST_REPEATS)):
                logging.info('%d pictures, %s: %.1f s', size, name, cost.seconds)
                costs_by_name.setdefault(name, []).append(cost)
    return tables(costs_by_name)


def tables(costs_by_name: dict[str, list[Cost]]) -> list[Table]:
    """Return seconds and memory of each part, by SIZES."""
    sizes = [f'{size:,}' for size in SIZES]
    times, memories = [], []
    for name, row in costs_by_name.items():
        seconds, memory = [cost.seconds for cost in row], [cost.memory for cost in row]
        power, growth = exponent(seconds), kilobytes_per_image(memory)
        rate = (SIZES[-1] - SIZES[-2]) / max(1e-9, seconds[-1] - seconds[-2])
        cells = [*(f'{value:.1f}' for value in seconds), f'{rate:,.0f}', f'{power:.2f}']
        times.append([name, *cells, *_EXPONENT.cells(power)])
        cells = [*(f'{value:.2f}' for value in memory), f'{growth:.1f}']
        memories.append([name, *cells, *_MEMORY.cells(growth)])
    numbers = {
        name: {'pictures': SIZES, 'costs': [cost._replace(out='')._asdict() for cost in row]}
        for name, row in costs_by_name.items()
    }
    rate, power = 'pictures/s, of the last 40,000', 'exponent'
    most = max(kilobytes_per_image([cost.memory for cost in row]) for row in costs_by_name.values())
    in_short = (
        f'From {SIZES[-2]:,} to {SIZES[-1]:,} pictures no part needs more than {most:.0f} kB of '
        'memory for each further one.'
    )
    return [
        Table(
            'Seconds', ('part', *sizes, rate, power, TARGET, MET), times, _NOTES, numbers, in_short
        ),
        Table(
            'Memory, GiB',
            ('part', *sizes, 'kB a picture, of the last 40,000', TARGET, MET),
            memories,
            _MEMORY_NOTES,
        ),
    ]


def exponent(seconds: list[float]) -> float:
    """Return the power of the number of pictures by which time grows, from the last two of SIZES.

    What starting takes, the time for the fewest pictures, is taken off.
    """
    before, after = (max(1e-3, value - seconds[0]) for value in seconds[-2:])
    return math.log(after / before) / math.log(SIZES[-1] / SIZES[-2])


def kilobytes_per_image(memory: list[float]) -> float:
    """Return the kB that memory (GiB) grows by for each picture between the last two SIZES."""
    return (memory[-1] - memory[-2]) * 2**30 / 1e3 / (SIZES[-1] - SIZES[-2])


_NOTES = (
    f'Pictures of {SIDE} px, so that what is done for each picture shows beside its pixels. Whole '
    'commands with their start-up, run once, but for epoch, scoring and ensemble, of which medians '
    'of a few runs are given; of the epoch, only the reading.',
    'Exponent: the power of the number of pictures by which the time grows from 10,000 to 50,000, '
    'that for 100 taken off: 1 is linear.',
)
_MEMORY_NOTES = (
    'Of the largest process. What commands hold of each picture is its annotation or its '
    'predictions, never pixels; a training holds `data.shuffle_buffer` records, and no more.',
)
