"""Radii that hold an error as often as they promise: conformal prediction of scaled errors.

The score of a point is its error over the error that was expected of it. Of scores that neither
helped to learn what is expected nor belong to the points asked about, the quantile of rank
ceil((n + 1) level) times the expected error is a radius that holds at least a share `level` of new
errors, however errors are distributed, if new points are exchangeable with the old ones (V. Vovk,
A. Gammerman, G. Shafer, Algorithmic Learning in a Random World, 2005, chapter 2; J. Lei et al.,
Distribution-Free Predictive Inference for Regression, JASA 113, 2018). Scores of pictures that
helped in turn, each but to its own expected error, are more, and do about the same (V. Vovk,
Cross-conformal predictors, 2015). NumPy and SciPy only.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from config import UserError

_QUANTILE = 0.9  # of the error that is learned; the radius may be asked for at any level
_SMOOTHING = 0.1  # of the kink of the quantile loss, in logarithms of the error
# Ridge, in points: what fewer say against 0 is not believed. Features are from 0 to 1.
_FEATURE_PENALTY, _GROUP_PENALTY = 0.5, 30.0
_EXTREMES = (0.01, 0.99)  # features beyond these quantiles of what was learned from count as there


def rank(count: int, level: float) -> int:
    """Return ceil((count + 1) * level), the rank of the score that is the conformal quantile.

    It is larger than `count` where there are too few scores for the level.

    Raises:
        UserError: The level is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise UserError(f'level={level}: must be between 0 and 1')
    # 10 * 0.9 is 9.000000000000002 in some orders of computing: a rank more than there is need for.
    return math.ceil(round((count + 1) * level, 9))


def quantile(scores: np.ndarray, level: float) -> float:
    """Return the conformal quantile of scores [n]; infinite where they are too few for the level.

    Raises:
        UserError: The level is not between 0 and 1.
    """
    place = rank(len(scores), level)
    return float(np.sort(scores)[place - 1]) if place <= len(scores) else math.inf


def enough(level: float, beyond: int = 10) -> int:
    """Return how many scores a group needs to have a quantile of its own: so many `beyond` it.

    With n scores the share that a quantile really holds varies by about sqrt(level (1 - level) /
    n): with 100 and 90 %, by 3 points.
    """
    return math.ceil(round(beyond / (1 - level), 9))


@dataclasses.dataclass(frozen=True)
class ErrorModel:
    """The size of an error, by features and by the group that a point belongs to: log-linear.

    Attributes:
        low: float [F], the least value of each feature that counts.
        high: float [F], the largest.
        weights: float [F], of the features, of which `low` is 0 and `high` is 1.
        offsets: Group -> what is added.
        intercept: The logarithm of the error where all is 0.
        floor: Added to errors before their logarithm is taken: below it all are alike.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    weights: tuple[float, ...]
    offsets: Mapping[str, float]
    intercept: float
    floor: float

    @classmethod
    def fit(
        cls, features: np.ndarray, groups: Sequence[str], errors: np.ndarray, floor: float
    ) -> ErrorModel:
        """Learn the 90 % quantile of errors by ridge quantile regression of their logarithm.

        Args:
            features: [n, F], finite.
            groups: [n].
            errors: [n], not negative.
            floor: See the class.

        Raises:
            UserError: There is nothing to learn from.
        """
        from scipy import optimize  # half a second

        if not len(errors):
            raise UserError('no errors to learn from')
        low, high = np.quantile(features, _EXTREMES, axis=0)
        names = sorted(set(groups))
        indicators = np.asarray(groups)[:, np.newaxis] == np.array(names)
        scaled = _scaled(features, low, high)
        design = np.concatenate([np.ones([len(errors), 1]), scaled, indicators], 1)
        penalty = np.repeat(
            [1e-6, _FEATURE_PENALTY, _GROUP_PENALTY], [1, features.shape[1], len(names)]
        )
        target = np.log(errors + floor)

        def loss(coefficients):
            residual = target - design @ coefficients
            soft = np.logaddexp(0, -residual / _SMOOTHING)
            value = (_QUANTILE * residual + _SMOOTHING * soft).sum()
            slope = _QUANTILE - 1 / (1 + np.exp(np.clip(residual / _SMOOTHING, -50, 50)))
            ridge = penalty * coefficients
            return value + ridge @ coefficients / 2, ridge - design.T @ slope

        start = np.zeros(design.shape[1])
        start[0] = np.quantile(target, _QUANTILE)
        found = optimize.minimize(loss, start, jac=True, method='L-BFGS-B').x
        weights, offsets = np.split(found[1:], [features.shape[1]])
        return cls(
            tuple(low.tolist()),
            tuple(high.tolist()),
            tuple(weights.tolist()),
            dict(zip(names, offsets.tolist())),
            float(found[0]),
            floor,
        )

    def predict(self, features: np.ndarray, groups: Sequence[str]) -> np.ndarray:
        """Return the size of error that is expected: float [n], positive."""
        constants = {group: self.constant(group) for group in set(groups)}
        scaled = _scaled(features, np.array(self.low), np.array(self.high))
        growths = np.exp(scaled @ np.array(self.weights))
        return np.array([constants[group] for group in groups]) * growths

    def constant(self, group: str) -> float:
        """Return the size that is expected in a group where every feature is at its least."""
        return math.exp(self.intercept + self.offsets.get(group, 0.0))


def _scaled(features: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    return (np.clip(features, low, high) - low) / np.where(high > low, high - low, 1.0)


class GroupScores:
    """Scores by the two levels of a name, pooled where a group has too few: Mondrian conformal.

    Args:
        scores: 'outer/inner' -> its scores, such as of 'blouse/neckline_left'.
        beyond: How many a group needs beyond its quantile, see `enough`.
    """

    def __init__(self, scores: Mapping[str, Sequence[float]], beyond: int = 10):
        self._beyond = beyond
        self._groups = {name: np.asarray(values, float) for name, values in scores.items()}
        self._pools: dict[str, list[np.ndarray]] = {'': list(self._groups.values())}
        for name, values in self._groups.items():
            self._pools.setdefault(name.partition('/')[0], []).append(values)

    def of(self, name: str, level: float) -> np.ndarray:
        """Return the scores that speak for a group: its own if they are enough, else those of the
        outer group, else all.
        """
        outer = name.partition('/')[0]
        for pool in ([self._groups.get(name, np.zeros(0))], self._pools.get(outer, [])):
            scores = np.concatenate(pool) if pool else np.zeros(0)
            if len(scores) >= enough(level, self._beyond):
                return scores
        return np.concatenate(self._pools['']) if self._pools[''] else np.zeros(0)


class Shift(NamedTuple):
    """A feature by which new pictures differ from those that calibrated.

    Attributes:
        group: Of the pictures, such as their category.
        feature: Its name.
        distance: The Kolmogorov-Smirnov statistic: the largest difference of two shares, 0 to 1.
        p_value: By Holm's correction for all features and groups that were looked at.
    """

    group: str
    feature: str
    distance: float
    p_value: float


_FEWEST = 8  # pictures on either side, below which no test could tell


def shifts(
    known: Mapping[str, np.ndarray], new: Mapping[str, np.ndarray], names: Sequence[str]
) -> list[Shift]:
    """Compare new pictures with known ones, feature by feature and group by group.

    By the two-sample test of Kolmogorov and Smirnov, with p-values corrected by the procedure of S.
    Holm (A simple sequentially rejective multiple test procedure, 1979), which holds however
    features depend on each other.

    Args:
        known: Group -> features [n, F] of pictures, one row each.
        new: Group -> features [m, F].
        names: Of the F features.

    Returns:
        All that were looked at, the least p-value first.
    """
    from scipy import stats  # half a second

    found = []
    for group in sorted(known.keys() & new.keys()):
        if min(len(known[group]), len(new[group])) < _FEWEST:
            continue
        for column, name in enumerate(names):
            result = stats.ks_2samp(known[group][:, column], new[group][:, column])
            found.append(Shift(group, name, float(result.statistic), float(result.pvalue)))
    found.sort(key=lambda shift: shift.p_value)
    corrected, largest = [], 0.0
    for place, shift in enumerate(found):
        largest = max(largest, min(1.0, (len(found) - place) * shift.p_value))
        corrected.append(shift._replace(p_value=largest))
    return corrected


def risk_coverage(
    radii: np.ndarray, errors: np.ndarray, shares: Sequence[float]
) -> list[tuple[float, float, float]]:
    """Return what is left of the error when only the points of the smallest radii are kept.

    Args:
        radii: [n].
        errors: [n].
        shares: Of the points to keep, each in (0, 1].

    Returns:
        For each share: it, the largest radius kept, and the mean error of what is kept.
    """
    order = np.argsort(radii, kind='stable')
    counts = [max(1, round(share * len(order))) for share in shares]
    return [
        (share, float(radii[order[count - 1]]), float(errors[order[:count]].mean()))
        for share, count in zip(shares, counts)
    ]
