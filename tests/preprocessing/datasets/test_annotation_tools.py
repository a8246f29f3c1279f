"""CVAT, Label Studio, YOLO, DeepLabCut and FLD: small files written by hand, and their faults.

Each fixture holds the same two hats in one picture, or one where the format has no more.
"""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from preprocessing.datasets import DATASETS, Source
from preprocessing.schema import KeypointSchema
from tests import tiny_pictures

NAMES = ('brim_left', 'brim_right', 'top')
# Of the two hats: px of the picture, of 60 x 80 px, and visibility; -1 has no place.
FIRST = np.array([[12, 40, 1], [38, 41, 0], [-1, -1, -1]], float)
SECOND = np.array([[46, 20, 1], [64, 20, 1], [55, 6, 1]], float)
BOXES = np.array([[10, 5, 40, 45], [44, 5, 66, 25]], float)

CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version><meta><task><id>1</id></task></meta>
<image id="0" name="a.png" width="80" height="60">
  <box label="hat" xtl="10" ytl="5" xbr="40" ybr="45" occluded="0" group_id="1"/>
  <skeleton label="hat" occluded="0" source="manual" z_order="0" group_id="1">
    <points label="brim_left" points="12.00,40.00" outside="0" occluded="0"/>
    <points label="brim_right" points="38.00,41.00" outside="0" occluded="1"/>
    <points label="top" points="1.00,1.00" outside="1" occluded="0"/>
  </skeleton>
  <box label="hat" xtl="44" ytl="5" xbr="66" ybr="25" occluded="0"/>
  <skeleton label="hat" occluded="0" source="manual" z_order="0">
    <points label="brim_left" points="46,20" outside="0" occluded="0"/>
    <points label="brim_right" points="64,20" outside="0" occluded="0"/>
    <points label="top" points="55,6" outside="0" occluded="0"/>
  </skeleton>
</image></annotations>
"""
YOLO = """path: /somewhere/else
train: images/train
val: images/val
names: {0: hat}
kpt_shape: [3, 3]
flip_idx: [1, 0, 2]
kpt_names: {0: [brim_left, brim_right, top]}
"""
DEEPLABCUT = """scorer,me,me,me,me,me,me,me,me,me
bodyparts,brim_left,brim_left,brim_left,brim_right,brim_right,brim_right,top,top,top
coords,x,y,visible,x,y,visible,x,y,visible
images/a.png,12,40,2,38,41,1,,,
"""
FLD = {
    'Anno/list_landmarks.txt': """2
image_name clothes_type variation_type landmark_visibility_1 landmark_location_x_1
img/a.png 2 1 0 012 040 1 038 041 2 000 000 0 055 006
img/b.png 1 1 0 1 2 0 3 4 0 5 6 0 7 8 0 9 10 0 11 12
""",
    'Anno/list_bbox.txt': '2\nimage_name x_1 y_1 x_2 y_2\n'
    'img/a.png 010 005 040 045\nimg/b.png 1 2 30 40\n',
    'Eval/list_eval_partition.txt': '2\nimage_name evaluation_status\nimg/a.png train\n'
    'img/b.png val\n',
}


def region(kind, label, parent=None, number=0, **value):
    found = {'id': f'{kind}{number}', 'type': kind, 'original_width': 80, 'original_height': 60}
    found |= {'image_rotation': 0, 'value': {**value, kind: [label]}}
    return {**found, 'parentID': parent} if parent else found


def label_studio():
    regions = []
    for hat, (points, (x1, y1, x2, y2)) in enumerate(zip((FIRST, SECOND), BOXES)):
        corner = {'x': x1 / 0.8, 'y': y1 / 0.6}
        size = {'width': (x2 - x1) / 0.8, 'height': (y2 - y1) / 0.6, 'rotation': 0}
        regions.append(region('rectanglelabels', 'hat', None, hat, **corner, **size))
        for k, (name, (x, y, v)) in enumerate(zip(NAMES, points)):
            if v >= 0:
                label = name if v else f'{name}:occluded'
                place = {'x': x / 0.8, 'y': y / 0.6, 'width': 0.5}
                parent = f'rectanglelabels{hat}' if hat else None
                regions.append(region('keypointlabels', label, parent, 10 * hat + k, **place))
    annotation = {'result': regions, 'was_cancelled': False}
    cancelled = {'result': [], 'was_cancelled': True}
    image = '/data/upload/1/0123abcd-a.png'
    tasks = [
        {'id': 1, 'data': {'image': image}, 'annotations': [annotation, cancelled]},
        {'id': 2, 'data': {'image': 'b.png'}, 'annotations': []},
    ]
    return json.dumps(tasks)


def yolo_line(points, box):
    center, size = (box[:2] + box[2:]) / 2, box[2:] - box[:2]
    head = [0, *(center / [80, 60]), *(size / [80, 60])]
    body = np.where(points[:, 2:] >= 0, points / [80, 60, 1], [0, 0, -1]) + [0, 0, 1]
    return ' '.join(f'{value:.9g}' for value in (*head, *body.ravel()))


FILES = {
    'cvat': {'annotations.xml': CVAT},
    'label_studio': {'export.json': label_studio()},
    'yolo': {
        'data.yaml': YOLO,
        'labels/train/a.txt': f'{yolo_line(FIRST, BOXES[0])}\n{yolo_line(SECOND, BOXES[1])}\n',
        'labels/val/v.txt': yolo_line(SECOND, BOXES[1]),
    },
    'deeplabcut': {'CollectedData.csv': DEEPLABCUT},
    'fld': FLD,
}
PICTURES = {
    'cvat': ['images/a.png'],
    'label_studio': ['images/a.png'],
    'yolo': ['images/train/a.png', 'images/train/without.png', 'images/val/v.png'],
    'deeplabcut': ['images/a.png'],
    'fld': ['img/a.png', 'img/b.png'],
}
TOOLS = ('cvat', 'label_studio', 'yolo', 'deeplabcut')


def make(root, tool, changes=None):
    tiny_pictures.write(root, PICTURES[tool])
    for name, content in {**FILES[tool], **(changes or {})}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)


def read(root, tool, **source):
    return DATASETS.get(tool).open(Source(str(root), **source))


@pytest.mark.parametrize('tool', TOOLS)
def test_what_is_annotated_is_what_is_read(tmp_path, tool):
    make(tmp_path, tool)
    schema, (split, *_) = read(tmp_path, tool)
    assert schema.keypoints == NAMES
    assert schema.flip_permutation == (1, 0, 2)
    found = list(split.annotations())
    hats = [FIRST] if tool == 'deeplabcut' else [FIRST, SECOND]
    assert len(found) == len(hats)
    assert len({one.image_id for one in found}) == len(found)
    for annotation, points, box in zip(found, hats, BOXES):
        there = points[:, 2] >= 0
        assert annotation.visibility.tolist() == points[:, 2].tolist()
        np.testing.assert_allclose(annotation.keypoints[there], points[there, :2], atol=1e-4)
        assert (tmp_path / annotation.image_path).is_file()
        assert annotation.fault is None
        if tool != 'deeplabcut':
            np.testing.assert_allclose(annotation.box, box, atol=1e-4)
            assert list(schema.categories) == [annotation.category] == ['hat']


@pytest.mark.parametrize('tool', TOOLS)
def test_a_schema_file_gives_order_and_category(tmp_path, tool):
    make(tmp_path, tool)
    names = NAMES if tool == 'yolo' else NAMES[::-1]  # of YOLO the order is that of the file
    schema = KeypointSchema('own', names, {'hat': names}, {'hat': 'box_diagonal'})
    found, (split, *_) = read(tmp_path, tool, schema=schema)
    assert found is schema
    annotation = next(split.annotations())
    expected = FIRST if tool == 'yolo' else FIRST[::-1]
    assert annotation.visibility.tolist() == expected[:, 2].tolist()
    few = KeypointSchema('few', NAMES[:2], {'cap': NAMES[:2]}, {'cap': 'box_diagonal'})
    with pytest.raises(ValueError, match='is not one of'):
        read(tmp_path, tool, schema=few)


def test_fld(tmp_path):
    make(tmp_path, 'fld')
    info, found = tiny_pictures.converted(tmp_path, 'fld')
    lower = found['train']['img/a.png']
    assert lower['visibility'].tolist() == [-1, -1, -1, -1, 1, 0, -1, 1]
    np.testing.assert_array_equal(lower['keypoints'][[4, 7]], [[12.5, 40.5], [55.5, 6.5]])
    assert lower['box'].tolist() == [10, 5, 40, 45]
    assert lower['normalizer'] == pytest.approx((60 * 80) ** 0.5)
    assert list(found['val']) == ['img/b.png']
    assert info['splits']['val']['records'] == {'upper': 1, 'lower': 0, 'full': 0}


def test_pictures_of_yolo_without_a_text_file_show_nothing(tmp_path):
    make(tmp_path, 'yolo')
    _, splits = read(tmp_path, 'yolo')
    assert [(split.name, len(list(split.annotations()))) for split in splits] == [
        ('train', 2),
        ('val', 1),
    ]
    assert [split.part for split in splits] == ['pooled', 'val']


@pytest.mark.parametrize(
    ('path', 'directory'),
    [('C:\\data', 'images\\train'), ('..\\hats', 'images/train'), ('', './images/train/')],
)
def test_directories_of_yolo_as_another_machine_writes_them(tmp_path, path, directory):
    text = YOLO.replace('/somewhere/else', f"'{path}'").replace(': images/train', f': {directory}')
    make(tmp_path, 'yolo', {'data.yaml': text})
    _, (train, _) = read(tmp_path, 'yolo')
    assert {one.image_id.split('#')[0] for one in train.annotations()} == {'images/train/a.png'}


def test_pictures_of_yolo_without_labels_are_a_split_to_predict(tmp_path):
    tiny_pictures.write(tmp_path, ['images/test/t.png'])
    make(tmp_path, 'yolo', {'data.yaml': f'{YOLO}test: images/test\n'})
    _, (*_, test) = read(tmp_path, 'yolo')
    assert (test.name, test.labelled, test.is_apart) == ('test', False, True)
    (one,) = test.annotations()
    assert (one.image_id, one.category, one.fault) == ('images/test/t.png', 'hat', None)
    assert one.visibility.tolist() == [-1] * 3
    (tmp_path / 'labels/val/v.txt').unlink()
    with pytest.raises(ValueError, match='data.yaml: val: none of its pictures has labels'):
        read(tmp_path, 'yolo')


def test_two_individuals_of_deeplabcut_are_two_garments(tmp_path):
    rows = [line.split(',') for line in DEEPLABCUT.splitlines()]
    twice = [[row[0], *row[1:], *row[1:]] for row in rows]
    twice.insert(1, ['individuals', *['one'] * 9, *['two'] * 9])
    make(tmp_path, 'deeplabcut', {'CollectedData.csv': '\n'.join(map(','.join, twice))})
    _, (split,) = read(tmp_path, 'deeplabcut')
    assert [one.image_id for one in split.annotations()] == [
        f'images/a.png#{n}' for n in ('one', 'two')
    ]


def test_single_points_of_old_cvat_tasks_belong_to_their_box(tmp_path):
    flat = CVAT.split('  <box label="hat" xtl="44"')[0].replace('</skeleton>', '')
    flat = re.sub('<skeleton[^>]*>', '', flat).replace('<points', '<points group_id="1"')
    make(tmp_path, 'cvat', {'annotations.xml': flat + '</image></annotations>'})
    _, (split,) = read(tmp_path, 'cvat')
    (annotation,) = split.annotations()
    assert annotation.visibility.tolist() == [1, 0, -1]
    assert annotation.box.tolist() == [10, 5, 40, 45]


def test_a_choice_hides_a_point_of_label_studio(tmp_path):
    tasks = json.loads(label_studio())
    regions = tasks[0]['annotations'][0]['result']
    regions.append({'id': 'keypointlabels0', 'type': 'choices', 'value': {'choices': ['Occluded']}})
    make(tmp_path, 'label_studio', {'export.json': json.dumps(tasks)})
    _, (split,) = read(tmp_path, 'label_studio')
    assert next(split.annotations()).visibility.tolist() == [0, 0, -1]


@pytest.mark.parametrize('is_from_point', [True, False])
def test_a_relation_tells_whose_a_point_of_label_studio_is(tmp_path, is_from_point):
    """The boxes are alike, so that their places do not tell; other relations do not matter."""
    tasks = json.loads(label_studio())
    regions = tasks[0]['annotations'][0]['result']
    regions[0]['value'] |= {n: regions[3]['value'][n] for n in ('x', 'y', 'width', 'height')}
    points = [region for region in regions if region['type'] == 'keypointlabels']
    ends = [(point.pop('id'), point.pop('parentID', 'rectanglelabels0')) for point in points]
    for point, (key, _) in zip(points, ends):
        point['id'] = key
    ends += [(ends[0][0], ends[1][0]), ('rectanglelabels0', 'rectanglelabels1')]
    for ends_of_one in ends:
        first, second = ends_of_one if is_from_point else ends_of_one[::-1]
        relation = {'from_id': first, 'to_id': second, 'type': 'relation', 'direction': 'right'}
        regions.append(relation)
    make(tmp_path, 'label_studio', {'export.json': json.dumps(tasks)})
    _, (split,) = read(tmp_path, 'label_studio')
    assert [one.visibility.tolist() for one in split.annotations()] == [[1, 0, -1], [1, 1, 1]]
    regions.append({**regions[-1], 'from_id': ends[0][0], 'to_id': 'rectanglelabels1'})
    make(tmp_path, 'label_studio', {'export.json': json.dumps(tasks)})
    with pytest.raises(ValueError, match='has a relation with another rectangle, too'):
        read(tmp_path, 'label_studio')


def test_names_of_points_by_sleap_are_names_for_yolo(tmp_path):
    named = YOLO.replace('kpt_names: {0: ', 'node_names: ').replace(']}', ']')
    make(tmp_path, 'yolo', {'data.yaml': named})
    assert read(tmp_path, 'yolo')[0].keypoints == NAMES


def replaced(tool, name, old, new):
    content = FILES[tool][name]
    assert old in content
    return {name: content.replace(old, new, 1)}


@pytest.mark.parametrize(
    ('tool', 'name', 'old', 'new', 'message'),
    [
        ('cvat', 'annotations.xml', '<image', '<imag', 'annotations.xml: no XML'),
        ('cvat', 'annotations.xml', '<annotations>', '<!DOCTYPE x><annotations>', '<!DOCTYPE'),
        ('cvat', 'annotations.xml', 'width="80"', 'width="x"', "width: 'x' must be a number"),
        ('cvat', 'annotations.xml', '12.00,40.00', '12;40', "'brim_left': '12;40' must be x,y"),
        ('cvat', 'annotations.xml', '12.00,40.00', '1,2;3,4', 'must be one point with a label'),
        ('cvat', 'annotations.xml', '12.00,40.00', 'nan,4', 'must be finite'),
        ('cvat', 'annotations.xml', '12.00,40.00', '1e7,4', '1e+07 is beyond'),
        ('cvat', 'annotations.xml', '"brim_right"', '"brim_left"', "'brim_left' is there twice"),
        ('cvat', 'annotations.xml', 'a.png', '../../a.png', 'image 0, name: '),
        ('cvat', 'annotations.xml', 'label="hat" occ', 'label="a/b" occ', 'cannot name a category'),
        ('label_studio', 'export.json', '[{"result', '[{"x', "'result' is missing"),
        ('label_studio', 'export.json', '"x": 12.5', '"x": "a"', "'a' must be a finite number"),
        ('label_studio', 'export.json', '"x": 12.5', '"x": 1e5', 'must be percent'),
        ('label_studio', 'export.json', '"rotation": 0', '"rotation": 9', 'a rotated rectangle'),
        ('label_studio', 'export.json', '"image_rotation": 0', '"image_rotation": 90', 'rotated'),
        ('label_studio', 'export.json', '["hat"]', '["hat", "cap"]', '2 rectanglelabels; there'),
        ('label_studio', 'export.json', '"parentID": "', '"parentID": "no', 'no rectangle has'),
        ('label_studio', 'export.json', 'brim_right:occluded', 'brim_left', 'is there twice'),
        ('yolo', 'data.yaml', '[1, 0, 2]', '[1, 2, 0]', 'flip_idx: 0 changes places with 1, but 1'),
        ('yolo', 'data.yaml', '[1, 0, 2]', '[1, 0, 3]', 'must have each of 0 to 2 once'),
        ('yolo', 'data.yaml', '[3, 3]', '[4, 3]', 'kpt_names.0: 3 names; there must be 4'),
        ('yolo', 'data.yaml', '[3, 3]', '[3, 4]', 'must be [K, 2] or [K, 3]'),
        ('yolo', 'data.yaml', '{0: hat}', '[]', 'names: there must be classes'),
        ('yolo', 'data.yaml', 'images/train', 'images/none', 'is no directory of pictures'),
        ('yolo', 'data.yaml', 'images/train', '../x', 'leads out of the data'),
        ('yolo', 'labels/train/a.txt', '0 ', '', 'a.txt, line 1: 13 numbers'),
        ('yolo', 'labels/train/a.txt', '0 ', '7 ', 'line 1: no class has the number 7'),
        ('yolo', 'labels/train/a.txt', '0 ', 'x ', 'line 1: could not convert string'),
        ('yolo', 'labels/train/a.txt', '0.15 ', '12 ', 'must be shares'),
        ('yolo', 'labels/train/a.txt', '0.15 ', 'nan ', 'not finite'),
        ('deeplabcut', 'CollectedData.csv', 'coords', 'cords', "the header lacks the row 'coords'"),
        ('deeplabcut', 'CollectedData.csv', 'x,y,v', 'x,x,v', "'brim_left' 'x' is there twice"),
        ('deeplabcut', 'CollectedData.csv', '12,40', '12,a', "line 4, brim_left y: 'a' must be"),
        ('deeplabcut', 'CollectedData.csv', '12,40', 'inf,1', 'line 4, brim_left: must be finite'),
        ('deeplabcut', 'CollectedData.csv', '12,40,2', '12,40,3', 'visible is 3.0, not 0, 1 or 2'),
        ('deeplabcut', 'CollectedData.csv', ',,,', ',,', 'line 4: 9 fields, not 10'),
        ('deeplabcut', 'CollectedData.csv', 'images/', '../', 'leads out of the data'),
        ('fld', 'Anno/list_landmarks.txt', '2\n', '3\n', '2 rows, but 3 by its first line'),
        ('fld', 'Anno/list_landmarks.txt', ' 2 1 0', ' 4 1 0', 'line 3: clothes_type must be'),
        ('fld', 'Anno/list_landmarks.txt', ' 2 1 0', ' 3 1 0', '12 fields of landmarks, not 24'),
        ('fld', 'Anno/list_landmarks.txt', '012', '0x2', "line 3: '0x2' must be a number"),
        ('fld', 'Anno/list_landmarks.txt', '1 038', '3 038', 'a visibility is not'),
        ('fld', 'Anno/list_bbox.txt', '010', '', 'line 3: img/a.png: 4 fields, not 5'),
        ('fld', 'Eval/list_eval_partition.txt', 'a.png train', 'a.png x', 'is in none of train'),
    ],
)  # fmt: skip
def test_a_fault_is_told_with_file_item_and_field(tmp_path, tool, name, old, new, message):
    make(tmp_path, tool, replaced(tool, name, old, new))
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        if tool == 'fld':
            DATASETS.get(tool).find_splits(str(tmp_path))
        else:
            read(tmp_path, tool)
    assert name.rsplit('/', 1)[-1] in str(error.value)


def test_a_picture_with_two_rows_is_told(tmp_path):
    make(tmp_path, 'deeplabcut', {'CollectedData.csv': DEEPLABCUT + DEEPLABCUT.splitlines()[-1]})
    with pytest.raises(ValueError, match='images/a.png is there 2 times'):
        read(tmp_path, 'deeplabcut')


@pytest.mark.parametrize('tool', TOOLS)
def test_no_data_is_told(tmp_path, tool):
    with pytest.raises(ValueError, match=re.escape(str(tmp_path))):
        read(tmp_path, tool)
