"""Checkpoints: starting from another run's weights, and a look inside.

`python -m utility.checkpoints PATH` lists the variables of a checkpoint or of a run's newest one.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np

from config import EXPERIMENT_FILE, UserError
from nets.names import is_of_backbone, is_of_heatmaps, of_network, owner_of
from preprocessing.files import exists, folders_in, is_folder
from utility.checkpoints import bundles, files


@dataclasses.dataclass(frozen=True)
class Weights:
    """Weights on disk, under this project's names.

    Attributes:
        path: As the user gave it.
        origin: Whose they are, for messages.
        shapes: By name; None for what cannot become a variable.
        unknown: Tensors that have no name here although they belong to the network.
        backbones: Pattern of the names of those that may take them in full; '' if not known.
        checkpoint: Prefix of the checkpoint to restore from; '' before there is one.
        head: The head that they were trained with, '' if none or not known.
    """

    path: str
    origin: str
    shapes: Mapping[str, tuple[int, ...] | None]
    unknown: tuple[str, ...] = ()
    backbones: str = ''
    checkpoint: str = ''
    head: str = ''


@dataclasses.dataclass(frozen=True)
class WarmStart:
    """What weights give to a network, by variable name.

    Attributes:
        weights: They.
        restored: Names that are taken from them.
        missing: Names of the network that they do not have.
        mismatched: Names whose shapes differ.
        unexpected: Names of theirs that the network does not have.
        foreign: Those of them that show that the weights are another network's: more blocks in a
            stage, or another tensor in a layer or block, than the network has.
        coverage, backbone_coverage: Share of the parameters that is restored, 0..1, of all and of
            the backbone's; batch-norm statistics count.
    """

    weights: Weights
    restored: tuple[str, ...]
    missing: tuple[str, ...]
    mismatched: tuple[str, ...]
    unexpected: tuple[str, ...]
    foreign: tuple[str, ...]
    coverage: float
    backbone_coverage: float

    @property
    def lacking(self) -> tuple[str, ...]:
        """What the network starts without, besides the last layers, which depend on the schema."""
        names = self.missing + self.mismatched
        return tuple(name for name in names if not is_of_heatmaps(name))

    @property
    def fills_backbone(self) -> bool:
        """Whether the weights are this backbone's, all of them."""
        return not (self.foreign or any(map(is_of_backbone, self.missing + self.mismatched)))

    def __str__(self) -> str:
        return (
            f'{self.weights.path} ({self.weights.origin}): {len(self.restored)} tensors restored, '
            f'{len(self.missing)} missing, {len(self.mismatched)} of another shape, '
            f'{len(self.unexpected)} not used; {_percent(self.coverage)} of the parameters '
            f'covered, {_percent(self.backbone_coverage)} of those of the backbone'
        )


def _percent(share: float) -> str:
    return f'{math.floor(1000 * share) / 10:.1f} %'


def resolve(path: str) -> str:
    """Return the checkpoint's prefix, for a prefix or for a directory that holds checkpoints.

    Of a directory it is the newest that can be read.

    Raises:
        UserError: There is none.
    """
    if is_folder(path):
        newest = files.usable(path)
        if newest is None:
            # A run keeps its networks in folders of their own.
            folders = folders_in(path)
            inner = [p for p in folders if exists(os.path.join(p, 'checkpoint'))]
            hint = f'; there is {", ".join(inner)}' if inner else ''
            raise UserError(f'{path!r} holds no checkpoint{hint}')
        return newest
    if not exists(path + '.index'):
        raise UserError(f'no checkpoint at {path!r}')
    return path


def has_checkpoint(folder: str) -> bool:
    """Return whether a training has saved anything in this folder, whole or not."""
    return bool(files.candidates(folder))


def open_checkpoint(path: str):
    """Return a reader of the checkpoint at `path`; its prefix too.

    Raises:
        UserError: There is none, or it is damaged.
    """
    prefix = resolve(path)
    return bundles.reader(prefix), prefix


def check_finite(path: str) -> None:
    """Refuse weights that are not finite, which would make every prediction nonsense.

    Raises:
        UserError: There are some; names the first variable. Or the checkpoint is damaged.
    """
    wrong = [
        name
        for name, value in network_tensors(path)
        if value.dtype.kind not in 'biuSO' and not np.isfinite(value.astype(np.float32)).all()
    ]
    if wrong:
        more = f' and {len(wrong) - 1} more' if len(wrong) > 1 else ''
        raise UserError(f'{resolve(path)!r} holds weights that are not finite: {wrong[0]}{more}')


def network_tensors(path: str) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the tensors of the network, without optimizer state and counters, sorted by name.

    Raises:
        UserError: There is no checkpoint, or it is damaged.
    """
    import tensorflow as tf

    reader, prefix = open_checkpoint(path)
    try:
        for name in sorted(of_network(reader.get_variable_to_shape_map())):
            yield name, np.asarray(reader.get_tensor(name))
    except (tf.errors.OpError, RuntimeError, IndexError) as error:
        raise UserError(f'{prefix!r} is not a readable checkpoint: {error}') from error


def save(prefix: str, tensors: Mapping[str, np.ndarray]) -> None:
    """Write a name-based checkpoint, which init_from_checkpoint restores under any strategy.

    In eager mode: a graph would hold all tensors as constants.
    """
    import tensorflow as tf

    with tf.device('CPU:0'):
        tf.raw_ops.SaveV2(
            prefix=prefix,
            tensor_names=list(tensors),
            shape_and_slices=[''] * len(tensors),
            tensors=[tf.constant(tensor) for tensor in tensors.values()],
        )


def variable_name(variable) -> str:
    return variable.name.split(':')[0]


def network_variables(variables: Sequence) -> list:
    """Return those of a graph's variables that are the network's, in their order."""
    names = of_network([variable_name(variable) for variable in variables])
    return [variable for variable in variables if variable_name(variable) in names]


def own_weights(path: str) -> Weights | None:
    """Return the weights of a checkpoint of this project; None if it is of another.

    Raises:
        UserError: There is none, or it is damaged.
    """
    reader, prefix = open_checkpoint(path)
    stored = reader.get_variable_to_shape_map()
    shapes = {name: tuple(stored[name]) for name in of_network(stored)}
    return Weights(path, 'this project', shapes, checkpoint=prefix) if shapes else None


def compare(weights: Weights, variables: Sequence) -> WarmStart:
    """Return what `weights` give to a network of these variables, statistics included."""
    names = {variable_name(v): tuple(v.shape.as_list()) for v in variables}
    shapes = weights.shapes
    missing = [n for n in names if n not in shapes]
    mismatched = [n for n, shape in names.items() if n in shapes and shapes[n] != shape]
    restored = names.keys() - set(missing) - set(mismatched)
    unexpected = shapes.keys() - names.keys()
    owners = {owner_of(n) for n in names}
    foreign = [n for n in unexpected if is_of_backbone(n) and owner_of(n) in owners]
    return WarmStart(
        weights,
        restored=tuple(sorted(restored)),
        missing=tuple(sorted(missing)),
        mismatched=tuple(sorted(mismatched)),
        unexpected=tuple(sorted({*unexpected, *weights.unknown})),
        foreign=tuple(sorted({*foreign, *weights.unknown})),
        coverage=_share(restored, names),
        backbone_coverage=_share(restored, {n: s for n, s in names.items() if is_of_backbone(n)}),
    )


def check_fit(path: str, variables: Sequence) -> None:
    """Refuse weights of another network than the one that is to be restored from them.

    TensorFlow's Saver would not: it gives a variable the shape of what it restores.

    Args:
        variables: The network's; those of an optimizer and counters may be among them.

    Raises:
        UserError: The checkpoint lacks a variable or has it in another shape, or is not readable.
    """
    weights = own_weights(path) or Weights(path, 'nobody', {})
    check_finite(path)
    by_name = {variable_name(v): v for v in network_variables(variables)}
    report = compare(weights, list(by_name.values()))
    differing = sorted(report.mismatched + report.missing)
    if differing:
        name, stored = differing[0], weights.shapes.get(differing[0])
        raise UserError(
            f'{path!r} holds the weights of another network: {name} is '
            f'{by_name[name].shape.as_list()} in this one, but '
            f'{"missing" if stored is None else list(stored)} in the checkpoint; of '
            f'{len(by_name)} variables {len(report.mismatched)} have another shape and '
            f'{len(report.missing)} are missing. Was {EXPERIMENT_FILE} edited after the training?'
        )


def _share(chosen: Collection[str], shapes: Mapping[str, tuple[int, ...]]) -> float:
    """Return the share of all numbers that the chosen tensors hold."""
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    return sum(size for n, size in sizes.items() if n in chosen) / max(1, sum(sizes.values()))


def apply_warm_start(report: WarmStart, variables: Sequence) -> None:
    """Make the weights the initial values. In a graph, before initialization."""
    import tensorflow as tf

    names = {variable_name(v): v for v in variables}
    tf.compat.v1.train.init_from_checkpoint(
        bundles.literal(report.weights.checkpoint), {n: names[n] for n in report.restored}
    )


def restore(prefix: str, variables: Sequence):
    """Return the operation that gives variables the values that a checkpoint has for them.

    With fewer operations than those of a Saver, which could also save them.

    Args:
        variables: Of the graph; check_fit has found them in it.
    """
    import tensorflow as tf

    values = tf.raw_ops.RestoreV2(
        prefix=bundles.literal(prefix),
        tensor_names=[variable_name(v) for v in variables],
        shape_and_slices=[''] * len(variables),
        dtypes=[v.dtype for v in variables],
    )
    pairs = zip(variables, values)
    return tf.group(
        *[tf.raw_ops.AssignVariableOp(resource=v.handle, value=value) for v, value in pairs]
    )


def list_variables(path: str) -> list[tuple[str, list[int], str]]:
    """Return (name, shape, dtype) of each tensor of a checkpoint, sorted by name."""
    reader, _ = open_checkpoint(path)
    dtypes = reader.get_variable_to_dtype_map()
    shapes = reader.get_variable_to_shape_map()
    return [(name, shapes[name], dtypes[name].name) for name in sorted(shapes)]
