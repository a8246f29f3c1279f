"""PCK, AUC, EPE and OKS of tables: by hand, by category, visible only and with occluded points."""

from __future__ import annotations

import math

import numpy as np
import pytest

import eval_metrics
from preprocessing.schema import BOX_AREA_ROOT, KeypointSchema
from preprocessing.tables import KeypointTable
from utility.metrics import measures, normalized_error

NAMES = ('a', 'b', 'c')
SCHEMA = KeypointSchema(
    'hats',
    NAMES,
    {'hat': NAMES, 'cap': NAMES},
    {'hat': ('a', 'b'), 'cap': BOX_AREA_ROOT},
    swaps=(),
)


def _table(points, visibility, boxes=None, ids=('1.jpg#1', '1.jpg#2')):
    return KeypointTable(
        np.array(ids, object),
        np.array(['hat', 'cap']),
        np.array(points, np.float32),
        np.array(visibility),
        np.array([2, 3]),
        boxes,
    )


TRUTH = [[[0, 0], [100, 0], [50, 40]], [[200, 200], [240, 230], [220, 210]]]
VISIBILITY = [[1, 1, 0], [1, 0, -1]]
BOXES = np.array([[0, 0, 100, 40], [200, 200, 240, 230]], np.float32)
# 3, 10 and 25 px away; 4, 7 and (absent) 99 px.
MOVED = [[[3, 0], [100, 10], [50, 65]], [[200, 204], [247, 230], [319, 210]]]


def _measured(**others):
    return measures.measure(
        _table(MOVED, np.ones([2, 3])), _table(TRUTH, VISIBILITY, BOXES), SCHEMA, **others
    )


def test_by_hand():
    visible, both = _measured()['visible'], _measured()['with_occluded']
    assert visible['all']['points'] == 3 and both['all']['points'] == 5
    assert visible['all']['epe'] == pytest.approx((3 + 10 + 4) / 3)
    assert both['all']['epe'] == pytest.approx((3 + 10 + 25 + 4 + 7) / 5)
    assert both['per_category']['cap']['epe'] == pytest.approx(5.5)
    root = math.sqrt(40 * 30)
    shares = [0.03, 0.1, 4 / root]
    assert visible['all']['normalized_error'] == pytest.approx(sum(shares) / 3)
    assert visible['all']['pck']['0.05'] == pytest.approx(1 / 3)
    assert visible['all']['auc'] == pytest.approx(sum(1 - share / 0.2 for share in shares) / 3)
    assert both['per_keypoint']['c'] == {
        'points': 1,
        'epe': 25,
        'normalized_error': 0.25,
        'pck': dict.fromkeys(['0.02', '0.05', '0.1', '0.2'], 0),
        'auc': 0,
    }
    assert 'c' not in visible['per_keypoint']


@pytest.mark.parametrize(
    'pck_by, length', [('box_side', 100), ('box_diagonal', math.hypot(100, 40))]
)
def test_pck_of_the_box(pck_by, length):
    row = _measured(pck_by=pck_by)['visible']['per_category']['hat']
    assert row['pck']['0.05'] == 0.5
    assert row['auc'] == pytest.approx(1 - 5 * (3 / length + 10 / length) / 2)
    assert row['normalized_error'] == pytest.approx(0.065)  # by the schema, whatever PCK is of


def test_the_area_under_the_curve_is_that_of_the_curve():
    distances = np.random.default_rng(0).gamma(2, 0.05, 500)
    steps = np.linspace(0, measures.AUC_LIMIT, 20001)
    curve = np.array([(distances <= step).mean() for step in steps])
    assert measures.area_under_pck(distances) == pytest.approx(curve.mean(), abs=1e-3)


def test_ne_and_pck_are_those_of_the_score():
    predicted, truth = _table(MOVED, np.ones([2, 3])), _table(TRUTH, VISIBILITY, BOXES)
    score = normalized_error.score(predicted, truth, SCHEMA)
    row = _measured()['visible']
    assert row['all']['normalized_error'] == pytest.approx(score.normalized_error)
    assert row['all']['pck'] == pytest.approx(score.pck)
    assert row['per_category']['hat']['pck'] == pytest.approx(score.pck_per_category['hat'])


def test_precision_of_known_boxes():
    exact = measures.measure(
        _table(TRUTH, np.ones([2, 3])), _table(TRUTH, VISIBILITY, BOXES), SCHEMA
    )['with_occluded']['oks']
    assert exact['all']['AP'] == exact['hat']['AR'] == pytest.approx(1)
    # OKS is 0.59 for the hat and 0.51 for the cap: right at two thresholds and at one of ten.
    found = _measured()['visible']['oks']['all']
    assert found['AP'] == pytest.approx(0.15)
    order = np.array([1, 0])
    turned = measures.measure(
        _table(MOVED, np.ones([2, 3])).rows(order), _table(TRUTH, VISIBILITY, BOXES), SCHEMA,
        scores=np.array([0.3, 0.9]),
    )['visible']['oks']['all']  # fmt: skip
    assert turned['AP'] == pytest.approx(found['AP'])


def test_absent_predictions_are_at_the_corner_or_left_out():
    lacking = _table(MOVED, [[1, -1, 1], [1, 1, 1]])
    truth = _table(TRUTH, VISIBILITY, BOXES)
    counted = measures.measure(lacking, truth, SCHEMA, missing='count')['visible']
    assert counted['per_keypoint']['b']['epe'] == pytest.approx(math.hypot(100.5, 0.5))
    left_out = measures.measure(lacking, truth, SCHEMA, missing='skip')['visible']
    assert 'b' not in left_out['per_keypoint']


def test_the_tables_show_what_is_asked_for():
    text = eval_metrics.format_measures(_measured(), ['epe', 'oks'])
    visible, both = text.split('\n\n')
    assert visible.splitlines()[0] == 'visible points'
    assert both.splitlines()[0] == 'with occluded points'
    titles, first, *_ = (line.split() for line in visible.splitlines()[1:])
    assert titles[:4] == ['points', 'EPE', 'px', 'AP'] and 'NE' not in titles
    assert first[:3] == ['all', '3', f'{17 / 3:.3f}']
