"""Kinds of errors: points made to be of each kind, sums that are NE, and what a choice gains."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from preprocessing.datasets.fashionai import SCHEMA
from preprocessing.schema import KeypointSchema
from preprocessing.tables import KeypointTable, category_points
from utility.errors import budget as error_budget
from utility.errors import oracles
from utility.errors.budget import KINDS, Evidence
from utility.metrics import normalized_error

NORMALIZER = 200.0  # px
GOOD, JITTER = 0.05 * NORMALIZER, 0.1 * NORMALIZER  # px


def _table(categories, schema=SCHEMA, keypoints=None):
    """Return points 100 px or more apart, at random whole places unless given, all visible."""
    in_category = category_points(categories, schema)
    if keypoints is None:
        k = np.arange(schema.num_keypoints)
        # Armpits and waistbands stand NORMALIZER apart; nothing else depends on the layout.
        keypoints = np.stack([100.0 + 150 * (k % 6), 100.0 + 150 * (k // 6)], axis=-1)
        for name in schema.categories:
            first, second = schema.normalizer_indices(name)
            keypoints[second] = keypoints[first] + [0, 1000]
            keypoints[first] = keypoints[second] + [NORMALIZER, 0]
        keypoints = np.repeat(keypoints[np.newaxis], len(categories), axis=0)
    return KeypointTable(
        image_ids=np.array([f'{i}.jpg' for i in range(len(categories))], object),
        categories=np.array(categories),
        keypoints=np.where(in_category[..., np.newaxis], keypoints, -0.5).astype(np.float32),
        visibility=np.where(in_category, 1, -1).astype(np.int32),
        lines=np.arange(len(categories)) + 2,
    )


def _index(name, schema=SCHEMA):
    return schema.keypoints.index(name)


def _moved(table, row, name, to, offset=(0.0, 0.0)):
    """Return the table with a point at the place of another (or a place) plus an offset, px."""
    keypoints = table.keypoints.copy()
    place = keypoints[row, _index(to)] if isinstance(to, str) else np.array(to)
    keypoints[row, _index(name)] = place + np.array(offset)
    return table._replace(keypoints=keypoints)


def _kind(errors, row, name):
    code = errors.codes[row, _index(name)]
    return None if code < 0 else list(KINDS)[code]


def test_every_kind_is_recognised_and_costs_its_distance():
    annotations = _table(['blouse'])
    for name, to, offset in (
        ('neckline_left', 'neckline_left', (GOOD, 0)),
        ('center_front', 'center_front', (0, -JITTER)),
        ('shoulder_left', 'shoulder_right', (5, 0)),
        ('cuff_left_in', 'cuff_left_out', (0, 8)),
        ('cuff_right_in', 'cuff_left_out', (0, 8)),
        ('top_hem_left', (2000, 2000), (0, 0)),
    ):
        predicted = _moved(annotations, 0, name, to, offset)
        errors = error_budget.find_errors(predicted, annotations, SCHEMA)
        expected = {
            'neckline_left': 'good',
            'center_front': 'jitter',
            'shoulder_left': 'inversion',
            'cuff_left_in': 'in_out_swap',
            'cuff_right_in': 'confusion',
            'top_hem_left': 'miss',
        }[name]
        assert _kind(errors, 0, name) == expected
        k = _index(name)
        distance = (
            np.linalg.norm(predicted.keypoints[0, k] - annotations.keypoints[0, k]) / NORMALIZER
        )
        assert errors.costs(expected)[0, k] == pytest.approx(distance)
        report = error_budget.budget(errors)
        assert report['normalized_error'] == pytest.approx(distance / 13)
        assert report['kinds'][expected]['if_fixed'] == pytest.approx(0, abs=1e-9)
        others = [kind for kind in report['kinds'] if kind not in (expected, 'good')]
        assert all(report['kinds'][kind]['points'] == 0 for kind in others)


def test_all_kinds_in_one_picture_add_up():
    annotations = _table(['blouse', 'skirt'])
    predicted = _moved(annotations, 0, 'neckline_left', 'neckline_left', (0, GOOD))
    predicted = _moved(predicted, 0, 'center_front', 'center_front', (JITTER, 0))
    predicted = _moved(predicted, 0, 'cuff_left_in', 'cuff_left_out')
    predicted = _moved(predicted, 0, 'top_hem_left', (5000, 5000))
    lost = predicted.visibility.copy()
    lost[0, _index('armpit_left')] = -1
    report = error_budget.budgets(
        error_budget.find_errors(predicted._replace(visibility=lost), annotations, SCHEMA, 'count'),
        annotations.categories,
        SCHEMA,
    )
    counts = {kind: row['points'] for kind, row in report['kinds'].items() if row['points']}
    assert counts == {'good': 13, 'jitter': 1, 'in_out_swap': 1, 'miss': 1, 'missing': 1}
    assert sum(row['share'] for row in report['kinds'].values()) == pytest.approx(1)
    assert report['kinds']['good']['normalized_error'] == pytest.approx(0.05 / 17)
    assert report['per_category']['skirt']['normalized_error'] == 0
    assert report['per_keypoint']['center_front']['kinds']['jitter']['normalized_error'] == (
        pytest.approx(0.1)
    )
    assert list(report['per_category']) == ['blouse', 'skirt']
    assert 'crotch' not in report['per_keypoint']


def test_the_limits_are_those_of_the_similarity():
    assert error_budget.radius(0.85) == pytest.approx(0.05701, abs=1e-5)
    assert error_budget.radius(0.5) == pytest.approx(0.11774, abs=1e-5)
    annotations = _table(['blouse'])
    for offset, scale, kind in (
        (0.0569, 0.1, 'good'), (0.0571, 0.1, 'jitter'), (0.1177, 0.1, 'jitter'),
        (0.1178, 0.1, 'miss'), (0.1178, 0.2, 'jitter'), (0.1, 0.05, 'miss'),
    ):  # fmt: skip
        predicted = _moved(annotations, 0, 'armpit_left', 'armpit_left', (0, offset * NORMALIZER))
        errors = error_budget.find_errors(predicted, annotations, SCHEMA, scale=scale)
        assert _kind(errors, 0, 'armpit_left') == kind


def test_a_point_that_is_found_is_nothing_else_however_near_others_are():
    annotations = _moved(_table(['blouse']), 0, 'cuff_left_out', 'cuff_left_in', (5, 0))
    predicted = _moved(annotations, 0, 'cuff_left_in', 'cuff_left_out')
    errors = error_budget.find_errors(predicted, annotations, SCHEMA)
    assert _kind(errors, 0, 'cuff_left_in') == 'good'


def test_the_nearest_of_several_points_decides_and_the_partner_where_they_are_equally_near():
    annotations = _moved(_table(['trousers']), 0, 'bottom_right_in', 'bottom_right_out', (12, 0))
    for offset, kind in ((2, 'confusion'), (8, 'inversion')):
        predicted = _moved(annotations, 0, 'bottom_left_in', 'bottom_right_out', (offset, 0))
        errors = error_budget.find_errors(predicted, annotations, SCHEMA)
        assert _kind(errors, 0, 'bottom_left_in') == kind
    annotations = _moved(annotations, 0, 'bottom_right_in', 'bottom_right_out')
    predicted = _moved(annotations, 0, 'bottom_left_in', 'bottom_right_out')
    errors = error_budget.find_errors(predicted, annotations, SCHEMA)
    assert _kind(errors, 0, 'bottom_left_in') == 'inversion'


def test_places_of_occluded_points_count_and_those_of_absent_points_do_not():
    annotations = _table(['blouse'])
    predicted = _moved(annotations, 0, 'shoulder_left', 'shoulder_right')
    for state, kind in ((0, 'inversion'), (-1, 'miss')):
        visibility = annotations.visibility.copy()
        visibility[0, _index('shoulder_right')] = state
        changed = annotations._replace(visibility=visibility)
        errors = error_budget.find_errors(predicted, changed, SCHEMA)
        assert _kind(errors, 0, 'shoulder_left') == kind
        assert _kind(errors, 0, 'shoulder_right') is None


@pytest.mark.parametrize('category', SCHEMA.categories)
@pytest.mark.parametrize('alone', [False, True])
def test_a_whole_garment_is_told_from_single_pairs(category, alone):
    schema = SCHEMA.subset(category) if alone else SCHEMA
    annotations = _table([category, category], schema)
    order = list(schema.flip_permutation)
    keypoints = annotations.keypoints.copy()
    keypoints[0] = keypoints[0, order]
    a, b = schema.normalizer_indices(category)
    keypoints[1, [a, b]] = keypoints[1, [b, a]]
    predicted = annotations._replace(keypoints=keypoints)
    errors = error_budget.find_errors(predicted, annotations, schema)
    paired = category_points([category], schema)[0] & (np.array(order) != np.arange(len(order)))
    np.testing.assert_array_equal(errors.of_kind('garment_inversion')[0], paired)
    assert np.flatnonzero(errors.of_kind('inversion')[1]).tolist() == sorted([a, b])
    assert not errors.of_kind('garment_inversion')[1].any()


def test_an_inverted_garment_may_have_other_errors_too():
    annotations = _table(['blouse'])
    predicted = oracles.exchanged(annotations, SCHEMA.flip_permutation)
    own_place = annotations.keypoints[0, _index('top_hem_left')]
    predicted = _moved(predicted, 0, 'top_hem_left', own_place, (0, 0.3 * NORMALIZER))
    errors = error_budget.find_errors(predicted, annotations, SCHEMA)
    assert errors.of_kind('garment_inversion').sum() == 11
    assert _kind(errors, 0, 'top_hem_left') == 'miss'
    assert _kind(errors, 0, 'center_front') == 'good'


def test_one_pair_is_no_garment():
    annotations = _table(['skirt'])
    predicted = oracles.exchanged(annotations, SCHEMA.flip_permutation)
    visibility = annotations.visibility.copy()
    visibility[0, [_index('hemline_left'), _index('hemline_right')]] = 0
    occluded = annotations._replace(visibility=visibility)
    errors = error_budget.find_errors(predicted, occluded, SCHEMA)
    assert errors.of_kind('inversion').sum() == 2
    # One point of a second pair is enough.
    visibility[0, _index('hemline_left')] = 1
    errors = error_budget.find_errors(predicted, occluded, SCHEMA)
    assert errors.of_kind('garment_inversion').sum() == 3


def test_the_floor_is_split_from_points_that_are_found_and_from_no_others():
    annotations = _table(['blouse'])
    predicted = _moved(annotations, 0, 'neckline_left', 'neckline_left', (6, 0))
    predicted = _moved(predicted, 0, 'center_front', 'center_front', (JITTER, 0))
    predicted = _moved(predicted, 0, 'cuff_left_in', 'cuff_left_out')
    decoded = annotations.keypoints + np.array([4.0, 0], np.float32)
    decoded[0, _index('neckline_left')] += [4, 0]  # 8 px, more than the error
    errors = error_budget.find_errors(predicted, annotations, SCHEMA, evidence=Evidence(decoded))
    floor, good, jitter, swap = (
        errors.costs(kind)[0] * NORMALIZER for kind in ('codec_floor', 'good', 'jitter',
                                                        'in_out_swap')
    )  # fmt: skip
    localized = [_index('neckline_left'), _index('center_front')]
    np.testing.assert_allclose(floor[localized], [6, 4], atol=1e-4)
    assert np.count_nonzero(floor) == 2  # exact points have no error to be split
    assert good.sum() == pytest.approx(0, abs=1e-4)
    assert jitter.sum() == pytest.approx(JITTER - 4, abs=1e-4)
    assert swap.sum() == pytest.approx(150, abs=1e-4)
    assert errors.of_kind('codec_floor').sum() == 12
    assert errors.kinds[0] == 'codec_floor'


def test_the_crop_is_to_blame_for_what_it_hides_unless_the_point_was_found():
    annotations = _table(['blouse'])
    predicted = _moved(annotations, 0, 'cuff_left_in', 'cuff_left_out')
    predicted = _moved(predicted, 0, 'cuff_right_in', 'cuff_right_in', (JITTER, 0))
    predicted = _moved(predicted, 0, 'top_hem_left', (5000, 0))
    in_view = np.ones(annotations.visibility.shape, bool)
    for name in ('cuff_left_in', 'cuff_right_in'):
        in_view[0, _index(name)] = False
    errors = error_budget.find_errors(
        predicted, annotations, SCHEMA, evidence=Evidence(in_view=in_view)
    )
    assert _kind(errors, 0, 'cuff_left_in') == 'crop'
    assert _kind(errors, 0, 'cuff_right_in') == 'jitter'
    assert _kind(errors, 0, 'top_hem_left') == 'miss'
    assert 'crop' in errors.kinds and 'codec_floor' not in errors.kinds


def test_missing_predictions_are_a_kind_or_left_out_or_an_error():
    annotations = _table(['blouse'])
    visibility = annotations.visibility.copy()
    visibility[0, _index('cuff_left_in')] = -1
    predicted = annotations._replace(visibility=visibility)
    counted = error_budget.find_errors(predicted, annotations, SCHEMA, 'count')
    assert _kind(counted, 0, 'cuff_left_in') == 'missing' == counted.kinds[-1]
    assert counted.missing_predictions == 1
    place = annotations.keypoints[0, _index('cuff_left_in')] + 0.5
    report = error_budget.budget(counted)
    assert report['kinds']['missing']['normalized_error'] == pytest.approx(
        np.linalg.norm(place) / NORMALIZER / 13
    )
    skipped = error_budget.find_errors(predicted, annotations, SCHEMA, 'skip')
    assert _kind(skipped, 0, 'cuff_left_in') is None
    assert 'missing' not in skipped.kinds
    with pytest.raises(ValueError, match='cuff_left_in of 0.jpg'):
        error_budget.find_errors(predicted, annotations, SCHEMA)


def test_pictures_without_a_normalizer_are_skipped():
    annotations = _table(['blouse', 'blouse'])
    visibility = annotations.visibility.copy()
    visibility[1, _index('armpit_left')] = -1
    predicted = _moved(annotations, 1, 'cuff_left_in', (5000, 0))
    annotations = annotations._replace(visibility=visibility)
    errors = error_budget.find_errors(predicted, annotations, SCHEMA)
    assert errors.skipped_images == 1
    assert (errors.codes[1] == -1).all()
    assert error_budget.budget(errors)['points'] == 13
    assert list(error_budget.worst_images(errors, 'miss', 5)) == []
    with pytest.raises(ValueError, match='no point of 1 images can be scored'):
        unscored = [table.rows(slice(1, None)) for table in (predicted, annotations)]
        error_budget.find_errors(*unscored, SCHEMA)


def test_the_scale_must_be_positive():
    annotations = _table(['blouse'])
    for scale in (0, -1, float('nan'), float('inf')):
        with pytest.raises(ValueError, match=f'scale={scale}: must be positive'):
            error_budget.find_errors(annotations, annotations, SCHEMA, scale=scale)


def test_the_worst_pictures_come_first_with_their_part_of_ne():
    annotations = _table(['skirt'] * 3)
    predicted = _moved(annotations, 1, 'hemline_left', 'hemline_left', (0, 3000))
    predicted = _moved(predicted, 2, 'hemline_right', 'hemline_right', (0, 9000))
    errors = error_budget.find_errors(predicted, annotations, SCHEMA)
    worst = list(error_budget.worst_images(errors, 'miss', 9))
    assert [row for row, _ in worst] == [2, 1]
    assert sum(cost for _, cost in worst) == pytest.approx(
        error_budget.budget(errors)['normalized_error']
    )
    assert len(list(error_budget.worst_images(errors, 'miss', 1))) == 1


def test_in_and_out_are_paired_by_name():
    order = error_budget.in_out_permutation(SCHEMA)
    assert order[_index('cuff_left_in')] == _index('cuff_left_out')
    assert order[_index('bottom_right_out')] == _index('bottom_right_in')
    assert sum(k != p for k, p in enumerate(order)) == 8
    single = KeypointSchema('x', ('a_in', 'b'), {'c': ('a_in', 'b')}, {'c': ('a_in', 'b')})
    assert error_budget.in_out_permutation(single) == (0, 1)


@st.composite
def _cases(draw):
    """Return random predictions, answers and evidence of random categories, in one schema of
    several.
    """
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    category = draw(st.sampled_from(['all', *SCHEMA.categories]))
    schema = SCHEMA.subset(category)
    size = draw(st.integers(2, 6))
    categories = random.choice(list(schema.categories), size)
    shape = size, schema.num_keypoints
    spread = draw(st.sampled_from([3.0, 30.0, 300.0]))
    points = random.uniform(0, 300, (*shape, 2))
    annotations = _table(categories, schema, points)
    in_category = annotations.visibility == 1
    visibility = np.where(in_category, random.choice([-1, 0, 1], shape, p=[0.1, 0.2, 0.7]), -1)
    normalizers = [list(schema.normalizer_indices(c)) for c in categories]
    visibility[0, normalizers[0]] = 1  # or nothing might be scored
    annotations = annotations._replace(visibility=visibility.astype(np.int32))
    places = np.where(random.random(shape) < 0.5, np.arange(shape[1]), schema.flip_permutation)
    keypoints = np.take_along_axis(points, places[..., np.newaxis], axis=1)
    keypoints = keypoints + random.normal(0, spread, keypoints.shape)
    predicted = _table(categories, schema, keypoints)
    lost = random.random(shape) < 0.1
    predicted = predicted._replace(visibility=np.where(lost, -1, predicted.visibility))
    decoded = (annotations.keypoints + random.normal(0, 5, keypoints.shape)) if draw(
        st.booleans()
    ) else None  # fmt: skip
    in_view = random.random(shape) < 0.9 if draw(st.booleans()) else None
    missing = draw(st.sampled_from(['count', 'skip']))
    return predicted, annotations, schema, missing, Evidence(decoded, in_view)


def _score(*case):
    try:
        return normalized_error.score(*case)
    except ValueError as error:
        assume('can be scored' not in str(error))
        raise


@given(_cases())
def test_the_kinds_are_disjoint_and_add_up_to_ne(case):
    predicted, annotations, schema, missing, evidence = case
    score = _score(predicted, annotations, schema, missing)
    errors = error_budget.find_errors(predicted, annotations, schema, missing, evidence)
    scored = ~np.isnan(errors.distances)
    assert ((errors.codes >= 0) == scored).all()
    costs = np.stack([errors.costs(kind) for kind in errors.kinds])
    assert (costs >= 0).all()
    np.testing.assert_allclose(costs.sum(0)[scored], errors.distances[scored], rtol=1e-12)
    report = error_budget.budgets(errors, annotations.categories, schema)
    assert report['normalized_error'] == pytest.approx(score.normalized_error, rel=1e-12)
    parts = [report, *report['per_category'].values(), *report['per_keypoint'].values()]
    for part in parts:
        kinds = part['kinds'].values()
        total = sum(row['normalized_error'] for row in kinds)
        assert total == pytest.approx(part['normalized_error'], rel=1e-9)
        whole = sum(row['points'] for name, row in part['kinds'].items() if name != 'codec_floor')
        assert whole == part['points']
    for name, error in score.per_category.items():
        assert report['per_category'][name]['normalized_error'] == pytest.approx(error)
    for name, error in score.per_keypoint.items():
        assert report['per_keypoint'][name]['normalized_error'] == pytest.approx(error)


@given(_cases())
def test_a_perfect_choice_never_loses_and_finer_choices_gain_more(case):
    predicted, annotations, schema, missing, _ = case
    error = _score(predicted, annotations, schema, missing).normalized_error
    first = oracles.exchanged(predicted, schema.flip_permutation)
    gains = oracles.gains(predicted, annotations, schema, missing, first)
    garment, pair, edge, better = (
        gains[name]['gain'] for name in ('garment_sides', 'pair_sides', 'in_out', 'better_pass')
    )
    assert -1e-9 <= garment <= pair + 1e-9 <= better + 2e-9
    assert edge >= -1e-9
    for row in gains.values():
        assert row['normalized_error'] + row['gain'] == pytest.approx(error)


def test_what_is_exchanged_is_gained_back():
    annotations = _table(['trousers', 'skirt'])
    whole = oracles.exchanged(annotations, SCHEMA.flip_permutation)
    gains = oracles.gains(whole, annotations, SCHEMA)
    assert gains['garment_sides']['normalized_error'] == pytest.approx(0, abs=1e-9)
    edges = oracles.exchanged(annotations, error_budget.in_out_permutation(SCHEMA))
    gains = oracles.gains(edges, annotations, SCHEMA)
    assert gains['in_out']['normalized_error'] == pytest.approx(0, abs=1e-9)
    assert gains['in_out']['gain'] > 0.1
    assert 'better_pass' not in gains
    # The nearer pair of two: all or nothing does not help.
    a, b = SCHEMA.normalizer_indices('skirt')
    keypoints = annotations.keypoints.copy()
    keypoints[1, [a, b]] = keypoints[1, [b, a]]
    exchanged = annotations._replace(keypoints=keypoints)
    gains = oracles.gains(exchanged, annotations, SCHEMA)
    assert gains['garment_sides']['gain'] == 0
    assert gains['pair_sides']['normalized_error'] == pytest.approx(0, abs=1e-9)


def test_both_points_of_a_pair_are_exchanged_or_none():
    annotations = _table(['skirt'])
    far = _moved(annotations, 0, 'waistband_right', 'waistband_right', (0, 1000))
    predicted = _moved(
        far, 0, 'waistband_left', annotations.keypoints[0, _index('waistband_right')]
    )
    gains = oracles.gains(predicted, annotations, SCHEMA)
    # Exchanged, the right point is exact and the left one is where the right one was.
    assert gains['pair_sides']['normalized_error'] == pytest.approx(np.hypot(5, 1) / 4)
    assert gains['pair_sides']['gain'] == pytest.approx((1 + 5 - np.hypot(5, 1)) / 4)


def test_points_are_exchanged_only_where_both_are_there():
    annotations = _table(['skirt'])
    visibility = annotations.visibility.copy()
    visibility[0, _index('hemline_left')] = -1
    table = oracles.exchanged(annotations._replace(visibility=visibility), SCHEMA.flip_permutation)
    for name, to in (('hemline_right', 'hemline_right'), ('waistband_left', 'waistband_right')):
        np.testing.assert_array_equal(
            table.keypoints[0, _index(name)], annotations.keypoints[0, _index(to)]
        )
