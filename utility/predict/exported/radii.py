"""How far off points may be, by their scores and the extent of the garment alone.

The entry 'radii' of model.json holds: 'level', the share of points that a radius is to hold; 'low',
'high' and 'weights', of the three features; and 'sizes', category -> keypoint -> px, or null where
too few pictures calibrated. With f a feature of a point, the radius is

    size * exp(sum of weight * (min(max(f, low), high) - low) / (high - low))
"""

from __future__ import annotations

import numpy as np

NUM_FEATURES = 3
# What an entry may tell: e^50 px times a size is still a radius.
_MOST_LOGARITHM, _MOST = 50.0, 1e12
_LEAST_PEAK, _LARGEST_PEAK = 1e-3, 1.5


def point_features(points, scores, own):
    """Return what points alone tell of their errors: float64 [.., K, 3]: the peak of the heat map,
    its logarithm, and that of the extent of the garment in px.

    Args:
        points: [.., K, 2], px.
        scores: [.., K].
        own: bool [.., K], which points the garment has.
    """
    points, own = np.asarray(points, np.float64), np.asarray(own)[..., np.newaxis]
    low, high = np.where(own, points, np.inf).min(-2), np.where(own, points, -np.inf).max(-2)
    extent = np.where(own.any((-2, -1)), (high - low).max(-1), 1.0)
    peaks = np.clip(np.asarray(scores, np.float64), _LEAST_PEAK, _LARGEST_PEAK)
    extents = np.broadcast_to(np.log(np.maximum(extent, 1.0))[..., np.newaxis], peaks.shape)
    return np.stack([peaks, np.log(peaks), extents], axis=-1)


def radii_of(radii, category, points):
    """Return the name of each point -> its radius, px, or None where too few pictures calibrated.

    Args:
        radii: The entry of model.json.
        points: Name -> (x, y, score) of each point of it.
    """
    low, high, weights = (np.array(radii[name], np.float64) for name in ('low', 'high', 'weights'))
    values = np.array(list(points.values()), np.float64)
    features = point_features(values[:, :2], values[:, 2], np.ones(len(values), bool))
    scaled = (np.clip(features, low, high) - low) / np.where(high > low, high - low, 1.0)
    sizes, growths = radii['sizes'][category], np.exp(scaled @ weights).tolist()
    return {
        name: None if sizes[name] is None else sizes[name] * growth
        for name, growth in zip(points, growths)
    }


def are_radii(radii, categories) -> bool:
    """Return whether a value may be the entry of model.json for its categories."""
    if not isinstance(radii, dict) or not _are_numbers([radii.get('level')], 1):
        return False
    if not 0 < radii['level'] < 1:
        return False
    rows, sizes = [radii.get(name) for name in ('low', 'high', 'weights')], radii.get('sizes')
    if not all(_are_numbers(row, NUM_FEATURES) for row in rows) or not isinstance(sizes, dict):
        return False
    if sum(map(abs, rows[-1])) > _MOST_LOGARITHM:
        return False
    return all(
        isinstance(sizes.get(category), dict)
        and set(names) <= sizes[category].keys()
        and all(
            size is None or (_are_numbers([size], 1) and size >= 0)
            for size in sizes[category].values()
        )
        for category, names in categories.items()
    )


def _are_numbers(values, count: int) -> bool:
    is_list = isinstance(values, list) and len(values) == count
    return is_list and all(type(one) in (int, float) and abs(one) <= _MOST for one in values)
