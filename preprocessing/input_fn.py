"""From records to batches: records are read, shuffled, augmented by op strings, and batched."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf

from config import UserError
from preprocessing.ops import op_string
from preprocessing.ops.op_string import parse_ops
from preprocessing.ops.registry import Example
from preprocessing.records import decode_example, record_files
from preprocessing.schema import KeypointSchema
from preprocessing.stream import (
    PARALLEL_CALLS,
    Order,
    in_order,
    pictures_per_step,
    shuffled,
    untuned,
)

PREFETCHED_BATCHES = 2


# AutoGraph would read the source files again at each trace: a file saved during a training would
# break its next evaluation. Nothing here needs it.
_without_autograph = tf.autograph.experimental.do_not_convert


@dataclasses.dataclass(frozen=True)
class LateOps:
    """What takes the place of a training's op string in its later part.

    Attributes:
        ops: Op string, of pictures of the same size.
        from_step: Global step whose batch is the first of them.
    """

    ops: str
    from_step: int


def make_input_fn(
    file_pattern: str | Sequence[str],
    schema: KeypointSchema,
    ops: str | Sequence[str],
    batch_size: int,
    *,
    training: bool,
    seed: int = 0,
    order: Order | None = None,
    late: LateOps | None = None,
    boxes: np.ndarray | None = None,
    box_counts: np.ndarray | None = None,
    augment_on: str = 'host',
) -> Callable[..., tf.data.Dataset]:
    """Make the input_fn of a training, an evaluation or a prediction.

    Training reads for ever, in a new order and with new augmentation in each epoch, and gives full
    batches only, over the borders of epochs. Otherwise the records come once, in the order of
    record_files; the last batch may be smaller. Same arguments, same batches, whatever the number
    of threads; the batch of a step is the same whatever step a training starts at.

    Args:
        file_pattern: As in records.record_files.
        schema: The data set's, or a subset of it; K is its number of keypoints.
        ops: Op string; or V of them, each for another view of every picture, of one size.
        batch_size: B, of each replica.
        training: Whether to shuffle and repeat.
        seed: Of the order and of the augmentation.
        order: Of the records in training, and where to start; None: Order().
        late: In training, what takes the place of the op string later on.
        boxes: float32 [N, 4], original px, in place of the records' boxes. Not in training.
        box_counts: int [R], how many of the boxes a record has; it comes once for each of them.
        augment_on: 'host'; or 'device': training batches hold canvases instead of pictures, and
            op_strings.painted_batch makes the same pictures of them, within rounding.

    Returns:
        input_fn(input_context=None) -> Dataset of (features, labels), of that pipeline's share of
        the records; _features_and_labels tells what they hold.

    Raises:
        UserError: An argument is out of range, the op string is wrong, or no file matches.
    """
    _check_arguments(ops, batch_size, training, late, augment_on)
    boxes, files = _checked_boxes(boxes, box_counts, training), record_files(file_pattern)
    order, seed = order or Order(), seed % 2**31
    visibility = 'visibility' if training else 'annotated'
    prepare = _preparation(ops, late, (_FINISH[augment_on], visibility), schema, seed, boxes)

    def input_fn(input_context=None):
        records, first_late = _once_for_each_box(in_order(files, input_context), box_counts), None
        if training:
            records = shuffled(files, seed, order, batch_size, input_context)
        if late:
            first_late = late.from_step * pictures_per_step(batch_size, input_context)
        mapped = records.map(functools.partial(prepare, first_late=first_late), PARALLEL_CALLS)
        batch = mapped.batch if augment_on == 'host' else mapped.padded_batch  # canvases differ
        batches = batch(batch_size, drop_remainder=training).prefetch(PREFETCHED_BATCHES)
        return batches.with_options(_options(augment_on))

    return input_fn


def _preparation(
    ops, late: LateOps | None, kind: tuple, schema: KeypointSchema, seed: int, boxes
) -> Callable:
    """Return (index, serialized record, index of the first late record) -> (features, labels).

    `kind`: What makes the picture, of _FINISH, and which visibility of the example counts.
    """

    @_without_autograph
    def prepare(index, serialized, first_late):
        example = dict(decode_example(serialized, schema))
        if boxes is not None:
            example['box'] = _row(boxes, index)
        see = functools.partial(_seen, schema, example, (seed, index), *kind)
        if late is None:
            return see(ops)
        is_late = index >= first_late
        features, labels = tf.cond(is_late, lambda: see(late.ops), lambda: see(ops))
        return features if kind[0] is _painted else {**features, 'is_late': is_late}, labels

    return prepare


def _check_arguments(ops, batch_size: int, training: bool, late, augment_on: str) -> None:
    views = [ops] if isinstance(ops, str) else list(ops)
    for view in [*views, *([late.ops] if late else [])]:
        parse_ops(view)
    for argument, value in (('views', len(views)), ('batch_size', batch_size)):
        if value < 1:
            raise UserError(f'{argument}={value!r}: must be at least 1')
    if augment_on not in _FINISH:
        raise ValueError(f'augment_on={augment_on!r}: must be {" or ".join(_FINISH)}')
    if augment_on == 'device' and not (training and isinstance(ops, str)):
        raise ValueError("augment_on='device': is for training with one op string")


def _checked_boxes(
    boxes: np.ndarray | None, counts: np.ndarray | None, training: bool
) -> np.ndarray | None:
    if counts is not None and (boxes is None or sum(counts) != len(boxes)):
        raise ValueError('box_counts: must add up to the number of boxes')
    if boxes is None:
        return None
    boxes = np.asarray(boxes, np.float32)
    if training or boxes.ndim != 2 or boxes.shape[1] != 4:
        allowed = 'of shape [N, 4], and None in training'
        raise ValueError(f'boxes of shape {list(boxes.shape)}: must be {allowed}')
    return boxes


def _once_for_each_box(records: tf.data.Dataset, counts: np.ndarray | None) -> tf.data.Dataset:
    """Return (number of the box, serialized record) of (index, serialized record); without counts
    the same records.
    """
    if counts is None:
        return records
    last = np.cumsum(counts, dtype=np.int64)
    ends = tf.constant(last), tf.constant(last - counts)

    @_without_autograph
    def rows(index, serialized):
        message = f'boxes are of {len(counts)} records, but there are more'
        with tf.control_dependencies(
            [tf.debugging.assert_less(index, np.int64(len(counts)), message)]
        ):
            stop, start = (tf.gather(end, index) for end in ends)
        pair = _without_autograph(lambda number: (number, serialized))
        return tf.data.Dataset.range(start, stop).map(pair)

    return records.flat_map(rows)


def _row(boxes: np.ndarray, index: tf.Tensor) -> tf.Tensor:
    message = f'boxes has {len(boxes)} rows, but there are more records'
    with tf.control_dependencies([tf.debugging.assert_less(index, np.int64(len(boxes)), message)]):
        return tf.gather(boxes, index)


def _features_and_labels(
    picture: Mapping[str, tf.Tensor], example: Example, visibility: str
) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
    """Return what travels of an example, here without the batch dimension.

    Features: image uint8 [B, H, W, 3], image_id and category string [B], image_size int32 [B, 2],
    to_crop float32 [B, 3, 3] (original -> crop px). Labels: keypoints float32 [B, K, 2] crop px,
    visibility int32 [B, K], normalizer float32 [B] original px. `visibility` names that of the
    example: in a training points outside the picture are absent, in an evaluation all count.
    """
    features = {name: example[name] for name in ('image_id', 'category', 'image_size', 'to_crop')}
    labels = {name: example[name] for name in ('keypoints', 'normalizer')}
    labels['visibility'] = example[visibility]
    return {**picture, **features}, labels


def _painted(ops: str, framed: Example, seed: tf.Tensor) -> dict[str, tf.Tensor]:
    sampler = op_string.compiled_sampler(ops)
    return {'image': op_string.sample_crop(sampler, framed, seed)}


def _canvas(ops: str, framed: Example, seed: tf.Tensor) -> dict[str, tf.Tensor]:
    del ops
    return {**{name: framed[name] for name in op_string.CANVAS}, 'seed': seed}


# Place where pictures are made -> what the host makes of a frame.
_FINISH = {'host': _painted, 'device': _canvas}


def _seen(
    schema: KeypointSchema,
    example: Example,
    seed: tuple,
    finish: Callable,
    visibility: str,
    ops: str | Sequence[str],
):
    """Return (features, labels) of a view or, of several, their image [B, V, H, W, 3] and to_crop
    [B, V, 3, 3], and all else of the first.
    """
    views = [ops] if isinstance(ops, str) else ops
    seeds = [tf.stack([seed[0] + number, seed[1]]) for number in range(len(views))]
    parts = []
    for view, own in zip(views, seeds):
        framed = op_string.framed(view, schema, example, own)
        parts.append(_features_and_labels(finish(view, framed, own), framed, visibility))
    features, labels = parts[0]
    if isinstance(ops, str):
        return features, labels
    stacked = {n: tf.stack([view[n] for view, _ in parts]) for n in ('image', 'to_crop')}
    return {**features, **stacked}, labels


def _options(augment_on: str) -> tf.data.Options:
    options = untuned()
    options.deterministic = True
    options.experimental_warm_start = True  # the first batch is made while a session begins
    if augment_on == 'host':
        options.threading.private_threadpool_size = PARALLEL_CALLS
    # input_fn shards by itself; sharded again, records would be lost.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return options
