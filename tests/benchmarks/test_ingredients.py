"""The comparison of ways to train: every arm is an experiment, of equal length, on a line."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from benchmarks import ingredients
from benchmarks.common import recipes
from config import Experiment

EPOCHS = 8.0
SIZE = 128
RECIPE = recipes.load('resnet18_cpn')


def _experiment(arm: ingredients.Arm) -> Experiment:
    return RECIPE.override(*ingredients.settings_of(arm, RECIPE, SIZE, EPOCHS))


@pytest.mark.parametrize('arm', ingredients.ARMS, ids=lambda arm: arm.name)
def test_every_arm_is_as_long_as_the_base_and_differs_from_it(arm):
    changed, base = _experiment(arm), _experiment(ingredients.BASE)
    goes_on = arm.category == 'all_then_each'
    assert changed.epochs + (changed.finetune.epochs if goes_on else 0) == base.epochs == EPOCHS
    assert changed.network.image_size == base.network.image_size == (SIZE, SIZE)
    assert arm is ingredients.BASE or changed != base or arm.category != ingredients.BASE.category


def test_values_follow_the_recipe_and_the_length():
    arm = ingredients.Arm('any', ('a=0.1', 'b={half}', 'c={double_batch}', 'd={triple_rate}'))
    added = ingredients.added_by(arm, RECIPE, 10)
    assert added == ['a=0.1', 'b=5', f'c={2 * RECIPE.data.batch_size}', 'd=0.003']


def test_augmentation_keeps_its_place_holders():
    [arm] = [arm for arm in ingredients.ARMS if arm.name == 'strong augmentation']
    assert '{height},{width}' in _experiment(arm).data.train_ops


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
    facts = {'script': 'train_resnet18_cpn.py', 'size': 128, 'pictures': 7600, 'train': 1897}
    text = ingredients.page(rows, 'python -m benchmarks.ingredients', **facts)
    line = text.strip().splitlines()[-1]
    assert line.startswith('| better | loss.ohkm=0.5<br>--category=each |')
    assert '| -5.00 |' in line
    assert '7,600 pictures' in text and '40 validation pictures, 160\npoints' in text


def test_an_unknown_ingredient_is_told_in_one_line():
    command = [sys.executable, '-m', 'benchmarks.ingredients', '--data_dir=x', '--work_dir=y']
    done = subprocess.run([*command, '--only=ema'], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, '')
    assert done.stderr.startswith('error: --only=ema: there are base, ')
