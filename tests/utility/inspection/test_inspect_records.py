"""Inspection: numbers against NumPy, faults of the records, and what the sheets show."""

import io
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import convert_tfrecords
from preprocessing import records, schema_files
from preprocessing.datasets import Annotation
from preprocessing.datasets.fashionai import SCHEMA
from tests import commands
from utility.inspection import inspect_records
from utility.visualization import draw

COUNTS = {
    'train': {'blouse': 5, 'dress': 0, 'outwear': 0, 'skirt': 7, 'trousers': 0},
    'test_0': {'blouse': 0, 'dress': 0, 'outwear': 0, 'skirt': 2, 'trousers': 0},
}
NUM_RECORDS = 14
SIZES = [(40, 30), (24, 48), (40, 30)]  # (height, width), one after the other
OPS = 'flip|rotate(20)|letterbox(48,48)|warp|color'
EVAL_OPS = 'letterbox(48,48)|warp'


def make_record(category, number, labelled):
    """Return (serialized record, annotation, picture [H, W, 3], size)."""
    rng = np.random.default_rng([number, len(category)])
    size = SIZES[number % len(SIZES)]
    pixels = rng.integers(0, 256, (size[0] // 8 + 1, size[1] // 8 + 1, 3), np.uint8)
    pixels = np.kron(pixels, np.ones((8, 8, 1), np.uint8))[: size[0], : size[1]]
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, 'JPEG')
    visibility = np.full(SCHEMA.num_keypoints, -1, np.int32)
    if labelled:
        own = list(SCHEMA.indices(category))
        visibility[own] = rng.integers(-1, 2, len(own))
    points = rng.uniform(0, 1.1, (SCHEMA.num_keypoints, 2)) * size[::-1]  # some are outside
    annotation = Annotation(
        '', f'{category}/{number}.jpg', category, points.astype(np.float32), visibility
    )
    image = np.asarray(Image.open(buffer))
    return records.encode_example(buffer.getvalue(), annotation, size), annotation, image, size


class Records:
    """A small records directory, in two shards of blouses, and what is in it."""

    def __init__(self, directory):
        self.directory = directory
        self.made = []  # (split, serialized, annotation, image, size)
        splits = {}
        for split, counts in COUNTS.items():
            labelled = split == 'train'
            for category, count in counts.items():
                made = [make_record(category, number, labelled) for number in range(count)]
                self.made += [(split, *one) for one in made]
                shards = min(2, count) if category == 'blouse' else min(1, count)
                for shard in range(shards):
                    self.write(split, category, shard, shards, [m[0] for m in made[shard::shards]])
            splits[split] = {'labelled': labelled, 'records': counts}
        info = {
            'dataset': 'fashionai',
            'schema': schema_files.describe(SCHEMA),
            'splits': splits,
        }
        (directory / 'dataset.json').write_text(json.dumps(info))

    def write(self, split, category, shard, num_shards, serialized):
        (self.directory / split).mkdir(parents=True, exist_ok=True)
        path = records.shard_path(str(self.directory / split), category, shard, num_shards)
        with records.shard_writer(path) as write:
            for one in serialized:
                write(one)


@pytest.fixture
def made(tmp_path):
    return Records(tmp_path / 'records')


def run(directory, output_dir, **changes):
    values = {'train_ops': EVAL_OPS, 'eval_ops': EVAL_OPS, **changes}
    settings = inspect_records.Settings(str(directory), str(output_dir), **values)
    return inspect_records.inspect(settings, lambda items, total, label: items)


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    """Faultless records, and what is said of them."""
    directory = tmp_path_factory.mktemp('whole')
    made = Records(directory / 'records')
    return made, run(made.directory, directory / 'out')


def tree(directory):
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(Path(directory).rglob('*'))
        if path.is_file()
    }


def test_counts_are_those_of_the_records(whole):
    made, report = whole
    assert report['records'] == COUNTS
    assert report['differences'] == []
    lengths = [len(m[1]) for m in made.made if m[0] == 'train']
    expected = np.percentile(lengths, [10, 50, 90])
    found = report['record_lengths']['train']
    assert found['count'] == len(lengths)
    np.testing.assert_allclose([found[n] for n in ('p10', 'median', 'p90')], expected, atol=0.01)


def test_points_are_counted_by_visibility_and_place(whole):
    made, report = whole
    points = report['points']
    assert list(points) == ['blouse', 'skirt']
    for category, named in points.items():
        members = [m for m in made.made if m[0] == 'train' and m[2].category == category]
        assert list(named) == [SCHEMA.keypoints[k] for k in SCHEMA.indices(category)]
        for k in SCHEMA.indices(category):
            seen = [m[2].visibility[k] for m in members]
            outside = [
                (m[2].keypoints[k] > m[4][::-1]).any() and m[2].visibility[k] >= 0 for m in members
            ]
            assert named[SCHEMA.keypoints[k]] == {
                'visible': seen.count(1),
                'occluded': seen.count(0),
                'absent': seen.count(-1),
                'outside_picture': sum(outside),
            }
    assert sum(state['outside_picture'] for n in points.values() for state in n.values())


def test_normalizers_of_labelled_records(whole):
    made, report = whole
    found = report['normalizers']
    for category, count in (('blouse', 5), ('skirt', 7)):
        pair = list(SCHEMA.normalizer_indices(category))
        members = [m[2] for m in made.made if m[0] == 'train' and m[2].category == category]
        known = [m.keypoints[pair] for m in members if (m.visibility[pair] >= 0).all()]
        distances = [np.hypot(*(first - second)) for first, second in known]
        assert found[category]['none'] == count - len(known) > 0
        assert found[category]['count'] == len(known) > 0
        assert found[category]['median'] == pytest.approx(np.median(distances), abs=0.01)


def test_sizes(whole):
    sizes = whole[1]['sizes']
    assert sizes['different'] == 2
    # Of each five, seven and two records every third is 24 px high, from the second on.
    assert sizes['most_frequent'] == {'40 x 30': {'pictures': 9}, '24 x 48': {'pictures': 5}}
    assert sizes['sides']['height'] == {'min': 24, 'max': 40, 'share_of_512': 0.0}
    assert sizes['sides']['width'] == {'min': 30, 'max': 48, 'share_of_512': 0.0}
    assert sizes['sides']['longest_side'] == {'min': 40, 'max': 48, 'share_of_512': 0.0}


def test_share_of_the_usual_side_counts_pictures():
    sides = inspect_records.describe_sizes({(512, 300): 3, (512, 512): 2, (100, 90): 5})['sides']
    shares = {name: side['share_of_512'] for name, side in sides.items()}
    assert shares == {'height': 0.5, 'width': 0.2, 'longest_side': 0.5}


def test_channels_are_means_over_pictures(whole):
    made, report = whole
    channels = report['channels']
    images = [m[3].astype(np.float64) for m in made.made]
    for name, function in (('mean', np.mean), ('std', np.std)):
        expected = np.mean([function(image, axis=(0, 1)) for image in images], axis=0)
        found = [channels[name][channel] for channel in ('red', 'green', 'blue')]
        np.testing.assert_allclose(found, expected, atol=0.02)
        assert channels[name]['pictures'] == NUM_RECORDS


def test_channels_of_a_sample_only(made, tmp_path):
    channels = run(made.directory, tmp_path / 'out', num_images=3)['channels']
    # In the order of the files; of 14 records the last of each third: 4, 9 and 13.
    order = []
    for category, shards in (('blouse', 2), ('skirt', 1)):
        train = [m for m in made.made if m[0] == 'train' and m[2].category == category]
        order += [m for shard in range(shards) for m in train[shard::shards]]
    order += [m for m in made.made if m[0] == 'test_0']
    images = [order[index][3].astype(np.float64) for index in (4, 9, 13)]
    expected = np.mean([image.mean(axis=(0, 1)) for image in images], axis=0)
    assert channels['mean'].pop('pictures') == 3
    np.testing.assert_allclose(list(channels['mean'].values()), expected, atol=0.02)


@given(st.integers(1, 300), st.integers(0, 300))
def test_samples_have_their_size_and_equal_distances(size, total):
    chosen = inspect_records.is_sampled(tf.range(400, dtype=tf.int64), size, total).numpy()
    (places,) = np.nonzero(chosen)
    assert len(places) == min(size, total)
    assert (places < total).all()
    assert len(places) < 2 or np.ptp(np.diff(places)) <= 1


def test_a_file_too_few_and_records_that_dataset_json_does_not_know_are_told(made, tmp_path):
    (made.directory / 'train/blouse-00001-of-00002.tfrecord').unlink()
    made.write('spare', 'skirt', 0, 1, [made.made[0][1]])  # a blouse, too
    report = run(made.directory, tmp_path / 'out')
    told = ['train, blouse: 3 instead of 5', 'spare, blouse: 1 instead of 0']
    assert sorted(report['differences']) == sorted(told)
    assert report['records']['spare']['blouse'] == 1


def test_differences_name_both_numbers():
    found, expected = {'train': {'skirt': 3}}, {'train': {'skirt': 3, 'dress': 2}, 'val': {'x': 0}}
    assert inspect_records.differences(found, expected) == ['train, dress: 0 instead of 2']
    assert inspect_records.differences(expected, found) == ['train, dress: 2 instead of 0']


@pytest.mark.parametrize('share', [0.3, 0.6, 0.99])
def test_a_truncated_file_is_named(made, tmp_path, share):
    path = made.directory / 'train/skirt-00000-of-00001.tfrecord'
    data, lengths = path.read_bytes(), [len(m[1]) + 16 for m in made.made if m[0] == 'train'][5:]
    kept = int(share * len(data))
    path.write_bytes(data[:kept])
    whole = int((np.cumsum(lengths) <= kept).sum())
    message = rf'train/skirt-00000-of-00001\.tfrecord: record {whole + 1} is cut off, damaged'
    with pytest.raises(ValueError, match=message):
        run(made.directory, tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


def test_an_image_id_that_is_there_twice_is_named(made, tmp_path):
    path = made.directory / 'train/skirt-00000-of-00001.tfrecord'
    path.write_bytes(path.read_bytes() * 2)
    with pytest.raises(ValueError, match=f'{path}: two records have the image_id'):
        run(made.directory, tmp_path / 'out')


def test_a_changed_byte_is_noticed(made, tmp_path):
    path = made.directory / 'test_0/skirt-00000-of-00001.tfrecord'
    data = bytearray(path.read_bytes())
    data[len(data) // 4] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match='test_0/skirt-.* record 1 is cut off, damaged'):
        run(made.directory, tmp_path / 'out')


def test_records_of_something_else_are_refused(made, tmp_path):
    good = made.made[0]
    no_picture = records.encode_example(b'no JPEG', good[2], good[4])
    for bad in (tf.train.Example().SerializeToString(), no_picture, b'\x00'):
        made.write('train', 'blouse', 0, 2, [good[1], bad])
        with pytest.raises(ValueError, match=r'train/blouse-\S+: record 2 .* not one of this data'):
            run(made.directory, tmp_path / 'out')


def test_a_picture_outside_the_sample_may_be_broken_too(made, tmp_path):
    _, _, annotation, _, size = made.made[0]
    made.write('train', 'blouse', 0, 2, [records.encode_example(b'no JPEG', annotation, size)])
    with pytest.raises(ValueError, match=r'blouse/0\.jpg is in the records, but cannot'):
        run(made.directory, tmp_path / 'out', num_images=1)


def test_a_directory_without_records_is_an_error(made, tmp_path):
    for path in made.directory.rglob('*.tfrecord'):
        path.unlink()
    with pytest.raises(ValueError, match='records holds no record'):
        run(made.directory, tmp_path / 'out')


def test_a_wrong_op_string_is_an_error_before_anything_is_read(tmp_path):
    with pytest.raises(ValueError, match="unknown op 'flop'"):
        run(tmp_path / 'nothing', tmp_path / 'out', train_ops='flop|' + OPS)


@pytest.fixture(scope='module')
def augmented(tmp_path_factory):
    """What is said of augmented records, and the folder of the pages."""
    folder = tmp_path_factory.mktemp('augmented')
    made = Records(folder / 'records')
    before = tree(made.directory)
    report = run(made.directory, folder / 'out', train_ops=OPS)
    assert tree(made.directory) == before
    return report, folder / 'out'


def test_outputs_are_the_same_wherever_the_records_are(augmented, made):
    report, folder = augmented
    out = tree(folder)
    assert list(out) == ['augmented.jpg', 'inspection.json', 'plain.jpg']
    assert json.loads(out['inspection.json']) == report
    for _ in range(2):  # an inspection does not disturb the next one
        run(made.directory, made.directory / 'inspection', train_ops=OPS)
        assert tree(made.directory / 'inspection') == out


def test_sheets_have_a_row_for_each_picture(augmented):
    pitch, gap = inspect_records.CELL_SIZE + draw.SHEET_GAP, draw.SHEET_GAP
    plain, turned = (
        cv2.imread(str(augmented[1] / name)) for name in ('plain.jpg', 'augmented.jpg')
    )
    # All 12 of train on the one, the first ten on the other.
    assert plain.shape == (2 * pitch + gap, inspect_records.COLUMNS * pitch + gap, 3)
    assert turned.shape == (10 * pitch + gap, inspect_records.COLUMNS * pitch + gap, 3)
    cells = [turned[gap : gap + 256, x : x + 256] for x in range(gap, 8 * pitch, pitch)]
    for number, cell in enumerate(cells):
        for other in cells[:number]:
            assert np.abs(cell.astype(float) - other).mean() > 2


def dot_example(visibility, point=(20.5, 12.5)):
    """Return a black picture with a bright spot where its one point is, as NumPy."""
    image = np.zeros((32, 48, 3), np.uint8)
    cv2.circle(image, (int(point[0]), int(point[1])), 3, (255, 255, 255), -1)
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, 'JPEG', quality=100, subsampling=0)
    states = np.full(SCHEMA.num_keypoints, -1, np.int32)
    states[SCHEMA.keypoints.index('crotch')] = visibility
    points = np.where(states[:, None] >= 0, np.float32(point), np.float32(-1))
    annotation = Annotation('', 'dot.jpg', 'trousers', points, states)
    serialized = records.encode_example(buffer.getvalue(), annotation, image.shape[:2])
    decoded = records.decode_example(tf.constant(serialized), SCHEMA)
    return {name: value.numpy() for name, value in decoded.items()}


def center(weights):
    rows, columns = np.indices(weights.shape) + 0.5
    return np.array([(axis * weights).sum() for axis in (columns, rows)]) / weights.sum()


def test_points_are_drawn_where_the_augmentation_puts_them():
    ops = ['flip|rotate(40)|scale(0.8,1.2)|shift(0.1)|letterbox(96,96)|warp(0)'] * 6
    bare = list(inspect_records.views([dot_example(visibility=-1)], ops, SCHEMA))
    drawn = list(inspect_records.views([dot_example(visibility=1)], ops, SCHEMA))
    spots = [center(image.mean(axis=2) * (image.mean(axis=2) > 60)) for image in bare]
    for image, spot in zip(drawn, spots):
        green = (image == draw.CENTER_COLOR).all(axis=2)
        np.testing.assert_allclose(center(green), spot, atol=1)
    assert np.ptp(spots, axis=0).min() > 5  # each augmentation is another one


def test_absent_points_are_not_drawn():
    (view,) = inspect_records.views([dot_example(visibility=-1)], [EVAL_OPS], SCHEMA)
    rows, columns, _ = np.nonzero(np.abs(view.astype(int) - view.mean(axis=2, keepdims=True)) > 12)
    # All color there is, is the fill above and below the picture.
    assert ((rows < 9) | (rows >= 39)).all()


def test_test_splits_alone_have_no_points(made, tmp_path):
    for path in (made.directory / 'train').iterdir():
        path.unlink()
    report = run(made.directory, tmp_path / 'out')
    assert (report['points'], report['normalizers']) == ({}, {})
    assert report['sheets']['split'] == 'test_0'
    text = convert_tfrecords.format_inspection(report)
    assert 'test_0' in text and 'points' not in text and 'Empty' not in text


def test_tables_are_aligned_and_have_sums(whole):
    tables = convert_tfrecords.format_inspection(whole[1]).split('\n\n')
    for table in tables:
        assert len({len(line) for line in table.splitlines()}) == 1
    by_title = {table.splitlines()[0].split()[0]: table.splitlines() for table in tables}
    assert by_title['records'][1].split() == ['train', '5', '0', '0', '7', '0', '12']
    rows = [list(map(int, line.split()[1:])) for line in by_title['skirt,'][1:]]
    np.testing.assert_array_equal(np.sum(rows[:-1], axis=0), rows[-1])
    assert sum(rows[-1][:3]) == 7 * 4


def run_script(*flags):
    return commands.call('convert_tfrecords.py', *flags)


def test_the_command(made, tmp_path):
    flags = [f'--inspect={made.directory}', '--ops=flip|letterbox({height},{width})|warp']
    done = run_script(*flags)
    assert done.returncode == 0, done.stderr
    assert f'inspection: {made.directory}/inspection' in done.stdout
    assert f'reading records: {NUM_RECORDS}/{NUM_RECORDS} (100 %)' in done.stderr
    report = json.loads((made.directory / 'inspection/inspection.json').read_text())
    assert report['sheets']['ops'] == 'flip|letterbox(384,384)|warp'
    (made.directory / 'train/blouse-00001-of-00002.tfrecord').unlink()
    failed = run_script(*flags, f'--output_dir={tmp_path}/other', '--inspect_pictures=2')
    assert failed.returncode == 1
    assert failed.stderr.splitlines()[-1] == (
        f'error: {made.directory} does not hold what its dataset.json says:'
        ' train, blouse: 3 instead of 5'
    )
    assert 'records' in failed.stdout
    assert sorted(tree(tmp_path / 'other')) == ['augmented.jpg', 'inspection.json', 'plain.jpg']


@pytest.mark.parametrize(
    ('flags', 'message'),
    [
        (['--output_dir=x'], '--output_dir is for --inspect=RECORDS only'),
        (['--ops=warp'], '--ops is for --inspect=RECORDS only'),
        (['--inspect=x', '--inspect_pictures=0'], 'inspect_pictures=0'),
        (['--inspect='], '--inspect= is empty'),
    ],
)
def test_mistakes_of_the_user_are_one_line(flags, message):
    done = run_script(*flags)
    commands.check_mistake(done, message)
