"""Operations of TensorFlow's, made directly where sessions run the graph.

TensorFlow's functions first look at all that they are given, which takes longer than to make the
operation. A network has thousands, and its first step or prediction waits for each of them.
"""

from __future__ import annotations

import functools
import inspect

import tensorflow as tf
from tensorflow.python.framework import op_def_registry

v1 = tf.compat.v1


def make(kind: str, **arguments):
    """Return tf.raw_ops.<kind>(**arguments).

    Args:
        kind: Such as 'Mul'.
        arguments: As of tf.raw_ops, all inputs by name. These are tensors, or the only one a list
            of tensors; shapes are of type tf.TensorShape.
    """
    if not has_sessions():
        return getattr(tf.raw_ops, kind)(**arguments)
    name = arguments.pop('name', kind.lstrip('_'))
    inputs = [arguments.pop(key) for key in _input_names(kind)]
    if inputs and isinstance(inputs[0], list):
        inputs, arguments['N'] = inputs[0], len(inputs[0])
    attributes = {key: _attribute(value) for key, value in arguments.items()}
    # As create_op, which takes twice as long, to look for an argument that is deprecated.
    graph = v1.get_default_graph()
    operation = graph._create_op_internal(kind, inputs, name=name, attrs=attributes)
    outputs = operation.outputs
    return outputs[0] if len(outputs) == 1 else outputs or operation


def has_sessions() -> bool:
    """Return whether what is made now belongs to a graph that sessions run."""
    return not (tf.executing_eagerly() or v1.get_default_graph().building_function)


@functools.cache
def _input_names(kind: str) -> list[str]:
    """Return the names of the inputs as of tf.raw_ops, in the order of the definition."""
    names = [argument.name for argument in op_def_registry.get(kind).input_arg]
    function = getattr(tf.raw_ops, kind, None)
    return list(inspect.signature(function).parameters)[: len(names)] if function else names


def _attribute(value) -> v1.AttrValue:
    if isinstance(value, list):
        kinds, parts = zip(*map(_part, value))
        return v1.AttrValue(list=v1.AttrValue.ListValue(**{kinds[0]: parts}))
    kind, part = _part(value)
    return v1.AttrValue(**{kind: part})


def _part(value) -> tuple:
    """Return a value as protocol buffers have it, and under which name."""
    if isinstance(value, tf.DType):
        return 'type', value.as_datatype_enum
    if isinstance(value, tf.TensorShape):
        return 'shape', value.as_proto()
    if isinstance(value, str):
        return 's', value.encode()
    return {bool: 'b', int: 'i', float: 'f'}[type(value)], value
