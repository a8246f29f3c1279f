"""Finds records that can be parsed but that no conversion has written, and names them."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import tensorflow as tf
from google.protobuf.message import DecodeError

from config import UserError
from preprocessing import graph_messages
from preprocessing.datasets import DATASETS
from preprocessing.schema import KeypointSchema
from preprocessing.tables import MAX_COORDINATE

AGAIN = 'copy the records or run convert_tfrecords.py again'


def checked(parsed: Mapping[str, tf.Tensor], schema: KeypointSchema) -> dict[str, tf.Tensor]:
    """Return what was parsed, once it is seen to be of a picture and its points.

    All else would go on with it: to a matrix that has no inverse, to a picture without points, or
    to points of which each is another.

    Args:
        parsed: The features of a record, by their names in preprocessing/records.py.
        schema: The data set's, or a subset of it.

    Raises:
        tf.errors.InvalidArgumentError: When it is run; names the record in a message of the kind
            graph_messages.FAULTY_RECORD.
    """
    size = tf.stack([parsed['image/height'], parsed['image/width']])
    coordinates = tf.concat([parsed['image/keypoints'], parsed['image/box']], axis=0)
    is_finite = tf.math.is_finite(coordinates)
    is_size = tf.reduce_all((size >= 1) & (size <= MAX_COORDINATE))
    numbers = [tf.size(parsed[f'image/{name}']) for name in ('keypoints', 'visibility', 'box')]
    # By name, because '==' compares no values in a graph of a session.
    has_all = tf.equal(numbers[0], 2 * numbers[1])
    has_all &= tf.equal(numbers[2], 0) | tf.equal(numbers[2], 4)
    whole = _whole(schema)
    if whole is None:
        has_all &= numbers[1] > max(schema.record_positions)
        is_known = tf.constant(True)
    else:
        has_all &= tf.equal(numbers[1], whole.num_keypoints)
        known = tf.constant(list(whole.categories))
        is_known = tf.reduce_any(tf.equal(parsed['image/category'], known))

    def fail():
        number = tf.reduce_sum(tf.cast(~is_finite, tf.int32))
        words = [
            'faulty record ', parsed['image/id'], ' of category ', parsed['image/category'],
            ': height ', tf.as_string(size[0]), ' and width ',
            tf.as_string(size[1]), f' px, which must be 1 to {MAX_COORDINATE}; ',
            tf.as_string(numbers[0]), ' coordinates, ', tf.as_string(numbers[1]),
            f' visibilities of {(whole or schema).num_keypoints} points; coordinates that are not '
            'finite: ', tf.as_string(number),
        ]  # fmt: skip
        message = tf.strings.join(graph_messages.marked(graph_messages.FAULTY_RECORD, words))
        return tf.group(tf.debugging.Assert(False, [message], summarize=1))

    is_right = is_size & has_all & is_known & tf.reduce_all(is_finite)
    with tf.control_dependencies([tf.cond(is_right, tf.no_op, fail)]):
        return {name: tf.identity(value) for name, value in parsed.items()}


def _whole(schema: KeypointSchema) -> KeypointSchema | None:
    """Return the data set's schema that this one is a subset of; None if not known."""
    if schema.positions is None:
        return schema
    return DATASETS.get(schema.name).schema if schema.name in DATASETS.names() else None


@contextlib.contextmanager
def explained(paths: Sequence[str], schema: KeypointSchema) -> Iterator[None]:
    """Name the record that TensorFlow stumbles over in the body, in place of a traceback.

    Args:
        paths: Of the files that the body reads.
        schema: The data set's, or a subset of it.

    Raises:
        UserError: The body has failed, and a record of these files is faulty.
    """
    try:
        yield
    # TensorFlow's message quotes what it cannot parse, which may be no text.
    except (tf.errors.OpError, UnicodeDecodeError) as error:
        try:
            check(paths, schema)
        except UserError as fault:
            raise fault from error
        raise


def check(paths: Sequence[str], schema: KeypointSchema) -> None:
    """Read all records of the files. Raises UserError where one is faulty, and name it."""
    for path in paths:
        problem = _problem_of_file(path, schema)
        if problem:
            raise UserError(f'{path}, {problem}; {AGAIN}')


def named(examples: Iterable, paths: Sequence[str], schema: KeypointSchema) -> Iterator:
    """Yield the same examples, which are read from these files; raises as `explained` does."""
    with explained(paths, schema):
        yield from examples


def _problem_of_file(path: str, schema: KeypointSchema) -> str | None:
    """Return which record of a file cannot be used, and why; None where all can be."""
    number = 0
    try:
        for serialized in tf.data.TFRecordDataset(path).as_numpy_iterator():
            number += 1
            problem = problem_of_record(serialized, schema)
            if problem:
                return f'record {number}: {problem}'
    except tf.errors.OpError as error:
        return f'record {number + 1} is cut off or damaged ({_first_line(error)})'
    return None


def _first_line(error: tf.errors.OpError) -> str:
    return error.message.split('\n')[0]


# Feature -> its kind, and how many values there are: exactly so many, or any number.
_FEATURES = {
    'image/encoded': ('bytes_list', 1),
    'image/id': ('bytes_list', 1),
    'image/category': ('bytes_list', 1),
    'image/height': ('int64_list', 1),
    'image/width': ('int64_list', 1),
    'image/keypoints': ('float_list', None),
    'image/visibility': ('int64_list', None),
    'image/box': ('float_list', None),
}


def problem_of_record(serialized: bytes, schema: KeypointSchema) -> str | None:
    """Return why a record is none that a conversion has written; None if it may be one.

    Args:
        serialized: A tf.train.Example.
        schema: The data set's, or a subset of it.
    """
    try:
        features = tf.train.Example.FromString(serialized).features.feature
    except DecodeError:
        return 'it is no tf.train.Example'
    values = {}
    for name, (kind, count) in _FEATURES.items():
        if name in features and features[name].WhichOneof('kind') not in (kind, None):
            return f'{name} is a {features[name].WhichOneof("kind")}, not a {kind}'
        values[name] = getattr(features[name], kind).value if name in features else ()
        if count is not None and len(values[name]) != count:
            return f'{name} has {len(values[name])} values, not {count}'
    (image_id,) = values['image/id']
    told = repr(image_id.decode(errors='replace'))
    (category,) = values['image/category']
    whole = _whole(schema)
    if whole is not None and category.decode(errors='replace') not in whole.categories:
        return f'{told} is of the unknown category {category.decode(errors="replace")!r}'
    visibility = values['image/visibility']
    points = len(visibility) if whole is None else whole.num_keypoints
    if points <= max(schema.record_positions):
        return f'{told} has {points} points, too few for {schema.name}'
    for name, number in (('image/keypoints', 2 * points), ('image/visibility', points)):
        if len(values[name]) != number:
            return f'{told}: {name} has {len(values[name])} values, not {number}'
    coordinates = [*values['image/keypoints'], *values['image/box']]
    if len(values['image/box']) not in (0, 4) or not all(map(math.isfinite, coordinates)):
        return f'{told} has coordinates that are not finite, or a box of other than 4'
    if not set(visibility) <= {-1, 0, 1}:
        return f'{told} has a visibility other than -1, 0 and 1'
    sides = values['image/height'][0], values['image/width'][0]
    if not all(1 <= side <= MAX_COORDINATE for side in sides):
        return f'{told} has {sides[0]} x {sides[1]} px'
    try:
        tf.io.decode_jpeg(values['image/encoded'][0], channels=3)
    except tf.errors.OpError as error:
        return f'{told} cannot be decoded ({_first_line(error)})'
    return None
