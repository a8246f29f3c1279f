"""What annotations of one category say of each other: how likely is it that one is wrong?

Every mistake is weighed against none by Bayes' rule. Points may have been exchanged, or a point may
lie anywhere on the garment instead of at its place. Predictions of networks add to it: if the
annotation is right, they lie about it as they usually do; if not, they lie about where the other
points say the right place is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from utility.labels.exchanges import Exchange, ExchangeEvidence
from utility.statistics.radial_tail import RadialTail
from utility.statistics.shape_model import Conditional, ShapeModel

# Of a thousand points three are wrong, before anything is known of them.
LOG_PRIOR_PLACE = float(np.log(0.003))
_SHARE_SAME_PLACE = 0.1  # of the wrong points, those that lie on another one
_SAME = 1.0  # px, in x and in y
_ZERO_NORMALIZER = 12.0  # log odds: the two points that scale errors are never one
_MIN_NORMALIZER = 0.3  # of what is expected; a smaller one does not tell how large the garment is


class Shapes(NamedTuple):
    """Annotations of one category: its n points in each of N pictures.

    Attributes:
        points: float64 [N, n, 2], px.
        visibility: int [N, n].
        sizes: float64 [N, 2], (width, height) of the pictures, px.
        predictions: float64 [N, n, 2], px; NaN where there is none.
    """

    points: np.ndarray
    visibility: np.ndarray
    sizes: np.ndarray
    predictions: np.ndarray

    @property
    def present(self) -> np.ndarray:
        return self.visibility >= 0

    def of(self, chosen: np.ndarray) -> Shapes:
        return Shapes(*(values[chosen] for values in self))


@dataclasses.dataclass(frozen=True)
class Evidence:
    """What was learned of a category.

    Attributes:
        model: Of its shapes.
        normalizer: The two points whose distance divides errors; None: the diagonal of the box
            that garments of their size usually have.
        exchanges: What may be exchanged, and how much the shapes tell of that.
        places: Of each point, how far it usually is from where the others say.
        predictions: Of each point, how far predictions usually are from it.
        same_place: float64 [n, n], log odds that a point is wrong as it lies on another one; 0
            where that is no evidence, as for an armpit and a cuff that often coincide.
    """

    model: ShapeModel
    normalizer: tuple[int, int] | None
    exchanges: Sequence[ExchangeEvidence]
    places: Sequence[RadialTail]
    predictions: Sequence[RadialTail]
    same_place: np.ndarray

    def lengths(self, shapes: Shapes, garments: np.ndarray) -> np.ndarray:
        """Return float64 [N], px, what errors are divided by: the normalizer, or the one to be
        expected of garments [N] of these sizes where it is absent or far too small.
        """
        if self.normalizer is None:
            return garments * np.linalg.norm(np.ptp(self.model.mean, axis=0))
        ends, there = shapes.points[:, self.normalizer], shapes.present[:, self.normalizer]
        length = np.where(there.all(1), np.linalg.norm(ends[:, 0] - ends[:, 1], axis=-1), 0)
        a, b = self.model.mean[list(self.normalizer)]
        expected = garments * np.linalg.norm(a - b)
        return np.where(length < _MIN_NORMALIZER * expected, expected, length)

    def exchanged(self, shapes: Shapes, lengths: np.ndarray) -> np.ndarray:
        """Return float64 [N, number of exchanges]: log odds that points were exchanged."""
        values = shapes.points, shapes.present
        surprise = self.model.surprise(*values)
        log_odds = [one.log_odds(*values, surprise) for one in self.exchanges]
        said = [self._predictions_say(shapes, lengths, one.exchange) for one in self.exchanges]
        # Not np.stack: there may be no exchange at all.
        return np.reshape(np.add(log_odds, said), (len(said), len(lengths))).T

    def _predictions_say(
        self, shapes: Shapes, lengths: np.ndarray, exchange: Exchange
    ) -> np.ndarray:
        """Return [N]: log odds by the predictions alone.

        A network that confuses sides confuses both points: they count as one.
        """
        order = exchange.permutation(shapes.points.shape[1])
        exchanged = shapes._replace(
            points=shapes.points[:, order], visibility=shapes.visibility[:, order]
        )
        gain = self._log_density(exchanged, lengths) - self._log_density(shapes, lengths)
        gain = gain[:, exchange.moved]
        known = ~np.isnan(gain)
        return np.where(known, gain, 0).sum(1) / np.maximum(known.sum(1), 1)

    def _log_density(self, shapes: Shapes, lengths: np.ndarray) -> np.ndarray:
        """Return log densities [N, n] of predictions, per px^2, were the annotations right."""
        squared = relative_errors(shapes, lengths) ** 2
        density = [tail.log_density(squared[:, k]) for k, tail in enumerate(self.predictions)]
        return np.stack(density, axis=1) - 2 * np.log(lengths)[:, None]

    def misplaced(self, shapes: Shapes, lengths: np.ndarray, conditional: Conditional) -> Misplaced:
        """Return how likely each point is somewhere else than it should be."""
        spread = conditional.log_areas
        anywhere = -np.log(np.pi * conditional.size**2)[:, None]

        def usual(points: np.ndarray) -> np.ndarray:
            squared = conditional.squared_distances(points)
            density = [tail.log_density(squared[:, k]) for k, tail in enumerate(self.places)]
            density = np.stack(density, axis=1) - spread
            # Where the others are too few to tell, anywhere is usual.
            return np.where(np.isnan(density), anywhere, density)

        by_predictions = usual(shapes.predictions) - self._log_density(shapes, lengths)
        return Misplaced(
            by_shape=LOG_PRIOR_PLACE + anywhere - usual(shapes.points),
            by_predictions=np.where(np.isnan(by_predictions), 0, by_predictions),
            by_coincidence=np.where(_at_one_place(shapes), self.same_place, 0).max(axis=2),
            place=np.where(np.isnan(shapes.predictions), conditional.predicted, shapes.predictions),
        )


class Misplaced(NamedTuple):
    """Log odds [N, n] that points are not where they should be, in parts that add up.

    Attributes:
        by_shape: By where the other points of the picture say that they are.
        by_predictions: By the predictions.
        by_coincidence: By another point in the same place.
        place: float64 [N, n, 2], px, where they should be; NaN where nothing tells.
    """

    by_shape: np.ndarray
    by_predictions: np.ndarray
    by_coincidence: np.ndarray
    place: np.ndarray

    @property
    def log_odds(self) -> np.ndarray:
        return self.by_shape + self.by_predictions + self.by_coincidence


def learn(
    shapes: Shapes, exchanges: Sequence[Exchange], normalizer: tuple[int, int] | None
) -> Evidence:
    """Learn from the annotations of a category, most of which are right.

    Args:
        shapes: All there are; the more, the better.
        exchanges: What may have been exchanged.
        normalizer: As of Evidence.

    Raises:
        UserError: No picture has enough points.
    """
    values = shapes.points, shapes.present
    model = ShapeModel.fit(*values)
    conditional, surprise = model.conditional(*values), model.surprise(*values)
    squared = np.where(shapes.present, conditional.squared_distances(shapes.points), np.nan)
    evidence = Evidence(
        model=model,
        normalizer=normalizer,
        exchanges=[ExchangeEvidence.learn(one, model, *values, surprise) for one in exchanges],
        places=[RadialTail.fit(column) for column in squared.T],
        predictions=(),
        same_place=_same_place(shapes, normalizer),
    )
    errors = relative_errors(shapes, evidence.lengths(shapes, conditional.size)) ** 2
    return dataclasses.replace(evidence, predictions=[RadialTail.fit(c) for c in errors.T])


def _same_place(shapes: Shapes, normalizer: tuple[int, int] | None) -> np.ndarray:
    """Return Evidence.same_place: that points coincide by mistake, against how often they do so."""
    counts = _at_one_place(shapes).sum(0)
    together = (shapes.present[:, :, None] & shapes.present[:, None, :]).sum(0)
    by_mistake = _SHARE_SAME_PLACE / max(len(counts) - 1, 1)
    # The pair that is judged is itself counted: as if it came from one picture more.
    log_ratio = np.maximum(np.log(by_mistake * (together + 1) / np.maximum(counts, 1)), 0)
    if normalizer is not None:
        log_ratio[normalizer, normalizer[::-1]] = _ZERO_NORMALIZER
    return log_ratio


def relative_errors(shapes: Shapes, lengths: np.ndarray) -> np.ndarray:
    """Return float64 [N, n]: distances of predictions from annotations by `lengths` [N]."""
    offsets = np.where(shapes.present[..., None], shapes.predictions - shapes.points, np.nan)
    return np.linalg.norm(offsets, axis=-1) / lengths[:, None]


def _at_one_place(shapes: Shapes) -> np.ndarray:
    """Return bool [N, n, n]: which points of a picture lie on another one."""
    points = np.where(shapes.present[..., None], shapes.points, np.nan)
    same = (np.abs(points[:, :, None] - points[:, None]) <= _SAME).all(-1)
    return same & ~np.eye(points.shape[1], dtype=bool)
