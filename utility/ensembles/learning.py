"""An ensemble that is fitted to annotations: what each model does wrong, and which to trust where.

The steps, each fitted on what the one before gives:
1. corrections: columns that are mirrored, points that are off by the same everywhere;
2. weights: of each model, by category and keypoint;
3. votes: the weights depend on which models agree with each other at this point of this picture,
   and one more expert says where the point should be, given the other points and the usual shapes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from preprocessing.schema import KeypointSchema
from preprocessing.tables import ABSENT_INDEX
from utility.ensembles.combination import Predictions, rows_of
from utility.ensembles.mixture import (
    MixtureInputs,
    MixtureTargets,
    MixtureWeights,
    agreement,
    fit_mixture,
    mixture_mean,
)
from utility.ensembles.systematic_errors import (
    AnnotatedPoints,
    Correction,
    category_codes,
    correct,
    fit_correction,
    garment_frames,
)
from utility.statistics.shape_model import MIN_POINTS, ShapeModel

_IMAGES_AT_A_TIME = 4096  # that are combined at once; their features take some memory
_MIN_IMAGES = 20  # of a category, to learn its shapes from


class EnsembleStatistics(NamedTuple):
    """What is known of each of M models, and of garments.

    Attributes:
        correction: Of the models.
        shapes: Of the garments, by category; without those of which too few were seen.
    """

    correction: Correction
    shapes: Mapping[str, ShapeModel]

    def of_models(self, indices: Sequence[int]) -> EnsembleStatistics:
        return self._replace(correction=self.correction.of_models(indices))


class FittedEnsemble(NamedTuple):
    """A fitted ensemble of M models.

    Attributes:
        correction: Of the models.
        weights: The MixtureWeights of the M models by category and keypoint.
        shapes: As of EnsembleStatistics.
        votes: The MixtureWeights of the models and the shapes, M + 1 experts, with features; None:
            the points are those that `weights` gives.
    """

    correction: Correction
    weights: MixtureWeights
    shapes: Mapping[str, ShapeModel]
    votes: MixtureWeights | None


def combine(
    learned: FittedEnsemble, predictions: Predictions, schema: KeypointSchema
) -> np.ndarray:
    """Return the ensemble's points, float64 [N, K, 2] px; pixel (-1, -1) without any model's."""
    rows = np.arange(len(predictions.in_category))
    parts = [rows[i : i + _IMAGES_AT_A_TIME] for i in range(0, len(rows), _IMAGES_AT_A_TIME)]
    return np.concatenate([_combine(learned, predictions.of_images(p), schema) for p in parts])


def _combine(
    learned: FittedEnsemble, predictions: Predictions, schema: KeypointSchema
) -> np.ndarray:
    corrected = correct(learned.correction, predictions, schema)
    weighted = _mixture_points(learned.weights, corrected, None, schema)
    if learned.votes is None:
        return weighted
    experts, sizes = _with_shapes(learned.shapes, corrected, weighted, schema)
    return _mixture_points(learned.votes, experts, sizes, schema)


def fit_statistics(
    predictions: Predictions, annotated: AnnotatedPoints, schema: KeypointSchema
) -> EnsembleStatistics:
    """Learn what fit needs and what does not depend on which models are combined."""
    correction = fit_correction(predictions, annotated, schema)
    return EnsembleStatistics(correction, _fit_shapes(predictions, annotated, schema))


def fit(
    learned_statistics: EnsembleStatistics,
    predictions: Predictions,
    annotated: AnnotatedPoints,
    schema: KeypointSchema,
    strengths: Sequence[float],
) -> Iterator[FittedEnsemble]:
    """Fit an ensemble with votes for each strength of the shrinkage.

    Args:
        learned_statistics: Of these models, from the same pictures.
        predictions: Of M models.
        schema: Of both.
        strengths: Of fit_mixture; best in falling order, as each starts from the one before.
    """
    correction, shapes = learned_statistics
    corrected = correct(correction, predictions, schema)
    weights_start = votes_start = None
    for strength in strengths:
        inputs, targets = _fit_inputs(corrected, None, annotated, schema)
        weights, weights_start = fit_mixture(inputs, targets, strength, weights_start)
        weighted = _mixture_points(weights, corrected, None, schema)
        inputs, targets = _fit_inputs(
            *_with_shapes(shapes, corrected, weighted, schema), annotated, schema
        )
        votes, votes_start = fit_mixture(inputs, targets, strength, votes_start)
        yield FittedEnsemble(correction, weights, shapes, votes)


def _mixture_inputs(
    predictions: Predictions, sizes: np.ndarray | None, schema: KeypointSchema
) -> tuple[MixtureInputs, np.ndarray, np.ndarray]:
    """Return the points that anybody predicts, their pictures [R] and keypoints [R].

    Without the sizes [N] of the garments it has no features.
    """
    points, shares, n, k = rows_of(predictions)
    features = np.zeros([0, len(n)], np.float32)
    if sizes is not None:
        features = agreement(points, shares, sizes[n])
    codes = category_codes(predictions.categories, schema)[n]
    inputs = MixtureInputs(points.astype(np.float32), shares.astype(np.float32), codes, k, features)
    return inputs, n, k


def _fit_inputs(
    predictions: Predictions,
    sizes: np.ndarray | None,
    annotated: AnnotatedPoints,
    schema: KeypointSchema,
) -> tuple[MixtureInputs, MixtureTargets]:
    """Return the points that anybody predicts and that are scored, and their annotations."""
    present = predictions.present & (annotated.weights > 0)
    inputs, n, k = _mixture_inputs(predictions._replace(present=present), sizes, schema)
    num_groups = (len(schema.categories), schema.num_keypoints)
    return inputs, MixtureTargets(annotated.keypoints[n, k], annotated.weights[n, k], num_groups)


def _mixture_points(
    mixture_weights: MixtureWeights,
    predictions: Predictions,
    sizes: np.ndarray | None,
    schema: KeypointSchema,
) -> np.ndarray:
    """Return [N, K, 2]: what the voters give; at pixel (-1, -1) where there is none."""
    inputs, n, k = _mixture_inputs(predictions, sizes, schema)
    points = np.full([*predictions.in_category.shape, 2], ABSENT_INDEX + 0.5)
    points[n, k] = mixture_mean(mixture_weights, inputs)
    return points


def _fit_shapes(
    predictions: Predictions, annotated: AnnotatedPoints, schema: KeypointSchema
) -> dict[str, ShapeModel]:
    """Return the annotated shapes, by category; without those of too few pictures."""
    shapes = {}
    for category in schema.categories:
        points = list(schema.indices(category))
        rows = np.flatnonzero(predictions.categories == category)
        rows = rows[annotated.present[rows][:, points].sum(1) >= MIN_POINTS]
        if len(rows) >= _MIN_IMAGES:
            place = np.ix_(rows, points)
            shapes[category] = ShapeModel.fit(annotated.keypoints[place], annotated.present[place])
    return shapes


def _with_shapes(
    shapes: Mapping[str, ShapeModel],
    predictions: Predictions,
    weighted: np.ndarray,
    schema: KeypointSchema,
) -> tuple[Predictions, np.ndarray]:
    """Return the models, and as one more where each point should be by the others of `weighted`.

    Returns:
        Predictions of M + 1 experts, the last of which is absent where the shapes of the category
        are not known; the sizes of the garments, [N], px.
    """
    predicted_anywhere = predictions.present.any(0)
    expected = np.full(weighted.shape, np.nan)
    for category, shape in shapes.items():
        points = np.array(schema.indices(category))
        rows = np.flatnonzero(predictions.categories == category)
        place = np.ix_(rows, points)
        if len(rows):
            expected[place] = shape.conditional(
                weighted[place], predicted_anywhere[place]
            ).predicted
    has_shape = predicted_anywhere & np.isfinite(expected).all(-1)
    expected = np.where(has_shape[..., np.newaxis], expected, ABSENT_INDEX + 0.5)
    experts = predictions._replace(
        names=(*predictions.names, 'shapes'),
        keypoints=np.concatenate([predictions.keypoints, expected[np.newaxis]]),
        present=np.concatenate([predictions.present, has_shape[np.newaxis]]),
    )
    codes = category_codes(predictions.categories, schema)
    return experts, garment_frames(weighted, codes, predictions.in_category)[1]
