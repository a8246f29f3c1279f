"""Which points of a category may have been exchanged, and what an exchange tells of itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from preprocessing.schema import KeypointSchema
from utility.statistics.shape_model import ShapeModel

SIDES, IN_OUT = 'sides', 'in_out'
# Of a thousand annotations two have these points exchanged, before anything is known of them.
LOG_PRIOR = float(np.log(0.002))
_NUM_STEPS = 20  # of Newton's method
# Were densities what they should be, the weight would be 1; about so many pictures that stand the
# other way round, if only by a little, are needed to show that they are not.
_TRUST_IN_MODEL = 20.0

Pairs = tuple[tuple[int, int], ...]


@dataclasses.dataclass(frozen=True)
class Exchange:
    """Points that change places.

    Attributes:
        kind: SIDES or IN_OUT.
        pairs: Of indices among the points of the category.
    """

    kind: str
    pairs: Pairs

    @property
    def moved(self) -> list[int]:
        """The indices of all points that move."""
        return sorted(k for pair in self.pairs for k in pair)

    def permutation(self, num_points: int) -> np.ndarray:
        """Return int [n]: point k is written where point permutation[k] was."""
        order = np.arange(num_points)
        for a, b in self.pairs:
            order[[a, b]] = b, a
        return order


def exchanges_of(category: str, schema: KeypointSchema) -> list[Exchange]:
    """Return what may be exchanged: left and right of each pair, of each part with several pairs
    such as both ends of the cuffs, and of all; inner and outer ends.
    """
    own = schema.subset(category)
    sides = own.side_pairs
    # In this order, and each once: a skirt has no more than two pairs, trousers no more parts.
    chosen = dict.fromkeys([(pair,) for pair in sides])
    chosen.update(dict.fromkeys(_parts(sides, own.in_out_pairs)))
    chosen.update(dict.fromkeys([sides] if sides else []))
    ends = [Exchange(IN_OUT, (pair,)) for pair in own.in_out_pairs]
    return [Exchange(SIDES, pairs) for pairs in chosen] + ends


def _parts(sides: Pairs, ends: Pairs) -> Iterator[Pairs]:
    """Yield the pairs of left and right of one part: those that are two ends of the same edge."""
    pair_of = {k: pair for pair in sides for k in pair}
    for pair in sides:
        joined = {pair, *(pair_of.get(b, pair) for a, b in ends if a in pair)}
        joined |= {pair_of.get(a, pair) for a, b in ends if b in pair}
        yield tuple(other for other in sides if other in joined)


@dataclasses.dataclass(frozen=True)
class ExchangeEvidence:
    """What the shapes of one category say of an exchange.

    Attributes:
        exchange: Which.
        model: Of the shapes.
        weight: What an advantage of log density counts, in [0, 1]; learned. Near 0 where the points
            often stand the other way round, as the inner hems of crossed legs.
    """

    exchange: Exchange
    model: ShapeModel
    weight: float

    @classmethod
    def learn(
        cls,
        exchange: Exchange,
        model: ShapeModel,
        points: np.ndarray,
        present: np.ndarray,
        surprise: np.ndarray,
    ) -> ExchangeEvidence:
        """Learn from pictures most of which are right.

        Were all of them right, there would be as many wrong ones to compare them with, too: the
        same with the points exchanged.

        Args:
            exchange: Which.
            points: [N, n, 2] px.
            present: bool [N, n].
            surprise: [N], model.surprise of them.
        """
        unweighted = cls(exchange, model, 1.0)
        advantage = unweighted._advantage(points, present, surprise)
        advantage = advantage[present[:, exchange.moved].all(1)]
        return cls(exchange, model, _logistic_weight(advantage))

    def log_odds(self, points: np.ndarray, present: np.ndarray, surprise: np.ndarray) -> np.ndarray:
        """Return log odds, float64 [N], that points are exchanged; as of `learn`."""
        return LOG_PRIOR - self.weight * self._advantage(points, present, surprise)

    def _advantage(
        self, points: np.ndarray, present: np.ndarray, surprise: np.ndarray
    ) -> np.ndarray:
        """Return [N]: by how much the shape is more usual as it is, in log density."""
        order = self.exchange.permutation(points.shape[1])
        return self.model.surprise(points[:, order], present[:, order]) - surprise


def _logistic_weight(advantage: np.ndarray) -> float:
    """Return w in [0, 1] so that sigmoid(w advantage) fits 'is right'; by Newton's method.

    Only undecided pictures count. A share of them is exchanged, but no larger share than of all;
    that would be different if those of a large advantage counted on one side only.
    """
    undecided = advantage[np.abs(advantage) < -LOG_PRIOR]
    weight = 1.0
    for _ in range(_NUM_STEPS):
        wrong = 1 / (1 + np.exp(weight * undecided))
        slope = (wrong * undecided).sum() + (1 - weight) * _TRUST_IN_MODEL
        curvature = (wrong * (1 - wrong) * undecided**2).sum() + _TRUST_IN_MODEL
        weight = float(np.clip(weight + slope / curvature, 0, 1))
    return weight
