"""Every value of every fixture replaced by odd ones: read, or told in one sentence; never another
exception."""

from __future__ import annotations

import copy
import json
import pathlib

import pytest

from config import UserError
from preprocessing.datasets import DATASETS, Source
from tests import tiny_pictures
from tests.preprocessing.datasets import (
    test_annotation_tools,
    test_coco,
    test_deepfashion2,
    test_labelme,
)

ODD = (None, True, -1, 1.5, 10**400, '', 'x', '..', '\x00', [], [[]], {}, {'id': {}})
FIXTURES = {
    'coco': ('annotations/train.json', test_coco.DATA),
    'labelme': ('train/a.json', test_labelme.TWO),
    'deepfashion2': ('train/annos/000001.json', test_deepfashion2.FILE),
    'label_studio': ('export.json', json.loads(test_annotation_tools.label_studio())),
}
# Of texts: what each line and each field of it may become.
TEXTS = {
    'cvat': 'annotations.xml',
    'yolo': 'labels/train/a.txt',
    'deeplabcut': 'CollectedData.csv',
    'fld': 'Anno/list_landmarks.txt',
}
ODD_TEXTS = ('', 'x', '-1', 'nan', '1e400', '9' * 400, '..', '\x00', '"', '<', ',', '\n', 'ä')


def paths(value, path=()):
    """Yield the places of all values in nested lists and objects."""
    yield path
    if isinstance(value, (dict, list)):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from paths(value[key], (*path, key))


def replaced(value, path, new):
    if not path:
        return new
    value = copy.copy(value)
    value[path[0]] = replaced(value[path[0]], path[1:], new)
    return value


def read(dataset, root):
    """Return the annotations of data, or the error of a user's mistake."""
    try:
        _, splits = DATASETS.get(dataset).open(Source(str(root)))
        return [one for split in splits for one in split.annotations()]
    except UserError as error:
        assert '\n' not in str(error)
        return error


@pytest.mark.parametrize('dataset', FIXTURES)
def test_odd_values_of_json(tmp_path, dataset):
    name, fixture = FIXTURES[dataset]
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    tiny_pictures.write(tmp_path, ['images/a.png', 'images/sub/b.png', 'train/a.png'])
    refused = 0
    for number, path in enumerate(paths(fixture)):
        for odd in ODD[number % 3 :: 3]:  # a third of all: it is enough, and takes its time
            (tmp_path / name).write_text(json.dumps(replaced(fixture, path, odd)))
            refused += isinstance(read(dataset, tmp_path), UserError)
    (tmp_path / name).write_text(json.dumps(fixture))
    assert not isinstance(read(dataset, tmp_path), UserError)
    assert refused > 50


@pytest.mark.parametrize('dataset', TEXTS)
def test_odd_texts(tmp_path, dataset):
    test_annotation_tools.make(tmp_path, dataset)
    path = pathlib.Path(tmp_path / TEXTS[dataset])
    text = path.read_text()
    refused = 0
    for start in range(0, len(text), 17):
        for odd in ODD_TEXTS:
            path.write_text(text[:start] + odd + text[start + 5 :])
            refused += isinstance(read(dataset, tmp_path), UserError)
    path.write_text(text)
    assert not isinstance(read(dataset, tmp_path), UserError)
    assert refused > 50


@pytest.mark.parametrize(
    ('dataset', 'first_line', 'message'),
    [
        # Python itself refuses to make a number of so many digits.
        pytest.param('fld', '9' * 5000, 'must be the number of pictures', id='fld'),
        pytest.param('cvat', '<?xml version="1.0" encoding="ud8"?>', 'unknown encoding', id='cvat'),
        pytest.param('deeplabcut', 'scorer', 'not the same number of fields', id='deeplabcut'),
    ],
)
def test_odd_first_lines(tmp_path, dataset, first_line, message):
    test_annotation_tools.make(tmp_path, dataset)
    path = tmp_path / TEXTS[dataset]
    _, *others = path.read_text().splitlines(keepends=True)
    path.write_text('\n'.join([first_line, ''.join(others)]))
    assert message in str(read(dataset, tmp_path))
