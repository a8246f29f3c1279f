"""Files of labelme, written by hand: what their records hold, and how their faults are told."""

from __future__ import annotations

import copy
import json
import math
import re

import numpy as np
import pytest

from preprocessing import records
from preprocessing.datasets import DATASETS, Source
from preprocessing.schema import KeypointSchema
from tests import tiny_pictures


def point(label, x, y, group=None, **more):
    shape = {'label': label, 'points': [[x, y]], 'group_id': group, 'shape_type': 'point'}
    return {**shape, 'description': '', 'flags': {}, 'mask': None, **more}


def rectangle(label, *corners, group=None):
    shape = {'label': label, 'points': [corners[:2], corners[2:]], 'group_id': group}
    return {**shape, 'shape_type': 'rectangle', 'flags': {}}


def file_of(*shapes, image='a.png'):
    return {
        'version': '5.4.1',
        'flags': {},
        'shapes': list(shapes),
        'imagePath': image,
        'imageData': None,
        'imageHeight': 60,
        'imageWidth': 80,
    }


TWO = file_of(
    rectangle('hat', 40, 45, 10, 5, group=1),
    point('brim_left', 12.25, 40.5, 1),
    point('brim_right', 38, 41, 1, flags={'occluded': True}),
    rectangle('hat', 45, 5, 65, 25, group=2),
    point('brim_left', 46, 20, 2),
    point('brim_right (occluded)', 64, 20, 2),
    point('top', 55, 6, 2, description='Hidden'),
    {'label': 'outline', 'points': [[1, 1], [2, 2], [3, 1]], 'shape_type': 'polygon'},
)
ALONE = file_of(point('brim_left', 3, 50), point('top', 20, 30), image='..\\pictures\\b.png')


def make(root, files):
    tiny_pictures.write(root, ['train/a.png', 'pictures/b.png', 'val/c.png'])
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(json.dumps(content))


def read(root, **source):
    return DATASETS.get('labelme').open(Source(str(root), **source))


def test_groups_are_garments(tmp_path):
    val = file_of(rectangle('hat', 1, 1, 30, 30), point('top', 9, 2), image='C:\\me\\c.png')
    make(tmp_path, {'train/a.json': TWO, 'val/c.json': val, 'val/notes.json': {'x': 1}})
    info, found = tiny_pictures.converted(tmp_path, 'labelme')
    assert {name: sorted(part) for name, part in found.items()} == {
        'train': ['train/a.png#1', 'train/a.png#2'],
        'val': ['val/c.png'],  # its imagePath is of another machine: the picture is beside it
    }
    first, second = found['train']['train/a.png#1'], found['train']['train/a.png#2']
    np.testing.assert_array_equal(first['keypoints'], [[12.25, 40.5], [38, 41], [-1, -1]])
    assert first['visibility'].tolist() == [1, 0, -1]
    assert second['visibility'].tolist() == [1, 0, 0]
    assert first['box'].tolist() == [10, 5, 40, 45]
    assert first['normalizer'] == pytest.approx(math.sqrt(30 * 40))
    schema = records.schema_of(info)
    assert schema.keypoints == ('brim_left', 'brim_right', 'top')
    assert schema.swaps == (('brim_left', 'brim_right'),)
    assert list(schema.categories) == ['hat']


def test_a_picture_without_rectangles_is_one_garment(tmp_path):
    make(tmp_path, {'train/b.json': ALONE})
    schema, (split,) = read(tmp_path)
    (annotation,) = split.annotations()
    assert annotation.image_id == 'pictures/b.png'
    assert (annotation.category, annotation.box) == ('garment', None)
    names = ('top', 'brim_left')
    own = KeypointSchema('own', names, {'cap': names}, {'cap': names}, swaps=())
    found, (split,) = read(tmp_path, schema=own, point_offset=0.5)
    (annotation,) = split.annotations()
    assert found is own
    assert annotation.category == 'cap'
    np.testing.assert_array_equal(annotation.keypoints, [[20.5, 30.5], [3.5, 50.5]])


def test_points_without_a_group_belong_to_the_rectangle_around_them(tmp_path):
    shapes = [dict(shape, group_id=None) for shape in TWO['shapes']]
    make(tmp_path, {'train/a.json': file_of(*shapes)})
    _, (split,) = read(tmp_path)
    first, second = split.annotations()
    assert (first.visibility >= 0).sum() == 2
    assert (second.visibility >= 0).sum() == 3


@pytest.mark.parametrize(
    ('shapes', 'message'),
    [
        ([point('top', 1, 2), point('top', 3, 4)], "shapes[1].label: 'top' is there twice"),
        ([dict(point('top', 1, 2), points=[[1]])], 'shapes[0].points[0]: a list of 1 must have 2'),
        ([dict(point('top', 1, 2), points=[])], 'shapes[0].points: a point has 1, not 0 points'),
        ([point('top', 1e7, 2)], '1e+07 is beyond'),
        ([point('top', 1, 2, group=1.5)], 'shapes[0].group_id: 1.5 must be a whole number'),
        ([point('', 1, 2)], "shapes[0].label: '' names no keypoint"),
        ([dict(point('top', 1, 2), flags=[])], 'shapes[0].flags: a list of 0 must be an object'),
        ([rectangle('a/b', 1, 1, 9, 9)], "shapes[0].label: 'a/b' cannot name a category"),
        ([rectangle('hat', 1, 1, 9, 9, group=1)] * 2, 'is that of an earlier rectangle'),
        ([rectangle('hat', 1, 1, 9, 9), rectangle('hat', 20, 1, 29, 9), point('top', 50, 50)],
         'this point is in 0 of 2 rectangles'),
        ({}, 'shapes: an object of 0 must be a list'),
        ([rectangle('hat', 1, 1, 9, 9)], 'no keypoint is annotated in any file'),
    ],
)  # fmt: skip
def test_a_fault_is_told_with_file_item_and_field(tmp_path, shapes, message):
    content = copy.deepcopy(TWO)
    content['shapes'] = shapes
    make(tmp_path, {'train/a.json': content})
    with pytest.raises(ValueError, match=re.escape(message)):
        read(tmp_path)


def test_names_must_be_in_the_schema(tmp_path):
    make(tmp_path, {'train/a.json': TWO})
    names = ('brim_left', 'brim_right')
    with pytest.raises(ValueError, match="a.json: shapes.6..label: keypoint 'top' is not one of"):
        read(tmp_path, schema=KeypointSchema('x', names, {'hat': names}, {'hat': names}))
    with pytest.raises(ValueError, match="label: category 'hat' is not one of the schema: cap"):
        read(tmp_path, schema=KeypointSchema('x', names, {'cap': names}, {'cap': names}))


def test_a_picture_may_not_lead_out_of_the_data(tmp_path):
    make(tmp_path, {'train/x.json': file_of(point('top', 1, 2), image='../../etc/x.png')})
    with pytest.raises(ValueError, match='x.json: imagePath: .* leads out of the data'):
        read(tmp_path)


def test_a_rectangle_of_no_area_is_rejected(tmp_path):
    bad = file_of(rectangle('hat', 5, 5, 5, 9, group=1), point('top', 5, 6, 1), image='c.png')
    make(tmp_path, {'train/a.json': TWO, 'val/c.json': bad})
    with pytest.raises(ValueError, match=r'val/c.png: a box of no area'):
        tiny_pictures.converted(tmp_path, 'labelme', skip_bad_images=False)
