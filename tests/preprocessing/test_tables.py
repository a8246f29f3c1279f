"""preprocessing.tables: every quirk of real files has the right answer or a clear error."""

from __future__ import annotations

import gzip
import tracemalloc

import numpy as np
import pytest

from config import UserError
from preprocessing import tables
from preprocessing.datasets.fashionai import SCHEMA
from preprocessing.schema import KeypointSchema
from preprocessing.tables import (
    KeypointTable,
    category_points,
    read_rows,
    read_table,
    write_table,
)

TINY = KeypointSchema(
    name='tiny',
    keypoints=('a_left', 'a_right', 'b_left', 'b_right'),
    categories={'hat': ('a_left', 'a_right'), 'shoe': ('a_left', 'a_right', 'b_left', 'b_right')},
    normalizers={'hat': ('a_left', 'a_right'), 'shoe': ('b_left', 'b_right')},
)
HEADER = 'image_id,image_category,a_left,a_right,b_left,b_right'
HAT = 'Images/hat/1.jpg,hat,3_4_1,5_6_0,-1_-1_-1,-1_-1_-1'
SHOE = 'Images/shoe/2.jpg,shoe,10_20_1,30_40_1,50_60_0,-1_-1_-1'
KEYPOINTS = [
    [[3.5, 4.5], [5.5, 6.5], [-0.5, -0.5], [-0.5, -0.5]],
    [[10.5, 20.5], [30.5, 40.5], [50.5, 60.5], [-0.5, -0.5]],
]
VISIBILITY = [[1, 0, -1, -1], [1, 1, 0, -1]]


@pytest.fixture
def read(tmp_path):
    def write_and_read(*lines, end='\n', schema=TINY):
        path = tmp_path / 'table.csv'
        path.write_bytes(end.join([*lines, '']).encode())
        return read_table(path, schema)

    return write_and_read


def check(table, lines=(2, 3)):
    assert table.image_ids.tolist() == ['Images/hat/1.jpg', 'Images/shoe/2.jpg']
    assert table.categories.tolist() == ['hat', 'shoe']
    np.testing.assert_array_equal(table.keypoints, KEYPOINTS)
    np.testing.assert_array_equal(table.visibility, VISIBILITY)
    assert table.lines.tolist() == list(lines)


def random_table(schema, count=40, seed=0):
    generator = np.random.default_rng(seed)
    categories = generator.choice(list(schema.categories), count)
    visibility = generator.integers(-1, 2, [count, schema.num_keypoints])
    visibility = np.where(category_points(categories, schema), visibility, -1)
    indices = generator.integers(-20, 600, [count, schema.num_keypoints, 2])
    indices = np.where(visibility[..., np.newaxis] < 0, -1, indices)
    return KeypointTable(
        image_ids=np.array([f'Images/{c}/{i}.jpg' for i, c in enumerate(categories)], dtype=object),
        categories=categories,
        keypoints=(indices + 0.5).astype(np.float32),
        visibility=visibility.astype(np.int32),
        lines=np.arange(2, count + 2),
    )


def assert_equal(table, expected):
    for values, wanted in zip(table, expected):
        np.testing.assert_array_equal(values, wanted)


def test_plain_file_and_types(read):
    table = read(HEADER, HAT, SHOE)
    check(table)
    assert table.keypoints.dtype == np.float32
    assert table.visibility.dtype == np.int32
    assert type(table.image_ids[0]) is str


@pytest.mark.parametrize('end', ['\n', '\r\n', '\r'])
def test_line_ends_and_blank_lines(read, end):
    check(read(HEADER, HAT, '', SHOE, '', '   ', ',,,,,', end=end), lines=(2, 4))


def test_byte_order_mark(read):
    check(read('\ufeff' + HEADER, HAT, SHOE))


def test_no_header(read):
    check(read(HAT, SHOE), lines=(1, 2))
    check(read(HAT + ',hat', SHOE + ',shoe'), lines=(1, 2))


def test_header_of_two_columns_over_full_rows(read):
    check(read('image_id,image_category', HAT, SHOE))


@pytest.mark.parametrize('header', ['image_id,image_category', None])
def test_list_of_pictures_has_all_points_absent(read, header):
    lines = [line for line in (header, 'x/1.jpg,hat', 'x/2.jpg,shoe') if line]
    table = read(*lines)
    assert table.image_ids.tolist() == ['x/1.jpg', 'x/2.jpg']
    assert (table.visibility == -1).all()
    assert table.keypoints.shape == (2, 4, 2)
    assert (table.keypoints == -0.5).all()


def test_extra_category_column(read):
    check(read(HEADER + ',category', HAT + ',hat', SHOE + ',shoe'))
    with pytest.raises(ValueError, match=r"line 3, column 'category': 'hat'.*'shoe'"):
        read(HEADER + ',category', HAT + ',hat', SHOE + ',hat')


def test_columns_are_taken_by_name(read):
    def reversed_fields(line):
        return ','.join(reversed(line.split(',')))

    check(read(*map(reversed_fields, [HEADER, HAT, SHOE])))


def test_spaces_and_quotes(read):
    check(read(HEADER.replace(',', ', '), HAT.replace(',', ', '), SHOE.replace('shoe,', '"shoe",')))


def test_prefix_and_folder_of_another_category_stay(read):
    table = read(HEADER, HAT.replace('Images/hat', 'train1/shoe'))
    assert table.image_ids.tolist() == ['train1/shoe/1.jpg']
    assert table.categories.tolist() == ['hat']


def test_only_the_columns_of_the_category(read):
    table = read('image_id,image_category,a_left,a_right', '1.jpg,hat,3_4_1,5_6_0')
    np.testing.assert_array_equal(table.keypoints, KEYPOINTS[:1])
    np.testing.assert_array_equal(table.visibility, VISIBILITY[:1])


def test_a_column_that_a_row_needs_is_missing(read):
    with pytest.raises(ValueError, match=r"line 3, column 'b_left': the file lacks"):
        read('image_id,image_category,a_left,a_right', '1,hat,3_4_1,5_6_0', '2,shoe,3_4_1,5_6_0')


def test_points_of_other_categories_are_absent(read):
    check(read(HEADER, HAT.replace('-1_-1_-1,-1_-1_-1', '7_8_1,9_9_0'), SHOE))


@pytest.mark.parametrize('cell', ['-1_-1_1', '-1_-1_0', '-1_-1_-1', '-1.0_-1_1', '7_8_-1'])
def test_ways_to_write_absent(read, cell):
    check(read(HEADER, HAT, SHOE.replace('-1_-1_-1', cell)))


@pytest.mark.parametrize(
    'cell, point',
    [
        ('512_700_1', (512.5, 700.5)),
        ('-3_-1_1', (-2.5, -0.5)),
        ('-1_4_1', (-0.5, 4.5)),
        ('12.25_.5_1', (12.75, 1.0)),
        ('+1e2_3._1', (100.5, 3.5)),
        ('65535_0_1.0', (65535.5, 0.5)),
    ],
)
def test_unusual_coordinates_are_kept(read, cell, point):
    table = read(HEADER, HAT.replace('3_4_1', cell))
    assert table.keypoints[0, 0].tolist() == list(point)
    assert table.visibility[0, 0] == 1


GARBAGE = [
    '', 'nan_4_1', '3_inf_1', '3_4', '3_4_1x', '3_4_1_1', '3__1', '3_4_2', '3_4_-2', '3_4_0.5',
    '3 4 1', '3 _4_1', 'three_4_1', '1e999_4_1', '65536_4_1', '٣_4_1', '9' * 50000 + '_4_1',
]  # fmt: skip


@pytest.mark.parametrize('cell', GARBAGE)
@pytest.mark.parametrize('column', ['a_right', 'b_right'])
def test_a_bad_cell_is_named(read, cell, column):
    fields = dict(zip(HEADER.split(','), HAT.split(',')))
    fields[column] = cell
    with pytest.raises(ValueError, match=rf"table\.csv, line 4, column '{column}'"):
        read(HEADER, SHOE, '', ','.join(fields.values()))


def test_a_cell_with_a_line_end_does_not_shift_the_column(read):
    with pytest.raises(ValueError, match='line 2: a quoted field'):
        read(HEADER, HAT.replace('3_4_1', '"3_4_1\n7_8_1"'))


@pytest.mark.parametrize(
    'lines, message',
    [
        ([], 'is empty'),
        (['', ''], 'is empty'),
        ([HEADER], 'no rows'),
        (
            [HEADER, HAT, SHOE.replace(',shoe,', ',coat,')],
            "line 3, column 'image_category': 'coat'",
        ),
        ([HEADER, ',' + HAT.split(',', 1)[1]], "line 2, column 'image_id'"),
        ([HEADER.replace('b_left', 'c_left'), HAT], "line 1: unknown column 'c_left'"),
        ([HEADER.replace('b_left', 'a_left'), HAT], "line 1: column 'a_left' is there twice"),
        ([HEADER.replace('image_id', 'a_left'), HAT], "line 1: the header lacks column 'image_id'"),
        (['name,kind', HAT], 'line 1: neither a header'),
        ([HEADER, SHOE, HAT.rsplit(',', 1)[0]], "line 3, column 'b_right'"),
        ([HEADER, SHOE, HAT + ',1_1_1'], 'line 3, .* field 7, not 6'),
        (['image_id,image_category', '1,hat', HAT], 'line 3, .* field 6, not 2'),
        ([HEADER, HAT.replace('3_4_1', '"3_4_1')], 'line 2: '),
    ],
)
def test_broken_files_are_refused(read, lines, message):
    with pytest.raises(ValueError, match=message):
        read(*lines)


def test_equal_duplicates_are_counted(read, caplog):
    filled_in = HAT.replace('-1_-1_-1,-1_-1_-1', '7_8_1,9_9_0')  # the same once understood
    table = read(HEADER, SHOE, HAT, HAT, filled_in)
    check(table.rows(slice(None, None, -1)), lines=(3, 2))
    assert '2 repeated rows' in caplog.text


@pytest.mark.parametrize('old, new', [('3_4_1', '3_5_1'), ('3_4_1', '3_4_0'), (',hat', ',shoe')])
def test_contradicting_duplicates_are_refused(read, old, new):
    with pytest.raises(ValueError, match=r'line 5, .*1\.jpg.* line 3'):
        read(HEADER, SHOE, HAT, SHOE, HAT.replace(old, new, 1))


def test_gzip_by_content(tmp_path):
    data = '\n'.join([HEADER, HAT, SHOE]).encode()
    (tmp_path / 'zipped.csv').write_bytes(gzip.compress(data))
    (tmp_path / 'plain.csv.gz').write_bytes(data)
    check(read_table(tmp_path / 'zipped.csv', TINY))
    check(read_table(str(tmp_path / 'plain.csv.gz'), TINY))
    (tmp_path / 'cut.csv.gz').write_bytes(gzip.compress(data)[:-12])
    with pytest.raises(ValueError, match=r'cut\.csv\.gz: broken gzip'):
        read_table(tmp_path / 'cut.csv.gz', TINY)


@pytest.mark.parametrize('number', [1, 5000])  # more than are read at once
@pytest.mark.parametrize('end', [b'\xff\xfe', b'\xc3'])
def test_not_text(tmp_path, number, end):
    lines = [HEADER, *[HAT] * number, '']
    (tmp_path / 'table.csv').write_bytes('\n'.join(lines).encode() + end)
    with pytest.raises(ValueError, match=f'line {number + 2}: not UTF-8'):
        read_table(tmp_path / 'table.csv', TINY)


_LARGE = {
    'a line without end': (lambda: b'\0' * (40 << 20), 'more than 1,048,576 bytes in a line'),
    'a header without end': (
        lambda: f'{HEADER},'.encode() * (1 << 20),
        'more than 1,048,576 bytes in a line',
    ),
    'blank lines': (lambda: b'\n' * (1 << 20), 'more than 500,000 lines'),
    'returns': (lambda: b'\r' * (1 << 20), 'more than 500,000 lines'),
    'bytes': (lambda: (b'a' * 60_000 + b'\n') * 5000, 'more than 268,435,456 bytes'),
    'fields': (lambda: (b',' * 60_000 + b'a\n') * 400, 'more than 20,000,000 fields'),
}


@pytest.mark.parametrize('zipped', [True, False])
@pytest.mark.parametrize('kind', _LARGE)
def test_what_is_larger_than_any_table_is_not_held_in_memory(tmp_path, kind, zipped):
    make, message = _LARGE[kind]
    data, path = make(), tmp_path / 'large.csv'
    path.write_bytes(gzip.compress(data, 1) if zipped else data)
    del data
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=f'large.csv: {message}, which no table has'):
            read_rows(str(path))
        most = 400 << 20 if kind in ('bytes', 'fields') else 24 << 20
        assert tracemalloc.get_traced_memory()[1] < most
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize('end', ['\n', '\r\n', '\r'])
def test_lines_are_numbered_alike_however_much_is_read_at_once(tmp_path, end, monkeypatch):
    path = tmp_path / 'table.csv'
    path.write_bytes(end.join([HEADER, HAT, '', SHOE, '']).encode())
    for size in (1, 2, 7, 1 << 16):
        monkeypatch.setattr(tables, '_PART', size)
        check(read_table(path, TINY), lines=(2, 4))


def test_missing_file(tmp_path):
    with pytest.raises(OSError, match='nowhere'):
        read_table(tmp_path / 'nowhere.csv', TINY)


@pytest.mark.parametrize('name', ['table.csv', 'deep/er/table.csv.gz'])
def test_write_and_read_give_the_same(tmp_path, name):
    table = random_table(SCHEMA)
    write_table(tmp_path / name, table, SCHEMA)
    assert_equal(read_table(tmp_path / name, SCHEMA), table)
    assert ((tmp_path / name).read_bytes()[:2] == b'\x1f\x8b') == name.endswith('.gz')
    assert len(list((tmp_path / name).parent.iterdir())) == 1


def test_written_text(tmp_path):
    table = KeypointTable(
        image_ids=np.array(['a,"b".jpg'], dtype=object),
        categories=np.array(['hat']),
        keypoints=np.array([[[3.99, 4.0], [0.0, 6.5], [7.5, 8.5], [np.nan, 1]]], np.float32),
        visibility=np.array([[1, 0, 1, -1]], np.int32),
        lines=np.array([2]),
    )
    write_table(tmp_path / 'table.csv', table, TINY)
    row = '"a,""b"".jpg",hat,3_4_1,0_6_0,-1_-1_-1,-1_-1_-1'
    assert (tmp_path / 'table.csv').read_bytes().decode() == f'{HEADER}\n{row}\n'
    assert read_table(tmp_path / 'table.csv', TINY).image_ids.tolist() == ['a,"b".jpg']


@pytest.mark.parametrize('point', [(np.nan, 1), (1, np.inf), (-0.5, -0.5)])
def test_unwritable_points_leave_the_old_file(tmp_path, point):
    path = tmp_path / 'table.csv'
    path.write_text('old')
    table = random_table(TINY)
    table.visibility[3, 1] = 1
    table.keypoints[3, 1] = point
    with pytest.raises(ValueError, match=rf'{table.image_ids[3]}, a_right'):
        write_table(path, table, TINY)
    assert path.read_text() == 'old'
    assert list(tmp_path.iterdir()) == [path]


def test_failed_write_leaves_nothing(tmp_path):
    (tmp_path / 'table.csv').mkdir()
    with pytest.raises(OSError):
        write_table(tmp_path / 'table.csv', random_table(TINY), TINY)
    assert [path.name for path in tmp_path.iterdir()] == ['table.csv']


def test_remote_files():
    path = 'ram://folder/table.csv.gz'
    table = random_table(TINY)
    write_table(path, table, TINY)
    assert_equal(read_table(path, TINY), table)
    with pytest.raises(OSError, match='nowhere'):
        read_table('ram://folder/nowhere.csv', TINY)


def test_own_points():
    wanted = [[True] * 4, [True, True, False, False]]
    assert category_points(['shoe', 'hat'], TINY).tolist() == wanted
