"""The one layout of a record: encode, decode, where the files lie and how many records they hold.

A records directory holds `dataset.json` and one directory a split, with files
`<category>-00000-of-00002.tfrecord`. A record is a tf.train.Example:

    image/encoded      bytes           RGB JPEG of the picture, perhaps with fewer pixels
    image/id           bytes           UTF-8, the key in submissions
    image/category     bytes           UTF-8
    image/height       int64           px of the picture, in which all coordinates are
    image/width        int64           px
    image/keypoints    float [2 * K]   x, y of each point of the data set's schema, continuous px of
                                       the picture; -1, -1 where absent
    image/visibility   int64 [K]       1 visible, 0 occluded, -1 not annotated
    image/box          float [4]       x_min, y_min, x_max, y_max, or empty
"""

from __future__ import annotations

import contextlib
import fnmatch
import glob
import json
import math
import posixpath
import re
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from config import UserError
from preprocessing import faults, schema_files
from preprocessing.conversion.images import DecodedImage
from preprocessing.datasets import DATASETS, Annotation
from preprocessing.files import keep, read_bytes, written_whole
from preprocessing.schema import BOX_DIAGONAL, PICTURE_SIZE, KeypointSchema, Normalizer

DATASET_FILE = 'dataset.json'
# Of a split in dataset.json: category -> a hash of its records, and -> numbers of points by
# visibility. Records of a time before there were these lack them.
FINGERPRINTS, CATEGORY_POINTS = 'fingerprints', 'points_per_category'
_MAX_NAMES_SHOWN = 8
MAX_POINT_OFFSET = 1e6  # px
_MAX_RECORDS, _MAX_SHARDS = 10**9, 99_999
_PLAIN_NAME = re.compile(r'[^/\x00-\x1f]+')
# A TFRecord: length, checksum of the length, data, checksum of the data.
_LENGTH_BYTES, _CHECKSUM_BYTES = 8, 4


def _bytes_feature(value: bytes) -> tf.train.Feature:
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))


def _int64_feature(values: Sequence[int]) -> tf.train.Feature:
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))


def _float_feature(values: Sequence[float]) -> tf.train.Feature:
    return tf.train.Feature(float_list=tf.train.FloatList(value=values))


def encode_example(jpeg: bytes, annotation: Annotation, image_size: tuple[int, int]) -> bytes:
    """Return one picture and its annotation as a serialized tf.train.Example.

    Args:
        jpeg: The encoded picture, stored as it is.
        annotation: Of the K points of the data set's whole schema. A point with visibility -1 is
            stored at -1, -1, whatever its coordinates.
        image_size: (height, width) of the picture, px.
    """
    visibility = np.asarray(annotation.visibility)
    keypoints = np.where(visibility[:, None] >= 0, annotation.keypoints, -1.0)
    box = [] if annotation.box is None else np.asarray(annotation.box).tolist()
    features = {
        'image/encoded': _bytes_feature(jpeg),
        'image/id': _bytes_feature(annotation.image_id.encode()),
        'image/category': _bytes_feature(annotation.category.encode()),
        'image/height': _int64_feature([image_size[0]]),
        'image/width': _int64_feature([image_size[1]]),
        'image/keypoints': _float_feature(keypoints.ravel().tolist()),
        'image/visibility': _int64_feature(visibility.tolist()),
        'image/box': _float_feature(box),
    }
    example = tf.train.Example(features=tf.train.Features(feature=features))
    return example.SerializeToString(deterministic=True)


def _sequence(dtype: tf.DType) -> tf.io.FixedLenSequenceFeature:
    return tf.io.FixedLenSequenceFeature([], dtype, allow_missing=True)


def decode_example(serialized: tf.Tensor, schema: KeypointSchema) -> dict[str, tf.Tensor]:
    """Return the inverse of encode_example, in the graph, for the points of `schema`.

    Args:
        serialized: string [], one tf.train.Example.
        schema: The data set's schema or a subset of it; K is its number of keypoints.

    Returns:
        encoded: string [], the JPEG.
        image_id: string [].
        category: string [].
        image_size: int32 [2], (height, width) of the picture, px; the JPEG may have fewer.
        keypoints: float32 [K, 2], continuous px of the picture; -1, -1 where absent.
        visibility: int32 [K]; -1 where absent.
        normalizer: float32 [], px, the length that scales the error of the category: between two
            points, or of the box (without one, of that of the points) or picture; 0 where it is
            not known or the category is not one of the schema's.
        box: float32 [4], px; zeros where there is none.

    Raises:
        tf.errors.InvalidArgumentError: When it is run: the picture's size is none, a coordinate is
            not finite, or there are too many or too few. faults.explained tells which record.
    """
    parsed = tf.io.parse_single_example(
        serialized,
        {
            'image/encoded': tf.io.FixedLenFeature([], tf.string),
            'image/id': tf.io.FixedLenFeature([], tf.string),
            'image/category': tf.io.FixedLenFeature([], tf.string),
            'image/height': tf.io.FixedLenFeature([], tf.int64),
            'image/width': tf.io.FixedLenFeature([], tf.int64),
            'image/keypoints': _sequence(tf.float32),
            'image/visibility': _sequence(tf.int64),
            'image/box': _sequence(tf.float32),
        },
    )
    parsed = faults.checked(parsed, schema)
    positions = tf.constant(schema.record_positions, tf.int32)
    keypoints = tf.gather(tf.reshape(parsed['image/keypoints'], [-1, 2]), positions)
    visibility = tf.cast(tf.gather(parsed['image/visibility'], positions), tf.int32)
    size = tf.stack([parsed['image/height'], parsed['image/width']])
    padded_box = tf.concat([parsed['image/box'], tf.zeros([4])], axis=0)
    decoded = {
        'encoded': parsed['image/encoded'],
        'image_id': parsed['image/id'],
        'category': parsed['image/category'],
        'image_size': tf.cast(size, tf.int32),
        'keypoints': keypoints,
        'visibility': visibility,
        'box': tf.ensure_shape(padded_box[:4], [4]),
    }
    return {**decoded, 'normalizer': _normalizer(decoded, schema)}


def picture(example: Mapping[str, Any]) -> DecodedImage:
    """Return the picture of an example that decode_example gave, in NumPy."""
    height, width = example['image_size'].tolist()
    return DecodedImage(example['encoded'], (height, width), ())


def _normalizer(parsed: Mapping[str, tf.Tensor], schema: KeypointSchema) -> tf.Tensor:
    """Return the length in px that divides the errors of a record, or 0: float32 [].

    Args:
        parsed: category [], keypoints [K, 2], visibility [K], box [4], image_size [2].
        schema: Tells which length it is for each category.
    """
    kinds = list(dict.fromkeys(schema.normalizers.values()))  # several categories have the same
    lengths = tf.stack([_length(kind, parsed, schema) for kind in kinds])
    is_category = tf.equal(parsed['category'], tf.constant(list(schema.normalizers)))
    kind_of = tf.constant([kinds.index(kind) for kind in schema.normalizers.values()])
    length = lengths[kind_of[tf.argmax(tf.cast(is_category, tf.int32))]]
    return tf.where(tf.reduce_any(is_category), length, 0.0)


def _length(
    normalizer: Normalizer, parsed: Mapping[str, tf.Tensor], schema: KeypointSchema
) -> tf.Tensor:
    """Return a length in px by its kind, 0 where it is not known; the same as in metrics."""
    keypoints, annotated = parsed['keypoints'], parsed['visibility'] >= 0
    if not isinstance(normalizer, str):
        pair = [schema.keypoints.index(name) for name in normalizer]
        first, second = tf.unstack(tf.gather(keypoints, pair))
        present = tf.reduce_all(tf.gather(annotated, pair))
        return tf.where(present, tf.norm(first - second), 0.0)
    if normalizer == PICTURE_SIZE:
        return tf.sqrt(tf.reduce_prod(tf.cast(parsed['image_size'], tf.float32)))
    low = tf.reduce_min(tf.where(annotated[:, None], keypoints, math.inf), axis=0)
    high = tf.reduce_max(tf.where(annotated[:, None], keypoints, -math.inf), axis=0)
    sides = tf.maximum(high - low, 0)
    box = parsed['box']
    sides = tf.where(tf.reduce_all(box[2:] > box[:2]), box[2:] - box[:2], sides)
    return tf.norm(sides) if normalizer == BOX_DIAGONAL else tf.sqrt(tf.reduce_prod(sides))


@contextlib.contextmanager
def shard_writer(path: str) -> Iterator[Callable[[bytes], None]]:
    """Give a function that appends a serialized example to a TFRecord, complete or not there."""
    with written_whole(path) as partial, tf.io.TFRecordWriter(partial) as writer:
        yield writer.write


def shard_path(split_dir: str, category: str, shard: int, num_shards: int) -> str:
    return posixpath.join(split_dir, f'{category}-{shard:05d}-of-{num_shards:05d}.tfrecord')


def shard_range(num_records: int, shard: int, num_shards: int) -> tuple[int, int]:
    """Return the range of a category's records that are in a shard, as (start, stop)."""
    return num_records * shard // num_shards, num_records * (shard + 1) // num_shards


def split_patterns(split_dir: str, category: str) -> list[str]:
    """Return the patterns, for record_files, of 'blouse', 'blouse,skirt' or 'all'."""
    names = ['*']
    if category != 'all':
        names = [glob.escape(name.strip()) for name in category.split(',')]
    return [posixpath.join(split_dir, f'{name}-?????-of-?????.tfrecord') for name in names]


def record_files(pattern: str | Sequence[str]) -> list[str]:
    """Return the files of one pattern, or of several, sorted.

    Args:
        pattern: A directory, which is taken literally, and a pattern of names in it.

    Raises:
        UserError: A pattern matches nothing; names what there is in its directory.
    """
    patterns = [pattern] if isinstance(pattern, str) else list(pattern)
    files: set[str] = set()
    for one in patterns:
        directory, names = posixpath.split(one)
        found = [posixpath.join(directory, n) for n in _names_in(directory, names)]
        if not found:
            raise UserError(f'no records match {one!r}: {_what_there_is(posixpath.dirname(one))}')
        files.update(found)
    keep(files)
    return sorted(files)


def _names_in(directory: str, pattern: str) -> list[str]:
    directory = directory or '.'
    names = tf.io.gfile.listdir(directory) if tf.io.gfile.isdir(directory) else ()
    return fnmatch.filter((name.rstrip('/') for name in names), pattern)


def _what_there_is(directory: str) -> str:
    directory = directory or '.'
    if not tf.io.gfile.isdir(directory):
        return f'there is no directory {directory!r}'
    names = sorted(name.rstrip('/') for name in tf.io.gfile.listdir(directory))
    more = ', ...' if len(names) > _MAX_NAMES_SHOWN else ''
    return f'{directory!r} holds {", ".join(names[:_MAX_NAMES_SHOWN]) or "nothing"}{more}'


def load_dataset_info(records_dir: str) -> dict[str, Any]:
    """Read and check `dataset.json`.

    Returns:
        dataset (name in DATASETS), schema (see schema_of), splits (name -> labelled, records and
        shards per category, ...), and what else convert_tfrecords.py wrote.

    Raises:
        UserError: It is missing or broken, or its keypoints are not those of its data set.
    """
    path = posixpath.join(records_dir, DATASET_FILE)
    if not tf.io.gfile.exists(path):
        raise UserError(
            f'no {path}: {records_dir!r} is not a directory written by convert_tfrecords.py'
            f' ({_what_there_is(records_dir)})'
        )
    try:
        info = json.loads(read_bytes(path))
        schema = schema_of(info, path)
        keypoints = info['schema']['keypoints']
        described = [*info['splits'].values()]
        counts = [count for split in described for count in split['records'].values()]
        shards = [number for split in described for number in split.get('shards', {}).values()]
        names = [*info['splits'], *(c for split in described for c in split['records'])]
        is_known = tuple(keypoints) == schema.keypoints
    except UserError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(
            f'{path} is broken ({type(error).__name__}: {error}); run convert_tfrecords.py again'
        ) from error
    if not is_known:
        raise UserError(f'{path}: its keypoints are not those of data set {info["dataset"]!r}')
    for numbers, most in ((counts, _MAX_RECORDS), (shards, _MAX_SHARDS)):
        if not all(type(number) is int and 0 <= number <= most for number in numbers):
            raise UserError(f'{path} is broken: a number is no integer from 0 to {most}')
    for name in names:
        # They become names of files and directories in records_dir, and lead nowhere else.
        if not _PLAIN_NAME.fullmatch(name) or name in ('.', '..'):
            raise UserError(f'{path} is broken: {name!r} is no name of a split or a category')
    return info


def schema_of(info: Mapping[str, Any], path: str = DATASET_FILE) -> KeypointSchema:
    """Return the schema of records by their dataset.json, at `path`.

    That of a data set in DATASETS is known by its name, and older files hold only a part of it;
    that of data in a format for any keypoints is there.
    """
    schema = DATASETS.get(info['dataset']).schema
    return schema or schema_files.parse(info['schema'], f'{path}: schema')


def info_of_split(split_dir: str) -> tuple[dict[str, Any], str]:
    """Return load_dataset_info of the records that RECORDS/<split> is in, and the split's name."""
    records_dir, split = posixpath.split(split_dir.rstrip('/'))
    return load_dataset_info(records_dir or '.'), split


def check_is_split(split_dir: str) -> None:
    """Refuse the directory of all records where one of its splits is meant.

    Raises:
        UserError: It is one; names its splits.
    """
    if tf.io.gfile.exists(posixpath.join(split_dir, DATASET_FILE)):
        splits = load_dataset_info(split_dir)['splits']
        names = ' or '.join(posixpath.join(split_dir, name) for name in splits)
        raise UserError(f'{split_dir} holds all records; give one of its splits: {names}')


def check_schema(split_dir: str, schema: KeypointSchema) -> None:
    """Refuse a split of records with other keypoints than those of a whole schema.

    Raises:
        UserError: They differ, or dataset.json is missing beside the split.
    """
    records_dir = posixpath.dirname(split_dir.rstrip('/')) or '.'
    there = schema_of(load_dataset_info(records_dir), posixpath.join(records_dir, DATASET_FILE))
    if schema.positions is None and there.keypoints != schema.keypoints:
        raise UserError(
            f'{split_dir} has the {there.num_keypoints} keypoints of {there.name!r}, not the '
            f'{schema.num_keypoints} of {schema.name!r}'
        )


def count_by_category(split_dir: str, category: str = 'all') -> dict[str, int]:
    """Return the records of a split by category: of one, several ('blouse,skirt') or 'all'.

    Raises:
        UserError: dataset.json is missing beside the split, or knows no such split or category.
    """
    check_is_split(split_dir)
    info, split = info_of_split(split_dir)
    splits = info['splits']
    if split not in splits:
        raise UserError(f'{split_dir}: unknown split {split!r}; there are {", ".join(splits)}')
    records = splits[split]['records']
    names = list(records) if category == 'all' else [n.strip() for n in category.split(',')]
    unknown = [name for name in names if name not in records]
    if unknown:
        raise UserError(
            f'{split_dir} has no records of {unknown[0]!r}; it has {", ".join(records)}'
        )
    return {name: records[name] for name in names}


def count_rejected(split_dir: str) -> int:
    """Return how many pictures of a test split could not be used when it was converted."""
    info, split = info_of_split(split_dir)
    return info.get('sources', {}).get(split, {}).get('rejected', 0)


def point_offset(split_dir: str) -> float:
    """Return how many px a conversion has added to the coordinates of points in the data.

    Raises:
        UserError: dataset.json is missing beside the split, or broken.
    """
    records_dir = posixpath.dirname(split_dir.rstrip('/')) or '.'
    info = load_dataset_info(records_dir)
    # Records of a time before it was kept: data sets of their own are of whole pixels.
    usual = 0.0 if DATASETS.get(info['dataset']).schema is None else 0.5
    offset = info.get('point_offset', usual)
    if type(offset) not in (int, float) or not abs(offset) <= MAX_POINT_OFFSET:
        raise UserError(f'{records_dir}/{DATASET_FILE} is broken: point_offset is {offset!r:.40}')
    return float(offset)


def count_records(split_dir: str, category: str = 'all') -> int:
    """Return the sum of count_by_category."""
    return sum(count_by_category(split_dir, category).values())


def count_in_files(paths: Sequence[str]) -> list[int]:
    """Return how many records each file holds, by dataset.json or else counted.

    To count reads the lengths of the records alone, not the records.
    """
    counts_of: dict[str, dict[str, int]] = {}
    counts = []
    for path in paths:
        split_dir, name = posixpath.split(path)
        if split_dir not in counts_of:
            counts_of[split_dir] = _counts_message(split_dir)
        counts.append(counts_of[split_dir][name] if name in counts_of[split_dir] else _count(path))
    return counts


def _counts_message(split_dir: str) -> dict[str, int]:
    """Return the name of each file of a split -> how many records it was written with."""
    records_dir, split = posixpath.split(split_dir)
    if not tf.io.gfile.exists(posixpath.join(records_dir, DATASET_FILE)):
        return {}
    described = load_dataset_info(records_dir)['splits'].get(split, {})
    counts = {}
    for category, number in described.get('records', {}).items():
        shards = described.get('shards', {}).get(category, 0)
        for shard in range(shards):
            start, stop = shard_range(number, shard, shards)
            name = posixpath.basename(shard_path(split_dir, category, shard, shards))
            counts[name] = stop - start
    return counts


def _count(path: str) -> int:
    number, position, size = 0, 0, tf.io.gfile.stat(path).length
    with tf.io.gfile.GFile(path, 'rb') as file:
        while position < size:
            file.seek(position)
            (length,) = struct.unpack('<Q', file.read(_LENGTH_BYTES))
            position += _LENGTH_BYTES + 2 * _CHECKSUM_BYTES + length
            number += 1
    return number


def first_examples(split_dir: str, schema: KeypointSchema, count: int) -> list[dict[str, Any]]:
    """Return the first `count` records of a split as decode_example gives them, in NumPy.

    They are taken from the categories in turn, so that each has its share.

    Raises:
        UserError: The split has no records.
    """
    names = [name for name, number in count_by_category(split_dir).items() if number]
    if not names:
        raise UserError(f'{split_dir!r} holds no records')
    datasets = [
        tf.data.TFRecordDataset(record_files(split_patterns(split_dir, name))) for name in names
    ]
    paths = [path for name in names for path in record_files(split_patterns(split_dir, name))]
    in_turn = tf.data.Dataset.range(len(datasets)).repeat()
    dataset = tf.data.Dataset.choose_from_datasets(datasets, in_turn, stop_on_empty_dataset=False)
    with faults.explained(paths, schema):
        return list(decoded(dataset.take(count), schema).as_numpy_iterator())


def decoded(dataset: tf.data.Dataset, schema: KeypointSchema) -> tf.data.Dataset:
    """Return serialized examples as decode_example gives them."""
    # AutoGraph would read the source files again, which may have changed since they were imported.
    decode = tf.autograph.experimental.do_not_convert(lambda record: decode_example(record, schema))
    return dataset.map(decode)
