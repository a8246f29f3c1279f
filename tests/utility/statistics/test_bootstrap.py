"""utility.statistics.bootstrap: intervals cover, tests keep their level, folds share no picture."""

from __future__ import annotations

import json
import tracemalloc
from collections import Counter
from statistics import NormalDist

import numpy as np
import pytest

from tests import commands
from tests.tiny_tables import write_skirts
from utility.statistics import bootstrap


def simulated(generator, shape, bias=0.0):
    """Return distances [..., 8] as of pictures: some are hard as a whole, some points are not
    scored.
    """
    hard = generator.lognormal(bias, 0.7, [*shape, 1])
    distances = 0.05 * hard * generator.gamma(1.0, 1.0, [*shape, 8])
    hidden = generator.random(distances.shape) < 0.3
    return np.where(hidden, np.nan, distances)


TRUE_NE = 0.05 * np.exp(0.7**2 / 2)


def test_95_percent_of_the_intervals_hold_the_truth():
    generator = np.random.default_rng(0)
    sets = simulated(generator, [500, 300])
    intervals = [
        bootstrap.ne_interval(distances, num_samples=500, seed=seed)
        for seed, distances in enumerate(sets)
    ]
    below = np.mean([interval.high < TRUE_NE for interval in intervals])
    above = np.mean([interval.low > TRUE_NE for interval in intervals])
    assert 0.92 <= 1 - below - above <= 0.97
    assert max(below, above) <= 0.06  # on either side


def test_an_interval_is_of_the_level_that_is_asked_for():
    generator = np.random.default_rng(0)
    sets = simulated(generator, [300, 300])
    intervals = [
        bootstrap.ne_interval(distances, level=0.5, num_samples=300, seed=seed)
        for seed, distances in enumerate(sets)
    ]
    held = np.mean([interval.low <= TRUE_NE <= interval.high for interval in intervals])
    assert 0.43 <= held <= 0.57


def test_points_of_a_picture_are_not_independent():
    # Were points resampled, ten equal points a picture would make the interval narrower.
    once = np.random.default_rng(0).exponential(0.1, [100, 1])
    alone = bootstrap.ne_interval(once)
    together = bootstrap.ne_interval(np.repeat(once, 10, axis=1))
    assert together == pytest.approx(alone)
    assert alone.value == pytest.approx(once.mean())
    assert alone.low < alone.value < alone.high


def test_interval_agrees_with_the_definition():
    distances = simulated(np.random.default_rng(3), [40])
    scored = np.delete(distances, 7, axis=0)
    distances[7] = np.nan  # a picture that is not scored
    interval = bootstrap.ne_interval(distances, num_samples=4000, seed=9)

    drawn = np.random.default_rng(9).integers(0, 39, [4000, 39])
    samples = np.array([np.nanmean(scored[rows]) for rows in drawn])
    left = np.array([np.nanmean(np.delete(scored, i, axis=0)) for i in range(39)])
    skew = np.sum((left.mean() - left) ** 3) / (6 * np.sum((left.mean() - left) ** 2) ** 1.5)
    normal = NormalDist()
    bias = normal.inv_cdf(np.mean(samples < np.nanmean(scored)))
    ends = [bias + normal.inv_cdf(tail) for tail in (0.025, 0.975)]
    shares = [normal.cdf(bias + end / (1 - skew * end)) for end in ends]
    wanted = (np.nanmean(scored), *np.quantile(samples, shares))
    assert interval == pytest.approx(wanted, rel=1e-3)


def test_skewness_moves_the_interval_to_its_side():
    generator = np.random.default_rng(0)
    tail = generator.exponential(1.0, [60, 1]) ** 2
    right = bootstrap.ne_interval(tail)
    left = bootstrap.ne_interval(10 - tail)
    assert right.high - right.value > 1.2 * (right.value - right.low)
    assert left.value - left.low > 1.2 * (left.high - left.value)
    assert left.low == pytest.approx(10 - right.high, rel=0.02)


def test_same_seed_same_interval():
    distances = simulated(np.random.default_rng(0), [50])
    assert bootstrap.ne_interval(distances, seed=4) == bootstrap.ne_interval(distances, seed=4)
    assert bootstrap.ne_interval(distances, seed=4) != bootstrap.ne_interval(distances, seed=5)


def test_draws_in_parts_are_the_draws_at_once(monkeypatch):
    distances = simulated(np.random.default_rng(0), [50])
    whole = bootstrap.ne_interval(distances, num_samples=101)
    test = bootstrap.compare(distances, distances[::-1], num_flips=101)
    monkeypatch.setattr(bootstrap, '_NUMBERS_AT_A_TIME', 500)
    assert bootstrap.ne_interval(distances, num_samples=101) == whole
    assert bootstrap.compare(distances, distances[::-1], num_flips=101) == test


def test_memory_is_bounded(monkeypatch):
    distances = np.random.default_rng(0).exponential(0.1, [2000, 2])
    monkeypatch.setattr(bootstrap, '_NUMBERS_AT_A_TIME', 20_000)
    tracemalloc.start()
    try:
        bootstrap.ne_interval(distances, num_samples=1000)
        bootstrap.compare(distances, distances[::-1], num_flips=1000)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2_000_000  # bytes; all at once were 16 million


@pytest.mark.parametrize(
    'distances', [np.zeros([5, 3]), np.full([5, 3], 0.25), np.array([[0.0, np.nan], [0.0, 0.0]])]
)
def test_distances_that_are_all_the_same(distances):
    interval = bootstrap.ne_interval(distances)
    value = distances[0, 0]
    assert interval == pytest.approx((value, value, value))
    result = bootstrap.compare(distances, distances)
    assert result.difference == (0, 0, 0)
    assert (result.p_value, result.detectable, result.better, result.worse) == (1, 0, 0, 0)


@pytest.mark.parametrize(
    'call, message',
    [
        (lambda d: bootstrap.ne_interval(d[:1]), '1 scored pictures'),
        (lambda d: bootstrap.ne_interval(np.full([9, 2], np.nan)), '0 scored pictures'),
        (lambda d: bootstrap.ne_interval(d, level=1), r'level=1: must be between 0 and 1'),
        (lambda d: bootstrap.ne_interval(d, num_samples=0), 'num_samples=0'),
        (lambda d: bootstrap.compare(d, d[:5]), r'shapes \(9, 2\) and \(5, 2\)'),
        (lambda d: bootstrap.compare(d, d, num_flips=0), 'num_flips=0'),
        (lambda d: bootstrap.grouped_folds(['a'] * 3, ['x'] * 3, 2), 'only 1 different'),
        (lambda d: bootstrap.grouped_folds(['a', 'b'], ['x', 'x'], 1), 'num_folds=1'),
        (lambda d: bootstrap.grouped_folds(['a', 'b'], ['x'], 2), '2 groups and 1 categories'),
    ],
)
def test_wrong_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.ones([9, 2]))


def test_confidence_of_each_category():
    distances = simulated(np.random.default_rng(0), [60])
    categories = np.array(['skirt', 'dress', 'blouse'] * 20)
    categories[:1] = 'outwear'  # a single picture has no interval
    confidence = bootstrap.confidence_of(distances, categories)
    assert confidence['level'] == 0.95
    assert confidence['normalized_error'] == list(bootstrap.ne_interval(distances)[1:])
    assert set(confidence['per_category']) == {'blouse', 'dress', 'skirt'}
    own = bootstrap.ne_interval(distances[categories == 'dress'])
    assert confidence['per_category']['dress'] == list(own[1:])


def test_a_comparison_is_of_the_points_that_both_have():
    distances = simulated(np.random.default_rng(0), [30])
    others = simulated(np.random.default_rng(1), [30])
    both = ~np.isnan(distances) & ~np.isnan(others)
    both[:3] = False
    distances[:3] = np.nan
    result = bootstrap.compare(distances, others)
    wanted = distances[both].mean() - others[both].mean()
    assert result.difference.value == pytest.approx(wanted)
    assert result.images == 27
    sums = np.where(both, distances - others, 0).sum(1)
    assert (result.better, result.worse) == ((sums < 0).sum(), (sums > 0).sum())
    swapped = bootstrap.compare(others, distances)
    assert swapped.difference.value == pytest.approx(-wanted)
    assert swapped.p_value == result.p_value
    assert swapped.detectable == pytest.approx(result.detectable)


def test_pairs_show_what_intervals_alone_do_not():
    generator = np.random.default_rng(0)
    others = simulated(generator, [200])
    distances = others * 0.95 + generator.normal(0, 0.002, others.shape)
    result = bootstrap.compare(distances, others)
    mine, its = bootstrap.ne_interval(distances), bootstrap.ne_interval(others)
    assert mine.high > its.low  # the intervals overlap
    assert result.p_value < 0.001
    assert result.difference.high < 0


def test_p_value_is_that_of_all_signs():
    differences = np.array([0.3, 0.1, 0.25, -0.05, 0.2, 0.15])
    signs = np.array(np.meshgrid(*[[-1, 1]] * 6)).reshape(6, -1)
    exact = np.mean(np.abs(differences @ signs) >= differences.sum() - 1e-9)
    result = bootstrap.compare(differences[:, None], np.zeros([6, 1]), num_flips=20_000)
    assert result.p_value == pytest.approx(exact, abs=0.005)


def rates(true_difference, sets, size):
    """Return how often 0.05 is undercut, and the median of what is said to be detectable."""
    generator = np.random.default_rng(5)
    results = []
    for seed in range(sets):
        hard = generator.lognormal(0, 0.5, [size, 1])
        pair = 0.1 * hard * generator.gamma(4.0, 0.25, [2, size, 6])
        pair[0] += true_difference
        results.append(bootstrap.compare(*pair, num_flips=400, seed=seed))
    p_values = np.array([result.p_value for result in results])
    return np.mean(p_values < 0.05), np.median([result.detectable for result in results])


@pytest.fixture(scope='module')
def without_difference():
    return rates(0.0, sets=400, size=80)


def test_equals_are_told_apart_in_5_percent(without_difference):
    assert 0.03 <= without_difference[0] <= 0.075


def test_the_detectable_difference_is_detected_in_80_percent(without_difference):
    detectable = without_difference[1]
    assert 0.73 <= rates(detectable, sets=300, size=80)[0] <= 0.87
    assert rates(detectable / 2, sets=150, size=80)[0] < 0.45


def pictures(count=400, seed=0):
    """Return groups and categories: some pictures are there twice or more, one in two
    categories.
    """
    generator = np.random.default_rng(seed)
    groups = [f'{i:05d}' for i in range(count)]
    categories = generator.choice(['dress', 'skirt', 'blouse'], count, p=[0.6, 0.3, 0.1]).tolist()
    for i in range(0, count, 10):
        for _ in range(1 + i % 20 // 10):
            groups.append(groups[i])
            categories.append(categories[i])
    return [*groups, groups[3]], [*categories, 'skirt' if categories[3] == 'dress' else 'dress']


@pytest.mark.parametrize('num_folds', [2, 5, 10])
def test_folds_share_no_picture_and_are_balanced(num_folds):
    groups, categories = pictures()
    folds = bootstrap.grouped_folds(groups, categories, num_folds)
    assert folds.shape == (len(groups),)
    assert set(folds) == set(range(num_folds))
    assert len({(group, fold) for group, fold in zip(groups, folds)}) == len(set(groups))
    for category in set(categories):
        counts = Counter(fold for fold, own in zip(folds, categories) if own == category)
        sizes = [counts[fold] for fold in range(num_folds)]
        assert max(sizes) - min(sizes) <= 2
    sizes = np.bincount(folds)
    assert max(sizes) - min(sizes) <= 3


def test_folds_are_a_function_of_groups_and_seed():
    groups, categories = pictures()
    folds = bootstrap.grouped_folds(groups, categories, 5)
    order = np.random.default_rng(0).permutation(len(groups))
    again = bootstrap.grouped_folds([groups[i] for i in order], [categories[i] for i in order], 5)
    np.testing.assert_array_equal(again, folds[order])
    other = bootstrap.grouped_folds(groups, categories, 5, seed=1)
    assert 0.7 < np.mean(other != folds) < 0.9
    digests = bootstrap.grouped_folds([group.encode() for group in groups], categories, 5)
    np.testing.assert_array_equal(digests, folds)


def skirts(seed, offset):
    """Return rows of sixty skirts with a waistband of 100 px, their hems some px off."""
    generator = np.random.default_rng(seed)
    rows = []
    for i in range(60):
        x, y = 50 + np.round(generator.normal(0, offset, 2)).astype(int)
        cells = [f'{100}_{50}_1', f'{200}_{50}_1', f'{x}_{y}_1', '210_300_0']
        rows.append(','.join([f'{i}.jpg', 'skirt', *cells]))
    return rows


@pytest.fixture
def folder(tmp_path):
    tables = {'answers': (0, 0), 'good': (1, 5), 'same': (2, 5), 'bad': (3, 15)}
    return write_skirts(tmp_path, **{name: skirts(*how) for name, how in tables.items()})


def run(folder, *arguments):
    return commands.call('eval_metrics.py', '--answers=answers.csv', *arguments, folder=folder)


def test_confidence_flag(folder):
    result = run(folder, '--prediction=good.csv', '--confidence', '--output_json=score.json')
    assert (result.returncode, result.stderr) == (0, '')
    values = json.loads((folder / 'score.json').read_text())
    low, high = values['confidence']['normalized_error']
    assert 0 < low < values['normalized_error'] < high
    assert values['confidence']['per_category'] == {'skirt': [low, high]}
    ends = f'[{100 * low:.4f}, {100 * high:.4f}]'
    assert result.stdout.count(ends) == 2
    assert '95 % confidence intervals' in result.stdout


def test_without_the_flag_there_are_no_intervals(folder):
    result = run(folder, '--prediction=good.csv', '--output_json=score.json')
    assert 'confidence' not in result.stdout
    values = json.loads((folder / 'score.json').read_text())
    assert values['confidence'] is None
    assert 'comparison' not in values


@pytest.mark.parametrize(
    'a, b, verdict, significant',
    [
        ('good', 'bad', 'good.csv is better', True),
        ('bad', 'good', 'good.csv is better', True),
        ('good', 'same', 'not settled', False),
    ],
)
def test_against_flag(folder, a, b, verdict, significant):
    csvs = (f'--prediction={a}.csv', f'--against={b}.csv')
    result = run(folder, *csvs, '--output_json=score.json')
    assert (result.returncode, result.stderr) == (0, '')
    assert f'{a}.csv against {b}.csv: {verdict}\n' in result.stdout
    values = json.loads((folder / 'score.json').read_text())
    comparison = values['comparison']
    assert (comparison['p_value'] < 0.05) == significant
    assert comparison['against'] == f'{b}.csv'
    assert comparison['images'] == 60
    other = run(folder, f'--prediction={b}.csv', '--output_json=other.json')
    assert other.returncode == 0
    errors = [json.loads((folder / f).read_text()) for f in ('score.json', 'other.json')]
    wanted = errors[0]['normalized_error'] - errors[1]['normalized_error']
    assert comparison['difference']['value'] == pytest.approx(wanted)


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['--prediction=good.csv', '--against=none.csv'], 'none.csv'),
        (['--prediction=good.csv', '--against=short.csv'], 'short.csv against answers.csv: the'),
        (['--against=good.csv'], 'give either --prediction and --answers'),
    ],
)
def test_mistakes_are_told_in_one_line(folder, arguments, message):
    text = (folder / 'good.csv').read_text()
    (folder / 'short.csv').write_text(text[: text.index('59.jpg')])
    result = run(folder, *arguments)
    commands.check_mistake(result, message)


def test_many_pictures_take_linear_time_and_have_the_interval_of_the_normal_law():
    rng = np.random.default_rng(0)
    sums = rng.gamma(2.0, 0.05, 40_000)
    found = bootstrap.ratio_interval(sums, np.ones(len(sums)), num_samples=500)
    margin = 1.96 * sums.std() / np.sqrt(len(sums))
    assert found.low == pytest.approx(sums.mean() - margin, abs=0.2 * margin)
    assert found.high == pytest.approx(sums.mean() + margin, abs=0.2 * margin)
