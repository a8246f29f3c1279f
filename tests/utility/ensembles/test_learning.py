"""What is learned of models: their faults, whom to believe, and never what makes things worse."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import optimize

from benchmarks.common.simulated_models import annotations, model
from preprocessing.datasets.fashionai import SCHEMA
from utility.ensembles import files, learning, mixture, report, systematic_errors
from utility.ensembles.choice import (
    ALONE,
    VOTES,
    WEIGHTS,
    Ensemble,
    choose,
    distances_of,
    folds_of,
)
from utility.ensembles.combination import Predictions, combine
from utility.ensembles.selection import select_models
from utility.ensembles.systematic_errors import annotated_points


def predictions(table, *models) -> Predictions:
    """Return what models say of the pictures of a table, named A, B and so on."""
    in_category = table.visibility >= 0
    return Predictions(
        tuple('ABCDEFGHIJKLMNOP'[: len(models)]),
        table.categories,
        np.stack([m.keypoints.astype(np.float64) for m in models]),
        np.stack([in_category & (m.visibility >= 0) for m in models]),
        in_category,
    )


TABLE = annotations(0, 240)
ANNOTATED = annotated_points(TABLE, SCHEMA)
SKIRT, TROUSERS = (list(SCHEMA.categories).index(name) for name in ('skirt', 'trousers'))
OWN = {
    code: list(SCHEMA.indices(name)) for name, code in (('skirt', SKIRT), ('trousers', TROUSERS))
}


def error_of(points, table=TABLE):
    return float(np.nanmean(distances_of(points, annotated_points(table, SCHEMA))))


def error_of_each(stacked, table=TABLE):
    return [error_of(points, table) for points in stacked.keypoints]


def swapped(table, category, left, right):
    """Return the table with two points exchanged in the pictures of a category."""
    points, rows = table.keypoints.copy(), table.categories == category
    pair = [SCHEMA.keypoints.index(name) for name in (left, right)]
    points[np.ix_(rows, pair)] = points[np.ix_(rows, pair[::-1])]
    return table._replace(keypoints=points)


class TestCorrections:
    def test_offsets_are_found_although_a_model_is_often_lost(self):
        stacked = predictions(TABLE, model(TABLE, 1), model(TABLE, 2, lost=0.3, offset=(-4, 7)))
        offsets = systematic_errors.fit_correction(stacked, ANNOTATED, SCHEMA).offsets
        for code, points in OWN.items():
            np.testing.assert_allclose(offsets[0, code, points], 0, atol=1.2)
            np.testing.assert_allclose(offsets[1, code, points], [[-4, 7]] * len(points), atol=1.5)

    def test_offsets_that_grow_with_the_garment(self):
        # 10 % of the garment's size, which is about its width.
        codes = systematic_errors.category_codes(TABLE.categories, SCHEMA)
        in_category = TABLE.visibility >= 0
        _, sizes = systematic_errors.garment_frames(TABLE.keypoints, codes, in_category)
        shift = np.where(in_category[..., np.newaxis], 0.1 * sizes[:, np.newaxis, np.newaxis], 0)
        biased = TABLE._replace(keypoints=TABLE.keypoints + shift)
        stacked = predictions(TABLE, model(TABLE, 1), model(TABLE, 2), model(biased, 3))
        correction = systematic_errors.fit_correction(stacked, ANNOTATED, SCHEMA)
        assert correction.relative[2]
        np.testing.assert_allclose(correction.offsets[2, TROUSERS, OWN[TROUSERS]], 0.1, atol=0.02)
        corrected = systematic_errors.correct(correction, stacked, SCHEMA)
        assert (
            error_of_each(corrected)[2]
            < 1.1 * error_of_each(stacked)[0]
            < error_of_each(stacked)[2]
        )

    def test_few_pictures_say_little_about_a_keypoint(self):
        table = annotations(1, 4)
        stacked = predictions(table, model(table, 1, noise=30))
        offsets = systematic_errors.fit_correction(
            stacked, annotated_points(table, SCHEMA), SCHEMA
        ).offsets[0]
        category_offsets = np.concatenate([offsets[code, points] for code, points in OWN.items()])
        # The general offset, and at most 2 of 22 parts of that of the two pictures.
        assert category_offsets.std(0).max() < 5

    def test_mirrored_columns_are_found_and_read_from_their_partner(self):
        wrong = swapped(model(TABLE, 2), 'trousers', 'waistband_left', 'waistband_right')
        stacked = predictions(TABLE, model(TABLE, 1), wrong)
        correction = systematic_errors.fit_correction(stacked, ANNOTATED, SCHEMA)
        names = {(m, c, SCHEMA.keypoints[k]) for m, c, k in np.argwhere(correction.mirrored)}
        assert names == {(1, TROUSERS, 'waistband_left'), (1, TROUSERS, 'waistband_right')}
        corrected = systematic_errors.correct(correction, stacked, SCHEMA)
        assert error_of_each(corrected)[1] == pytest.approx(error_of_each(corrected)[0], rel=0.2)

    def test_where_the_partner_is_absent_the_point_stays(self):
        mirrored = np.zeros([1, len(SCHEMA.categories), SCHEMA.num_keypoints], bool)
        k, partner = (SCHEMA.keypoints.index(f'waistband_{side}') for side in ('left', 'right'))
        mirrored[:, :, k] = True
        correction = systematic_errors.Correction(
            mirrored, np.zeros([*mirrored.shape, 2]), np.zeros(1, bool)
        )
        stacked = predictions(TABLE, model(TABLE, 1))
        stacked.present[0, 3, partner] = stacked.present[0, 4, k] = False
        corrected = systematic_errors.correct(correction, stacked, SCHEMA)
        np.testing.assert_array_equal(
            corrected.keypoints[0, [3, 4, 5], k],
            stacked.keypoints[0, [3, 4, 5], [k, partner, partner]],
        )
        assert corrected.present[0, [3, 4, 5], k].all()


def mixture_inputs(seed, experts=3, rows=40):
    generator = np.random.default_rng(seed)
    points = generator.uniform(0, 100, [experts, rows, 2])
    shares = (generator.random([experts, rows]) < 0.8).astype(np.float64)
    shares[0] = 1
    features = mixture.agreement(points, shares, np.full(rows, 50.0))
    codes, keypoints = generator.integers(0, 2, rows), generator.integers(0, 3, rows)
    inputs = mixture.MixtureInputs(
        points.astype(np.float32), shares.astype(np.float32), codes, keypoints, features
    )
    target = generator.uniform(0, 100, [rows, 2])
    return inputs, mixture.MixtureTargets(target, generator.uniform(0.5, 2, rows), (2, 3))


class TestVotes:
    def test_agreement(self):
        points = np.array([[(0, 0)], [(3, 4)], [(0, 0)]], np.float64)
        shares = np.array([[1.0], [1.0], [0.0]])
        near = [np.exp(-5 / 20 / scale) for scale in mixture.AGREEMENT_SCALES]
        features = mixture.agreement(points, shares, np.array([20.0]))[:, 0]
        np.testing.assert_allclose(features, [*near, *[0] * 6, 0, 0, 1], rtol=1e-6)
        assert len(features) == mixture.num_features(3)

    def test_weights_are_positive_with_a_sum_of_1_and_0_for_the_absent(self):
        inputs, targets = mixture_inputs(0)
        mixture_weights, _ = mixture.fit_mixture(inputs, targets, 1.0)
        weights = mixture.weights_of(mixture_weights, inputs)
        np.testing.assert_allclose(weights.sum(0), 1, rtol=1e-5)
        assert (weights[inputs.shares == 0] == 0).all()
        assert (weights[inputs.shares > 0] > 0).all()

    def test_the_gradient_is_that_of_the_value(self):
        inputs, targets = mixture_inputs(1)
        inputs = mixture.MixtureInputs(*(values.copy() for values in inputs))
        objective = mixture._Objective(inputs, targets, 5.0)
        generator = np.random.default_rng(2)
        place = generator.normal(0, 0.5, objective.layout.size)
        _, gradient = objective(place)
        for direction in generator.normal(0, 1, [10, len(place)]):
            step = 1e-2 * direction
            ahead, behind = objective(place + step)[0], objective(place - step)[0]
            assert (ahead - behind) / 2e-2 == pytest.approx(
                gradient @ direction, rel=1e-2, abs=1e-3
            )

    def test_a_fit_is_where_no_longer_search_gets_further(self):
        inputs, targets = mixture_inputs(5)
        objective = mixture._Objective(inputs, targets, 5.0)
        _, parameters = mixture.fit_mixture(inputs, targets, 5.0)
        value, start = objective(parameters)[0], objective(np.zeros(objective.layout.size))[0]
        options = {'maxiter': 10_000, 'ftol': 1e-12, 'gtol': 1e-9}
        least = optimize.minimize(
            objective, parameters, jac=True, method='L-BFGS-B', options=options
        ).fun
        assert least <= value < least + 1e-3 * (start - least)

    def test_a_strong_shrinkage_leaves_one_weight_for_each_model(self):
        inputs, targets = mixture_inputs(3)
        biases, effects = mixture.fit_mixture(inputs, targets, 1e9)[0]
        np.testing.assert_allclose(biases, biases[:, :1, :1] + np.zeros([3, 2, 3]), atol=1e-4)
        np.testing.assert_allclose(effects, 0, atol=1e-4)

    def test_whoever_is_right_in_a_keypoint_has_its_weight(self):
        inputs, targets = mixture_inputs(4, rows=400)
        right = np.where(inputs.keypoints == 1, 1, 0)
        inputs = inputs._replace(shares=np.ones_like(inputs.shares), features=inputs.features[:0])
        target = inputs.points[right, np.arange(400)].astype(np.float64)
        mixture_weights, _ = mixture.fit_mixture(inputs, targets._replace(points=target), 0.01)
        weights = mixture.weights_of(mixture_weights, inputs)
        assert weights[right, np.arange(400)].min() > 0.95


def train_and_test():
    return np.arange(160), np.arange(160, 240)


def fit(stacked, rows, strength=3.0):
    parts = (stacked.of_images(rows), ANNOTATED.of_images(rows))
    learned_statistics = learning.fit_statistics(*parts, SCHEMA)
    *_, learned = learning.fit(learned_statistics, *parts, SCHEMA, (strength,))
    return learned


class TestLearning:
    def test_a_worthless_model_has_no_weight(self):
        stacked = predictions(TABLE, model(TABLE, 1), model(TABLE, 2), model(TABLE, 3, lost=1.0))
        train, test = train_and_test()
        learned = fit(stacked, train)
        points = learning.combine(learned, stacked.of_images(test), SCHEMA)
        without = combine(stacked.of_images(test).of_models([0, 1]), 'mean')[0]
        held_out = TABLE.rows(test)
        assert error_of(points, held_out) < 1.1 * error_of(without, held_out)
        weights = np.exp(learned.weights.biases[:, TROUSERS, OWN[TROUSERS]])
        assert (weights[2] / weights.sum(0)).max() < 0.02

    def test_votes_know_a_lost_point_by_the_others(self):
        # Each model is lost in a quarter of the points; no weight for all pictures can know where.
        stacked = predictions(TABLE, *(model(TABLE, seed, lost=0.25) for seed in range(1, 5)))
        train, test = train_and_test()
        held_out = TABLE.rows(test)
        learned, part = fit(stacked, train), stacked.of_images(test)
        by_votes = error_of(learning.combine(learned, part, SCHEMA), held_out)
        plain = learned._replace(votes=None, shapes={})
        by_weights = error_of(learning.combine(plain, part, SCHEMA), held_out)
        by_median = error_of(combine(part, 'median')[0], held_out)
        assert by_votes < 0.8 * by_median < 0.8 * by_weights

    def test_shapes_know_which_of_two_models_is_lost(self):
        stacked = predictions(TABLE, model(TABLE, 1, lost=0.15), model(TABLE, 2, lost=0.15))
        train, test = train_and_test()
        held_out = TABLE.rows(test)
        learned, part = fit(stacked, train), stacked.of_images(test)
        by_votes = error_of(learning.combine(learned, part, SCHEMA), held_out)
        assert by_votes < 0.7 * error_of(combine(part, 'mean')[0], held_out)

    def test_points_that_nobody_predicts_stay_absent(self):
        stacked = predictions(TABLE, model(TABLE, 1), model(TABLE, 2))
        k = SCHEMA.keypoints.index('hemline_left')
        stacked.present[:, 0, k] = False
        points = learning.combine(fit(stacked, np.arange(240)), stacked, SCHEMA)
        assert points[0, k].tolist() == [-0.5, -0.5]
        assert np.isfinite(points).all()

    def test_categories_without_answers_are_combined_by_what_holds_in_general(self):
        stacked = predictions(TABLE, model(TABLE, 1), model(TABLE, 2, lost=1.0))
        skirts = np.flatnonzero(TABLE.categories == 'skirt')
        learned = fit(stacked, skirts)
        assert set(learned.shapes) == {'skirt'}
        trousers = np.flatnonzero(TABLE.categories == 'trousers')
        points = learning.combine(learned, stacked.of_images(trousers), SCHEMA)
        held_out = TABLE.rows(trousers)
        part = stacked.of_images(trousers)
        assert error_of(points, held_out) < 1.3 * error_of(part.keypoints[0], held_out)


class TestChoice:
    def test_what_learns_nothing_is_taken_where_learning_does_not_help(self):
        same = model(TABLE, 1, noise=0)
        choice = choose(predictions(TABLE, same, same), ANNOTATED, SCHEMA)
        assert choice.chosen.strength is None
        assert choice.ensemble.learned is None
        text = report.to_text(choice, report.gains_of(choice))
        assert 'nothing that is learned is better where it was not fitted' in text

    @pytest.mark.parametrize('seed', [1, 2])
    def test_nothing_that_was_measured_is_better(self, seed):
        models = [model(TABLE, 10 * seed + i, noise=2 + i, lost=0.1 * i) for i in range(3)]
        choice = choose(predictions(TABLE, *models), ANNOTATED, SCHEMA)
        errors = [candidate.error for candidate in (*choice.singles, *choice.candidates)]
        assert choice.chosen.error == min(errors)
        assert {WEIGHTS, VOTES} <= {candidate.method for candidate in choice.candidates}

    def test_expected_errors_hold_for_other_pictures(self):
        # What all pictures but those of a fold tell is as good in pictures that come later.
        table = annotations(5, 480)
        models = [model(table, 20 + i, lost=0.2) for i in range(3)]
        stacked, table_annotated = (
            predictions(table, *models),
            annotated_points(table, SCHEMA),
        )
        first, later = np.arange(240), np.arange(240, 480)
        choice = choose(stacked.of_images(first), table_annotated.of_images(first), SCHEMA)
        points = choice.ensemble.points(stacked.of_images(later), SCHEMA)
        error = np.nanmean(distances_of(points, table_annotated.of_images(later)))
        assert choice.chosen.method == VOTES
        assert error == pytest.approx(choice.chosen.error, rel=0.25)

    def test_equal_pictures_are_in_one_fold(self):
        stacked = predictions(TABLE, model(TABLE, 1), model(TABLE, 2))
        twice = stacked.of_images(np.repeat(np.arange(240), 2))
        folds = folds_of(twice, ANNOTATED.of_images(np.repeat(np.arange(240), 2)), SCHEMA)
        for fold in folds:
            assert not set(fold.train // 2) & set(fold.held_out // 2)
        held_out = np.sort(np.concatenate([fold.held_out for fold in folds]))
        np.testing.assert_array_equal(held_out, np.arange(480))

    def test_a_model_alone_and_the_median_where_it_has_no_point(self):
        stacked = predictions(
            TABLE, model(TABLE, 1, absent=0.2), model(TABLE, 2), model(TABLE, 3, noise=9)
        )
        points = Ensemble(ALONE, 0).points(stacked, SCHEMA)
        has_point = stacked.present[0]
        np.testing.assert_array_equal(points[has_point], stacked.keypoints[0][has_point])
        lacking = stacked.in_category & ~has_point
        median = stacked.keypoints[1:].mean(0)
        np.testing.assert_allclose(points[lacking], median[lacking])

    def test_a_method_that_is_asked_for(self):
        stacked = predictions(TABLE, model(TABLE, 1), model(TABLE, 2))
        choice = choose(stacked, ANNOTATED, SCHEMA, 'mean')
        assert (choice.chosen.method, choice.ensemble) == ('mean', Ensemble('mean'))
        with pytest.raises(ValueError, match="unknown ensembling method 'mode'"):
            choose(stacked, ANNOTATED, SCHEMA, 'mode')

    def test_fewer_pictures_than_folds(self):
        stacked = predictions(TABLE, model(TABLE, 1)).of_images(np.arange(4))
        with pytest.raises(ValueError, match='4 different pictures with answers: to learn takes 5'):
            choose(stacked, ANNOTATED.of_images(np.arange(4)), SCHEMA)

    def test_answers_without_a_normalizer(self):
        hidden = TABLE._replace(visibility=np.minimum(TABLE.visibility, 0))
        with pytest.raises(ValueError, match='no point of 240 images can be scored'):
            annotated_points(hidden, SCHEMA)


class TestGains:
    def test_gains_are_the_differences_of_what_was_measured(self):
        models = [model(TABLE, 30 + i, lost=0.2) for i in range(3)]
        choice = choose(predictions(TABLE, *models), ANNOTATED, SCHEMA)
        gains = report.gains_of(choice)
        errors = {c.label: c.error for c in (*choice.candidates, *choice.singles)}
        assert {'mean', 'median'} <= {gain.over for gain in gains}
        assert any(gain.over in 'ABC' for gain in gains)
        for gain in gains:
            value, low, high = gain.interval
            assert value == pytest.approx(errors[gain.over] - choice.chosen.error)
            assert 0 < low < value < high

    def test_values_are_json(self):
        models = [model(TABLE, 40 + i, absent=0.1 * i) for i in range(2)]
        stacked = predictions(TABLE, *models)
        selection = select_models(stacked, ANNOTATED, SCHEMA, 1, 'mean')
        choice = choose(stacked, ANNOTATED, SCHEMA, 'mean')
        gains = report.gains_of(choice)
        values = json.loads(json.dumps(report.to_dict(choice, gains, selection)))
        assert values['normalized_error'] == choice.chosen.error
        assert values['points'] == np.count_nonzero(ANNOTATED.weights)
        assert [entry['models'] for entry in values['selection']] == [['A'], ['B']]


class TestSelection:
    def test_two_that_complete_each_other_are_better_than_the_two_best(self):
        skirts = TABLE.categories == 'skirt'

        def good_in(rows, seed):
            good, bad = model(TABLE, seed, noise=1), model(TABLE, seed, noise=20)
            points = np.where(rows[:, np.newaxis, np.newaxis], good.keypoints, bad.keypoints)
            return good._replace(keypoints=points)

        models = [
            model(TABLE, 1, noise=8),
            good_in(skirts, 2),
            model(TABLE, 3, noise=8),
            good_in(~skirts, 4),
        ]
        stacked = predictions(TABLE, *models)
        selection = select_models(stacked, ANNOTATED, SCHEMA, 2)
        assert selection.best == (1, 3)
        assert len(selection.ranked) == 4 + 6
        errors = [error for _, error in selection.ranked]
        assert errors == sorted(errors)
        assert 'B + D' in report.selection_to_text(selection)

    def test_of_many_models_one_is_added_at_a_time(self):
        models = [model(TABLE, 50 + i, noise=3 + 2 * abs(i - 7)) for i in range(12)]
        stacked = predictions(TABLE, *models)
        selection = select_models(stacked, ANNOTATED, SCHEMA, 3, 'mean')
        assert len(selection.ranked) == 12 + 11 + 10
        assert 7 in selection.best
        best_of = {
            size: min(e for models, e in selection.ranked if len(models) == size)
            for size in (1, 2, 3)
        }
        assert best_of[1] > best_of[2]

    @pytest.mark.parametrize('max_models', [0, -1])
    def test_a_bad_number(self, max_models):
        stacked = predictions(TABLE, model(TABLE, 1))
        with pytest.raises(ValueError, match=f'max_models={max_models}: must be 1 or more'):
            select_models(stacked, ANNOTATED, SCHEMA, max_models)


STACKED = predictions(TABLE, model(TABLE, 1, lost=0.1), model(TABLE, 2, offset=(5, 0)))


@pytest.fixture(scope='module')
def saved():
    learned = fit(STACKED, np.arange(240))
    return files.SavedEnsemble(('a.csv', 'b.csv'), Ensemble(VOTES, 0, learned))


class TestFiles:
    def test_what_is_read_combines_as_what_was_written(self, saved):
        text = files.to_json(saved, SCHEMA)
        read = files.from_json(text, SCHEMA, 'w.json')
        assert read.names == saved.names
        np.testing.assert_array_equal(
            read.ensemble.points(STACKED, SCHEMA), saved.ensemble.points(STACKED, SCHEMA)
        )
        assert files.to_json(read, SCHEMA) == text

    @pytest.mark.parametrize('ensemble', [Ensemble('median'), Ensemble(ALONE, 1)])
    def test_ensembles_that_learned_nothing(self, ensemble):
        written = files.SavedEnsemble(('a.csv', 'b.csv'), ensemble)
        text = files.to_json(written, SCHEMA)
        assert files.from_json(text, SCHEMA, 'w.json') == written

    def test_weights_alone(self, saved):
        learned = saved.ensemble.learned._replace(votes=None, shapes={})
        written = saved._replace(ensemble=Ensemble(WEIGHTS, 0, learned))
        read = files.from_json(files.to_json(written, SCHEMA), SCHEMA, 'w')
        assert read.ensemble.learned.votes is None

    @pytest.mark.parametrize(
        'path, value, message',
        [
            (['format'], 2, "format=2: must be 'keypoint ensemble 1'"),
            (['keypoints'], ['nose'], 'keypoints: are not those of fashionai'),
            (['categories', 'skirt'], [], 'categories: are not those of fashionai'),
            (['models'], [], 'models: must be a list'),
            (['models'], ['a', 3], 'models: must be a list'),
            (['models'], ['a'], r'learned\.votes\.biases: must be 2 x 5 x 24'),
            (['method'], 'mode', "method='mode': must be one of .*median.*votes"),
            (['method'], ['votes'], r"method=\['votes'\]: must be one of"),
            (['method'], 'mean', 'learned: must be there for weights and votes only, not mean'),
            (['method'], 'weights', r'learned\.votes: must be there for votes only, not weights'),
            (['model'], 2, 'model=2: must be from 0 to 1'),
            (['model'], True, 'model=True: must be from 0 to 1'),
            (['extra'], 1, 'the file: must have just the keys format, '),
            (['learned'], None, 'learned: must be there'),
            (['learned'], 7, 'learned: must have just the keys correction, '),
            (['learned', 'correction', 'offsets', 0, 0, 0, 0], float('nan'), 'offsets: must be'),
            (['learned', 'correction', 'offsets', 0, 0, 0, 0], 1e400, 'offsets: must be'),
            (['learned', 'correction', 'offsets', 0, 0, 0, 0], 10**400, 'offsets: must be'),
            (['learned', 'correction', 'offsets', 0, 0, 0, 0], 2e6, 'from -1e.06 to 1e.06'),
            (['learned', 'correction', 'offsets', 0, 0, 0, 0], '1', 'offsets: must be'),
            (['learned', 'correction', 'offsets', 0, 0, 0], [1], 'offsets: must be 2 x 5 x 24 x 2'),
            (['learned', 'correction', 'mirrored', 0, 0, 0], 1, 'mirrored: must be 2 x 5 x 24 of'),
            (['learned', 'correction', 'relative'], [True], 'relative: must be 2 of true and'),
            (['learned', 'weights', 'effects'], [[1], [1]], 'effects: must be 2 x 0 numbers'),
            (['learned', 'votes', 'effects', 0], [], r'learned\.votes\.effects: must be 3 x 12'),
            (['learned', 'votes'], [], r'learned\.votes: must have just the keys biases, effects'),
            (['learned', 'shapes', 'coat'], {}, r'learned\.shapes: must have categories'),
            (['learned', 'shapes', 'skirt', 'mean'], 0, r'shapes\.skirt\.mean: must be 4 x 2'),
            (['learned', 'shapes', 'skirt', 'scatter', 0, 0], -1, 'positive definite'),
            (['learned', 'shapes', 'skirt', 'scatter', 0, 1], 9, 'symmetric'),
        ],
    )
    def test_hostile_files(self, saved, path, value, message):
        values = json.loads(files.to_json(saved, SCHEMA))
        place = values
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
        with pytest.raises(ValueError, match=rf'^w\.json: .*{message}'):
            files.from_json(json.dumps(values), SCHEMA, 'w.json')

    @pytest.mark.parametrize('text', ['', '{', '[]', 'null', '"x"', '{}', '[' * 100_000])
    def test_other_files(self, text):
        with pytest.raises(ValueError, match=r'^w\.json: '):
            files.from_json(text, SCHEMA, 'w.json')
