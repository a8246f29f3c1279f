"""The choice of pictures: unlike what is known, diverse, by weight, the same each time."""

from __future__ import annotations

import numpy as np
import pytest

from preprocessing.datasets.fashionai import SCHEMA
from utility.labels import ranking, suggestions
from utility.labels.ranking import Pictures, choose
from utility.labels.survey import Survey

NOTHING = Pictures(np.zeros(0, str), np.zeros([0, 8]), np.zeros([0, 0]), np.zeros(0))


def _groups(num_groups, each, seed=0, category='hat', weight=1.0):
    """Pictures of so many looks, `each` alike; their groups."""
    rng = np.random.default_rng(seed)
    centers = rng.normal(0, 1, [num_groups, 8])
    groups = np.repeat(np.arange(num_groups), each)
    features = centers[groups] + rng.normal(0, 0.02, [len(groups), 8])
    count = len(groups)
    places, weights = np.zeros([count, 0]), np.full(count, weight)
    return Pictures(np.full(count, category), features, places, weights), groups


def _rows(choices):
    return [choice.row for choice in choices]


def _known(pictures, rows):
    return Pictures(*(values[np.array(rows, int)] for values in pictures))


def test_each_look_is_chosen_once_before_any_is_chosen_twice():
    pictures, groups = _groups(6, 10)
    chosen = groups[_rows(choose(pictures, NOTHING, 12))]
    assert sorted(chosen[:6]) == list(range(6))


def test_duplicates_are_not_chosen_twice():
    pictures, _ = _groups(5, 1)
    twice = Pictures(*(np.concatenate([values, values]) for values in pictures))
    rows = _rows(choose(twice, NOTHING, 5))
    assert sorted(row % 5 for row in rows) == list(range(5))


def test_what_is_like_the_known_comes_last():
    pictures, groups = _groups(4, 5)
    known = _known(pictures, [0, 5, 10])  # of three looks
    choices = choose(pictures, known, 4)
    assert groups[choices[0].row] == 3
    assert choices[0].novelty > 10 * choices[1].novelty
    assert choices[0].gain > 10 * choices[1].gain


def test_what_has_most_weight_comes_first():
    pictures, groups = _groups(4, 5)
    weights = np.where(groups == 2, 1.0, 0.1)
    assert groups[choose(pictures._replace(weights=weights), NOTHING, 1)[0].row] == 2
    # No odd picture, although its weight is largest: it tells of no other.
    odd = np.concatenate([np.full(20, 0.5), [1.0]])
    strange = np.random.default_rng(9).normal(0, 1, [1, 8]) * 3
    features = np.concatenate([pictures.features, strange])
    more = Pictures(np.full(21, 'hat'), features, np.zeros([21, 0]), odd)
    assert choose(more, NOTHING, 1)[0].row != 20


def test_categories_get_pictures_by_their_weights():
    hats, _ = _groups(10, 10, weight=3.0)
    caps, _ = _groups(10, 10, seed=1, category='cap', weight=1.0)
    both = Pictures(*(np.concatenate(pair) for pair in zip(hats, caps)))
    rows = np.array(_rows(choose(both, NOTHING, 40)))
    assert np.count_nonzero(rows < 100) == 30
    # 30 labelled hats are the share of hats in 40 pictures: the next ten are caps.
    known = _known(both, np.arange(30))
    assert min(_rows(choose(both, known, 10))) >= 100


def test_fewer_are_the_beginning_of_more_and_all_is_each_once():
    pictures, _ = _groups(7, 6, seed=4)
    everything = _rows(choose(pictures, NOTHING, 1000))
    assert sorted(everything) == list(range(42))
    assert _rows(choose(pictures, NOTHING, 9)) == everything[:9]
    assert _rows(choose(pictures, NOTHING, 1000)) == everything


def test_it_is_the_greedy_sum_of_its_definition():
    rng = np.random.default_rng(2)
    parts = rng.normal(0, 1, [15, 3]), rng.normal(0, 1, [15, 4])
    pictures = Pictures(np.full(15, 'hat'), *parts, rng.uniform(0, 1, 15))
    similarity = np.zeros([15, 15])
    for part in parts:
        scaled = (part - part.mean(0)) / part.std(0)
        unit = scaled / np.linalg.norm(scaled, axis=1, keepdims=True)
        similarity += unit @ unit.T / 2

    def total(rows):
        return pictures.weights @ similarity[:, rows].max(axis=1)

    expected = []
    for _ in range(6):
        left = [row for row in range(15) if row not in expected]
        expected.append(max(left, key=lambda row: total([*expected, row])))
    choices = choose(pictures, _known(pictures, []), 6)
    assert _rows(choices) == expected
    gains = [choice.gain for choice in choices[1:]]
    steps = np.diff([total(expected[:n]) for n in range(1, 7)])
    assert gains == pytest.approx(steps, rel=1e-5)


def test_a_category_of_very_many_is_a_part_of_itself(monkeypatch):
    monkeypatch.setattr(ranking, '_MOST_COVERED', 20)
    pictures, _ = _groups(10, 10)
    first = _rows(choose(pictures, NOTHING, 5))
    assert len(set(first)) == 5
    assert _rows(choose(pictures, NOTHING, 5)) == first


def test_pictures_are_suggested_where_none_is_labelled():
    rng, count = np.random.default_rng(0), 4
    per_point = rng.uniform(0, 1, (2, count, SCHEMA.num_keypoints))
    points = rng.uniform(0, 60, (count, SCHEMA.num_keypoints, 2))
    ids, categories = np.arange(count).astype(str), np.array(['skirt'] * 3 + ['dress'])
    sizes, features = np.full([count, 2], 64), rng.normal(0, 1, (count, 8))
    candidates = Survey(ids, categories, sizes, points, *per_point, features)
    choices = suggestions.ranked(candidates, None, SCHEMA, 3)
    assert len({choice.row for choice in choices}) == 3
    known = candidates.rows(np.array([0]))
    assert suggestions.ranked(candidates, known, SCHEMA, 4)[-1].row == 0
