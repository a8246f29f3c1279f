"""What Keras says of the networks of tf.keras.applications: their layers, and what feeds them."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import tensorflow as tf

# High enough that the strides are plain to see although unpadded layers lose a border.
DESCRIBED_SIZE = 512
_PADDINGS = ('ZeroPadding2D', 'Cropping2D')


class Node(NamedTuple):
    """A layer of Keras: its name, class and settings, and what feeds it.

    `kind` is the function's name for an operation like x + 3, of which 3 is the `operand`.
    `level`: n of a result with stride 2**n; 0 of a result that is no feature map.
    """

    name: str
    kind: str
    config: dict[str, Any]
    inputs: tuple[str, ...]
    operand: float | None
    level: int


@dataclasses.dataclass(frozen=True)
class Description:
    """A network of Keras: its layers in topological order, and the names of its weights.

    In Keras's order of layers, which is that of its files of weights.
    """

    nodes: tuple[Node, ...]
    weight_names: tuple[str, ...] = ()

    def taps(self) -> dict[int, str]:
        """Return level -> name of the layer that gives its feature map.

        It is the last of its stride that everything deeper passes through, or else, where every
        one is bypassed, the end of the longest way to channels that are joined. A layer that pads
        for the next stride is no feature map.
        """
        last_use = {name: n for n, node in enumerate(self.nodes) for name in node.inputs}
        passed, joined, depths, reach = {}, {}, {}, 0
        for n, node in enumerate(self.nodes):
            name, level = node.name, node.level
            depths[name] = 1 + max((depths[above] for above in node.inputs), default=0)
            if level and reach <= n and node.kind not in _PADDINGS:  # nothing bypasses it
                passed[level] = name
            if level and node.kind == 'Concatenate':
                joined[level] = max(joined.get(level, name), name, key=depths.get)
            reach = max(reach, last_use.get(name, n))
        levels = sorted(passed.keys() | joined.keys())
        return {level: passed.get(level) or joined[level] for level in levels}

    def up_to(self, names: Iterable[str]) -> Description:
        """Return the description without the layers that none of `names` needs."""
        needed = set(names)
        for node in reversed(self.nodes):
            if node.name in needed:
                needed.update(node.inputs)
        return Description(tuple(node for node in self.nodes if node.name in needed))


@functools.cache
def describe(name: str) -> Description:
    """Describe the layers of tf.keras.applications.<name>, which Keras builds.

    Layers that are not padded and that no layer pads for are described as padded ('same').
    """
    # A thread of its own is in eager mode and numbers layers from the start, whatever graph is
    # being built here. In a graph, Keras would swap the base classes of all its layers.
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(_describe, name).result()


def _describe(name: str) -> Description:
    make = getattr(tf.keras.applications, name)
    with tf.device('CPU:0'), tf.variable_creator_scope(_without_values):
        shape = (DESCRIBED_SIZE, DESCRIBED_SIZE, 3)
        model = make(include_top=False, weights=None, input_shape=shape)
    weights = [weight for layer in model.layers for weight in layer.weights]
    names = [weight.name.split(':')[0] for weight in weights]
    return Description(tuple(_nodes(model, {})), tuple(names))


def _without_values(create, **options):
    """Return a variable creator that spares the initial values of weights, which nobody reads."""
    if options.get('shape') is not None:
        empty = functools.partial(tf.raw_ops.Empty, shape=options['shape'], dtype=options['dtype'])
        options['initial_value'] = empty
    return create(**options)


def _nodes(model, aliases: dict[str, str]) -> Iterator[Node]:
    """Yield the layers of a model and those within it; `aliases`: its inputs and outputs."""
    kinds = {}
    for layer in model.layers:
        [call] = layer.inbound_nodes
        parents = [node.layer.name for node in call.parent_nodes]
        inputs = tuple(aliases.get(parent, parent) for parent in parents)
        kinds[layer.name] = type(layer).__name__
        if isinstance(layer, tf.keras.Sequential):
            yield from _nodes(layer, {layer.input_names[0]: inputs[0]})
            aliases[layer.name] = layer.layers[-1].name
            continue
        config = layer.get_config()
        if config.get('padding') == 'valid' and kinds.get(parents[0]) not in _PADDINGS:
            config['padding'] = 'same'
        kind = config.get('function', kinds[layer.name])  # of an operation
        operands = [value for value in call.call_args if isinstance(value, float)] or [None]
        shape = layer.output.shape
        level = round(math.log2(DESCRIBED_SIZE / shape[1])) if shape.rank == 4 else 0
        yield Node(layer.name, kind, config, inputs, *operands, level)
