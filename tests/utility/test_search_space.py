"""What a sweep tries: exact grids, and draws that depend on nothing that they should not."""

from __future__ import annotations

import math

import numpy as np
import pytest

from utility import search_space
from utility.search_space import settings_of_runs


@pytest.mark.parametrize(
    ('text', 'parts'),
    [
        ('1e-3,3e-4', ['1e-3', '3e-4']),
        (' a , b ', ['a', 'b']),
        ('(1,2),[3,(4,5)],{"a,": 1}', ['(1,2)', '[3,(4,5)]', '{"a,": 1}']),
        ('flip|scale(0.8,1.2)|warp,flip|warp', ['flip|scale(0.8,1.2)|warp', 'flip|warp']),
        ("'a,(b', c", ["'a,(b'", 'c']),
    ],
)
def test_commas_within_brackets_and_quotes_part_nothing(text, parts):
    assert search_space.split_values(text) == parts


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('', "'': a value is empty"),
        ('1,,2', 'a value is empty'),
        ('1,', 'a value is empty'),
        ('(1,2', r'\) is missing'),
        ("'a", "' is missing"),
    ],
)
def test_broken_values_are_told(text, message):
    with pytest.raises(ValueError, match=message):
        search_space.split_values(text)


def test_grids_are_combined_in_order():
    runs = settings_of_runs(['a=1,2', 'b.c=(3,4),x'], [], 1, 0)
    assert runs == [
        {'a': '1', 'b.c': '(3,4)'},
        {'a': '1', 'b.c': 'x'},
        {'a': '2', 'b.c': '(3,4)'},
        {'a': '2', 'b.c': 'x'},
    ]


def test_each_draw_is_tried_with_the_whole_grid():
    runs = settings_of_runs(['a=1,2'], ['b=uniform(0,1)'], 3, 0)
    assert [run['a'] for run in runs] == ['1', '2'] * 3
    assert [run['b'] for run in runs[::2]] == [run['b'] for run in runs[1::2]]
    assert len({run['b'] for run in runs}) == 3


def test_a_draw_depends_on_seed_trial_and_name_alone():
    few = settings_of_runs([], ['b=log(1e-5,1)'], 2, 7)
    more = settings_of_runs(['a=1'], ['c=int(1,9)', 'b=log(1e-5,1)'], 5, 7)
    assert [run['b'] for run in more[:2]] == [run['b'] for run in few]
    other = settings_of_runs([], ['b=log(1e-5,1)'], 2, 8)
    assert not {run['b'] for run in other} & {run['b'] for run in few}
    renamed = settings_of_runs([], ['d=log(1e-5,1)'], 2, 7)
    assert not {run['d'] for run in renamed} & {run['b'] for run in few}


def _drawn(law, count=4000):
    key, draw = search_space.parse_random(f'key={law}')
    rng = np.random.default_rng(0)
    assert key == 'key'
    return [draw(rng) for _ in range(count)]


def test_laws():
    logs = np.log10([float(text) for text in _drawn('log(1e-6,1e-2)')])
    assert logs.min() >= -6 and logs.max() <= -2
    # A quarter of the draws in each decade, within four standard deviations.
    for decade in range(-6, -2):
        share = np.mean((logs >= decade) & (logs < decade + 1))
        assert abs(share - 0.25) < 4 * math.sqrt(0.25 * 0.75 / len(logs))
    numbers = np.array([float(text) for text in _drawn('uniform(-1,3)')])
    assert numbers.min() >= -1 and numbers.max() <= 3 and abs(numbers.mean() - 1) < 0.08
    assert set(_drawn('int(-1,2)')) == {'-1', '0', '1', '2'}
    assert set(_drawn('choice(adam,(1,2),"a,b")')) == {'adam', '(1,2)', '"a,b"'}


@pytest.mark.parametrize(
    ('grids', 'randoms', 'message'),
    [
        (['a'], [], '--grid a: must look like key='),
        (['a='], [], '--grid a=: must look like key='),
        (['a=1,1'], [], 'a value is there twice'),
        (['a=1', 'a=2'], [], 'a is there twice in --grid and --random'),
        (['a=1'], ['a=int(1,2)'], 'a is there twice'),
        ([], ['a=1e-3'], r'--random a=1e-3: must look like key=LAW\(...\), LAW of log, uniform'),
        ([], ['a=normal(0,1)'], 'LAW of log, uniform, int, choice'),
        ([], ['a=log(1)'], r'must be log\(LOW,HIGH\)'),
        ([], ['a=log(0,1)'], r'log\(LOW,HIGH\); 0 must be less than 1, and positive'),
        ([], ['a=uniform(2,1)'], '2 must be less than 1'),
        ([], ['a=uniform(0,inf)'], '0 must be less than inf'),
        ([], ['a=uniform(nan,1)'], 'nan must be less than 1'),
        ([], ['a=int(1,2.5)'], 'invalid literal for int'),
        ([], ['a=choice()'], 'a value is empty'),
    ],
)
def test_mistakes_are_told(grids, randoms, message):
    with pytest.raises(ValueError, match=message):
        settings_of_runs(grids, randoms, 1, 0)
