"""Checkpoints: starting from another run's weights, and a look inside.

`python -m utility.checkpoints PATH` lists the variables of a checkpoint or of a run's newest one.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence

# The last layers of every head: they depend on the schema, all others do not.
HEATMAP_LAYERS = 'head/heatmaps'


@dataclasses.dataclass(frozen=True)
class WarmStart:
    """What a checkpoint gives to a network, by variable name.

    Attributes:
        path: Of the checkpoint.
        restored: Names that are taken from the checkpoint.
        missing: Names of the network that the checkpoint does not have.
        mismatched: Names whose shapes differ.
        unexpected: Names of the checkpoint that the network does not have.
        coverage: Share of the network's parameters that is restored, 0..1.
    """

    path: str
    restored: tuple[str, ...]
    missing: tuple[str, ...]
    mismatched: tuple[str, ...]
    unexpected: tuple[str, ...]
    coverage: float

    def __str__(self) -> str:
        return (
            f'{self.path}: {len(self.restored)} tensors restored, {len(self.missing)} missing, '
            f'{len(self.mismatched)} of another shape, {len(self.unexpected)} not used; '
            f'{100 * self.coverage:.1f} % of the parameters covered'
        )


def resolve(path: str) -> str:
    """The checkpoint's prefix, for a prefix or for a directory that holds checkpoints.

    Raises:
        ValueError: There is none.
    """
    import tensorflow as tf

    if tf.io.gfile.isdir(path):
        newest = tf.train.latest_checkpoint(path)
        if newest is None:
            # A run keeps its networks in folders of their own.
            inner = sorted(tf.io.gfile.glob(os.path.join(path, '*', 'checkpoint')))
            hint = f'; there is {", ".join(map(os.path.dirname, inner))}' if inner else ''
            raise ValueError(f'{path!r} holds no checkpoint{hint}')
        return newest
    if not tf.io.gfile.exists(path + '.index'):
        raise ValueError(f'no checkpoint at {path!r}')
    return path


def _open(path: str):
    """A reader of the checkpoint at `path`; its prefix too."""
    import tensorflow as tf

    prefix = resolve(path)
    try:
        return tf.train.load_checkpoint(prefix), prefix
    except (tf.errors.OpError, RuntimeError) as error:
        raise ValueError(f'{prefix!r} is not a readable checkpoint: {error}') from error


def _name(variable) -> str:
    return variable.name.split(':')[0]


def _is_state(name: str) -> bool:
    """Whether a stored name is an optimiser's or a counter's rather than the network's."""
    return not name.startswith(('backbone/', 'head/')) or name.endswith(
        ('/Momentum', '/Adam', '/Adam_1')
    )


def plan_warm_start(path: str, variables: Sequence, allow_partial: bool = False) -> WarmStart:
    """Compares a checkpoint of this project with a network's variables.

    The last layers, head/heatmaps*, may differ: a network of another schema keeps its own.

    Args:
        path: A checkpoint's prefix or a directory of checkpoints.
        variables: The network's, batch-norm statistics included.
        allow_partial: Accepts a checkpoint that covers the network in part only.

    Raises:
        ValueError: Nothing fits, or something besides head/heatmaps* is missing or of another
            shape and allow_partial is not set.
    """
    reader, prefix = _open(path)
    shapes = {n: s for n, s in reader.get_variable_to_shape_map().items() if not _is_state(n)}
    names = {_name(v): v for v in variables}
    missing = tuple(sorted(n for n in names if n not in shapes))
    mismatched = tuple(
        sorted(n for n, v in names.items() if n in shapes and shapes[n] != v.shape.as_list())
    )
    restored = tuple(sorted(names.keys() - set(missing) - set(mismatched)))
    size = {n: v.shape.num_elements() for n, v in names.items()}
    report = WarmStart(
        path=prefix,
        restored=restored,
        missing=missing,
        mismatched=mismatched,
        unexpected=tuple(sorted(shapes.keys() - names.keys())),
        coverage=sum(size[n] for n in restored) / max(1, sum(size.values())),
    )
    if not restored:
        raise ValueError(f'nothing of {prefix!r} fits this network')
    lacking = [n for n in missing + mismatched if not n.startswith(HEATMAP_LAYERS)]
    if lacking and not allow_partial:
        raise ValueError(
            f'{report}; first: {lacking[0]}. Pass --allow_partial_init to start from a part'
        )
    return report


def apply_warm_start(report: WarmStart, variables: Sequence) -> None:
    """Makes the checkpoint's tensors the initial values. In a graph, before initialisation."""
    import tensorflow as tf

    names = {_name(v): v for v in variables}
    tf.compat.v1.train.init_from_checkpoint(report.path, {n: names[n] for n in report.restored})


def list_variables(path: str) -> list[tuple[str, list[int], str]]:
    """(name, shape, dtype) of each tensor of a checkpoint, sorted by name."""
    reader, _ = _open(path)
    dtypes = reader.get_variable_to_dtype_map()
    shapes = reader.get_variable_to_shape_map()
    return [(name, shapes[name], dtypes[name].name) for name in sorted(shapes)]


def main(positional: list[str]) -> None:
    if len(positional) != 1:
        raise ValueError('give one checkpoint or run directory: python -m utility.checkpoints PATH')
    rows = list_variables(positional[0])
    total = 0
    for name, shape, dtype in rows:
        print(f'{name:70s} {dtype:10s} {"x".join(map(str, shape)) or "scalar"}')
        if not _is_state(name):
            count = 1
            for length in shape:
                count *= length
            total += count
    print(f'{len(rows)} tensors; {total:,} numbers of the network, without optimiser state')


if __name__ == '__main__':
    from utility import command_line

    command_line.run(main, __doc__)
