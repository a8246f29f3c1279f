"""Which way to combine models is best, by annotations that no fit has seen.

What is learned is fitted to some folds of the pictures and measured on the others. It is taken only
if it is better there than whatever needs no annotations, so that learning cannot make things worse.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from config import UserError
from preprocessing.schema import KeypointSchema
from preprocessing.tables import ABSENT_INDEX
from utility.ensembles import learning
from utility.ensembles.combination import Predictions, combine
from utility.ensembles.learning import EnsembleStatistics, FittedEnsemble
from utility.ensembles.methods import METHODS
from utility.ensembles.systematic_errors import AnnotatedPoints
from utility.statistics.bootstrap import grouped_folds

ALONE, WEIGHTS, VOTES = 'alone', 'weights', 'votes'  # methods besides METHODS
LEARNED = 'learned'  # the best of all methods
STRENGTHS = (30.0, 3.0, 1.0)  # of the shrinkage that are tried, in points
NUM_FOLDS = 5


class Ensemble(NamedTuple):
    """A way to combine models.

    Attributes:
        method: A name in METHODS; ALONE: one model, and the median where it has no point; WEIGHTS
            or VOTES: what is learned.
        model: Position of the model that is ALONE.
        learned: What WEIGHTS and VOTES need.
    """

    method: str
    model: int = 0
    learned: FittedEnsemble | None = None

    def points(self, predictions: Predictions, schema: KeypointSchema) -> np.ndarray:
        """Return float64 [N, K, 2], px; at pixel (-1, -1) where no model has a point."""
        if self.learned is not None:
            return learning.combine(self.learned, predictions, schema)
        if self.method != ALONE:
            return combine(predictions, self.method)[0]
        present = predictions.present[self.model][..., np.newaxis]
        medians = combine(predictions, 'median')[0]
        return np.where(present, predictions.keypoints[self.model], medians)


class Candidate(NamedTuple):
    """A way to combine models, as measured.

    Attributes:
        label: For people.
        method: Of Ensemble.
        distances: float64 [N, K], normalized, of pictures that the fit had not seen; NaN where not
            scored.
        model: Of Ensemble.
        strength: Of the shrinkage; None where nothing is learned.
    """

    label: str
    method: str
    distances: np.ndarray
    model: int = 0
    strength: float | None = None

    @property
    def error(self) -> float:
        """NE, a fraction."""
        return float(np.nanmean(self.distances))


class Choice(NamedTuple):
    """What has been measured, and what to use.

    Attributes:
        singles: The models as they are; a point that one lacks counts as at pixel (-1, -1).
        candidates: The ways to combine; of each that is learned, the best strength.
        chosen: One of the candidates.
        ensemble: That one, fitted to all pictures.
    """

    singles: tuple[Candidate, ...]
    candidates: tuple[Candidate, ...]
    chosen: Candidate
    ensemble: Ensemble


def distances_of(points: np.ndarray, annotated: AnnotatedPoints) -> np.ndarray:
    """Return float64 [N, K]: normalized distances of points [N, K, 2], NaN where not scored."""
    distances = np.linalg.norm(points - annotated.keypoints, axis=-1) * annotated.weights
    return np.where(annotated.weights > 0, distances, np.nan)


def choose(
    predictions: Predictions,
    annotated: AnnotatedPoints,
    schema: KeypointSchema,
    method: str = LEARNED,
) -> Choice:
    """Measure the ways to combine models, and choose one.

    Args:
        predictions: Of pictures with annotations.
        schema: Of both.
        method: LEARNED; or a name in METHODS, which is then chosen, and nothing is learned.

    Raises:
        UserError: There are fewer different pictures than folds, or no such method.
    """
    singles, simple = (
        _single_models(predictions, annotated),
        simple_candidates(predictions, annotated, schema),
    )
    if method != LEARNED:
        METHODS.get(method)
        chosen = next(candidate for candidate in simple if candidate.method == method)
        return Choice(singles, tuple(simple), chosen, Ensemble(method))
    folds = folds_of(predictions, annotated, schema)
    learned = out_of_fold(folds, predictions, annotated, schema, STRENGTHS)
    error = operator.attrgetter('error')
    best_of_kinds = [
        min((c for c in learned if c.method == kind), key=error) for kind in (WEIGHTS, VOTES)
    ]
    candidates = (*simple, *best_of_kinds)
    # Of candidates that are as good the first is taken, and those that learn nothing come first.
    chosen = min(candidates, key=error)
    return Choice(singles, candidates, chosen, _refit(chosen, predictions, annotated, schema))


def _single_models(predictions: Predictions, annotated: AnnotatedPoints) -> tuple[Candidate, ...]:
    present = predictions.present[..., np.newaxis]
    points = np.where(present, predictions.keypoints, ABSENT_INDEX + 0.5)
    return tuple(
        Candidate(name, ALONE, distances_of(points[i], annotated), i)
        for i, name in enumerate(predictions.names)
    )


def simple_candidates(
    predictions: Predictions, annotated: AnnotatedPoints, schema: KeypointSchema
) -> list[Candidate]:
    """Return the ways that learn nothing."""
    ways = [(method, 0, method) for method in METHODS.names()]
    ways += [(ALONE, i, f'{name}, or the median') for i, name in enumerate(predictions.names)]
    return [
        Candidate(
            label,
            method,
            distances_of(Ensemble(method, i).points(predictions, schema), annotated),
            i,
        )
        for method, i, label in ways
    ]


class Fold(NamedTuple):
    """A part of the pictures [N], and what the others tell.

    Attributes:
        train: Positions of the others.
        held_out: Positions of this part.
        learned_statistics: Of those in train.
    """

    train: np.ndarray
    held_out: np.ndarray
    learned_statistics: EnsembleStatistics

    def of_models(self, indices: Sequence[int]) -> Fold:
        return self._replace(learned_statistics=self.learned_statistics.of_models(indices))


def folds_of(
    predictions: Predictions, annotated: AnnotatedPoints, schema: KeypointSchema
) -> list[Fold]:
    """Return NUM_FOLDS folds, equal pictures in one.

    Raises:
        UserError: There are fewer different pictures than folds.
    """
    # Of equal pictures all models predict the same.
    groups = [rows.tobytes() for rows in np.moveaxis(predictions.keypoints, 1, 0)]
    num_groups = len(set(groups))
    if num_groups < NUM_FOLDS:
        raise UserError(f'{num_groups} different pictures with answers: to learn takes {NUM_FOLDS}')
    fold_of = grouped_folds(groups, predictions.categories, NUM_FOLDS)
    folds = []
    for fold in range(NUM_FOLDS):
        train = np.flatnonzero(fold_of != fold)
        parts = (predictions.of_images(train), annotated.of_images(train))
        learned_statistics = learning.fit_statistics(*parts, schema)
        folds.append(Fold(train, np.flatnonzero(fold_of == fold), learned_statistics))
    return folds


def out_of_fold(
    folds: Sequence[Fold],
    predictions: Predictions,
    annotated: AnnotatedPoints,
    schema: KeypointSchema,
    strengths: Sequence[float],
) -> list[Candidate]:
    """Return WEIGHTS and VOTES at each strength, each picture by a fit to the folds without it."""
    points = {
        (kind, strength): np.zeros(annotated.keypoints.shape)
        for kind in (WEIGHTS, VOTES)
        for strength in strengths
    }
    for fold in folds:
        parts = (predictions.of_images(fold.train), annotated.of_images(fold.train))
        fits = learning.fit(fold.learned_statistics, *parts, schema, strengths)
        held_out = predictions.of_images(fold.held_out)
        for strength, learned in zip(strengths, fits):
            for kind, fitted in _kinds(learned):
                combined = learning.combine(fitted, held_out, schema)
                points[kind, strength][fold.held_out] = combined
    return [
        Candidate(f'{kind} (learned)', kind, distances_of(values, annotated), strength=strength)
        for (kind, strength), values in points.items()
    ]


def _kinds(learned: FittedEnsemble) -> Iterator[tuple[str, FittedEnsemble]]:
    yield WEIGHTS, learned._replace(shapes={}, votes=None)
    yield VOTES, learned


def _refit(
    chosen: Candidate, predictions: Predictions, annotated: AnnotatedPoints, schema: KeypointSchema
) -> Ensemble:
    """Return the chosen way, fitted to all pictures by the steps that the folds took."""
    if chosen.strength is None:
        return Ensemble(chosen.method, chosen.model)
    parts = (predictions, annotated, schema)
    strengths = STRENGTHS[: STRENGTHS.index(chosen.strength) + 1]
    learned_statistics = learning.fit_statistics(*parts)
    *_, learned = learning.fit(learned_statistics, *parts, strengths)
    return Ensemble(chosen.method, learned=dict(_kinds(learned))[chosen.method])
