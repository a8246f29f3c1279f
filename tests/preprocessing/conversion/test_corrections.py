"""Files of corrections: what is read back, what is refused, and what becomes of annotations."""

import gzip
import re

import numpy as np
import pytest

from preprocessing.conversion import corrections
from preprocessing.conversion.corrections import COLUMNS, Correction, cell
from preprocessing.datasets import Annotation
from preprocessing.datasets.fashionai import SCHEMA

HEADER = ','.join(COLUMNS)
ROW = 'a.jpg,waistband_left,10,20,1,12,25,0,place,0.5'


def annotation(image_id='a.jpg', category='skirt'):
    """Return waistband_left at 10_20_1, waistband_right at 30_20_1, hemline_left absent."""
    keypoints = np.full((SCHEMA.num_keypoints, 2), -0.5, np.float32)
    visibility = np.full(SCHEMA.num_keypoints, -1, np.int32)
    for name, x in (('waistband_left', 10.5), ('waistband_right', 30.5)):
        keypoints[SCHEMA.keypoints.index(name)] = x, 20.5
        visibility[SCHEMA.keypoints.index(name)] = 1
    return Annotation(image_id, image_id, category, keypoints, visibility)


def written(tmp_path, *rows, header=HEADER):
    path = tmp_path / 'corrections.csv'
    path.write_text('\n'.join([header, *rows]) + '\n')
    return path


def correct(path, *annotations, labelled=('train_0',)):
    pairs = [
        one if isinstance(one, tuple) and len(one) == 2 else ('train_0', one) for one in annotations
    ]
    return corrections.correct(pairs, labelled, path, SCHEMA)


def says(one, name):
    k = SCHEMA.keypoints.index(name)
    return cell(one.keypoints[k], one.visibility[k])


def test_what_is_written_is_read_back(tmp_path):
    rows = [
        Correction(2, 'a,"b".jpg', 'crotch', (1, 2.25, 0), (3, 511, 1), 'place', '0.2500'),
        Correction(3, 'a.jpg', 'crotch', (-1, -1, -1), (0, 0, 1), 'absent', '0.1'),
        Correction(4, 'a.jpg', 'hemline_left', (5, 6, 1), (-1, -1, -1), 'outside', '0.1'),
    ]
    path = tmp_path / 'new' / 'corrections.csv'
    corrections.write_corrections(path, rows)
    assert corrections.read_corrections(path, SCHEMA) == rows
    packed = tmp_path / 'corrections.csv.gz'
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert corrections.read_corrections(packed, SCHEMA) == rows


def test_kind_and_score_may_be_missing_and_other_columns_there(tmp_path):
    header = HEADER.replace(',kind,score', ',remark')
    path = written(tmp_path, ROW.replace(',place,0.5', ',I looked'), header=header)
    (row,) = corrections.read_corrections(path, SCHEMA)
    assert (row.before, row.after, row.kind) == ((10, 20, 1), (12, 25, 0), '')


def test_points_are_corrected_and_counted(tmp_path):
    path = written(
        tmp_path,
        ROW,
        'a.jpg,waistband_right,30,20,1,-1,-1,-1,outside,0.4',
        'a.jpg,hemline_left,-1,-1,-1,5,50,1,absent,0.1',
    )
    before = annotation()
    (first, (source, other)), told = correct(path, before, annotation('b.jpg'))
    after = first[1]
    assert says(after, 'waistband_left') == (12, 25, 0)
    assert says(after, 'waistband_right') == (-1, -1, -1)
    assert says(after, 'hemline_left') == (5, 50, 1)
    assert (source, says(other, 'waistband_left')) == ('train_0', (10, 20, 1))
    assert says(before, 'waistband_left') == (10, 20, 1)
    assert told.pop('sha256') and told == {
        'file': 'corrections.csv',
        'points': 3,
        'pictures': 1,
        'kinds': {'absent': 1, 'outside': 1, 'place': 1},
    }


def test_an_exchange_needs_both_of_its_rows(tmp_path):
    rows = (
        'a.jpg,waistband_left,10,20,1,30,20,1,sides,0.9',
        'a.jpg,waistband_right,30,20,1,10,20,1,sides,0.9',
    )
    ((_, after),), _ = correct(written(tmp_path, *rows), annotation())
    assert says(after, 'waistband_left') == (30, 20, 1)
    assert says(after, 'waistband_right') == (10, 20, 1)
    with pytest.raises(ValueError, match=r'csv, line 2: waistband_left would be where waistband_r'):
        correct(written(tmp_path, rows[0]), annotation())


def test_an_image_id_of_two_splits_is_corrected_where_it_fits(tmp_path):
    path = written(tmp_path, ROW)
    moved = annotation()
    moved.keypoints[SCHEMA.keypoints.index('waistband_left')] += 5
    pairs, told = correct(
        path,
        ('train_1', moved),
        annotation(),
        ('test_0', annotation()),
        labelled=('train_0', 'train_1'),
    )
    found = [says(one, 'waistband_left') for _, one in pairs]
    assert found == [(15, 25, 1), (12, 25, 0), (10, 20, 1)]
    assert told['pictures'] == 1


@pytest.mark.parametrize(
    ('row', 'message'),
    [
        (
            'a.jpg,waistband_left,10,21,1,12,25,0,,',
            'line 2: waistband_left of a.jpg is 10_20_1, not 10_21_1: the correction is stale',
        ),
        ('a.jpg,waistband_left,10,20,0,12,25,0,,', 'is 10_20_1, not 10_20_0'),
        ('a.jpg,hemline_left,10,20,0,12,25,0,,', 'is -1_-1_-1, not 10_20_0'),
        ('b.jpg,waistband_left,10,20,1,12,25,0,,', "line 2: no annotation of 'b.jpg'"),
        ('a.jpg,crotch,-1,-1,-1,12,25,0,,', 'crotch of a.jpg is no point of a skirt'),
        ('a.jpg,waist,10,20,1,12,25,0,,', "line 2: unknown keypoint 'waist'"),
        ('a.jpg,waistband_left,10,20,1,12,,0,,', "column 'to_y': '' must be a number"),
        ('a.jpg,waistband_left,nan,20,1,12,3,0,,', "column 'from_x': 'nan' must be a number"),
        ('a.jpg,waistband_left,10,20,1,12,1e9,0,,', "'1e9' must be a number of at most 65535"),
        ('a.jpg,waistband_left,10,20,2,12,25,0,,', "column 'from_v': 2 must be 1, 0 or -1"),
        ('a.jpg,waistband_left,10,20,1,-1,-1,1,,', "column 'to_v': a point at -1, -1 is absent"),
        ('a.jpg,waistband_left,10,20,1,12,25,0', 'line 2: 2 fields too few'),
        ('a.jpg,waistband_left,10,20,1,12,25,0,,,', 'line 2: 1 fields too many'),
    ],
)
def test_a_row_that_does_not_fit_is_named(tmp_path, row, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        correct(written(tmp_path, row), annotation())


def test_a_point_is_corrected_once(tmp_path):
    path = written(tmp_path, ROW, ROW)
    with pytest.raises(ValueError, match='line 3: waistband_left of a.jpg is corrected in line 2'):
        corrections.read_corrections(path, SCHEMA)


def test_a_missing_column_is_named(tmp_path):
    path = written(tmp_path, ROW, header=HEADER.replace('to_v', 'v'))
    with pytest.raises(ValueError, match="line 1: the header lacks column 'to_v'"):
        corrections.read_corrections(path, SCHEMA)


def test_corrections_of_pictures_without_annotations_are_refused(tmp_path):
    with pytest.raises(ValueError, match='no annotation of'):
        correct(written(tmp_path, ROW), ('test_0', annotation()))
