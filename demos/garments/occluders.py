"""Things in front of a garment that hide some of its keypoints."""

from __future__ import annotations

import numpy as np

from demos.garments.parts import Line, Part, arc, ellipse, pick, spline, strip, xy


def draw_occluder(rng: np.random.Generator, points: dict[str, np.ndarray]) -> list[Part]:
    """Return a random object over one of the points.

    Args:
        points: Keypoint -> [2], units.

    Returns:
        Its parts, in painting order.
    """
    target = points[pick(rng, sorted(points))] + rng.normal(0, 0.04, 2)
    return pick(rng, (_bag, _card, _arm, _bouquet), (36, 22, 26, 16))(rng, target)


def _bag(rng: np.random.Generator, target: np.ndarray) -> list[Part]:
    """Return a handbag with its handle."""
    half = np.array([rng.uniform(0.16, 0.26), rng.uniform(0.13, 0.2)])
    corners = np.array([[-0.85, -1], [0.85, -1], [1, 0.9], [0.9, 1], [-0.9, 1], [-1, 0.9]])
    body = target + corners * half
    rise = rng.uniform(0.25, 0.5)
    handle = spline([body[0] + (0.06, 0), target - (0, half[1] + rise), body[1] - (0.06, 0)])
    flap = arc(
        target + (-half[0] * 0.9, -half[1] * 0.1), target + (half[0] * 0.9, -half[1] * 0.1), -0.08
    )
    clasp = Part(ellipse(target + (0, half[1] * 0.25), (0.03, 0.03)), 'metal', relief=0.0)
    return [
        Part(strip(handle, (0.035, 0.035)), 'leather', relief=0.3),
        Part(body, 'leather', lines=(Line(flap, 0.016, 0.55),)),
        clasp,
    ]


def _card(rng: np.random.Generator, target: np.ndarray) -> list[Part]:
    """Return a box, a phone or a price tag."""
    half = np.array([rng.uniform(0.09, 0.22), rng.uniform(0.1, 0.24)])
    angle = rng.uniform(-0.6, 0.6)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half
    inner = corners * 0.78 @ turn.T + target
    edge = Line(np.vstack([inner, inner[:1]]), 0.014, 0.75)
    return [Part(corners @ turn.T + target, 'card', lines=(edge,), relief=0.2)]


def _arm(rng: np.random.Generator, target: np.ndarray) -> list[Part]:
    """Return somebody's arm that reaches in from the side, or the wearer's across the garment."""
    sign = 1.0 if target[0] >= 0 else -1.0
    start = target + (sign * rng.uniform(1.6, 2.2), rng.uniform(-0.3, 0.9))
    bend = (start + target) / 2 + (0, rng.uniform(-0.05, 0.25))
    end = target - sign * xy(0.14, 0.0)
    course = spline([start, bend, target + (sign * 0.16, 0.02), end], 6)
    reach = int(len(course) * 0.62)
    return [
        Part(strip(course, (0.3, 0.24, 0.19, 0.22, 0.08)), 'skin', relief=0.8),
        Part(strip(course[:reach], (0.36, 0.3)), 'card', relief=0.8),
    ]


def _bouquet(rng: np.random.Generator, target: np.ndarray) -> list[Part]:
    """Return flowers with leaves."""
    parts = []
    for angle in rng.uniform(0, 2 * np.pi, 7):
        step = np.array([np.cos(angle), np.sin(angle)])
        parts.append(Part(ellipse(target + 0.15 * step, (0.17, 0.05), angle), 'leaf', relief=0.3))
    for _ in range(6):
        at = target + rng.normal(0, 0.07, 2)
        parts.append(
            Part(ellipse(at, rng.uniform(0.06, 0.1, 2)), pick(rng, ('card', 'trim')), relief=0.6)
        )
    return parts
