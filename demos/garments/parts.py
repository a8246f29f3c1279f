"""What a picture is made of: parts with outlines, folds, seams and keypoints, and their curves.

Everything is in garment units: x to the right, y down, the origin between the two points whose
distance is the garment's width (the armpits of a top, the ends of a waistband), that width being 1.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Fold:
    """A crease that light falls on.

    Attributes:
        points: [N, 2] its course, units.
        depth: Change of brightness as a fraction; negative is a shadow.
        width: Units.
    """

    points: np.ndarray
    depth: float
    width: float = 0.05


@dataclasses.dataclass(frozen=True)
class Line:
    """A seam, a stitch or an edge.

    Attributes:
        points: [N, 2] its course, units.
        width: Units.
        tone: Factor on the brightness of what lies below; below 1 is darker.
    """

    points: np.ndarray
    width: float = 0.015
    tone: float = 0.62


@dataclasses.dataclass(frozen=True)
class Part:
    """One piece that is painted over whatever was painted before.

    Attributes:
        outline: [N, 2] polygon, units.
        material: Name of what it is made of.
        angle: Direction of the cloth's grain, radians; 0 hangs straight down.
        folds: Shading within the outline.
        lines: Drawn on top.
        points: Keypoint -> (x, y) that are true once this part is painted, units.
        occludes: Whether it hides the keypoints below it (a belt or a collar does not).
        relief: How rounded its shading is; 0 is flat.
    """

    outline: np.ndarray
    material: str
    angle: float = 0.0
    folds: tuple[Fold, ...] = ()
    lines: tuple[Line, ...] = ()
    points: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    occludes: bool = True
    relief: float = 1.0


@dataclasses.dataclass(frozen=True)
class Limb:
    """An arm or a leg: two straight bones.

    Attributes:
        joint: [2] where it begins (shoulder or hip), units.
        bend: [2] elbow or knee, units.
        tip: [2] wrist or ankle, units.
    """

    joint: np.ndarray
    bend: np.ndarray
    tip: np.ndarray

    def at(self, length: float) -> tuple[np.ndarray, np.ndarray]:
        """Return the point `length` units along the limb and the unit direction there."""
        first = float(np.hypot(*(self.bend - self.joint)))
        if length <= first:
            direction = (self.bend - self.joint) / first
            return self.joint + length * direction, direction
        direction = (self.tip - self.bend) / np.hypot(*(self.tip - self.bend))
        return self.bend + (length - first) * direction, direction


@dataclasses.dataclass(frozen=True)
class Garment:
    """A piece of clothing, ready to be worn, hung or laid.

    Attributes:
        back: Parts behind the wearer's neck or body, such as the inside of a collar.
        front: Parts over the body, in painting order.
        limbs: For each side the parts over that arm, painted after the arm; empty if sleeveless.
        arms: The wearer's arms (left, right); of a lower garment its legs.
        hidden: Keypoints that the garment's own pose hides.
        hem: y of the lower edge, units.
        sleeve_length: Along the arm, units; 0 without sleeves.
    """

    back: tuple[Part, ...]
    front: tuple[Part, ...]
    limbs: tuple[tuple[Part, ...], tuple[Part, ...]]
    arms: tuple[Limb, Limb]
    hidden: frozenset[str]
    hem: float
    sleeve_length: float = 0.0

    @property
    def parts(self) -> tuple[Part, ...]:
        return (*self.back, *self.front, *self.limbs[0], *self.limbs[1])


def pick(rng: np.random.Generator, options: Sequence, weights: Sequence[float] | None = None):
    """Return one of the options, with probability in proportion to its weight."""
    if weights is None:
        return options[int(rng.integers(len(options)))]
    cumulative = np.cumsum(weights)
    return options[int(np.searchsorted(cumulative, rng.random() * cumulative[-1], side='right'))]


def xy(*coordinates: float) -> np.ndarray:
    """Return [N, 2] from x, y, x, y, ...; [2] from one pair."""
    points = np.array(coordinates, np.float64).reshape(-1, 2)
    return points[0] if len(points) == 1 else points


def mirror(points: np.ndarray) -> np.ndarray:
    """Return the same on the other side of the garment."""
    return points * (-1.0, 1.0)


def heading(angle: float) -> np.ndarray:
    """Return unit vector of a left limb at `angle` radians from straight down, outwards."""
    return np.array([-np.sin(angle), np.cos(angle)])


def spline(points: np.ndarray, samples: int = 8) -> np.ndarray:
    """Return a smooth curve through the points: Catmull-Rom, ends included, [(N - 1) * samples + 1,
    2].
    """
    points = np.asarray(points, np.float64)
    ends = 2 * points[[0, -1]] - points[[1, -2]]
    knots = np.vstack([ends[:1], points, ends[1:]])
    a, b, c, d = (knots[k : len(knots) - 3 + k, None] for k in range(4))
    t = np.linspace(0, 1, samples, endpoint=False)[None, :, None]
    pieces = 0.5 * (
        2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * (b - c) + d - a) * t**3
    )
    return np.vstack([pieces.reshape(-1, 2), points[-1:]])


def arc(start: np.ndarray, end: np.ndarray, bulge: float, samples: int = 10) -> np.ndarray:
    """Return a parabola from start to end, `bulge` units off the chord to its left (y
    points down).
    """
    t = np.linspace(0, 1, samples)[:, None]
    chord = end - start
    normal = np.array([chord[1], -chord[0]]) / max(float(np.hypot(*chord)), 1e-9)
    return start + t * chord + 4 * t * (1 - t) * bulge * normal


def strip(course: np.ndarray, widths: Sequence[float]) -> np.ndarray:
    """Return the outline of a band along a course; widths are interpolated from start to end,
    units.
    """
    course = np.asarray(course, np.float64)
    along = np.gradient(course, axis=0)
    along /= np.maximum(np.hypot(along[:, 0], along[:, 1]), 1e-9)[:, None]
    normal = np.stack([along[:, 1], -along[:, 0]], axis=1)
    at = np.linspace(0, 1, len(course))
    half = np.interp(at, np.linspace(0, 1, len(widths)), widths)[:, None] / 2
    return np.vstack([course + half * normal, (course - half * normal)[::-1]])


def ellipse(center: Sequence[float], radii: Sequence[float], angle: float = 0.0) -> np.ndarray:
    """Return the outline of an ellipse, turned by `angle` radians, [24, 2]."""
    t = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    x, y = radii[0] * np.cos(t), radii[1] * np.sin(t)
    c, s = np.cos(angle), np.sin(angle)
    return np.stack([center[0] + c * x - s * y, center[1] + s * x + c * y], axis=1)


def box(x_min: float, y_min: float, x_max: float, y_max: float) -> np.ndarray:
    """Return the outline of an upright rectangle, [4, 2]."""
    return xy(x_min, y_min, x_max, y_min, x_max, y_max, x_min, y_max)
