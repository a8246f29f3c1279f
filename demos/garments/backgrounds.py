"""What is behind the garment: studios, walls, floors, rooms, streets."""

from __future__ import annotations

import cv2
import numpy as np

from demos.garments.fabrics import jittered
from demos.garments.parts import ellipse, pick

_KINDS = ('studio', 'gradient', 'room', 'planks', 'plaster', 'street', 'shapes')
_WEIGHTS = (30, 14, 18, 12, 12, 8, 6)
_FLAT_WEIGHTS = (24, 12, 0, 34, 24, 0, 6)
_WALLS = (
    (238, 238, 238),
    (226, 220, 212),
    (206, 212, 218),
    (188, 178, 166),
    (214, 196, 190),
    (160, 170, 176),
    (120, 124, 130),
    (196, 206, 190),
    (88, 84, 84),
)
_WOODS = ((196, 160, 120), (150, 112, 78), (104, 78, 58), (220, 200, 172))
_ACCENTS = (
    (70, 96, 120),
    (180, 84, 70),
    (90, 120, 90),
    (210, 176, 90),
    (60, 60, 66),
    (236, 230, 220),
)


def draw_wall(rng: np.random.Generator) -> np.ndarray:
    """Return the main color of a background, float [3] RGB."""
    return jittered(pick(rng, _WALLS), rng, 12)


def draw_background(rng: np.random.Generator, shape, wall: np.ndarray, flat: bool) -> np.ndarray:
    """Return a background of the given size.

    Args:
        shape: (height, width), px.
        wall: [3] its main color.
        flat: Whether it is seen from above, as below clothes laid out.

    Returns:
        uint8 [height, width, 3] RGB.
    """
    kind = pick(rng, _KINDS, _FLAT_WEIGHTS if flat else _WEIGHTS)
    # Soft things are painted small: the size of the picture must not change what is drawn.
    height, width = shape
    scale = 256 / max(shape)
    small = (max(8, round(height * scale)), max(8, round(width * scale)))
    picture = _PAINTERS[kind](rng, small, wall)
    if flat and rng.random() < 0.4:
        _scatter(picture, rng)
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_CUBIC)


def _filled(shape, color) -> np.ndarray:
    return np.full((*shape, 3), np.clip(np.round(color), 0, 255), np.uint8)


def _noisy(rng, shape, cells: int, amount: float) -> np.ndarray:
    """Return smooth noise, float32 [h, w, 1], of about `cells` bumps across."""
    field = rng.standard_normal((cells, cells), np.float32) * amount
    return cv2.resize(field, shape[::-1], interpolation=cv2.INTER_CUBIC)[..., None]


def _studio(rng, shape, wall) -> np.ndarray:
    """Return an even backdrop that is brighter in the middle, at times with a floor."""
    h, w = shape
    y, x = np.mgrid[0:h, 0:w].astype(np.float32)
    cx, cy = w * rng.uniform(0.3, 0.7), h * rng.uniform(0.2, 0.6)
    far = np.hypot((x - cx) / w, (y - cy) / h)[..., None]
    picture = wall * (1.04 - rng.uniform(0.05, 0.35) * far)
    if rng.random() < 0.4:
        start = h * rng.uniform(0.72, 0.9)
        ramp = np.clip((y - start) / (0.06 * h), 0, 1)[..., None]
        picture *= 1 - 0.1 * ramp
    return np.clip(picture, 0, 255).astype(np.uint8)


def _gradient(rng, shape, wall) -> np.ndarray:
    h, w = shape
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[0 : 1 : h * 1j, 0 : 1 : w * 1j]
    t = ((x - 0.5) * np.cos(angle) + (y - 0.5) * np.sin(angle) + 0.7) / 1.4
    other = wall * rng.uniform(0.5, 0.9) + rng.uniform(0, 30, 3)
    return np.clip(wall + t[..., None] * (other - wall), 0, 255).astype(np.uint8)


def _plaster(rng, shape, wall) -> np.ndarray:
    """Return plaster, carpet or linen: noise of several sizes."""
    amount = rng.uniform(3, 10)
    field = sum(_noisy(rng, shape, cells, amount) for cells in (5, 24, 110))
    return np.clip(wall + field, 0, 255).astype(np.uint8)


def _planks(rng, shape, wall) -> np.ndarray:
    """Return a wooden floor or a tiled wall."""
    h, w = shape
    wood = jittered(pick(rng, _WOODS), rng)
    picture = np.empty((h, w, 3), np.float32)
    upright = rng.random() < 0.5
    length = w if upright else h
    edges = np.linspace(0, length, int(rng.integers(5, 10))).astype(int)
    for a, b in zip(edges[:-1], edges[1:]):
        tone = wood * rng.uniform(0.88, 1.08)
        if upright:
            picture[:, a:b] = tone
            picture[:, a] = wood * 0.6
        else:
            picture[a:b] = tone
            picture[a] = wood * 0.6
    grain = rng.standard_normal((256, 20) if not upright else (20, 256), np.float32) * 7
    grain = cv2.resize(grain, (w, h), interpolation=cv2.INTER_CUBIC)
    return np.clip(picture + grain[..., None], 0, 255).astype(np.uint8)


def _room(rng, shape, wall) -> np.ndarray:
    """Return a wall and a floor with furniture, frames and a plant."""
    h, w = shape
    picture = _filled(shape, wall)
    floor_y = int(h * rng.uniform(0.76, 0.9))
    floor = jittered(pick(rng, _WOODS), rng)
    picture[floor_y:] = np.clip(floor, 0, 255).astype(np.uint8)
    picture[floor_y : floor_y + 4] = np.clip(wall * 0.8, 0, 255).astype(np.uint8)
    for side in (0, 1):
        thing = pick(rng, ('frame', 'shelf', 'cabinet', 'curtain', 'plant', 'none'))
        center = w * (rng.uniform(0.02, 0.2) if side == 0 else rng.uniform(0.8, 0.98))
        _furnish(picture, thing, (int(center), floor_y), rng)
    return cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.6, 2.2))


def _furnish(picture, thing: str, place: tuple[int, int], rng: np.random.Generator) -> None:
    h, w = picture.shape[:2]
    x, floor_y = place
    color = jittered(pick(rng, _ACCENTS + _WOODS), rng)
    half = int(w * rng.uniform(0.08, 0.16))
    if thing == 'frame':
        y = int(h * rng.uniform(0.08, 0.3))
        _box(picture, (x - half, y, x + half, y + int(2.2 * half)), color * 0.5)
        _box(picture, (x - half + 4, y + 4, x + half - 4, y + int(2.2 * half) - 4), color + 70)
    elif thing == 'shelf':
        for y in (0.2, 0.4, 0.6):
            for k in range(-half, half - 4, 7):
                tall = int(rng.integers(10, 24))
                book = jittered(pick(rng, _ACCENTS), rng, 30)
                _box(picture, (x + k, int(h * y) - tall, x + k + 5, int(h * y)), book)
            _box(picture, (x - half, int(h * y), x + half, int(h * y) + 4), color)
    elif thing == 'cabinet':
        top = floor_y - int(h * rng.uniform(0.2, 0.4))
        _box(picture, (x - half, top, x + half, floor_y + 8), color)
        _box(picture, (x - half + 4, top + 5, x + half - 4, (top + floor_y) // 2), color * 0.88)
        _box(picture, (x - half + 4, (top + floor_y) // 2 + 4, x + half - 4, floor_y), color * 0.88)
    elif thing == 'curtain':
        t = np.arange(max(0, x - half), min(w, x + half))
        folds = 0.85 + 0.15 * np.sin(t * rng.uniform(0.3, 0.6))
        picture[:floor_y, t] = np.clip(color * folds[:, None] + 30, 0, 255).astype(np.uint8)
    elif thing == 'plant':
        _plant(picture, (x, floor_y), rng)


def _plant(picture, place, rng) -> None:
    x, y = place
    green = jittered((76, 120, 72), rng)
    for angle in np.linspace(-1.2, 1.2, 9):
        tip = np.array([x + 40 * np.sin(angle), y - 30 - 55 * np.cos(angle)])
        middle = (tip + (x, y - 24)) / 2
        leaf = ellipse(middle, (30, 6), np.arctan2(tip[1] - y + 24, tip[0] - x))
        cv2.fillPoly(picture, [np.int32(leaf)], (green * rng.uniform(0.8, 1.2)).tolist())
    _box(picture, (x - 13, y - 28, x + 13, y + 4), np.array([170, 110, 84]))


def _street(rng, shape, wall) -> np.ndarray:
    """Return a far street out of focus."""
    h, w = shape
    picture = _gradient(rng, shape, wall)
    x = 0
    while x < w:
        wide = int(rng.integers(18, 60))
        top = int(h * rng.uniform(0.05, 0.5))
        color = jittered(pick(rng, _ACCENTS + _WALLS), rng, 25)
        _box(picture, (x, top, x + wide, int(h * 0.85)), 0.5 * color + 0.5 * wall)
        for y in range(top + 8, int(h * 0.75), 16):
            _box(picture, (x + 5, y, x + wide - 5, y + 6), color + 45)
        x += wide
    _box(picture, (0, int(h * 0.82), w, h), wall * 0.7)
    return cv2.GaussianBlur(picture, (0, 0), rng.uniform(2.5, 5))


def _shapes(rng, shape, wall) -> np.ndarray:
    """Return large plain shapes, as on a poster."""
    h, w = shape
    picture = _filled(shape, wall)
    for _ in range(int(rng.integers(3, 7))):
        color = np.clip(0.6 * wall + 0.4 * jittered(pick(rng, _ACCENTS), rng), 0, 255)
        center = rng.uniform(0, 1, 2) * (w, h)
        if rng.random() < 0.5:
            shape_ = ellipse(center, rng.uniform(0.08, 0.3, 2) * w, rng.uniform(0, 3))
        else:
            corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * rng.uniform(0.1, 0.4, 2)
            shape_ = center + corners * w * 0.6
        cv2.fillPoly(picture, [np.int32(shape_)], color.tolist(), cv2.LINE_AA)
    return picture


def _scatter(picture: np.ndarray, rng: np.random.Generator) -> None:
    """Draw a few small things near the corners: a cup, a book, a phone."""
    h, w = picture.shape[:2]
    for _ in range(int(rng.integers(1, 4))):
        corner = np.array([pick(rng, (0.08, 0.92)) * w, pick(rng, (0.1, 0.9)) * h])
        center = corner + rng.uniform(-0.04, 0.04, 2) * w
        color = jittered(pick(rng, _ACCENTS), rng)
        size, angle = rng.uniform(0.05, 0.1) * w, rng.uniform(0, 3)
        if rng.random() < 0.5:
            inner = np.clip(color * 0.7 + 60, 0, 255)
            for radius, tone in ((size, color), (size * 0.7, inner)):
                disc = np.int32(ellipse(center, (radius, radius)))
                cv2.fillPoly(picture, [disc], tone.tolist(), cv2.LINE_AA)
        else:
            turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
            corners = np.array([[-1, -1.5], [1, -1.5], [1, 1.5], [-1, 1.5]]) * size @ turn.T
            cv2.fillPoly(picture, [np.int32(center + corners)], color.tolist(), cv2.LINE_AA)


def _box(picture: np.ndarray, corners, color) -> None:
    x0, y0, x1, y1 = (max(0, int(value)) for value in corners)
    picture[y0:y1, x0:x1] = np.clip(np.round(color), 0, 255).astype(np.uint8)


_PAINTERS = {
    'studio': _studio,
    'gradient': _gradient,
    'room': _room,
    'planks': _planks,
    'plaster': _plaster,
    'street': _street,
    'shapes': _shapes,
}
