"""How fast each stage of the input is, and whether the input or the training step limits.

Stages are measured together with all that come before them, since they run at the same time in the
same threads: what a stage costs is what the time of a picture grows by. They take turns, so that a
slow minute slows all of them.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from types import SimpleNamespace

import tensorflow as tf

from config import Experiment
from nets.precision import FLOAT32, Compute, session_config
from preprocessing import records, training_data
from preprocessing.stream import PARALLEL_CALLS, Order, shuffled, untuned
from utility.statistics.medians import Summary, summarize
from utility.train.model_fn import Task, make_model_fn
from utility.train.plan import Plan
from utility.visualization.html_page import Table

v1 = tf.compat.v1

ROUNDS = 7
# Of a stage, in each round: at least so many seconds, after as many batches as may be prepared.
SECONDS = 0.6
PREPARED = 8
# Before that, while the stage before fills what it prepares ahead.
PAUSE = 0.6
# Of the training step, in all; at least one.
STEP_SECONDS = 30.0
STEPS = 5

_BATCH = 'batching alone'
_STEP = 'training step'


def stages(
    experiment: Experiment, plan: Plan, data_dir: str, augment_on: str = 'host'
) -> dict[str, tf.data.Dataset]:
    """Return the input of a training up to each of its stages, in batches; the last is whole."""
    data, schema = experiment.data, plan.schema
    pattern = records.split_patterns(os.path.join(data_dir, 'train'), data.category)
    order = Order(data.shuffle_buffer, plan.num_train)
    read = shuffled(records.record_files(pattern), experiment.seed, order, data.batch_size)

    def batched(function: Callable) -> tf.data.Dataset:
        function = tf.autograph.experimental.do_not_convert(function)
        batches = read.map(function, PARALLEL_CALLS).batch(data.batch_size).prefetch(2)
        return batches.with_options(untuned())

    def parse(_, record):
        return records.decode_example(record, schema)

    def decode(_, record):
        jpeg = records.decode_example(record, schema)['encoded']
        return tf.io.decode_jpeg(jpeg, channels=3, dct_method='INTEGER_ACCURATE')[0, 0]

    def whole(_, record):
        return record

    total = plan.length.total_steps
    full = training_data.input_fn(experiment, schema, data_dir, 0, total, augment_on)()
    return {
        'read, shuffle': batched(whole),
        'parse': batched(parse),
        'decode': batched(decode),
        'decode what is seen' if augment_on == 'device' else 'augment': full,
    }


def batching(whole: tf.data.Dataset, batch_size: int) -> tf.data.Dataset:
    """Return batches of one picture that is there already: as many as one thread can make."""
    example = next(iter(whole.unbatch()))
    return tf.data.Dataset.from_tensors(example).repeat().batch(batch_size).prefetch(2)


def measure(
    datasets: Mapping[str, tf.data.Dataset], batch_size: int, rounds: int | None = None
) -> dict[str, list[float]]:
    """Return pictures per second of some endless datasets of batches, in each of the rounds."""
    iterators = {name: iter(dataset) for name, dataset in datasets.items()}
    rates: dict[str, list[float]] = {name: [] for name in datasets}
    for _ in range(rounds or ROUNDS):
        for name, iterator in iterators.items():
            rates[name].append(batch_size / _seconds_of_a_batch(iterator))
    return rates


def _seconds_of_a_batch(iterator: Iterator) -> float:
    time.sleep(PAUSE)
    for _ in range(PREPARED):
        next(iterator)
    start, count = time.perf_counter(), 0
    while not count or time.perf_counter() - start < SECONDS:
        next(iterator)
        count += 1
    return (time.perf_counter() - start) / count


@contextlib.contextmanager
def training_step(
    experiment: Experiment, plan: Plan, data_dir: str, compute: Compute, augment_on: str = 'host'
) -> Iterator[Callable[[], float]]:
    """Give a function that takes a training step on a batch that is there already: its seconds.

    The first step, which is slower, has been taken.
    """
    task = Task(experiment, plan.schema, plan.length, has_start=False, compute=compute)
    total, settings = plan.length.total_steps, session_config(compute, trains=True)
    batches = training_data.input_fn(experiment, plan.schema, data_dir, 0, total, augment_on)
    graph = tf.Graph()
    with (
        tempfile.TemporaryDirectory() as empty,
        v1.Session(graph=graph, config=settings) as session,
    ):
        with graph.as_default():
            iterator = v1.data.make_initializable_iterator(batches().take(1).cache().repeat())
            model_fn = make_model_fn(task)
            spec = model_fn(*iterator.get_next(), 'train', SimpleNamespace(model_dir=empty))
            session.run([iterator.initializer, v1.global_variables_initializer()])

        def step() -> float:
            start = time.perf_counter()
            session.run(spec.train_op)
            return time.perf_counter() - start

        step()
        yield step


def measure_step(
    experiment: Experiment, plan: Plan, data_dir: str, compute: Compute, augment_on: str
) -> Summary:
    """Return the rate of the training step on one device, on a batch that is there already."""
    with training_step(experiment, plan, data_dir, compute, augment_on) as step:
        seconds: list[float] = []
        while not seconds or (len(seconds) < STEPS and sum(seconds) < STEP_SECONDS):
            seconds.append(step())
    return summarize([experiment.data.batch_size / value for value in seconds])


def describe(
    experiment: Experiment,
    plan: Plan,
    data_dir: str,
    compute: Compute = FLOAT32,
    augment_on: str = 'host',
) -> Iterator[str]:
    """Yield the lines that --profile_input prints of the training of one network.

    Raises:
        UserError: The network, the loss or an op string is wrong.
    """
    batch_size = experiment.data.batch_size
    parts = stages(experiment, plan, data_dir, augment_on)
    whole = list(parts.values())[-1]
    measured = measure({**parts, _BATCH: batching(whole, batch_size)}, batch_size)
    rates = {name: summarize(values) for name, values in measured.items()}
    network_rates = {_BATCH: rates.pop(_BATCH)}
    network_rates[_STEP] = measure_step(experiment, plan, data_dir, compute, augment_on)
    prefixes = ['', *['+ '] * (len(rates) - 1)]
    costs = [*_costs(rates).values(), *(1 / rate.median for rate in network_rates.values())]
    names = [*map(str.__add__, prefixes, rates), *network_rates]
    rows = [
        (name, f'{rate.median:,.0f}', f'{rate.spread:,.0f}', f'{1000 * cost:.2f}')
        for name, rate, cost in zip(names, [*rates.values(), *network_rates.values()], costs)
    ]
    caption = f'input of {plan.num_train} pictures, batches of {batch_size}'
    yield Table(caption, ('up to', 'pictures/s', '+-', 'ms a picture'), rows).text()
    yield verdict(rates, network_rates[_STEP])


def _costs(rates: Mapping[str, Summary]) -> dict[str, float]:
    """Return by how many seconds each stage makes a picture longer."""
    times = [0.0, *(1 / rate.median for rate in rates.values())]
    return {name: max(0.0, after - before) for name, before, after in zip(rates, times, times[1:])}


def verdict(rates: Mapping[str, Summary], step: Summary) -> str:
    """Return what limits a training: the input up to its last stage, or the step.

    The stage that is named is the one that costs most.
    """
    whole, costs = list(rates.values())[-1].median, _costs(rates)
    numbers = f'the input gives {whole:,.0f} pictures/s, the step takes {step.median:,.0f}'
    if whole < step.median:
        dearest = max(costs, key=costs.__getitem__)
        return f'{numbers}: the input limits the training, most of all {dearest!r}'
    return f'{numbers}: the training step limits'
