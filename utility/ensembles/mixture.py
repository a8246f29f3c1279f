"""Points chosen among those of several voters, by weights that are fitted to NE itself.

An expert is a model, or anything else that says where a point is. The logarithm of an expert's
weight is its bias, which depends on the category and the keypoint, and, if asked for, a linear
function of how near each two experts are to each other. The weights of a point have the sum 1
(softmax), and the point is their mean of the experts' points: were all experts apart, it would be
one expert's point.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from utility.ensembles.methods import mean

AGREEMENT_SCALES = (0.06, 0.2, 0.6)  # sizes of a garment; two experts so far apart agree by 1 / e
_SMOOTHING = 0.5  # px; below it distances count as squares: annotations are given in whole pixels
_ABSENT_LOG_WEIGHT = np.float32(-1e9)  # log-weight of an absent expert
_MAX_STEPS = 200
_TOLERANCE = 1e-6  # of NE over that of the mean: L-BFGS ends where a step lessens it by no more
_LEAST_TOTAL = 1e-9  # of weighted errors; less is all right annotations


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
        shares: float32 [V, R]: 1 where the expert has a point, else 0; never 0 for all of a point.
        codes: int64 [R], category of each point.
        keypoints: int64 [R].
        features: float32 [F, R], see agreement.
    """

    points: np.ndarray
    shares: np.ndarray
    codes: np.ndarray
    keypoints: np.ndarray
    features: np.ndarray


def num_features(num_experts: int) -> int:
    return num_experts * (num_experts - 1) // 2 * len(AGREEMENT_SCALES) + num_experts


def agreement(points: np.ndarray, shares: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return which voters are near each other, and which are absent.

    Args:
        points: [V, R, 2], px.
        shares: [V, R], 0 where absent.
        sizes: [R], px, of the garments.

    Returns:
        float32 [F, R]: for each two experts and each scale from 1, at one place, down to 0; then
        for each expert 1 where it is absent, else 0.
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


def weights_of(mixture_weights: MixtureWeights, inputs: MixtureInputs) -> np.ndarray:
    """Return the weight of each voter at each point: float32 [V, R], with sums of 1."""
    logs = mixture_weights.biases[:, inputs.codes, inputs.keypoints].astype(np.float32)
    logs += mixture_weights.effects.astype(np.float32) @ inputs.features
    logs += np.where(inputs.shares > 0, np.float32(0), _ABSENT_LOG_WEIGHT)
    logs -= logs.max(0)
    weights = np.exp(logs, out=logs)
    weights /= weights.sum(0)
    return weights


def mixture_mean(mixture_weights: MixtureWeights, inputs: MixtureInputs) -> np.ndarray:
    """Return the points that are chosen: float64 [R, 2], px."""
    weights = weights_of(mixture_weights, inputs).astype(np.float64)
    return (weights[..., np.newaxis] * inputs.points).sum(0)


class MixtureTargets(NamedTuple):
    """What the voters of a MixtureInputs should give, and how it is counted.

    Attributes:
        points: float64 [R, 2], px, the annotations.
        weights: float64 [R], positive: what a pixel of error counts.
        num_groups: How many categories and keypoints there are.
    """

    points: np.ndarray
    weights: np.ndarray
    num_groups: tuple[int, int]


def fit_mixture(
    inputs: MixtureInputs, targets: MixtureTargets, strength: float, start: np.ndarray | None = None
) -> tuple[MixtureWeights, np.ndarray]:
    """Fit a MixtureWeights to annotations.

    What is minimized is NE and a penalty of `strength` points' mean error on the square of each
    parameter but the first: an expert's bias is the sum of one for all points, one for the category
    and one for the keypoint of the category, so that what few pictures say little about is drawn to
    what holds in general (a hierarchical prior).

    Args:
        inputs: The points of which the answer is known.
        targets: The annotations.
        strength: Of the penalty.
        start: Parameters that another strength gave, to be there sooner.

    Returns:
        The MixtureWeights, and its parameters.
    """
    from scipy.optimize import minimize  # a quarter of a second

    objective = _Objective(inputs, targets, strength)
    layout = objective.layout
    start = np.zeros(layout.size) if start is None else start
    options = {'maxiter': _MAX_STEPS, 'ftol': _TOLERANCE}
    parameters = minimize(objective, start, jac=True, method='L-BFGS-B', options=options).x
    return layout.mixture_weights(parameters), parameters


class _Layout:
    """Where in the vector of all parameters each stands, and what it is."""

    def __init__(self, inputs: MixtureInputs, num_groups: tuple[int, int]):
        self._num_experts, self._groups = len(inputs.points), num_groups
        num_categories, num_keypoints = num_groups
        widths = [1, num_categories, num_categories * num_keypoints, len(inputs.features)]
        self._ends = np.cumsum(widths)
        self.size = self._num_experts * int(self._ends[-1])

    def split(self, parameters: np.ndarray) -> list[np.ndarray]:
        """Return biases: points [V, 1], categories [V, C], keypoints [V, C K]; effects [V, F]."""
        return np.split(parameters.reshape(self._num_experts, -1), self._ends[:-1], axis=1)

    def mixture_weights(self, parameters: np.ndarray) -> MixtureWeights:
        general, of_category, of_keypoint, effects = self.split(parameters)
        biases = (
            of_keypoint.reshape(self._num_experts, *self._groups) + of_category[..., np.newaxis]
        )
        return MixtureWeights(biases + general[..., np.newaxis], effects)

    def gather(self, by_group: np.ndarray, by_feature: np.ndarray) -> np.ndarray:
        """Return the gradient of all parameters from those of biases [V, C K], effects [V, F]."""
        by_category = by_group.reshape(self._num_experts, *self._groups).sum(-1)
        general = by_category.sum(1, keepdims=True)
        return np.concatenate([general, by_category, by_group, by_feature], axis=1).ravel()


class _Objective:
    """NE over that of the voters' mean, and the penalty: parameters -> value and gradient."""

    def __init__(self, inputs: MixtureInputs, targets: MixtureTargets, strength: float):
        self.layout = _Layout(inputs, targets.num_groups)
        self._inputs = inputs
        self._groups = inputs.codes * targets.num_groups[1] + inputs.keypoints
        self._num_groups = targets.num_groups[0] * targets.num_groups[1]
        self._x, self._y = (np.ascontiguousarray(inputs.points[..., axis]) for axis in (0, 1))
        self._right, self._down = targets.points.T.astype(np.float32)
        plain = mean(inputs.points, inputs.shares)
        total = (np.linalg.norm(plain - targets.points, axis=-1) * targets.weights).sum()
        self._weights = (targets.weights / max(total, _LEAST_TOTAL)).astype(np.float32)
        parts = self.layout.split(np.full(self.layout.size, strength / max(len(targets.points), 1)))
        parts[0][:] = 0
        self._penalty = np.concatenate(parts, axis=1).ravel()

    def __call__(self, parameters: np.ndarray) -> tuple[float, np.ndarray]:
        shares = weights_of(self.layout.mixture_weights(parameters), self._inputs)
        x, y = (shares * self._x).sum(0), (shares * self._y).sum(0)
        right, down = x - self._right, y - self._down
        errors = np.sqrt(right**2 + down**2 + np.float32(_SMOOTHING**2))
        scale = self._weights / errors
        slopes = shares * ((self._x - x) * (right * scale) + (self._y - y) * (down * scale))
        by_group = [np.bincount(self._groups, row, self._num_groups) for row in slopes]
        gradient = self.layout.gather(np.stack(by_group), slopes @ self._inputs.features.T)
        value = float((errors * self._weights).sum(dtype=np.float64))
        return value + self._penalty @ parameters**2, gradient + 2 * self._penalty * parameters
