"""FashionAI's CSV format with a schema of one's own."""

from __future__ import annotations

import json

import pytest

from preprocessing import records, schema_files
from preprocessing.datasets import DATASETS, Source
from tests import tiny_pictures

HATS = {
    'name': 'hats',
    'keypoints': ['brim_left', 'brim_right', 'top'],
    'categories': {'hat': ['brim_left', 'brim_right', 'top']},
    'normalizers': {'hat': 'picture_size'},
}
TRAIN = """image_id,image_category,brim_left,brim_right,top
a.png,hat,10_40_1,30_40_0,-1_-1_-1
sub/b.png,hat,12_40_1,32_40_1,22_10_1
"""


def make(root, schema=HATS):
    tiny_pictures.write(root / 'Images', ['a.png', 'sub/b.png', 'c.png'])
    (root / 'train.csv').write_text(TRAIN)
    (root / 'test.csv').write_text('image_id,image_category\nc.png,hat\n')
    if schema:
        (root / 'schema.json').write_text(json.dumps(schema))


def test_a_flat_folder_with_a_schema(tmp_path):
    make(tmp_path)
    info, found = tiny_pictures.converted(tmp_path, 'csv')
    assert {name: sorted(part) for name, part in found.items()} == {
        'train': ['a.png', 'sub/b.png'],
        'test': ['c.png'],
    }
    record = found['train']['a.png']
    assert record['keypoints'].tolist() == [[10.5, 40.5], [30.5, 40.5], [-1, -1]]
    assert record['visibility'].tolist() == [1, 0, -1]
    assert record['normalizer'] == pytest.approx((60 * 80) ** 0.5)
    assert records.schema_of(info) == schema_files.parse(HATS, 'hats')


def test_directories_of_splits_as_fashionai_has_them(tmp_path):
    make(tmp_path / 'train_0')
    (tmp_path / 'train_0' / 'test.csv').unlink()
    schema, (split,) = DATASETS.get('csv').open(
        Source(str(tmp_path), schema_files.parse(HATS, 'hats'))
    )
    assert split.name == 'train_0'
    assert [one.image_id for one in split.annotations()] == ['a.png', 'sub/b.png']
    assert schema.name == 'hats'


def test_without_a_schema_it_is_asked_for(tmp_path):
    make(tmp_path, schema=None)
    with pytest.raises(ValueError, match='no schema: give --schema=FILE or .*schema.json'):
        DATASETS.get('csv').open(Source(str(tmp_path)))


def test_a_data_set_of_a_fixed_schema_takes_no_other(tmp_path):
    schema = schema_files.parse(HATS, 'hats')
    with pytest.raises(ValueError, match="--schema: data set 'fashionai' has a schema of its own"):
        DATASETS.get('fashionai').open(Source(str(tmp_path), schema))


def test_columns_between_semicolons_are_told(tmp_path):
    make(tmp_path)
    (tmp_path / 'train.csv').write_text(TRAIN.replace(',', ';'))
    with pytest.raises(ValueError, match=r'train\.csv, line 1: no comma'):
        DATASETS.get('csv').open(Source(str(tmp_path)))
