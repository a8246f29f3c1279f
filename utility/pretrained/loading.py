"""Files of weights under this project's names, as a look or as a checkpoint to restore from."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import tempfile
from collections.abc import Iterator

from config import EXPERIMENT_FILE, NetworkConfig, UserError
from preprocessing.files import exists
from utility.checkpoints import runs, variables
from utility.checkpoints.variables import Weights
from utility.pretrained.files import WeightFile, open_weights
from utility.pretrained.origins import Origin, Source, identify


def own_weights(path: str) -> Weights | None:
    """Return those of a checkpoint of this project; None for all else.

    Raises:
        UserError: There is nothing, or it is damaged.
    """
    with open_weights(path) as file:
        if file.kind != 'checkpoint':
            return None
    weights = variables.own_weights(path)
    network = saved_network(path) if weights else None
    return dataclasses.replace(weights, head=network.head) if network else weights


def saved_network(path: str) -> NetworkConfig | None:
    """Return the network of a checkpoint of this project, if its experiment is there.

    It stands beside the checkpoints of a training, and above the folders of its best ones.
    """
    folder = os.path.dirname(variables.resolve(path))
    for place in (folder, os.path.dirname(folder)):
        if exists(os.path.join(place, EXPERIMENT_FILE)):
            return runs.load_experiment(place).network
    return None


@contextlib.contextmanager
def opened(path: str, backbone: str) -> Iterator[tuple[WeightFile, Origin, dict[str, Source]]]:
    """Open a file of another project; yield it, its origin, and variable -> its sources."""
    with open_weights(path) as file:
        try:
            origin = identify(file.shapes, file.kind, backbone)
            sources = origin.sources(file.shapes)
        except ValueError as error:
            raise UserError(f'{path!r}: {error}') from error
        yield file, origin, sources


def describe(path: str, backbone: str = '', save_as: str = '') -> Weights:
    """Return what a file of weights holds.

    Args:
        path: Of a file or checkpoint of any origin.
        backbone: That is to take them; it matters for keras/<Name> only.
        save_as: Prefix of a checkpoint to write those of other projects to, under this project's
            names; '': none is written.

    Raises:
        UserError: There is nothing, it is damaged, or of unknown origin.
    """
    weights = own_weights(path)
    if weights:
        return weights
    with opened(path, backbone) as (file, origin, sources):
        shapes = {name: source.shape(file.shapes) for name, source in sources.items()}
        usable = {name: source for name, source in sources.items() if shapes[name] is not None}
        if save_as and usable:
            tensors = {n: s.convert(*map(file.read, s.names)) for n, s in usable.items()}
            variables.save(save_as, tensors)
        unknown = tuple(origin.unused(file.shapes, sources))
        return Weights(path, origin.name, shapes, unknown, origin.backbones, save_as)


@contextlib.contextmanager
def as_checkpoint(path: str, backbone: str) -> Iterator[Weights]:
    """Provide the weights at `path` as a checkpoint, which is there until the context is left."""
    with tempfile.TemporaryDirectory(prefix='weights_') as folder:
        yield describe(path, backbone, os.path.join(folder, 'weights.ckpt'))
