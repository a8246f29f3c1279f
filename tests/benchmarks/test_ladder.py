"""The ladder of predictions: every rung exists, is compared with one before it, and is timed."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import ladder
from utility.predict.views_to_points import PredictOptions


@pytest.mark.parametrize('num_runs', [1, 2])
def test_every_rung_is_a_prediction_and_stands_on_one_before_it(num_runs):
    steps = ladder.rungs(num_runs)
    names = [rung.name for rung in steps]
    assert len(set(names)) == len(names)
    for n, rung in enumerate(steps):
        assert isinstance(ladder.predict_options(rung, 4), PredictOptions)
        assert rung.against in names[:n] if n else not rung.against
        assert rung.num_runs <= num_runs
    assert (max(rung.num_runs for rung in steps) > 1) == (num_runs > 1)


def test_a_line_tells_how_it_compares_with_the_one_it_stands_on():
    random = np.random.default_rng(0)
    worse = random.uniform(0.1, 0.3, (40, 4))
    first, second, *_ = ladder.rungs(1)
    rows = [
        {'rung': first, 'distances': worse, 'rate': 9.0},
        {'rung': second, 'distances': worse - 0.05, 'rate': 8.0},
    ]
    text = ladder.page(rows, 'records/val', ['run'])
    line = text.strip().splitlines()[-1]
    assert line.startswith('| quarter step |') and '| argmax | -5.000 |' in line
    assert '40 pictures, 160 points' in text and '--model_dir=run' in text
