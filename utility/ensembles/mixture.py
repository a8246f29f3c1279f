"""Points chosen among those of several voters, by weights that are fitted to NE itself.

A voter is a model, or anything else that says where a point is. The logarithm of a voter's weight
is its bias, which depends on the category and the keypoint, and, if asked for, a linear function of
how near each two voters are to each other. The weights of a point have the sum 1 (softmax), and the
point is their mean of the voters' points: were all voters apart, it would be one voter's point.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from utility.ensembles.methods import mean

AGREEMENT_SCALES = (0.06, 0.2, 0.6)  # sizes of a garment; two voters so far apart agree by 1 / e
_SMOOTH = 0.5  # px; below it distances count as squares: answers are given in whole pixels
_NEVER = np.float32(-1e9)  # log-weight of an absent voter
_MAX_STEPS = 200
_TOLERANCE = 1e-6  # of NE over that of the mean: L-BFGS ends where a step lessens it by no more
_LEAST_TOTAL = 1e-9  # of weighted errors; less is all right answers


class MixtureWeights(NamedTuple):
    """What determines the weights of V voters.

    Attributes:
        biases: float64 [V, C, K], log-weights.
        effects: float64 [V, F], of the features of a point on the log-weights; F is 0 where the
            weights do not depend on the picture.
    """

    biases: np.ndarray
    effects: np.ndarray


class MixtureInputs(NamedTuple):
    """R points, each as V voters see it.

    Attributes:
        points: float32 [V, R, 2], px.
        shares: float32 [V, R]: 1 where the voter has a point, else 0; never 0 for all of a point.
        codes: int64 [R], category of each point.
        keypoints: int64 [R].
        features: float32 [F, R], see agreement.
    """

    points: np.ndarray
    shares: np.ndarray
    codes: np.ndarray
    keypoints: np.ndarray
    features: np.ndarray


def num_features(num_voters: int) -> int:
    return num_voters * (num_voters - 1) // 2 * len(AGREEMENT_SCALES) + num_voters


def agreement(points: np.ndarray, shares: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Which voters are near each other, and which are absent.

    Args:
        points: [V, R, 2], px.
        shares: [V, R], 0 where absent.
        sizes: [R], px, of the garments.

    Returns:
        float32 [F, R]: for each two voters and each scale from 1, at one place, down to 0; then for
        each voter 1 where it is absent, else 0.
    """
    features = np.empty([num_features(len(points)), len(sizes)], np.float32)
    rows = iter(features)
    for i, j in zip(*np.tril_indices(len(points), -1)):
        offsets = points[i] - points[j]
        distances = np.hypot(offsets[:, 0], offsets[:, 1]) / sizes
        for scale in AGREEMENT_SCALES:
            next(rows)[:] = shares[i] * shares[j] * np.exp(distances / -scale)
    features[-len(points) :] = 1 - shares
    return features


def weights_of(voting: MixtureWeights, ballot: MixtureInputs) -> np.ndarray:
    """The weight of each voter at each point: float32 [V, R], with sums of 1."""
    logs = voting.biases[:, ballot.codes, ballot.keypoints].astype(np.float32)
    logs += voting.effects.astype(np.float32) @ ballot.features
    logs += np.where(ballot.shares > 0, np.float32(0), _NEVER)
    logs -= logs.max(0)
    weights = np.exp(logs, out=logs)
    weights /= weights.sum(0)
    return weights


def mixture_mean(voting: MixtureWeights, ballot: MixtureInputs) -> np.ndarray:
    """The points that are chosen: float64 [R, 2], px."""
    weights = weights_of(voting, ballot).astype(np.float64)
    return (weights[..., np.newaxis] * ballot.points).sum(0)


class MixtureTargets(NamedTuple):
    """What the voters of a MixtureInputs should give, and how it is counted.

    Attributes:
        points: float64 [R, 2], px, the answers.
        weights: float64 [R], positive: what a pixel of error counts.
        num_groups: How many categories and keypoints there are.
    """

    points: np.ndarray
    weights: np.ndarray
    num_groups: tuple[int, int]


def fit_mixture(
    ballot: MixtureInputs, sought: MixtureTargets, strength: float, start: np.ndarray | None = None
) -> tuple[MixtureWeights, np.ndarray]:
    """Fits a MixtureWeights to answers.

    What is minimised is NE and a penalty of `strength` points' mean error on the square of each
    parameter but the first: a voter's bias is the sum of one for all points, one for the category
    and one for the keypoint of the category, so that what few pictures say little about is drawn to
    what holds in general (a hierarchical prior).

    Args:
        ballot: The points of which the answer is known.
        sought: The answers.
        strength: Of the penalty.
        start: Parameters that another strength gave, to be there sooner.

    Returns:
        The MixtureWeights, and its parameters.
    """
    from scipy.optimize import minimize  # a quarter of a second

    objective = _Objective(ballot, sought, strength)
    layout = objective.layout
    start = np.zeros(layout.size) if start is None else start
    options = {'maxiter': _MAX_STEPS, 'ftol': _TOLERANCE}
    parameters = minimize(objective, start, jac=True, method='L-BFGS-B', options=options).x
    return layout.voting(parameters), parameters


class _Layout:
    """Where in the vector of all parameters each stands, and what it is."""

    def __init__(self, ballot: MixtureInputs, num_groups: tuple[int, int]):
        self._voters, self._groups = len(ballot.points), num_groups
        num_categories, num_keypoints = num_groups
        widths = [1, num_categories, num_categories * num_keypoints, len(ballot.features)]
        self._ends = np.cumsum(widths)
        self.size = self._voters * int(self._ends[-1])

    def split(self, parameters: np.ndarray) -> list[np.ndarray]:
        """Biases of all points [V, 1], categories [V, C], keypoints [V, C K]; effects [V, F]."""
        return np.split(parameters.reshape(self._voters, -1), self._ends[:-1], axis=1)

    def voting(self, parameters: np.ndarray) -> MixtureWeights:
        general, of_category, of_keypoint, effects = self.split(parameters)
        biases = of_keypoint.reshape(self._voters, *self._groups) + of_category[..., np.newaxis]
        return MixtureWeights(biases + general[..., np.newaxis], effects)

    def gather(self, by_group: np.ndarray, by_feature: np.ndarray) -> np.ndarray:
        """The gradient of all parameters from those of biases [V, C K] and of effects [V, F]."""
        by_category = by_group.reshape(self._voters, *self._groups).sum(-1)
        general = by_category.sum(1, keepdims=True)
        return np.concatenate([general, by_category, by_group, by_feature], axis=1).ravel()


class _Objective:
    """NE over that of the voters' mean, and the penalty: parameters -> value and gradient."""

    def __init__(self, ballot: MixtureInputs, sought: MixtureTargets, strength: float):
        self.layout = _Layout(ballot, sought.num_groups)
        self._ballot = ballot
        self._groups = ballot.codes * sought.num_groups[1] + ballot.keypoints
        self._num_groups = sought.num_groups[0] * sought.num_groups[1]
        self._x, self._y = (np.ascontiguousarray(ballot.points[..., axis]) for axis in (0, 1))
        self._right, self._down = sought.points.T.astype(np.float32)
        plain = mean(ballot.points, ballot.shares)
        total = (np.linalg.norm(plain - sought.points, axis=-1) * sought.weights).sum()
        self._weights = (sought.weights / max(total, _LEAST_TOTAL)).astype(np.float32)
        parts = self.layout.split(np.full(self.layout.size, strength / max(len(sought.points), 1)))
        parts[0][:] = 0
        self._penalty = np.concatenate(parts, axis=1).ravel()

    def __call__(self, parameters: np.ndarray) -> tuple[float, np.ndarray]:
        shares = weights_of(self.layout.voting(parameters), self._ballot)
        x, y = (shares * self._x).sum(0), (shares * self._y).sum(0)
        right, down = x - self._right, y - self._down
        errors = np.sqrt(right**2 + down**2 + np.float32(_SMOOTH**2))
        scale = self._weights / errors
        slopes = shares * ((self._x - x) * (right * scale) + (self._y - y) * (down * scale))
        by_group = [np.bincount(self._groups, row, self._num_groups) for row in slopes]
        gradient = self.layout.gather(np.stack(by_group), slopes @ self._ballot.features.T)
        value = float((errors * self._weights).sum(dtype=np.float64))
        return value + self._penalty @ parameters**2, gradient + 2 * self._penalty * parameters
