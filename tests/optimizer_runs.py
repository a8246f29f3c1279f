"""A regression trained in a graph, over the devices that there are, with any optimizer.

As a program it trains with two devices: `python -m tests.optimizer_runs CASES`, where CASES is a
JSON list of pairs: the settings of the optimizer and the other arguments of `train`.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import pathlib
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from config import OptimizerConfig, from_values
from utility.distribute import strategies
from utility.optim import loss_scale as loss_scaling
from utility.optim import training_step

v1 = tf.compat.v1

RATES = np.array([0.1, 0.05, 0.2, 0.1, 0.01, 0.3], np.float32)
FEATURES = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
LABELS = np.random.default_rng(1).normal(size=(8, 2)).astype(np.float32)
START = {
    'head/kernel': np.random.default_rng(2).normal(size=(3, 2)).astype(np.float32),
    'head/bias': np.array([0.5, -2.0], np.float32),
    'head/norm/gamma': np.array([1.0, 3.0], np.float32),
}


def _variables() -> list:
    made = []
    for path, value in START.items():
        scope, _, name = path.rpartition('/')
        with tf.name_scope(scope + '/'):
            initial = functools.partial(tf.constant, value)
            made.append(v1.Variable(initial, name=name, use_resource=True, trainable=True))
    return made


@dataclasses.dataclass(frozen=True)
class Overflow:
    """A loss scale, in a training in which the gradient of one step is not finite.

    Attributes:
        step: That step, from 0; -1: none is.
    """

    step: int = -1


def train(
    config: OptimizerConfig,
    path: str,
    steps=6,
    strategy=None,
    batch=8,
    start='',
    overflow: Overflow | None = None,
) -> None:
    """Train for `steps` steps, their rates in turn those of RATES, with optimizer.accumulate each
    for so many steps.

    Args:
        config: The optimizer.
        path: Of the checkpoint to write.
        steps: To take.
        strategy: Replicas get consecutive batches; None: a single device.
        batch: Rows of FEATURES that a replica sees in a step; after the last comes the first.
        start: Checkpoint to go on from, or ''.
        overflow: Trains with a loss scale, as said there; None: without.
    """
    strategy = strategy or tf.distribute.get_strategy()

    def replica():
        index = tf.distribute.get_replica_context().replica_id_in_sync_group
        step = v1.train.get_or_create_global_step()
        first = batch * (step * strategy.num_replicas_in_sync + tf.cast(index, tf.int64))
        rows = (first + tf.range(batch, dtype=tf.int64)) % len(FEATURES)
        kernel, bias, gamma = variables = _variables()
        outputs = (tf.gather(FEATURES, rows) @ kernel + bias) * gamma
        loss = tf.reduce_mean((outputs - tf.gather(LABELS, rows)) ** 2)
        rate = tf.gather(RATES, training_step.updates_before(step, config))
        loss_scale = None
        if overflow:
            loss_scale = loss_scaling.LossScale()
            loss *= tf.where(tf.equal(step, overflow.step), np.inf, 1.0)
        return training_step.training_step(
            loss, rate, variables, config, training_step.StepOptions(loss_scale=loss_scale)
        )

    with tf.Graph().as_default(), strategy.scope(), v1.Session() as session:
        update = strategy.extended.call_for_each_replica(
            tf.autograph.experimental.do_not_convert(replica)
        )
        saver = v1.train.Saver()
        session.run(v1.global_variables_initializer())
        if start:
            saver.restore(session, start)
        for _ in range(steps):
            session.run(strategy.experimental_local_results(update))
        saver.save(session, path, write_meta_graph=False, write_state=False)


def load(path: str) -> dict[str, np.ndarray]:
    """Return all that a checkpoint holds, by name."""
    reader = tf.train.load_checkpoint(path)
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def trained(
    folder: pathlib.Path, settings: Mapping[str, Any], **arguments
) -> dict[str, np.ndarray]:
    """Return what the checkpoint of a training, with its arguments as of `train`, holds."""
    path = str(folder / 'model.ckpt')
    train(OptimizerConfig(**settings), path, **arguments)
    return load(path)


def main(cases: str) -> None:
    strategy = strategies.start('mirrored', logical_cpus=2).strategy
    for settings, arguments in json.loads(cases):
        if 'overflow' in arguments:
            arguments['overflow'] = Overflow(arguments['overflow'])
        train(from_values(OptimizerConfig, settings, ''), strategy=strategy, **arguments)


if __name__ == '__main__':
    main(*sys.argv[1:])
