"""The label audit: what it finds of mistakes that were made on purpose, and what it lets be."""

import numpy as np
import pytest

from preprocessing.datasets.fashionai import SCHEMA
from preprocessing.schema import KeypointSchema
from preprocessing.tables import KeypointTable
from tests import label_mistakes
from tests.tiny_shapes import SIZE, exchange, make_table
from utility.labels import audit as label_audit
from utility.labels.exchanges import IN_OUT, SIDES, exchanges_of
from utility.labels.suspicions import ABSENT, OUTSIDE, PLACE, PREDICTION, SAME_PLACE
from utility.statistics.radial_tail import RadialTail
from utility.statistics.shape_model import ShapeModel, align

COUNTS = {'blouse': 80, 'skirt': 80, 'trousers': 80}
SKIRT, TROUSERS = 100, 200  # rows of such pictures


@pytest.fixture(scope='module')
def table():
    return make_table(COUNTS)


def audit(table, predictions=None, **options):
    sizes = np.full((len(table.image_ids), 2), SIZE)
    return label_audit.audit(table, sizes, SCHEMA, predictions, **options)


def index(name):
    return SCHEMA.keypoints.index(name)


def moved(table, row, name, place, visibility=None):
    keypoints, seen = table.keypoints.copy(), table.visibility.copy()
    keypoints[row, index(name)] = place
    if visibility is not None:
        seen[row, index(name)] = visibility
    return table._replace(keypoints=keypoints, visibility=seen)


def place_of(table, row, name):
    return table.keypoints[row, index(name)]


def test_right_annotations_are_not_suspected(table):
    assert audit(table) == []


@pytest.mark.parametrize(
    ('row', 'kind', 'pairs'),
    [
        (5, SIDES, [('armpit_left', 'armpit_right')]),
        (SKIRT, SIDES, [('hemline_left', 'hemline_right')]),
        (
            SKIRT,
            SIDES,
            [('waistband_left', 'waistband_right'), ('hemline_left', 'hemline_right')],
        ),
        (TROUSERS, IN_OUT, [('bottom_left_in', 'bottom_left_out')]),
        (
            5,
            SIDES,
            [('cuff_left_in', 'cuff_right_in'), ('cuff_left_out', 'cuff_right_out')],
        ),
    ],
)
def test_an_exchange_is_found_and_undone(table, row, kind, pairs):
    wrong = exchange(table, row, *pairs)
    (found,) = audit(wrong)
    assert (found.row, found.kind) == (row, kind)
    assert {SCHEMA.keypoints[k] for k in found.keypoints} == {name for p in pairs for name in p}
    np.testing.assert_array_equal(found.moved_to, table.keypoints[row, list(found.keypoints)])
    assert found.evidence > 0.9
    apart = [np.linalg.norm(place_of(table, row, a) - place_of(table, row, b)) for a, b in pairs]
    first, second = SCHEMA.normalizer_indices(str(table.categories[row]))
    normalizer = np.linalg.norm(table.keypoints[row, first] - table.keypoints[row, second])
    assert found.cost == pytest.approx(2 * sum(apart) / normalizer, rel=1e-5)


def test_a_point_under_the_name_of_its_absent_partner_is_found(table):
    there = place_of(table, 5, 'armpit_right')
    wrong = moved(table, 5, 'armpit_left', there)
    wrong = moved(wrong, 5, 'armpit_right', (-0.5, -0.5), visibility=-1)
    found = audit(wrong)[0]
    assert found.row == 5 and found.kind in (SIDES, PLACE)
    assert index('armpit_left') in found.keypoints
    assert found.score > 0.5


def test_a_point_far_away_is_moved_to_where_the_others_say(table):
    right = place_of(table, 5, 'shoulder_left')
    (found,) = audit(moved(table, 5, 'shoulder_left', right + (30, 40)))
    assert (found.row, found.kind, found.keypoints) == (5, PLACE, (index('shoulder_left'),))
    np.testing.assert_allclose(found.moved_to[0], right, atol=10)
    assert found.visibility == [1]


def test_a_whole_garment_may_be_anywhere_and_of_any_size(table):
    there = table.visibility[5, :, np.newaxis] >= 0
    keypoints = table.keypoints.copy()
    keypoints[5] = np.where(there, 30 + keypoints[5] * 0.3, keypoints[5])
    assert audit(table._replace(keypoints=keypoints)) == []
    wrong = exchange(table._replace(keypoints=keypoints), 5, ('armpit_left', 'armpit_right'))
    assert [(one.row, one.kind) for one in audit(wrong)] == [(5, SIDES)]


def test_points_may_be_absent(table):
    wrong = exchange(table, 5, ('armpit_left', 'armpit_right'))
    visibility = wrong.visibility.copy()
    rng = np.random.default_rng(0)
    lost = rng.random(visibility.shape) < 0.2
    lost[5, SCHEMA.normalizer_indices('blouse')] = False
    visibility[lost] = -1
    found = audit(wrong._replace(visibility=visibility))
    assert [(one.row, one.kind) for one in found] == [(5, SIDES)]


def test_two_mistakes_of_a_picture_are_both_found_and_the_points_beside_them_not(table):
    wrong = exchange(table, 5, ('armpit_left', 'armpit_right'))
    wrong = moved(wrong, 5, 'neckline_left', place_of(table, 5, 'neckline_left') + (0, 60))
    found = {one.kind: one.keypoints for one in audit(wrong)}
    assert found == {
        SIDES: (index('armpit_left'), index('armpit_right')),
        PLACE: (index('neckline_left'),),
    }


def test_two_points_at_one_place_are_found_unless_they_often_are(table):
    wrong = moved(table, 5, 'top_hem_left', place_of(table, 5, 'shoulder_right'))
    (found,) = audit(wrong)
    assert (found.row, found.keypoints) == (5, (index('top_hem_left'),))
    keypoints = table.keypoints.copy()
    keypoints[:80, index('cuff_left_in')] = keypoints[:80, index('armpit_left')]
    assert SAME_PLACE not in {one.kind for one in audit(table._replace(keypoints=keypoints))}


def test_a_normalizer_of_zero_is_always_wrong(table):
    waist = place_of(table, SKIRT, 'waistband_left')
    found = audit(moved(table, SKIRT, 'waistband_right', waist))
    assert [(one.row, one.kind) for one in found] == [(SKIRT, SAME_PLACE)]
    assert found[0].evidence > 0.99


@pytest.mark.parametrize(
    ('place', 'visibility', 'to'), [((400.5, 200.5), 1, (399.5, 200.5)), ((60000, 20), None, None)]
)
def test_a_point_outside_the_picture_is_moved_to_its_border_or_far_away_to_its_place(
    table, place, visibility, to
):
    found = audit(moved(table, SKIRT, 'hemline_right', place))
    (one,) = (one for one in found if one.kind == OUTSIDE)
    assert (one.row, one.keypoints) == (SKIRT, (index('hemline_right'),))
    expected = place_of(table, SKIRT, 'hemline_right') if to is None else to
    np.testing.assert_allclose(one.moved_to[0], expected, atol=0 if to else 30)
    assert one.has_correction


def test_a_point_that_all_others_have_is_missed(table):
    many = make_table({'skirt': 300})
    wrong = moved(many, 7, 'hemline_left', (-0.5, -0.5), visibility=-1)
    (found,) = audit(wrong)
    assert (found.row, found.kind, found.keypoints) == (7, ABSENT, (index('hemline_left'),))
    assert not found.has_correction
    predictions = many.keypoints.astype(float) + 0.2
    (found,) = audit(wrong, predictions)
    assert found.has_correction and found.visibility == [1]
    np.testing.assert_array_equal(found.moved_to[0], place_of(many, 7, 'hemline_left'))


def test_predictions_find_what_shapes_do_not(table):
    predictions = label_mistakes.simulate_predictions(table, SCHEMA)
    assert audit(table, predictions) == []
    place = place_of(table, 5, 'cuff_left_in')
    wrong = moved(table, 5, 'cuff_left_in', place + (12, 12))
    assert audit(wrong) == []
    (found,) = audit(wrong, table.keypoints.astype(float))
    assert (found.row, found.kind, found.keypoints) == (5, PREDICTION, (index('cuff_left_in'),))
    np.testing.assert_array_equal(found.moved_to[0], place)


def test_a_network_that_confuses_sides_or_sees_nothing_does_not_make_annotations_wrong(table):
    predictions = label_mistakes.simulate_predictions(table, SCHEMA)
    predictions[5] = predictions[5][list(SCHEMA.flip_permutation)]
    predictions[6] = 10.0
    predictions[7] = np.nan
    rows = {one.row for one in audit(table, predictions)}
    assert not rows & {5, 6, 7}


@pytest.mark.slow
def test_of_synthetic_garments_with_mistakes_nearly_all_exchanges_are_found():
    garments, sizes = label_mistakes.draw_garments(300, 48, seed=0)
    wrong, mistakes = label_mistakes.make_mistakes(garments, SCHEMA, {'sides': 0.08})
    # Inner hems of legs that stand side by side look the same either way round.
    inner = {index('bottom_left_in'), index('bottom_right_in')}
    plain = {row for row, mistake in mistakes.items() if mistake.keypoints != inner}
    assert len(plain) >= 20
    found = label_audit.audit(wrong, sizes, SCHEMA)
    top = {one.row for one in found[: round(1.25 * len(mistakes))]}
    assert len(top & plain) >= 0.95 * len(plain)
    counts = label_mistakes.count_detections(found, mistakes)
    assert counts['sides'].identified >= 0.75 * len(mistakes)
    assert counts['sides'].right >= 0.95 * counts['sides'].suspicions
    assert counts['all'].right >= 0.8 * counts['all'].suspicions


def test_of_all_kinds_of_mistakes_most_are_found_and_few_others_suspected():
    many = make_table({'blouse': 150, 'skirt': 150, 'trousers': 150}, seed=1)
    wrong, mistakes = label_mistakes.make_mistakes(many, SCHEMA, seed=1)
    alone = label_mistakes.count_detections(audit(wrong), mistakes)
    assert alone['all'].suspected >= 0.75 * len(mistakes)
    assert alone['all'].right >= 0.9 * alone['all'].suspicions
    assert alone['sides'].identified == alone['sides'].num_mistakes
    helped = label_mistakes.count_detections(
        audit(wrong, label_mistakes.simulate_predictions(many, SCHEMA)), mistakes
    )
    assert helped['all'].suspected >= 0.93 * len(mistakes)
    assert helped['all'].right >= 0.95 * helped['all'].suspicions


def test_mistakes_are_as_they_are_told(table):
    wrong, mistakes = label_mistakes.make_mistakes(table, SCHEMA, seed=3)
    assert len(mistakes) == 4 * round(0.03 * len(table.image_ids))
    differs = (wrong.keypoints != table.keypoints).any(-1)
    for row in range(len(differs)):
        points = set(np.flatnonzero(differs[row]))
        if row not in mistakes:
            assert not points
        elif mistakes[row].kind == 'same_place':
            assert points < mistakes[row].keypoints
        else:
            assert points == mistakes[row].keypoints


def test_the_worst_come_first_and_each_point_once(table):
    wrong, _ = label_mistakes.make_mistakes(table, SCHEMA)
    found = audit(wrong, min_evidence=0.2)
    scores = [one.score for one in found]
    assert scores == sorted(scores, reverse=True)
    points = [(one.row, k) for one in found for k in one.keypoints]
    assert len(points) == len(set(points))
    assert min(one.evidence for one in found) >= 0.2
    surer = audit(wrong, min_evidence=0.9)
    assert {one.row for one in surer} <= {one.row for one in found}
    assert min(one.evidence for one in surer) >= 0.9


@pytest.mark.parametrize('min_evidence', [0, 1, 1.5])
def test_an_evidence_out_of_range_is_an_error(table, min_evidence):
    with pytest.raises(ValueError, match=f'min_evidence={min_evidence}: must be'):
        audit(table, min_evidence=min_evidence)


def test_few_pictures_of_a_category_are_left_alone(caplog):
    with caplog.at_level('WARNING'):
        assert audit(make_table({'skirt': 19})) == []
    assert 'skirt: 19 pictures with 3 points or more are too few' in caplog.text


def test_pictures_of_two_points_tell_nothing(table):
    visibility = table.visibility.copy()
    visibility[:, [index('hemline_left'), index('hemline_right')]] = -1
    assert audit(table._replace(visibility=visibility)) == []


def test_pictures_without_points_do_no_harm(table):
    visibility = table.visibility.copy()
    visibility[5], visibility[SKIRT] = -1, -1
    visibility[SKIRT, index('waistband_left')] = 1
    assert {one.kind for one in audit(table._replace(visibility=visibility))} <= {ABSENT}


def test_exchanges_are_derived_from_names():
    found = {(one.kind, len(one.pairs)) for one in exchanges_of('trousers', SCHEMA)}
    assert found == {(SIDES, 1), (SIDES, 2), (SIDES, 3), (IN_OUT, 1)}
    assert len(exchanges_of('trousers', SCHEMA)) == 3 + 1 + 1 + 2
    assert [len(one.pairs) for one in exchanges_of('skirt', SCHEMA)] == [1, 1, 2]


def test_a_schema_without_sides_can_be_audited():
    names = ('top', 'middle', 'bottom')
    schema = KeypointSchema('plain', names, {'scarf': names}, {'scarf': ('top', 'bottom')}, ())
    rng = np.random.default_rng(0)
    keypoints = (np.array([[50, 10], [60, 50], [50, 90]]) + rng.normal(0, 1, (60, 3, 2))) * 2
    keypoints[7, 1] = 20, 160
    scarves = KeypointTable(
        np.arange(60).astype(str).astype(object),
        np.full(60, 'scarf'),
        keypoints,
        np.ones((60, 3), int),
        np.arange(60),
    )
    found = label_audit.audit(scarves, np.full((60, 2), 200), schema)
    assert [one.row for one in found] == [7]


def test_predictions_of_folds_and_of_several_networks_are_combined(table):
    def rows(chosen, offset):
        points = table.keypoints[chosen] + np.float32(offset)
        return table._replace(
            image_ids=table.image_ids[chosen],
            categories=table.categories[chosen],
            keypoints=points,
            visibility=table.visibility[chosen],
            lines=table.lines[chosen],
        )

    folds = [rows([0, 1], 0), rows([3, 2], 0), rows([0, 1, 2], 4), rows([0], 1)]
    combined = label_audit.combined_predictions(folds, table)
    own = table.visibility >= 0
    offsets = combined - table.keypoints
    for row, expected in ((0, 1), (1, 2), (2, 2), (3, 0)):
        np.testing.assert_allclose(offsets[row, own[row]], expected, atol=1e-4)
        assert np.isnan(combined[row, ~own[row]]).all()
    assert np.isnan(combined[4:]).all()


def test_conditional_predictions_are_those_of_the_t_distribution():
    shapes = make_table({'blouse': 60})
    own = list(SCHEMA.indices('blouse'))
    points, present = shapes.keypoints[:, own].astype(float), np.ones((60, len(own)), bool)
    present[4, [2, 7]] = False
    model = ShapeModel.fit(points, present)
    conditional = model.conditional(points, present)
    aligned, centers, sizes = align(points, present, model.mean)
    scatter, mean = model._posed_scatter, model.mean.ravel()
    for row, k in ((0, 3), (4, 3), (4, 7)):
        others = np.repeat(present[row] & (np.arange(len(own)) != k), 2)
        rest, me = np.flatnonzero(others), [2 * k, 2 * k + 1]
        gain = scatter[np.ix_(me, rest)] @ np.linalg.inv(scatter[np.ix_(rest, rest)])
        residual = aligned[row].ravel()[rest] - mean[rest]
        predicted = (mean[me] + gain @ residual) * sizes[row] + centers[row]
        np.testing.assert_allclose(conditional.predicted[row, k], predicted, atol=1e-6)
        squared = residual @ np.linalg.inv(scatter[np.ix_(rest, rest)]) @ residual
        widening = (4 + squared) / (4 + len(rest)) * sizes[row] ** 2
        covariance = widening * (scatter[np.ix_(me, me)] - gain @ scatter[np.ix_(rest, me)])
        np.testing.assert_allclose(conditional.covariance[row, k], covariance, rtol=1e-6)
        offset = points[row, k] - predicted
        distance = offset @ np.linalg.inv(covariance) @ offset
        found = conditional.squared_distances(points)[row, k]
        assert found == pytest.approx(distance, rel=1e-6)


def test_usual_deviations_are_of_the_size_that_is_told():
    shapes = make_table({'skirt': 400})
    own = list(SCHEMA.indices('skirt'))
    points, present = shapes.keypoints[:, own].astype(float), np.ones((400, 4), bool)
    squared = ShapeModel.fit(points, present).conditional(points, present).squared_distances(points)
    assert 0.7 < np.median(squared) < 2.5  # 1.39 of a Gaussian distribution


def test_a_prediction_of_a_point_does_not_depend_on_the_point():
    shapes = make_table({'skirt': 100})
    own = list(SCHEMA.indices('skirt'))
    points, present = shapes.keypoints[:, own].astype(float), np.ones((100, 4), bool)
    model = ShapeModel.fit(points, present)
    expected = model.conditional(points, present).predicted[0, 2]
    far, lost = points.copy(), present.copy()
    far[0, 2] += 15, -10
    lost[0, 2] = False
    unlike = np.linalg.norm(model.conditional(far, present).predicted[0, 2] - expected)
    assert unlike < 2
    absent = np.linalg.norm(model.conditional(points, lost).predicted[0, 2] - expected)
    assert absent < 2


def test_surprise_compares_shapes_of_equally_many_points():
    shapes = make_table({'skirt': 100})
    own = list(SCHEMA.indices('skirt'))
    points, present = shapes.keypoints[:, own].astype(float), np.ones((100, 4), bool)
    model = ShapeModel.fit(points, present)
    mirrored = points[:, [1, 0, 3, 2]]
    assert (model.surprise(mirrored, present) > model.surprise(points, present) + 5).all()
    shifted = model.surprise(points + 37, present)
    np.testing.assert_allclose(shifted, model.surprise(points, present), rtol=1e-6)


def test_no_shapes_to_learn_from_is_an_error():
    with pytest.raises(ValueError, match='no picture has 3 points'):
        ShapeModel.fit(np.zeros((5, 4, 2)), np.zeros((5, 4), bool))


@pytest.mark.parametrize('dof', [1.5, 4.0, 30.0])
def test_a_tail_is_learned_whatever_its_weight(dof):
    rng = np.random.default_rng(0)
    spread = np.sqrt(rng.chisquare(dof, 100000) / dof)
    squared = (rng.normal(0, 0.3, (100000, 2)) ** 2).sum(1) / spread**2
    tail = RadialTail.fit(squared)
    assert tail.scale == pytest.approx(0.09, rel=0.05)
    assert tail.dof == pytest.approx(dof, rel=0.15)
    radius = np.arange(400001) / 1000
    density = np.exp(tail.log_density(radius**2)) * 2 * np.pi * radius
    assert density.sum() / 1000 == pytest.approx(1, abs=1e-3)


def test_too_few_distances_give_the_default():
    assert RadialTail.fit(np.full((50, 3), np.nan)) == RadialTail()
