"""The network of each recipe against the floor of its FLOPs: benchmarks.networks, in short."""

from __future__ import annotations

from benchmarks import networks
from benchmarks.common import isolated, ledger, recipes
from benchmarks.common.report import Table

NAME = 'Every network'
# Most of the time that a network takes is that of its graph and its first step.
OPTIONS = networks.Options(batch_size=1, image_size=0, repeats=2, max_seconds=1.0, together=2)


def measure(repeats: int) -> list[Table]:
    """Return all recipes at their own sizes, a picture at a time."""
    options = OPTIONS._replace(repeats=min(repeats, OPTIONS.repeats))
    rows = dict(networks.measure(recipes.names(), options))
    for name, row in rows.items():
        if ledger.FAILURE in row:
            raise isolated.FailedError(f'{name}: {row[ledger.FAILURE]}')
    cells = [networks.cells(name, rows[name], options) for name in recipes.names()]
    return [Table(NAME, networks.HEADER, cells, _NOTES, rows)]


_NOTES = (
    f'Batches of one picture, float32, medians of at most {OPTIONS.repeats} steps after the first; '
    'the training step has its optimiser, inference ends with points. docs/networks.md has batches '
    'of two, and tells what is counted.',
    'Share: achieved FLOP/s over those of a product of two 1024 x 1024 matrices right before and '
    'after: how near the floor of its FLOPs a network is.',
)
