"""Experiment trackers get the numbers of a report; they are imported only if one is asked for."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable
from typing import Any

from config import UserError, flatten
from utility.report.findings import Findings

Tracker = Callable[[Findings, str], None]
_PROJECT = 'keypoints'
_LONGEST = 500  # characters of a parameter that MLflow takes


def find(name: str) -> Tracker:
    """Return what gives findings, and the path of their page, to a tracker: 'mlflow' or 'wandb'.

    Raises:
        UserError: The tracker is not installed.
    """
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        raise UserError(f'--track={name}: {name} is missing; pip install {name}') from error
    track = {'mlflow': _to_mlflow, 'wandb': _to_wandb}[name]
    return lambda found, path: track(module, found, path)


def _settings(found: Findings) -> dict[str, Any]:
    """Return the settings of the networks, with dotted names; of several, each under its own."""
    several = len(found.networks) > 1
    settings = {}
    for network in found.networks:
        prefix = f'{"+".join(network.categories)}.' if several else ''
        values = flatten(dataclasses.asdict(network.experiment))
        settings.update({prefix + key: value for key, value in values.items()})
    return {**settings, 'data': found.split_dir}


def _to_mlflow(mlflow: Any, found: Findings, path: str) -> None:
    with mlflow.start_run(run_name=found.name):
        mlflow.log_params({k: str(v)[:_LONGEST] for k, v in _settings(found).items()})
        mlflow.log_metrics(found.numbers())
        mlflow.log_artifact(path)


def _to_wandb(wandb: Any, found: Findings, path: str) -> None:
    run = wandb.init(project=_PROJECT, name=found.name, config=_settings(found))
    run.log(found.numbers())
    run.save(path)
    run.finish()
