"""The training input, in pictures per second, against decoding alone and against other ways.

With the default augmentation at 384 px, of records made here: pictures of 512 px and about 75 kB.
"""

from __future__ import annotations

import os
import pathlib
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

import config
from benchmarks.common import interleaved, isolated
from benchmarks.common.report import MET, NO_TARGET, TARGET, Table, Target
from preprocessing.datasets import DATASETS, Annotation, schema_of
from utility.statistics.medians import summarize

NAME = 'Training input'
BATCH_SIZE = 16
PICTURES = 160
SIDE = 512  # px
QUALITY = 88
# What the measured ways are compared with.
DECODING, SEED, BEFORE = 'decoding alone', 'the 2018 system', 'one warp of the whole picture'
HOST, DEVICE = '--augment_on=host', '--augment_on=device'
HEATMAPS = f'{HOST}, with heat maps'
# Batches after which memory is read.
EARLY, LATE = 60, 180

# Stages of which each needs what is before it, and nothing more: what a picture takes up to there.
READING, MATRICES = 'reading, shuffling, parsing', 'matrices and points, no pixels'

_RATE = Target(at_least=400, unit='pictures/s')
_SHARES = {
    HOST: Target(at_least=0.4, unit='of decoding'),
    DEVICE: Target(at_least=0.8, unit='of decoding'),
}
_HEADER = (
    'input', 'pictures/s', 'of decoding', 'of 2018', 'first batch, s', TARGET, MET
)  # fmt: skip
_NOTES = (
    f'Pictures of {SIDE} px to views of 384 px with the default augmentation, heat maps of 96 '
    f'cells, batches of {BATCH_SIZE}; ratios are medians of those of the rounds.',
    f'{DECODING}: records are read and parsed, and their JPEGs decoded whole; no batches of them.',
    f'{SEED}: separate operations, colours by way of HSV, heat maps by py_function, float32.',
    f"{BEFORE}: TensorFlow's own operations, with the same numbers drawn; nothing compiled.",
    f'{HOST}: what a training reads by default, pictures in uint8. With heat maps: those that a '
    'step makes for itself are made on the host too, so that the work is that of the 2018 system.',
    f'{DEVICE}: what the host is left with; the step warps and colours.',
)
_STAGES_NOTES = (
    'By all cores together. The last two rows are what is left of a way when the first three are '
    'taken off; a way that decodes only what is seen can have less.',
    f'{DEVICE} reaches its target if the second row and its own are together a quarter of '
    f'{DECODING}.',
)
_MEMORY_HEADER = ('input', f'MiB after {EARLY} batches', f'MiB after {LATE} batches')
_MEMORY_NOTES = (
    f'The most memory of a process, less what it had before; {PICTURES} records to shuffle from.',
)


def write_records(root: pathlib.Path) -> None:
    """Write a split 'train' of smooth noise, with points of all kinds of garments."""
    import cv2

    from preprocessing import records

    rng = np.random.default_rng(0)
    keypoints = DATASETS.get('fashionai').schema.keypoints
    path = records.shard_path(str(root / 'train'), 'blouse', 0, 1)
    os.makedirs(root / 'train')
    with records.shard_writer(path) as write:
        for i in range(PICTURES):
            coarse = rng.integers(0, 256, (96, 96, 3)).astype(np.uint8)
            image = cv2.resize(coarse, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
            jpeg = cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()
            points = rng.uniform(0.2 * SIDE, 0.8 * SIDE, (len(keypoints), 2)).astype(np.float32)
            visible = np.ones(len(keypoints), np.int32)
            annotation = Annotation('', f'{i}.jpg', 'blouse', points, visible)
            write(records.encode_example(jpeg, annotation, (SIDE, SIDE)))


class _Input:
    """The ways to read the training split of records, each an endless dataset of batches."""

    def __init__(self, data_dir: str):
        from preprocessing import records

        self.experiment = config.Experiment()
        self.schema = schema_of(self.experiment.data)
        self.ops = self.experiment.resolved_ops(self.experiment.data.train_ops)
        self.files = records.record_files(records.split_patterns(f'{data_dir}/train', 'all'))

    def trained(self, augment_on: str):
        from preprocessing import make_input_fn

        return make_input_fn(
            self.files, self.schema, self.ops, BATCH_SIZE, training=True, augment_on=augment_on
        )()

    def with_heatmaps(self):

        from preprocessing.stream import PARALLEL_CALLS
        from utility.codecs.heatmaps import HeatmapCodec

        network = self.experiment.network
        codec = HeatmapCodec(
            image_size=network.image_size, heatmap_size=network.map_size, sigma=2.0
        )
        return self.trained('host').map(
            lambda features, labels: (features['image'], codec.encode(labels['keypoints'])),
            PARALLEL_CALLS,
        )

    def mapped(self, function: Callable):
        """Return `function` of the number of a record in the stream, and of the parsed record."""
        import tensorflow as tf

        from preprocessing import records
        from preprocessing.stream import PARALLEL_CALLS, Order, shuffled, untuned

        def prepare(index, record):
            return function(index, records.decode_example(record, self.schema))

        prepare = tf.autograph.experimental.do_not_convert(prepare)
        stream = shuffled(self.files, self.experiment.seed, Order(), BATCH_SIZE)
        batches = stream.map(prepare, PARALLEL_CALLS).batch(BATCH_SIZE).prefetch(2)
        return batches.with_options(untuned())

    def warped_whole(self, index, example):
        import tensorflow as tf

        from preprocessing import geometry
        from preprocessing.ops import op_string
        from preprocessing.ops.registry import Stage
        from preprocessing.rendering import to_uint8

        seed = tf.stack([tf.constant(self.experiment.seed, tf.int64), index])
        framed = op_string.framed(self.ops, self.schema, example, seed)
        size = op_string.picture_size(self.ops)
        warped = geometry.warp_image(_decoded(example), framed['to_crop'], size, framed['fill'])
        framed = {**framed, 'image': warped}
        for stage, op in op_string.parse_ops(self.ops):
            if stage == Stage.PIXELS:
                framed = op(framed, seed)
        return to_uint8(framed['image'])

    def framed(self, index, example):
        import tensorflow as tf

        from preprocessing.ops import op_string

        seed = tf.stack([tf.constant(self.experiment.seed, tf.int64), index])
        framed = op_string.framed(self.ops, self.schema, example, seed)
        return (
            framed['to_crop'],
            framed['keypoints'],
            framed['visibility'],
        )  # pixels are not asked for

    def as_in_2018(self, _, example):
        from benchmarks.speed import seed_input

        network = self.experiment.network
        return seed_input.prepare(example, network.image_size[0], network.map_size[0])


def _decoded(example):
    import tensorflow as tf

    return tf.io.decode_jpeg(example['encoded'], channels=3, dct_method='INTEGER_ACCURATE')


def ways(data_dir: str) -> dict[str, Callable]:
    """Return name -> what makes the dataset."""
    files = _Input(data_dir)
    return {
        READING: lambda: files.mapped(lambda _, example: example['keypoints']),
        MATRICES: lambda: files.mapped(files.framed),
        DECODING: lambda: files.mapped(lambda _, example: _decoded(example)[0, 0]),
        SEED: lambda: files.mapped(files.as_in_2018),
        BEFORE: lambda: files.mapped(files.warped_whole),
        HOST: lambda: files.trained('host'),
        HEATMAPS: files.with_heatmaps,
        DEVICE: lambda: files.trained('device'),
    }


def first_batches(makers: Mapping[str, Callable]) -> tuple[dict, dict[str, float]]:
    """Return the datasets, and the seconds until each gave a batch: mostly tracing."""
    datasets, seconds = {}, {}
    for name, make in makers.items():
        start = time.perf_counter()
        datasets[name] = make()
        next(iter(datasets[name]))
        seconds[name] = time.perf_counter() - start
    return datasets, seconds


def rows(
    rates: Mapping[str, Sequence[float]], first_seconds: Mapping[str, float]
) -> Iterator[tuple]:
    """Yield a line of the table for each way; its stages have a table of their own."""
    for name, values in rates.items():
        if name in (READING, MATRICES):
            continue
        rate = summarize(list(values))
        of_decoding, of_seed = (
            summarize([value / base for value, base in zip(values, rates[reference])]).median
            for reference in (DECODING, SEED)
        )
        judged = {way: share.cells(of_decoding) for way, share in _SHARES.items()}
        judged[HEATMAPS] = _RATE.cells(rate.median)
        ratios = f'{of_decoding:.2f}', f'{of_seed:.1f}'
        target = judged.get(name, NO_TARGET)
        yield (name, interleaved.text(rate), *ratios, f'{first_seconds[name]:.1f}', *target)


def stages_table(rates: Mapping[str, Sequence[float]]) -> Table:
    """Return where the time of a picture goes: differences of ways that contain each other."""
    columns = {name: summarize([1000 / rate for rate in values]) for name, values in rates.items()}
    reading, matrices, decoding, device, host = (
        columns[name].median for name in (READING, MATRICES, DECODING, DEVICE, HOST)
    )
    parts = {
        READING: reading,
        MATRICES: matrices - reading,
        'decoding the JPEG whole': decoding - reading,
        f'{DEVICE}: all else, batches above all': device - matrices - (decoding - reading),
        f'{HOST}: all else, sampling and colours above all': host - matrices - (decoding - reading),
    }
    rows = [(name, f'{value:.2f}', f'{value / decoding:.2f}') for name, value in parts.items()]
    header = ('stage', 'ms a picture', 'of decoding alone')
    return Table('Where the time of a picture goes', header, rows, _STAGES_NOTES, parts)


def _memory(data_dir: str, augment_on: str) -> Iterator[float]:
    """Yield the peak memory of the process, GiB: before the input, early, and late in it."""
    files = _Input(data_dir)
    yield isolated.peak_memory()
    batches = iter(files.trained(augment_on))
    for number in (EARLY, LATE - EARLY):
        for _ in range(number):
            next(batches)
        yield isolated.peak_memory()


def _memory_table(data_dir: str) -> Table:
    rows, numbers = [], {}
    for name in (HOST, DEVICE):
        with isolated.Remote(_memory, data_dir, name.split('=')[1]) as process:
            start, *later = (1024 * next(process) for _ in range(3))
        numbers[name] = [value - start for value in later]
        rows.append((name, *(f'{value:,.0f}' for value in numbers[name])))
    return Table('Memory of the input', _MEMORY_HEADER, rows, _MEMORY_NOTES, numbers)


def measure(repeats: int) -> list[Table]:
    """Return the rates of the ways, which take turns, and the memory that the input takes."""
    from utility.train.preflight import input_profile

    with tempfile.TemporaryDirectory() as data_dir:
        write_records(pathlib.Path(data_dir))
        datasets, first_seconds = first_batches(ways(data_dir))
        rates = input_profile.measure(datasets, BATCH_SIZE, repeats)
        memory = _memory_table(data_dir)
    numbers = {name: {'rates': rates[name], 'first': first_seconds[name]} for name in rates}
    return [
        Table(NAME, _HEADER, list(rows(rates, first_seconds)), _NOTES, numbers),
        stages_table(rates),
        memory,
    ]
