"""Plausible points of skirts, trousers and blouses without pictures, for tests of label audits."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from preprocessing.datasets.fashionai import SCHEMA
from preprocessing.tables import KeypointTable

SIZE = 400  # px, of the pictures
# (x, y) of the points of the left; 1 is about half the width of a garment.
_LEFT = {
    'neckline_left': (-0.3, -1.1),
    'shoulder_left': (-0.65, -0.9),
    'armpit_left': (-0.55, -0.4),
    'top_hem_left': (-0.55, 0.9),
    'waistband_left': (-0.45, -1.0),
    'hemline_left': (-0.7, 0.9),
    'bottom_left_in': (-0.2, 1.0),
    'bottom_left_out': (-0.6, 0.95),
}
_MIDDLE = {'center_front': (0.0, -0.85), 'crotch': (0.0, -0.2)}
_SHOULDER = np.array([-0.65, -0.75])
_SLEEVE = 1.4  # from there to the middle of the cuff
_CUFF = 0.15  # half its width


def make_table(counts: Mapping[str, int], seed: int = 0) -> KeypointTable:
    """Return annotations without a mistake, of so many pictures of each category; all points
    visible.

    Garments are of all proportions, sleeves of all angles between hanging and raised.
    """
    rng = np.random.default_rng(seed)
    categories = np.array([name for name, count in counts.items() for _ in range(count)])
    keypoints = np.full((len(categories), SCHEMA.num_keypoints, 2), -0.5, np.float32)
    visibility = np.full(keypoints.shape[:2], -1, np.int32)
    for row, category in enumerate(categories):
        own = list(SCHEMA.indices(category))
        placed = _garment(rng)
        keypoints[row, own] = [placed[SCHEMA.keypoints[k]] for k in own]
        visibility[row, own] = 1
    return KeypointTable(
        np.array([f'Images/{name}/{i}.jpg' for i, name in enumerate(categories)], object),
        categories,
        keypoints,
        visibility,
        np.arange(len(categories)) + 2,
    )


def _garment(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return name -> (x, y), px on pixel centers."""
    left = {name: np.array(place) for name, place in _LEFT.items()}
    points = {name: np.array(place) for name, place in _MIDDLE.items()} | left
    points |= {_mirrored(name): place * (-1, 1) for name, place in left.items()}
    for side, sign in (('left', 1), ('right', -1)):
        angle = rng.uniform(-0.1, 1.4)  # from hanging outwards
        along = np.array([-np.sin(angle), np.cos(angle)])
        middle, across = _SHOULDER + _SLEEVE * along, _CUFF * np.array([-along[1], along[0]])
        points[f'cuff_{side}_out'] = (middle + across) * (sign, 1)
        points[f'cuff_{side}_in'] = (middle - across) * (sign, 1)
    stretch = rng.normal(1, 0.1, 2)
    turn = rng.normal(0, 0.05)
    turned = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    scale, center = rng.uniform(50, 70), rng.uniform(185, 215, 2)
    return {
        name: np.floor(center + scale * turned @ (place * stretch + rng.normal(0, 0.02, 2))) + 0.5
        for name, place in points.items()
    }


def _mirrored(name: str) -> str:
    return name.replace('left', 'right')


def exchange(table: KeypointTable, row: int, *pairs: tuple[str, str]) -> KeypointTable:
    """Return the table with the points of these names exchanged in a picture."""
    keypoints, visibility = table.keypoints.copy(), table.visibility.copy()
    for names in pairs:
        a, b = map(SCHEMA.keypoints.index, names)
        keypoints[row, [a, b]] = keypoints[row, [b, a]]
        visibility[row, [a, b]] = visibility[row, [b, a]]
    return table._replace(keypoints=keypoints, visibility=visibility)
