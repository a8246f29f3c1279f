"""Runs on disk: the folders of trained networks, and what experiment each of them is.

A run holds one network for all categories (RUN/all), one per category (RUN/<category>), or is
itself the folder of one network. The folder of a network holds experiment.json and checkpoints.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable

from absl import logging

from config import EXPERIMENT_FILE, Experiment, UserError
from preprocessing import datasets
from preprocessing.files import exists, folders_in, json_bytes, read_bytes, write_bytes
from preprocessing.schema import KeypointSchema
from utility.checkpoints import snapshots, variables

# Beside the experiment: what no setting tells, from which weights the training started and in which
# precision.
PROVENANCE_FILE = 'provenance.json'


def load_experiment(folder: str) -> Experiment:
    """Return the experiment of a network.

    Raises:
        UserError: There is none, or it is broken.
    """
    path = os.path.join(folder, EXPERIMENT_FILE)
    if not exists(path):
        raise UserError(f'{folder!r} is not a run: no {EXPERIMENT_FILE} in it')
    try:
        return Experiment.from_json(read_bytes(path).decode())
    except (ValueError, RecursionError) as error:
        raise UserError(f'{path}: {error}') from error


def keep_experiment(
    folder: str, experiment: Experiment, init_checkpoint: str | None, precision: str = 'float32'
) -> None:
    """Write what is trained in a folder, and once, before the first checkpoint, from what."""
    write_bytes(os.path.join(folder, EXPERIMENT_FILE), experiment.to_json().encode(), True)
    if not variables.has_checkpoint(folder):
        start = {'init_checkpoint': _whole_path(init_checkpoint), 'precision': precision}
        write_bytes(os.path.join(folder, PROVENANCE_FILE), json_bytes(start), True)


def precision_of(folder: str) -> str | None:
    """Return the precision that a training under way was started in; None: there is none.

    Where it is not kept the training is of a time when float32 was the default.
    """
    if not variables.has_checkpoint(folder):
        return None
    return (_provenance(folder) or {}).get('precision') or 'float32'


def _provenance(folder: str) -> dict | None:
    """Return what the training of a network started from; None: it is not kept.

    Raises:
        UserError: The file that tells is broken.
    """
    path = os.path.join(folder, PROVENANCE_FILE)
    if not exists(path):
        return None
    try:
        provenance = dict(json.loads(read_bytes(path)))
    except (ValueError, TypeError, RecursionError) as error:
        raise UserError(f'{path} is broken ({type(error).__name__}: {error})') from error
    for name, value in provenance.items():
        if not isinstance(value, (str, type(None))):
            raise UserError(f'{path} is broken: {name!r} is no text')
    return provenance


def _whole_path(path: str | None) -> str | None:
    return path if path is None or '://' in path else os.path.abspath(path)


def check_folder(folder: str, experiment: Experiment, init_checkpoint: str | None = None) -> None:
    """Refuse to train in the folder of another network, or of one with another start.

    An experiment without a checkpoint has stopped at a mistake, and may be replaced. Whether a
    training may become longer depends on its records, too: see utility.train.extension.

    Raises:
        UserError: The checkpoints there are of another experiment, or come from other weights;
            names what differs.
    """
    if not variables.has_checkpoint(folder):
        return
    saved = load_experiment(folder)
    if not experiment.starts_from:
        # Says nothing of this network, and its defaults may have been others.
        saved = dataclasses.replace(saved, finetune=experiment.finetune)
    differences = with_length_of(experiment, saved).differences(saved)
    if differences:
        raise UserError(
            f'{folder} holds another experiment (now / there): {"; ".join(differences)}; '
            'give another --model_dir or the same settings'
        )
    if init_checkpoint is not None:
        _check_start(folder, _whole_path(init_checkpoint))


def init_checkpoint(folder: str) -> str | None:
    """Return the weights that a training started from; None if from none, or not known.

    Raises:
        UserError: The file that tells is broken.
    """
    provenance = _provenance(folder)
    if provenance is None:
        return None
    if 'init_checkpoint' not in provenance:
        path = os.path.join(folder, PROVENANCE_FILE)
        raise UserError(f"{path} is broken: no 'init_checkpoint' in it")
    return provenance['init_checkpoint']


def with_length_of(experiment: Experiment, other: Experiment) -> Experiment:
    """Return the experiment with what another has of those settings that only say when it ends."""
    patience = other.schedule.stop_patience
    schedule = dataclasses.replace(experiment.schedule, stop_patience=patience)
    return dataclasses.replace(experiment, epochs=other.epochs, schedule=schedule)


def _check_start(folder: str, path: str) -> None:
    """Refuse weights that a training would ignore, because it goes on from its own."""
    if _provenance(folder) is None:  # of a time before there was one
        logging.warning('%s goes on from its own checkpoint, not from %s', folder, path)
        return
    start = init_checkpoint(folder)
    if start != path:
        raise UserError(
            f'--init_checkpoint={path}: {folder} was started '
            + (f'from {start}' if start else 'without one')
            + ' and would go on from its own checkpoint; leave the flag out to go on, or give '
            'another --model_dir'
        )


def networks(run_dir: str) -> dict[str, str]:
    """Return the networks of a run: category or 'all' -> folder.

    Raises:
        UserError: There are none, or two for one category.
    """
    if exists(os.path.join(run_dir, EXPERIMENT_FILE)):
        return {load_experiment(run_dir).data.category: run_dir}
    folders: dict[str, str] = {}
    for folder in folders_in(run_dir):
        if not exists(os.path.join(folder, EXPERIMENT_FILE)):
            continue
        category = load_experiment(folder).data.category
        if category in folders:
            raise UserError(
                f'{folders[category]!r} and {folder!r} are both networks for {category}; give one'
            )
        folders[category] = folder
    if not folders:
        raise UserError(f'{run_dir!r} holds no trained network (no {EXPERIMENT_FILE} in it)')
    return folders


def networks_for(run_dir: str, categories: Iterable[str]) -> dict[str, list[str]]:
    """Return which network of a run predicts which categories: folder -> categories.

    A category's own network goes before the one for all.

    Raises:
        UserError: run_dir holds no network, none for one of the categories, or one that has no
            checkpoint yet.
    """
    folders = networks(run_dir)
    chosen: dict[str, list[str]] = {}
    for category in categories:
        folder = folders.get(category, folders.get('all'))
        if folder is None:
            raise UserError(f'{run_dir!r} has no network for {category}, nor one for all')
        if not snapshots.has_any(folder):
            raise UserError(f'{folder!r} has no checkpoint yet')
        chosen.setdefault(folder, []).append(category)
    return chosen


def schema_of(run_dir: str) -> KeypointSchema:
    """Return the full schema of the data set that the networks of a run were trained for."""
    folder = next(iter(networks(run_dir).values()))
    return datasets.schema_of(load_experiment(folder).data)
