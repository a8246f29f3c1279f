"""Ids that are there twice: told apart where data are converted, found where records are read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from config import UserError
from preprocessing import records
from preprocessing.conversion import image_ids, integrity
from preprocessing.datasets import Annotation
from preprocessing.datasets.fashionai import SCHEMA
from tests.tiny_records import write_records


def _annotation(image_id):
    count = SCHEMA.num_keypoints
    nowhere, absent = np.zeros((count, 2), np.float32), np.full(count, -1, np.int32)
    return Annotation(f'/data/{image_id}', image_id, 'skirt', nowhere, absent)


def _told_apart(pools, *pairs):
    found = image_ids.told_apart([(split, _annotation(name)) for split, name in pairs], pools)
    return [one.image_id for _, one in found]


def test_an_id_of_an_earlier_split_gets_the_name_of_its_own(caplog):
    pools = {'train_0': 'pooled', 'train_1': 'pooled', 'test_0': 'test_0'}
    pairs = ('train_0', 'a.jpg'), ('train_1', 'b.jpg'), ('train_1', 'a.jpg'), ('test_0', 'a.jpg')
    assert _told_apart(pools, *pairs) == ['a.jpg', 'b.jpg', 'train_1/a.jpg', 'a.jpg']
    assert 'train_0 and train_1 share 1 image ids; in the records those of train_1' in caplog.text


@pytest.mark.parametrize(
    'pairs',
    [
        [('train_0', 'a.jpg'), ('train_0', 'a.jpg')],
        [('train_0', 'a.jpg'), ('train_1', 'train_1/a.jpg'), ('train_1', 'a.jpg')],
    ],
)
def test_an_id_that_stays_twice_is_refused(pairs):
    with pytest.raises(UserError, match=f'{pairs[0][0][:-1]}[01]: the image_id .* is there twice'):
        _told_apart({'train_0': 'pooled', 'train_1': 'pooled'}, *pairs)


@pytest.fixture
def data_dir(tmp_path):
    return write_records(tmp_path, {'train': {'skirt': 3, 'dress': 2}}, size=24)


def _rewritten(data_dir, category, change):
    """Change the serialized records of a file, and write it with sums that are right."""
    path = records.shard_path(f'{data_dir}/train', category, 0, 1)
    content = [one.numpy() for one in tf.data.TFRecordDataset(path)]
    with records.shard_writer(path) as write:
        for one in change(content):
            write(one)
    return path


def test_ids_of_records_are_read_without_the_pictures(data_dir):
    path = records.shard_path(f'{data_dir}/train', 'skirt', 0, 1)
    assert list(image_ids._ids_in(path)) == [b'skirt/0.jpg', b'skirt/1.jpg', b'skirt/2.jpg']
    integrity.check_split(f'{data_dir}/train', 'all')


def test_a_record_that_is_in_a_file_twice_is_named(data_dir):
    path = _rewritten(data_dir, 'skirt', lambda all_: [all_[0], all_[1], all_[0]])
    for category in ('all', 'skirt'):
        with pytest.raises(UserError, match=f"{path}: two records have the image_id 'skirt/0.jpg'"):
            integrity.check_split(f'{data_dir}/train', category)
    integrity.check_split(f'{data_dir}/train', 'dress')


def test_both_files_of_an_id_are_named(data_dir):
    path = _rewritten(
        data_dir,
        'skirt',
        lambda all_: [one.replace(b'skirt/0.jpg', b'dress/1.jpg') for one in all_],
    )
    with pytest.raises(
        UserError, match=f"{path} and .*/dress-00000.*: two records have .*'dress/1.jpg'"
    ):
        integrity.check_split(f'{data_dir}/train', 'all')


@pytest.mark.parametrize('damage', [b'', b'\xff' * 40, b'\x0a\xff\xff\xff\xff\x0f', b'\x0b'])
def test_what_cannot_be_parsed_is_left_to_others(data_dir, damage):
    path = _rewritten(data_dir, 'skirt', lambda all_: [all_[0], damage, all_[1]])
    assert list(image_ids._ids_in(path))[:1] == [b'skirt/0.jpg']


@pytest.mark.parametrize('cut', [1, 7, 11, 13, 100])
def test_a_file_in_pieces_is_read_up_to_there(data_dir, cut):
    path = records.shard_path(f'{data_dir}/train', 'skirt', 0, 1)
    content = Path(path).read_bytes()
    Path(path).write_bytes(content[:-cut])
    assert list(image_ids._ids_in(path)) == [b'skirt/0.jpg', b'skirt/1.jpg']
    Path(path).write_bytes(content[:cut])
    assert list(image_ids._ids_in(path)) == []
    Path(path).write_bytes(b'')
    assert list(image_ids._ids_in(path)) == []
