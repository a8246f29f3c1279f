"""Batches as the input gives them, of noise, without records."""

from __future__ import annotations

import numpy as np

from preprocessing.datasets.fashionai import SCHEMA

_MARGIN = 0.1  # of the picture, without points


def skirts(
    count: int, size: tuple[int, int], seed: int = 0
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return features and labels of `count` skirts in crops of `size`, (height, width), px.

    The crops are the original pictures. All points are visible, and scored by 32 px.
    """
    rng = np.random.default_rng(seed)
    shape = (count, len(SCHEMA.categories['skirt']))
    features = {
        'image': rng.integers(0, 256, (count, *size, 3)).astype(np.uint8),
        'image_id': np.array([f'{i}.jpg' for i in range(count)]),
        'category': np.full(count, 'skirt'),
        'image_size': np.full((count, 2), size, np.int32),
        'to_crop': np.tile(np.eye(3, dtype=np.float32), (count, 1, 1)),
    }
    places = rng.uniform(_MARGIN, 1 - _MARGIN, (*shape, 2)) * size[::-1]
    labels = {
        'keypoints': places.astype(np.float32),
        'visibility': np.ones(shape, np.int32),
        'normalizer': np.full(count, 32, np.float32),
    }
    return features, labels
