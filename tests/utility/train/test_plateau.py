"""When the validation error no longer falls: lower rates and an early end, from what is on disk."""

import dataclasses
import math

import pytest

from config import Experiment, OptimizerConfig, ScheduleConfig
from utility.checkpoints import evaluations
from utility.train import plateau

CONFIG = ScheduleConfig(name='plateau', plateau_patience=2, end_learning_rate=0.01)
OPTIMIZER = OptimizerConfig(learning_rate=1.0)
NAN = math.nan
ENDED = 'the NE no longer falls, and the rate would fall below 0.01'


def _errors(*values):
    return {10 * (i + 1): value for i, value in enumerate(values)}


@pytest.mark.parametrize(
    ('errors', 'drops'),
    [
        (_errors(), ()),
        (_errors(5, 4, 3, 2), ()),
        (_errors(5, 4, 4, 3, 4, 2), ()),  # one in vain is not enough
        (_errors(5, 4, 4, 4), (40,)),  # equal is not better
        (_errors(5, 6, 6, 6, 6, 6), (30, 50)),  # the wait begins again after a drop
        (_errors(5, 6, 6, 4, 5, 5), (30, 60)),
        (_errors(NAN, NAN, 5, 4), (20,)),
        (_errors(5, NAN, NAN), (30,)),
    ],
)
def test_a_drop_follows_evaluations_in_vain(errors, drops):
    assert plateau.drops(CONFIG, errors) == drops
    # What came later does not change what was decided: the rates of the past stand.
    for step in errors:
        before = {s: error for s, error in errors.items() if s <= step}
        assert plateau.drops(CONFIG, before) == tuple(s for s in drops if s <= step)


def test_other_schedules_have_no_drops():
    assert plateau.drops(ScheduleConfig(), _errors(5, 6, 6, 6, 6, 6)) == ()


@pytest.mark.parametrize(
    ('config', 'errors', 'reason'),
    [
        (CONFIG, _errors(5), None),
        # 1 -> 0.1 -> 0.01, which is the end rate; a third drop would go below it.
        (CONFIG, _errors(5, *[6] * 5), None),
        (
            CONFIG,
            _errors(5, *[6] * 6),
            ENDED,
        ),
        (ScheduleConfig(), _errors(5, *[6] * 50), None),
        (ScheduleConfig(stop_patience=3), _errors(5, 4, 6, 6), None),
        (
            ScheduleConfig(stop_patience=3),
            _errors(5, 4, 6, 6, 4),
            '3 evaluations have not bettered the NE of step 20',
        ),
        (
            ScheduleConfig(stop_patience=2),
            _errors(NAN, NAN, NAN),
            '2 evaluations have not bettered the NE of step 10',
        ),
        (ScheduleConfig(stop_patience=2), _errors(NAN, NAN, 5), None),
    ],
)
def test_reasons_to_end(config, errors, reason):
    assert plateau.why_stop(OPTIMIZER, config, errors) == reason


def test_the_reaction_goes_by_the_file_up_to_its_step(tmp_path):
    """Told twice, or after a later evaluation was kept, it answers the same."""
    folder = str(tmp_path)
    for step, error in _errors(0.5, 0.6, 0.7, 0.1).items():
        evaluations.keep(folder, step, {'normalized_error': error, 'loss': 1.0})
    schedule = dataclasses.replace(ScheduleConfig(), stop_patience=2)
    run_callbacks = plateau.make_evaluation_callback(Experiment(schedule=schedule), folder)
    answers = [run_callbacks(step, {}) for step in (10, 20, 30, 30, 40)]
    reason = '2 evaluations have not bettered the NE of step 10'
    assert answers == [None, None, reason, reason, None]
