"""Whether the points that a network finds tell the category better than its category head alone."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

_FOLDS, _DIVISIONS = 5, 5
_RIDGE = 1.0
_LEAST = 1e-4  # of what a logarithm is taken


def accuracies(predictions, answers, schema) -> Mapping[str, float]:
    """Return how often the likeliest category is right, by what it is told from.

    Each is a linear classifier whose weights are the same for all categories, and which has a bias
    for each: what few pictures can teach. It is fitted on four fifths of the pictures and asked
    about the rest, in turn, over several random divisions.

    Args:
        predictions: With category_probabilities [N, C], presence [N, K, 3] and scores [N, K].
        answers: With categories [N].
        schema: Of both.

    Returns:
        In words what it is told from -> a share; the category head alone first.
    """
    given = (np.array(list(schema.categories)) == answers.categories[:, np.newaxis]).argmax(1)
    points = [list(schema.indices(name)) for name in schema.categories]
    present = 1 - predictions.presence[..., 0]
    head = np.log(np.maximum(predictions.category_probabilities, _LEAST))
    peaks = np.stack([predictions.scores[:, own].mean(1) for own in points], 1)
    presence = np.log(np.maximum(np.stack([present[:, own].mean(1) for own in points], 1), _LEAST))
    visible = np.stack([predictions.presence[:, own, 2].mean(1) for own in points], 1)
    evidence = {
        'with the head alone': (head,),
        'with the mean peaks': (head, peaks),
        'with the presence': (head, presence, visible),
        'with both': (head, peaks, presence, visible),
    }
    return {
        name: float(
            np.mean([_cross_fitted(np.stack(one, -1), given, seed) for seed in range(_DIVISIONS)])
        )
        for name, one in evidence.items()
    }


def _cross_fitted(values: np.ndarray, given: np.ndarray, seed: int) -> float:
    """Return the accuracy from values [N, C, F] on pictures that did not fit."""
    fold = np.random.default_rng(seed).permutation(len(given)) % _FOLDS
    right = np.zeros(len(given), bool)
    for number in range(_FOLDS):
        own, rest = fold == number, fold != number
        mean, spread = values[rest].mean(0), values[rest].std((0, 1)) + _LEAST
        weights, biases = _fitted((values[rest] - mean) / spread, given[rest])
        right[own] = ((values[own] - mean) / spread @ weights + biases).argmax(1) == given[own]
    return float(right.mean())


def _fitted(values: np.ndarray, given: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return weights [F] and biases [C] of a softmax regression with a ridge."""
    from scipy import optimize

    count = values.shape[2]
    happened = np.eye(values.shape[1])[given]

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        logits = values @ parameters[:count] + parameters[count:]
        logits = logits - logits.max(1, keepdims=True)
        sums = np.exp(logits).sum(1, keepdims=True)
        slopes = np.exp(logits) / sums - happened
        gradient = np.concatenate([np.einsum('nc,ncf->f', slopes, values), slopes.sum(0)])
        value = np.log(sums).sum() - (happened * logits).sum()
        ridge = _RIDGE * parameters
        return value + ridge @ parameters / 2, gradient + ridge

    start = np.zeros(count + values.shape[1])
    best = optimize.minimize(loss, start, jac=True, method='L-BFGS-B').x
    return best[:count], best[count:]
