"""The run loop's arithmetic, its folders and what it refuses."""

import dataclasses
import itertools

import pytest

from config import Experiment
from utility import runner


@pytest.mark.parametrize(
    ('epochs', 'per_eval', 'steps', 'stops'),
    [
        (6, 4, 10, [40, 60]),  # the last stretch is shorter, not dropped
        (50, 30, 1, [30, 50]),
        (4, 4, 2.5, [10]),
        (3, 1, 2.5, [2, 5, 8]),
        (0.1, 7, 3, [1]),
        (2, 0.01, 3, [1, 2, 3, 4, 5, 6]),
    ],
)
def test_evaluation_steps(epochs, per_eval, steps, stops):
    assert runner.evaluation_steps(epochs, per_eval, steps) == stops


def test_evaluation_steps_end_at_the_planned_length():
    for epochs, per_eval, steps in itertools.product((0.5, 7, 28), (0.3, 4, 7), (0.7, 3, 12.5)):
        stops = runner.evaluation_steps(epochs, per_eval, steps)
        assert stops == sorted(set(stops)) and stops[-1] == max(1, round(epochs * steps))


def test_a_model_dir_keeps_its_experiment(tmp_path):
    model_dir = str(tmp_path / 'run')
    runner._claim_model_dir(model_dir, Experiment())
    assert runner.load_experiment(model_dir) == Experiment()
    runner._claim_model_dir(model_dir, Experiment())
    other = dataclasses.replace(Experiment(), seed=1)
    with pytest.raises(ValueError, match='seed: 1 / 20180417'):
        runner._claim_model_dir(model_dir, other)


@pytest.mark.parametrize('text', ['', '{"seed": "x"}', '[]', '{"sed": 1}'])
def test_a_broken_experiment_names_its_file(tmp_path, text):
    (tmp_path / 'experiment.json').write_text(text)
    with pytest.raises(ValueError, match='experiment.json'):
        runner.load_experiment(str(tmp_path))


def test_a_folder_without_experiment_is_no_run(tmp_path):
    with pytest.raises(ValueError, match='is not a run'):
        runner.load_experiment(str(tmp_path))
