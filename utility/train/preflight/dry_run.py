"""What a training would be, told before it begins: nothing is trained and nothing is written."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from config import Experiment
from preprocessing import training_data
from utility.checkpoints import variables as checkpoints
from utility.optim import schedules, training_step
from utility.train.model_fn import Task, make_model_fn
from utility.train.plan import Plan
from utility.visualization.html_page import Table

v1 = tf.compat.v1

_GRADIENTS = 'gradients'  # the name scope of tf.gradients
# What only gives another name or shape to a tensor that is in memory already.
_SAME_MEMORY = {'Identity', 'Reshape', 'Squeeze', 'ExpandDims', 'StopGradient', 'IdentityN'}
# What lies in memory for another reason: weights, and constants.
_NOT_ACTIVATIONS = {'ReadVariableOp', 'Const', 'VarHandleOp', 'Placeholder', 'Shape'}
_MOST_POINTS = 20_000  # of the schedule, for its chart


class Memory(NamedTuple):
    """An estimate, bytes.

    Attributes:
        weights: The network's variables.
        gradients: Of the trainable ones.
        state: What the optimizer and averages keep for them.
        activations: What the backward pass reads of the forward pass.
    """

    weights: int
    gradients: int
    state: int
    activations: int


def describe(task: Task, plan: Plan, data_dir: str, folder: str = '') -> Iterator[str]:
    """Return the lines that a dry run prints of the training of one network, mistakes before them.

    Args:
        task: As it would be trained.
        folder: Of the network, which is looked at, and not written.

    Raises:
        UserError: The network, the loss, an op string or the weights to start from are wrong.
    """
    graph = _training_graph(task, plan, data_dir, folder)
    return _lines(task.experiment, plan, graph)


def _lines(experiment: Experiment, plan: Plan, graph: tf.Graph) -> Iterator[str]:
    yield json.dumps(_shown_fields(experiment), indent=2)
    yield ''
    yield from _lengths(plan)
    yield ''
    yield from _schedule(experiment, plan)
    network = checkpoints.network_variables(graph.get_collection(v1.GraphKeys.GLOBAL_VARIABLES))
    trainable = {v.name for v in graph.get_collection(v1.GraphKeys.TRAINABLE_VARIABLES)}
    yield ''
    yield from _variables(experiment, network, trainable)
    yield ''
    yield from _memory(estimate_memory(graph), experiment.data.batch_size)


def _shown_fields(experiment: Experiment) -> dict[str, Any]:
    """Return the experiment without the section finetune, which says nothing of the network itself.

    A network that goes on from another is trained by it: its epochs, schedule and rate are in their
    places.
    """
    values = json.loads(experiment.to_json())
    del values['finetune']
    return values


def _lengths(plan: Plan) -> Iterator[str]:
    steps, per_epoch = plan.length.total_steps, plan.length.steps_per_epoch
    yield str(plan)
    yield (
        f'{steps / per_epoch:.4g} epochs of {per_epoch:.6g} steps; {steps // plan.accumulate} '
        f'updates of the weights; {plan.num_val} pictures to validate with'
    )
    if plan.num_val:
        shown = [*map(str, plan.stops[:3]), *(['...'] if len(plan.stops) > 4 else [])]
        shown += [str(stop) for stop in plan.stops[3:][-1:]]
        yield f'{len(plan.stops)} evaluations, after step {", ".join(shown)}'


def _schedule(experiment: Experiment, plan: Plan) -> Iterator[str]:
    total = plan.length.total_steps
    steps = np.unique(np.linspace(0, total - 1, min(total, _MOST_POINTS)).astype(np.int64))
    rates = schedules.learning_rate(
        experiment.optimizer, experiment.schedule, tf.constant(steps), plan.length
    ).numpy()
    epochs = total / plan.length.steps_per_epoch
    yield (
        f'learning rate over {epochs:.4g} epochs ({experiment.schedule.name}): '
        f'{rates[0]:g} at first, {rates.max():g} at most, {rates[-1]:g} in the last step'
    )
    yield from text_chart(rates)
    if experiment.schedule.name == 'plateau':
        yield 'It falls where the validation NE does not; that is not known before.'


def text_chart(values: np.ndarray, width: int = 72, height: int = 12) -> list[str]:
    """Draw values [N], none negative, from the first to the last, for a terminal.

    The axis at the left begins at 0. A column that stands for several values is filled from the
    lowest to the highest of them, so that nothing between two columns is lost.
    """
    parts = np.array_split(np.asarray(values, np.float64), min(width, len(values)))
    top = max(max(map(np.max, parts)), 1e-300)
    ends = [[round(f(part) / top * (height - 1)) for f in (np.min, np.max)] for part in parts]
    labels = {height - 1: f'{top:.3g}', 0: '0'}
    lines = []
    for row in range(height - 1, -1, -1):
        cells = (' *'[low <= row <= high] for low, high in ends)
        lines.append(f'{labels.get(row, ""):>9} |{"".join(cells)}'.rstrip())
    return lines


def _variables(experiment: Experiment, variables, trainable) -> Iterator[str]:
    rows, decayed, total = [], 0, 0
    for variable in variables:
        name, size = variable.name.split(':')[0], variable.shape.num_elements()
        decays = variable.name in trainable and training_step.decays(experiment.optimizer, variable)
        kind = 'decays' if decays else '' if variable.name in trainable else 'not trained'
        rows.append((name, 'x'.join(map(str, variable.shape)) or '1', f'{size:,}', kind))
        decayed += size * decays
        total += size * (variable.name in trainable)
    yield Table('variables', ('name', 'shape', 'numbers', 'weight decay'), rows).text()
    yield f'{total:,} parameters in {len(trainable)} variables, of which {decayed:,} decay'


def _memory(memory: Memory, batch_size: int) -> Iterator[str]:
    rows = [(name, _size(value)) for name, value in memory._asdict().items()]
    caption = f'memory of a step of {batch_size} pictures on one device, an estimate'
    yield Table(caption, ('', ''), [*rows, ('in all', _size(sum(memory)))]).text()
    yield (
        'Counted from the graph: without work space of the operations, the framework itself and '
        'the input, and without what the device saves by merging operations.'
    )


def _size(num_bytes: int) -> str:
    return f'{num_bytes / 2**20:,.1f} MiB'


def _training_graph(task: Task, plan: Plan, data_dir: str, folder: str) -> tf.Graph:
    """Return the graph of a step on one device, as the model function makes it."""
    experiment = task.experiment
    for step in (0, *([None] if plan.num_val else [])):
        batches = training_data.input_fn(
            experiment, plan.schema, data_dir, step, plan.length.total_steps
        )
        if step == 0:
            specs = batches().element_spec
    with tf.Graph().as_default() as graph:
        features, labels = tf.nest.map_structure(
            lambda spec: v1.placeholder(spec.dtype, [experiment.data.batch_size, *spec.shape[1:]]),
            specs,
        )
        make_model_fn(task)(features, labels, 'train', SimpleNamespace(model_dir=folder))
    return graph


def estimate_memory(graph: tf.Graph) -> Memory:
    """Return what a graph of a training step needs; its shapes must be known.

    The backward pass begins when the forward pass is done. What it reads of that is in memory then,
    at once; other tensors of the forward pass come and go.
    """
    backward = [op for op in graph.get_operations() if op.name.startswith(_GRADIENTS)]
    backward_set = set(backward)
    kept = {
        _source(tensor) for op in backward for tensor in op.inputs if tensor.op not in backward_set
    }
    kept = {t.ref() for t in kept if t.op.type not in _NOT_ACTIVATIONS}
    trainable = graph.get_collection(v1.GraphKeys.TRAINABLE_VARIABLES)
    variables = graph.get_collection(v1.GraphKeys.GLOBAL_VARIABLES)
    weights = checkpoints.network_variables(variables)
    names = {v.name for v in weights}
    return Memory(
        weights=sum(map(_num_bytes, weights)),
        gradients=sum(map(_num_bytes, trainable)),
        state=sum(_num_bytes(v) for v in variables if v.name not in names),
        activations=sum(_num_bytes(ref.deref()) for ref in kept),
    )


def _source(tensor: tf.Tensor) -> tf.Tensor:
    while tensor.op.type in _SAME_MEMORY:
        tensor = tensor.op.inputs[tensor.value_index if tensor.op.type == 'IdentityN' else 0]
    return tensor


def _num_bytes(tensor) -> int:
    return math.prod(tensor.shape.as_list()) * tensor.dtype.size if tensor.shape.rank else 8
