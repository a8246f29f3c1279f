"""The benchmark of precisions: what is measured, and how it is told."""

from __future__ import annotations

import pytest

from benchmarks import precision
from benchmarks.common import ledger
from benchmarks.precision import Way
from config import Experiment, NetworkConfig
from tests.commands import call
from utility.statistics.medians import Summary

TINY = Experiment(
    network=NetworkConfig('resnet18', 'dhn', (64, 64), (16, 16), {'width': 8}, {'channels': 8})
)


@pytest.mark.parametrize('way', [Way('bfloat16'), Way(is_rewritten=True)])
def test_a_step_and_an_inference_are_timed(monkeypatch, way):
    monkeypatch.setattr(precision.recipes, 'load', lambda name: TINY)
    rounds = precision.measurements('tiny', way, 32, 2)
    assert 'TensorFlow 2.15' in next(rounds)
    runs = next(rounds)
    assert runs.keys() == {'train', 'infer'}
    assert all(0 < run.seconds < 60 and run.reference > 0 for run in runs.values())


def test_ratios_are_to_float32():
    base = {'train': Summary(0.5, 0.25, 3), 'infer': Summary(0.25, 0.0, 3)}
    row = {'train': Summary(0.25, 0.125, 3), 'infer': Summary(0.5, 0.0, 1)}
    cells = precision.cells('a', 'b', row, base, batch_size=4)
    assert cells == ('a', 'b', '0.250 ± 0.125', '0.50', '125.0', '2.00')
    failed = {ledger.FAILURE: 'out of memory'}
    assert precision.cells('a', 'b', failed, base, 4) == ('a', 'b', 'out of memory', '', '', '')


@pytest.mark.parametrize(
    ('ways', 'message'),
    [
        ('float32,half', '--ways=half: there are float32, bfloat16, rewritten, xla, float16'),
        ('bfloat16', '--ways: float32 must be among them'),
    ],
)
def test_mistakes_are_told(ways, message):
    result = call('benchmarks/precision.py', f'--ways={ways}')
    assert result.returncode == 2 and message in result.stderr
