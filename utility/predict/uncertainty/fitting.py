"""Calibrating: what pictures with known points tell of the errors of a predictor."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from config import UserError
from preprocessing.schema import KeypointSchema
from preprocessing.tables import KeypointTable
from utility.predict.uncertainty.calibration import LEVEL, Calibration, plain_options
from utility.predict.uncertainty.features import FEATURES, features_of, means_of_pictures
from utility.predict.uncertainty.lengths import length, size_of_error
from utility.statistics import conformal

if TYPE_CHECKING:
    from utility.predict.predictor import Predictions
    from utility.predict.views_to_points import PredictOptions

# One picture in so many teaches the sizes of errors, which are few numbers; the others calibrate.
_LEARNS = 3
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
        seed: Which pictures learn and which calibrate.

    Raises:
        UserError: There are too few pictures for any radius at the usual level.
    """
    known = means_of_pictures(predictions, features)
    kept = {name: tuple(map(tuple, rows[:_MOST_KNOWN].tolist())) for name, rows in known.items()}
    learns = chosen_share(predictions.categories, seed, _LEARNS)
    annotated = (predictions.visibility >= 0) & (annotations.visibility >= 0)
    offsets = predictions.keypoints.astype(np.float64) - annotations.keypoints
    errors = np.linalg.norm(offsets, axis=-1)
    places = np.argwhere(annotated)
    names = schema.keypoints
    groups = np.array([f'{predictions.categories[row]}/{names[k]}' for row, k in places])
    of_first = learns[places[:, 0]] if len(places) else np.zeros(0, bool)
    least = math.ceil(LEVEL / (1 - LEVEL))
    if min(np.count_nonzero(of_first), np.count_nonzero(~of_first)) < least:
        raise UserError(
            f'{len(predictions.image_ids)} pictures with {len(places)} annotated points: too few '
            f'to tell how far off points are; at least {2 * least} points are needed'
        )
    values = features_of(predictions, features)[tuple(places.T)]
    flat = errors[tuple(places.T)]
    model = conformal.ErrorModel.fit(values[of_first], groups[of_first], flat[of_first], _FLOOR)
    last = ~of_first
    ratios = flat[last] / model.predict(values[last], groups[last])
    calibration = Calibration(
        keypoints=names,
        features=tuple(features),
        options={} if options is None else plain_options(options),
        pictures=len(predictions.image_ids),
        model=model,
        scores=_sorted_groups(groups[last], ratios),
        lengths={},
        known=kept,
    )
    rows = np.flatnonzero(~learns)
    lengths = _length_scores(calibration, predictions, annotations, schema, rows)
    return dataclasses.replace(calibration, lengths=lengths)


def chosen_share(categories: Sequence[str], seed: int, one_in: int = 2) -> np.ndarray:
    """Return random pictures, bool [N]: of each category one in so many, to one picture."""
    generator = np.random.default_rng(seed)
    categories = np.asarray(categories, str)
    chosen = np.zeros(len(categories), bool)
    for place, name in enumerate(np.unique(categories)):
        rows = generator.permutation(np.flatnonzero(categories == name))
        chosen[rows[place % one_in :: one_in]] = True
    return chosen


def rows_of(predictions: Predictions, chosen: np.ndarray) -> Predictions:
    """Return the predictions of some pictures: bool [N]."""
    names = [field.name for field in dataclasses.fields(predictions)]
    columns = {name: getattr(predictions, name) for name in names}
    taken = {name: None if v is None else v[chosen] for name, v in columns.items()}
    return dataclasses.replace(predictions, **taken)


def _sorted_groups(groups: np.ndarray, values: np.ndarray) -> dict[str, tuple[float, ...]]:
    # Five digits: a file of them stays small, and no radius is known better.
    rounded = np.array([float(f'{value:.5g}') for value in values])
    return {
        str(name): tuple(np.sort(rounded[groups == name]).tolist()) for name in np.unique(groups)
    }


def _length_scores(
    calibration: Calibration,
    predictions: Predictions,
    annotations: KeypointTable,
    schema: KeypointSchema,
    rows: np.ndarray,
) -> dict[str, tuple[float, ...]]:
    """Return errors of lengths over their sizes, of some pictures; see Calibration.lengths."""
    sizes = calibration.sizes(predictions)
    present = (annotations.visibility >= 0)[..., np.newaxis]
    true_points = np.where(present, annotations.keypoints.astype(np.float64), np.nan)
    groups, scores = [], []
    for row in rows:
        category = str(predictions.categories[row])
        for name, ends in schema.measurements_of(category).items():
            true = length(ends, true_points[row], schema.keypoints)
            if not math.isnan(true):
                error = abs(length(ends, predictions.keypoints[row], schema.keypoints) - true)
                groups.append(f'{name}/{category}')
                scores.append(error / size_of_error(ends, sizes[row], schema.keypoints))
    return _sorted_groups(np.array(groups, str), np.array(scores))
