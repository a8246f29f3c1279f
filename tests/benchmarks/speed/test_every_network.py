"""The part of `python -m benchmarks` that has a row for each recipe."""

from __future__ import annotations

import pytest

from benchmarks import networks
from benchmarks.common import isolated, ledger, recipes
from benchmarks.speed import every_network

TIMED = {'seconds': {'median': 0.5, 'spread': 0.0, 'count': 1}, 'share': {'median': 0.75}}
ROW = {
    'backbone': 'resnet18', 'head': 'dhn', 'image_size': (64, 64), 'heatmap_size': (16, 16),
    'parameters': 2e6, 'flops': {'train': 6e9, 'infer': 2e9}, 'train': TIMED, 'infer': TIMED,
    'memory': 1.0,
}  # fmt: skip


def _measured(monkeypatch, rows):
    selected = []

    def measure(names, options):
        selected.append((list(names), options))
        yield from rows.items()

    monkeypatch.setattr(recipes, 'names', lambda: ['a', 'b'])
    monkeypatch.setattr(networks, 'measure', measure)
    return selected


def test_each_recipe_has_a_row_in_the_order_of_recipes(monkeypatch):
    selected = _measured(monkeypatch, {'b': ROW, 'a': {**ROW, 'head': 'cpn'}})
    (table,) = every_network.measure(1)
    assert selected == [(['a', 'b'], every_network.OPTIONS._replace(repeats=1))]
    assert [row[:3] for row in table.rows] == [['a', 'resnet18', 'cpn'], ['b', 'resnet18', 'dhn']]
    cells = dict(zip(table.header, table.rows[0]))
    assert (cells['GFLOPs'], cells['pictures/s'], cells['share']) == ('2.0', '2.00', '75%')


def test_a_network_that_fails_is_named(monkeypatch):
    _measured(monkeypatch, {'a': ROW, 'b': {ledger.FAILURE: 'out of memory'}})
    with pytest.raises(isolated.FailedError, match='^b: out of memory$'):
        every_network.measure(5)
