"""The submission check: every quirk of real submissions is found, and nothing in a good one."""

from __future__ import annotations

import csv
import gzip
import io
import json

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies

from preprocessing.datasets.fashionai import SCHEMA
from preprocessing.tables import read_table
from tests import commands, tiny_records
from utility.submissions import examine, write
from utility.submissions.findings import ERROR, MAX_EXAMPLES, WARNING
from utility.submissions.rules import Split

HEADER = ['image_id', 'image_category', *SCHEMA.keypoints]
PICTURES_PER_CATEGORY = 30
SIZES = ((512, 512), (512, 512), (512, 341))  # (height, width), px, in turn
# How far from the middle of the garment, and how far down, in its half width and its height.
TEMPLATE = {
    'neckline': (0.2, 0.0),
    'center_front': (0.0, 0.1),
    'shoulder': (0.4, 0.05),
    'armpit': (0.5, 0.3),
    'waistline': (0.45, 0.6),
    'cuff_in': (0.85, 0.7),
    'cuff_out': (1.0, 0.65),
    'top_hem': (0.6, 1.0),
    'waistband': (0.5, 0.0),
    'hemline': (1.0, 1.0),
    'crotch': (0.0, 0.4),
    'bottom_in': (0.3, 1.0),
    'bottom_out': (1.0, 0.95),
}


def k(name):
    return SCHEMA.keypoints.index(name)


def make_split():
    categories = [c for c in SCHEMA.categories for _ in range(PICTURES_PER_CATEGORY)]
    ids = [f'Images/{category}/{i:04d}.jpg' for i, category in enumerate(categories)]
    sizes = [SIZES[i % len(SIZES)] for i in range(len(ids))]
    return Split(np.array(ids, object), np.array(categories), np.array(sizes))


SPLIT = make_split()
WIDTH_HEIGHT = SPLIT.image_sizes[:, np.newaxis, ::-1]


def make_points():
    """Return float64 [N, K, 2]: garments in the middle of their pictures, all of them different."""
    generator = np.random.default_rng(0)
    count = len(SPLIT.image_ids)
    half, top = generator.uniform(0.35, 0.48, [2, count])
    points = np.empty([count, SCHEMA.num_keypoints, 2])
    for i, name in enumerate(SCHEMA.keypoints):
        across, down = TEMPLATE[name.replace('_left', '').replace('_right', '')]
        sign = -1 if '_left' in name else 1
        points[:, i, 0] = 0.5 + sign * across * half
        points[:, i, 1] = 0.5 - top + 2 * top * down
    points += generator.normal(0, 0.004, points.shape)
    return np.clip(points, 0.001, 0.999) * WIDTH_HEIGHT


POINTS = make_points()


def rows_of(points=POINTS, all_points=False):
    """Return the rows of a submission: lists of an id, a category and K cells."""
    rows = []
    for image_id, category, row in zip(SPLIT.image_ids, SPLIT.categories, points):
        own = range(SCHEMA.num_keypoints) if all_points else SCHEMA.indices(category)
        cells = ['-1_-1_-1'] * SCHEMA.num_keypoints
        for i in own:
            cells[i] = '{:.0f}_{:.0f}_1'.format(*np.floor(row[i]))
        rows.append([image_id, category, *cells])
    return rows


def text_of(rows, header=HEADER, end='\n'):
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator=end).writerows([header, *rows] if header else rows)
    return buffer.getvalue()


def findings_of(tmp_path, content, split=SPLIT):
    path = tmp_path / 'submission.csv'
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    report = examine.examine(path, SCHEMA, split)
    if not report.is_rejected:
        # What is let pass can be used, by the project's own reading and check.
        table = read_table(path, SCHEMA)
        known_split = split or Split(
            table.image_ids, table.categories, np.full([len(table[0]), 2], 1e9)
        )
        write.check(table, known_split.image_ids, SCHEMA, known_split.sizes_of(table.image_ids))
    assert all(finding.advice and finding.count for finding in report.findings)
    return {(f.severity, f.check, f.what.split(',')[0]): f for f in report.findings}


def the_only(findings):
    assert len(findings) == 1, list(findings)
    return next(iter(findings.values()))


@pytest.mark.parametrize('split', [SPLIT, None])
@pytest.mark.parametrize(
    'content',
    [
        text_of(rows_of()),
        text_of(rows_of(), end='\r\n'),
        text_of(rows_of()[::-1]),
        gzip.compress(text_of(rows_of()).encode()),
    ],
    ids=['plain', 'crlf', 'other_order', 'gzip'],
)
def test_a_good_submission_has_no_findings(tmp_path, content, split):
    assert findings_of(tmp_path, content, split) == {}


def with_cell(row, name, cell):
    """Return the rows with another cell in row `row`, the 30 pictures of a category being one
    block.
    """
    rows = rows_of()
    rows[row][2 + k(name)] = cell
    return rows


def with_columns(header, rows):
    names = ['image_id', 'image_category', *SCHEMA.keypoints]
    return text_of([[row[names.index(name)] for name in header] for row in rows], header)


def changed(rows, row, column, value):
    rows = [list(cells) for cells in rows]
    rows[row][column] = value
    return rows


SKIRT = list(SCHEMA.categories).index('skirt') * PICTURES_PER_CATEGORY
SKIRT_HEADER = ['image_id', 'image_category', *SCHEMA.categories['skirt']]
MOVED = [HEADER[0], HEADER[1], HEADER[3], HEADER[2], *HEADER[4:]]
GOOD = rows_of()
# The file, and what is found in it: severity, check, what, how often, the line of the first.
FINDINGS = {
    'extra_category_column': (
        text_of([[*row, row[1]] for row in GOOD], [*HEADER, 'category']),
        (ERROR, 'columns', 'unknown columns', 1, 1),
    ),
    'no_header': (text_of(GOOD, None), (ERROR, 'columns', 'there is no header', 26, 1)),
    'no_header_extra_column': (
        text_of([[*row, row[1]] for row in GOOD], None),
        (ERROR, 'columns', 'there is no header', 26, 1),
    ),
    'two_column_header': (
        text_of(GOOD, HEADER[:2]),
        (ERROR, 'columns', 'the header names only the first two columns', 24, 1),
    ),
    'one_column_missing': (
        with_columns([name for name in HEADER if name != 'crotch'], GOOD),
        (ERROR, 'columns', 'columns are missing', 1, 1),
    ),
    'columns_moved': (
        with_columns(MOVED, GOOD),
        (ERROR, 'columns', 'columns are in another order', 2, 1),
    ),
    'header_case': (
        text_of(GOOD, [HEADER[0], *map(str.title, HEADER[1:])]),
        (ERROR, 'columns', 'columns are written with other letters or spaces', 25, 1),
    ),
    'header_spaces': (
        text_of(GOOD).replace(',crotch,', ', crotch,', 1),
        (ERROR, 'columns', 'columns are written with other letters or spaces', 1, 1),
    ),
    'byte_order_mark': (
        '\ufeff' + text_of(GOOD),
        (ERROR, 'columns', 'a byte order mark stands before the first column', 1, None),
    ),
    'semicolons': (
        text_of(GOOD).replace(',', ';'),
        (ERROR, 'columns', "fields are separated by ';'", 1, None),
    ),
    'blank_lines': (text_of(GOOD) + '\n\r\n', (WARNING, 'file', 'blank lines', 2, 152)),
    'short_row': (
        text_of([*GOOD, ['Images/x.jpg', 'skirt', '1_1_1']]),
        (ERROR, 'columns', 'rows without 26 fields', 1, 152),
    ),
    'missing_pictures': (
        text_of(GOOD[2:]),
        (ERROR, 'ids', 'pictures of the split are missing', 2, 0),
    ),
    'unknown_pictures': (
        text_of([*GOOD, ['Images/skirt/x.jpg', *GOOD[SKIRT][1:]]]),
        (ERROR, 'ids', 'ids that are not of the split', 1, 152),
    ),
    'repeated_row': (
        text_of([*GOOD, GOOD[3]]),
        (ERROR, 'ids', 'pictures are there more than once', 1, 152),
    ),
    'repeated_row_with_other_values': (
        text_of([*GOOD, [GOOD[3][0], *GOOD[4][1:]]]),
        (ERROR, 'ids', 'pictures are there more than once', 1, 152),
    ),
    'unknown_category': (
        text_of(changed(GOOD, 7, 1, 'Blouse')),
        (ERROR, 'ids', 'unknown categories', 1, 9),
    ),
    'own_point_absent': (
        text_of(with_cell(SKIRT, 'hemline_left', '-1_-1_-1')),
        (ERROR, 'marks', 'points of the category are marked as absent', 1, SKIRT + 2),
    ),
    'own_point_absent_but_visible': (
        text_of(with_cell(SKIRT, 'hemline_left', '-1_-1_1')),
        (ERROR, 'marks', 'points of the category are marked as absent', 1, SKIRT + 2),
    ),
    'own_point_occluded': (
        text_of(with_cell(SKIRT, 'hemline_left', '250_400_0')),
        (ERROR, 'marks', 'points with a visibility other than 1', 1, SKIRT + 2),
    ),
    'own_point_with_odd_visibility': (
        text_of(with_cell(SKIRT, 'hemline_left', '250_400_2')),
        (ERROR, 'marks', 'points with a visibility other than 1', 1, SKIRT + 2),
    ),
    'foreign_point_absent_but_visible': (
        text_of(with_cell(SKIRT, 'crotch', '-1_-1_1')),
        (WARNING, 'marks', 'points that the category does not have', 1, SKIRT + 2),
    ),
    'all_points_for_every_category': (
        text_of(rows_of(all_points=True)),
        (WARNING, 'marks', 'points that the category does not have', 30 * (5 * 24 - 53), 2),
    ),
    'decimals': (
        text_of(with_cell(SKIRT, 'hemline_left', '250.5_400_1')),
        (ERROR, 'ranges', 'points that are not integers', 1, SKIRT + 2),
    ),
    'foreign_cell_with_spaces': (
        text_of(with_cell(SKIRT, 'crotch', '-1_-1 _-1')),
        (ERROR, 'ranges', 'points that are not integers', 1, SKIRT + 2),
    ),
    'nan': (
        text_of(with_cell(SKIRT, 'hemline_left', 'nan_nan_1')),
        (ERROR, 'ranges', 'NaN or infinite points', 1, SKIRT + 2),
    ),
    'infinite': (
        text_of(with_cell(SKIRT, 'crotch', '1e999_3_1')),
        (ERROR, 'ranges', 'NaN or infinite points', 1, SKIRT + 2),
    ),
    'no_cell': (
        text_of(with_cell(SKIRT, 'hemline_left', '250_400')),
        (ERROR, 'ranges', 'cells that are not x_y_v', 1, SKIRT + 2),
    ),
    'foreign_cell_with_odd_visibility': (
        text_of(with_cell(SKIRT, 'crotch', '250_400_7')),
        (ERROR, 'ranges', 'cells that are not x_y_v', 1, SKIRT + 2),
    ),
    'negative': (
        text_of(with_cell(SKIRT, 'hemline_left', '-3_400_1')),
        (ERROR, 'ranges', 'points left of or above the picture', 1, SKIRT + 2),
    ),
    'minus_one_in_one_coordinate': (
        text_of(with_cell(SKIRT, 'hemline_left', '-1_400_1')),
        (ERROR, 'ranges', 'points left of or above the picture', 1, SKIRT + 2),
    ),
    'at_the_border_of_512_px': (
        text_of(with_cell(SKIRT, 'hemline_left', '30_512_1')),
        (ERROR, 'ranges', 'points right of or below the picture', 1, SKIRT + 2),
    ),
    'beyond_a_narrow_picture': (
        text_of(with_cell(SKIRT + 2, 'hemline_right', '341_400_1')),
        (ERROR, 'ranges', 'points right of or below the picture', 1, SKIRT + 4),
    ),
    'enormous': (
        text_of(with_cell(SKIRT, 'crotch', f'{10**30}_3_1')),
        (ERROR, 'ranges', 'points beyond 65535 px', 1, SKIRT + 2),
    ),
}


# Files with a second finding: of a picture that is not looked at or expected, of a far point.
WITH_TWO = ('short_row', 'unknown_category', 'enormous', 'repeated_row_with_other_values')


@pytest.mark.parametrize('name', FINDINGS)
def test_a_finding_is_reported_once(tmp_path, name):
    content, (severity, check, what, count, line) = FINDINGS[name]
    findings = findings_of(tmp_path, content)
    assert (severity, check, what) in findings, list(findings)
    finding = findings[severity, check, what]
    assert finding.count == count
    assert (finding.examples[0].line if finding.examples else None) == line
    assert len(finding.examples) <= MAX_EXAMPLES
    assert len(findings) == 1 or name in WITH_TWO


def test_only_the_columns_of_the_category(tmp_path):
    rows = [row for row in GOOD if row[1] == 'skirt']
    split = Split(*(values[SPLIT.categories == 'skirt'] for values in SPLIT[:3]))
    finding = the_only(findings_of(tmp_path, with_columns(SKIRT_HEADER, rows), split))
    assert (finding.severity, finding.what, finding.count) == (ERROR, 'columns are missing', 20)
    assert "'neckline_left'" in finding.examples[0].detail


def test_repeated_rows_tell_whether_they_agree(tmp_path):
    for name, probable in (
        ('repeated_row', 'the same'),
        ('repeated_row_with_other_values', 'other'),
    ):
        findings = findings_of(tmp_path, FINDINGS[name][0])
        detail = findings[ERROR, 'ids', 'pictures are there more than once'].examples[0].detail
        assert detail.startswith(probable)
        assert detail.endswith('in line 5')


@pytest.mark.parametrize(
    'change, what',
    [
        (lambda i: 'train1/' + i, None),
        (lambda i: '/data/' + i, 'absolute paths as ids'),
        (lambda i: 'C:\\data\\' + i.replace('/', '\\'), 'absolute paths as ids'),
        (lambda i: 'https://host/' + i, 'absolute paths as ids'),
        (lambda i: i.replace('/', '\\'), 'backslashes in ids'),
        (lambda i: './' + i, 'ids with . or .. for a folder'),
        (lambda i: i + ' ', 'ids with spaces around them'),
    ],
)
def test_ids_that_are_paths(tmp_path, change, what):
    rows = [[change(row[0]), *row[1:]] for row in GOOD]
    findings = findings_of(tmp_path, text_of(rows))
    unknown = findings[ERROR, 'ids', 'ids that are not of the split']
    assert unknown.count == len(GOOD)
    assert unknown.examples[1].detail == f'is it {GOOD[1][0]}?'
    alone = findings_of(tmp_path, text_of(rows), None)
    assert [f.what for f in alone.values() if f.what == what] == ([what] if what else [])


def test_category_against_folder_and_split(tmp_path):
    rows = changed(GOOD, SKIRT, 1, 'trousers')
    folder = (ERROR, 'ids', 'the folder in the id is of another category')
    findings = findings_of(tmp_path, text_of(rows))
    assert findings[folder].examples[0].line == SKIRT + 2
    other = findings[ERROR, 'ids', 'another category than in the split']
    assert other.examples[0].detail == 'trousers, but skirt in the split'
    assert folder in findings_of(tmp_path, text_of(rows), None)


def test_pictures_without_a_record(tmp_path):
    lost = Split(*SPLIT[:3], frozenset({'Images/skirt/lost.jpg'}), 1)
    finding = the_only(findings_of(tmp_path, text_of(GOOD), lost))
    assert (finding.severity, finding.count) == (WARNING, 1)
    path = tmp_path / 'all.csv'
    path.write_text(text_of([*GOOD, ['Images/skirt/lost.jpg', *GOOD[SKIRT][1:]]]))
    assert examine.examine(path, SCHEMA, lost).findings == ()


SCALE = 'coordinates are probably those of pictures resized to about'
LONGEST = WIDTH_HEIGHT.max(-1, keepdims=True)


def exchanged(a, b):
    points = POINTS.copy()
    points[:, [k(a), k(b)]] = points[:, [k(b), k(a)]]
    return points


@pytest.mark.parametrize(
    'points, with_split, without',
    [
        (POINTS * 384 / 512, f'{SCALE} 384 px', f'{SCALE} 384 px'),
        (POINTS * 0.5, f'{SCALE} 256 px', f'{SCALE} 256 px'),
        (POINTS * 2, f'{SCALE} 1024 px', f'{SCALE} 1024 px'),
        (
            POINTS * 512 / WIDTH_HEIGHT,
            'coordinates are probably those of pictures made square',
            None,
        ),
        (
            POINTS + (LONGEST - WIDTH_HEIGHT) / 2,
            'coordinates are probably those of pictures made square',
            None,
        ),
        (POINTS * 256 / WIDTH_HEIGHT, f'{SCALE} 256 px', f'{SCALE} 256 px'),
        (POINTS[..., ::-1], *['x and y are probably exchanged: left and right points stand'] * 2),
        (
            np.stack([WIDTH_HEIGHT[..., 0] - POINTS[..., 0], POINTS[..., 1]], -1),
            *['left and right are probably exchanged; left is the left of the picture'] * 2,
        ),
        (
            POINTS[:, list(SCHEMA.flip_permutation)],
            *['left and right are probably exchanged; left is the left of the picture'] * 2,
        ),
        (
            exchanged('waistband_left', 'waistband_right'),
            *['left and right are probably exchanged; left is the left of the picture'] * 2,
        ),
        (exchanged('shoulder_left', 'armpit_left'), *['points stand the other way round'] * 2),
        (exchanged('cuff_right_in', 'cuff_right_out'), *['points stand the other way round'] * 2),
        (exchanged('crotch', 'bottom_left_in'), *['points stand the other way round'] * 2),
        (POINTS * 0 + (100, 200), *['points at the same place in many pictures'] * 2),
        (np.floor(POINTS / 8) * 8 + 4, *['coordinates lie 8 px apart: points are cells'] * 2),
    ],
)
def test_what_is_probably_not_meant(tmp_path, points, with_split, without):
    for split, what in ((SPLIT, with_split), (None, without)):
        findings = findings_of(tmp_path, text_of(rows_of(points)), split)
        probable = [f for f in findings.values() if f.check not in ('ranges', 'marks')]
        assert all(finding.severity == WARNING for finding in probable)
        if what is None:
            assert probable == []
        else:
            assert any(finding.what.startswith(what) for finding in probable), probable


def test_exchanged_columns_are_named(tmp_path):
    rows = rows_of(exchanged('shoulder_left', 'armpit_left'))
    finding = the_only(findings_of(tmp_path, text_of(rows)))
    details = [example.detail for example in finding.examples]
    assert 'shoulder_left is below armpit_left in 100.0% of blouse' in details
    assert all('_left' in detail for detail in details)


def test_two_columns_with_the_same_points(tmp_path):
    points = POINTS.copy()
    skirts = SPLIT.categories == 'skirt'
    points[skirts, k('hemline_right')] = points[skirts, k('waistband_right')]
    finding = the_only(findings_of(tmp_path, text_of(rows_of(points))))
    assert finding.what == 'two points are the same in most pictures'
    assert 'waistband_right = hemline_right in 100.0% of skirt' in finding.examples[0].detail


def test_collapsed_pictures(tmp_path):
    points = POINTS.copy()
    points[[3, 40]] = points[[3, 40], :1]
    finding = the_only(findings_of(tmp_path, text_of(rows_of(points))))
    assert finding.what == 'all points of a picture in one place'
    assert [example.line for example in finding.examples] == [5, 42]


def test_points_beyond_the_size_of_most_pictures(tmp_path):
    content = text_of(with_cell(SKIRT, 'hemline_right', '530_400_1'))
    finding = the_only(findings_of(tmp_path, content, None))
    assert finding.severity == WARNING
    assert finding.what.startswith('points at 512 px or beyond')
    assert finding.examples[0][::2] == (SKIRT + 2, 'at (530, 400)')


def test_a_third_of_crossed_legs_is_not_an_exchange(tmp_path):
    points = POINTS.copy()
    points[::3] = exchanged('bottom_left_in', 'bottom_right_in')[::3]
    assert findings_of(tmp_path, text_of(rows_of(points))) == {}


def test_few_pictures_say_nothing(tmp_path):
    rows = [row for i, row in enumerate(rows_of(POINTS[..., ::-1] * 0.5)) if i % 30 < 3]
    assert findings_of(tmp_path, text_of(rows), None) == {}


@pytest.mark.parametrize(
    'content, what',
    [
        (b'', 'the file is empty'),
        (b'\n\n \n', 'the file is empty'),
        (gzip.compress(text_of(GOOD).encode(), mtime=0)[:-20], 'broken gzip data'),
        (b'\x1f\x8b', 'broken gzip data'),
        (b'\xff\xfe' + text_of(GOOD).encode('utf-16-le'), 'not UTF-8 text'),
        (b'\x89PNG\r\n\x1a\n' + bytes(range(256)) * 9, 'not UTF-8 text'),
        (text_of(GOOD).replace('skirt', 's\u00e9', 1).encode('latin-1'), 'not UTF-8 text'),
        (text_of(GOOD[:5]).encode() + b'"open,skirt\n', 'not CSV from here on'),
        (text_of(GOOD).encode() + b'x' * 200_000, 'not CSV from here on'),
        (gzip.compress(bytes(5 << 20), mtime=0), 'larger than any submission'),
        (text_of([]).encode(), 'no rows below the header'),
        (b'image_id,neckline_left\n1.jpg,3_3_1\n', 'columns are missing'),
        (b'<html>\n<body>not found</body>\n</html>\n', 'there is no header'),
        (b'image_id,image_id,image_category\na,b,skirt\n', 'columns are there more than once'),
    ],
)
def test_hostile_files_are_told_about(tmp_path, content, what):
    findings = findings_of(tmp_path, content)
    assert what in {finding.what for finding in findings.values()}
    assert any(finding.severity == ERROR for finding in findings.values())


SMALL = text_of([row for i, row in enumerate(GOOD) if i % 15 == 0])


@hypothesis.given(
    start=strategies.integers(0, len(SMALL)),
    length=strategies.integers(0, 40),
    inserted=strategies.one_of(
        strategies.text(max_size=10),
        strategies.text('0123456789_-+.eE,"\r\n \ufeff/\\x00', max_size=10),
        strategies.sampled_from(['-1_-1_-1', '1e9_0_1', '--1_2_1', '1_2_1_', 'inf_1_1', '1_0_1,']),
    ),
)
def test_any_damage_is_survived(tmp_path_factory, start, length, inserted):
    text = SMALL[:start] + inserted + SMALL[start + length :]
    findings_of(tmp_path_factory.mktemp('damaged'), text.encode(errors='replace'), None)


def test_what_is_shown_of_a_file_is_printable_and_short(tmp_path):
    rows = changed(changed(GOOD, 0, 1, 'x' * 5000), 1, 0, 'Images/\x1b[31mred.jpg')
    path = tmp_path / 's.csv'
    path.write_text(text_of(rows))
    text = examine.examine(path, SCHEMA, SPLIT).to_text()
    assert text.replace('\n', '').isprintable()
    assert max(map(len, text.splitlines())) < 300


def test_split_of_records(tmp_path):
    counts = {'train': {'skirt': 1}, 'test_0': {'skirt': 3, 'trousers': 2}}
    root = tiny_records.write_records(tmp_path / 'records', counts, size=64)
    split = examine.read_split(f'{root}/test_0', SCHEMA)
    expected = {f'skirt/{i}.jpg': 'skirt' for i in range(3)}
    expected.update({f'trousers/{i}.jpg': 'trousers' for i in range(2)})
    assert dict(zip(split.image_ids, split.categories)) == expected
    assert split.image_sizes.tolist() == [[64, 64]] * 5
    assert (split.rejected_ids, split.num_rejected) == (frozenset(), 0)
    (tmp_path / 'records' / 'rejected.csv').write_text('image_id,reason\nskirt/9.jpg,broken\n')
    assert examine.read_split(f'{root}/test_0/', SCHEMA).rejected_ids == {'skirt/9.jpg'}
    with pytest.raises(ValueError, match="unknown split 'test_9'"):
        examine.read_split(f'{root}/test_9', SCHEMA)


def run(folder, *arguments):
    return commands.call('ensemble_from_csv.py', *arguments, folder=folder)


def test_command_line(tmp_path):
    (tmp_path / 'good.csv.gz').write_bytes(gzip.compress(text_of(GOOD).encode()))
    result = run(tmp_path, '--check=good.csv.gz', '--output_json=out/good.json')
    assert (result.returncode, result.stderr) == (0, '')
    assert result.stdout == 'good.csv.gz: keeps the rules (rows 150, errors 0, warnings 0)\n'
    values = json.loads((tmp_path / 'out' / 'good.json').read_text())
    assert values == {'path': 'good.csv.gz', 'rows': 150, 'rejected': False, 'findings': []}

    rows = changed(with_cell(SKIRT, 'hemline_left', '-1_-1_-1'), SKIRT, 2, '5_5_1')
    (tmp_path / 'bad.csv').write_text(text_of(rows))
    result = run(tmp_path, '--check=bad.csv', '--output_json=bad.json')
    assert (result.returncode, result.stderr) == (2, '')
    lines = result.stdout.splitlines()
    assert lines[0] == 'bad.csv: would be rejected (rows 150, errors 1, warnings 1)'
    assert lines[2] == 'error: points of the category are marked as absent: 1 points'
    place = f'line {SKIRT + 2}, {GOOD[SKIRT][0]}'
    assert lines[3] == f'    {place}, hemline_left is -1_-1_-1'
    assert lines[4].startswith('  what to do: predict all of them')
    error, warning = json.loads((tmp_path / 'bad.json').read_text())['findings']
    assert (error['severity'], error['check'], error['count']) == ('error', 'marks', 1)
    assert warning['examples'] == [
        {'line': SKIRT + 2, 'image_id': GOOD[SKIRT][0], 'detail': 'neckline_left is 5_5_1'}
    ]


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['--check=none.csv'], 'none.csv'),
        (['--check=a.csv', 'b.csv'], "unexpected argument 'b.csv'"),
        (['--data_dir=x', 'a.csv'], 'need --check'),
        (['--check=a.csv', '--data_dir=none/test_0'], 'none/dataset.json'),
        (['--check=a.csv', '--dataset=none'], "unknown data set 'none'"),
    ],
)
def test_mistakes_are_told_in_one_line(tmp_path, arguments, message):
    (tmp_path / 'a.csv').write_text(text_of(GOOD))
    result = commands.call('ensemble_from_csv.py', *arguments, folder=tmp_path)
    commands.check_mistake(result, message)
