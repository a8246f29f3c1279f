"""Conversion: what ends in which file, whatever the order, the processes and the accidents."""

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import convert_tfrecords
from preprocessing import make_input_fn, records
from preprocessing.conversion import convert as conversion
from preprocessing.conversion import corrections, integrity
from preprocessing.datasets.fashionai import SCHEMA
from tests import commands

CATEGORIES = ('blouse', 'skirt')
NUM_PICTURES = 40  # per category of the labelled split
NUM_TEST_PICTURES = 6


def make_jpeg(seed, mode='RGB', file_format='JPEG', **options):
    """Return a picture of 20 x 16 px, another one for each seed."""
    colors = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), np.uint8)
    buffer = io.BytesIO()
    image = Image.fromarray(np.kron(colors, np.ones((4, 4, 1), np.uint8))).convert(mode)
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def cells(category, seed):
    """Return points inside the picture; of every third picture the first one lies outside."""
    rng = np.random.default_rng(seed)
    own = SCHEMA.indices(category)
    texts = ['-1_-1_-1'] * SCHEMA.num_keypoints
    for k in own:
        texts[k] = f'{rng.integers(20)}_{rng.integers(16)}_{rng.integers(2)}'
    if seed % 3 == 0:
        texts[own[0]] = '20_3_1'
    return texts


class Data:
    """A small data set on disk: pictures {split/image_id: bytes} and the rows of the tables."""

    def __init__(self, directory):
        self.directory = directory
        self.rows = {'train_0': [], 'test_0': []}
        seed = 0
        for split, count in (('train_0', NUM_PICTURES), ('test_0', NUM_TEST_PICTURES)):
            for category in CATEGORIES:
                for number in range(count):
                    seed += 1
                    self.add(split, f'Images/{category}/{number}.jpg', category, make_jpeg(seed))

    def add(self, split, image_id, category, data):
        if data is not None:
            path = self.directory / split / image_id
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        points = [] if split.startswith('test') else cells(category, len(self.rows[split]))
        self.rows[split].append([image_id, category, *points])

    def write_tables(self):
        header = ['image_id', 'image_category', *SCHEMA.keypoints]
        for split, rows in self.rows.items():
            name = 'test.csv' if split.startswith('test') else 'Annotations/annotations.csv'
            path = self.directory / split / name
            path.parent.mkdir(exist_ok=True)
            with path.open('w', newline='') as file:
                csv.writer(file).writerows([header[: len(rows[0])], *rows])
        return self.directory


@pytest.fixture
def data(tmp_path):
    return Data(tmp_path / 'data')


def convert(data_dir, records_dir, **changes):
    options = {'val_fraction': 0.25, **changes}
    settings = conversion.Settings(str(data_dir), str(records_dir), **options)
    return conversion.convert(settings, lambda items, total, label: items)


def read(records_dir, split, category='all'):
    """Return the records in the order of the files, decoded."""
    pattern = records.split_patterns(str(Path(records_dir) / split), category)
    dataset = tf.data.TFRecordDataset(records.record_files(pattern))
    dataset = dataset.map(lambda one: records.decode_example(one, SCHEMA))
    return list(dataset.as_numpy_iterator())


def ids(decoded):
    return [one['image_id'].decode() for one in decoded]


def tree(directory):
    """Return the path below the directory -> content, of every file."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(Path(directory).rglob('*'))
        if path.is_file()
    }


def test_pictures_that_are_stored_smaller_are_seen_and_scored_in_original_pixels(data, tmp_path):
    directory = data.write_tables()
    infos = [
        convert(directory, tmp_path / name, max_side=max_side)
        for name, max_side in (('whole', None), ('small', 10), ('large', 20))
    ]
    assert [info['settings']['max_side'] for info in infos] == [None, 10, 20]
    assert [info['encoded_anew'] for info in infos] == [{}, {'size': 2 * (40 + 6)}, {}]
    ops = 'rotate(20)|letterbox(40,50)|warp(fill=128)'
    whole, small, large = (
        next(iter(make_input_fn(pattern, SCHEMA, ops, 200, training=False)()))
        for name in ('whole', 'small', 'large')
        for pattern in [records.split_patterns(str(tmp_path / name / 'val'), 'all')]
    )
    pictures = []
    for (features, labels), (others, other_labels) in ((whole, small), (whole, large)):
        pictures.append((features['image'].numpy().astype(int), others['image'].numpy()))
        for name in ('image_id', 'image_size', 'to_crop'):
            np.testing.assert_array_equal(features[name], others[name])
        tf.nest.map_structure(np.testing.assert_array_equal, labels, other_labels)
    assert len(pictures[0][0]) > 10
    # Fields of 4 x 4 px in one color are fields of 2 x 2 px then, and as bright.
    errors = [(own - other)[:, 10:-10, 10:-10] for own, other in pictures]
    assert np.abs(errors[0].mean(axis=(1, 2))).max() < 6 < np.abs(errors[0]).mean() < 25
    assert not errors[1].any()


def rejected(records_dir):
    with (Path(records_dir) / 'rejected.csv').open(newline='') as file:
        header, *rows = csv.reader(file)
    assert header == ['image_id', 'reason']
    return dict(rows)


def test_every_picture_is_in_one_record_with_its_bytes_and_points(data, tmp_path):
    data_dir, out = data.write_tables(), tmp_path / 'out'
    info = convert(data_dir, out)
    train, val, test = (read(out, split) for split in ('train', 'val', 'test_0'))
    assert sorted(ids(train) + ids(val)) == sorted(row[0] for row in data.rows['train_0'])
    assert sorted(ids(test)) == sorted(row[0] for row in data.rows['test_0'])
    assert len(val) in range(8, 33)  # of 80, with a fraction of 0.25
    rows = {row[0]: row for row in data.rows['train_0']}
    for one in train + val:
        image_id, category, *points = rows[one['image_id'].decode()]
        assert one['encoded'] == (data_dir / 'train_0' / image_id).read_bytes()
        assert one['category'].decode() == category
        np.testing.assert_array_equal(one['image_size'], [16, 20])
        x, y, visibility = np.array([list(map(int, cell.split('_'))) for cell in points]).T
        np.testing.assert_array_equal(one['visibility'], visibility)
        expected = np.where(visibility[:, None] < 0, -1, np.stack([x, y], axis=-1) + 0.5)
        np.testing.assert_array_equal(one['keypoints'], expected)
    for one in test:
        assert one['encoded'] == (data_dir / 'test_0' / one['image_id'].decode()).read_bytes()
        assert (one['visibility'] == -1).all()
    assert records.load_dataset_info(str(out)) == json.loads(json.dumps(info))


def test_dataset_json_counts_what_is_there(data, tmp_path):
    data.add('train_0', 'Images/skirt/missing.jpg', 'skirt', None)
    info = convert(data.write_tables(), tmp_path / 'out')
    for split in ('train', 'val', 'test_0'):
        for category in SCHEMA.categories:
            count = info['splits'][split]['records'][category]
            assert count == records.count_records(str(tmp_path / 'out' / split), category)
            if count:
                assert count == len(read(tmp_path / 'out', split, category))
            files = sorted((tmp_path / 'out' / split).glob(f'{category}-*'))
            assert info['splits'][split]['bytes'][category] == [f.stat().st_size for f in files]
    labelled = read(tmp_path / 'out', 'train') + read(tmp_path / 'out', 'val')
    own = [one['visibility'][list(SCHEMA.indices(one['category'].decode()))] for one in labelled]
    points = [info['splits'][split]['points'] for split in ('train', 'val')]
    totals = {name: sum(one[name] for one in points) for name in points[0]}
    assert totals == {
        'visible': sum((one == 1).sum() for one in own),
        'occluded': sum((one == 0).sum() for one in own),
        'absent': 0,
        'outside_picture': len(range(0, 2 * NUM_PICTURES, 3)),
    }
    assert 'points' not in info['splits']['test_0']
    assert info['rejected'] == info['sources']['train_0']['rejected'] == 1
    assert info['sources']['train_0']['used'] == 2 * NUM_PICTURES
    assert list(info['sources']['test_0']['files']) == ['test_0/test.csv']


def test_the_order_of_the_table_does_not_matter(data, tmp_path):
    data_dir = data.write_tables()
    convert(data_dir, tmp_path / 'out')
    data.rows['train_0'].reverse()
    convert(data.write_tables(), tmp_path / 'reversed')
    first, second = tree(tmp_path / 'out'), tree(tmp_path / 'reversed')
    del first['dataset.json'], second['dataset.json']  # it holds a hash of the table
    assert first == second


def test_the_fingerprint_of_a_split_tells_its_pictures_and_annotations(data, tmp_path):
    def prints(name, **settings):
        info = convert(data.write_tables(), tmp_path / name, **settings)
        return {split: info['splits'][split]['fingerprints'] for split in ('train', 'val')}

    first = prints('first', folds=2, fold=0)
    assert prints('again', folds=2, fold=0, num_shards=3) == first
    other = prints('other', folds=2, fold=1)
    assert other == {'train': first['val'], 'val': first['train']}
    row = data.rows['train_0'][0]
    moved = next(i for i, cell in enumerate(row) if cell.endswith('_1') and '-1' not in cell)
    row[moved] = '3_3_1'
    assert prints('moved', folds=2, fold=0) != first


def test_records_are_mixed(data, tmp_path):
    convert(data.write_tables(), tmp_path / 'out', val_fraction=0.0)
    order = ids(read(tmp_path / 'out', 'train', 'skirt'))
    numbers = [int(image_id.split('/')[-1][:-4]) for image_id in order]
    assert sorted(numbers) == list(range(NUM_PICTURES))
    assert abs(np.corrcoef(numbers, range(NUM_PICTURES))[0, 1]) < 0.5


def test_any_number_of_processes_writes_the_same(data, tmp_path, monkeypatch):
    num_shards = 3
    data.add('train_0', 'Images/skirt/bad.jpg', 'skirt', b'bad')
    data.add('train_0', 'Images/skirt/gray.jpg', 'skirt', make_jpeg(1000, 'L'))
    data_dir = data.write_tables()
    convert(data_dir, tmp_path / 'one', num_shards=num_shards)
    monkeypatch.setattr(conversion, 'PICTURES_PER_WORKER', 1)
    convert(data_dir, tmp_path / 'two', num_shards=num_shards, num_workers=2)
    assert tree(tmp_path / 'one') == tree(tmp_path / 'two')
    names = [name for name in tree(tmp_path / 'one') if name.startswith('train/skirt')]
    assert names == [f'train/skirt-{n:05d}-of-{num_shards:05d}.tfrecord' for n in range(num_shards)]


def test_shards_are_balanced(data, tmp_path):
    convert(data.write_tables(), tmp_path / 'out', num_shards=3, val_fraction=0.0)
    for path in (tmp_path / 'out' / 'train').glob('skirt-*'):
        assert len(list(tf.data.TFRecordDataset(str(path)))) in (13, 14)  # of 40
    assert len(list((tmp_path / 'out' / 'test_0').iterdir())) == 2 * 3


def test_identical_pictures_fall_on_the_same_side_and_are_counted(data, tmp_path):
    for number in range(NUM_PICTURES):
        copy = (data.directory / f'train_0/Images/skirt/{number}.jpg').read_bytes()
        data.add('train_0', f'Images/skirt/copy_{number}.jpg', 'skirt', copy)
    data.add('test_0', 'Images/skirt/copy.jpg', 'skirt', copy)
    info = convert(data.write_tables(), tmp_path / 'out', val_fraction=0.5)
    sides = [{one['encoded'] for one in read(tmp_path / 'out', side)} for side in ('train', 'val')]
    assert sides[0] and sides[1] and not sides[0] & sides[1]
    assert info['duplicates'] == {
        'groups': NUM_PICTURES,
        'pictures': 2 * NUM_PICTURES + 1,
        'labelled_pictures_also_in_a_test_split': 2,
    }


def test_two_pictures_of_one_id_are_two_records_with_ids_of_their_own(data, tmp_path):
    shutil.copytree(data.directory / 'train_0', data.directory / 'train_1')
    data.rows['train_1'] = data.rows['train_0']
    convert(data.write_tables(), tmp_path / 'out')
    found = [one for side in ('train', 'val') for one in ids(read(tmp_path / 'out', side))]
    assert len(found) == len(set(found)) == 4 * NUM_PICTURES
    assert {one.removeprefix('train_1/') for one in found} == {
        row[0] for row in data.rows['train_0']
    }
    integrity.check_split(str(tmp_path / 'out' / 'train'), 'all')


def test_a_larger_fraction_only_adds_to_validation(data, tmp_path):
    data_dir = data.write_tables()
    sides = []
    for fraction in (0.2, 0.6):
        convert(data_dir, tmp_path / str(fraction), val_fraction=fraction)
        sides.append(set(ids(read(tmp_path / str(fraction), 'val'))))
    assert sides[0] < sides[1]


def test_folds_share_out_the_pictures_and_never_part_equal_ones(data, tmp_path):
    for number in range(NUM_PICTURES):
        copy = (data.directory / f'train_0/Images/skirt/{number}.jpg').read_bytes()
        data.add('train_0', f'Images/blouse/copy_{number}.jpg', 'blouse', copy)
    data_dir = data.write_tables()
    held_out, all_ids = [], sorted(row[0] for row in data.rows['train_0'])
    for fold in range(3):
        info = convert(data_dir, tmp_path / str(fold), folds=3, fold=fold)
        train, val = (read(tmp_path / str(fold), split) for split in ('train', 'val'))
        assert sorted(ids(train) + ids(val)) == all_ids
        assert not {one['encoded'] for one in train} & {one['encoded'] for one in val}
        assert 20 <= len(val) <= 60  # of 120
        held_out += ids(val)
        settings = info['settings']
        assert (settings['folds'], settings['fold'], settings['val_fraction']) == (3, fold, None)
    assert sorted(held_out) == all_ids


def test_the_first_fold_is_what_its_share_would_be(data, tmp_path):
    data_dir = data.write_tables()
    convert(data_dir, tmp_path / 'fold', folds=5, fold=0)
    convert(data_dir, tmp_path / 'share', val_fraction=0.2)
    assert ids(read(tmp_path / 'fold', 'val')) == ids(read(tmp_path / 'share', 'val'))


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'max_side': 7}, 'max_side=7: must be at least 8'),
        ({'folds': 5}, 'folds=5, fold=None: must be given together'),
        ({'fold': 0}, 'folds=None, fold=0: must be given together'),
        ({'folds': 1, 'fold': 0}, 'folds=1: must be in 2 .. 100'),
        ({'folds': 5, 'fold': 5}, 'fold=5: must be in 0 .. 4'),
        ({'folds': 5, 'fold': -1}, 'fold=-1: must be in 0 .. 4'),
    ],
)
def test_folds_out_of_range_are_errors(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        convert(tmp_path, tmp_path / 'out', **options)


def write_corrections(path, row, moved):
    """Return a correction of the first point of a row of the table, by (x, y)."""
    k = SCHEMA.indices(row[1])[0]
    x, y, visibility = map(int, row[2 + k].split('_'))
    before, after = (x, y, visibility), (x + moved[0], y + moved[1], visibility)
    correction = corrections.Correction(2, row[0], SCHEMA.keypoints[k], before, after, 'place')
    corrections.write_corrections(path, [correction])
    return k, np.add(after[:2], 0.5)


def test_corrections_reach_the_records_and_dataset_json_and_no_other_file(data, tmp_path):
    data_dir = data.write_tables()
    sources = tree(data_dir)
    path = tmp_path / 'corrections.csv'
    k, place = write_corrections(path, data.rows['train_0'][7], (3, 2))
    plain = convert(data_dir, tmp_path / 'plain')
    info = convert(data_dir, tmp_path / 'out', corrections=str(path))
    assert tree(data_dir) == sources
    assert plain['corrections'] is None
    assert info['corrections'].pop('sha256')
    assert info['corrections'] == {
        'file': 'corrections.csv',
        'points': 1,
        'pictures': 1,
        'kinds': {'place': 1},
    }
    for split in ('train', 'val', 'test_0'):
        pairs = list(zip(read(tmp_path / 'plain', split), read(tmp_path / 'out', split)))
        assert pairs
        for before, after in pairs:
            assert before['image_id'] == after['image_id']
            expected = before['keypoints'].copy()
            if before['image_id'].decode() == data.rows['train_0'][7][0]:
                expected[k] = place
            np.testing.assert_array_equal(after['keypoints'], expected)
    # What was corrected is not what the correction was made for any longer.
    write_corrections(path, data.rows['train_0'][7], (0, 0))
    data.rows['train_0'][7][2 + k] = '1_1_1'
    with pytest.raises(ValueError, match='csv, line 2: .* is 1_1_1, not .* is stale'):
        convert(data.write_tables(), tmp_path / 'other', corrections=str(path))


def test_bad_pictures_are_normalized_or_rejected(data, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    fine = make_jpeg(1)
    cases = {
        'gray': make_jpeg(101, 'L'),
        'cmyk': make_jpeg(102, 'CMYK'),
        'png': make_jpeg(103, file_format='PNG'),
        'turned': make_jpeg(104, exif=exif),
        'empty': b'',
        'cut': fine[: len(fine) // 2],
        'text': b'<html>404</html>',
        'missing': None,
    }
    for name, content in cases.items():
        data.add('train_0', f'Images/skirt/{name}.jpg', 'skirt', content)
    info = convert(data.write_tables(), tmp_path / 'out')
    reasons = {name.split('/')[-1][:-4]: why for name, why in rejected(tmp_path / 'out').items()}
    assert set(reasons) == {'empty', 'cut', 'text', 'missing'}
    assert 'empty' in reasons['empty'] and 'truncated' in reasons['cut'].lower()
    assert 'not a picture' in reasons['text'] and 'no file' in reasons['missing']
    assert info['encoded_anew'] == {'cmyk': 1, 'format': 1, 'grayscale': 1, 'orientation': 1}
    decoded = read(tmp_path / 'out', 'train', 'skirt') + read(tmp_path / 'out', 'val', 'skirt')
    by_name = {one['image_id'].decode().split('/')[-1][:-4]: one for one in decoded}
    for name in ('gray', 'cmyk', 'png', 'turned'):
        with Image.open(io.BytesIO(by_name[name]['encoded'])) as image:
            assert (image.format, image.mode) == ('JPEG', 'RGB')
            assert list(by_name[name]['image_size']) == [image.height, image.width]
    # Points belong to the upright picture: the size is turned, they are not.
    assert list(by_name['turned']['image_size']) == [20, 16]
    row = next(row for row in data.rows['train_0'] if row[0].endswith('turned.jpg'))
    own = SCHEMA.indices('skirt')
    expected = [[float(v) + 0.5 for v in row[2 + k].split('_')[:2]] for k in own]
    np.testing.assert_array_equal(by_name['turned']['keypoints'][list(own)], expected)


def test_a_bad_picture_can_end_the_conversion(data, tmp_path):
    data.add('train_0', 'Images/skirt/bad.jpg', 'skirt', b'bad')
    with pytest.raises(ValueError, match=r'train_0, Images/skirt/bad\.jpg: not a picture'):
        convert(data.write_tables(), tmp_path / 'out', skip_bad_images=False)
    assert tree(tmp_path / 'out') == {}


def test_a_split_without_a_single_picture_is_an_error(data, tmp_path):
    shutil.rmtree(data.directory / 'test_0' / 'Images')
    (data.directory / 'test_0' / 'Images').mkdir()
    with pytest.raises(ValueError, match=r'no picture of .*test\.csv can be used; .*no file'):
        convert(data.write_tables(), tmp_path / 'out')


@pytest.mark.parametrize(
    ('val_fraction', 'splits', 'is_drawn'),
    [(0.1, ['train'], True), (0.1, ['train', 'val2017'], False), (None, ['train'], False)],
)
def test_a_larger_fraction_is_advised_where_it_helps(val_fraction, splits, is_drawn):
    """Not where folds, or a split of the data, are for validation."""
    parts = {'train': {'records': {'hat': 2, 'cap': 1}}, 'val': {'records': {'hat': 1, 'cap': 0}}}
    info = {
        'schema': {'categories': ['hat', 'cap']},
        'settings': {'val_fraction': val_fraction, 'splits': splits},
        'splits': parts,
        'duplicates': {'groups': 0},
        **dict.fromkeys(('encoded_anew', 'corrections'), {}),
        **dict.fromkeys(('rejected', 'warnings'), ()),
    }
    text = convert_tfrecords._summary(info)
    assert 'val has no cap' in text
    assert ('a larger --val_fraction' in text) == is_drawn


def test_a_run_after_an_interruption_gives_the_same_and_leaves_nothing_else(
    data, tmp_path, monkeypatch
):
    data_dir, out = data.write_tables(), tmp_path / 'out'
    convert(data_dir, tmp_path / 'expected')
    convert(data_dir, out, num_shards=4)  # of other settings, to be replaced
    written = []

    def write_two_shards(shard):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(shard.path)
        return write_shard(shard)

    write_shard = conversion._write_shard
    monkeypatch.setattr(conversion, '_write_shard', write_two_shards)
    with pytest.raises(KeyboardInterrupt):
        convert(data_dir, out)
    assert not (out / 'dataset.json').exists()
    monkeypatch.undo()
    for name in ('train/skirt-00000-of-00001', 'val/skirt-00003-of-00007'):  # as after kill -9
        (out / f'{name}.tfrecord.123.partial').write_bytes(b'half')
    (out / 'dataset.json.123.partial').write_bytes(b'half')
    convert(data_dir, out)
    assert tree(out) == tree(tmp_path / 'expected')


def test_records_of_other_splits_are_not_mixed_in(data, tmp_path):
    data_dir, out = data.write_tables(), tmp_path / 'out'
    convert(data_dir, out, splits=('test_0',))
    assert sorted(path.name for path in out.iterdir()) == ['dataset.json', 'rejected.csv', 'test_0']
    with pytest.raises(ValueError, match="holds records of 'test_0'"):
        convert(data_dir, out, splits=('train_0',))
    convert(data_dir, out)
    assert set(records.load_dataset_info(str(out))['splits']) == {'train', 'val', 'test_0'}


def test_a_split_that_is_a_link_to_other_records_is_not_written(data, tmp_path):
    data_dir = data.write_tables()
    convert(data_dir, tmp_path / 'other')
    shards = {path: path.read_bytes() for path in (tmp_path / 'other' / 'train').iterdir()}
    (tmp_path / 'records').mkdir()
    (tmp_path / 'records' / 'train').symlink_to(tmp_path / 'other' / 'train')
    with pytest.raises(ValueError, match='records/train is a symbolic link'):
        convert(data_dir, tmp_path / 'records', num_shards=3)
    assert {path: path.read_bytes() for path in shards} == shards


def test_a_file_in_place_of_the_output_is_an_error(data, tmp_path):
    (tmp_path / 'out').write_bytes(b'')
    with pytest.raises(ValueError, match=r"records_dir='.*out' is a file"):
        convert(data.write_tables(), tmp_path / 'out')


def test_an_unknown_split_is_an_error_that_names_those_there_are(data, tmp_path):
    with pytest.raises(ValueError, match="unknown split 'train_1'.*there are: test_0, train_0"):
        convert(data.write_tables(), tmp_path / 'out', splits=('train_0', 'train_1'))


@pytest.mark.parametrize(
    ('option', 'value'), [('val_fraction', 1.0), ('num_shards', 0), ('num_workers', 0)]
)
def test_settings_out_of_range_are_errors(tmp_path, option, value):
    with pytest.raises(ValueError, match=f'{option}={value}: must be'):
        convert(tmp_path, tmp_path / 'out', **{option: value})


def run_script(*flags):
    return commands.run('convert_tfrecords.py', *flags)


def test_the_command(data, tmp_path):
    data.add('train_0', 'Images/skirt/bad.jpg', 'skirt', b'bad')
    data_dir = data.write_tables()
    done = run_script(f'--data_dir={data_dir}', '--val_fraction=0.25')
    assert done.returncode == 0, done.stderr
    assert f'records: {data_dir}/tfrecords' in done.stdout
    assert '1 pictures cannot be used' in done.stdout
    assert f'checking pictures: {len(data.rows["train_0"]) + 12}/' in done.stderr
    convert(data_dir, tmp_path / 'out')
    assert tree(data_dir / 'tfrecords') == tree(tmp_path / 'out')
    failed = run_script(
        f'--data_dir={data_dir}', f'--records_dir={tmp_path}/x', '--on_bad_image=fail'
    )
    assert failed.returncode == 2
    last_line = failed.stderr.splitlines()[-1]
    assert last_line == (
        'error: train_0, Images/skirt/bad.jpg: not a picture in one of the formats'
        ' JPEG, PNG, BMP, GIF, TIFF, WEBP'
    )
    assert 'Traceback' not in failed.stderr


def test_of_two_conversions_at_once_one_is_told_and_the_other_is_undisturbed(data, tmp_path):
    data_dir = data.write_tables()
    words = [f'--data_dir={data_dir}', f'--records_dir={tmp_path}/out', '--num_workers=1']
    stopped = commands.signalled('preprocessing.records.encode_example', 5, signal.SIGSTOP)
    script = str(commands.ROOT / 'convert_tfrecords.py')
    first = subprocess.Popen(
        [sys.executable, *stopped, script, *words, '--val_fraction=0.25'],
        cwd=commands.ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert os.WIFSTOPPED(os.waitpid(first.pid, os.WUNTRACED)[1])  # within a shard
        second = run_script(*words, '--val_fraction=0.5')
        assert second.returncode == 2
        assert f"another process is writing into '{tmp_path}/out'" in second.stderr
    finally:
        first.send_signal(signal.SIGCONT)
    assert first.wait(timeout=400) == 0
    convert(data_dir, tmp_path / 'alone')
    assert tree(tmp_path / 'out') == tree(tmp_path / 'alone')


@pytest.mark.parametrize(
    ('flag', 'message'),
    [
        ('--splits=train_9', "unknown split 'train_9'"),
        ('--on_bad_image=maybe', 'skip|fail'),
        ('--folds=5', 'folds=5, fold=None: must be given together'),
        ('--corrections=no.csv', 'no.csv'),
    ],
)
def test_mistakes_of_the_user_are_one_line(data, flag, message):
    done = commands.call('convert_tfrecords.py', f'--data_dir={data.write_tables()}', flag)
    commands.check_mistake(done, message)


def test_folds_and_a_share_for_validation_exclude_each_other(data):
    flags = ('--folds=5', '--fold=0', '--val_fraction=0.1')
    done = commands.call('convert_tfrecords.py', f'--data_dir={data.write_tables()}', *flags)
    assert done.returncode == 2
    assert done.stderr == 'error: give either --val_fraction or --folds and --fold\n'
