"""Predictions whose errors have a known distribution, with scores that tell its scale."""

from __future__ import annotations

import numpy as np

from preprocessing.schema import KeypointSchema
from preprocessing.tables import KeypointTable
from utility.predict.predictor import Predictions

SCHEMA = KeypointSchema(
    name='hats',
    keypoints=('brim_left', 'brim_right', 'top', 'tip'),
    categories={'hat': ('brim_left', 'brim_right', 'top'), 'cone': ('brim_left', 'tip')},
    normalizers={
        'hat': ('brim_left', 'brim_right'),
        'cone': ('brim_left', 'tip'),
    },
    measurements={
        'brim': (('brim_left',), ('brim_right',)),
        'height': (('brim_left', 'brim_right'), ('top',)),
        'slant': (('brim_left',), ('tip',)),
    },
)


def simulate(count: int, seed: int, cones: float = 0.3) -> tuple[Predictions, KeypointTable]:
    """Draw so many pictures; about one point in ten is occluded, one in ten absent.

    The error of a point is that of a normal distribution in the plane, of a scale of 30 px where
    its score is 0, 3 px where it is 1, and twice that for points of a cone.
    """
    rng = np.random.default_rng(seed)
    is_cone = rng.random(count) < cones
    categories = np.where(is_cone, 'cone', 'hat')
    own = np.array([[name in SCHEMA.categories[c] for name in SCHEMA.keypoints]
                    for c in categories]).reshape(count, 4)  # fmt: skip
    scores = rng.uniform(0, 1, (count, 4))
    scale = 3 * 10 ** (1 - scores) * np.where(is_cone, 2, 1)[:, np.newaxis]
    places = np.array([[40, 160], [160, 160], [100, 40], [100, 20]]) + rng.normal(
        0, 6, (count, 4, 2)
    )
    predicted = places + scale[..., np.newaxis] * rng.normal(size=(count, 4, 2))
    visibility = np.where(own, rng.choice([1, 0, -1], (count, 4), p=(0.8, 0.1, 0.1)), -1)
    ids = np.array([f'{row}.jpg' for row in range(count)], object)
    sizes = np.full((count, 2), 200)
    features = np.stack([scale, np.full_like(scale, 0.1), scale], -1).astype(np.float32)
    predictions = Predictions(
        ids,
        categories,
        sizes,
        predicted.astype(np.float32),
        scores.astype(np.float32),
        np.where(own, 1, -1).astype(np.int32),
        map_features=features,
    )
    lines = np.arange(2, count + 2)
    annotations = KeypointTable(
        ids, categories, places.astype(np.float32), visibility.astype(np.int32), lines, None, sizes
    )
    return predictions, annotations
