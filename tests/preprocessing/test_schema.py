"""preprocessing.schema, and the schema of FashionAI against the published tables."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprocessing.datasets import DATASETS
from preprocessing.schema import KeypointSchema

FASHIONAI = DATASETS.get('fashionai').schema
WITH_SCHEMA = [name for name in DATASETS.names() if DATASETS.get(name).schema]
# Order of the columns of the annotation CSVs.
NAMES = [
    *('neckline_left', 'neckline_right', 'center_front', 'shoulder_left', 'shoulder_right'),
    *('armpit_left', 'armpit_right', 'waistline_left', 'waistline_right'),
    *('cuff_left_in', 'cuff_left_out', 'cuff_right_in', 'cuff_right_out'),
    *('top_hem_left', 'top_hem_right', 'waistband_left', 'waistband_right'),
    *('hemline_left', 'hemline_right', 'crotch'),
    *('bottom_left_in', 'bottom_left_out', 'bottom_right_in', 'bottom_right_out'),
]
INDICES = {
    'blouse': (0, 1, 2, 3, 4, 5, 6, 9, 10, 11, 12, 13, 14),
    'dress': (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 17, 18),
    'outwear': (0, 1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14),
    'skirt': (15, 16, 17, 18),
    'trousers': (15, 16, 19, 20, 21, 22, 23),
}
# The mirror tables of tf.fashionAI: the places of the points in its own order, and the place that
# each one changes with.
FLIPS = {
    'all': (range(24), '1 0 2 4 3 6 5 8 7 11 12 9 10 14 13 16 15 18 17 19 22 23 20 21'),
    'blouse': ((0, 1, 3, 4, 2, 5, 6, 13, 14, 9, 10, 11, 12), '1 0 3 2 4 6 5 8 7 11 12 9 10'),
    'dress': (
        (0, 1, 3, 4, 2, 5, 6, 7, 8, 9, 10, 11, 12, 17, 18),
        '1 0 3 2 4 6 5 8 7 11 12 9 10 14 13',
    ),
    'outwear': ((0, 1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14), '1 0 3 2 5 4 7 6 10 11 8 9 13 12'),
    'skirt': ((15, 16, 17, 18), '1 0 3 2'),
    'trousers': ((15, 16, 19, 20, 21, 22, 23), '1 0 2 5 6 3 4'),
}
CATEGORIES = sorted(INDICES)


def _schema(**changes) -> KeypointSchema:
    """Return a small schema that is right but for the changes."""
    return KeypointSchema(
        **{
            'name': 'tiny',
            'keypoints': ('top', 'hand_left', 'hand_right'),
            'categories': {
                'shirt': ('top', 'hand_left', 'hand_right'),
                'hat': ('top', 'hand_left'),
            },
            'normalizers': {'shirt': ('hand_left', 'hand_right'), 'hat': ('top', 'hand_left')},
            **changes,
        }
    )


def test_fashionai_names_in_the_order_of_the_csv():
    assert FASHIONAI.keypoints == tuple(NAMES)
    assert FASHIONAI.num_keypoints == 24


@pytest.mark.parametrize('category', CATEGORIES)
def test_fashionai_points_of_a_category(category):
    assert sorted(FASHIONAI.categories) == CATEGORIES
    assert FASHIONAI.indices(category) == INDICES[category]


@pytest.mark.parametrize('category', CATEGORIES)
def test_fashionai_normalizer_pairs(category):
    pair = (15, 16) if category in ('skirt', 'trousers') else (5, 6)
    assert FASHIONAI.normalizer_indices(category) == pair
    own = FASHIONAI.subset(category)
    names = [own.keypoints[k] for k in own.normalizer_indices(category)]
    assert names == [NAMES[k] for k in pair]


@pytest.mark.parametrize('category', [*CATEGORIES, 'all'])
def test_fashionai_flip_permutations(category):
    order, flip = FLIPS[category]
    names = [NAMES[k] for k in order]
    published = {name: names[int(partner)] for name, partner in zip(names, flip.split())}
    own = FASHIONAI.subset(category)
    pairs = zip(own.keypoints, own.flip_permutation)
    assert {name: own.keypoints[partner] for name, partner in pairs} == published


@pytest.mark.parametrize('name', WITH_SCHEMA)
def test_a_mirror_of_every_data_set_undoes_itself(name):
    schema = DATASETS.get(name).schema
    for category in [*schema.categories, 'all']:
        own = schema.subset(category)
        flip = own.flip_permutation
        assert [flip[partner] for partner in flip] == list(range(own.num_keypoints))


@pytest.mark.parametrize('name', WITH_SCHEMA)
def test_a_subset_is_a_schema_of_one_category(name):
    schema = DATASETS.get(name).schema
    for category, names in schema.categories.items():
        own = schema.subset(category)
        assert set(own.keypoints) == set(names)
        assert list(own.categories) == list(own.normalizers) == [category]
        assert own.indices(category) == tuple(range(own.num_keypoints))
        assert own.record_positions == schema.indices(category)
        assert own.subset(category) == own.subset('all') == own
        assert [schema.keypoints[k] for k in own.record_positions] == list(own.keypoints)


def test_the_subset_of_all_is_the_schema_itself():
    assert FASHIONAI.subset('all') is FASHIONAI
    assert FASHIONAI.record_positions == tuple(range(24))


@given(st.lists(st.sampled_from('abcdefgh'), unique=True, min_size=1), st.randoms())
def test_flip_permutation_of_names_in_any_order(parts, random):
    names = [f'{part}_{side}_x' for part in parts for side in ('left', 'right')] + ['middle']
    random.shuffle(names)
    schema = KeypointSchema('any', tuple(names), {'c': tuple(names)}, {'c': (names[0], names[-1])})
    for name, partner in zip(names, schema.flip_permutation):
        mirrored = {'left': 'right', 'right': 'left'}
        expected = [mirrored.get(word, word) for word in name.split('_')]
        assert names[partner].split('_') == expected


def test_swaps_win_over_names():
    schema = _schema(swaps=(('top', 'hand_left'),))
    assert schema.flip_permutation == (1, 0, 2)
    assert schema.subset('hat').flip_permutation == (1, 0)
    assert _schema(swaps=()).flip_permutation == (0, 1, 2)
    assert _schema(swaps=()).subset('shirt').flip_permutation == (0, 1, 2)


def test_a_subset_drops_swaps_of_points_it_has_not():
    schema = _schema(swaps=(('hand_left', 'hand_right'),))
    assert schema.flip_permutation == (0, 2, 1)
    assert schema.subset('hat').flip_permutation == (0, 1)


def test_a_subset_keeps_what_is_known_of_its_points():
    schema = _schema(
        skeleton=(('hand_left', 'top', 'hand_right'), ('hand_right', 'top')),
        left_of=(('hand_left', 'hand_right'),),
        in_out=(('top', 'hand_left'),),
        levels={'top': 0, 'hand_right': 1},
        usual_side=512,
        swaps=(('hand_left', 'hand_right'),),
        sigmas={'top': 0.1, 'hand_right': 0.2},
        metric='pck',
    )
    hat = schema.subset('hat')
    assert hat.skeleton == (('hand_left', 'top'),)
    assert (hat.left_of, hat.in_out, hat.levels) == ((), (('top', 'hand_left'),), {'top': 0})
    assert hat.usual_side == 512
    assert (hat.sigmas, hat.metric) == ({'top': 0.1}, 'pck')
    assert schema.in_out_pairs == ((0, 1),)


def test_inner_and_outer_ends_are_derived_from_the_names():
    names = [(NAMES[a], NAMES[b]) for a, b in FASHIONAI.in_out_pairs]
    parts = [f'{part}_{side}' for part in ('cuff', 'bottom') for side in ('left', 'right')]
    assert names == [(f'{part}_in', f'{part}_out') for part in parts]
    assert _schema().in_out_pairs == ()


def test_a_length_that_is_no_pair_has_no_indices():
    schema = _schema(normalizers={'shirt': 'box_diagonal', 'hat': ('top', 'hand_left')})
    assert schema.normalizer_indices('shirt') is None
    assert schema.subset('shirt').normalizers == {'shirt': 'box_diagonal'}
    assert schema.normalizer_indices('hat') == (0, 1)


def test_sides_are_words_of_a_name_not_parts_of_words():
    names = ('bright', 'leftover', 'a_left', 'a_right')
    schema = KeypointSchema('words', names, {'c': names}, {'c': names[:2]})
    assert schema.flip_permutation == (0, 1, 3, 2)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'keypoints': ('top', 'top', 'hand_left', 'hand_right')}, 'named twice'),
        ({'normalizers': {'shirt': ('hand_left', 'hand_right')}}, 'categories and normalizers'),
        ({'categories': {'shirt': ('top', 'foot'), 'hat': ('top',)}}, "shirt has unknown .'foot'"),
        (
            {'normalizers': {'shirt': ('top', 'hand_left'), 'hat': ('top', 'hand_right')}},
            'normalizer of hat',
        ),
        (
            {
                'keypoints': ('top', 'hand_left'),
                'categories': {'hat': ('top', 'hand_left')},
                'normalizers': {'hat': ('top', 'hand_left')},
            },
            "no keypoint 'hand_right'",
        ),
        ({'swaps': (('top', 'foot'),)}, "no keypoint 'foot'"),
        ({'swaps': (('top', 'hand_left'), ('hand_left', 'hand_right'))}, 'mirroring twice'),
        ({'normalizers': {'shirt': 'box_side', 'hat': 'box_diagonal'}}, "shirt is 'box_side'"),
        ({'skeleton': (('top', 'foot'),)}, "skeleton has unknown .'foot'"),
        ({'skeleton': (('top',),)}, 'skeleton has .*two different points'),
        ({'in_out': (('top', 'top'),)}, 'in_out has .*two different points'),
        ({'left_of': (('hand_left', 'foot'),)}, "left_of has unknown .'foot'"),
        ({'levels': {'foot': 1}}, "levels has unknown .'foot'"),
        ({'usual_side': 0}, 'usual_side=0'),
        ({'usual_reach': float('nan')}, 'usual_reach=nan'),
        ({'usual_middle': (1.1, 0.9)}, 'usual_middle='),
        ({'sigmas': {'foot': 0.1}}, "sigmas has unknown .'foot'"),
        ({'sigmas': {'top': 0.0}}, 'sigmas has 0.0 for top'),
        ({'metric': 'ap'}, "metric='ap': must be one of ne, "),
        ({'metric': 'oks_ap'}, "metric='oks_ap': all normalizers must be sqrt_box_area"),
    ],
)
def test_a_bad_schema_is_refused(changes, message):
    assert _schema().num_keypoints == 3
    with pytest.raises(ValueError, match=message) as error:
        _schema(**changes)
    assert 'schema tiny' in str(error.value)


@pytest.mark.parametrize('method', ['indices', 'normalizer_indices', 'subset'])
def test_an_unknown_category_is_named_with_those_there(method):
    with pytest.raises(ValueError, match="unknown category 'shoe'; tiny has: shirt, hat"):
        getattr(_schema(), method)('shoe')


def test_a_schema_does_not_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        FASHIONAI.name = 'other'
