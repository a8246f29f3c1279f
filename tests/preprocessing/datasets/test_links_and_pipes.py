"""What stands where a file of data should be: links out of the data, loops, pipes and devices."""

from __future__ import annotations

import json
import os
import re
import signal

import numpy as np
import pytest

from config import UserError
from preprocessing.conversion import convert
from preprocessing.conversion.images import BadImageError, read_image
from preprocessing.datasets import DATASETS, Source
from preprocessing.datasets.fashionai import SCHEMA as FASHIONAI
from preprocessing.schema import KeypointSchema
from preprocessing.writers import Garment, write
from tests import tiny_pictures

NAMES = ('brim_left', 'brim_right', 'top')
SCHEMA = KeypointSchema('hats', NAMES, {'hat': NAMES}, {'hat': NAMES[:2]})
POINTS = np.array([[10.5, 20.5], [30.25, 21.5], [20.5, 8.5]], np.float32)
GARMENT = Garment('a.png', '', 'hat', POINTS, np.array([1, 0, 1]), (60, 80))
WRITTEN = ('coco', 'cvat', 'label_studio', 'labelme', 'yolo')
# Of each reader the files that it opens, those of its own fixture.
_HAT = 'image_id,image_category,brim_left,brim_right,top\na.png,hat,1_2_1,3_4_1,5_6_1\n'
_SKIRT = ','.join(['image_id', 'image_category', *FASHIONAI.keypoints])
_LANDMARKS = '1\nimage_name clothes_type variation_type\na.png 2 1' + ' 0 5 6' * 4
_ITEM = {'category_id': 9, 'bounding_box': [1, 2, 30, 40], 'landmarks': [5, 6, 2] * 8}
OTHERS = {
    'deeplabcut': {'a.csv': 'scorer,me,me\nbodyparts,top,top\ncoords,x,y\na.png,1,2\n'},
    'csv': {'train.csv': _HAT},
    'fashionai': {
        'train_0/Annotations/train.csv': f'{_SKIRT}\nImages/skirt/a.png,skirt' + ',1_2_1' * 24
    },
    'fld': {
        'Anno/list_landmarks.txt': _LANDMARKS,
        'Anno/list_bbox.txt': '1\nimage_name x_1 y_1 x_2 y_2\na.png 1 2 30 40\n',
        'Eval/list_eval_partition.txt': '1\nimage_name evaluation_status\na.png train\n',
    },
    'deepfashion2': {'train/annos/a.json': json.dumps({'item1': _ITEM})},
}
PICTURE = {
    'fashionai': 'train_0/Images/skirt/a.png',
    'deepfashion2': 'train/image/a.jpg',
    'yolo': 'images/a.png',
}
READERS = (*WRITTEN, *OTHERS)


def make(root, name):
    """Write a data set of one garment without its picture; the names of its files."""
    if name in WRITTEN:
        write(name, str(root), [GARMENT], SCHEMA)
    for path, text in OTHERS.get(name, {}).items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    picture_of(root, name)
    if name == 'label_studio':
        path = root / 'tasks.json'
        path.write_text(path.read_text().replace('"predictions"', '"annotations"'))
        (root / 'labeling_config.xml').unlink()
    return [path for path in root.rglob('*') if path.is_file()]


def picture_of(root, name):
    """Return where the picture belongs, in a directory that is there."""
    path = root / PICTURE.get(name, 'a.png')
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def opened(root, name, allow_links=()):
    """Read a data set as a conversion does; its annotations."""
    spec = DATASETS.get(name)
    schema = SCHEMA if spec.schema is None else None
    _, splits = spec.open(Source(str(root), schema, allow_links=tuple(map(str, allow_links))))
    return [one for split in splits for one in split.annotations()]


@pytest.fixture(autouse=True)
def ended():
    """What hangs in a test is interrupted."""

    def interrupt(number, frame):
        raise TimeoutError('still running')

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.alarm(120)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def test_every_reader_is_here():
    assert sorted(READERS) == DATASETS.names()


@pytest.mark.parametrize('name', READERS)
def test_a_pipe_in_place_of_any_file_is_told(tmp_path, name):
    files = make(tmp_path, name)
    assert files
    for path in files:
        content = path.read_bytes()
        path.unlink()
        os.mkfifo(path)
        with pytest.raises(UserError, match=re.escape(f'{path} is no regular file')):
            opened(tmp_path, name)
        path.unlink()
        path.write_bytes(content)
    assert len(opened(tmp_path, name)) == 1
    picture = picture_of(tmp_path, name)
    os.mkfifo(picture)
    (one,) = opened(tmp_path, name)
    assert one.image_path == str(picture)
    with pytest.raises(BadImageError, match='no regular file'):
        read_image(one.image_path)


def test_a_device_has_no_end(tmp_path):
    os.symlink('/dev/zero', tmp_path / 'annotations.json')
    with pytest.raises(UserError, match='annotations.json is no regular file'):
        opened(tmp_path, 'coco')


def annexed(tmp_path, name):
    """Keep the picture as git-annex does: a link to an object outside; the data and the objects."""
    data, objects = tmp_path / 'data', tmp_path / 'annex' / 'objects'
    data.mkdir()
    make(data, name)
    tiny_pictures.write(objects, ['XJ/8q/SHA256E-s1--0f.png'])
    picture = picture_of(data, name)
    picture.symlink_to(os.path.relpath(objects / 'XJ/8q/SHA256E-s1--0f.png', picture.parent))
    return data, objects


@pytest.mark.parametrize('name', READERS)
def test_links_lead_where_the_user_allows(tmp_path, name):
    data, objects = annexed(tmp_path, name)
    with pytest.raises(UserError, match='symbolic link, to .*SHA256E.*--allow_links=DIR'):
        opened(data, name)
    for allowed in (objects, tmp_path / 'annex'):
        (one,) = opened(data, name, [tmp_path / 'data', allowed])
        assert one.image_path == str(picture_of(data, name))
    with pytest.raises(UserError, match='symbolic link'):
        opened(data, name, [tmp_path / 'annex' / 'obj', objects / 'other'])


@pytest.mark.parametrize('name', ['coco', 'fashionai'])
def test_a_chain_of_links_is_judged_by_its_end(tmp_path, name):
    data, objects = annexed(tmp_path, name)
    tiny_pictures.write(tmp_path, ['secret.png'])
    target = objects / 'XJ/8q/SHA256E-s1--0f.png'
    target.unlink()
    target.symlink_to(tmp_path / 'secret.png')
    with pytest.raises(UserError, match=r'symbolic link, to .*secret\.png'):
        opened(data, name, [objects])


@pytest.mark.parametrize('name', READERS)
def test_links_that_lead_back_end(tmp_path, name):
    make(tmp_path, name)
    picture = picture_of(tmp_path, name)
    picture.symlink_to(picture.name)
    for number in range(6):  # each could be entered from within each
        (picture.parent / f'loop{number}').symlink_to(tmp_path)
    (one,) = opened(tmp_path, name)
    with pytest.raises(BadImageError):
        read_image(one.image_path)


def test_a_conversion_follows_allowed_links(tmp_path):
    """As DVC links: the picture is a link to an absolute path in its cache."""
    data, cache = tmp_path / 'data', tmp_path / 'cache'
    make(data, 'coco')
    tiny_pictures.write(cache, ['files/md5/0f/a1.png'])
    (data / 'a.png').symlink_to(cache / 'files/md5/0f/a1.png')
    _, found = tiny_pictures.converted(data, 'coco', allow_links=(str(cache),))
    assert list(found['train']) == ['a.png']
    settings = convert.Settings(str(data), str(data / 'r'), 'coco', allow_links=('nowhere',))
    with pytest.raises(UserError, match='--allow_links=nowhere: no such directory'):
        convert.convert(settings, lambda items, total, label: items)


def test_pictures_above_the_data_are_no_pictures_of_them(tmp_path):
    """The directory above that of a CSV is one for pictures only where it is below the data."""
    data = tmp_path / 'lab' / 'data'
    make(data, 'deeplabcut')
    tiny_pictures.write(tmp_path, ['a.png'])
    (one,) = opened(data, 'deeplabcut')
    assert one.image_path == str(data / 'a.png')


@pytest.mark.parametrize('name', sorted({*WRITTEN, 'fld', 'deepfashion2'}))
def test_a_file_of_two_gigabytes_is_not_read(tmp_path, name):
    """Told by its size: a file with a hole takes no space on disk, but 2 GB of memory."""
    for path in make(tmp_path, name):
        content = path.read_bytes()
        os.truncate(path, 2 << 30)
        with pytest.raises(UserError, match=rf'{path.name}: 2147483648 bytes; at most \d+ are'):
            opened(tmp_path, name)
        path.write_bytes(content)


@pytest.mark.parametrize('name', ['coco', 'label_studio', 'labelme', 'deepfashion2'])
def test_lists_in_lists_without_end_are_told(tmp_path, name):
    for path in make(tmp_path, name):
        path.write_text('{"a": ' + '[' * 100_000)
        with pytest.raises(UserError, match='nested too deeply|no JSON'):
            opened(tmp_path, name)
