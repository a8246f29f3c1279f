"""What a network must be better than: the mean positions of each category's points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from config import UserError


def mean_positions(
    keypoints: np.ndarray,
    visibility: np.ndarray,
    image_sizes: np.ndarray,
    categories: Sequence[str],
) -> dict[str, np.ndarray]:
    """Return where each category's annotated points are on average, relative to the picture.

    To predict these is the least a network must do better than.

    Args:
        keypoints: [N, K, 2], px of the original pictures.
        visibility: [N, K]; points with -1 do not count.
        image_sizes: [N, 2], (height, width), px.
        categories: [N].

    Returns:
        Category -> float64 [K, 2], (x / width, y / height); the center of the picture for points
        that are annotated in none.
    """
    relative = np.asarray(keypoints, np.float64) / np.asarray(image_sizes)[:, np.newaxis, ::-1]
    annotated = (np.asarray(visibility) >= 0)[..., np.newaxis]
    labels = np.asarray(categories, dtype=str)
    positions = {}
    for category in np.unique(labels):
        mask = annotated[labels == category]
        total = np.where(mask, relative[labels == category], 0.0).sum(0)
        count = mask.sum(0)
        positions[str(category)] = np.where(count > 0, total / np.maximum(count, 1), 0.5)
    return positions


def mean_position_baseline(
    positions: Mapping[str, np.ndarray], image_sizes: np.ndarray, categories: Sequence[str]
) -> np.ndarray:
    """Predict the mean positions of each picture's category.

    Args:
        positions: Of mean_positions.
        image_sizes: [N, 2], (height, width), px.
        categories: [N].

    Returns:
        float64 [N, K, 2], px.

    Raises:
        UserError: There are no positions of a category.
    """
    unknown = sorted(set(map(str, categories)) - set(positions))
    if unknown:
        raise UserError(f'no mean positions of {unknown[0]!r}; there are: {", ".join(positions)}')
    relative = np.stack([positions[str(category)] for category in categories])
    return relative * np.asarray(image_sizes)[:, np.newaxis, ::-1]
