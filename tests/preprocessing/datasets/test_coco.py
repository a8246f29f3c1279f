"""COCO keypoint JSON, written by hand: what its records hold, and how its faults are told."""

from __future__ import annotations

import copy
import json
import math
import re

import numpy as np
import pytest

from preprocessing import records
from preprocessing.datasets import DATASETS, Source, coco
from preprocessing.schema import KeypointSchema
from tests import tiny_pictures

HAT = ['brim_left', 'brim_right', 'top']
DATA = {
    'images': [
        {'id': 7, 'file_name': 'a.png', 'width': 80, 'height': 60},
        {'id': 9, 'file_name': 'sub\\b.png', 'width': 80, 'height': 60},
    ],
    'categories': [
        {'id': 1, 'name': 'hat', 'keypoints': HAT, 'skeleton': [[1, 3], [3, 2]]},
        {'id': 3, 'name': 'shoe', 'keypoints': ['heel', 'top'], 'skeleton': []},
        {'id': 4, 'name': 'background'},
    ],
    'annotations': [
        {'id': 1, 'image_id': 7, 'category_id': 1, 'bbox': [10, 5, 30, 40], 'iscrowd': 0,
         'keypoints': [12, 40, 2, 38, 41, 1, 0, 0, 0], 'num_keypoints': 2},
        {'id': 2, 'image_id': 7, 'category_id': 1, 'bbox': [45, 5, 20, 20],
         'keypoints': [46, 20, 2, 64, 20, 2, 55, 6, 2]},
        {'id': 3, 'image_id': 9, 'category_id': 3, 'keypoints': [3, 50, 2, 20, 30, 2]},
        {'id': 4, 'image_id': 9, 'category_id': 4, 'bbox': [0, 0, 5, 5]},
        {'id': 5, 'image_id': 9, 'category_id': 1, 'iscrowd': 1, 'bbox': [0, 0, 5, 5],
         'segmentation': {'counts': 'x', 'size': [60, 80]}},
    ],
}  # fmt: skip


def make(root, data=DATA, name='annotations/person_keypoints_train2017.json', pictures=True):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data))
    if pictures:
        tiny_pictures.write(root / 'train2017', ['a.png', 'sub/b.png'])
    return str(root)


def changed(*keys, value):
    """Return DATA with one value in it changed."""
    data = copy.deepcopy(DATA)
    place = data
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    return data


def read(root, **source):
    return DATASETS.get('coco').open(Source(str(root), **source))


def test_every_garment_is_a_record_with_its_box(tmp_path):
    make(tmp_path)
    info, found = tiny_pictures.converted(tmp_path, 'coco')
    assert set(found['train']) == {'a.png#1', 'a.png#2', 'sub/b.png'}
    first = found['train']['a.png#1']
    # Whole numbers are indices of pixels: their centers are half a pixel further.
    np.testing.assert_array_equal(first['keypoints'], [[12.5, 40.5], [38.5, 41.5], *[[-1, -1]] * 2])
    assert first['visibility'].tolist() == [1, 0, -1, -1]
    assert first['box'].tolist() == [10, 5, 40, 45]
    assert first['normalizer'] == pytest.approx(math.sqrt(30 * 40))
    assert first['category'] == b'hat'
    shoe = found['train']['sub/b.png']
    assert shoe['visibility'].tolist() == [-1, -1, 1, 1]  # 'top' is one point in both categories
    assert shoe['box'].tolist() == [0, 0, 0, 0]
    assert shoe['normalizer'] == pytest.approx(math.sqrt(17 * 20))  # of the box of its points
    assert info['splits']['train']['boxes'] == 2
    assert info['duplicates']['groups'] == 0


def test_the_records_carry_the_schema(tmp_path):
    make(tmp_path)
    info, _ = tiny_pictures.converted(tmp_path, 'coco')
    schema = records.schema_of(info)
    assert schema == KeypointSchema(
        'coco',
        ('brim_left', 'brim_right', 'top', 'heel'),
        {'hat': tuple(HAT), 'shoe': ('heel', 'top')},
        {'hat': 'sqrt_box_area', 'shoe': 'sqrt_box_area'},
        swaps=(('brim_left', 'brim_right'),),
        skeleton=(('brim_left', 'top'), ('top', 'brim_right')),
        metric='oks_ap',
    )


def test_people_have_the_sigmas_of_coco():
    points = ('nose', 'left_hip', 'right_hip', 'tail')
    schema = coco._schema({'person': coco._Category('person', points, ())})
    assert schema.sigmas == {'nose': 0.026, 'left_hip': 0.107, 'right_hip': 0.107}


def test_records_of_other_keypoints_are_refused(tmp_path):
    make(tmp_path)
    info, _ = tiny_pictures.converted(tmp_path, 'coco')
    split_dir = str(tmp_path / 'records' / 'train')
    records.check_schema(split_dir, records.schema_of(info))
    with pytest.raises(
        ValueError, match="train has the 4 keypoints of 'coco', not the 24 of 'fash"
    ):
        records.check_schema(split_dir, DATASETS.get('fashionai').schema)


def test_fractions_are_not_moved_unless_told(tmp_path):
    make(tmp_path, changed('annotations', 0, 'keypoints', value=[12.25, 40, 2, 38, 41, 1, 0, 0, 0]))
    for offset, x in ((None, 12.25), (0.5, 12.75)):
        schema, (split,) = read(tmp_path, point_offset=offset)
        assert next(iter(split.annotations())).keypoints[0, 0] == x


def test_the_splits_of_a_data_set_are_kept_apart(tmp_path):
    for name, picture in (('val', 'v.png'), ('test', 't.png')):
        data = changed('images', 0, 'file_name', value=picture)
        data['annotations'] = data['annotations'][:1]
        data['images'] = data['images'][:1]
        make(tmp_path, data, f'annotations/{name}.json', pictures=False)
    make(tmp_path)
    make(tmp_path, {'info': {}}, 'annotations/captions.json')
    tiny_pictures.write(tmp_path / 'images', ['v.png', 't.png', 'x.png'])
    info, found = tiny_pictures.converted(tmp_path, 'coco', val_fraction=0.9)
    assert {name: sorted(records) for name, records in found.items()} == {
        'train': ['a.png#1', 'a.png#2', 'sub/b.png'],
        'val': ['v.png'],
        'test': ['t.png'],
    }
    assert info['splits']['test']['labelled']


def test_pictures_without_annotations_are_to_be_predicted(tmp_path):
    data = {**DATA, 'categories': DATA['categories'][:1], 'annotations': []}
    make(tmp_path, data, name='annotations/image_info_test2017.json')
    _, (split,) = read(tmp_path)
    assert not split.labelled
    assert [one.image_id for one in split.annotations()] == ['a.png', 'sub/b.png']


def test_a_schema_file_wins_and_must_know_the_names(tmp_path):
    make(tmp_path)
    names = ('top', 'brim_right', 'brim_left', 'heel')
    known = {'hat': names[:3], 'shoe': ('top', 'heel')}
    pairs = {'hat': names[1:3], 'shoe': 'box_diagonal'}
    schema = KeypointSchema('mine', names, known, pairs, swaps=(('brim_left', 'brim_right'),))
    found, (split,) = read(tmp_path, schema=schema)
    assert found is schema
    assert next(iter(split.annotations())).visibility.tolist() == [-1, 0, 1, -1]
    narrow = KeypointSchema('mine', names[:2], {'hat': names[:2]}, {'hat': names[:2]}, swaps=())
    with pytest.raises(ValueError, match="categories.0.: keypoint 'brim_left' is not one of hat"):
        read(tmp_path, schema=narrow)


@pytest.mark.parametrize(
    ('change', 'reason'),
    [
        (('annotations', 2, 'bbox', [3, 4, 0, 5]), 'a box of no area'),
        (('annotations', 2, 'keypoints', [0] * 6), 'no keypoint is annotated'),
        (('images', 1, 'width', 81), 'the annotation is of a picture of 81x60 px, this one has 80'),
        (('images', 1, 'file_name', 'c.png'), 'no file'),
    ],
)
def test_what_cannot_be_used_is_rejected_with_its_reason(tmp_path, change, reason):
    make(tmp_path, changed(*change[:-1], value=change[-1]))
    info, found = tiny_pictures.converted(tmp_path, 'coco')
    assert info['rejected'] == 1
    assert set(found['train']) == {'a.png#1', 'a.png#2'}
    assert reason in (tmp_path / 'records' / 'rejected.csv').read_text()


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (('annotations', 0, 'keypoints', [1, 2, 2]), 'annotations[0].keypoints: a list of 3 must'),
        (('annotations', 0, 'keypoints', [1, 2, '2'] * 3), "keypoints[2]: '2' must be a finite"),
        (('annotations', 0, 'keypoints', [1, 2, 3] * 3), 'the visibility of brim_left is 3'),
        (('annotations', 0, 'keypoints', [1e9, 2, 2] * 3), '1e+09 is beyond 65535 px'),
        (('annotations', 0, 'keypoints', {}), 'an object of 0 must be a list'),
        (('annotations', 1, 'id', 1), 'annotations[1].id: 1 is the id of an earlier annotation'),
        (('annotations', 1, 'id', '1'), "annotations[1].id: '1' must be a whole number"),
        (('annotations', 1, 'image_id', 8), 'annotations[1].image_id: no picture has the id 8'),
        (('annotations', 1, 'category_id', 2), 'annotations[1].category_id: no category has the'),
        (('annotations', 1, 'bbox', [1, 2, 3]), 'annotations[1].bbox: a list of 3 must have 4'),
        (('annotations', 1, 5), 'annotations[1]: 5 must be an object'),
        (('images', 1, 'id', 7), 'images[1].id: 7 is the id of an earlier picture'),
        (('images', 0, 'file_name', '../a.png'), 'images[0].file_name: '),
        (('images', 0, 'file_name', '/etc/passwd'), 'must be a path below the data'),
        (('images', 0, 'file_name', ''), 'must be a path below the data'),
        (('images', None), "'images' is missing"),
        (('categories', 0, 'keypoints', ['a', 'a', 'b']), 'categories[0].keypoints: a keypoint is'),
        (('categories', 0, 'name', 'a/b'), "categories[0].name: 'a/b' cannot name a category"),
        (('categories', 1, 'name', 'hat'), "'hat' is the name of an earlier category"),
        (('categories', 1, 'id', 1), '1 is the id of an earlier category'),
        (('categories', 0, 'skeleton', [[1, 4]]), 'skeleton[0] is [1, 4], not two numbers from 1'),
        (('categories', []), 'not COCO keypoint JSON'),
        (('annotations', []), 'holds no item'),
    ],
)
def test_a_fault_is_told_with_file_item_and_field(tmp_path, change, message):
    make(tmp_path, changed(*change[:-1], value=change[-1]))
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        read(tmp_path)
    assert 'person_keypoints_train2017.json' in str(error.value)


def test_whole_numbers_may_have_a_decimal_point(tmp_path):
    """To JSON 7.0 is 7, and tables of numbers are written so."""
    text = re.sub(
        r'"(id|image_id|category_id|width|height)": (\d+)', r'"\1": \2.0', json.dumps(DATA)
    )
    assert text.count('.0') > 20
    make(tmp_path, json.loads(text))
    _, (split,) = read(tmp_path)
    ids = [one.image_id for one in split.annotations()]
    assert ids == ['a.png#1', 'a.png#2', 'sub/b.png']
    make(tmp_path, changed('images', 0, 'id', value=7.5), pictures=False)
    with pytest.raises(ValueError, match=r'images\[0\].id: 7.5 must be a whole number'):
        read(tmp_path)


def test_lines_may_be_counted_from_zero(tmp_path):
    make(tmp_path, changed('categories', 0, 'skeleton', value=[[0, 2]]))
    assert read(tmp_path)[0].skeleton == (('brim_left', 'top'),)


def test_no_data_is_told(tmp_path):
    with pytest.raises(ValueError, match='holds no JSON file'):
        read(tmp_path)
