"""The recipes: what the train scripts of the root train."""

from __future__ import annotations

import dataclasses
import importlib
import pathlib
from collections.abc import Sequence

import config
from config import Experiment, UserError

ROOT = pathlib.Path(__file__).resolve().parent.parent
_PREFIX = 'train_'


def names() -> list[str]:
    """All recipes, in alphabetical order: 'resnet50_cpn' is that of train_resnet50_cpn.py."""
    return sorted(path.stem[len(_PREFIX) :] for path in ROOT.glob(f'{_PREFIX}*.py'))


def select(scripts: Sequence[str]) -> list[str]:
    """The recipes of these scripts, given by file or by recipe; none given: all.

    Raises:
        UserError: There is no such script.
    """
    known = names()
    chosen = [script.strip()[:-3] if script.endswith('.py') else script for script in scripts]
    chosen = [name[len(_PREFIX) :] if name.startswith(_PREFIX) else name for name in chosen]
    for name in chosen:
        if name not in known:
            raise config.unknown('recipe', name, name, known)
    return chosen or known


def load(name: str) -> Experiment:
    """What a recipe trains. Imports its script, which runs nothing."""
    return importlib.import_module(_PREFIX + name).EXPERIMENT


def resized(experiment: Experiment, size: int) -> Experiment:
    """The same experiment on smaller or larger square pictures, its heat maps in the same ratio.

    Args:
        experiment: Stays as it is.
        size: Side of the pictures, px.

    Raises:
        UserError: The heat maps would not have a whole number of cells.
    """
    network = experiment.network
    sides = list(zip(network.map_size, network.image_size))
    if any(cells * size % pixels for cells, pixels in sides):
        ratio = f'{network.map_size} cells of {network.image_size} px'
        raise UserError(f'image_size={size}: must keep the ratio of {ratio}')
    small = dataclasses.replace(
        network,
        image_size=(size, size),
        heatmap_size=tuple(cells * size // pixels for cells, pixels in sides),
    )
    return dataclasses.replace(experiment, network=small)
