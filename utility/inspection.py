"""What converted records hold: their numbers, and sheets of pictures to look at.

The records are read once, in the order of their files. Kept are counts, two numbers a record (its
length and its normaliser) for the percentiles, and the pictures of the sheets; so memory does not
grow with the pictures.
"""

from __future__ import annotations

import array
import collections
import dataclasses
import json
import posixpath
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from preprocessing import records
from preprocessing.datasets import DATASETS
from preprocessing.input_fn import PARALLEL_CALLS, apply_ops, parse_ops, to_uint8
from preprocessing.schema import KeypointSchema
from preprocessing.screening import Track
from preprocessing.tables import write_bytes
from utility.visualization import DrawStyle, contact_sheet, draw_keypoints, write_image

REPORT_FILE, PLAIN_FILE, AUGMENTED_FILE = 'inspection.json', 'plain.jpg', 'augmented.jpg'
COLUMNS = 8
CELL_SIZE = 256  # px
NUM_PLAIN = 40
NUM_AUGMENTED = 10  # one a row: as evaluated, then COLUMNS - 1 times as trained
NUM_SIZES = 5
USUAL_SIDE = 512  # px; the longest side of most pictures of FashionAI
POINT_STATES = ('visible', 'occluded', 'absent', 'outside_picture')
CHANNELS = ('red', 'green', 'blue')
PERCENTILES = {'p10': 10, 'median': 50, 'p90': 90}

_STYLE = DrawStyle(limbs=True)


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to look at.

    Attributes:
        records_dir: Written by convert_tfrecords.py.
        output_dir: Gets the numbers and the sheets.
        train_ops: Op string of the augmented pictures.
        eval_ops: Op string of the picture beside them.
        num_pictures: At most so many are decoded for the statistics of the channels.
    """

    records_dir: str
    output_dir: str
    train_ops: str
    eval_ops: str
    num_pictures: int = 2000

    def __post_init__(self):
        parse_ops(self.train_ops)
        parse_ops(self.eval_ops)
        if self.num_pictures < 1:
            raise ValueError(f'num_pictures={self.num_pictures}: must be at least 1')


def inspect(settings: Settings, track: Track) -> dict[str, Any]:
    """Reads all records, and writes inspection.json, plain.jpg and augmented.jpg.

    Args:
        settings: Which, and where to.
        track: (iterable, total, label) -> the same items; shows the progress.

    Returns:
        The content of inspection.json, for format_report.

    Raises:
        ValueError: There are no records, or a file of them is broken.
    """
    info = records.load_dataset_info(settings.records_dir)
    schema = DATASETS.get(info['dataset']).schema
    # As a list, for the directory's own name may have a comma.
    pattern = records.split_pattern(posixpath.join(settings.records_dir, '*'), 'all')
    files = records.record_files([pattern])
    expected = {name: split['records'] for name, split in info['splits'].items()}
    total = sum(sum(counts.values()) for counts in expected.values())
    tally = Tally(schema, (n for n, split in info['splits'].items() if split.get('labelled')))
    rows = _measured(files, schema, settings.num_pictures, total)
    for split, row in track(rows, total, 'reading records'):
        tally.add(split, row)
    if not tally.records:
        raise ValueError(f'{settings.records_dir} holds no record')
    shown = next(split for split in [*expected, *tally.records] if split in tally.records)
    report = {
        'dataset': info['dataset'],
        **tally.report(),
        'differences': differences(tally.records, expected),
        'sheets': {'split': shown, 'ops': settings.train_ops},
    }
    write_sheets(settings, shown, schema)
    text = json.dumps(report, indent=2) + '\n'
    write_bytes(posixpath.join(settings.output_dir, REPORT_FILE), text.encode())
    return report


def differences(
    found: Mapping[str, Mapping[str, int]], expected: Mapping[str, Mapping[str, int]]
) -> list[str]:
    """What differs between two numbers of records by split and category, in words."""
    told = []
    for split in dict.fromkeys([*expected, *found]):
        here, there = (counts.get(split, {}) for counts in (found, expected))
        for category in dict.fromkeys([*there, *here]):
            read, noted = here.get(category, 0), there.get(category, 0)
            if read != noted:
                told.append(f'{split}, {category}: {read} records, but {noted} in dataset.json')
    return told


def _measured(
    files: Sequence[str], schema: KeypointSchema, num_pictures: int, total: int
) -> Iterator[tuple[str, dict[str, Any]]]:
    """(split, what _measure says) of all records.

    Raises:
        ValueError: A file is broken; names it.
    """
    num_read = 0
    for path in files:
        split, before = posixpath.basename(posixpath.dirname(path)), num_read
        dataset = tf.data.TFRecordDataset(path).enumerate(before)
        dataset = dataset.map(
            lambda index, record: _measure(record, schema, is_sampled(index, num_pictures, total)),
            PARALLEL_CALLS,
        )
        try:
            for row in dataset.as_numpy_iterator():
                num_read += 1
                yield split, row
        except (tf.errors.DataLossError, tf.errors.InvalidArgumentError) as error:
            fault = 'is cut off or damaged'
            if isinstance(error, tf.errors.InvalidArgumentError):
                fault = 'is not one of ours, or its picture is no JPEG'
            raise ValueError(
                f'{path}: record {num_read - before + 1} {fault}; run convert_tfrecords.py again'
            ) from error


def is_sampled(index: tf.Tensor, size: int, total: int) -> tf.Tensor:
    """Whether a record belongs to the sample: `size` of `total`, at equal distances.

    Records of a file are in random order, and the files are sorted by split and category; so the
    sample has its share of each, and needs no second look at the records.

    Args:
        index: int64 [], among all records.
        size: Of the sample; all where there are fewer records.
        total: Number of records.

    Returns:
        bool [].
    """
    size, whole = min(size, total), max(total, 1)
    return (index < total) & (index * size // whole < (index + 1) * size // whole)


def _measure(
    serialized: tf.Tensor, schema: KeypointSchema, with_channels: tf.Tensor
) -> dict[str, tf.Tensor]:
    """The record without its picture; instead `length`, bytes, and `channels`, float32 [2, 3]."""
    example = records.decode_example(serialized, schema)
    encoded = example.pop('encoded')
    nothing = tf.zeros([2, 3])
    return {
        **example,
        'length': tf.strings.length(serialized),
        'is_sampled': with_channels,
        'channels': tf.cond(with_channels, lambda: channel_statistics(encoded), lambda: nothing),
    }


def channel_statistics(jpeg: tf.Tensor) -> tf.Tensor:
    """float32 [2, 3]: mean and standard deviation of a picture's R, G and B, in 0..255."""
    image = tf.io.decode_jpeg(jpeg, channels=3, dct_method='INTEGER_ACCURATE')
    mean, variance = tf.nn.moments(tf.cast(image, tf.float32), axes=[0, 1])
    return tf.stack([mean, tf.sqrt(variance)])


class Tally:
    """Counts what records hold, one by one.

    Args:
        schema: That the records were decoded with.
        labelled: Splits whose points are counted; the others have none.

    Attributes:
        records: Split -> category -> its records.
    """

    def __init__(self, schema: KeypointSchema, labelled: Iterable[str]):
        self.records: dict[str, dict[str, int]] = {}
        self._schema, self._labelled = schema, set(labelled)
        self._lengths: dict[str, array.array] = {}
        self._sizes: collections.Counter = collections.Counter()
        self._points = {name: 0 for name in schema.categories}
        self._normalizers = {name: array.array('f') for name in schema.categories}
        self._channels, self._num_sampled = np.zeros([2, 3]), 0

    def add(self, split: str, row: Mapping[str, Any]) -> None:
        """Counts a record, as _measure gives it in NumPy."""
        category = row['category'].decode()
        counts = self.records.setdefault(split, dict.fromkeys(self._schema.categories, 0))
        counts[category] = counts.get(category, 0) + 1
        self._lengths.setdefault(split, array.array('q')).append(int(row['length']))
        self._sizes[tuple(row['image_size'].tolist())] += 1
        self._channels += row['channels']  # zeros outside the sample
        self._num_sampled += int(row['is_sampled'])
        if split in self._labelled and category in self._points:
            self._normalizers[category].append(float(row['normalizer']))
            self._points[category] += _point_states(row).astype(int)

    def report(self) -> dict[str, Any]:
        """All of it as numbers; there must have been a record."""
        normalizers = {name: np.array(v) for name, v in self._normalizers.items() if len(v)}
        channels = (self._channels / max(1, self._num_sampled)).round(3).tolist()
        return {
            'records': self.records,
            'points': {name: self._named_points(name) for name in normalizers},
            'sizes': describe_sizes(self._sizes),
            'normalizers': {
                name: {**percentiles(values[values > 0]), 'none': int((values <= 0).sum())}
                for name, values in normalizers.items()
            },
            'record_lengths': {name: percentiles(v) for name, v in self._lengths.items()},
            'channels': {
                'pictures': self._num_sampled,
                **{name: dict(zip(CHANNELS, v)) for name, v in zip(('mean', 'std'), channels)},
            },
        }

    def _named_points(self, category: str) -> dict[str, dict[str, int]]:
        states = self._points[category]
        return {
            self._schema.keypoints[k]: dict(zip(POINT_STATES, states[:, k].tolist()))
            for k in self._schema.indices(category)
        }


def _point_states(row: Mapping[str, Any]) -> np.ndarray:
    """bool [4, K]: in which of POINT_STATES each point is; one outside is 0 or 1 as well."""
    visibility, points = row['visibility'], row['keypoints']
    outside = ((points < 0) | (points > row['image_size'][::-1])).any(axis=1)
    return np.stack([visibility == 1, visibility == 0, visibility < 0, outside & (visibility >= 0)])


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """'count', and PERCENTILES unless it is 0."""
    at = np.percentile(values, list(PERCENTILES.values())).round(2) if len(values) else []
    return {'count': len(values), **dict(zip(PERCENTILES, map(float, at)))}


def describe_sizes(sizes: Mapping[tuple[int, int], int]) -> dict[str, Any]:
    """What sizes there are; `sizes` is (height, width) in px -> how many, and not empty."""
    ranked = sorted(sizes.items(), key=lambda item: (-item[1], item[0]))
    each = np.array(list(sizes))
    usual = sum(count for size, count in sizes.items() if max(size) == USUAL_SIDE)
    return {
        'different': len(sizes),
        'most_frequent': {f'{h} x {w}': {'pictures': n} for (h, w), n in ranked[:NUM_SIZES]},
        'min': each.min(axis=0).tolist(),
        'max': each.max(axis=0).tolist(),
        f'longest_side_{USUAL_SIDE}': round(usual / sum(sizes.values()), 4),
    }


def format_report(report: Mapping[str, Any]) -> str:
    """The numbers of `inspect` as aligned tables."""
    counts = {split: {**n, 'all': sum(n.values())} for split, n in report['records'].items()}
    sizes = report['sizes']
    (h0, w0), (h1, w1) = sizes['min'], sizes['max']
    channels = {name: report['channels'][name] for name in ('mean', 'std')}
    tables = [
        _table('records', counts),
        *(_table(name, {**p, 'all': _sums(p)}) for name, p in report['points'].items()),
        _table('normalizer, px', report['normalizers']),
        _table('height x width', sizes['most_frequent']),
        f'{sizes["different"]} sizes; heights {h0} to {h1}, widths {w0} to {w1} px;'
        f' {sizes[f"longest_side_{USUAL_SIDE}"]:.1%} have a longest side of {USUAL_SIDE}',
        _table('bytes per record', report['record_lengths']),
        _table(f'{report["channels"]["pictures"]} pictures', channels),
    ]
    return '\n\n'.join(tables)


def _sums(rows: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    return {name: sum(row[name] for row in rows.values()) for name in POINT_STATES}


def _table(title: str, rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Rows under the names of their entries, aligned."""
    names = list(dict.fromkeys(name for row in rows.values() for name in row))
    cells = [[title, *names]]
    cells += [[key, *(str(row.get(name, '-')) for name in names)] for key, row in rows.items()]
    widths = [max(map(len, column)) for column in zip(*cells)]
    lines = (
        [f'{line[0]:{widths[0]}}', *(f'{c:>{w}}' for c, w in zip(line[1:], widths[1:]))]
        for line in cells
    )
    return '\n'.join('  '.join(line) for line in lines)


def write_sheets(settings: Settings, split: str, schema: KeypointSchema) -> None:
    """Writes the pictures of a split with their points: plain, and as trained.

    Raises:
        ValueError: A picture cannot be decoded.
    """
    split_dir = posixpath.join(settings.records_dir, split)
    examples = records.first_examples(split_dir, schema, NUM_PLAIN)
    plain = [_with_points(e, _decoded(e), schema) for e in examples]
    augmented = _augmented(examples[:NUM_AUGMENTED], settings, schema)
    for name, pictures in ((PLAIN_FILE, plain), (AUGMENTED_FILE, augmented)):
        sheet = contact_sheet(pictures, COLUMNS, CELL_SIZE)
        write_image(posixpath.join(settings.output_dir, name), sheet)


def _augmented(
    examples: Sequence[Mapping[str, Any]], settings: Settings, schema: KeypointSchema
) -> Iterator[np.ndarray]:
    """COLUMNS views of each picture: as evaluated, and with one seed each as trained."""
    evaluated, trained = (
        tf.function(lambda example, seed, ops=ops: apply_ops(ops, schema, example, seed))
        for ops in (settings.eval_ops, settings.train_ops)
    )
    for row, example in enumerate(examples):
        tensors = {name: tf.constant(value) for name, value in example.items()}
        for column in range(COLUMNS):
            view = (trained if column else evaluated)(tensors, tf.constant([row, column]))
            yield _with_points(view, to_uint8(view['image']).numpy(), schema)


def _with_points(
    example: Mapping[str, Any], image: np.ndarray, schema: KeypointSchema
) -> np.ndarray:
    points, visibility = np.asarray(example['keypoints']), np.asarray(example['visibility'])
    return draw_keypoints(image, points, visibility, schema, style=_STYLE)


def _decoded(example: Mapping[str, Any]) -> np.ndarray:
    try:
        return tf.io.decode_jpeg(example['encoded'], channels=3).numpy()
    except tf.errors.InvalidArgumentError:
        name = example['image_id'].decode()
        raise ValueError(f'the picture of {name!r} in the records cannot be decoded') from None
