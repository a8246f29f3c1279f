"""Record files that are missing, too many or in pieces are named, before a training or in it."""

from __future__ import annotations

import json
import os

import pytest

from config import Experiment
from preprocessing import training_data
from preprocessing.conversion import integrity
from preprocessing.datasets.fashionai import SCHEMA
from preprocessing.records import load_dataset_info, shard_path, shard_writer
from tests.tiny_records import write_records

COUNTS = {'skirt': (3, 2), 'dress': (4,), 'blouse': ()}  # records of each file


@pytest.fixture(params=[True, False], ids=['sizes', 'no sizes'])
def split(request, tmp_path):
    """A split, of a dataset.json that tells the sizes of the files or does not."""
    (tmp_path / 'train').mkdir()
    sizes = {}
    for category, counts in COUNTS.items():
        paths = [
            shard_path(str(tmp_path / 'train'), category, i, len(counts))
            for i in range(len(counts))
        ]
        for path, count in zip(paths, counts):
            with shard_writer(path) as write:
                for i in range(count):
                    write(bytes(100 + i))
        sizes[category] = integrity.sizes(paths)
    message = {'records': {category: sum(counts) for category, counts in COUNTS.items()}}
    if request.param:
        message[integrity.SIZES] = sizes
    schema = {'keypoints': list(SCHEMA.keypoints)}
    info = {'dataset': 'fashionai', 'schema': schema, 'splits': {'train': message}}
    (tmp_path / 'dataset.json').write_text(json.dumps(info))
    return str(tmp_path / 'train')


def _path(split, category, shard, count):
    return shard_path(split, category, shard, count)


def test_what_is_whole_is_right(split):
    for category in ('all', 'skirt', 'blouse'):
        integrity.check_split(split, category)
        integrity.check_split(split, category, reads=True)


def test_a_missing_file_is_named(split):
    os.remove(_path(split, 'skirt', 0, 2))
    with pytest.raises(ValueError, match='/skirt-00000-of-00002.tfrecord is missing; copy'):
        integrity.check_split(split, 'all')
    integrity.check_split(split, 'dress')
    os.remove(_path(split, 'dress', 0, 1))
    with pytest.raises(ValueError, match='no records match .*/dress-'):
        integrity.check_split(split, 'dress')


def test_a_file_of_another_conversion_is_named(split):
    os.rename(_path(split, 'skirt', 1, 2), _path(split, 'skirt', 0, 1))
    os.link(_path(split, 'skirt', 0, 2), _path(split, 'skirt', 1, 2))
    with pytest.raises(ValueError, match='skirt-00000-of-00001.tfrecord is of another conversion'):
        integrity.check_split(split, 'skirt')


@pytest.mark.parametrize('cut', [1, 60, 117])  # the last is a whole record
def test_a_file_in_pieces_is_named_at_once_by_its_size_and_otherwise_when_read(split, cut):
    path = _path(split, 'skirt', 1, 2)
    os.truncate(path, 233 - cut)
    message = f'{path}: record 2 is cut off or damaged'
    if cut == 117:
        message = rf'4 records \(.*00000-of-00002.tfrecord 3, {path} 1\), but 5 by dataset.json'
    if integrity.SIZES in load_dataset_info(os.path.dirname(split))['splits']['train']:
        message = f'{path} has {233 - cut} bytes, but 233 by dataset.json: cut off or altered; copy'
    else:
        integrity.check_split(split, 'skirt')
    with pytest.raises(ValueError, match=message):
        integrity.check_split(split, 'skirt', reads=True)


def test_a_training_looks_at_the_records_of_its_categories_only(split):
    os.remove(_path(split, 'dress', 0, 1))
    data_dir = os.path.dirname(split)
    training_data.check_records(Experiment().override('data.category=skirt'), data_dir)
    with pytest.raises(ValueError, match='dress'):
        training_data.check_records(Experiment().override('data.category=all'), data_dir)


def test_a_category_needs_no_validation_pictures(tmp_path):
    splits = {'train': {'skirt': 2, 'blouse': 2}, 'val': {'skirt': 1}}
    data_dir = write_records(tmp_path, splits, 32)
    for category in ('blouse', 'skirt', 'all'):
        training_data.check_records(Experiment().override(f'data.category={category}'), data_dir)
