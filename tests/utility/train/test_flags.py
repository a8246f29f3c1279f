"""What the flags of a train script stand for."""

from __future__ import annotations

import types

import pytest

from config import Experiment
from utility.train import flags


@pytest.mark.parametrize(
    ('settings', 'seed', 'expected'), [([], None, 20180417), ([], 0, 0), (['seed=3'], 7, 7)]
)
def test_the_seed_has_a_flag_of_its_own(settings, seed, expected):
    values = types.SimpleNamespace(set=[*settings, 'epochs=2'], seed=seed)
    experiment = Experiment().override(*flags.assignments(values))
    assert (experiment.seed, experiment.epochs) == (expected, 2.0)
