"""From records to batches: op strings are parsed and applied, and records are read and shuffled."""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from preprocessing.ops import OPS, Example, Op, Stage
from preprocessing.records import decode_example, record_files
from preprocessing.schema import KeypointSchema
from preprocessing.stream import Order, in_order, pictures_per_step, shuffled

PARALLEL_CALLS = tf.data.AUTOTUNE
PREFETCHED_BATCHES = 2


def parse_ops(ops: str) -> list[Op]:
    """Makes the ops of an op string, such as 'flip(0.5)|rotate(30)|letterbox(384,384)|warp'.

    Ops are separated by '|' and take literals, by position or by name. Geometric ops come first,
    then one letterbox, one warp, and pixel ops.

    Raises:
        ValueError: An op is unknown, has bad arguments or is out of place; names it and what is
            allowed.
    """
    texts = [text.strip() for text in ops.split('|')]
    parsed = [_parse_op(text) for text in texts]
    stages = [stage for stage, _ in parsed]
    names = {
        stage: '/'.join(n for n in OPS.names() if OPS.get(n).stage == stage) for stage in Stage
    }
    allowed = f'the order is {", ".join(names.values())}, of which just one of the second and third'
    for stage in (Stage.SIZE, Stage.WARP):
        if stages.count(stage) != 1:
            count = stages.count(stage)
            raise ValueError(f'op string {ops!r} has {names[stage]} {count} times; {allowed}')
    for text, stage, before in zip(texts[1:], stages[1:], stages):
        if stage < before:
            raise ValueError(f'op string {ops!r}: {text!r} comes too late; {allowed}')
    return [op for _, op in parsed]


def _parse_op(text: str) -> tuple[Stage, Op]:
    """One op of an op string, such as 'flip' or 'color(0.1, hue=0)'."""
    factory, arguments, keywords = _parse_call(text)
    signature = inspect.signature(factory)
    plain = [p.replace(annotation=inspect.Parameter.empty) for p in signature.parameters.values()]
    usage = f'{factory.__name__}{inspect.Signature(plain)}'
    try:
        bound = signature.bind(*arguments, **keywords)
        return factory.stage, factory(*bound.args, **bound.kwargs)
    except (TypeError, ValueError) as error:
        raise ValueError(f'op {text!r}: {error}; use {usage}') from error


def _parse_call(text: str) -> tuple[Callable[..., Op], list[Any], dict[str, Any]]:
    """The factory that the text names, and the literals it is called with."""
    try:
        node = ast.parse(text, mode='eval').body
        call = node if isinstance(node, ast.Call) else ast.Call(node, [], [])
        arguments = [ast.literal_eval(value) for value in call.args]
        keywords = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
    except (SyntaxError, ValueError) as error:
        raise ValueError(f'op {text!r}: must look like name or name(1, key=0.5)') from error
    well_formed = isinstance(call.func, ast.Name) and None not in keywords
    if not well_formed or len(keywords) < len(call.keywords):
        raise ValueError(f'op {text!r}: must look like name or name(1, key=0.5), each key once')
    return OPS.get(call.func.id), arguments, keywords


# AutoGraph would read the source files again at each trace: a file saved during a training would
# break its next evaluation. Nothing here needs it.
_without_autograph = tf.autograph.experimental.do_not_convert


@_without_autograph
def apply_ops(ops: str, schema: KeypointSchema, example: Example, seed: Any) -> Example:
    """Applies an op string to one decoded record.

    Args:
        ops: As in parse_ops.
        schema: That the record was decoded with.
        example: From records.decode_example.
        seed: Integers [2]. Equal seeds give equal results; each op derives its own from it.

    Returns:
        The example after the last op, as preprocessing.ops describes it: `image` is float32
        [H, W, 3], not yet rounded or clipped.
    """
    example = {
        **example,
        'frame_size': tf.cast(example['image_size'], tf.float32),
        'to_crop': tf.eye(3),
        'flip_permutation': tf.constant(schema.flip_permutation),
    }
    for position, op in enumerate(parse_ops(ops)):
        example = op(example, tf.random.experimental.stateless_fold_in(seed, position))
    return example


def to_uint8(image: tf.Tensor) -> tf.Tensor:
    """Rounds and clips a picture in 0..255."""
    return tf.saturate_cast(tf.round(image), tf.uint8)


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
) -> Callable[..., tf.data.Dataset]:
    """Makes the input_fn of a training, an evaluation or a prediction.

    Training reads for ever, in a new order and with new augmentation in each epoch, and gives full
    batches only, over the borders of epochs. Otherwise the records come once, in the order of
    record_files; the last batch may be smaller. Same arguments, same batches, whatever the number
    of threads; the batch of a step is the same whatever step a training starts at. Held in memory
    are `order.shuffle_buffer` compressed records and the batches in preparation.

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

    Returns:
        input_fn(input_context=None) -> Dataset of (features, labels), of that pipeline's share of
        the records; _features_and_labels tells what they hold.

    Raises:
        ValueError: An argument is out of range, the op string is wrong, or no file matches.
    """
    views = [ops] if isinstance(ops, str) else list(ops)
    for view in [*views, *([late.ops] if late else [])]:
        parse_ops(view)
    _check_positive(views=len(views), batch_size=batch_size)
    boxes = _checked_boxes(boxes, training)
    files = record_files(file_pattern)
    order, seed = order or Order(), seed % 2**31

    prepare = _preparation(ops, late, schema, seed, boxes)

    def input_fn(input_context=None):
        records, first_late = in_order(files, input_context), None
        if training:
            records = shuffled(files, seed, order, batch_size, input_context)
        if late:
            first_late = late.from_step * pictures_per_step(batch_size, input_context)
        mapped = records.map(functools.partial(prepare, first_late=first_late), PARALLEL_CALLS)
        batches = mapped.batch(batch_size, drop_remainder=training)
        return batches.prefetch(PREFETCHED_BATCHES).with_options(_options())

    return input_fn


def _preparation(ops, late: LateOps | None, schema: KeypointSchema, seed: int, boxes) -> Callable:
    """(index, serialized record, index of the first late record) -> (features, labels)."""

    @_without_autograph
    def prepare(index, serialized, first_late):
        example = dict(decode_example(serialized, schema))
        if boxes is not None:
            example['box'] = _row(boxes, index)
        see = functools.partial(_seen, schema, example, (seed, index))
        if late is None:
            return see(ops)
        return tf.cond(index < first_late, lambda: see(ops), lambda: see(late.ops))

    return prepare


def _check_positive(**numbers: int) -> None:
    for argument, value in numbers.items():
        if value < 1:
            raise ValueError(f'{argument}={value!r}: must be at least 1')


def _checked_boxes(boxes: np.ndarray | None, training: bool) -> np.ndarray | None:
    if boxes is None:
        return None
    boxes = np.asarray(boxes, np.float32)
    if training or boxes.ndim != 2 or boxes.shape[1] != 4:
        allowed = 'of shape [N, 4], and None in training'
        raise ValueError(f'boxes of shape {list(boxes.shape)}: must be {allowed}')
    return boxes


def _row(boxes: np.ndarray, index: tf.Tensor) -> tf.Tensor:
    message = f'boxes has {len(boxes)} rows, but there are more records'
    with tf.control_dependencies([tf.debugging.assert_less(index, np.int64(len(boxes)), message)]):
        return tf.gather(boxes, index)


def _features_and_labels(example: Example) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
    """What travels of an example, here without the batch dimension.

    Features: image uint8 [B, H, W, 3], image_id and category string [B], image_size int32 [B, 2],
    to_crop float32 [B, 3, 3] (original -> crop px). Labels: keypoints float32 [B, K, 2] crop px,
    visibility int32 [B, K], normalizer float32 [B] original px.
    """
    features = {name: example[name] for name in ('image_id', 'category', 'image_size', 'to_crop')}
    labels = {name: example[name] for name in ('keypoints', 'visibility', 'normalizer')}
    return {'image': to_uint8(example['image']), **features}, labels


def _seen(schema: KeypointSchema, example: Example, seed: tuple, ops: str | Sequence[str]):
    """(features, labels) of a view or, of several, their image [B, V, H, W, 3] and to_crop
    [B, V, 3, 3], and all else of the first."""
    views = [ops] if isinstance(ops, str) else ops
    seeds = [tf.stack([seed[0] + number, seed[1]]) for number in range(len(views))]
    seen = [apply_ops(view, schema, example, own) for view, own in zip(views, seeds)]
    parts = [_features_and_labels(view) for view in seen]
    features, labels = parts[0]
    if isinstance(ops, str):
        return features, labels
    stacked = {n: tf.stack([view[n] for view, _ in parts]) for n in ('image', 'to_crop')}
    return {**features, **stacked}, labels


def _options() -> tf.data.Options:
    options = tf.data.Options()
    options.deterministic = True
    # input_fn shards by itself; sharded again, records would be lost.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return options
