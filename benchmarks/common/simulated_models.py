"""Tables of garments with answers, and of models that predict them more or less well."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from preprocessing.datasets.fashionai import SCHEMA
from preprocessing.tables import KeypointTable, category_points, write_table

SIZE = 512  # px
CATEGORIES = ('skirt', 'trousers')
_SHAPES = {  # of a garment 1 wide, in the order of the schema; of others it does not matter
    'skirt': [(-0.5, 0), (0.5, 0), (-0.9, 1.6), (0.9, 1.6)],
    'trousers': [(-0.5, 0), (0.5, 0), (0, 0.9), (-0.2, 3), (-0.8, 3), (0.2, 3), (0.8, 3)],
}


def annotations(seed: int, count: int, categories: Sequence[str] = CATEGORIES) -> KeypointTable:
    """Return annotations of as many garments of each category; one in ten points is occluded."""
    generator = np.random.default_rng(seed)
    categories = np.array(categories)[np.arange(count) % len(categories)]
    in_category = category_points(categories, SCHEMA)
    points = np.full([count, SCHEMA.num_keypoints, 2], -0.5)
    for row, category in enumerate(categories):
        width, place = generator.uniform(50, 110), generator.uniform((150, 30), (350, 120))
        shape = _shape(category) + generator.normal(0, 0.05, [in_category[row].sum(), 2])
        points[row, in_category[row]] = place + width * shape
    visibility = np.where(generator.random(in_category.shape) < 0.1, 0, 1)
    ids = np.array([f'Images/{name}/{row}.jpg' for row, name in enumerate(categories)], object)
    visibility = np.where(in_category, visibility, -1)
    return KeypointTable(ids, categories, np.floor(points) + 0.5, visibility, np.arange(count) + 2)


def _shape(category: str) -> np.ndarray:
    """Return points [n, 2] of a garment of the category; on a circle where none are given."""
    if category in _SHAPES:
        return np.array(_SHAPES[category])
    angles = np.linspace(0, 2 * np.pi, len(SCHEMA.categories[category]), endpoint=False)
    return np.stack([np.cos(angles), np.sin(angles) + 1], axis=1)


def scaled(table: KeypointTable, side: int) -> KeypointTable:
    """Return the same of pictures of another side, px."""
    return table._replace(keypoints=np.floor(table.keypoints * side / SIZE) + 0.5)


def model(
    table: KeypointTable,
    seed: int,
    noise: float = 3.0,
    lost: float = 0.0,
    absent: float = 0.0,
    offset: tuple[float, float] = (0, 0),
) -> KeypointTable:
    """Return what a model predicts.

    Args:
        noise: Standard deviation of x and y, px.
        lost: Share of the points that it predicts anywhere in the picture.
        absent: Share of the points that it does not predict.
        offset: By which it is always wrong, px.
    """
    generator = np.random.default_rng(seed)
    in_category = table.visibility >= 0
    points = table.keypoints + offset + generator.normal(0, noise, table.keypoints.shape)
    is_lost = generator.random(in_category.shape) < lost
    anywhere = generator.uniform(0, SIZE, points.shape)
    points = np.clip(np.where(is_lost[..., np.newaxis], anywhere, points), 0, SIZE - 1)
    present = in_category & (generator.random(in_category.shape) >= absent)
    points = np.where(present[..., np.newaxis], np.floor(points) + 0.5, -0.5)
    visibility = np.where(present, 1, -1)
    return table._replace(keypoints=points.astype(np.float32), visibility=visibility)


def write(folder, **tables: KeypointTable) -> None:
    """Write each table as NAME.csv."""
    for name, table in tables.items():
        write_table(folder / f'{name}.csv', table, SCHEMA)
