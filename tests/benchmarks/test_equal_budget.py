"""The ways of the equal budget: each is a whole experiment, of the same network and length."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

from benchmarks import equal_budget
from benchmarks.common import real_pictures, recipes
from benchmarks.equal_budget import Cell
from preprocessing import files
from tests import tiny_records


def _experiment(way, script='train_resnet18_cpn.py', num_train=388):
    cell = Cell(script, 'blouse', 192, 7600, 'float32', way, 3)
    recipe = recipes.load(script[len('train_') : -len('.py')])
    return recipe.override(*equal_budget.settings_of(cell, num_train))


@pytest.mark.parametrize('way', equal_budget.WAYS)
@pytest.mark.parametrize('num_train', [388, 1897])
def test_a_way_sees_as_many_pictures_with_the_same_network(way, num_train):
    own, ours = _experiment(way, num_train=num_train), _experiment(equal_budget.OURS)
    assert own.epochs * num_train == pytest.approx(7600, rel=1e-4)
    assert (own.network.backbone, own.network.head) == (ours.network.backbone, ours.network.head)
    assert own.network.image_size == (192, 192)
    assert own.seed == 3 and own.evaluations == 1


def test_the_ways_differ_in_loss_optimizer_or_network():
    experiments = [_experiment(way) for way in equal_budget.WAYS]
    distinct = {
        repr((experiment.loss, experiment.optimizer, experiment.network))
        for experiment in experiments
    }
    assert len(distinct) == len(equal_budget.WAYS)
    widths = {
        way: experiment.network.head_options.get('channels')
        for way, experiment in zip(equal_budget.WAYS, experiments)
    }
    own = widths.pop('tf.fashionAI_head256'), widths.pop('17th_place_head256')
    assert own == (256, 256) and set(widths.values()) == {128}


def test_the_records_of_a_category_are_made_once(tmp_path):
    """A command scores one training on them and goes on to the next: they are an input by then."""
    data = tiny_records.write_records(tmp_path / 'all', {'train': {'blouse': 2, 'skirt': 1}}, 8)
    info_path = tmp_path / 'all' / 'dataset.json'
    info = json.loads(info_path.read_text())
    info['splits']['train'].update(shards={'blouse': 1, 'skirt': 1}, bytes={})
    info_path.write_text(json.dumps(info))
    part = real_pictures.of_category(data, 'blouse')
    with files.inputs_kept():
        files.keep([f'{part}/dataset.json'])
        assert real_pictures.of_category(data, 'blouse') == part
    assert real_pictures.number_of(part, 'train') == 2
    assert os.listdir(f'{part}/train') == ['blouse-00000-of-00001.tfrecord']


def test_the_page_pairs_the_precisions_of_a_setting_by_picture():
    """Points differ by picture and seed; bfloat16 is worse by a percentage point in each."""
    generator = np.random.default_rng(0)
    counts = [0, 4, 10, 13, 2]
    cells = {}
    for seed in (1, 2):
        sums = generator.uniform(0.2, 0.4, 5) * counts
        for precision, worse in (('float32', 0.0), ('bfloat16', 0.01)):
            row = {'num_train': 7, 'machine': 'a machine'}
            for look in ('plain', 'flip'):
                row[f'{look}_sums'] = (sums + worse * np.array(counts)).tolist()
                row[f'{look}_counts'] = counts
            cells[Cell('train_a.py', 'blouse', 64, 1000, precision, 'ours', seed).key] = row
    text = equal_budget.page(cells)
    assert 'minus that of float32, mean of the seeds 1, 2: **+1.00** points [+1.00, +1.00]' in text
    assert '| a | blouse | 64 | bfloat16 | 1,000 | ours |' in text
    assert '| a | blouse | 64 | float32 | 1,000 | ours |' in text
    del cells[Cell('train_a.py', 'blouse', 64, 1000, 'float32', 'ours', 1).key]
    assert 'the seeds 2: **+1.00**' in equal_budget.page(cells)
    del cells[Cell('train_a.py', 'blouse', 64, 1000, 'float32', 'ours', 2).key]
    assert 'in float32' not in equal_budget.page(cells)
