"""Painting parts into a picture, and telling which keypoints later parts cover.

Pictures are painted at SUPERSAMPLE times their size with hard edges and shrunk at the end: that
is anti-aliasing, and no mask needs blending. The same mapping carries outlines and keypoints.
"""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np

from demos.garments.fabrics import Material
from demos.garments.parts import Fold, Line, Part

SUPERSAMPLE = 2
SHADE_SCALE = 4  # Shading is soft, so it is worked out at this fraction of the painted resolution.
_SHIFT = 6  # Fractional bits of OpenCV's coordinates.
_COVER_MARGIN = 1.0  # A point counts as covered if this many px around it are covered too.


@dataclasses.dataclass(frozen=True)
class Placement:
    """How garment units become pixels: a gentle bend, then a matrix.

    Attributes:
        matrix: [2, 3] units -> continuous px of the picture.
        lean: Sideways shift that grows with height, units per unit squared.
        turn: Sideways shift of the middle against the sides, as of a body turned a little, units.
        waves: [N, 4] (amplitude, frequency, phase, axis): sideways (0) or vertical (1) waves.
    """

    matrix: np.ndarray
    lean: float = 0.0
    turn: float = 0.0
    waves: tuple[tuple[float, float, float, int], ...] = ()

    @property
    def scale(self) -> float:
        """px per unit."""
        return float(np.sqrt(abs(np.linalg.det(self.matrix[:, :2]))))

    def bend(self, points: np.ndarray) -> np.ndarray:
        """Return [..., 2] units -> bent units."""
        x, y = points[..., 0], points[..., 1]
        dx = self.lean * y * y + self.turn * np.exp(-2 * x * x)
        dy = np.zeros_like(y)
        for amplitude, frequency, phase, axis in self.waves:
            if axis == 0:
                dx = dx + amplitude * np.sin(frequency * y + phase)
            else:
                dy = dy + amplitude * np.sin(frequency * x + phase)
        return np.stack([x + dx, y + dy], axis=-1)

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Return [..., 2] units -> continuous px."""
        return self.bend(np.asarray(points, np.float64)) @ self.matrix[:, :2].T + self.matrix[:, 2]


class Canvas:
    """A picture in the making.

    Args:
        background: uint8 [SUPERSAMPLE * height, SUPERSAMPLE * width, 3] RGB; painted over.
        materials: Name -> what parts are made of.
        light: [2] direction the light comes from, picture axes.
    """

    def __init__(self, background, placement: Placement, materials, light=(-0.5, -0.8)):
        self.image = background
        self.placement = placement
        self.materials: dict[str, Material] = materials
        self.light = light
        self.points: dict[str, np.ndarray] = {}  # keypoint -> [2] continuous px
        self.covered: set[str] = set()

    def paint(self, part: Part) -> None:
        """Paint a part; keypoints below it that it hides become covered."""
        outline = self.placement(part.outline)
        window = self._window(outline)
        if window is not None:
            mask = _polygon_mask(outline, window)
            x0, y0, x1, y1 = window
            cloth = self._cloth(part, mask, window)
            cv2.copyTo(cloth, mask, self.image[y0:y1, x0:x1])
            if part.occludes:
                self._cover(mask, window)
        for line in part.lines:
            self.draw_line(line)
        for name, point in part.points.items():
            self.points[name] = self.placement(point)
            self.covered.discard(name)

    def draw_line(self, line: Line) -> None:
        """Darken or lightens what lies along a line."""
        course = self.placement(line.points)
        width = max(line.width * self.placement.scale, 0.4)
        window = self._window(course, margin=width)
        if window is None:
            return
        x0, y0, x1, y1 = window
        mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
        thickness = max(1, round(width * SUPERSAMPLE))
        cv2.polylines(mask, [_fixed(course, window)], False, 255, thickness, cv2.LINE_8, _SHIFT)
        here = self.image[y0:y1, x0:x1]
        cv2.copyTo(cv2.convertScaleAbs(here, alpha=line.tone), mask, here)

    def cast_shadow(self, parts, offset, softness: float, depth: float) -> None:
        """Darken the picture where the parts' shadow falls.

        Args:
            offset: [2] px of the picture.
            softness: Blur, px.
            depth: 0 no shadow, 1 black.
        """
        height, width = (size // SHADE_SCALE for size in self.image.shape[:2])
        mask = np.zeros((height, width), np.float32)
        for part in parts:
            outline = (self.placement(part.outline) + offset) * SUPERSAMPLE / SHADE_SCALE
            cv2.fillPoly(mask, [np.round(outline).astype(np.int32)], 1.0)
        sigma = max(softness * SUPERSAMPLE / SHADE_SCALE, 0.5)
        factor = 255 * (1 - depth * cv2.GaussianBlur(mask, (0, 0), sigma))
        self.image = _multiplied(self.image, factor.astype(np.uint8), 255)

    def finish(self) -> np.ndarray:
        """Return the picture at its own size, uint8 [height, width, 3]."""
        height, width = (size // SUPERSAMPLE for size in self.image.shape[:2])
        return cv2.resize(self.image, (width, height), interpolation=cv2.INTER_AREA)

    def _window(self, points: np.ndarray, margin: float = 1.0) -> tuple[int, int, int, int] | None:
        """Return the bounding box (x0, y0, x1, y1) in painted px, within the picture; None if
        outside.
        """
        height, width = self.image.shape[:2]
        low = np.floor((points.min(axis=0) - margin) * SUPERSAMPLE).astype(int)
        high = np.ceil((points.max(axis=0) + margin) * SUPERSAMPLE).astype(int)
        x0, y0 = np.maximum(low, 0)
        x1, y1 = np.minimum(high, (width, height))
        return (int(x0), int(y0), int(x1), int(y1)) if x0 < x1 and y0 < y1 else None

    def _cloth(self, part: Part, mask: np.ndarray, window) -> np.ndarray:
        """Return the material as it lies in the window, shaded; uint8 [h, w, 3]."""
        material = self.materials[part.material]
        c, s = np.cos(part.angle), np.sin(part.angle)
        units = self.placement.matrix[:, :2] @ np.array([[c, -s], [s, c]])
        anchor = self.placement(part.outline.mean(axis=0))
        to_window = np.hstack([units, anchor[:, None]]) * SUPERSAMPLE
        to_window[:, 2] -= window[:2]
        flat = material.spread(to_window, mask.shape)
        if not (part.relief or part.folds):
            return flat
        shade = self._shade(part, mask, window)
        return _multiplied(flat, shade, 128)

    def _shade(self, part: Part, mask: np.ndarray, window) -> np.ndarray:
        """Return brightness within the window, 128 = unchanged; uint8, coarse."""
        size = tuple(max(1, -(-length // SHADE_SCALE)) for length in mask.shape[::-1])
        coarse = cv2.resize(mask, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
        unit = self.placement.scale * SUPERSAMPLE / SHADE_SCALE
        pad = int(0.2 * unit) + 1
        padded = cv2.copyMakeBorder(coarse, pad, pad, pad, pad, cv2.BORDER_REPLICATE)
        body = cv2.GaussianBlur(padded, (0, 0), max(0.09 * unit, 0.6))[pad:-pad, pad:-pad]
        slope = cv2.Sobel(body, cv2.CV_32F, 1, 0) * self.light[0]
        slope += cv2.Sobel(body, cv2.CV_32F, 0, 1) * self.light[1]
        bright = 0.8 + 0.22 * body - 0.12 * unit / 8 * slope
        shade = 1 + part.relief * (bright - 1)
        for fold in part.folds:
            shade += self._fold(fold, shade.shape, window, unit)
        return np.clip(128 * shade, 0, 255).astype(np.uint8)

    def _fold(self, fold: Fold, shape, window, unit: float) -> np.ndarray:
        ridge = np.zeros(shape, np.float32)
        course = self.placement(fold.points) * SUPERSAMPLE - window[:2]
        course = np.round(course / SHADE_SCALE).astype(np.int32)
        sigma = max(fold.width * unit * 0.5, 0.5)
        cv2.polylines(ridge, [course], False, fold.depth, max(1, round(fold.width * unit)))
        return cv2.GaussianBlur(ridge, (0, 0), sigma)

    def _cover(self, mask: np.ndarray, window) -> None:
        around = _COVER_MARGIN * np.array([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]])
        for name, point in self.points.items():
            at = np.floor((point + around) * SUPERSAMPLE).astype(int) - window[:2]
            inside = ((at >= 0) & (at < mask.shape[::-1])).all(axis=1)
            if inside.all() and mask[at[:, 1], at[:, 0]].all():
                self.covered.add(name)


def _fixed(points: np.ndarray, window) -> np.ndarray:
    """Return continuous px -> OpenCV's fixed-point indices, whose whole numbers are
    pixel centers.
    """
    return np.round((points * SUPERSAMPLE - 0.5 - window[:2]) * (1 << _SHIFT)).astype(np.int32)


def _polygon_mask(outline: np.ndarray, window) -> np.ndarray:
    mask = np.zeros((window[3] - window[1], window[2] - window[0]), np.uint8)
    cv2.fillPoly(mask, [_fixed(outline, window)], 255, cv2.LINE_8, _SHIFT)
    return mask


def _multiplied(image: np.ndarray, factor: np.ndarray, one: int) -> np.ndarray:
    """Return image * factor / one, the coarse factor stretched over the image."""
    factor = cv2.resize(factor, image.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    return cv2.multiply(image, cv2.merge([factor] * 3), scale=1 / one)
