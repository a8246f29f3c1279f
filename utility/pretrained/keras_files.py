"""Weights in HDF5 files of Keras: where they are, with nothing of the file trusted.

Keras keeps the weights of a layer, or of a model inside the model, in a group of the layer's name;
a file of a whole model has these groups below 'model_weights'. The names of the weights are the
paths below the layer's group. Keras repeats them in attributes, which are not needed and not read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import h5py

from config import UserError

WHOLE_MODEL = 'model_weights'
# Of TensorFlow: the first output of the operation that holds the variable.
NAME_SUFFIX = ':0'


def find_weights(file: h5py.File) -> dict[str, h5py.Dataset]:
    """Return every dataset of the layers by the weight's name, such as 'conv1/kernel'.

    Raises:
        UserError: A name repeats, or something leads out of the file or in a circle. A damaged
            file raises other errors as well, here and when a dataset is read.
    """
    visited = set()
    layers = _members(file, visited)
    if isinstance(layers.get(WHOLE_MODEL), h5py.Group):
        layers = _members(layers[WHOLE_MODEL], visited)
    weights = {}
    for layer, member in layers.items():
        inside = _members(member, visited) if isinstance(member, h5py.Group) else {layer: member}
        for name, dataset in _datasets(inside, visited):
            name = name[: -len(NAME_SUFFIX)] if name.endswith(NAME_SUFFIX) else name
            if name in weights:
                raise UserError(f'it holds {name!r} twice')
            weights[name] = dataset
    return weights


def _members(group: h5py.Group, visited: set[int]) -> dict[str, object]:
    """Return what is directly in a group; links and second ways to a group are refused.

    Args:
        visited: Addresses in the file of the groups that were seen; this one is added.
    """
    address = h5py.h5o.get_info(group.id).addr
    if address in visited:
        raise UserError(f'its group {group.name!r} is linked twice')
    visited.add(address)
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise UserError(f'{name!r} in it is a link to elsewhere')
    return {name: group[name] for name in group}


def _datasets(
    members: Mapping[str, object], visited: set[int], above: str = ''
) -> Iterator[tuple[str, h5py.Dataset]]:
    """Yield every dataset that is among the members of a group or below them, by its path."""
    for name, member in members.items():
        if isinstance(member, h5py.Group):
            yield from _datasets(_members(member, visited), visited, f'{above}{name}/')
        elif isinstance(member, h5py.Dataset) and member.shape is not None:
            # Such a dataset can unpack to any size, or be of other files.
            if member.chunks or member.external or member.is_virtual:
                raise UserError(f'{name!r} in it is in pieces or elsewhere, not as Keras stores it')
            yield above + name, member
