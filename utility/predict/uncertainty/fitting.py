"""Calibrating: what pictures with known points tell of the errors of a predictor."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from config import UserError
from preprocessing.schema import KeypointSchema
from preprocessing.tables import KeypointTable
from utility.predict.uncertainty.calibration import LEVEL, Calibration, plain_options
from utility.predict.uncertainty.features import (
    FEATURES,
    features_of,
    length,
    means_of_pictures,
    size_of_error,
)
from utility.statistics import conformal

if TYPE_CHECKING:
    from utility.predict.predictor import Predictions
    from utility.predict.views_to_points import PredictOptions

# So many parts of the pictures: the sizes of the errors of each are learned from the others.
_FOLDS = 5
_FLOOR = 1.0  # px; of errors below it the logarithm would tell nothing but noise
_MOST_KNOWN = 400  # pictures of a category that are kept to compare others with


def calibrate(
    predictions: Predictions,
    annotations: KeypointTable,
    schema: KeypointSchema,
    options: PredictOptions | None,
    features: Sequence[str] = FEATURES,
    seed: int = 0,
) -> Calibration:
    """Learn from pictures with known points, visible or occluded, how far off points are.

    Args:
        predictions: Of N pictures.
        annotations: Of the same pictures in the same order.
        schema: Of both, the whole one.
        options: How was predicted; None where there is one way only.
        features: Names in FEATURES.
        seed: How the pictures are divided into those that learn and those that calibrate, in turn.

    Raises:
        UserError: There are too few pictures for any radius at the usual level.
    """
    annotated = (predictions.visibility >= 0) & (annotations.visibility >= 0)
    least = 2 * math.ceil(LEVEL / (1 - LEVEL))
    if annotated.sum() < least or np.count_nonzero(annotated.any(1)) < 2:
        raise UserError(
            f'{len(predictions.image_ids)} pictures with {annotated.sum()} annotated points: too '
            f'few to tell how far off points are; at least {least} points are needed'
        )
    known = means_of_pictures(predictions, features)
    offsets = predictions.keypoints.astype(np.float64) - annotations.keypoints
    errors = np.where(annotated, np.linalg.norm(offsets, axis=-1), np.nan)
    values = features_of(predictions, features)
    groups = groups_of(predictions.categories, schema.keypoints)
    sizes = cross_fitted_sizes(predictions, errors, schema.keypoints, features, seed)
    return Calibration(
        keypoints=schema.keypoints,
        features=tuple(features),
        options={} if options is None else plain_options(options),
        pictures=len(predictions.image_ids),
        model=_fit(values, groups, errors),
        scores=sorted_groups(groups[annotated], (errors / sizes)[annotated]),
        lengths=_length_scores(sizes, predictions, annotations, schema),
        known={n: tuple(map(tuple, rows[:_MOST_KNOWN].tolist())) for n, rows in known.items()},
    )


def groups_of(categories: Sequence[str], keypoints: Sequence[str]) -> np.ndarray:
    """Return 'category/keypoint', str [N, K]."""
    return np.array([[f'{category}/{name}' for name in keypoints] for category in categories], str)


def _fit(values: np.ndarray, groups: np.ndarray, errors: np.ndarray) -> conformal.ErrorModel:
    """Learn from errors [N, K], NaN where nothing is annotated."""
    own = ~np.isnan(errors)
    return conformal.ErrorModel.fit(values[own], groups[own], errors[own], _FLOOR)


def cross_fitted_sizes(
    predictions: Predictions,
    errors: np.ndarray,
    keypoints: Sequence[str],
    features: Sequence[str],
    seed: int,
) -> np.ndarray:
    """Return the size of error that is expected of each point by pictures of other folds.

    Args:
        predictions: Of N pictures.
        errors: float64 [N, K], px; NaN where nothing is annotated.
        keypoints: K names.
        features: Names in FEATURES.

    Returns:
        float64 [N, K], px; NaN in a fold without annotated points.
    """
    values = features_of(predictions, features)
    groups = groups_of(predictions.categories, keypoints)
    folds = division(predictions.categories, seed, _FOLDS)
    sizes = np.full(errors.shape, np.nan)
    for fold in np.unique(folds):
        own, others = folds == fold, folds != fold
        if np.isnan(errors[own]).all():
            continue
        if np.isnan(errors[others]).all():  # what is annotated is in one fold: very few pictures
            others = own
        model = _fit(values[others], groups[others], errors[others])
        flat = model.predict(values[own].reshape(-1, values.shape[-1]), groups[own].reshape(-1))
        sizes[own] = flat.reshape(errors[own].shape)
    return sizes


def division(categories: Sequence[str], seed: int, parts: int) -> np.ndarray:
    """Return a part of each picture, int [N], at random: of each category as many in each part, to
    one picture.
    """
    generator = np.random.default_rng(seed)
    categories = np.asarray(categories, str)
    part = np.zeros(len(categories), int)
    for place, name in enumerate(np.unique(categories)):
        rows = generator.permutation(np.flatnonzero(categories == name))
        part[rows] = (np.arange(len(rows)) - place) % parts
    return part


def chosen_half(categories: Sequence[str], seed: int) -> np.ndarray:
    """Return a random half of the pictures, bool [N], of each category, to one picture."""
    return division(categories, seed, 2) == 0


def sorted_groups(groups: np.ndarray, values: np.ndarray) -> dict[str, tuple[float, ...]]:
    """Return group -> its values, ascending; both are [n]."""
    # Five digits: a file of them stays small, and no radius is known better.
    rounded = np.array([float(f'{value:.5g}') for value in values])
    return {
        str(name): tuple(np.sort(rounded[groups == name]).tolist()) for name in np.unique(groups)
    }


def _length_scores(
    sizes: np.ndarray,
    predictions: Predictions,
    annotations: KeypointTable,
    schema: KeypointSchema,
) -> dict[str, tuple[float, ...]]:
    """Return errors of lengths over their sizes; see Calibration.lengths."""
    present = (annotations.visibility >= 0)[..., np.newaxis]
    true_points = np.where(present, annotations.keypoints.astype(np.float64), np.nan)
    groups, scores = [], []
    for row, category in enumerate(predictions.categories):
        for name, ends in schema.measurements_of(str(category)).items():
            true = length(ends, true_points[row], schema.keypoints)
            if not math.isnan(true):
                error = abs(length(ends, predictions.keypoints[row], schema.keypoints) - true)
                groups.append(f'{name}/{category}')
                scores.append(error / size_of_error(ends, sizes[row], schema.keypoints))
    return sorted_groups(np.array(groups, str), np.array(scores))
