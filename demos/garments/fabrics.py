"""Cloth, prints, skin and wood: small tiles that are spread over the parts of a picture."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import cv2
import numpy as np

from demos.garments.parts import ellipse, pick

TILE = 192  # px

CLOTH_COLORS = (
    (28, 28, 32),
    (58, 60, 66),
    (128, 130, 134),
    (196, 198, 200),
    (242, 240, 235),
    (226, 214, 190),
    (198, 160, 110),
    (120, 82, 54),
    (34, 46, 84),
    (62, 92, 140),
    (122, 162, 204),
    (40, 96, 92),
    (96, 112, 72),
    (60, 128, 84),
    (150, 192, 164),
    (134, 30, 48),
    (196, 44, 48),
    (226, 110, 84),
    (232, 164, 168),
    (208, 90, 140),
    (122, 84, 150),
    (190, 170, 212),
    (222, 176, 60),
    (240, 214, 130),
)
SKIN_COLORS = ((246, 214, 192), (234, 190, 160), (212, 160, 124), (166, 114, 82), (112, 74, 54))
HAIR_COLORS = ((30, 24, 22), (58, 38, 28), (96, 62, 38), (168, 122, 70), (120, 52, 34))
PRINTS = ('plain', 'stripes', 'checks', 'dots', 'gradient', 'floral', 'knit', 'heather', 'denim')
_PRINT_WEIGHTS = (30, 14, 10, 9, 7, 9, 8, 8, 5)


@dataclasses.dataclass(frozen=True)
class Material:
    """What a part is made of.

    Attributes:
        tile: uint8 [TILE, TILE, 3] RGB.
        repeat: Side of the tile, units.
        border: OpenCV's rule beyond the tile.
    """

    tile: np.ndarray
    repeat: float = 1.0
    border: int = cv2.BORDER_WRAP

    def spread(self, to_window: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        """Return the cloth over a window, uint8 [h, w, 3].

        Args:
            to_window: [2, 3] units along the grain -> painted px of the window.
            shape: (h, w).
        """
        per_unit = TILE / self.repeat
        to_tile = cv2.invertAffineTransform(to_window) * per_unit + [[0, 0, TILE / 2]] * 2
        return cv2.warpAffine(
            self.tile,
            to_tile,
            shape[::-1],
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=self.border,
        )

    def toned(self, factor: float) -> Material:
        """Return the same, lighter or darker."""
        return dataclasses.replace(self, tile=cv2.convertScaleAbs(self.tile, alpha=factor))


def plain(color: Sequence[float], rng: np.random.Generator, grain: float = 3.0) -> Material:
    """Return one color with a little grain."""
    return Material(_grained(_filled(color), rng, grain), 0.8)


def jittered(color: Sequence[float], rng: np.random.Generator, amount: float = 14) -> np.ndarray:
    """Return a color near the given one, float [3] in 0..255."""
    return np.clip(np.asarray(color, np.float64) + rng.uniform(-amount, amount, 3), 8, 250)


def contrasting(rng: np.random.Generator, color: np.ndarray, distance: float = 90) -> np.ndarray:
    """Return a cloth color that differs from the given one by at least about `distance`."""
    for _ in range(12):
        other = jittered(pick(rng, CLOTH_COLORS), rng)
        if np.abs(other - color).max() >= distance:
            return other
    return 255.0 - color


def draw_fabric(rng: np.random.Generator, color: np.ndarray) -> Material:
    """Return a fabric whose ground is `color`: plain or one of PRINTS."""
    kind = pick(rng, PRINTS, _PRINT_WEIGHTS)
    return _FABRICS[kind](rng, color)


def _filled(color: Sequence[float]) -> np.ndarray:
    return np.full((TILE, TILE, 3), np.round(color), np.uint8)


def _grained(tile: np.ndarray, rng: np.random.Generator, amount: float) -> np.ndarray:
    noise = rng.standard_normal((TILE, TILE, 1), np.float32) * amount
    return np.clip(tile + noise, 0, 255).astype(np.uint8)


def _second(rng: np.random.Generator, color: np.ndarray) -> np.ndarray:
    """Return the color of a print: mostly bold, at times tone in tone."""
    if rng.random() < 0.3:
        return np.clip(color * (1.25 if color.mean() < 110 else 0.75), 10, 245)
    return contrasting(rng, color)


def _plain_fabric(rng, color) -> Material:
    return plain(color, rng, rng.uniform(1, 6))


def _stripes(rng, color) -> Material:
    tile = _filled(color)
    count = int(pick(rng, (2, 3, 4, 6, 8)))
    period = TILE / count
    width = max(2, round(period * rng.uniform(0.15, 0.6)))
    second = tuple(_second(rng, color))
    vertical = rng.random() < 0.4
    for k in range(count):
        start = round(k * period)
        band = (slice(None), slice(start, start + width))
        tile[band if vertical else band[::-1]] = np.round(second)
    return Material(_grained(tile, rng, 3), rng.uniform(0.5, 1.1))


def _checks(rng, color) -> Material:
    tile = _filled(color).astype(np.float32)
    second = _second(rng, color).astype(np.float32)
    count = int(pick(rng, (2, 3, 4, 6)))
    share = rng.uniform(0.25, 0.55)
    band = (np.arange(TILE) * count / TILE) % 1 < share
    weight = 0.5 * (band[:, None].astype(np.float32) + band[None, :])
    tile += weight[..., None] * (second - tile)
    if rng.random() < 0.5:
        thin = np.abs((np.arange(TILE) * count / TILE + 0.5 - share / 2) % 1 - 0.5) < 0.03
        tile[thin | thin[:, None]] = contrasting(rng, color)
    return Material(_grained(tile, rng, 3), rng.uniform(0.5, 1.0))


def _dots(rng, color) -> Material:
    tile = _filled(color)
    count = int(pick(rng, (2, 4, 6)))
    period = TILE / count
    radius = round(period * rng.uniform(0.12, 0.3) * 64)
    second = _second(rng, color).tolist()
    for row in range(count):
        for column in range(count):
            x = (column + 0.25 + 0.5 * (row % 2)) * period
            center = (round(x * 64), round((row + 0.5) * period * 64))
            cv2.circle(tile, center, radius, second, -1, cv2.LINE_AA, 6)
    return Material(_grained(tile, rng, 3), rng.uniform(0.5, 1.0))


def _gradient(rng, color) -> Material:
    second = _second(rng, color)
    t = np.linspace(0, 1, TILE)[:, None, None]
    tile = np.broadcast_to(color + t * (second - color), (TILE, TILE, 3))
    return Material(_grained(tile, rng, 3), rng.uniform(1.8, 3.5), cv2.BORDER_REFLECT_101)


def _floral(rng, color) -> Material:
    tile = _filled(color)
    petals = [contrasting(rng, color, 70).tolist() for _ in range(2)]
    leaf = jittered((70, 120, 76), rng).tolist()
    grid = int(pick(rng, (3, 4, 5)))
    size = TILE / grid
    for cell in range(grid * grid):
        center = (np.array(divmod(cell, grid)) + rng.uniform(0.35, 0.65, 2)) * size
        _flower(tile, center, size * rng.uniform(0.22, 0.34), petals[cell % 2], leaf)
    return Material(_grained(tile, rng, 3), rng.uniform(0.6, 1.1))


def _flower(tile, center, radius, petal, leaf) -> None:
    for angle in np.linspace(0, 2 * np.pi, 5, endpoint=False) + radius:
        step = np.array([np.cos(angle), np.sin(angle)]) * radius
        shape = ellipse(center + step * 1.25, (radius * 0.5, radius * 0.2), angle)
        cv2.fillPoly(tile, [np.int32(shape)], leaf, cv2.LINE_AA)
        shape = ellipse(center + step * 0.6, (radius * 0.55, radius * 0.4), angle)
        cv2.fillPoly(tile, [np.int32(shape)], petal, cv2.LINE_AA)
    cv2.circle(tile, tuple(np.int32(center)), max(2, int(radius * 0.3)), (235, 205, 90), -1)


def _knit(rng, color) -> Material:
    count = int(pick(rng, (10, 14, 20)))
    x = np.arange(TILE) * count / TILE % 1
    rib = 0.8 + 0.25 * np.sin(np.pi * x)
    cable = 0.04 * np.sin(2 * np.pi * (np.arange(TILE)[:, None] * count * 1.5 / TILE + np.abs(x)))
    tile = np.clip(color * (rib + cable)[..., None], 0, 255)
    return Material(_grained(tile, rng, 5), rng.uniform(0.6, 1.0))


def _heather(rng, color) -> Material:
    noise = rng.standard_normal((TILE // 2, TILE // 2), np.float32)
    noise = cv2.resize(noise, (TILE, TILE)) * rng.uniform(8, 18)
    tile = np.clip(_filled(color) + noise[..., None], 0, 255)
    return Material(_grained(tile, rng, 5), rng.uniform(0.5, 0.9))


def _denim(rng, color) -> Material:
    blue = np.array([60, 86, 130]) * rng.uniform(0.6, 1.5)
    rows, columns = np.indices((TILE, TILE))
    twill = 1 + 0.07 * np.sign(np.sin(2 * np.pi * (rows + columns) * 24 / TILE))
    patch = cv2.resize(rng.standard_normal((6, 6), np.float32), (TILE, TILE)) * 0.05
    tile = np.clip(blue * (twill + patch)[..., None], 0, 250)
    return Material(_grained(tile, rng, 7), 0.9)


_FABRICS = {
    'plain': _plain_fabric,
    'stripes': _stripes,
    'checks': _checks,
    'dots': _dots,
    'gradient': _gradient,
    'floral': _floral,
    'knit': _knit,
    'heather': _heather,
    'denim': _denim,
}
