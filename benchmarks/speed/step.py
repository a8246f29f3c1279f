"""A training step of ours beside those of tf.fashionAI's graph of the same network, on two cores;
what limits ours; and what `--recompute` takes and spares.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from benchmarks import networks
from benchmarks.common import interleaved, isolated, recipes
from benchmarks.common.report import MET, NO_TARGET, TARGET, Table, Target
from benchmarks.speed import step_trace
from config import OptimizerConfig
from nets.precision import Compute
from preprocessing.datasets.fashionai import SCHEMA
from utility.statistics.medians import Summary, summarize

NAME = 'The training step'
IMAGE_SIZE, BATCH_SIZE = 256, 4
GROUPS = {'resnet50_cpn': 1, 'seresnext50_cpn': 32}  # recipe -> groups of its backbone's 3x3
_MAX_SECONDS = 60.0
_LEAST_RATIO = Target(at_least=1.3)
_MANY = 8  # pictures of a batch that needs memory
_RECOMPUTE, _PLAIN = '--recompute', '(none)'
_WAYS = {_PLAIN: False, _RECOMPUTE: True}
# tf.fashionAI's --data_format is channels_first where nothing is said.
_SEEDS = {'tf.fashionAI, channels first': True, 'tf.fashionAI, channels last': False}
_PROJECT = 'ours'


def measure(repeats: int) -> list[Table]:
    """Return the tables; each network is measured in an own process, its graphs in turn."""
    rows, numbers = [], {}
    for recipe in GROUPS:
        numbers[recipe] = isolated.call(compare, recipe, repeats)
        rows += _rows(recipe, numbers[recipe])
    header = ('network', 'graph', 'pictures/s', 'GFLOP a picture', 'share', 'ours', TARGET, MET)
    tables = [Table(NAME, header, rows, _NOTES, numbers), what_limits(numbers, repeats)]
    return [*tables, memory_against_time(repeats)]


def compare(recipe: str, repeats: int) -> dict[str, Any]:
    """Return for each graph FLOPs of a step, pictures per second, share, and ratio to ours."""
    steps = {name: seed_step(recipe, is_first) for name, is_first in _SEEDS.items()}
    steps[_PROJECT] = our_step(recipe)
    reference = interleaved.matrix_product()
    actions = {
        name: functools.partial(_timed, action, reference) for name, (action, _) in steps.items()
    }
    for name in actions:
        actions[name]()  # the first step also optimizes its graph
    costs_by_name = interleaved.rounds(actions, repeats, _MAX_SECONDS)
    result: dict[str, Any] = {}
    for name, (_, flops) in steps.items():
        pairs = list(zip(costs_by_name[name], costs_by_name[_PROJECT]))
        result[name] = {
            'flops': flops,
            'rate': _summary([BATCH_SIZE / run.seconds for run in costs_by_name[name]]),
            'share': _summary([flops / run.seconds / run.reference for run in costs_by_name[name]]),
            'ratio': _summary(
                [seed_run.seconds / project_run.seconds for seed_run, project_run in pairs]
            ),
        }
    return result


def what_limits(compared: dict[str, Any], repeats: int) -> Table:
    """Return kinds of operations of our step beside the seconds that the target allows."""
    rows, numbers = [], {}
    for recipe in GROUPS:
        numbers[recipe] = isolated.call(traced, recipe, repeats)
        for name in _SEEDS:
            allowed = BATCH_SIZE / compared[recipe][name]['rate']['median'] / _LEAST_RATIO.at_least
            numbers[recipe][f'allowed by {name}'] = allowed
        rows.append((recipe, *(f'{1000 * value:.0f}' for value in numbers[recipe].values())))
    header = ('network, ms of a step', *numbers[recipe])
    return Table('What limits it', header, rows, _LIMITS_NOTES, numbers)


def traced(recipe: str, repeats: int) -> dict[str, float]:
    """Return seconds: convolutions at the rate of a product, and each kind of operations."""
    action, flops = our_step(recipe, step_trace.one_at_a_time())
    reference = interleaved.matrix_product()
    action()
    rate = reference()
    spent = step_trace.seconds(action, repeats)
    return {'convolutions at the rate of a product': flops / ((rate + reference()) / 2), **spent}


def memory_against_time(repeats: int) -> Table:
    """Return steps without and with --recompute, in turn, each in a process of its own."""
    rows, numbers = [], {}
    for recipe in GROUPS:
        with contextlib.ExitStack() as stack:
            steps = {}
            for way, recompute in _WAYS.items():
                remote = stack.enter_context(isolated.Remote(recomputing, recipe, recompute))
                steps[way] = remote.__next__
            costs_by_name = interleaved.rounds(steps, repeats, _MAX_SECONDS)
        ratios = [
            recomputed[0] / plain[0]
            for recomputed, plain in zip(costs_by_name[_RECOMPUTE], costs_by_name[_PLAIN])
        ]
        for way, costs in costs_by_name.items():
            seconds = summarize([cost[0] for cost in costs])
            memory = max(cost[1] for cost in costs)
            ratio = '' if way == _PLAIN else interleaved.text(summarize(ratios))
            rows.append((recipe, way, interleaved.text(seconds), ratio, f'{memory:.2f}'))
            numbers[f'{recipe} {way}'] = {'seconds': seconds._asdict(), 'memory': memory}
    header = ('network', 'flags', 's', 'ratio', 'memory, GiB')
    return Table('Memory against time', header, rows, _MEMORY_NOTES, numbers)


def recomputing(recipe: str, recompute: bool) -> Iterator[tuple[float, float]]:
    """Yield the seconds of a step and the peak memory, over and over, in an own process.

    The memory is what the first step and those after it add to what is held before them.
    """
    experiment = recipes.resized(recipes.load(recipe), IMAGE_SIZE)
    action = networks.step(experiment, 'train', _MANY, Compute(recompute=recompute))[0]
    before = isolated.peak_memory()
    action()
    while True:
        yield interleaved.seconds_of(action), isolated.peak_memory() - before


def _timed(action: Callable[[], Any], reference) -> interleaved.Run:
    return interleaved.beside_reference({'': action}, reference)['']


def _summary(values) -> dict[str, float]:
    return summarize(values)._asdict()


def our_step(recipe: str, settings=None) -> tuple[Callable[..., Any], int]:
    """Return a step of the recipe with the optimizer of tf.fashionAI, and its FLOPs.

    Args:
        recipe: Of the root.
        settings: Of the session, a ConfigProto, or None.
    """
    experiment = recipes.resized(recipes.load(recipe), IMAGE_SIZE)
    optimizer = OptimizerConfig(name='momentum', momentum=0.9, weight_decay=1e-5)
    experiment = dataclasses.replace(experiment, optimizer=optimizer)
    return networks.step(experiment, 'train', BATCH_SIZE, settings=settings)[:2]


def seed_step(recipe: str, channels_first: bool) -> tuple[Callable[[], Any], int]:
    """Return a step of tf.fashionAI's graph on pictures of noise, and its FLOPs."""
    import tensorflow as tf

    from benchmarks.common.multiplications import count_flops
    from benchmarks.speed import seed_networks

    v1 = tf.compat.v1
    rng = np.random.default_rng(0)
    shape, cells = [BATCH_SIZE, SCHEMA.num_keypoints], IMAGE_SIZE // 4

    def build(draw):
        with tf.Graph().as_default():
            v1.set_random_seed(0)
            images = rng.uniform(-0.67, 0.33, [BATCH_SIZE, IMAGE_SIZE, IMAGE_SIZE, 3])
            visibility = np.ones(shape, np.int32)
            data = (
                networks.as_placeholder(images.astype(np.float32)),
                draw(),
                networks.as_placeholder(visibility),
            )
            return v1.get_default_graph(), seed_networks.training_step(
                *data, GROUPS[recipe], channels_first
            )

    # Loops in the graph cannot be counted, and drawing has no products.
    _, fetched = build(
        lambda: networks.as_placeholder(np.zeros([*shape, cells, cells], np.float32))
    )
    flops = sum(count_flops(*fetched).values())
    points = rng.uniform(1, cells - 1, [*shape, 2]).astype(np.float32)
    graph, fetched = build(
        lambda: seed_networks.targets(networks.as_placeholder(points), (cells, cells))
    )
    with graph.as_default():
        session = v1.Session()
        session.run(v1.global_variables_initializer())
        return session.make_callable(fetched), flops


def _rows(recipe: str, result: dict[str, Any]) -> list[tuple[str, ...]]:
    rows = []
    for name, of in result.items():
        rate, ratio = (interleaved.text(Summary(**of[key])) for key in ('rate', 'ratio'))
        gflop, share = f'{of["flops"] / BATCH_SIZE / 1e9:.1f}', f'{of["share"]["median"]:.0%}'
        compared = ('', *NO_TARGET)
        if name != _PROJECT:
            compared = (f'{ratio} times', *_LEAST_RATIO.cells(of['ratio']['median']))
        rows.append((recipe, name, rate, gflop, share, *compared))
    return rows


_NOTES = (
    f'Batches of {BATCH_SIZE}, {IMAGE_SIZE} px, 24 keypoints, float32: forward, loss, gradients, '
    'update by momentum with weight decay, and moving statistics.',
    'tf.fashionAI: its graph, written anew from its description '
    '(benchmarks/speed/seed_networks.py); 24 maps a picture are drawn in Python. Channels come '
    'first unless its user asks for the other '
    'layout, which a CPU computes faster. Ours: the graph that the train script runs, with that '
    'optimiser.',
    'Share: achieved FLOP/s of convolutions, those of the gradients included, over that of a '
    'product of two 1024 x 1024 matrices right before and after.',
    '**Ours**: how many times as many pictures it does in the same time, round by round.',
)

_LIMITS_NOTES = (
    'Of our graph, traced with one operation at a time on all cores, so that times add up; without '
    'that waiting a step is a little shorter than their sum.',
    'Convolutions: forward, and gradients of inputs and kernels, with the products of matrices '
    'that some of them are.',
    'Allowed: the time of the other graph, in the table above, over the target.',
)

_MEMORY_NOTES = (
    f'Batches of {_MANY}, {IMAGE_SIZE} px. Memory: what steps add to what the process holds before '
    'the first, when all weights are there.',
)
