"""Conversion to records, with every picture checked, against a plain copy of the files."""

from __future__ import annotations

import functools
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.common import commands, interleaved, isolated, synthetic_data
from benchmarks.common.commands import Cost
from benchmarks.common.report import Table

NAME = 'Conversion'
NUM_IMAGES = 8_000
SIDE = 512  # px
_MAX_SECONDS = 20.0  # on each way
_COPY = 'a plain copy of the files'
_DECODE = 'decoding each once, one thread'
_WAYS = {'conversion, 1 process': 1, 'conversion, 2 processes': 2}
_HEADER = ('what', 's', 'pictures/s', 'times the copy', 'memory, GiB')


def copy(source: str, target: str) -> Cost:
    """Copy a data set. The files are in memory, as they are for the conversions."""
    seconds = interleaved.seconds_of(functools.partial(shutil.copytree, source, target))
    shutil.rmtree(target)
    return Cost(seconds, isolated.peak_memory(), '')


def decodings(folder: str) -> Iterator[Cost]:
    """Yield the time to decode all pictures of a data set, over and over, in an own process."""
    import tensorflow as tf

    tf.config.threading.set_inter_op_parallelism_threads(1)
    paths = sorted(Path(folder).glob(f'{synthetic_data.SPLIT}/Images/*/*.jpg'))
    while True:
        start = time.perf_counter()
        for path in paths:
            tf.io.decode_jpeg(path.read_bytes(), channels=3)
        yield Cost(time.perf_counter() - start, isolated.peak_memory(), '')


def convert(source: str, target: str, num_workers: int) -> Cost:
    """Convert a data set by the user's command."""
    flags = (f'--data_dir={source}', f'--records_dir={target}', f'--num_workers={num_workers}')
    cost = commands.run('convert_tfrecords.py', *flags)
    shutil.rmtree(target)
    return cost


def measure(repeats: int) -> list[Table]:
    """Write a data set and time what is done with it, in turn."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = f'{folder}/data', f'{folder}/out'
        isolated.call(synthetic_data.write, source, NUM_IMAGES, SIDE)
        size = sum(path.stat().st_size for path in Path(source).rglob('*.jpg'))
        actions = {_COPY: functools.partial(copy, source, target)}
        for name, num_workers in _WAYS.items():
            actions[name] = functools.partial(convert, source, target, num_workers)
        with isolated.Remote(decodings, source) as decoder:
            actions[_DECODE] = decoder.__next__
            costs_by_name = interleaved.rounds(actions, repeats, _MAX_SECONDS)
    return [table(costs_by_name, size / NUM_IMAGES)]


def table(costs_by_name: Mapping[str, Sequence[Cost]], size: float) -> Table:
    """Return the table of what was measured of each way; `size`: of a picture, bytes."""
    summaries = {name: commands.seconds_of(costs) for name, costs in costs_by_name.items()}
    memory = {name: commands.memory_of(costs) for name, costs in costs_by_name.items()}
    rows = [
        (
            name,
            interleaved.text(seconds),
            f'{NUM_IMAGES / seconds.median:.0f}',
            f'{seconds.median / summaries[_COPY].median:.1f}',
            f'{memory[name]:.2f}',
        )
        for name, seconds in summaries.items()
    ]
    numbers = {
        name: {'seconds': seconds._asdict(), 'memory': memory[name]}
        for name, seconds in summaries.items()
    }
    notes = (
        f'{NUM_IMAGES:,} JPEGs of {SIDE} x {SIDE} px, {size / 1e3:.0f} kB each, '
        'which the system holds in memory. Conversions are whole commands; each process imports '
        'TensorFlow first.',
        'The check decodes every picture twice, to an eighth of its side, and hashes its bytes; '
        'then the file is read again to be written. Memory is that of the largest process.',
    )
    rate_1, rate_2 = (NUM_IMAGES / summaries[name].median for name in _WAYS)
    in_short = (
        f'Conversion checks and writes {rate_1:.0f} pictures of {SIDE} px a second by one process, '
        f'{rate_2:.0f} by two.'
    )
    return Table(NAME, _HEADER, rows, notes, numbers, in_short)
