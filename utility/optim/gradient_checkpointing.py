"""Gradient checkpointing: memory for time (Chen, Xu, Zhang and Guestrin 2016, Training Deep Nets
with Sublinear Memory Cost, arXiv:1604.06174).

Of what a network computes between pictures and heat maps, a training keeps what its blocks hand on
to each other. What is inside a block is computed again, by copies of its operations, when the
gradients arrive at the block. The loss and the moving statistics hang on the first computation
alone, and gradients are those of the same numbers. Random numbers of this project are made of
seeds, so that a copy draws the same; operations that have a state are never copied.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import tensorflow as tf

from nets.names import block_of

v1 = tf.compat.v1

# What lies in memory in any case.
_FREE = ('Const', 'Placeholder', 'PlaceholderWithDefault')
_SCOPE = 'gradients/recomputed'


def recomputing(gradients_of: Callable) -> Callable:
    """Return tf.gradients, or what is used as it, of a network whose blocks are computed again."""

    def gradients(loss, variables, **options):
        graph = v1.get_default_graph()
        forward = graph.get_operations()
        result = gradients_of(loss, variables, **options)
        compute_again(forward, graph.get_operations()[len(forward) :])
        return result

    return gradients


def compute_again(forward: Sequence[tf.Operation], backward: Sequence[tf.Operation]) -> int:
    """Make gradients read copies of what is inside of blocks; return the number of copies.

    Args:
        forward: All operations of a graph before its gradients, in the order of their making.
        backward: Those of the gradients, in the order of their making.
    """
    order = {operation: number for number, operation in enumerate(forward)}
    blocks: dict[str, _Block] = {}
    for operation in backward:
        waits_for = [*(tensor.op for tensor in operation.inputs), *operation.control_inputs]
        arrived = [source for source in waits_for if source not in order and _is_gradient(source)]
        if not arrived:
            continue
        for index, tensor in enumerate(operation.inputs):
            if tensor.op not in order or _is_kept(tensor, order):
                continue
            name = block_of(tensor.op.name)
            # The first gradients to arrive at a block wait for no other of its copies.
            block = blocks.setdefault(name, _Block(order, arrived))
            operation._update_input(index, block.again(tensor))
    return sum(block.size for block in blocks.values())


def _is_gradient(operation: tf.Operation) -> bool:
    is_floating = any(tensor.dtype.is_floating for tensor in operation.outputs)
    return is_floating and operation.type != 'Const'


def _is_kept(tensor: tf.Tensor, forward: Collection[tf.Operation]) -> bool:
    """Return whether it stays in memory: it is handed on, or cannot be computed again."""
    name, operation = block_of(tensor.op.name), tensor.op
    if not name or operation.type in _FREE or operation.op_def.is_stateful:
        return True
    return any(user in forward and block_of(user.name) != name for user in tensor.consumers())


class _Block:
    """Copies of the operations of one block.

    Args:
        order: The operations of the forward pass, with their numbers.
        arrived: Operations that every copy waits for.

    Attributes:
        size: Copies so far.
    """

    def __init__(self, order: dict[tf.Operation, int], arrived: Sequence[tf.Operation]):
        self._order, self._arrived = order, arrived
        self._copies: dict[tf.Operation, tf.Operation] = {}

    @property
    def size(self) -> int:
        return len(self._copies)

    def again(self, tensor: tf.Tensor) -> tf.Tensor:
        """Return the same tensor, computed again."""
        for operation in sorted(self._missing(tensor.op), key=self._order.get):
            self._copies[operation] = self._copy(operation)
        return self._copies[tensor.op].outputs[tensor.value_index]

    def _missing(self, operation: tf.Operation) -> set[tf.Operation]:
        """Return what must be copied for an operation, itself included, and is not copied yet."""
        waiting, uncopied = [operation], set()
        while waiting:
            candidate = waiting.pop()
            if candidate not in uncopied and candidate not in self._copies:
                uncopied.add(candidate)
                waiting += [t.op for t in candidate.inputs if not _is_kept(t, self._order)]
        return uncopied

    def _copy(self, operation: tf.Operation) -> tf.Operation:
        graph = operation.graph
        inputs = [
            t if t.op not in self._copies or _is_kept(t, self._order) else self._copied(t)
            for t in operation.inputs
        ]
        attributes = {k: v for k, v in operation.node_def.attr.items() if k != '_class'}
        waits = graph.control_dependencies(self._arrived)
        with tf.device(operation.device), waits, graph.name_scope(f'{_SCOPE}/'):
            return graph.create_op(
                operation.type,
                inputs,
                [output.dtype for output in operation.outputs],
                name=operation.name,
                attrs=attributes,
                op_def=operation.op_def,
            )

    def _copied(self, tensor: tf.Tensor) -> tf.Tensor:
        return self._copies[tensor.op].outputs[tensor.value_index]
