"""Records: what is written is what is read, for the whole schema and for parts of it."""

import dataclasses
import json
import os
import re
import sys

import numpy as np
import pytest
import tensorflow as tf

from config import UserError
from preprocessing import records
from preprocessing.datasets import DATASETS, Annotation
from preprocessing.schema import SIZES
from preprocessing.tables import KeypointTable
from utility.command_line import scripts
from utility.metrics import normalized_error

SCHEMA = DATASETS.get('fashionai').schema
JPEG = b'\xff\xd8 any bytes \x00\xff\xd9'


def make_annotation(category='skirt', box=None, absent=(), seed=0):
    rng = np.random.default_rng(seed)
    visibility = np.full(SCHEMA.num_keypoints, -1, np.int32)
    for k in SCHEMA.indices(category):
        visibility[k] = -1 if SCHEMA.keypoints[k] in absent else rng.integers(0, 2)
    keypoints = rng.integers(0, 512, (SCHEMA.num_keypoints, 2)).astype(np.float32) + 0.5
    keypoints[visibility < 0] = -1
    return Annotation('/p', f'Images/{category}/ä.jpg', category, keypoints, visibility, box)


def decode(annotation, schema=SCHEMA, size=(400, 512)):
    """Decode inside tf.data, where the shapes must be static."""
    serialized = records.encode_example(JPEG, annotation, size)
    dataset = tf.data.Dataset.from_tensors(serialized).map(
        lambda one: records.decode_example(one, schema)
    )
    spec = dataset.element_spec
    num_keypoints = schema.num_keypoints
    assert spec['keypoints'].shape == [num_keypoints, 2]
    assert spec['visibility'].shape == [num_keypoints]
    assert spec['image_size'].shape == [2]
    assert spec['normalizer'].shape == []
    assert spec['box'].shape == [4]
    return next(dataset.as_numpy_iterator())


@pytest.mark.parametrize('category', list(SCHEMA.categories))
@pytest.mark.parametrize('subset', [False, True])
def test_round_trip_of_every_category_whole_and_alone(category, subset):
    annotation = make_annotation(category)
    schema = SCHEMA.subset(category) if subset else SCHEMA
    decoded = decode(annotation, schema)
    rows = list(schema.record_positions)
    assert decoded['encoded'] == JPEG
    assert decoded['image_id'].decode() == annotation.image_id
    assert decoded['category'].decode() == category
    np.testing.assert_array_equal(decoded['image_size'], [400, 512])
    np.testing.assert_array_equal(decoded['keypoints'], annotation.keypoints[rows])
    np.testing.assert_array_equal(decoded['visibility'], annotation.visibility[rows])
    first, second = annotation.keypoints[list(SCHEMA.normalizer_indices(category))]
    assert decoded['normalizer'] == pytest.approx(np.hypot(*(first - second)), rel=1e-6)
    np.testing.assert_array_equal(decoded['box'], np.zeros(4))


@pytest.mark.parametrize(
    ('size', 'x', 'box', 'told'),
    [
        ((0, 512), 1.0, None, 'height 0 and width 512 px, .* not finite: 0'),
        ((400, -3), 1.0, None, 'height 400 and width -3 px'),
        ((65536, 512), 1.0, None, 'height 65536 and .* must be 1 to 65535;'),
        ((400, 2**40), 1.0, None, f'width {2**40} px'),
        ((400, 512), np.nan, None, 'height 400 and width 512 px.* not finite: 1$'),
        ((400, 512), np.inf, [0, np.nan, 9, np.inf], 'not finite: 3$'),
        ((65535, 1), 1.0, [0, 0, 9, 9], None),
    ],
)
def test_a_record_of_no_picture_or_no_points_is_named_in_one_line(
    size, x, box, told, capsys, monkeypatch
):
    annotation = make_annotation(box=None if box is None else np.float32(box))
    annotation = annotation._replace(image_id="skirt/it's[1].jpg")
    annotation.keypoints[np.flatnonzero(annotation.visibility >= 0)[0], 0] = x
    if told is None:
        assert decode(annotation, size=size)['image_size'].tolist() == list(size)
        return
    monkeypatch.setattr(sys, 'argv', ['any.py'])
    with pytest.raises(SystemExit) as stopped:
        scripts.run(lambda positional: decode(annotation, size=size), '')
    assert stopped.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(
        r"^error: faulty record skirt/it's\[1\]\.jpg of category skirt: .*" + told, line
    )


def test_box_round_trip():
    box = np.float32([1.5, 2, 300, 511])
    np.testing.assert_array_equal(decode(make_annotation(box=box))['box'], box)


def test_absent_points_are_stored_without_coordinates():
    annotation = make_annotation('trousers')
    annotation = annotation._replace(keypoints=np.full_like(annotation.keypoints, 99.5))
    decoded = decode(annotation)
    absent = decoded['visibility'] < 0
    assert absent.any() and not absent.all()
    assert (decoded['keypoints'][absent] == -1).all()
    assert (decoded['keypoints'][~absent] == 99.5).all()


@pytest.mark.parametrize('absent', ['waistband_left', 'waistband_right'])
def test_no_normalizer_where_one_of_its_points_is_absent(absent):
    assert decode(make_annotation('skirt', absent=(absent,)))['normalizer'] == 0


def test_no_normalizer_for_a_category_outside_the_schema():
    assert decode(make_annotation('skirt'), SCHEMA.subset('trousers'))['normalizer'] == 0


@pytest.mark.parametrize('kind', SIZES)
@pytest.mark.parametrize('box', [None, (10, 20, 40, 60), (10, 20, 10, 60)])
def test_lengths_of_boxes_and_pictures_are_those_of_the_metrics(kind, box):
    annotation = make_annotation('skirt', box, absent=('hemline_left',))
    schema = dataclasses.replace(SCHEMA, normalizers=dict.fromkeys(SCHEMA.categories, kind))
    table = KeypointTable(
        np.array(['x']),
        np.array(['skirt']),
        annotation.keypoints[None],
        annotation.visibility[None],
        np.array([1]),
        np.array([box or (0, 0, 0, 0)], np.float32),
        np.array([[400, 512]]),
    )
    (expected,) = normalized_error.normalizers_of(table, schema)
    assert decode(annotation, schema)['normalizer'] == pytest.approx(expected, rel=1e-5)
    points = annotation.keypoints[annotation.visibility >= 0]
    sides = (30, 40) if box and box[2] > box[0] else np.ptp(points, axis=0)
    by_hand = {
        'box_diagonal': np.hypot(*sides),
        'sqrt_box_area': np.sqrt(np.prod(sides)),
        'picture_size': np.sqrt(400 * 512),
    }
    assert expected == pytest.approx(by_hand[kind], rel=1e-5)


def test_encoding_is_deterministic():
    annotation = make_annotation()
    first, second = (records.encode_example(JPEG, annotation, (4, 5)) for _ in range(2))
    assert first == second


def write_shards(split_dir, counts):
    for category, (count, num_shards) in counts.items():
        for shard in range(num_shards):
            with records.shard_writer(
                records.shard_path(str(split_dir), category, shard, num_shards)
            ) as write:
                for _ in range(count):
                    write(records.encode_example(JPEG, make_annotation(category), (4, 5)))


def test_patterns_find_the_shards_of_their_categories(tmp_path):
    write_shards(tmp_path, {'skirt': (1, 2), 'dress': (1, 1)})

    def names(category):
        pattern = records.split_patterns(str(tmp_path), category)
        return [path.rsplit('/', 1)[1] for path in records.record_files(pattern)]

    skirts = ['skirt-00000-of-00002.tfrecord', 'skirt-00001-of-00002.tfrecord']
    assert names('skirt') == skirts
    assert names('all') == ['dress-00000-of-00001.tfrecord', *skirts]
    assert names('skirt, dress') == names('all')
    files = records.record_files(str(tmp_path / 'skirt-*'))
    assert records.record_files(files) == files


def test_a_pattern_without_files_is_an_error_that_names_what_there_is(tmp_path):
    write_shards(tmp_path, {'skirt': (1, 1)})
    with pytest.raises(ValueError, match=r'dress.*holds skirt-00000-of-00001\.tfrecord'):
        records.record_files(records.split_patterns(str(tmp_path), 'skirt,dress'))
    with pytest.raises(ValueError, match="no directory '.*absent'"):
        records.record_files(str(tmp_path / 'absent' / '*.tfrecord'))


def test_a_shard_that_fails_leaves_nothing(tmp_path):
    path = records.shard_path(str(tmp_path), 'skirt', 0, 1)
    with pytest.raises(RuntimeError), records.shard_writer(path) as write:
        write(b'one')
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_shard_replaces_the_old_one_only_when_complete(tmp_path):
    path = records.shard_path(str(tmp_path), 'skirt', 0, 1)
    (tmp_path / f'skirt-00000-of-00001.tfrecord.{os.getpid()}.partial').write_bytes(b'half')
    for content in (b'old', b'new'):
        with records.shard_writer(path) as write:
            write(content)
            assert not tf.io.gfile.exists(path) or content == b'new'
    assert [r.numpy() for r in tf.data.TFRecordDataset(path)] == [b'new']
    assert [p.name for p in tmp_path.iterdir()] == ['skirt-00000-of-00001.tfrecord']


def write_info(directory, **changes):
    info = {
        'dataset': 'fashionai',
        'schema': {'keypoints': list(SCHEMA.keypoints)},
        'splits': {'train': {'records': {'skirt': 3, 'dress': 4}}},
        **changes,
    }
    (directory / records.DATASET_FILE).write_text(json.dumps(info))


def test_count_records_by_category(tmp_path):
    write_info(tmp_path)
    train = str(tmp_path / 'train')
    assert records.count_records(train, 'all') == 7
    assert records.count_records(train + '/', 'skirt') == 3
    assert records.count_records(train, 'skirt,dress') == 7
    with pytest.raises(ValueError, match="'blouse'.*skirt, dress"):
        records.count_records(train, 'blouse')
    with pytest.raises(ValueError, match="unknown split 'val'.*train"):
        records.count_records(str(tmp_path / 'val'), 'all')


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'schema': {'keypoints': ['a']}}, 'not those'),
        ({'schema': {}}, "broken.*'keypoints'"),
        ({'splits': {'train': {}}}, 'broken'),
        ({'splits': {'train': {'records': {'skirt': 'x'}}}}, 'no integer'),
        ({'dataset': 'shoes'}, "unknown data set 'shoes'"),
    ],
)
def test_a_broken_dataset_file_is_an_error(tmp_path, changes, message):
    write_info(tmp_path, **changes)
    with pytest.raises(ValueError, match=message):
        records.load_dataset_info(str(tmp_path))


def test_a_missing_dataset_file_is_an_error(tmp_path):
    with pytest.raises(ValueError, match='not a directory written by convert_tfrecords.py'):
        records.load_dataset_info(str(tmp_path))


@pytest.mark.parametrize('name', ['rec[1]', 'rec*', 'rec?', 'rec\\1'])
def test_characters_of_patterns_in_a_directory_name_only_that_directory(tmp_path, name):
    for folder in (name, 'rec1'):
        (tmp_path / folder / 'val').mkdir(parents=True)
    write_shards(tmp_path / 'rec1' / 'val', {'skirt': (2, 1)})
    patterns = records.split_patterns(str(tmp_path / name / 'val'), 'all')
    with pytest.raises(ValueError, match='no records match'):
        records.record_files(patterns)
    write_shards(tmp_path / name / 'val', {'skirt': (1, 1)})
    (path,) = records.record_files(patterns)
    assert path == str(tmp_path / name / 'val' / 'skirt-00000-of-00001.tfrecord')


@pytest.mark.parametrize(
    'change',
    [
        {'splits': {'train': {'records': {'../../etc': 1}}}},
        {'splits': {'..': {'records': {'skirt': 1}}}},
        {'splits': {'train': {'records': {'skirt': -1}}}},
        {'splits': {'train': {'records': {'skirt': True}}}},
        {'splits': {'train': {'records': {'skirt': 10**30}}}},
        {'splits': {'train': {'records': {'skirt': 1}, 'shards': {'skirt': 'x'}}}},
        {'splits': {'train': {'records': {'skirt': 1}, 'shards': {'skirt': 10**12}}}},
        {'splits': {'train': []}},
        {'splits': 3},
        {'dataset': ['fashionai']},
        {'schema': {'keypoints': 7}},
    ],
)
def test_a_dataset_json_that_is_none_is_told_in_a_sentence(tmp_path, change):
    info = {'dataset': 'fashionai', 'schema': {'keypoints': SCHEMA.keypoints}, 'splits': {}}
    (tmp_path / 'dataset.json').write_text(json.dumps({**info, **change}))
    with pytest.raises(UserError, match='dataset.json is broken'):
        records.load_dataset_info(str(tmp_path))


@pytest.mark.parametrize('content', [b'\xff\xfe', b'[' * 100_000, b'{"a":' * 100_000, b'', b'[]'])
def test_a_dataset_json_that_is_no_json_is_told_in_a_sentence(tmp_path, content):
    (tmp_path / 'dataset.json').write_bytes(content)
    with pytest.raises(UserError, match='dataset.json is broken'):
        records.load_dataset_info(str(tmp_path))
