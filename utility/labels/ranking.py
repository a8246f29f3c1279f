"""Which pictures to label next: those that tell most of all that nobody has labelled.

A picture that is labelled tells of those that look like it. So pictures are chosen one after the
other, each time the one that adds most to

    sum over pictures i of weight_i * max over labelled or chosen j of similarity_ij

(facility location; greedy, which reaches 1 - 1/e of the best sum: G. L. Nemhauser, L. A. Wolsey,
M. L. Fisher, An analysis of approximations for maximizing submodular set functions, 1978). Such a
choice is unlike what is known, for that is covered; and diverse, for so is what was chosen before.
It takes no odd picture that is like no other. NumPy only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

_MOST_COVERED = 6000  # pictures of a category whose similarities are computed: 144 MB
_FAR = -1.0  # the least cosine
_LEAST = 1e-6  # deviation of a feature, so that a constant one can be divided by it


class Pictures(NamedTuple):
    """What the choice needs of N pictures.

    Attributes:
        categories: str [N].
        features: float [N, D], of the pictures.
        places: float [N, P], where the points are thought to be, in the same columns for all of a
            category; P may be 0. The similarity of two pictures is the mean of the cosines of their
            features and of their places.
        weights: float [N], how much it is worth to know each, not negative.
    """

    categories: np.ndarray
    features: np.ndarray
    places: np.ndarray
    weights: np.ndarray


class Choice(NamedTuple):
    """A picture to label.

    Attributes:
        row: Of the candidate.
        novelty: In [0, 2]: 1 - its similarity with the labelled or earlier chosen picture of its
            category that is most like it; 2 where there is none.
        gain: What it adds to the sum.
    """

    row: int
    novelty: float
    gain: float


def choose(candidates: Pictures, known: Pictures, count: int, seed: int = 0) -> list[Choice]:
    """Choose pictures to label, the first one first. A choice of fewer is the beginning of it.

    The labelled and the chosen pictures together are shared out among the categories as the weights
    of the candidates are: the next picture is of the category that is farthest behind its share.

    Args:
        candidates: N pictures without labels.
        known: M pictures with labels, perhaps none; their weights do not matter.
        count: How many are chosen, or all candidates where these are fewer.
        seed: Of the pictures that stand for a category of very many.
    """
    weights = np.maximum(np.asarray(candidates.weights, np.float64), 0)
    names = [str(name) for name in np.unique(candidates.categories)]
    mass = {name: weights[candidates.categories == name].sum() for name in names}
    whole = sum(mass.values())
    shares = {name: mass[name] / whole if whole else 1 / len(names) for name in names}
    taken = {name: int(np.count_nonzero(known.categories == name)) for name in names}
    features = _unit(candidates.features, known.features)
    rng = np.random.default_rng(seed)
    covers = {}
    for name in names:
        rows = np.flatnonzero(candidates.categories == name)
        labelled = np.flatnonzero(known.categories == name)
        parts = [(features[0][rows], features[1][labelled])]
        if candidates.places.shape[1]:
            parts.append(_unit(candidates.places[rows], known.places[labelled]))
        # Of such vectors the product is the mean of the cosines.
        own, own_known = (np.concatenate(part, axis=1) / len(parts) ** 0.5 for part in zip(*parts))
        covers[name] = _Cover(rows, weights[rows], own, own_known, rng)
    choices: list[Choice] = []
    while len(choices) < min(count, len(weights)):
        open_names = [name for name in names if covers[name].left]
        name = _behind(open_names, shares, taken)
        choices.append(covers[name].next())
        taken[name] += 1
    return choices


def _behind(names: list[str], shares: Mapping[str, float], taken: Mapping[str, int]) -> str:
    """Return the category that is farthest behind its share of all pictures and one more."""
    total = sum(taken.values()) + 1
    return max(names, key=lambda name: shares[name] * total - taken[name])


def _unit(candidates: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return both, standardized by the candidates and of length 1 each: float32."""
    mean, deviation = candidates.mean(axis=0), candidates.std(axis=0)
    parts = []
    for features in (candidates, known):
        scaled = (np.asarray(features, np.float64) - mean) / np.maximum(deviation, _LEAST)
        lengths = np.maximum(np.linalg.norm(scaled, axis=1, keepdims=True), _LEAST)
        parts.append((scaled / lengths).astype(np.float32))
    return parts[0], parts[1]


class _Cover:
    """How well the pictures of a category are covered by those that are labelled or chosen.

    Args:
        rows: int [n], the candidates of the category.
        weights: float64 [n], of them.
        vectors: float32 [n, D], of them; the product of two is their similarity.
        known: float32 [m, D], of the labelled pictures of the category.
        rng: Draws those that stand for all, where they are too many.
    """

    def __init__(self, rows, weights, vectors, known, rng):
        if len(rows) > _MOST_COVERED:
            some = np.sort(rng.choice(len(rows), _MOST_COVERED, replace=False))
            rows, weights, vectors = rows[some], weights[some], vectors[some]
        self._rows, self._weights = rows, weights
        self._similarity = vectors @ vectors.T
        nearest = (vectors @ known.T).max(axis=1) if len(known) else None
        self._nearest = np.full(len(rows), _FAR, np.float32) if nearest is None else nearest
        self._free = np.ones(len(rows), bool)

    @property
    def left(self) -> bool:
        """Whether there is a candidate that was not chosen."""
        return bool(self._free.any())

    def next(self) -> Choice:
        """Choose the candidate that adds most; of equal ones the weightiest, then the first."""
        more = np.maximum(self._similarity - self._nearest[:, np.newaxis], 0)
        gains = np.where(self._free, self._weights @ more, -1.0)
        best = np.lexsort((np.arange(len(gains)), -self._weights, -gains))[0]
        choice = Choice(
            row=int(self._rows[best]),
            novelty=float(1 - self._nearest[best]),
            gain=float(gains[best]),
        )
        self._free[best] = False
        self._nearest = np.maximum(self._nearest, self._similarity[best])
        return choice
