"""Whether every recipe's network can learn: its loss on four garments, a hundredfold lower.

    python -m benchmarks.overfit [--scripts=train_a.py,train_b.py] [--output=docs/overfit.md]
                                 [--json=overfit.json]
                                 [--set key=value]...

Each network runs in a process of its own. With --json a run that was interrupted, or restricted to
some scripts, is completed by the next. Ends with 1 if a network did not learn.
"""

from __future__ import annotations

import functools
import sys
import time
from typing import Any, NamedTuple

import numpy as np
from absl import flags, logging

from benchmarks.common import isolated, ledger, recipes
from config import Experiment, OptimizerConfig
from nets.precision import PRECISIONS
from utility.command_line import scripts

NUM_IMAGES = 4
# Sides of the pictures, px; the first that fits the strides of a network is taken.
_SIZES = (64, 96, 128, 192, 256)
_HEADER = ('recipe', 'input', 'steps', 'time, s', 'first loss', 'last loss', 'fall')
_ABOUT = """# Every network can learn

Made by `python -m benchmarks.overfit --output=docs/overfit.md`: every train script of the root.

The network, the loss and the width of its targets in cells are the recipe's. The pictures are four
synthetic garments, always the same ones, at the least side out of {sizes} px
that the network's strides allow; the optimiser is Adam at a rate of {learning_rate:g}; networks
compute in {dtype}.
Trained is the whole loss. Listed is that of the last output, the prediction, over its hard points,
with the batch's own statistics, at the first step and when it had fallen {fall:g} times, or after
{max_steps} steps. (Coarse outputs, enlarged, cannot come as near to their targets.)
The time is that of the steps.

"""


class Options(NamedTuple):
    """How the networks are trained; see the flags."""

    fall: float = 100.0
    max_steps: int = 1000
    learning_rate: float = 1e-3
    dtype: str = 'bfloat16'
    set: tuple[str, ...] = ()

    def changed(self, experiment: Experiment) -> Experiment:
        """Return a recipe with what is set otherwise."""
        return functools.reduce(Experiment.override, self.set, experiment)


def _define_flags() -> None:
    ledger.define_flags()
    default = Options()
    flags.DEFINE_float('fall', default.fall, 'How many times lower the loss must get.', 1.0)
    flags.DEFINE_integer('max_steps', default.max_steps, 'After which it has not.', 1)
    flags.DEFINE_float('learning_rate', default.learning_rate, 'Of Adam.', 0.0)
    flags.DEFINE_multi_string('set', [], 'key=value of every recipe, repeatable.')
    flags.DEFINE_enum('dtype', default.dtype, PRECISIONS, 'What networks compute in.')


def main(positional: list[str]) -> None:
    scripts.no_positional(positional)
    values = flags.FLAGS
    options = Options(**{name: values[name].value for name in Options._fields})
    book = ledger.Ledger(values.json, options._asdict())
    chosen = recipes.select(values.scripts)
    for name in chosen:
        experiment = options.changed(recipes.load(name))
        if values.again or book.is_missing(name, experiment):
            book.add(name, experiment, overfit(name, options))
            logging.info(' '.join(_cells(name, book.rows[name])))
    measured = [name for name in recipes.names() if name in book.rows]
    rows = {name: book.rows[name] for name in measured}
    ledger.publish(page(rows, options), values.output)
    if not all(has_learnt(row, options) for row in rows.values()):
        sys.exit(1)


def overfit(name: str, options: Options) -> dict[str, Any]:
    """Return the row of a recipe, measured in a process of its own."""
    try:
        return isolated.call(train, name, options)
    except isolated.FailedError as error:
        return {ledger.FAILURE: str(error)}


def has_learnt(row: dict[str, Any], options: Options) -> bool:
    return ledger.FAILURE not in row and row['first_loss'] >= options.fall * row['last_loss']


def train(name: str, options: Options) -> dict[str, Any]:
    """Train a recipe's network on the garments until its loss has fallen, or will not.

    Returns:
        'size' px, 'steps', 'seconds', 'first_loss', 'last_loss', 'machine'.
    """
    import tensorflow as tf

    v1 = tf.compat.v1
    graph, size, fetched = _smallest(options.changed(recipes.load(name)), options)
    with v1.Session(graph=graph, config=_unoptimized()) as session:
        with graph.as_default():
            session.run(v1.global_variables_initializer())
        step = session.make_callable(fetched)
        start, losses = time.perf_counter(), []
        while len(losses) < options.max_steps:
            losses.append(float(step()[0]))
            if losses[0] >= options.fall * losses[-1]:
                break
        seconds = time.perf_counter() - start
    return {
        'size': size,
        'steps': len(losses),
        'seconds': seconds,
        'first_loss': losses[0],
        'last_loss': losses[-1],
        'machine': isolated.describe_machine(),
    }


def _unoptimized():
    """Return a session's settings without graph rewriting, which costs more than it saves."""
    import tensorflow as tf

    options = tf.compat.v1.ConfigProto()
    options.graph_options.rewrite_options.disable_meta_optimizer = True
    return options


def _smallest(experiment: Experiment, options: Options):
    """Return the graph of a step at the least size that fits, the size, and what to fetch."""
    import tensorflow as tf

    for size in _SIZES:
        batch = garments(size)
        try:
            with tf.Graph().as_default() as graph:
                return graph, size, _step(recipes.resized(experiment, size), batch, options)
        except ValueError as error:
            if size == _SIZES[-1] or 'size=' not in str(error):
                raise
    raise AssertionError


def _step(experiment: Experiment, batch: tuple, options: Options):
    """Return the loss of the last output, and the operation that trains by the loss of all."""
    import tensorflow as tf

    from nets import build_network
    from utility.losses import heatmap_loss as losses
    from utility.optim import training_step

    v1 = tf.compat.v1
    tf.random.set_seed(experiment.seed)
    image_size, (images, labels) = experiment.network.image_size, batch
    num_maps = labels['keypoints'].shape[1] * losses.maps_per_point(experiment.loss)
    network = build_network(experiment.network, num_maps, options.dtype)
    # Not a constant, with which TensorFlow would compute before the first step.
    outputs = network(v1.placeholder_with_default(images, images.shape), True)
    total, losses_by_output = losses.heatmap_loss(outputs, labels, experiment.loss, image_size)
    adam, rate = OptimizerConfig(name='adam', weight_decay=0.0), tf.constant(options.learning_rate)
    return losses_by_output[-1], training_step.training_step(
        total, rate, network.trainable_variables, adam
    )


def garments(size: int):
    """Return four synthetic garments, of four categories, letter-boxed to size x size px.

    Returns:
        uint8 [4, size, size, 3]; labels 'keypoints' float32 [4, K, 2] px and 'visibility' int32
        [4, K].
    """
    import tensorflow as tf

    from demos.garments import dataset
    from preprocessing import geometry

    garment_set = dataset.GarmentSet(seed=0, size=2 * size, counts={})
    samples = [dataset.draw_sample(garment_set, dataset.TRAIN, n) for n in range(NUM_IMAGES)]
    images, keypoints = [], []
    for sample in samples:
        to_square = geometry.letterbox(sample.image.shape[:2], (size, size))
        image = geometry.warp_image(tf.constant(sample.image), to_square, (size, size))
        images.append(image.numpy().round().astype(np.uint8))
        keypoints.append(geometry.transform_points(sample.keypoints, to_square).numpy())
    visibility = np.stack([sample.visibility for sample in samples])
    return np.stack(images), {'keypoints': np.stack(keypoints), 'visibility': visibility}


def page(rows: dict[str, dict[str, Any]], options: Options) -> str:
    """Return the table and what it says of itself, Markdown."""
    about = _ABOUT.format(sizes=', '.join(map(str, _SIZES)), **options._asdict())
    table = ledger.markdown_table(_HEADER, [_cells(*item) for item in rows.items()])
    changes = f'Other than in the recipes: `{" ".join(options.set)}`.\n\n' if options.set else ''
    return about + changes + ledger.machines(rows) + table


def _cells(name: str, row: dict[str, Any]) -> list[str]:
    if ledger.FAILURE in row:
        return [name, row[ledger.FAILURE], *[''] * (len(_HEADER) - 2)]
    first, last = row['first_loss'], row['last_loss']
    return [
        name, f'{row["size"]} x {row["size"]}', str(row['steps']), f'{row["seconds"]:.0f}',
        f'{first:.2g}', f'{last:.2g}', f'{first / last:.0f}',
    ]  # fmt: skip


if __name__ == '__main__':
    _define_flags()
    scripts.run(main, __doc__)
