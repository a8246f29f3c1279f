"""What is known of a predicted point without its true place, and of a length between points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from config import UserError
from preprocessing.schema import Measurement
from utility.predict.exported.radii import point_features

if TYPE_CHECKING:
    from utility.predict.predictor import Predictions

# Without the maps themselves, as of an exported network, those of POINT_FEATURES are known.
POINT_FEATURES = ('peak', 'log_peak', 'extent')
FEATURES = (*POINT_FEATURES, 'spread', 'second_peak', 'disagreement')
_LEAST_LENGTH = 0.1  # px
_LEAST_RATIO = 1e-3
_DECIMALS = 4


def features_of(predictions: Predictions, names: Sequence[str] = FEATURES) -> np.ndarray:
    """Return what is known of each point without its true place: float64 [N, K, F].

    Raises:
        UserError: A feature of the heat maps is wanted, and they are not known.
    """
    of_points = point_features(
        predictions.keypoints, predictions.scores, predictions.visibility >= 0
    )
    columns = dict(zip(POINT_FEATURES, np.moveaxis(of_points, -1, 0)))
    if not set(names) <= columns.keys():
        if predictions.map_features is None:
            missing = sorted(set(names) - columns.keys())
            raise UserError(f'the predictions do not tell {", ".join(missing)} of the heat maps')
        maps = np.moveaxis(predictions.map_features.astype(np.float64), -1, 0)
        spread, second_peak, disagreement = maps
        columns['spread'] = np.log(np.maximum(spread, _LEAST_LENGTH))
        columns['second_peak'] = np.log(np.clip(second_peak, _LEAST_RATIO, 1.0))
        columns['disagreement'] = np.log(disagreement + _LEAST_LENGTH)
    return np.stack([columns[name] for name in names], axis=-1)


def means_of_pictures(predictions: Predictions, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Return category -> the means over points of the features of its pictures, [n, F]."""
    own = (predictions.visibility >= 0)[..., np.newaxis]
    features = np.where(own, features_of(predictions, names), 0.0)
    # Rounded, as they are in a file: the test compares which of two numbers is larger.
    means = np.round(features.sum(1) / np.maximum(own.sum(1), 1), _DECIMALS)
    categories = predictions.categories.astype(str)
    return {str(name): means[categories == name] for name in np.unique(categories)}


def length(ends: Measurement, points: np.ndarray, keypoints: Sequence[str]) -> float:
    """Return the length of a measurement between points [K, 2]; NaN where one is NaN."""
    middles = [points[[keypoints.index(name) for name in end]].mean(0) for end in ends]
    return float(np.linalg.norm(middles[0] - middles[1]))


def size_of_error(ends: Measurement, sizes: np.ndarray, keypoints: Sequence[str]) -> float:
    """Return the size of a length's error, by those of its points [K], as if these were independent
    of each other; whether they are is for the calibration to tell.
    """
    own = [sizes[[keypoints.index(name) for name in end]] / len(end) for end in ends]
    return float(np.sqrt(np.square(np.concatenate(own)).sum()))
