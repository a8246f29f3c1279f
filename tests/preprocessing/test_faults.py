"""Records that no conversion has written are named: file, record and reason, in one line."""

import os
import pathlib
import shutil

import numpy as np
import pytest
import tensorflow as tf

from config import UserError
from preprocessing import faults, records
from preprocessing.datasets.fashionai import SCHEMA
from tests.tiny_records import write_records

KEYPOINTS = 'image/keypoints'


@pytest.fixture(scope='module')
def sound(tmp_path_factory):
    """A file of three records."""
    root = tmp_path_factory.mktemp('records')
    write_records(root, {'val': {'skirt': 3}}, 16)
    (path,) = records.record_files(records.split_patterns(str(root / 'val'), 'all'))
    return path


def _float(feature, count):
    feature.float_list.value[:] = [1.0] * count


def _int(feature, values):
    feature.Clear()
    feature.int64_list.value[:] = values


def _bytes(feature, value):
    feature.Clear()
    feature.bytes_list.value[:] = [value]


# Change of the features of the second record -> what is told of it.
CHANGES = {
    '25 points': (lambda f: _float(f[KEYPOINTS], 50), 'keypoints has 50 values, not 48'),
    '23 points': (lambda f: _float(f[KEYPOINTS], 46), 'keypoints has 46 values, not 48'),
    'half a point': (lambda f: _float(f[KEYPOINTS], 47), 'keypoints has 47 values, not 48'),
    '7 visibilities': (
        lambda f: _int(f['image/visibility'], [1] * 7),
        'visibility has 7 values, not 24',
    ),
    'points of integers': (lambda f: _int(f[KEYPOINTS], [1] * 48), 'is a int64_list, not a float'),
    'unknown category': (
        lambda f: _bytes(f['image/category'], b'../../etc'),
        "is of the unknown category '../../etc'",
    ),
    'no id': (lambda f: f.pop('image/id'), 'image/id has 0 values, not 1'),
    'no text as id': (lambda f: _int(f['image/id'], [3]), 'is a int64_list, not a bytes_list'),
    'no JPEG': (lambda f: _bytes(f['image/encoded'], b'GIF'), 'cannot be decoded'),
    'not finite': (lambda f: _float(f['image/box'], 4) or _nan(f), 'not finite'),
    'no size': (lambda f: _int(f['image/height'], [0]), 'has 0 x 16 px'),
}


def _nan(features):
    features['image/box'].float_list.value[0] = np.nan


def _changed(sound, path, change):
    serialized = [r.numpy() for r in tf.data.TFRecordDataset(sound)]
    example = tf.train.Example.FromString(serialized[1])
    change(example.features.feature)
    serialized[1] = example.SerializeToString()
    with tf.io.TFRecordWriter(str(path)) as writer:
        for one in serialized:
            writer.write(one)
    return str(path)


@pytest.mark.parametrize('schema', [SCHEMA, SCHEMA.subset('skirt')], ids=['whole', 'subset'])
@pytest.mark.parametrize('kind', CHANGES)
def test_a_faulty_record_is_named_and_not_read(sound, tmp_path, kind, schema):
    change, message = CHANGES[kind]
    path = _changed(sound, tmp_path / 'x.tfrecord', change)
    dataset = records.decoded(tf.data.TFRecordDataset(path), schema)
    dataset = dataset.map(lambda e: (e, tf.io.decode_jpeg(e['encoded'], channels=3)))
    with (
        pytest.raises(UserError, match=f'x.tfrecord, record 2: .*{message}.*; copy'),
        faults.explained([path], schema),
    ):
        list(dataset)


def _cut(path):
    with path.open('r+b') as file:
        file.truncate(os.path.getsize(path) - 100)


def _flip(path):
    data = bytearray(path.read_bytes())
    data[-50] ^= 1
    path.write_bytes(data)


def _directory(path):
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize('damage', [_cut, _flip, _directory, lambda p: p.write_bytes(b'x' * 99)])
def test_a_damaged_file_is_named(sound, tmp_path, damage):
    path = tmp_path / 'x.tfrecord'
    shutil.copy(sound, path)
    damage(pathlib.Path(path))
    with (
        pytest.raises(UserError, match=r'x.tfrecord, record [13] is cut off or damaged'),
        faults.explained([str(path)], SCHEMA),
    ):
        list(records.decoded(tf.data.TFRecordDataset(str(path)), SCHEMA))


def test_sound_records_have_no_problem_and_other_errors_stay(sound):
    faults.check([sound], SCHEMA)
    faults.check([sound], SCHEMA.subset('skirt'))
    with (
        pytest.raises(tf.errors.InvalidArgumentError, match='mine'),
        faults.explained([sound], SCHEMA),
    ):
        tf.debugging.Assert(False, ['mine'])


def test_a_record_that_is_no_text_and_no_example_is_named(tmp_path):
    path = str(tmp_path / 'x.tfrecord')
    with tf.io.TFRecordWriter(path) as writer:
        writer.write(b'\n\xb1\x1b\n\x0f\n\timage/box\x12\x02\x12')
    decode = tf.function(lambda one: records.decode_example(one, SCHEMA))
    told = pytest.raises(UserError, match='x.tfrecord, record 1: it is no tf.train.Example')
    with told, faults.explained([path], SCHEMA):
        for record in tf.data.TFRecordDataset(path):
            decode(record)
