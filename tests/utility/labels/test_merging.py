"""Merged records: newer annotations count, differences are listed, and nothing is lost."""

from __future__ import annotations

import csv
import json
import os
import shutil

import numpy as np
import pytest
import tensorflow as tf

from preprocessing import records
from preprocessing.conversion import integrity
from preprocessing.datasets import Annotation
from preprocessing.datasets.fashionai import SCHEMA
from utility.labels import merging
from utility.metrics.annotations import annotations_of

SKIRT = list(SCHEMA.indices('skirt'))


def _write(root, garments):
    """Records of garments (split, image_id, category, x of all points), of gray pictures."""
    splits = {}
    for split, image_id, category, x in garments:
        splits.setdefault(split, {}).setdefault(category, []).append((image_id, x))
    jpeg = tf.io.encode_jpeg(np.full([32, 32, 3], 99, np.uint8)).numpy()
    for split, by_category in splits.items():
        (root / split).mkdir(parents=True)
        for category, own in by_category.items():
            path = records.shard_path(str(root / split), category, 0, 1)
            with records.shard_writer(path) as write:
                for image_id, x in own:
                    points = np.full([SCHEMA.num_keypoints, 2], x, np.float32)
                    visibility = np.full(SCHEMA.num_keypoints, -1, np.int32)
                    if not split.startswith('test'):
                        visibility[list(SCHEMA.indices(category))] = 1
                    annotation = Annotation('', image_id, category, points, visibility)
                    write(records.encode_example(jpeg, annotation, (32, 32)))
    info = {
        'dataset': SCHEMA.name,
        'schema': {'keypoints': list(SCHEMA.keypoints)},
        'settings': {'val_fraction': 0.2},
        'splits': {
            split: {
                'labelled': not split.startswith('test'),
                'records': {category: len(own) for category, own in by_category.items()},
            }
            for split, by_category in splits.items()
        },
    }
    (root / records.DATASET_FILE).write_text(json.dumps(info))
    return str(root)


OLD = [
    ('train', 'a.jpg', 'skirt', 1.5),
    ('train', 'b.jpg', 'skirt', 2.5),
    ('train', 'two.jpg#1', 'skirt', 3.5),
    ('train', 'two.jpg#2', 'blouse', 4.5),
    ('train', 'k.jpg', 'trousers', 6.5),
    ('val', 'v.jpg', 'skirt', 5.5),
    ('test_0', 't.jpg', 'skirt', 0),
]
NEW = [
    ('train', 'b.jpg', 'skirt', 20.5),
    ('train', 'two.jpg#1', 'dress', 21.5),
    ('train', 'v.jpg', 'skirt', 22.5),  # which is for validation
    ('val', 'a.jpg', 'skirt', 1.5),  # as it was
    ('val', 'c.jpg', 'blouse', 23.5),
]


@pytest.fixture(scope='module')
def merged(tmp_path_factory):
    tmp_path = tmp_path_factory.mktemp('merged')
    old, new = _write(tmp_path / 'old', OLD), _write(tmp_path / 'new', NEW)
    report = merging.merge(old, new, str(tmp_path / 'out'))
    return tmp_path / 'out', report


def _read(folder, split):
    table = annotations_of(str(folder / split), SCHEMA)
    points = {}
    for image_id, category, keypoints in zip(table.image_ids, table.categories, table.keypoints):
        points[image_id, category] = keypoints[SCHEMA.indices(category)[0], 0]
    return points


def test_the_newer_wins_and_nothing_is_lost(merged):
    folder, report = merged
    assert _read(folder, 'train') == {
        ('a.jpg', 'skirt'): 1.5,
        ('b.jpg', 'skirt'): 20.5,
        ('two.jpg#1', 'dress'): 21.5,
        ('k.jpg', 'trousers'): 6.5,
    }
    # What was for validation stays there.
    assert _read(folder, 'val') == {('v.jpg', 'skirt'): 22.5, ('c.jpg', 'blouse'): 23.5}
    test = tf.data.TFRecordDataset(
        records.record_files(records.split_patterns(str(folder / 'test_0'), 'all'))
    )
    assert sum(1 for _ in test) == 1
    assert report == merging.Report(kept=1, replaced=5, added=1, updated=4, conflicts=report[-1])


def test_the_records_are_whole(merged):
    folder, _ = merged
    info = records.load_dataset_info(str(folder))
    for split in ('train', 'val', 'test_0'):
        integrity.check_split(str(folder / split), 'all', reads=True)
    assert info['splits']['train']['records'] == {
        'blouse': 0, 'dress': 1, 'outwear': 0, 'skirt': 2, 'trousers': 1
    }  # fmt: skip
    assert info['splits']['val']['points']['visible'] == 4 + len(SCHEMA.indices('blouse'))
    assert not info['splits']['test_0']['labelled']
    assert info['settings'] == {'val_fraction': 0.2}
    assert info['merged']['replaced'] == 5


def test_what_was_added_to_coordinates_is_still_known(tmp_path):
    """Results in COCO's format are half a pixel off without it."""
    old, new = _write(tmp_path / 'old', OLD), _write(tmp_path / 'new', NEW)
    path = tmp_path / 'old' / records.DATASET_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), 'point_offset': 0.25}))
    merging.merge(old, new, str(tmp_path / 'out'))
    assert records.point_offset(str(tmp_path / 'out' / 'val')) == 0.25


def test_a_name_for_two_pictures_is_refused_where_it_matters(tmp_path):
    """As COCO has it with train/1.jpg and val/1.jpg: the one would have replaced both."""
    twice = [('train', '1.jpg', 'skirt', 1.5), ('val', '1.jpg', 'skirt', 2.5)]
    old = _write(tmp_path / 'old', [*OLD, *twice])
    new = _write(tmp_path / 'new', NEW)
    report = merging.merge(old, new, str(tmp_path / 'out'))
    assert report.kept == 3 and ('1.jpg', 'skirt') in _read(tmp_path / 'out', 'val')
    for before, after in ((twice, twice[:1]), (OLD, twice)):
        (tmp_path / 'a').mkdir()
        old, new = _write(tmp_path / 'a/old', before), _write(tmp_path / 'a/new', after)
        with pytest.raises(ValueError, match="called '1.jpg' in train and val"):
            merging.merge(old, new, str(tmp_path / 'a/out'))
        shutil.rmtree(tmp_path / 'a')


def test_differences_are_listed(merged):
    folder, report = merged
    with (folder / merging.CONFLICTS_FILE).open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == report.conflicts
    assert [row['what'] for row in rows if row['image_id'] == 'a.jpg'] == []
    moved = [row for row in rows if row['image_id'] == 'b.jpg']
    assert [row['what'] for row in moved] == [SCHEMA.keypoints[k] for k in SKIRT]
    assert moved[0]['old'] == '2.50_2.50_1' and moved[0]['new'] == '20.50_20.50_1'
    assert moved[0]['distance_px'] == f'{18 * 2**0.5:.2f}'
    two = {(row['image_id'], row['what']): (row['old'], row['new']) for row in rows}
    assert two['two.jpg#1', 'category'] == ('skirt', 'dress')
    assert two['two.jpg#2', 'garment'] == ('blouse', 'absent')
    assert two['two.jpg#1', 'armpit_left'] == ('-1_-1_-1', '21.50_21.50_1')


def test_garments_are_known_again_whatever_a_tool_numbers_them_by(tmp_path):
    old = [('train', 'a.jpg#17', 'skirt', 1.5), ('train', 'a.jpg#1', 'skirt', 9.5)]
    new = [('train', 'a.jpg#0', 'skirt', 2.5), ('train', 'a.jpg#1', 'dress', 8.5)]
    new += [('train', 'a.jpg#2', 'skirt', 9.5)]
    old, new = _write(tmp_path / 'old', old), _write(tmp_path / 'new', new)
    merging.merge(old, new, str(tmp_path / 'out'))
    with (tmp_path / 'out' / merging.CONFLICTS_FILE).open() as file:
        rows = list(csv.DictReader(file))
    assert [(row['image_id'], row['what'], row['old'], row['new']) for row in rows] == [
        *(('a.jpg#17', SCHEMA.keypoints[k], '1.50_1.50_1', '2.50_2.50_1') for k in SKIRT),
        ('a.jpg#1', 'garment', 'absent', 'dress'),
    ]


def test_mistakes_are_told(tmp_path):
    old = _write(tmp_path / 'old', OLD)
    with pytest.raises(ValueError, match='not a directory written by convert_tfrecords'):
        merging.merge(old, str(tmp_path / 'none'), str(tmp_path / 'out'))
    with pytest.raises(ValueError, match='not an empty directory'):
        merging.merge(old, old, str(tmp_path))
    (tmp_path / 'file').write_bytes(b'thesis')
    for output in ('file', 'file/out', 'y' * 300):
        with pytest.raises((ValueError, OSError), match='file|too long'):
            merging.merge(old, old, str(tmp_path / output))
    assert (tmp_path / 'file').read_bytes() == b'thesis'
    unlabelled = _write(tmp_path / 'test', [('test_0', 't.jpg', 'skirt', 0)])
    with pytest.raises(ValueError, match='no labelled records'):
        merging.merge(old, unlabelled, str(tmp_path / 'out'))
    other = tmp_path / 'other'
    other.mkdir()
    info = {
        'dataset': 'csv',
        'schema': {
            'name': 'hats',
            'keypoints': ['a', 'b'],
            'categories': ['hat'],
            'normalizers': ['a', 'b'],
        },
        'splits': {},
    }
    (other / records.DATASET_FILE).write_text(json.dumps(info))
    with pytest.raises(ValueError, match='other keypoints.*--schema=.*old/dataset.json'):
        merging.merge(old, str(other), str(tmp_path / 'out'))


def test_records_that_cannot_be_merged_leave_nothing(tmp_path, monkeypatch):
    old, new = _write(tmp_path / 'old', OLD), _write(tmp_path / 'new', NEW)
    monkeypatch.setattr(merging, '_info', lambda *_: 1 / 0)  # when all shards are written
    with pytest.raises(ZeroDivisionError):
        merging.merge(old, new, str(tmp_path / 'out'))
    assert sorted(os.listdir(tmp_path)) == ['new', 'old']


def test_of_two_merges_at_once_the_slower_one_is_refused(tmp_path, monkeypatch):
    old, new = _write(tmp_path / 'old', OLD), _write(tmp_path / 'new', NEW)
    describe = merging._info

    def slow(*arguments):
        (tmp_path / 'out').mkdir()
        (tmp_path / 'out' / 'dataset.json').write_text('{}')
        return describe(*arguments)

    monkeypatch.setattr(merging, '_info', slow)
    with pytest.raises(ValueError, match='out is not an empty directory'):
        merging.merge(old, new, str(tmp_path / 'out'))
    assert os.listdir(tmp_path / 'out') == ['dataset.json']
    assert sorted(os.listdir(tmp_path)) == ['new', 'old', 'out']
