"""A network is not trained further on other records by mistake, and knows what it was chosen by."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest

from tests.tiny_checkpoints import write_checkpoint
from utility.checkpoints import evaluations, trained_records

INFO = {
    'dataset': 'fashionai',
    'schema': {'keypoints': ['a', 'b']},
    'splits': {
        'train': {
            'records': {'skirt': 6, 'dress': 2},
            'fingerprints': {'skirt': '1', 'dress': '2'},
        },
        'val': {'records': {'skirt': 3}, 'fingerprints': {'skirt': '3'}},
    },
}


@pytest.fixture
def info(monkeypatch):
    """The content of every dataset.json, to be altered."""
    content = copy.deepcopy(INFO)
    monkeypatch.setattr(trained_records.records, 'load_dataset_info', lambda path: content)
    return content


def _trained(folder, step=5):
    """Return the folder of a network that was trained up to a step, on the records as they are."""
    trained_records.keep(str(folder), trained_records.identity('', ['skirt']), 0)
    write_checkpoint(folder / f'model.ckpt-{step}', {'global_step': np.int64(step)})
    return str(folder)


def _check(folder, accepts=False):
    trained_records.check(folder, trained_records.identity('', ['skirt']), accepts)


def _set(info, split, key, value):
    info['splits'][split][key] = value


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (('train', 'records', {'skirt': 7}), 'train/skirt: 7 / 6 pictures'),
        (('train', 'fingerprints', {'skirt': '9'}), 'train/skirt: 6 other pictures or annotations'),
        (('val', 'fingerprints', {'skirt': '9'}), 'val/skirt: 3 other pictures or annotations'),
        (('val', 'records', {}), 'val/skirt: 0 / 3 pictures'),
    ],
    ids=str,
)
def test_other_records_under_a_network_are_refused_unless_they_are_meant(
    tmp_path, info, caplog, change, message
):
    folder = _trained(tmp_path)
    _check(folder)
    _set(info, *change)
    with pytest.raises(ValueError, match=f'trained on other records.*{message}.*--other_records'):
        _check(folder)
    assert message not in caplog.text
    _check(folder, accepts=True)
    assert message in caplog.text


def test_records_of_other_categories_and_untrained_folders_do_not_matter(tmp_path, info):
    folder = _trained(tmp_path)
    _set(info, 'train', 'records', {'skirt': 6, 'dress': 9, 'blouse': 1})
    _check(folder)
    info['splits']['train']['records']['skirt'] = 1
    for path in tmp_path.glob('model.ckpt*'):
        path.unlink()
    _check(folder)


def test_what_was_found_on_another_validation_split_is_put_aside(tmp_path, info):
    folder = _trained(tmp_path)
    evaluations.keep(folder, 5, {'normalized_error': 0.25})
    _set(info, 'train', 'fingerprints', {'skirt': '9'})
    trained_records.keep(folder, trained_records.identity('', ['skirt']), 5)
    assert list(evaluations.read(folder)) == [5]  # of the same pictures
    _set(info, 'val', 'fingerprints', {'skirt': '8'})
    now = trained_records.identity('', ['skirt'])
    trained_records.keep(folder, now, 5)
    assert evaluations.read(folder) == {}
    assert (tmp_path / 'evaluations_up_to_5.csv').exists()
    trained_records.keep(folder, now, 6)  # nothing has changed
    kept = json.loads((tmp_path / trained_records.FILE).read_text())
    assert kept['records'] == now
    assert [one['train']['skirt']['fingerprint'] for one in kept['before']] == ['1', '9']
    _check(folder)


def test_the_split_that_chose_the_weights_is_known_by_its_pictures(tmp_path, info):
    folder = _trained(tmp_path)
    assert trained_records.validates_on(folder, 'RECORDS/val/')
    info['splits']['copy'] = info['splits'].pop('val')
    assert trained_records.validates_on(folder, 'OTHER/copy')  # by another name
    info['splits']['val'] = {'records': {'skirt': 3}, 'fingerprints': {'skirt': '7'}}
    assert not trained_records.validates_on(folder, 'OTHER/val')  # other data
    (tmp_path / trained_records.FILE).unlink()
    assert trained_records.validates_on(folder, 'OTHER/val')
    assert not trained_records.validates_on(folder, 'OTHER/copy')


@pytest.mark.parametrize('text', ['', '[]', '{"records": {}}', '[' * 100_000, '{"records": 1}'])
def test_a_broken_file_is_told(tmp_path, info, text):
    folder = _trained(tmp_path)
    (tmp_path / trained_records.FILE).write_text(text)
    with pytest.raises(ValueError, match='records.json is broken'):
        _check(folder)
