"""Every recipe's network: parameters, FLOPs, and time of a step on this machine, as a table.

    python -m benchmarks.networks [--scripts=train_a.py,train_b.py] [--output=docs/networks.md]
                                  [--json=networks.json]

Each network runs in a process of its own. With --json a run that was interrupted, or restricted to
some scripts, is completed by the next.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from absl import flags, logging

from benchmarks.common import interleaved, isolated, ledger, recipes
from benchmarks.common.interleaved import Run
from config import Experiment
from nets.precision import FLOAT32, Compute
from preprocessing.datasets import schema_of
from preprocessing.datasets.fashionai import SCHEMA
from utility.command_line import scripts
from utility.statistics.medians import Summary, summarize

_TRAIN, _INFER = 'train', 'infer'  # the modes of a model function
# It has no products that would be counted with those of the network.
_DECODER = 'dark'
# Below this share of the machine's memory no further network is held beside those that wait.
_SHARE_FREE = 0.6
HEADER = (
    'recipe', 'backbone', 'head', 'input', 'heat maps', 'parameters, M', 'GFLOPs',
    'training step, s', 'pictures/s', 'share', 'inference, ms/picture', 'share', 'memory, GiB',
)  # fmt: skip
_ABOUT = """# Networks

Made by `python -m benchmarks.networks --output=docs/networks.md`: every train script of the
root, and the variants below the table.

- **Parameters**: trainable ones of backbone and head, for {keypoints} keypoints.
- **GFLOPs**: of one picture to its final heat maps, counted from the graph that is run: 2 for each
  multiply-add of a convolution or a matrix product, padding included; nothing else counts.
  (ResNet-50 at 224 px has 8.2.) What only training needs, such as coarse heat maps, is left out.
- **Training step**: {batch_size} pictures in float32: forward, loss, gradients, optimiser and
  moving statistics, the graph that the train script runs; without reading and augmenting pictures.
- **Inference**: the same number of pictures, to points in original pixels, by DARK.
- Medians of up to {repeats} steps, after one that is not counted; ± is half the distance between
  the quartiles, and what had time for a single step has none. Networks take turns, step by step.
- **Share**: achieved FLOP/s, those of the gradients included, over that of a product of two
  1024 x 1024 matrices measured right before and after. Where the machine is slow for a while,
  times suffer and shares do not.
- **Memory**: the most that the process had, both graphs and their weights included.

"""
_ABOUT_VARIANTS = """## Recipes without a script of their own

They differ from a script in a few values. Add `--data_dir=RECORDS` to the command. Any other
backbone or head of the registries goes the same way, by `--set network.backbone=...`.

"""


class Options(NamedTuple):
    """How the networks are measured; see the flags."""

    batch_size: int
    image_size: int
    repeats: int
    max_seconds: float
    together: int


def _define_flags() -> None:
    ledger.define_flags()
    flags.DEFINE_integer('batch_size', 2, 'Pictures a step.', lower_bound=1)
    flags.DEFINE_integer('image_size', 0, "Side of the pictures, px; 0: each recipe's.", 0)
    flags.DEFINE_integer('repeats', 7, 'The most steps that are timed.', lower_bound=1)
    flags.DEFINE_float('max_seconds', 15.0, 'After which a network is timed no more.', 0.0)
    flags.DEFINE_integer('together', 4, 'Networks that take turns, memory permitting.', 1)


def main(positional: list[str]) -> None:
    scripts.no_positional(positional)
    values = flags.FLAGS
    options = Options(**{name: values[name].value for name in Options._fields})
    chosen = recipes.select(values.scripts)
    experiments = {name: _experiment(name, options) for name in chosen}
    # More or fewer repetitions make a row more or less exact, not another one.
    meaning = {'batch_size': options.batch_size, 'image_size': options.image_size}
    book = ledger.Ledger(values.json, meaning)
    missing = [n for n in chosen if values.again or book.is_missing(n, experiments[n])]
    for name, row in measure(missing, options):
        logging.info('%s: %s', name, row.get(ledger.FAILURE, 'measured'))
        book.add(name, experiments[name], row)
    measured = [name for name in recipes.names() if name in book.rows]
    ledger.publish(page({name: book.rows[name] for name in measured}, options), values.output)


def _experiment(name: str, options: Options) -> Experiment:
    experiment = recipes.load(name)
    return recipes.resized(experiment, options.image_size) if options.image_size else experiment


def measure(names: Sequence[str], options: Options) -> Iterator[tuple[str, dict[str, Any]]]:
    """Measure networks, a few at a time that take turns; yield recipe and row."""
    waiting = list(names)
    while waiting:
        facts, members = {}, {}
        with contextlib.ExitStack() as stack:
            while waiting and len(members) < options.together and (not members or _is_roomy()):
                remotes = {
                    name: isolated.Remote(measurements, name, options) for name in waiting[:2]
                }
                del waiting[:2]
                for name, (fact, failure) in _facts(remotes).items():
                    stack.callback(remotes[name].close)
                    if failure:
                        remotes[name].close()
                        yield name, {ledger.FAILURE: failure}
                    else:
                        facts[name], members[name] = fact, remotes[name]
            rows_by_name, failures = interleaved.interleave(
                members, options.repeats, options.max_seconds
            )
        for name in members:
            if name in failures:
                yield name, {ledger.FAILURE: failures[name]}
            else:
                yield name, {**facts[name], **_timings(facts[name], rows_by_name[name])}


def _facts(members: dict[str, isolated.Remote]) -> dict[str, tuple[Any, str]]:
    """Return what each member tells first, or why it cannot; all are asked at the same time."""

    def first_answer(member: isolated.Remote) -> tuple[Any, str]:
        try:
            return next(member), ''
        except isolated.FailedError as error:
            return None, str(error)

    with futures.ThreadPoolExecutor(len(members)) as pool:
        return dict(zip(members, pool.map(first_answer, members.values())))


def _is_roomy() -> bool:
    free, total = isolated.available_memory()
    return free > _SHARE_FREE * total


def _timings(facts: dict[str, Any], rounds: Sequence[tuple[dict[str, Run], float]]):
    """Return what several rounds of measurements say, as plain values."""
    row: dict[str, Any] = {'memory': max(memory for _, memory in rounds)}
    for mode in (_TRAIN, _INFER):
        runs = [runs[mode] for runs, _ in rounds]
        shares = [facts['flops'][mode] / run.seconds / run.reference for run in runs]
        row[mode] = {'seconds': summarize([run.seconds for run in runs])._asdict()}
        row[mode]['share'] = summarize(shares)._asdict()
    references = [run.reference for runs, _ in rounds for run in runs.values()]
    return {**row, 'reference': summarize(references).median}


def measurements(name: str, options: Options) -> Iterator[Any]:
    """Yield, in a process of its own, first the facts of a network, then round after round.

    Yields:
        {'parameters': .., 'flops': {mode: of a step}, 'machine': ..}, then again and again a pair:
        mode -> Run, and the most memory so far, GiB.
    """
    experiment = _experiment(name, options)
    actions, flops, parameters = {}, {}, 0
    for mode in (_TRAIN, _INFER):
        actions[mode], flops[mode], parameters = step(experiment, mode, options.batch_size)
        actions[mode]()
    machine = isolated.describe_machine()
    network = experiment.network
    yield {
        **{
            key: getattr(network, key) for key in ('backbone', 'head', 'image_size', 'heatmap_size')
        },
        'parameters': parameters,
        'flops': flops,
        'machine': machine,
    }
    reference = interleaved.matrix_product()
    while True:
        runs = interleaved.beside_reference(actions, reference)
        yield runs, isolated.peak_memory()


def step(
    experiment: Experiment,
    mode: str,
    batch_size: int,
    compute: Compute = FLOAT32,
    settings=None,
    weights: Mapping[str, Any] | None = None,
) -> tuple[Callable[[], Any], int, int]:
    """Return a step of the model function on pictures of noise, with the arguments options and
    run_metadata of Session.run; its FLOPs; the network's parameters.

    Args:
        mode: 'train' or 'infer'.
        settings: Of the session, a ConfigProto, or None.
        weights: Values to start from, by name; None, or left out: initial ones.
    """
    import tensorflow as tf

    from benchmarks.common.multiplications import count_flops
    from utility.predict.model_fn import PredictTask, make_predict_fn
    from utility.predict.views_to_points import PredictOptions
    from utility.train.model_fn import Task, make_model_fn

    v1 = tf.compat.v1
    experiment = dataclasses.replace(experiment, refine=_DECODER)
    schema = schema_of(experiment.data)
    with tf.Graph().as_default():
        tf.random.set_seed(experiment.seed)
        drawn = noise(experiment, batch_size, schema.num_keypoints)
        features, labels = tf.nest.map_structure(as_placeholder, drawn)
        if mode == _TRAIN:
            model_fn = make_model_fn(Task(experiment, schema, compute=compute))
            spec = model_fn(features, labels, mode, SimpleNamespace(model_dir=''))
        else:
            options = PredictOptions(compute=compute)
            predict_fn = make_predict_fn(PredictTask(experiment, schema, options))
            spec = predict_fn(features, None, mode)
        points = (spec.predictions or {}).get('keypoints')
        session = v1.Session(config=settings)
        session.run(v1.global_variables_initializer())
        for variable in v1.global_variables():
            name = variable.name.split(':')[0]
            if name in (weights or {}):
                variable.load(weights[name], session)
        parameters = sum(v.shape.num_elements() for v in v1.trainable_variables())
        fetched = [spec.train_op, spec.loss] if mode == _TRAIN else [points]
        action = session.make_callable(fetched, accept_options=True)
        return action, sum(count_flops(*fetched).values()), parameters


def noise(experiment: Experiment, batch_size: int, num_keypoints: int):
    """Return features and labels as input_fn gives them, of random pictures with random points."""
    rng = np.random.default_rng(experiment.seed)
    size = experiment.network.image_size
    shape = [batch_size, num_keypoints]
    features = {
        'image': rng.integers(0, 256, [batch_size, *size, 3]).astype(np.uint8),
        'image_id': np.full(batch_size, 'noise'),
        'category': np.full(batch_size, 'noise'),
        'image_size': np.full([batch_size, 2], size, np.int32),
        'to_crop': np.tile(np.eye(3, dtype=np.float32), [batch_size, 1, 1]),
    }
    labels = {
        'keypoints': rng.uniform(0, min(size), [*shape, 2]).astype(np.float32),
        'visibility': np.ones(shape, np.int32),
        'normalizer': np.full(batch_size, float(min(size)), np.float32),
    }
    return features, labels


def as_placeholder(value):
    """Return a tensor of this value that TensorFlow does not fold before the first step."""
    import tensorflow as tf

    variable = tf.compat.v1.Variable(value, trainable=False, use_resource=True, name='held')
    return variable.read_value()


def page(rows: dict[str, dict[str, Any]], options: Options) -> str:
    """Return the table and what it says of itself, Markdown."""
    counts = [row[_TRAIN]['seconds']['count'] for row in rows.values() if _TRAIN in row]
    about = _ABOUT.format(
        keypoints=SCHEMA.num_keypoints,
        batch_size=options.batch_size,
        repeats=max(counts, default=0),
    )
    table = ledger.markdown_table(HEADER, [cells(*item, options) for item in rows.items()])
    return about + ledger.machines(rows) + _reference(rows) + table + '\n' + variants()


def variants() -> str:
    """Return the recipes without a script, with the commands that train them, Markdown."""
    rows = [(name, f'`{recipes.command(name)}`') for name in sorted(recipes.VARIANTS)]
    return _ABOUT_VARIANTS + ledger.markdown_table(('recipe', 'command'), rows)


def _reference(rows: dict[str, dict[str, Any]]) -> str:
    rates = [row['reference'] / 1e9 for row in rows.values() if ledger.FAILURE not in row]
    if not rates:
        return ''
    return f'The product of two matrices ran at {min(rates):.0f} to {max(rates):.0f} GFLOP/s.\n\n'


def cells(name: str, row: dict[str, Any], options: Options) -> list[str]:
    """Return a row of the table, of what was measured of a network."""
    if ledger.FAILURE in row:
        return [name, row[ledger.FAILURE], *[''] * (len(HEADER) - 2)]
    train, infer, batch_size = row[_TRAIN], row[_INFER], options.batch_size
    sizes = [f'{height} x {width}' for height, width in (row['image_size'], row['heatmap_size'])]
    return [
        name, row['backbone'], row['head'], *sizes,
        f'{row["parameters"] / 1e6:.2f}',
        f'{row["flops"][_INFER] / batch_size / 1e9:.1f}',
        interleaved.text(Summary(**train['seconds'])),
        f'{batch_size / train["seconds"]["median"]:.2f}',
        f'{train["share"]["median"]:.0%}',
        interleaved.text(Summary(**infer['seconds']), 1000.0 / batch_size),
        f'{infer["share"]["median"]:.0%}',
        f'{row["memory"]:.1f}',
    ]  # fmt: skip


if __name__ == '__main__':
    _define_flags()
    scripts.run(main, __doc__)
