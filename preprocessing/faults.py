"""Records that can be parsed but that no conversion has written: they are named."""

from __future__ import annotations

from collections.abc import Mapping

import tensorflow as tf

from preprocessing.tables import MAX_COORDINATE


def checked(parsed: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """What was parsed, once it is seen to be of a picture and its points.

    All else would go on with it: to a matrix that has no inverse, or to a picture without points.

    Args:
        parsed: The features of a record, by their names in preprocessing/records.py.

    Raises:
        tf.errors.InvalidArgumentError: When it is run; names the record.
    """
    size = tf.stack([parsed['image/height'], parsed['image/width']])
    coordinates = tf.concat([parsed['image/keypoints'], parsed['image/box']], axis=0)
    is_finite = tf.math.is_finite(coordinates)
    is_size = tf.reduce_all((size >= 1) & (size <= MAX_COORDINATE))

    def fail():
        number = tf.reduce_sum(tf.cast(~is_finite, tf.int32))
        words = [
            'faulty record ', parsed['image/id'], ': height ', tf.as_string(size[0]), ' and width ',
            tf.as_string(size[1]), f' px, which must be 1 to {MAX_COORDINATE}; coordinates that '
            'are not finite: ', tf.as_string(number),
        ]  # fmt: skip
        return tf.group(tf.debugging.Assert(False, [tf.strings.join(words)], summarize=1))

    with tf.control_dependencies([tf.cond(is_size & tf.reduce_all(is_finite), tf.no_op, fail)]):
        return {name: tf.identity(value) for name, value in parsed.items()}
