"""What converted records hold: their numbers, and sheets of pictures to look at.

The records are read once. Kept are counts, two numbers a record (its length and its normalizer, for
the percentiles) and the pictures of the sheets.
"""

from __future__ import annotations

import array
import collections
import contextlib
import dataclasses
import functools
import itertools
import posixpath
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from config import UserError
from preprocessing import records, rendering
from preprocessing.conversion import image_ids
from preprocessing.conversion.dataset_info import POINT_STATES, point_states
from preprocessing.conversion.screening import Track
from preprocessing.files import check_output, folders_in, json_bytes, write_bytes
from preprocessing.ops import op_string
from preprocessing.schema import KeypointSchema
from preprocessing.stream import PARALLEL_CALLS, untuned
from utility.visualization.draw import DrawStyle, contact_sheet, draw_keypoints, write_image

REPORT_FILE, PLAIN_FILE, AUGMENTED_FILE = 'inspection.json', 'plain.jpg', 'augmented.jpg'
DEFAULT_SUBDIR = 'inspection'
COLUMNS = 8
CELL_SIZE = 256  # px
NUM_PLAIN = 40
NUM_AUGMENTED = 10  # one a row: as evaluated, then COLUMNS - 1 times as trained
NUM_SIZES = 5
PLAIN_OPS = f'letterbox({CELL_SIZE},{CELL_SIZE})|warp(255)'
USUAL_SIDE = 512  # px; the longest side of most pictures of FashionAI
CHANNELS = ('red', 'green', 'blue')
PERCENTILES = {'p10': 10, 'median': 50, 'p90': 90}

Row = Mapping[str, Any]  # a decoded record
Counts = Mapping[str, Mapping[str, int]]  # split -> category -> number of records


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to look at.

    Attributes:
        records_dir: Written by convert_tfrecords.py.
        output_dir: Gets the numbers and the sheets.
        train_ops: Op string of the augmented pictures.
        eval_ops: Op string of the picture beside them.
        num_images: At most so many are decoded for the statistics of the channels.
    """

    records_dir: str
    output_dir: str
    train_ops: str
    eval_ops: str
    num_images: int = 2000

    def __post_init__(self):
        op_string.parse_ops(self.train_ops)
        op_string.parse_ops(self.eval_ops)


def inspect(settings: Settings, track: Track) -> dict[str, Any]:
    """Read all records, and write inspection.json, plain.jpg and augmented.jpg.

    Args:
        settings: Which, and where to.
        track: (iterable, total, label) -> the same items; shows the progress.

    Returns:
        The content of inspection.json.

    Raises:
        UserError: There are no records, a file of them is broken, or an image_id is in a split
            twice.
    """
    info = records.load_dataset_info(settings.records_dir)
    schema = records.schema_of(info)
    for name in (REPORT_FILE, PLAIN_FILE, AUGMENTED_FILE):
        check_output(posixpath.join(settings.output_dir, name))
    expected = {name: split['records'] for name, split in info['splits'].items()}
    # All there are: those of a split that dataset.json does not know come last.
    rank = {name: number for number, name in enumerate(expected)}
    files = _all_files(settings.records_dir)
    files.sort(key=lambda path: (rank.get(_split_of(path), len(rank)), path))
    total = sum(sum(counts.values()) for counts in expected.values())
    tally = Tally(schema, (n for n, split in info['splits'].items() if split.get('labelled')))
    rows = _measured(files, schema, settings.num_images, total)
    for split, row in track(rows, total, 'reading records'):
        tally.add(split, row)
    if not tally.records:
        raise UserError(f'{settings.records_dir} holds no record')
    for _, paths in itertools.groupby(files, _split_of):
        image_ids.check_unique(list(paths))
    shown = next(iter(tally.records))
    write_sheets(settings, shown, schema)
    report = {
        'dataset': info['dataset'],
        **tally.report(),
        'differences': differences(tally.records, expected),
        'sheets': {'split': shown, 'ops': settings.train_ops},
    }
    write_bytes(posixpath.join(settings.output_dir, REPORT_FILE), json_bytes(report))
    return report


def _all_files(records_dir: str) -> list[str]:
    """Return the files of all splits that there are, whether dataset.json knows them or not."""
    paths = []
    for folder in folders_in(records_dir):
        with contextlib.suppress(UserError):  # there are none
            paths += records.record_files(records.split_patterns(folder, 'all'))
    return paths


def differences(counted: Counts, expected: Counts) -> list[str]:
    """Return how two numbers of records by split and category differ, in words."""
    keys = dict.fromkeys(
        (s, c) for counts in (expected, counted) for s in counts for c in counts[s]
    )
    differences = []
    for split, category in keys:
        number, wanted = (counts.get(split, {}).get(category, 0) for counts in (counted, expected))
        if number != wanted:
            differences.append(f'{split}, {category}: {number} instead of {wanted}')
    return differences


def _split_of(path: str) -> str:
    return posixpath.basename(posixpath.dirname(path))


def _measured(
    files: Sequence[str], schema: KeypointSchema, num_images: int, total: int
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (split, _measure of the record) of all records, in NumPy.

    Raises:
        UserError: A file is broken; names it.
    """
    num_before = 0
    for path in files:
        num_read = 0
        dataset = tf.data.TFRecordDataset(path).enumerate(num_before)
        dataset = dataset.map(
            lambda index, record: _measure(record, schema, is_sampled(index, num_images, total)),
            PARALLEL_CALLS,
        ).with_options(untuned())
        try:
            for row in dataset.as_numpy_iterator():
                num_read += 1
                yield _split_of(path), row
        except (tf.errors.DataLossError, tf.errors.InvalidArgumentError) as error:
            fault = 'is cut off, damaged, or not one of this data set; convert again'
            raise UserError(f'{path}: record {num_read + 1} {fault}') from error
        num_before += num_read


def is_sampled(index: tf.Tensor, size: int, total: int) -> tf.Tensor:
    """Return bool []: whether record `index` is one of `size` at equal distances in `total`.

    Files are sorted by split and category, and their records lie in random order: so the sample
    is random, has its share of each category, and needs no second look at the records.
    """
    size, whole = min(size, total), max(total, 1)
    return (index < total) & (index * size // whole < (index + 1) * size // whole)


def _measure(record: tf.Tensor, schema: KeypointSchema, sampled: tf.Tensor) -> dict[str, tf.Tensor]:
    """Return the decoded record, the length of its picture and, if sampled, its channels."""
    example = records.decode_example(record, schema)
    jpeg, nothing = example.pop('encoded'), tf.zeros([2, len(CHANNELS)])
    return {
        **example,
        'length': tf.strings.length(record),
        'sampled': sampled,
        'channels': tf.cond(sampled, lambda: channel_statistics(jpeg), lambda: nothing),
    }


def channel_statistics(jpeg: tf.Tensor) -> tf.Tensor:
    """Return float32 [2, 3]: mean and standard deviation of a picture's R, G and B, in 0..255."""
    image = tf.io.decode_jpeg(jpeg, channels=3, dct_method='INTEGER_ACCURATE')
    mean, variance = tf.nn.moments(tf.cast(image, tf.float32), axes=[0, 1])
    return tf.stack([mean, tf.sqrt(variance)])


class Tally:
    """Counts what records hold, one by one.

    Args:
        schema: That the records were decoded with.
        labelled: Splits whose points are counted; the others have none.

    Attributes:
        records: Split -> category -> number of records.
    """

    def __init__(self, schema: KeypointSchema, labelled: Iterable[str]):
        self.records: dict[str, dict[str, int]] = {}
        self._schema, self._labelled = schema, set(labelled)
        self._lengths: dict[str, array.array] = {}
        self._sizes: collections.Counter = collections.Counter()
        shape = len(POINT_STATES), schema.num_keypoints
        self._points = {name: np.zeros(shape, np.int64) for name in schema.categories}
        self._normalizers = {name: array.array('f') for name in schema.categories}
        self._channels, self._num_sampled = np.zeros([2, len(CHANNELS)]), 0

    def add(self, split: str, row: Row) -> None:
        """Count a record, as _measure describes it."""
        category = row['category'].decode()
        counts = self.records.setdefault(split, dict.fromkeys(self._schema.categories, 0))
        counts[category] = counts.get(category, 0) + 1
        self._lengths.setdefault(split, array.array('q')).append(int(row['length']))
        self._sizes[tuple(row['image_size'].tolist())] += 1
        self._channels += row['channels']  # zeros outside the sample
        self._num_sampled += int(row['sampled'])
        if split in self._labelled and category in self._points:
            self._normalizers[category].append(float(row['normalizer']))
            self._points[category] += point_states(
                row['keypoints'], row['visibility'], row['image_size']
            )

    def report(self) -> dict[str, Any]:
        """Return all of it as numbers; at least one record must have been counted."""
        normalizers = {name: np.array(v) for name, v in self._normalizers.items() if len(v)}
        mean, std = (self._channels / max(1, self._num_sampled)).round(3).tolist()
        return {
            'records': self.records,
            'points': {name: self._named_points(name) for name in normalizers},
            'normalizers': {
                name: {**percentiles(values[values > 0]), 'none': int((values <= 0).sum())}
                for name, values in normalizers.items()
            },
            'sizes': describe_sizes(self._sizes),
            'record_lengths': {name: percentiles(v) for name, v in self._lengths.items()},
            'channels': {
                'mean': dict(zip(CHANNELS, mean), pictures=self._num_sampled),
                'std': dict(zip(CHANNELS, std), pictures=self._num_sampled),
            },
        }

    def _named_points(self, category: str) -> dict[str, dict[str, int]]:
        counts, names = self._points[category].T.tolist(), self._schema.keypoints
        indices = self._schema.indices(category)
        return {names[k]: dict(zip(POINT_STATES, counts[k])) for k in indices}


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """Return the count of values, and PERCENTILES unless it is 0."""
    at = np.percentile(values, list(PERCENTILES.values())).round(2) if len(values) else []
    return {'count': len(values), **dict(zip(PERCENTILES, map(float, at)))}


def describe_sizes(sizes: Mapping[tuple[int, int], int]) -> dict[str, Any]:
    """Return what sizes there are; `sizes` is (height, width) in px -> how many, and not empty."""
    ranked = sorted(sizes.items(), key=lambda item: (-item[1], item[0]))
    height, width = np.array(list(sizes)).T
    counts = np.array(list(sizes.values()))
    sides = {'height': height, 'width': width, 'longest_side': np.maximum(height, width)}
    return {
        'different': len(sizes),
        'most_frequent': {f'{h} x {w}': {'pictures': n} for (h, w), n in ranked[:NUM_SIZES]},
        'sides': {
            name: {
                'min': int(side.min()),
                'max': int(side.max()),
                f'share_of_{USUAL_SIDE}': round(counts[side == USUAL_SIDE].sum() / counts.sum(), 4),
            }
            for name, side in sides.items()
        },
    }


def write_sheets(settings: Settings, split: str, schema: KeypointSchema) -> None:
    """Write pictures of a split with their points: as they are, and as trained."""
    split_dir = posixpath.join(settings.records_dir, split)
    examples = records.first_examples(split_dir, schema, NUM_PLAIN)
    augmented_ops = [settings.eval_ops] + [settings.train_ops] * (COLUMNS - 1)
    plain = views(examples, [PLAIN_OPS], schema)
    augmented = views(examples[:NUM_AUGMENTED], augmented_ops, schema)
    for name, pictures in ((PLAIN_FILE, plain), (AUGMENTED_FILE, augmented)):
        sheet = contact_sheet(pictures, COLUMNS, CELL_SIZE)
        write_image(posixpath.join(settings.output_dir, name), sheet)


def views(
    examples: Iterable[Row], ops: Sequence[str], schema: KeypointSchema
) -> Iterator[np.ndarray]:
    """Yield uint8 [H, W, 3] RGB: each picture after each of the op strings, with its points."""
    apply = op_string.apply_ops
    functions = {
        text: tf.function(functools.partial(apply, text, schema), autograph=False) for text in ops
    }
    for row, example in enumerate(examples):
        tensors = {name: tf.constant(value) for name, value in example.items()}
        for column, text in enumerate(ops):
            try:
                view = functions[text](tensors, tf.constant([row, column]))
            except tf.errors.InvalidArgumentError as error:
                fault = 'is in the records, but cannot be decoded'
                raise UserError(f'{example["image_id"].decode()} {fault}') from error
            points, visibility = view['keypoints'].numpy(), view['visibility'].numpy()
            image = rendering.to_uint8(view['image']).numpy()
            yield draw_keypoints(image, points, visibility, schema, style=DrawStyle(limbs=True))
