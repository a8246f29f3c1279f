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
_LEAST = 1e-7  # probability: of none that is smaller the logarithm is taken
# Of the squares of the logarithm of the temperature and of the biases, in the mean loss of one
# observation, over the number of observations: keeps what few of them say nothing of near 0.
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
        return cls(float(values['temperature']), tuple(map(float, values['bias'])))


def fit_scaling(probabilities: np.ndarray, outcomes: np.ndarray) -> Scaling:
    """Return the scaling under which what happened is likeliest.

    Args:
        probabilities: [P, k].
        outcomes: int [P], which of the k happened.
    """
    from scipy import optimize

    logs = np.log(np.maximum(np.asarray(probabilities, np.float64), _LEAST))
    outcomes = np.asarray(outcomes, int)
    weight = _PRIOR / max(1, len(outcomes))

    def loss(parameters: np.ndarray) -> float:
        logits = logs * np.exp(-parameters[0]) + parameters[1:]
        shifted = logits - logits.max(axis=1, keepdims=True)
        own = np.take_along_axis(shifted, outcomes[:, np.newaxis], axis=1)[:, 0]
        negative = np.log(np.exp(shifted).sum(axis=1)) - own
        return negative.mean() + weight * np.square(parameters).sum()

    num_outcomes = logs.shape[1]
    if not len(outcomes):
        return Scaling(1.0, (0.0,) * num_outcomes)
    best = optimize.minimize(loss, np.zeros(1 + num_outcomes), method='L-BFGS-B').x
    return Scaling(float(np.exp(best[0])), tuple(best[1:].tolist()))


def cross_scaled(
    probabilities: np.ndarray,
    outcomes: np.ndarray,
    groups: np.ndarray,
    num_folds: int = NUM_FOLDS,
    seed: int = 0,
) -> np.ndarray:
    """Return probabilities, each scaled by what was fitted without the fold that it is in.

    Args:
        probabilities: [P, k].
        outcomes: int [P].
        groups: int [P]: what is of one group, such as a picture, is in one fold.
        num_folds: How many.
        seed: Of the folds.
    """
    names, places = np.unique(groups, return_inverse=True)
    folds = np.random.default_rng(seed).permutation(len(names)) % num_folds
    fold = folds[places]
    scaled = np.array(probabilities, np.float64)
    for number in range(num_folds):
        own = fold == number
        if own.any():
            scaled[own] = fit_scaling(probabilities[~own], outcomes[~own])(probabilities[own])
    return scaled
