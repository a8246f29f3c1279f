"""What is probably wrong with annotations, found in the order of how likely it is."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Generator, Iterator

import numpy as np

from utility.labels.evidence import Evidence, Misplaced, Shapes
from utility.labels.exchanges import IN_OUT, SIDES, Exchange

PLACE, PREDICTION, SAME_PLACE = 'place', 'prediction', 'same_place'
OUTSIDE, ABSENT, SHAPE = 'outside', 'absent', 'shape'
KINDS = {
    SIDES: 'left and right exchanged',
    IN_OUT: 'inner and outer end exchanged',
    PLACE: 'far from where the other points say',
    PREDICTION: 'far from where the networks say',
    SAME_PLACE: 'two points at one place',
    OUTSIDE: 'outside of the picture',
    ABSENT: 'absent, though the rest is there',
    SHAPE: 'an unusual shape',
}
_MAX_COST = 1.0  # what is farther off is no worse; also of what is off nobody knows how far
_MAX_ROUNDS = 4  # mistakes of one picture that are found one after the other
_OUTSIDE_LOG_ODDS = 5.0  # a point outside of the picture is hardly ever meant
_NEAR = 0.1  # sizes of the garment: a point beyond the border by less was meant to be on it
_PRIOR_ABSENT = 0.005  # share of the points that are absent by mistake
_ABSENT_COST = 0.1  # a point that is absent spoils no score
_INSIDE = 2.0  # standard deviations from the border
_PRIOR_SHAPE = 0.001  # share of the pictures whose points are wrong as a whole
_IQR = 1.349  # standard deviations between the quartiles of a normal distribution
_FARTHEST = 20.0  # standard deviations, beyond which probabilities underflow


@dataclasses.dataclass(frozen=True)
class Suspicion:
    """Something that is probably wrong with the annotation of a picture.

    Attributes:
        row: Of the picture.
        kind: One of KINDS.
        keypoints: Indices of the m points concerned.
        moved_to: float64 [m, 2], px, where they should be; NaN where that is not known.
        visibility: int [m], what it should be; -1: absent.
        log_odds: That the annotation is wrong, by the model of the shapes.
        cost: By how much, in normalizers, the sum over the points.
    """

    row: int
    kind: str
    keypoints: tuple[int, ...]
    moved_to: np.ndarray
    visibility: np.ndarray
    log_odds: float
    cost: float

    @property
    def evidence(self) -> float:
        """How much speaks against the annotation, in (0, 1): an order, and no probability.

        The odds behind it are those of a model of the shapes. On real pictures, which vary more
        than it knows, most of what it holds for nearly certain has been right.
        """
        return float(1 / (1 + np.exp(-self.log_odds)))

    @property
    def score(self) -> float:
        """What the worst are ranked by: the evidence times the cost, in (0, 1)."""
        return self.evidence * min(self.cost, _MAX_COST)

    @property
    def has_correction(self) -> bool:
        return bool(((self.visibility < 0) | np.isfinite(self.moved_to).all(-1)).all())


class Search:
    """Looks for mistakes in the annotations of a category, [N, n] points.

    The likeliest mistake of a picture is assumed to be corrected before the next one is looked for,
    so that the points beside a wrong one are not blamed for it.

    Args:
        evidence: What was learned of them.
        min_evidence: Only what has at least this evidence against it is told, in (0, 1).
    """

    def __init__(self, shapes: Shapes, evidence: Evidence, min_evidence: float):
        self._annotated, self._evidence = shapes, evidence
        self._threshold = np.log(min_evidence / (1 - min_evidence))
        self._conditional = evidence.model.conditional(shapes.points, shapes.present)
        self._lengths = evidence.lengths(shapes, self._conditional.size)
        # Corrected as far as mistakes were found; here a misplaced point is absent.
        self._shapes = shapes._replace(
            points=shapes.points.copy(), visibility=shapes.visibility.copy()
        )
        self._suspected = np.zeros(shapes.present.shape, bool)

    def run(self) -> Iterator[Suspicion]:
        """Yield everything that is found. A point is in one suspicion at most."""
        yield from self._outside()
        rows = np.arange(len(self._suspected))
        for _ in range(_MAX_ROUNDS):
            rows = yield from self._likeliest(rows)
        yield from self._absent()
        yield from self._unusual()

    def _likeliest(self, rows: np.ndarray) -> Generator[Suspicion, None, np.ndarray]:
        """Yield the likeliest mistake of each picture, if one is likely; returns their rows."""
        shapes, lengths = self._shapes.of(rows), self._lengths[rows]
        conditional = self._evidence.model.conditional(shapes.points, shapes.present)
        misplaced = self._evidence.misplaced(shapes, lengths, conditional)
        suspected = self._suspected[rows]
        of_points = np.where(shapes.present & ~suspected, misplaced.log_odds, -np.inf)
        of_exchanges = self._evidence.exchanged(shapes, lengths)
        for column, one in enumerate(self._evidence.exchanges):
            moved = one.exchange.moved
            useless = ~shapes.present[:, moved].any(1) | suspected[:, moved].any(1)
            of_exchanges[useless, column] = -np.inf
        num_exchanges = of_exchanges.shape[1]
        log_odds = np.concatenate([of_exchanges, of_points], axis=1)
        excess = log_odds - self._threshold
        # An exchange explains two points and more, a misplacement one.
        excess[:, :num_exchanges] *= 2
        choice, likely = excess.argmax(1), excess.max(1) > 0
        for i in np.flatnonzero(likely):
            k, odds = choice[i] - num_exchanges, log_odds[i, choice[i]]
            if k < 0:
                exchange = self._evidence.exchanges[choice[i]].exchange
                yield self._exchanged(rows[i], exchange, odds)
            else:
                kind = self._kind(misplaced, i, k)
                yield self._misplaced(rows[i], k, kind, misplaced.place[i, k], odds)
        return rows[likely]

    def _kind(self, misplaced: Misplaced, row: int, k: int) -> str:
        if misplaced.by_coincidence[row, k] > 0:
            return SAME_PLACE
        return PLACE if misplaced.by_shape[row, k] > self._threshold else PREDICTION

    def _exchanged(self, row: int, exchange: Exchange, log_odds: float) -> Suspicion:
        points, visibility = self._shapes.points[row], self._shapes.visibility[row]
        order = exchange.permutation(len(points))
        moved = [k for k in exchange.moved if visibility[k] >= 0 or visibility[order[k]] >= 0]
        exchanged = points[order], visibility[order]
        # Where the other point is absent, this one should be where the others say.
        there = exchanged[1][:, np.newaxis] >= 0
        wanted = np.where(there, exchanged[0], self._conditional.predicted[row])
        offsets = np.linalg.norm(wanted - points, axis=-1)[moved]
        self._shapes.points[row], self._shapes.visibility[row] = exchanged
        self._suspected[row, moved] = True
        return Suspicion(
            row=int(row),
            kind=exchange.kind,
            keypoints=tuple(moved),
            moved_to=exchanged[0][moved],
            visibility=exchanged[1][moved],
            log_odds=float(log_odds),
            cost=float(np.nansum(offsets[visibility[moved] >= 0]) / self._lengths[row]),
        )

    def _misplaced(
        self, row: int, k: int, kind: str, place: np.ndarray, log_odds: float
    ) -> Suspicion:
        """Suspect that k belongs to `place` [2], NaN if unknown; outside, that it is absent."""
        outside = ((place < 0) | (place >= self._annotated.sizes[row])).any()
        place = np.floor(place) + 0.5
        offset = np.linalg.norm(place - self._annotated.points[row, k])
        visibility = -1 if outside else self._annotated.visibility[row, k]
        self._shapes.visibility[row, k] = -1
        self._suspected[row, k] = True
        return Suspicion(
            row=int(row),
            kind=kind,
            keypoints=(int(k),),
            moved_to=place[np.newaxis],
            visibility=np.array([visibility]),
            log_odds=float(log_odds),
            cost=_MAX_COST if np.isnan(offset) else float(offset / self._lengths[row]),
        )

    def _outside(self) -> Iterator[Suspicion]:
        """Yield points beyond the border, moved onto it, or to where the others say."""
        points, sizes = self._annotated.points, self._annotated.sizes[:, np.newaxis]
        border = np.clip(points, 0.5, sizes - 0.5)
        beyond = ((points < 0) | (points > sizes)).any(-1) & self._annotated.present
        for row, k in np.argwhere(beyond):
            offset = np.linalg.norm(border[row, k] - points[row, k])
            near = offset <= _NEAR * self._conditional.size[row]
            place = border[row, k] if near else self._conditional.predicted[row, k]
            yield self._misplaced(row, k, OUTSIDE, place, _OUTSIDE_LOG_ODDS)

    def _absent(self) -> Iterator[Suspicion]:
        """Yield points that pictures with all others of this one hardly ever lack."""
        present = self._annotated.present
        counts = Counter(mask.tobytes() for mask in present)
        sigma = np.sqrt(np.trace(self._conditional.covariance, axis1=2, axis2=3))[..., np.newaxis]
        low = self._conditional.predicted - _INSIDE * sigma
        high = self._conditional.predicted + _INSIDE * sigma
        inside = ((low > 0) & (high < self._annotated.sizes[:, np.newaxis])).all(-1)
        for row, k in np.argwhere(~present & inside & ~self._suspected):
            mask = present[row].copy()
            mask[k] = True
            odds = _PRIOR_ABSENT * counts[mask.tobytes()] / counts[present[row].tobytes()]
            if odds > 0 and np.log(odds) > self._threshold:
                place = np.floor(self._annotated.predictions[row, k]) + 0.5
                yield Suspicion(
                    row=int(row),
                    kind=ABSENT,
                    keypoints=(int(k),),
                    moved_to=place[np.newaxis],
                    visibility=np.array([1]),
                    log_odds=float(np.log(odds)),
                    cost=_ABSENT_COST,
                )

    def _unusual(self) -> Iterator[Suspicion]:
        """Yield pictures whose points deviate as a whole, where no single mistake was found."""
        squared = self._conditional.squared_distances(self._annotated.points)
        squared = np.where(self._annotated.present, squared, np.nan)
        rows = np.flatnonzero(~np.isnan(squared).all(1))
        deviation = np.log(np.nanmean(squared[rows], axis=1))
        low, middle, high = np.quantile(deviation, (0.25, 0.5, 0.75))
        sigma = max((high - low) / _IQR, 1e-9)
        for row, far in zip(rows, (deviation - middle) / sigma):
            if far <= 0 or self._suspected[row].any():
                continue
            log_odds = np.log(_PRIOR_SHAPE / math.erfc(min(far, _FARTHEST) / math.sqrt(2)) * 2)
            if log_odds > self._threshold:
                yield self._whole(row, log_odds)

    def _whole(self, row: int, log_odds: float) -> Suspicion:
        own = np.flatnonzero(self._annotated.present[row])
        offsets = (self._conditional.predicted - self._annotated.points)[row, own]
        return Suspicion(
            row=int(row),
            kind=SHAPE,
            keypoints=tuple(map(int, own)),
            moved_to=np.full((len(own), 2), np.nan),
            visibility=self._annotated.visibility[row, own],
            log_odds=float(log_odds),
            cost=float(np.linalg.norm(offsets, axis=-1).mean() / self._lengths[row]),
        )
