"""What is known of a predicted point without its true place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from config import UserError

if TYPE_CHECKING:
    from utility.predict.predictor import Predictions

# Without the maps themselves, as of an exported network, those of POINT_FEATURES are known.
POINT_FEATURES = ('peak', 'log_peak', 'extent')
FEATURES = (*POINT_FEATURES, 'spread', 'second_peak', 'disagreement')
_LEAST_PEAK, _LARGEST_PEAK = 1e-3, 1.5
_LEAST_LENGTH = 0.1  # px
_LEAST_RATIO = 1e-3
_DECIMALS = 4


def features_of(predictions: Predictions, names: Sequence[str] = FEATURES) -> np.ndarray:
    """Return what is known of each point without its true place: float64 [N, K, F].

    Raises:
        UserError: A feature of the heat maps is wanted, and they are not known.
    """
    points = predictions.keypoints.astype(np.float64)
    own = (predictions.visibility >= 0)[..., np.newaxis]
    low, high = np.where(own, points, np.inf).min(1), np.where(own, points, -np.inf).max(1)
    extent = np.where(own.any((1, 2)), (high - low).max(1), 1.0)
    peaks = np.clip(predictions.scores.astype(np.float64), _LEAST_PEAK, _LARGEST_PEAK)
    columns = {
        'peak': peaks,
        'log_peak': np.log(peaks),
        'extent': np.broadcast_to(np.log(np.maximum(extent, 1.0))[:, np.newaxis], peaks.shape),
    }
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
