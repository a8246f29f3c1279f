"""Op strings: parsed, and applied to a record in two parts, before and after pixels are moved.

The first part, `framed`, works on numbers: what the view shows, where its points are, and which
pixels will be needed. The second, `painted`, makes the view of them and works on its pixels. It is
arithmetic on tensors of fixed shapes, that can be compiled, or done by an accelerator.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import inspect
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from config import UserError, parsed_literal
from preprocessing import rendering
from preprocessing.ops.registry import OPS, Example, Op, Stage, own_seeds
from preprocessing.schema import KeypointSchema

_MAX_LENGTH = 2000  # characters; Python's parser is made for programs
# What pixel ops may look at, beside the image.
SEEN_BY_PIXEL_OPS = ('keypoints', 'visibility', 'to_crop')
# What `painted` needs beside that.
CANVAS = ('canvas', 'canvas_size', 'crop_to_canvas', 'fill')


def parse_ops(ops: str) -> list[tuple[Stage, Op]]:
    """Make the ops, and their stages, of 'flip(0.5)|rotate(30)|letterbox(384,384)|warp', say.

    Ops are separated by '|' and take literals, by position or by name. Geometric ops come first,
    then one letterbox, one warp, and pixel ops.

    Raises:
        UserError: An op is unknown, has bad arguments or is out of place; names it and what is
            allowed.
    """
    if len(ops) > _MAX_LENGTH:
        raise UserError(f'an op string of {len(ops)} characters; at most {_MAX_LENGTH} are read')
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
            raise UserError(f'op string {ops!r} has {names[stage]} {count} times; {allowed}')
    for text, stage, before in zip(texts[1:], stages[1:], stages):
        if stage < before:
            raise UserError(f'op string {ops!r}: {text!r} comes too late; {allowed}')
    return parsed


def _parse_op(text: str) -> tuple[Stage, Op]:
    """Return one op of an op string, such as 'flip' or 'color(0.1, hue=0)'."""
    factory, arguments, keywords = _parse_call(text)
    signature = inspect.signature(factory)
    plain = [p.replace(annotation=inspect.Parameter.empty) for p in signature.parameters.values()]
    usage = f'{factory.__name__}{inspect.Signature(plain)}'
    try:
        bound = signature.bind(*arguments, **keywords)
        return factory.stage, factory(*bound.args, **bound.kwargs)
    except (TypeError, ValueError, ArithmeticError) as error:
        raise UserError(f'op {text!r}: {error}; use {usage}') from error


def _parse_call(text: str) -> tuple[Callable[..., Op], list[Any], dict[str, Any]]:
    """Return the factory that the text names, and the literals it is called with."""
    try:
        node = ast.parse(text, mode='eval').body
        call = node if isinstance(node, ast.Call) else ast.Call(node, [], [])
        arguments = [parsed_literal(value) for value in call.args]
        keywords = {keyword.arg: parsed_literal(keyword.value) for keyword in call.keywords}
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise UserError(f'op {text!r}: must look like name or name(1, key=0.5)') from error
    well_formed = isinstance(call.func, ast.Name) and None not in keywords
    if not well_formed or len(keywords) < len(call.keywords):
        raise UserError(f'op {text!r}: must look like name or name(1, key=0.5), each key once')
    return OPS.get(call.func.id), arguments, keywords


def picture_size(ops: str) -> tuple[int, int]:
    """Return (height, width) of the pictures that an op string makes, px."""
    (letterbox,) = (op for stage, op in parse_ops(ops) if stage == Stage.SIZE)
    unit = {'frame_size': tf.ones([2]), 'to_crop': tf.eye(3)}
    # A constant, hence known while a graph is built.
    return tuple(tf.get_static_value(letterbox(unit, None)['frame_size']).astype(int).tolist())


def fill_color(ops: str) -> tuple[float, float, float]:
    """Return what surrounds the image in an op string that does nothing but letter-box it.

    Raises:
        UserError: It does something else.
    """
    parsed = parse_ops(ops)
    if [stage for stage, _ in parsed] != [Stage.SIZE, Stage.WARP]:
        raise UserError(f'op string {ops!r}: must be one letterbox and one warp')
    _, warp = parsed[1]
    return tuple(warp.fill)


def _apply(ops: str, stages: Container[Stage], example: Example, seed: Any) -> Example:
    """Apply the ops of an op string that are of these stages."""
    parsed = enumerate(parse_ops(ops))
    chosen = {position: op for position, (stage, op) in parsed if stage in stages}
    for op, own in zip(chosen.values(), own_seeds(seed, [*chosen])):
        example = op(example, own)
    return example


def framed(ops: str, schema: KeypointSchema, example: Example, seed: Any) -> Example:
    """Apply an op string to one decoded record, up to its warp.

    Args:
        ops: As in parse_ops.
        schema: That the record was decoded with.
        example: From records.decode_example.
        seed: Integers [2]. Equal seeds give equal results; each op derives its own from it.

    Returns:
        The example as ops/registry.py describes it after `warp`, with a canvas for `painted`.
    """
    start = {
        **example,
        'frame_size': tf.cast(example['image_size'], tf.float32),
        'to_crop': tf.eye(3),
        'flip_permutation': tf.constant(schema.flip_permutation),
    }
    return _apply(ops, (Stage.GEOMETRY, Stage.SIZE, Stage.WARP), start, seed)


class Sampler(NamedTuple):
    """What makes the picture of an op string: two functions, of which the second takes what the
    first gives. One would sample anew for each channel, and once more for each mean color."""

    sample: Callable[..., tuple[tf.Tensor, tf.Tensor]]
    paint: Callable[..., tf.Tensor]


def make_painter(
    ops: str, finish: Callable[[tf.Tensor], tf.Tensor] = rendering.to_uint8
) -> Sampler:
    """Return the painter of an op string.

    Args:
        ops: As in parse_ops.
        finish: What is done to the picture, float32 [H, W, 3], at the end.
    """
    out_size = picture_size(ops)

    def sample(canvas, canvas_size, crop_to_canvas):
        return rendering.sample(canvas, canvas_size, crop_to_canvas, out_size)

    def paint(sums, covered, fill, seen, seed):
        image = rendering.colors(sums, covered, fill)
        return finish(_apply(ops, (Stage.PIXELS,), {**seen, 'image': image}, seed)['image'])

    return Sampler(sample, paint)


def compiled_sampler(ops: str) -> Sampler:
    """Return the same, compiled. In eager mode there is one for each op string, compiled once."""
    if tf.compat.v1.executing_eagerly_outside_functions():
        return _lasting_painter(ops)
    # A function that lasts would keep every graph alive that it was called in.
    return _new_sampler(ops)


def _new_sampler(ops: str) -> Sampler:
    sample, paint = map(rendering.compiled, make_painter(ops))

    def sample_lengthened(canvas, *frame):
        return sample(rendering.lengthened(canvas), *frame)

    return Sampler(sample_lengthened, paint)


_lasting_painter = functools.cache(_new_sampler)


def sample_crop(sampler: Sampler, example: Example, seed: Any) -> tf.Tensor:
    """Return the picture of an op string: its view of the canvas, changed by its pixel ops.

    Args:
        example: From `framed`; of it CANVAS and SEEN_BY_PIXEL_OPS are needed.
        seed: As in `framed`.
    """
    *canvas, fill = (example[name] for name in CANVAS)
    seen = {name: example[name] for name in SEEN_BY_PIXEL_OPS}
    return sampler.paint(*sampler.sample(*canvas), fill, seen, seed)


def painted_batch(ops: Sequence[str], features: Mapping[str, tf.Tensor], labels) -> tf.Tensor:
    """Return the pictures of a batch whose features hold canvases, all at once: uint8 [B, H, W, 3].

    Args:
        ops: The op string of the training and, if there is one, the one that comes late in it.
        features, labels: From an input_fn that was made with augment_on='device'.
    """
    given = {**features, **labels}
    pictures = {name: given[name] for name in (*CANVAS, *SEEN_BY_PIXEL_OPS, 'seed')}
    early, late = (functools.partial(_painted_at_once, one, pictures) for one in (ops[0], ops[-1]))
    if len(ops) == 1:
        return early()
    # All pictures of a step are early, or all are late.
    return tf.cond(features['is_late'][0], late, early)


def _painted_at_once(ops: str, pictures: Mapping[str, tf.Tensor]) -> tf.Tensor:
    sampler = make_painter(ops)
    with _quiet_about('Using a while_loop for converting'):  # of the few numbers that are drawn
        return tf.vectorized_map(lambda one: sample_crop(sampler, one, one['seed']), pictures)


@contextlib.contextmanager
def _quiet_about(start: str) -> Iterator[None]:
    """Keep messages that start so out of TensorFlow's log."""
    logger = tf.get_logger()

    def is_another(message):
        return not message.getMessage().startswith(start)

    logger.addFilter(is_another)
    try:
        yield
    finally:
        logger.removeFilter(is_another)


def apply_ops(ops: str, schema: KeypointSchema, example: Example, seed: Any) -> Example:
    """Apply an op string to one decoded record: `framed` and `painted`.

    Returns:
        The example after the last op, as ops/registry.py describes it: `image` is float32
        [H, W, 3], not yet rounded or clipped.
    """
    example = framed(ops, schema, example, seed)
    image = sample_crop(make_painter(ops, finish=tf.identity), example, seed)
    return {**{name: example[name] for name in example if name not in CANVAS}, 'image': image}
