"""Prediction: pictures per second against the system this project starts from, and memory.

python -m benchmarks.speed.prediction [--pictures=50000]

tells of the memory alone. What the networks see is noise: only time and memory matter here.
"""

from __future__ import annotations

import collections
import contextlib
import io
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from absl import flags

from benchmarks import networks
from benchmarks.common import interleaved, isolated, ledger, recipes, synthetic_runs
from benchmarks.common.report import MET, TARGET, Table, Target
from preprocessing.datasets.fashionai import SCHEMA
from utility.command_line import scripts
from utility.command_line.progress import Stopwatch
from utility.metrics import normalized_error
from utility.metrics.annotations import annotations_of
from utility.statistics.medians import summarize
from utility.train import memory

NAME = 'Prediction'
NUM_IMAGES = 50_000  # for the memory; about as many as a test set of the contest has
_RECIPE, _SIZE = 'resnet50_cpn', 256
_IMAGE_SIZE = 512  # px, as in the contest
_BATCH_SIZE = 8
_TIMED = 2 * _BATCH_SIZE  # pictures a measurement; the first batch is not timed
_TIMED_SEED = 10
_ALONE = 'the network alone'
_MAX_SECONDS = 45.0  # on each member
_FLAT = Target(at_most=64, unit='MB')
TINY = {
    'network.backbone_options.width': '4',
    'network.head_options.channels': '8',
    'network.image_size': '32,32',
    'network.heatmap_size': '8,8',
}
_TINY_IMAGE_SIZE = 48  # px
_SHARES = (0.1, 0.25, 0.5, 0.75, 1.0)  # of the pictures, after which the memory is looked at


class Way(NamedTuple):
    """How much is looked at; see PredictOptions."""

    flip_test: bool = False
    passes: int = 1

    @property
    def looks(self) -> int:
        """At each picture."""
        return (1 + self.flip_test) * self.passes


WAYS = {
    'plain': Way(),
    'flip': Way(flip_test=True),
    'flip, two passes': Way(flip_test=True, passes=2),
}


def measure(repeats: int) -> list[Table]:
    """Return all measurements, as tables."""
    return [compare(repeats), norms_table(), remember(NUM_IMAGES)]


# Speed.


def write_inputs(folder: str, num_images: int, image_size: int, experiment) -> None:
    """Write FOLDER/records and FOLDER/run."""
    synthetic_runs.write_split(os.path.join(folder, 'records'), num_images, image_size)
    synthetic_runs.write_run(os.path.join(folder, 'run'), experiment)


def _paths(folder: str) -> tuple[str, str]:
    return os.path.join(folder, 'run'), os.path.join(folder, 'records', synthetic_runs.SPLIT)


def ours(folder: str, way: Way, batch_size: int) -> Iterator[dict[str, float]]:
    """Yield seconds a picture and those that all else takes, over and over, in an own process.

    Nothing in the first row: then TensorFlow is loaded.
    """
    from utility.predict import predictor
    from utility.predict.views_to_points import PredictOptions

    run_dir, split_dir = _paths(folder)
    options = PredictOptions(batch_size=batch_size, **way._asdict())
    count = sum(predictor.categories_of(split_dir).values())
    yield {}
    while True:
        watch, start = Stopwatch(batch_size, way.passes), time.perf_counter()
        with contextlib.redirect_stderr(io.StringIO()):  # the lines of progress
            predictor.predict_split([run_dir], split_dir, options, watch)
        seconds, image_seconds = time.perf_counter() - start, 1 / watch.rate()
        yield {'picture': image_seconds, 'start': seconds - count * image_seconds}


def seed(folder: str, way: Way) -> Iterator[dict[str, float]]:
    """Yield, in a process of its own, seconds a picture in the way of the system compared with.

    Nothing in the first row: then the graph is built.
    """
    from benchmarks.speed import seed_prediction

    measured = seed_prediction.seconds_per_image(*_paths(folder), *way, _TIMED_SEED)
    next(measured)
    yield {}
    for seconds in measured:
        yield {'picture': seconds}


def alone(size: int, batch_size: int) -> Iterator[dict[str, float]]:
    """Yield, in a process of its own, seconds a picture of the network and its decoding alone.

    Nothing in the first row: then the graph is built.
    """
    step = networks.step(recipes.resized(recipes.load(_RECIPE), size), 'infer', batch_size)[0]
    step()
    yield {}
    while True:
        yield {'picture': interleaved.seconds_of(step) / batch_size}


def compare(repeats: int) -> Table:
    """Return pictures per second of each of WAYS, ours and the other, and of the network."""
    experiment = recipes.resized(recipes.load(_RECIPE), _SIZE)
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        isolated.call(write_inputs, folder, _BATCH_SIZE + _TIMED, _IMAGE_SIZE, experiment)
        members = {(_ALONE, ''): isolated.Remote(alone, _SIZE, _BATCH_SIZE)}
        for name, way in WAYS.items():
            members[name, 'ours'] = isolated.Remote(ours, folder, way, _BATCH_SIZE)
            members[name, 'seed'] = isolated.Remote(seed, folder, way)
        for member in members.values():
            next(stack.enter_context(member))
        nexts = {name: member.__next__ for name, member in members.items()}
        rows_by_name = interleaved.rounds(nexts, repeats, _MAX_SECONDS)
    pairs = {name: (rows_by_name[name, 'ours'], rows_by_name[name, 'seed']) for name in WAYS}
    return speed_table(pairs, rows_by_name[_ALONE, ''])


def speed_table(pairs: dict[str, tuple[list, list]], limit: list[dict[str, float]]) -> Table:
    """Return the table of what `compare` measured, round by round."""
    bound = summarize([1 / row['picture'] for row in limit])
    rows, numbers = [], {_ALONE: bound}
    for name, (project_rows, seed_rows) in pairs.items():
        rates = [
            summarize([1 / row['picture'] for row in measured])
            for measured in (project_rows, seed_rows)
        ]
        ratio = summarize([s['picture'] / o['picture'] for o, s in zip(project_rows, seed_rows)])
        start = statistics.median(row['start'] for row in project_rows)
        share = rates[0].median * WAYS[name].looks / bound.median
        texts = [interleaved.text(value) for value in (*rates, ratio)]
        rows.append((name, *texts, f'{share:.0%}', f'{start:.1f}'))
        numbers[name] = {'ours': rates[0], 'seed': rates[1], 'ratio': ratio, 'start': start}
    rows.append((_ALONE, interleaved.text(bound), *[''] * 4))
    header = ('looks', 'pictures/s', "the seed's way", 'ratio', 'of the network', 'start, s')
    return Table(
        f'{_RECIPE} at {_SIZE} px, batches of {_BATCH_SIZE}', header, rows, _NOTES, numbers
    )


_NOTES = (
    f'Pictures of {_IMAGE_SIZE} px, from records to points, in float32; the same network and '
    'weights for both.',
    "The seed's way (benchmarks/speed/seed_prediction.py): one picture at a time, maps decoded one "
    'after the other, the network twice in the graph for two passes.',
    '**Ratio**: of times, round by round.',
    '**Of the network**: the share that looks per second have of those of the network alone, its '
    'decoding included: what reading, warping and all around it leave.',
    '**Start**: graphs, sessions and weights of all passes together, once a command and network; '
    'not in the rates.',
)


# Batch norm.


def norms_table() -> Table:
    """Return a table: how many batch norms the graph that runs still has, for some recipes."""
    rows = []
    for name in _RECIPES_OF_NORMS:
        total, unfolded = isolated.call(count_norms, name)
        groups = collections.Counter(path.split('/')[0] for path in unfolded)
        where = ', '.join(f'{count} in the {group}' for group, count in groups.items())
        rows.append((name, f'{total}', f'{total - len(unfolded)}', f'{len(unfolded)}', where))
    header = ('network', 'batch norms', 'folded', 'left', 'where')
    return Table('Batch norm folded for inference', header, rows, _NORMS_NOTES)


def count_norms(name: str) -> tuple[int, list[str]]:
    """Yield, in a process of its own, fused_norms.count of a recipe."""
    from benchmarks.speed import fused_norms

    network = recipes.resized(recipes.load(name), _SIZE_OF_NORMS).network
    return fused_norms.count(network, SCHEMA.num_keypoints)


_RECIPES_OF_NORMS = (
    'resnet50_cpn',
    'seresnext50_cpn',
    'hrnet_w32_hrnet',
    'hourglass_stem_hourglass',
)
_SIZE_OF_NORMS = 128  # px
_NORMS_NOTES = (
    'Counted in the graph that TensorFlow runs on this machine, in float32: folded ones are among '
    'the `fused_ops` of a convolution. What follows no convolution cannot be folded.',
)


# Memory.


def remember(num_images: int) -> Table:
    """Return the memory while so many small pictures are predicted by a tiny network."""
    settings = [f'{key}={value}' for key, value in TINY.items()]
    experiment = recipes.load('resnet18_dhn').override(*settings)
    with tempfile.TemporaryDirectory() as folder:
        isolated.call(write_inputs, folder, num_images, _TINY_IMAGE_SIZE, experiment)
        costs = isolated.call(watch_memory, folder, num_images)
    return memory_table(costs, num_images)


def watch_memory(folder: str, num_images: int) -> dict[str, Any]:
    """Predict by flip and two passes, and score, in a process of its own.

    Returns:
        'passes': MB after each share of the pictures, of each pass; 'scored': MB after the score;
        'seconds' of the prediction.
    """
    from utility.predict import predictor
    from utility.predict.views_to_points import PredictOptions

    run_dir, split_dir = _paths(folder)
    places = {round(share * num_images) - 1 for share in _SHARES}
    sizes = []

    def look(row):
        if row in places:
            sizes.append(memory.resident_mb())

    options = PredictOptions(batch_size=64, **WAYS['flip, two passes']._asdict())
    start = time.perf_counter()
    with contextlib.redirect_stderr(io.StringIO()):
        predicted = predictor.predict_split([run_dir], split_dir, options, look)
    seconds = time.perf_counter() - start
    annotations = annotations_of(split_dir, SCHEMA)
    normalized_error.score(predicted.table(), annotations, SCHEMA)
    middle = len(_SHARES)
    return {
        'passes': [sizes[:middle], sizes[middle:]],
        'scored': memory.resident_mb(),
        'seconds': seconds,
    }


def memory_table(costs: dict[str, Any], num_images: int) -> Table:
    """Return the table of what `watch_memory` found."""
    header = ('memory after', *(f'{share * num_images:,.0f}' for share in _SHARES), 'growth')
    rows = []
    for number, sizes in enumerate(costs['passes'], 1):
        growth = sizes[-1] - sizes[0]
        cells = (f'{size:.0f}' for size in sizes)
        rows.append((f'pass {number}, MB', *cells, f'{growth:+.0f}', *_FLAT.cells(growth)))
    rate = num_images / costs['seconds']
    notes = (
        f'{num_images:,} pictures of {_TINY_IMAGE_SIZE} px and a network of 32 px, flip and '
        f'two passes: {rate:.0f} pictures/s.',
        'What grows are the results: 24 points of two coordinates, a score and a visibility each, '
        f'{num_images * 24 * 16 / 2**20:.0f} MB, and the names of the pictures.',
        f'After scoring them, with the answers: {costs["scored"]:.0f} MB.',
    )
    return Table('Memory', (*header, TARGET, MET), rows, notes, costs)


def main(positional: list[str]) -> None:
    scripts.no_positional(positional)
    table = remember(flags.FLAGS.pictures)
    ledger.publish(ledger.markdown_table(table.header, table.rows), None)


if __name__ == '__main__':
    flags.DEFINE_integer('pictures', NUM_IMAGES, 'How many are predicted.', lower_bound=64)
    scripts.run(main, __doc__)
