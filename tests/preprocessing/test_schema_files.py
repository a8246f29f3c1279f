"""Schemas as plain values and in files: what is read is what was described, mistakes are named."""

from __future__ import annotations

import json

import pytest

from preprocessing import schema_files
from preprocessing.datasets import DATASETS
from preprocessing.schema import KeypointSchema

HAT = {
    'name': 'hats',
    'keypoints': ['brim_left', 'brim_right', 'top'],
    'categories': {'hat': ['brim_left', 'brim_right', 'top']},
    'normalizers': {'hat': ['brim_left', 'brim_right']},
}
FULL = KeypointSchema(
    name='full',
    keypoints=('a', 'b', 'c', 'd'),
    categories={'x': ('a', 'b', 'c'), 'y': ('d',)},
    normalizers={'x': ('a', 'c'), 'y': 'picture_size'},
    swaps=(('a', 'b'),),
    skeleton=(('a', 'c', 'b'),),
    in_out=(),
    left_of=(('a', 'b'),),
    levels={'c': 2, 'd': 0},
    usual_side=640,
    usual_middle=(0.9, 1.1),
    usual_reach=0.95,
    sigmas={'a': 0.03, 'd': 0.1},
    metric='auc',
)


@pytest.mark.parametrize(
    'schema', [FULL, DATASETS.get('fashionai').schema, DATASETS.get('deepfashion2').schema]
)
def test_what_is_described_is_read_again(schema, tmp_path):
    text = json.dumps(schema_files.describe(schema))
    assert schema_files.parse(json.loads(text), 'here') == schema
    (tmp_path / 'schema.json').write_text(text)
    assert schema_files.read(tmp_path / 'schema.json') == schema
    records = {'dataset': 'csv', 'schema': json.loads(text), 'splits': {}}
    (tmp_path / 'dataset.json').write_text(json.dumps(records))
    assert schema_files.read(tmp_path / 'dataset.json') == schema


def test_what_is_left_out_is_not_described():
    assert schema_files.describe(schema_files.parse(HAT, 'here')) == HAT


def test_yaml_says_the_same(tmp_path):
    path = tmp_path / 'hats.yaml'
    path.write_text(
        'name: hats\n'
        'keypoints: [brim_left, brim_right, top]\n'
        'categories:\n  hat: [brim_left, brim_right, top]\n'
        'normalizers: {hat: [brim_left, brim_right]}\n'
    )
    assert schema_files.read(path) == schema_files.parse(HAT, 'here')


def test_categories_may_share_points_and_normalizer():
    values = {'keypoints': ['a', 'b'], 'categories': ['x', 'y'], 'normalizers': 'box_diagonal'}
    schema = schema_files.parse(values, 'here')
    assert schema.categories == {'x': ('a', 'b'), 'y': ('a', 'b')}
    assert schema.normalizers == {'x': 'box_diagonal', 'y': 'box_diagonal'}


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'keypoint': []}, r"here: unknown field 'keypoint'; there are: name, keypoints"),
        ({'keypoints': None}, "here: 'keypoints' is missing"),
        ({'keypoints': []}, 'here: keypoints: 0 keypoints'),
        ({'keypoints': ['a', 3]}, r'here: keypoints\[1\]: 3 must be a text'),
        ({'keypoints': ['a', ' b']}, r"here: keypoints\[1\]: ' b' is no name"),
        ({'keypoints': 'ab'}, "here: keypoints: 'ab' must be a list"),
        ({'keypoints': ['top', 'top', 'brim_left', 'brim_right']}, 'named twice'),
        ({'categories': {'a/b': ['top']}}, "here: categories: 'a/b' cannot name a category"),
        ({'categories': {'..': ['top']}}, r"'\.\.' cannot name"),
        ({'categories': {'all': ['top']}}, "'all' cannot name"),
        ({'categories': {'hat': []}}, 'here: categories.hat: must be different keypoints'),
        ({'categories': {'hat': ['foot']}}, "hat has unknown .'foot'"),
        ({'categories': ['hat', 'hat']}, 'named twice'),
        ({'categories': {}}, '0 categories'),
        ({'normalizers': {'hat': 'box'}}, 'here: normalizers.hat: must be a pair of keypoints or'),
        ({'normalizers': {'cap': 'box_diagonal'}}, 'categories and normalizers differ'),
        ({'swaps': [['brim_left', 'brim_right'], ['top', 'brim_left']]}, "'brim_left' is in "),
        ({'swaps': [['brim_left', 'foot']]}, 'hat has only one'),
        ({'swaps': [['top']]}, r'here: swaps\[0\]: 1 names; a pair has 2'),
        ({'levels': {'top': 1.5}}, 'here: levels.top: 1.5 must be a whole number'),
        ({'usual_middle': [1]}, 'here: usual_middle: a list of 1 must have 2 numbers'),
        ({'usual_side': True}, 'here: usual_side: True must be a whole number'),
    ],
)
def test_a_mistake_is_named(changes, message):
    assert schema_files.parse(HAT, 'here').num_keypoints == 3
    with pytest.raises(ValueError, match=message):
        schema_files.parse({**HAT, **changes}, 'here')


@pytest.mark.parametrize(
    ('name', 'content', 'message'),
    [
        ('a.json', b'{"keypoints": [1,', 'a.json: no JSON'),
        ('a.json', b'{"a": 1, "a": 2}', "the field 'a' twice"),
        ('a.json', b'{"a": NaN}', 'NaN is no number'),
        ('a.json', b'\xff\xfe', 'not UTF-8 text at byte 0'),
        ('a.json', b'[' * 100_000, 'nested too deeply'),
        ('a.json', b'[]', 'a list of 0 must be an object'),
        ('a.yaml', b'a: [', 'a.yaml: no YAML'),
        ('a.yaml', b'a: 1\na: 2', "the name 'a' is twice"),
        ('a.yaml', b'a: &x [1]\nb: *x', 'an alias'),
        ('a.yaml', b'[' * 50_000, 'a.yaml: no YAML'),
        ('a.yaml', b'a: !!python/object:os.system {}', 'a.yaml: no YAML'),
        ('a.yaml', b'# ' + b'x' * (1 << 20), 'of YAML are read'),
    ],
)
def test_a_broken_file_is_one_sentence(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        schema_files.read(tmp_path / name)
    assert name in str(error.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match=r'none\.json cannot be read'):
        schema_files.read(tmp_path / 'none.json')
