"""Averages of checkpoints of a network: of a training's own average, of its last or its best ones.

With records their batch-norm statistics are estimated on training images; without, only averaged.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import numpy as np
from absl import logging

from config import Experiment, UserError
from preprocessing import training_data
from preprocessing.datasets import schema_of
from utility.checkpoints import batch_statistics, evaluations, files, runs, snapshots, variables
from utility.losses.heatmap_loss import maps_per_point
from utility.optim.weight_averaging import COUNT, SCOPE


def save_running(folder: str, experiment: Experiment, input_of: Callable, step: int) -> str | None:
    """Save the average that a training keeps, with batch-norm statistics of its own.

    Args:
        folder: Of the network, which has a checkpoint of this step.
        input_of: Global step -> input_fn of the training from there on.

    Returns:
        The prefix of the only checkpoint in FOLDER/averaged; None if nothing is averaged, or no
        weights have entered the average yet.
    """
    if experiment.averaging.kind == 'none':
        return None
    weights = averaged_weights(os.path.join(folder, f'model.ckpt-{step}'))
    if weights is None:
        logging.info('step %d: the average begins later', step)
        return None
    weights = with_statistics(weights, experiment, input_of(step))
    return snapshots.replace(os.path.join(folder, snapshots.AVERAGED), step, weights)


def with_statistics(weights, experiment: Experiment, input_fn: Callable) -> dict[str, np.ndarray]:
    """Return the weights with batch-norm statistics over training batches, if asked for."""
    number = experiment.averaging.statistics_batches
    if not number:
        return weights
    num_maps = _schema(experiment).num_keypoints * maps_per_point(experiment.loss)
    return batch_statistics.reestimated(weights, experiment.network, num_maps, input_fn, number)


def _schema(experiment: Experiment):
    return schema_of(experiment.data).subset(experiment.data.category)


def last_checkpoints(folder: str, count: int) -> list[str]:
    """Return the prefixes of the last `count` checkpoints of a training, the newest first.

    Raises:
        UserError: There are fewer.
    """
    return _first(folder, _trained(folder), count, 'checkpoints')


def best_checkpoints(folder: str, count: int) -> list[str]:
    """Return the `count` kept checkpoints with the lowest NE, the best first.

    Raises:
        UserError: There are fewer that were evaluated.
    """
    results = evaluations.read(folder)
    # Where averaged weights were evaluated, the checkpoints hold the last ones.
    names = evaluations.LAST_ERROR, evaluations.ERROR
    errors = {s: next((m[n] for n in names if n in m), np.nan) for s, m in results.items()}
    known = [p for p in _trained(folder) if not np.isnan(errors.get(snapshots.step_of(p), np.nan))]
    known.sort(key=lambda prefix: errors[snapshots.step_of(prefix)])
    return _first(folder, known, count, 'evaluated checkpoints')


def _trained(folder: str) -> list[str]:
    """Return the checkpoints of a folder after at least one step, the newest first."""
    return [p for p in files.candidates(folder) if snapshots.step_of(p)]


def _first(folder: str, prefixes: Sequence[str], count: int, what: str) -> list[str]:
    if len(prefixes) < count:
        raise UserError(
            f'{folder!r} has {len(prefixes)} {what}, not {count} to average; --keep_checkpoints of '
            'the train scripts tells how many are kept'
        )
    return list(prefixes[:count])


def mean_weights(prefixes: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the mean of each tensor of the network over the checkpoints, statistics included.

    Raises:
        UserError: A checkpoint is damaged, or they are not of one network.
    """
    totals: dict[str, np.ndarray] = {}
    for prefix in prefixes:
        weights = snapshots.read_weights(prefix)
        shapes = {name: value.shape for name, value in weights.items()}
        if totals and shapes != {name: total.shape for name, total in totals.items()}:
            raise UserError(f'{prefix!r} is of another network than {prefixes[0]!r}')
        for name, value in weights.items():
            totals[name] = totals.get(name, 0.0) + value.astype(np.float64)
    return {name: (total / len(prefixes)).astype(np.float32) for name, total in totals.items()}


def save_mean(folder: str, prefixes: Sequence[str], data_dir: str | None, output: str) -> str:
    """Save the mean of checkpoints of a network.

    Args:
        prefixes: The checkpoints.
        data_dir: Records whose training pictures give the batch-norm statistics; None: those of the
            checkpoints are averaged, and the log says so.
        output: A folder, whose only checkpoint it becomes.

    Returns:
        Its prefix.
    """
    weights = mean_weights(prefixes)
    if data_dir:
        experiment = runs.load_experiment(folder)
        input_fn = training_data.input_fn(experiment, _schema(experiment), data_dir, 0)
        weights = with_statistics(weights, experiment, input_fn)
    else:
        logging.warning(
            '%s: no training records were given, so batch-norm statistics are averaged only; the '
            'network may be worse than each of the checkpoints',
            folder,
        )
    step = max(map(snapshots.step_of, prefixes))
    prefix = snapshots.replace(output, step, weights)
    logging.info('mean of %s: %s', ', '.join(map(os.path.basename, prefixes)), prefix)
    return prefix


def averaged_weights(prefix: str) -> dict[str, np.ndarray] | None:
    """Return the network's tensors with the averages that a checkpoint of a training holds in them.

    Batch-norm statistics are those of the last weights.

    Returns:
        None if no weights have entered an average yet.

    Raises:
        UserError: The checkpoint is damaged.
    """
    reader, _ = variables.open_checkpoint(prefix)
    if not (reader.has_tensor(COUNT) and reader.get_tensor(COUNT)):
        return None
    weights = snapshots.read_weights(prefix)
    averaged = {name: SCOPE + name for name in weights if reader.has_tensor(SCOPE + name)}
    return {**weights, **{n: reader.get_tensor(average) for n, average in averaged.items()}}
