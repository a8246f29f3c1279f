"""Whether probabilities are what happens, and how to scale them so that they are.

Guo, Pleiss, Sun and Weinberger 2017, On Calibration of Modern Neural Networks: reliability
diagrams, the expected calibration error (Naeini et al. 2015), temperature and vector scaling.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

NUM_BINS = 10
_MOST = 1e6  # of a temperature and of a bias in a file
_LEAST = 1e-7  # probability: of none that is smaller the logarithm is taken
# Of the squares by which the logarithm of the temperature and the biases differ from what is
# believed, in the mean loss of one observation, over the number of observations: keeps what few of
# them say nothing of where it is.
_PRIOR = 1.0
NUM_FOLDS = 5


class ReliabilityBin(NamedTuple):
    """What happened where about the same was predicted.

    Attributes:
        low, high: Probabilities that the bin holds.
        count: How many there are.
        mean: Of them.
        share: Of the events that happened.
    """

    low: float
    high: float
    count: int
    mean: float
    share: float


def reliability(
    probabilities: np.ndarray, outcomes: np.ndarray, num_bins: int = NUM_BINS
) -> list[ReliabilityBin]:
    """Return the bins of a reliability diagram, of equal width, without those that are empty.

    Args:
        probabilities: [P], in [0, 1], of events.
        outcomes: bool [P], whether they happened.
        num_bins: At most so many.
    """
    probabilities = np.asarray(probabilities, np.float64)
    outcomes = np.asarray(outcomes, np.float64)
    places = np.minimum((probabilities * num_bins).astype(int), num_bins - 1)
    bins = []
    for place in np.unique(places):
        own = places == place
        ends = (place / num_bins, (place + 1) / num_bins)
        mean, share = float(probabilities[own].mean()), float(outcomes[own].mean())
        bins.append(ReliabilityBin(*ends, int(own.sum()), mean, share))
    return bins


def expected_calibration_error(
    probabilities: np.ndarray, outcomes: np.ndarray, num_bins: int = NUM_BINS
) -> float:
    """Return how far, on average over the events, what happens in a bin of `reliability` is from
    what was predicted: a fraction. NaN without events.

    Of few events it is too large: chance alone makes the bins differ.
    """
    bins = reliability(probabilities, outcomes, num_bins)
    total = sum(one.count for one in bins)
    gaps = sum(one.count * abs(one.mean - one.share) for one in bins)
    return gaps / total if total else float('nan')


@dataclasses.dataclass(frozen=True)
class Scaling:
    """Vector scaling of probabilities: softmax(log(p) / temperature + bias).

    Attributes:
        temperature: Above 1 makes them less sure.
        bias: For each of the k outcomes.
    """

    temperature: float
    bias: tuple[float, ...]

    def __call__(self, probabilities: np.ndarray) -> np.ndarray:
        """Return the scaled probabilities of [.., k]; where all k are 0, all stay 0."""
        logits = np.log(np.maximum(probabilities, _LEAST)) / self.temperature + self.bias
        powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
        scaled = powers / powers.sum(axis=-1, keepdims=True)
        return np.where(np.any(probabilities, axis=-1, keepdims=True), scaled, 0.0)

    def after(self, first: Scaling) -> Scaling:
        """Return the scaling that does what `first` and then this one do."""
        bias = np.array(first.bias) / self.temperature + self.bias
        return Scaling(first.temperature * self.temperature, tuple(bias.tolist()))

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Scaling:
        made = cls(float(values['temperature']), tuple(map(float, values['bias'])))
        is_right = 1 / _MOST <= made.temperature <= _MOST
        if not (is_right and all(abs(value) <= _MOST for value in made.bias)):
            raise ValueError(f'a temperature of {made.temperature}, or a bias, that is none')
        return made


@dataclasses.dataclass(frozen=True)
class GroupScalings:
    """Scalings by the two levels of a name, such as of 'dress/neckline_left'.

    Attributes:
        pooled: Of all groups.
        groups: 'outer' or 'outer/inner' -> its own.
    """

    pooled: Scaling
    groups: Mapping[str, Scaling] = dataclasses.field(default_factory=dict)

    def of(self, name: str) -> Scaling:
        """Return the scaling of a group: its own, else that of the outer group, else of all."""
        outer = self.groups.get(name.partition('/')[0], self.pooled)
        return self.groups.get(name, outer)

    def __call__(self, probabilities: np.ndarray, groups: np.ndarray) -> np.ndarray:
        """Return the scaled probabilities of [P, k] that are of groups, str [P]."""
        scaled = np.array(probabilities, np.float64)
        for name in np.unique(groups):
            own = groups == name
            scaled[own] = self.of(str(name))(probabilities[own])
        return scaled

    def after(self, first: GroupScalings) -> GroupScalings:
        """Return the scalings that do what `first` and then these do."""
        names = sorted({*self.groups, *first.groups})
        groups = {name: self.of(name).after(first.of(name)) for name in names}
        return GroupScalings(self.pooled.after(first.pooled), groups)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> GroupScalings:
        if 'pooled' not in values:  # files that know one scaling for all points
            return cls(Scaling.from_json(values))
        groups = {name: Scaling.from_json(own) for name, own in values['groups'].items()}
        return cls(Scaling.from_json(values['pooled']), groups)


def fit_scaling(
    probabilities: np.ndarray, outcomes: np.ndarray, start: Scaling | None = None
) -> Scaling:
    """Return the scaling under which what happened is likeliest.

    Args:
        probabilities: [P, k].
        outcomes: int [P], which of the k happened.
        start: What is believed where they are too few to say otherwise; None: as told.
    """
    from scipy import optimize

    logs = np.log(np.maximum(np.asarray(probabilities, np.float64), _LEAST))
    outcomes = np.asarray(outcomes, int)
    weight = _PRIOR / max(1, len(outcomes))
    num_outcomes = logs.shape[1]
    start = start or Scaling(1.0, (0.0,) * num_outcomes)
    believed = np.array([np.log(start.temperature), *start.bias])
    happened = np.eye(num_outcomes)[outcomes]

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        scaled = logs * np.exp(-parameters[0])
        logits = scaled + parameters[1:]
        logits = logits - logits.max(axis=1, keepdims=True)
        powers = np.exp(logits)
        sums = powers.sum(axis=1, keepdims=True)
        changed = parameters - believed
        value = (np.log(sums) - (happened * logits).sum(axis=1, keepdims=True)).mean()
        slopes = (powers / sums - happened) / len(logs)
        gradient = np.array([-(slopes * scaled).sum(), *slopes.sum(axis=0)])
        return value + weight * np.square(changed).sum(), gradient + 2 * weight * changed

    if not len(outcomes):
        return start
    best = optimize.minimize(loss, believed, jac=True, method='L-BFGS-B').x
    return Scaling(float(np.exp(best[0])), tuple(best[1:].tolist()))


def fit_group_scalings(
    probabilities: np.ndarray, outcomes: np.ndarray, groups: np.ndarray
) -> GroupScalings:
    """Return a scaling for all, for each outer group, near that of all, and for each group, near
    that of its outer one: the nearer, the fewer there are.

    Args:
        probabilities: [P, k].
        outcomes: int [P].
        groups: str [P], 'outer/inner'.
    """
    pooled = fit_scaling(probabilities, outcomes)
    fitted: dict[str, Scaling] = {}
    outer = np.array([name.partition('/')[0] for name in groups], str)
    for labels in (outer, np.asarray(groups, str)):
        for name in np.unique(labels):
            own = labels == name
            start = GroupScalings(pooled, fitted).of(str(name))
            fitted[str(name)] = fit_scaling(probabilities[own], outcomes[own], start)
    return GroupScalings(pooled, fitted)


def cross_scaled(
    probabilities: np.ndarray,
    outcomes: np.ndarray,
    pictures: np.ndarray,
    groups: np.ndarray | None = None,
    num_folds: int = NUM_FOLDS,
    seed: int = 0,
) -> np.ndarray:
    """Return probabilities, each scaled by what was fitted without the fold that it is in.

    Args:
        probabilities: [P, k].
        outcomes: int [P].
        pictures: int [P]: what is of one picture is in one fold.
        groups: str [P], as of fit_group_scalings; None: one scaling for all.
    """
    names, places = np.unique(pictures, return_inverse=True)
    folds = np.random.default_rng(seed).permutation(len(names)) % num_folds
    fold = folds[places]
    scaled = np.array(probabilities, np.float64)
    for number in range(num_folds):
        own, rest = fold == number, fold != number
        if not own.any():
            continue
        if groups is None:
            scaled[own] = fit_scaling(probabilities[rest], outcomes[rest])(probabilities[own])
        else:
            fitted = fit_group_scalings(probabilities[rest], outcomes[rest], groups[rest])
            scaled[own] = fitted(probabilities[own], groups[own])
    return scaled
