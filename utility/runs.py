"""Runs on disk: the folders of trained networks, and what experiment each of them is.

A run holds one network for all categories (RUN/all), one per category (RUN/<category>), or is
itself the folder of one network. The folder of a network holds experiment.json and checkpoints.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

import tensorflow as tf

from config import EXPERIMENT_FILE, Experiment
from preprocessing.datasets import DATASETS
from preprocessing.schema import KeypointSchema
from utility import checkpoint_choice, checkpoints


def load_experiment(folder: str) -> Experiment:
    """The experiment of a network.

    Raises:
        ValueError: There is none, or it is broken.
    """
    path = os.path.join(folder, EXPERIMENT_FILE)
    if not tf.io.gfile.exists(path):
        raise ValueError(f'{folder!r} is not a run: no {EXPERIMENT_FILE} in it')
    with tf.io.gfile.GFile(path) as file:
        try:
            return Experiment.from_json(file.read())
        except ValueError as error:
            raise ValueError(f'{path}: {error}') from error


def check_folder(folder: str, experiment: Experiment) -> None:
    """Refuses to train in the folder of another network.

    An experiment without a checkpoint has stopped at a mistake, and may be replaced.

    Raises:
        ValueError: The checkpoints there are of another experiment; names what differs.
    """
    if not checkpoints.has_checkpoint(folder):
        return
    differences = experiment.differences(load_experiment(folder))
    if differences:
        raise ValueError(
            f'{folder} holds another experiment (now / there): {"; ".join(differences)}; '
            'give another --model_dir or the same settings'
        )


def networks(run_dir: str) -> dict[str, str]:
    """The networks of a run: category or 'all' -> folder.

    Raises:
        ValueError: There are none, or two for one category.
    """
    if tf.io.gfile.exists(os.path.join(run_dir, EXPERIMENT_FILE)):
        return {load_experiment(run_dir).data.category: run_dir}
    found: dict[str, str] = {}
    for path in sorted(tf.io.gfile.glob(os.path.join(run_dir, '*', EXPERIMENT_FILE))):
        folder = os.path.dirname(path)
        category = load_experiment(folder).data.category
        if category in found:
            raise ValueError(
                f'{found[category]!r} and {folder!r} are both networks for {category}; give one'
            )
        found[category] = folder
    if not found:
        raise ValueError(f'{run_dir!r} holds no trained network (no {EXPERIMENT_FILE} in it)')
    return found


def networks_for(run_dir: str, categories: Iterable[str]) -> dict[str, list[str]]:
    """Which network of a run predicts which categories: folder -> categories.

    A category's own network goes before the one for all.

    Raises:
        ValueError: run_dir holds no network, none for one of the categories, or one that has no
            checkpoint yet.
    """
    found = networks(run_dir)
    chosen: dict[str, list[str]] = {}
    for category in categories:
        folder = found.get(category, found.get('all'))
        if folder is None:
            raise ValueError(f'{run_dir!r} has no network for {category}, nor one for all')
        if not checkpoint_choice.has_any(folder):
            raise ValueError(f'{folder!r} has no checkpoint yet')
        chosen.setdefault(folder, []).append(category)
    return chosen


def schema_of(run_dir: str) -> KeypointSchema:
    """The full schema of the data set that the networks of a run were trained for."""
    folder = next(iter(networks(run_dir).values()))
    return DATASETS.get(load_experiment(folder).data.dataset).schema
