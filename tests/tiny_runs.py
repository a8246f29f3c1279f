"""Runs of tiny networks with random weights, to predict with and to export."""

from __future__ import annotations

import functools
import pathlib

import numpy as np
import tensorflow as tf

import eval_metrics
from config import DataConfig, Experiment, NetworkConfig
from nets import names
from preprocessing.datasets.fashionai import SCHEMA
from tests.tiny_checkpoints import write_network
from utility.checkpoints import snapshots
from utility.checkpoints.variables import variable_name
from utility.losses.attributes import network_of
from utility.metrics import normalized_error

NETWORK = NetworkConfig('resnet18', 'dhn', (64, 64), (16, 16), {'width': 4}, {'channels': 4})


def write_run(
    folder: pathlib.Path, category: str = 'all', seed: int = 0, network=NETWORK, **settings
) -> str:
    """Make a run of one network; its folder as a string.

    Args:
        folder: Of the network, which must not be there.
        category: That it is for.
        seed: Of its weights.
        network: A NetworkConfig.
        settings: Of the Experiment.
    """
    experiment = Experiment(network, DataConfig(category=category), **settings)
    write_network(folder, experiment, trained=False)
    snapshots.replace(str(folder / 'best'), 1, random_weights(experiment, seed))
    return str(folder)


def random_weights(experiment: Experiment, seed: int = 0) -> dict[str, np.ndarray]:
    """Return name -> tensor of a network as it is initialized."""
    return dict(_random_weights(experiment.to_json(), seed))


@functools.lru_cache(maxsize=8)  # many tests predict with the same network
def _random_weights(experiment_json: str, seed: int) -> dict[str, np.ndarray]:
    experiment = Experiment.from_json(experiment_json)
    schema = SCHEMA.subset(experiment.data.category)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tf.random.set_seed(seed)
        network = network_of(experiment, schema)
        network(tf.zeros([1, *experiment.network.image_size, 3]), False)
        session.run(tf.compat.v1.global_variables_initializer())
        weights = session.run({variable_name(v): v for v in network.variables})
    rng = np.random.default_rng(seed)
    # They start at 0, and would tell the same of every picture.
    zeros = [name for name in sorted(weights) if name.startswith(names.ATTRIBUTES)]
    normal = {name: rng.normal(0, 0.1, weights[name].shape).astype(np.float32) for name in zeros}
    return {**weights, **normal}


def smooth_image(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Return smooth noise, uint8 [height, width, 3]."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 5, 3))
    return tf.image.resize(coarse, [height, width]).numpy().astype(np.uint8)


def score_model(split: str, run_dirs, options):
    """Return the Score of runs, as one predictor, on a labelled split of the records."""
    tables = eval_metrics.predict_runs(split, run_dirs, options)[1:]
    missing = 'count' if options.use_predicted_category else 'error'
    return normalized_error.score(*tables, missing)
