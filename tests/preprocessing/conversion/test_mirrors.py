"""A pair of a schema that does not mirror on the data is told."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from preprocessing.conversion import mirrors
from preprocessing.conversion.screening import Entry
from preprocessing.datasets import Annotation
from preprocessing.schema import KeypointSchema

NAMES = ('hand_left', 'hand_right', 'foot_left', 'foot_right', 'head')
SHAPE = np.array([[-20, 0], [20, 0], [-10, 40], [10, 40], [0, -30]], float)
SCHEMA = KeypointSchema('doll', NAMES, {'doll': NAMES}, {'doll': NAMES[:2]})
WRONG = (('hand_left', 'foot_right'), ('hand_right', 'foot_left'))


def part(count):
    rng = np.random.default_rng(0)
    entries = []
    for i in range(count):
        points = SHAPE * rng.uniform(0.5, 2) + rng.normal(0, 2, SHAPE.shape) + 100
        visibility = rng.choice([1, 0, -1], 5, p=[0.8, 0.1, 0.1]).astype(np.int32)
        annotation = Annotation('', str(i), 'doll', points.astype(np.float32), visibility)
        entries.append(Entry(b'', 'train', annotation, (200, 200), ()))
    return {'doll': entries}


@pytest.mark.parametrize('count', [0, 1, 100])
def test_a_right_schema_is_not_doubted(count):
    assert mirrors.warnings(part(count), SCHEMA) == []


def test_a_wrong_pair_is_told_with_what_is_there():
    wrong = dataclasses.replace(SCHEMA, swaps=WRONG)
    found = mirrors.warnings(part(100), wrong)
    assert len(found) == 4
    assert found[0].startswith(
        'doll: by the schema hand_left changes places with foot_right in a mirror, but on the data '
        'the mirror image of hand_left is where hand_right is'
    )
    assert mirrors.warnings(part(20), wrong) == []  # too few to tell


def test_a_forgotten_pair_is_told():
    forgotten = dataclasses.replace(SCHEMA, swaps=(('hand_left', 'hand_right'),))
    found = mirrors.warnings(part(100), forgotten)
    assert [text.split(' in a mirror')[0] for text in found] == [
        f'doll: by the schema foot_{side} is its own mirror' for side in ('left', 'right')
    ]
