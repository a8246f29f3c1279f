"""Few pictures: which ones are taken, how long trainings are, and what the page says of them."""

from __future__ import annotations

import json
import os

import pytest

from benchmarks import few_pictures
from benchmarks.common import real_pictures
from benchmarks.few_pictures import Setting
from preprocessing import records
from preprocessing.datasets.fashionai import SCHEMA
from tests.tiny_records import write_records

SETTING = Setting('train_efficientnet_lite0_dhn.py', 'all', 64, 30, 100, 40, 'float32')
COUNTS = {'skirt': 9, 'dress': 4, 'blouse': 1}


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
    splits = {'train': COUNTS, 'val': {'skirt': 3, 'dress': 1}}
    return write_records(tmp_path_factory.mktemp('records'), splits, 32)


@pytest.mark.parametrize(
    ('number', 'expected'),
    [
        (3, {'skirt': 1, 'dress': 1, 'blouse': 1}),
        (9, {'skirt': 4, 'dress': 4, 'blouse': 1}),
        (12, {'skirt': 7, 'dress': 4, 'blouse': 1}),
        (1900, COUNTS),
    ],
)
def test_categories_have_the_same_share_where_they_can(number, expected):
    assert few_pictures.counts_of(COUNTS, number) == expected


def _ids(records_dir, split, number):
    examples = records.first_examples(os.path.join(records_dir, split), SCHEMA, number)
    return {(example['category'], example['encoded']) for example in examples}


def test_smaller_sets_are_parts_of_larger_ones_and_all_keep_the_validation_split(
    data_dir, tmp_path
):
    parts = [few_pictures.part_of(data_dir, str(tmp_path / str(n)), n, 1) for n in (3, 9, 12)]
    assert [real_pictures.number_of(part, 'train') for part in parts] == [3, 9, 12]
    sets = [_ids(part, 'train', 100) for part in parts]
    assert sets[0] < sets[1] < sets[2] < _ids(data_dir, 'train', 100)
    for part in parts:
        assert _ids(part, 'val', 100) == _ids(data_dir, 'val', 100)
    other = few_pictures.part_of(data_dir, str(tmp_path / 'other'), 9, 2)
    assert _ids(other, 'train', 100) != sets[1]


def test_all_trainings_take_the_same_steps(data_dir, tmp_path):
    for number in (3, 12):
        part = few_pictures.part_of(data_dir, str(tmp_path / str(number)), number, 1)
        words = few_pictures.command(SETTING, part, 'run', SETTING.steps, 1, None)
        [epochs] = [float(word.split('=')[2]) for word in words if 'epochs=' in word]
        batch = SETTING.experiment.data.batch_size
        assert epochs * number / batch == pytest.approx(SETTING.steps, abs=1e-4)


@pytest.mark.parametrize(
    ('start', 'weights'), [('scratch', None), ('ImageNet', 'efficientnet_lite0')]
)
def test_a_start_without_garments_trains_nothing_before(tmp_path, start, weights):
    assert few_pictures.weights_of(start, SETTING, str(tmp_path), 1) == weights
    assert not list(tmp_path.iterdir())


def test_garments_are_seen_from_the_weights_of_the_start(monkeypatch, tmp_path, data_dir):
    commands = []
    monkeypatch.setattr(few_pictures, 'garments_of', lambda *_: data_dir)
    monkeypatch.setattr(real_pictures, 'run', lambda words, what: commands.append(words))
    found = [
        few_pictures.weights_of(start, SETTING, str(tmp_path), 1)
        for start in ('garments', 'ImageNet+garments')
    ]
    assert len(set(found)) == 2
    assert [any('init_checkpoint=effic' in word for word in words) for words in commands] == [
        False,
        True,
    ]
    for path, words in zip(found, commands):
        assert f'--model_dir={os.path.dirname(path)}' in words and path.endswith('/all')


def test_the_doubling_is_the_slope_of_the_logarithms():
    assert few_pictures.doubling([50, 100, 400], [0.4, 0.3, 0.4 * 0.75**3]) == pytest.approx(0.75)
    assert few_pictures.doubling([100, 200, 400], [0.2, 0.2, 0.2]) == pytest.approx(1.0)


def _row(error, num_train):
    row = {'machine': 'a machine', 'num_train': num_train}
    for name, factor in (('plain', 1.0), ('flip', 0.9)):
        row[f'{name}_sums'] = [2 * error * factor, 2 * error * factor, 0.0]
        row[f'{name}_counts'] = [2, 2, 0]
    return row


def test_the_page_has_a_line_for_each_start_and_leaves_other_settings_out():
    prefix, other = SETTING.prefix, SETTING._replace(steps=31).prefix
    cells = {
        f'{prefix}scratch/50/1': _row(0.4, 50),
        f'{prefix}scratch/100/1': _row(0.2, 100),
        f'{prefix}ImageNet/100/1': _row(0.1, 100),
        f'{other}garments/50/1': _row(0.7, 50),
    }
    text = few_pictures.page(json.loads(json.dumps(cells)), SETTING, 'python -m x')
    plain, flip = text.split('## With the flip test')
    assert '| scratch | 40.0 [40.0, 40.0] | 20.0 [20.0, 20.0] | 0.50 |' in plain
    assert '| ImageNet |  | 10.0 [10.0, 10.0] |  |' in plain
    assert '| scratch | 36.0 [36.0, 36.0] | 18.0 [18.0, 18.0] | 0.50 |' in flip
    assert 'garments |' not in text
    assert '2 held-out' in plain and '(4\npoints' in plain
