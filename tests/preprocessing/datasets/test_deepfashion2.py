"""DeepFashion2: its tables of points and pairs, and its files, written by hand."""

from __future__ import annotations

import copy
import json
import re

import numpy as np
import pytest

from preprocessing.datasets import DATASETS
from preprocessing.datasets.deepfashion2 import SCHEMA
from tests import tiny_pictures

SKIRT = {
    'category_name': 'skirt',
    'category_id': 9,
    'style': 0,
    'bounding_box': [10, 5, 40, 45],
    'landmarks': [10, 6, 2, 25, 7, 1, 40, 6, 2, *[0, 0, 0] * 5],
    'segmentation': [[1, 2, 3, 4, 5, 6]],
    'scale': 2,
    'occlusion': 1,
    'zoom_in': 1,
    'viewpoint': 2,
}
VEST = {**SKIRT, 'category_name': 'vest', 'category_id': 5, 'landmarks': [20, 20, 2] * 15}
FILE = {'source': 'shop', 'pair_id': 3, 'item1': SKIRT, 'item2': VEST}


def make(root, content=FILE):
    for split in ('train', 'validation'):
        (root / split / 'annos').mkdir(parents=True)
        tiny_pictures.write(root, [f'{split}/image/000001.jpg'])
    (root / 'train/annos/000001.json').write_text(json.dumps(content))
    (root / 'validation/annos/000001.json').write_text(json.dumps({'item1': SKIRT}))


def test_the_table_of_categories():
    counts = [25, 33, 31, 39, 15, 15, 10, 14, 8, 29, 37, 19, 19]
    assert [len(names) for names in SCHEMA.categories.values()] == counts
    assert SCHEMA.num_keypoints == 294
    starts = np.cumsum([0, *counts])[:-1]
    for category, start, count in zip(SCHEMA.categories, starts, counts):
        assert SCHEMA.indices(category) == tuple(range(start, start + count))


@pytest.mark.parametrize('category', list(SCHEMA.categories))
def test_of_the_outline_the_first_changes_places_with_the_last(category):
    own = SCHEMA.subset(category)
    flip = [partner + 1 for partner in own.flip_permutation]
    count = own.num_keypoints
    fixed = {point for point, partner in enumerate(flip, 1) if point == partner}
    if category in ('shorts', 'trousers', 'skirt'):
        assert flip[:3] == [3, 2, 1]
        assert flip[3:] == list(range(count, 3, -1))
    else:
        end = {'short_sleeve_outwear': 25, 'long_sleeve_outwear': 33}.get(category, count)
        assert [flip[0], flip[1], flip[2], flip[4], flip[5]] == [1, 6, 5, 3, 2]
        outline = list(range(end, 6, -1))
        if end < count:  # of an open front the middle of the hem has its partner on the other half
            outline[len(outline) // 2] = {25: 29, 33: 37}[end]
        assert flip[6:end] == outline
    assert 1 in fixed or 2 in fixed


def test_every_item_is_a_record(tmp_path):
    make(tmp_path)
    info, found = tiny_pictures.converted(tmp_path, 'deepfashion2', val_fraction=0.5)
    assert {name: sorted(part) for name, part in found.items()} == {
        'train': ['train/image/000001.jpg#1', 'train/image/000001.jpg#2'],
        'val': ['validation/image/000001.jpg'],
    }
    skirt = found['train']['train/image/000001.jpg#1']
    own = list(SCHEMA.indices('skirt'))
    assert skirt['visibility'][own].tolist() == [1, 0, 1, -1, -1, -1, -1, -1]
    np.testing.assert_array_equal(skirt['keypoints'][own[0]], [10.5, 6.5])
    assert skirt['box'].tolist() == [10, 5, 40, 45]
    assert skirt['normalizer'] == pytest.approx(1200**0.5)
    assert info['splits']['train']['records']['vest'] == 1


@pytest.mark.parametrize(
    ('key', 'value', 'message'),
    [
        ('category_id', 14, 'item1.category_id: 14 must be 1 to 13'),
        ('category_name', 'vest', "'vest' is not the category with the id 9"),
        ('landmarks', [1, 2, 2], 'item1.landmarks: a list of 3 must have 24 numbers'),
        ('landmarks', [1, 2, 3] * 8, 'a visibility is not 0, 1 or 2'),
        ('landmarks', [1e6, 2, 2] * 8, '1e+06 is beyond'),
        ('bounding_box', [1, 2, 3], 'item1.bounding_box: a list of 3 must have 4'),
        ('bounding_box', None, "'bounding_box' is missing"),
    ],
)
def test_a_fault_is_told(tmp_path, key, value, message):
    content = copy.deepcopy(FILE)
    content['item1'][key] = value
    make(tmp_path, content)
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        DATASETS.get('deepfashion2').find_splits(str(tmp_path))
    assert '000001.json: item1' in str(error.value)


@pytest.mark.parametrize(
    ('key', 'value', 'reason'),
    [
        ('landmarks', [0] * 24, 'no keypoint is annotated'),
        ('landmarks', None, 'no keypoint is annotated'),
        ('bounding_box', [10, 5, 10, 9], 'a box of no area'),
    ],
)
def test_an_item_that_cannot_be_used_is_rejected(tmp_path, key, value, reason):
    content = copy.deepcopy(FILE)
    content['item1'][key] = value
    make(tmp_path, content)
    train = DATASETS.get('deepfashion2').find_splits(str(tmp_path))[0]
    first, second = train.annotations()
    assert reason in first.fault
    assert second.fault is None
