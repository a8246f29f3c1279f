"""The comparison of ways to train: every arm is an experiment, of equal length, on a line."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from benchmarks import ingredients, recipes
from config import Experiment

EPOCHS = 8.0


def _experiment(arm: ingredients.Arm, script: str) -> Experiment:
    settings = [*ingredients.settings_of(arm, EPOCHS), *ingredients.SCRIPTS[script]]
    return recipes.load(script[len('train_') : -len('.py')]).override(*settings)


@pytest.mark.parametrize('script', ingredients.SCRIPTS)
@pytest.mark.parametrize('arm', ingredients.ARMS, ids=lambda arm: arm.name)
def test_every_arm_takes_the_steps_of_the_base_and_differs_from_it(arm, script):
    own, base = _experiment(arm, script), _experiment(ingredients.BASE, script)
    goes_on = arm.category == 'all_then_each'
    assert own.epochs + (own.finetune.epochs if goes_on else 0) == base.epochs == EPOCHS
    assert own.data.batch_size == base.data.batch_size
    assert arm is ingredients.BASE or own != base or arm.category != ingredients.BASE.category


def test_lengths_are_shares_of_that_of_the_training():
    arm = ingredients.Arm('any', ('a=0.1', 'b={half}'))
    assert ingredients.added_by(arm, 10) == ['a=0.1', 'b=5']


def test_every_arm_has_a_folder_of_its_own():
    folders = [ingredients.run_dir('work', arm) for arm in ingredients.ARMS]
    assert len(set(folders)) == len(folders)
    assert folders[0] == 'work/base'


def test_a_line_tells_the_difference_to_the_base():
    random = np.random.default_rng(0)
    worse = random.uniform(0.1, 0.3, (40, 4))
    rows = [
        {'arm': ingredients.BASE, 'settings': [], 'distances': worse},
        {
            'arm': ingredients.Arm('better'),
            'settings': ['loss.ohkm=0.5', '--category=each'],
            'distances': worse - 0.05,
        },
    ]
    text = ingredients.page(rows, 'train_resnet18_dhn.py', 900, 'python -m benchmarks.ingredients')
    line = text.strip().splitlines()[-1]
    assert line.startswith('| better | loss.ohkm=0.5<br>--category=each |')
    assert '| -5.00 |' in line
    assert '900 steps' in text and '40 validation pictures, 160 points' in text


def test_an_unknown_ingredient_is_told_in_one_line():
    command = [sys.executable, '-m', 'benchmarks.ingredients', '--data_dir=x', '--work_dir=y']
    done = subprocess.run([*command, '--only=ema'], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, '')
    assert done.stderr.startswith('error: --only=ema: there are base, ')
