"""What is written in a format is read again by its reader with equal points; hostile names leave no
directory.
"""

from __future__ import annotations

import json
import pathlib
import xml.etree.ElementTree as ET

import numpy as np
import pytest
import yaml

from config import UserError
from preprocessing import records
from preprocessing.datasets import DATASETS, Source
from preprocessing.datasets.deepfashion2 import SCHEMA as DEEPFASHION2
from preprocessing.writers import (
    FOLDER_FORMATS,
    WRITERS,
    Garment,
    WriteOptions,
    coco,
    garments_of,
    write,
)
from tests import tiny_pictures
from tests.tiny_records import write_records
from tests.wardrobe import NAMES, SCHEMA, SIZE

PICTURES = ('one.png', 'shop/2 ü.png', 'shop/3%20+&#.png')
READABLE = ('coco', 'cvat', 'label_studio', 'labelme', 'yolo')


def drawn(seed: int, with_scores: bool = True) -> list[Garment]:
    """Draw garments: three of a picture, and one, and two; with occluded and absent points."""
    rng = np.random.default_rng(seed)
    made = []
    for picture in (0, 1, 0, 2, 0, 2):
        category = list(SCHEMA.categories)[rng.integers(2)]
        visibility = np.full(4, -1)
        own = list(SCHEMA.indices(category))
        visibility[own] = rng.integers(-1, 2, 3)
        visibility[own[0]] = rng.integers(0, 2)  # one is there
        points = rng.uniform(0, 1, (4, 2)) * SIZE[::-1]
        if seed % 3 == 0:  # as annotated by pixel, or on whole numbers
            points = np.floor(points) + rng.choice([0.0, 0.5])
        keypoints = np.where(visibility[:, None] >= 0, points, np.nan).astype(np.float32)
        low = rng.uniform(0, 30, 2)
        box = np.concatenate([low, low + rng.uniform(1, 29, 2)]).astype(np.float32)
        scores = rng.uniform(0, 1, 4) if with_scores else None
        made.append(
            Garment(PICTURES[picture], '', category, keypoints, visibility, SIZE, scores, box)
        )
    return made


def accepted(folder):
    """Do what a person does who accepts all pre-annotations in Label Studio and exports them."""
    path = folder / 'tasks.json'
    tasks = json.loads(path.read_text())
    for task in tasks:
        (prediction,) = task.pop('predictions')
        task['annotations'] = [{'result': prediction['result'], 'was_cancelled': False}]
    path.write_text(json.dumps(tasks))


def read_back(folder, name):
    pictures = [f'images/{picture}' if name == 'yolo' else picture for picture in PICTURES]
    tiny_pictures.write(folder, pictures, SIZE)
    if name == 'label_studio':
        accepted(folder)
    schema, splits = DATASETS.get(name).open(Source(str(folder), SCHEMA))
    assert schema == SCHEMA
    return [one for split in splits[:1] for one in split.annotations()]


def check_equal(read, garments, prefix: str = ''):
    by_place = {name: [g for g in garments if g.image_name == name] for name in PICTURES}
    found = {name: [] for name in PICTURES}
    for one in read:
        name = one.image_id.removeprefix(prefix)
        found[next(n for n in PICTURES if name == n or name.startswith(f'{n}#'))].append(one)
    for name, written in by_place.items():
        assert len(found[name]) == len(written)
        for one, garment in zip(found[name], written):
            assert one.category == garment.category and one.fault is None
            np.testing.assert_array_equal(one.visibility, garment.visibility)
            there = garment.visibility >= 0
            assert one.keypoints[there] == pytest.approx(garment.keypoints[there], abs=1e-3)
            if one.image_size is not None:
                assert one.image_size == garment.image_size
            assert one.box == pytest.approx(garment.box, abs=1.1e-3)


@pytest.mark.parametrize('seed', range(4))
@pytest.mark.parametrize('name', READABLE)
def test_points_are_read_back(tmp_path, name, seed):
    garments = drawn(seed)
    write(name, str(tmp_path), garments, SCHEMA)
    check_equal(read_back(tmp_path, name), garments, 'images/' if name == 'yolo' else '')


@pytest.mark.parametrize('name', READABLE)
def test_annotations_without_scores_and_boxes_are_written_too(tmp_path, name):
    garments = [g._replace(box=None) for g in drawn(5, with_scores=False)]
    paths = write(name, str(tmp_path), garments, SCHEMA)
    assert not any(b'score' in pathlib.Path(path).read_bytes() for path in paths)
    for one in read_back(tmp_path, name):
        points = one.keypoints[one.visibility >= 0]
        if name != 'cvat':  # whose skeletons need none
            assert (points >= one.box[:2] - 2e-3).all() and (points <= one.box[2:] + 2e-3).all()


@pytest.mark.parametrize('offset', [0.0, 0.5])
def test_results_are_of_the_annotation_file(tmp_path, offset):
    """What COCO tools join, annotations by pictures and results by numbers, is equal."""
    garments = drawn(1)
    (path,) = write('coco', str(tmp_path / 'annotations'), garments, SCHEMA)
    options = WriteOptions(point_offset=offset, coco_ids=path)
    (results,) = write('coco_results', str(tmp_path), garments, SCHEMA, options)
    annotations = json.loads(pathlib.Path(path).read_text())
    for number, one in enumerate(json.loads(pathlib.Path(results).read_text())):
        same = annotations['annotations'][number]
        assert (one['image_id'], one['category_id']) == (same['image_id'], same['category_id'])
        assert one['score'] == pytest.approx(garments[number].score, abs=1e-6)
        there, points = (
            np.reshape(same['keypoints'], [-1, 3]),
            np.reshape(one['keypoints'], [-1, 3]),
        )
        seen = there[:, 2] > 0
        assert points[seen, :2] == pytest.approx(there[seen, :2] - offset, abs=1e-9)
        own = list(SCHEMA.indices(garments[number].category))
        scores = garments[number].scores[own]
        assert points[seen, 2] == pytest.approx(scores[seen], abs=1e-6)
        assert not points[~seen].any()


def test_numbers_in_names_are_the_numbers_of_pictures():
    ids = coco.usual_ids(['val/000123.jpg', 'val/000007.jpg'], SCHEMA)
    assert ids.images == {'val/000123.jpg': 123, 'val/000007.jpg': 7}
    assert coco.usual_ids(['a/1.jpg', 'b/1.jpg'], SCHEMA).images == {'a/1.jpg': 1, 'b/1.jpg': 2}
    assert coco.usual_ids(['²³.jpg', '1.jpg'], SCHEMA).images == {'1.jpg': 1, '²³.jpg': 2}


def test_deepfashion2_has_294_points_in_every_category():
    visibility = np.full(294, -1)
    own = list(DEEPFASHION2.indices('skirt'))
    visibility[own] = 1
    points = np.arange(588.0).reshape(294, 2) + 0.5
    garment = Garment('validation/image/000012.jpg', '', 'skirt', points, visibility, (900, 900))
    files = WRITERS.get('coco_results')([garment], DEEPFASHION2, WriteOptions(0.5))
    (result,) = json.loads(files['results.json'])
    rows = np.reshape(result['keypoints'], [294, 3])
    assert (result['image_id'], result['category_id']) == (12, 9)
    np.testing.assert_array_equal(np.flatnonzero(rows.any(1)), range(182, 190))
    np.testing.assert_array_equal(rows[own, :2], points[own] - 0.5)


def test_deepfashion2_is_read_back_by_its_schema(tmp_path):
    """In annotations, as opposed to results, a category has its own points only."""
    visibility = np.where(np.isin(np.arange(294), DEEPFASHION2.indices('vest')), 1, -1)
    points = np.linspace(1, 59, 588).reshape(294, 2)
    garment = Garment('000012.jpg', '', 'vest', points, visibility, (60, 60))
    write('coco', str(tmp_path), [garment], DEEPFASHION2)
    _, (split,) = DATASETS.get('coco').open(Source(str(tmp_path), DEEPFASHION2))
    (one,) = split.annotations()
    own = list(DEEPFASHION2.indices('vest'))
    np.testing.assert_array_equal(one.visibility, visibility)
    np.testing.assert_allclose(one.keypoints[own], points[own], atol=1e-3)


def test_ids_of_a_file_are_checked(tmp_path):
    garments = drawn(2)
    path = tmp_path / 'x.json'
    hat = {'id': 41, 'name': 'hat', 'keypoints': ['1', '2', '3']}
    shoe = {'id': 5, 'name': 'shoe shop', 'keypoints': list(NAMES)}
    images = [{'id': 10 + n, 'file_name': name} for n, name in enumerate(PICTURES)]
    path.write_text(json.dumps({'images': images, 'categories': [hat, shoe]}))
    ids = coco.read_ids(str(path), SCHEMA)
    assert ids.categories == {'hat': 41, 'shoe shop': 5}
    assert ids.keypoints == {'hat': NAMES[:3], 'shoe shop': NAMES}
    with pytest.raises(UserError, match=r"x.json: no picture has the file_name 'one.png'"):
        path.write_text(json.dumps({'images': [], 'categories': [hat, shoe]}))
        write('coco', str(tmp_path / 'out'), garments, SCHEMA, WriteOptions(coco_ids=str(path)))
    with pytest.raises(UserError, match=r'categories\[0\]: 2 keypoints, but hat has 3'):
        few = {**hat, 'keypoints': ['1', '2']}
        path.write_text(json.dumps({'images': images, 'categories': [few, shoe]}))
        coco.read_ids(str(path), SCHEMA)


def test_ids_tell_pictures_from_garments():
    ids = ['shop/1.jpg#17', 'shop/1.JPG#a#b', 'b/2#3', 'x.jpg']
    shape = np.zeros([4, 4, 2]), np.ones([4, 4], int), np.full([4, 2], 50)
    boxes = np.array([[0, 0, 5, 5], [0, 0, 0, 5], [0, 0, 0, 0], [1, 2, 3, 4]], float)
    made = garments_of(ids, ['hat'] * 4, *shape, None, boxes)
    names = [('shop/1.jpg', '17'), ('shop/1.JPG', 'a#b'), ('b/2#3', ''), ('x.jpg', '')]
    assert [(one.image_name, one.key) for one in made] == names
    assert [one.box is None for one in made] == [False, True, True, False]


HOSTILE = (
    '../../outside.jpg', '/etc/outside.jpg', 'a/../../outside.jpg', 'C:\\outside.jpg', 'a\nb.jpg',
    'gs://bucket/outside.jpg', '..', '', 'a\x00.jpg', '\ud800.jpg', 'file:outside\x7f.jpg',
)  # fmt: skip


@pytest.mark.parametrize('image_id', HOSTILE)
@pytest.mark.parametrize('name', WRITERS.names())
def test_no_name_leaves_the_output(tmp_path, name, image_id):
    output = tmp_path / 'deep' / 'output'
    (garment, *_) = drawn(0)
    with pytest.raises(UserError, match='image_id'):
        write(name, str(output), [garment._replace(image_name=image_id)], SCHEMA)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    'names',
    [
        ('a.jpg', 'a.json/b.jpg'),
        ('a.txt/c.jpg', 'a.jpg'),
        ('a.jpg', 'a.png'),
        ('a.jpg', 'a.png', 'a.jpg.png'),
    ],
)
@pytest.mark.parametrize('name', ['labelme', 'yolo'])
def test_names_that_meet_are_told_apart_or_refused(tmp_path, name, names):
    (garment, *_) = drawn(0)
    garments = [garment._replace(image_name=one) for one in names]
    try:
        paths = write(name, str(tmp_path / 'out'), garments, SCHEMA)
    except UserError:
        assert list(tmp_path.iterdir()) == []
    else:
        assert len(set(paths)) == len(paths) >= len(names)
        assert all(pathlib.Path(path).stat().st_size for path in paths)


def test_faults_of_garments_are_named(tmp_path):
    garment = drawn(0)[0]
    nan = garment._replace(keypoints=np.full([4, 2], np.nan))
    twice = garment._replace(image_size=(61, 83))
    for garments, message in (
        ([], 'nothing to write'),
        ([nan], 'not a finite number'),
        ([garment, twice], 'different sizes'),
        ([garment._replace(category='sock')], "unknown category 'sock'"),
    ):
        with pytest.raises(UserError, match=message):
            write('cvat', str(tmp_path / 'out'), garments, SCHEMA)


@pytest.mark.parametrize('name', WRITERS.names())
def test_formats_of_several_files_are_called_so(tmp_path, name):
    paths = write(name, str(tmp_path), drawn(0), SCHEMA)
    assert (len(paths) > 1) == (name in FOLDER_FORMATS)


def test_a_folder_with_something_in_it_is_left_alone(tmp_path):
    (tmp_path / 'mine.json').write_text('{}')
    with pytest.raises(UserError, match='not an empty directory'):
        write('labelme', str(tmp_path), drawn(0), SCHEMA)
    assert [path.name for path in tmp_path.iterdir()] == ['mine.json']


def test_pre_annotations_fit_their_configuration(tmp_path):
    write('label_studio', str(tmp_path), drawn(0), SCHEMA)
    config = ET.parse(tmp_path / 'labeling_config.xml').getroot()
    tools = {element.get('name'): element for element in config}
    tasks = json.loads((tmp_path / 'tasks.json').read_text())
    assert len(tasks) == len(PICTURES)
    for task in tasks:
        (prediction,) = task['predictions']
        assert 0 < prediction['score'] < 1
        for result in prediction['result']:
            tool = tools[result['from_name']]
            assert result['type'] == tool.tag.lower() and result['to_name'] == tool.get('toName')
            known = {label.get('value') for label in tool}
            assert set(result['value'][result['type']]) <= known
    indices = [int(label.get('model_index')) for label in tools['keypoints']]
    assert indices == list(range(len(NAMES)))  # without them its exports hold no point


def test_readers_without_skeletons_find_labels_and_groups_in_cvat(tmp_path):
    write('cvat', str(tmp_path), drawn(0), SCHEMA)
    root = ET.parse(tmp_path / 'annotations.xml').getroot()
    labels = [
        (label.findtext('name'), label.findtext('type'), label.findtext('parent'))
        for label in root.find('meta').iter('label')
    ]
    assert labels[:2] == [('hat', 'skeleton', None), ('brim_left', 'points', 'hat')]
    assert ('sole', 'points', 'shoe shop') in labels and len(labels) == 8
    for skeleton in root.iter('skeleton'):
        assert {point.get('group_id') for point in skeleton} == {skeleton.get('group_id')}


def test_data_of_yolo_are_where_their_file_is(tmp_path):
    """Ultralytics takes a relative `path` for one from where it is started."""
    write('yolo', str(tmp_path), drawn(0), SCHEMA)
    assert 'path' not in yaml.safe_load((tmp_path / 'data.yaml').read_text())


def test_points_outside_are_moved_into_the_picture_for_yolo_only(tmp_path):
    garment = drawn(1)[0]
    far = garment._replace(keypoints=np.full([4, 2], 500.0), box=np.array([-5, -5, 200, 200.0]))
    for name, largest in (('yolo', 83), ('coco', 500)):
        folder = tmp_path / name
        write(name, str(folder), [far], SCHEMA)
        (one,) = read_back(folder, name)
        assert one.keypoints.max() == pytest.approx(largest)


def test_records_tell_what_was_added_to_points(tmp_path):
    """Data sets of whole pixels of a time before it was kept have half a pixel."""
    root = write_records(tmp_path / 'records', {'val': {'skirt': 1}}, 40)
    assert records.point_offset(f'{root}/val') == 0.5
    path = tmp_path / 'records' / records.DATASET_FILE
    content = json.loads(path.read_text())
    for value in (0, 0.25, 'x', None, True, 1e300):
        path.write_text(json.dumps({**content, 'point_offset': value}))
        if type(value) in (int, float) and value < 1e6:
            assert records.point_offset(f'{root}/val') == value
        else:
            with pytest.raises(UserError, match='is broken: point_offset'):
                records.point_offset(f'{root}/val')
