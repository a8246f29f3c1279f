"""Skirts and trousers."""

from __future__ import annotations

import dataclasses

import numpy as np

from demos.garments import sleeves
from demos.garments.parts import (
    Fold,
    Garment,
    Limb,
    Line,
    Part,
    arc,
    box,
    heading,
    mirror,
    pick,
    spline,
    strip,
    xy,
)

WAIST = xy(-0.5, 0.0)
HIP_JOINT = xy(-0.3, 0.55)
THIGH = 1.45  # units, a unit being the width of the waistband
SHIN = 1.45


def build(category: str, rng: np.random.Generator, worn: bool) -> Garment:
    """Return a random skirt or trousers.

    Args:
        category: 'skirt' or 'trousers'.
    """
    spread = (-2, 10) if worn else (0, 9)
    legs = _draw_legs(rng, spread)
    if category == 'skirt':
        front, hem = _skirt(rng)
    else:
        front, hem = _trousers(legs, rng)
    return Garment(_waist_inside(), tuple(front), ((), ()), legs, frozenset(), hem)


def _draw_legs(rng: np.random.Generator, spread: tuple[float, float]) -> tuple[Limb, Limb]:
    legs = []
    for _ in range(2):
        angle = np.radians(rng.uniform(*spread))
        knee = HIP_JOINT + THIGH * heading(angle)
        legs.append(Limb(HIP_JOINT, knee, knee + SHIN * heading(angle + rng.normal() * 0.06)))
    return legs[0], sleeves.mirrored_arm(legs[1])


def _waist_inside() -> tuple[Part, ...]:
    back = arc(WAIST, mirror(WAIST), 0.035, 10)
    front = arc(mirror(WAIST), WAIST, 0.03, 10)
    return (Part(np.vstack([back, front]), 'inside', relief=0.3),)


def _waist_edge() -> np.ndarray:
    """Return upper front edge from left to right: a waistband sags a little in the middle."""
    return arc(WAIST, mirror(WAIST), -0.03, 12)


def _waistband(rng: np.random.Generator, loops: bool) -> list[Part]:
    """Return the band, and at times a belt with its buckle; it ends in the waistband points."""
    height = rng.uniform(0.08, 0.15)
    top = _waist_edge()
    low = top + (0, height)
    low[:, 0] *= 1.03
    material = pick(rng, ('main', 'trim', 'belt'), (50, 22, 28))
    lines = [Line(low, 0.018, 0.55)]
    if loops and material == 'main':
        for x in (-0.36, -0.14, 0.14, 0.36):
            lines.append(Line(xy(x, 0.0, x, height + 0.06), 0.025, 0.7))
    band = Part(
        np.vstack([top, low[::-1]]), material, lines=tuple(lines), occludes=False, relief=0.4
    )
    middle = xy(0.0, 0.03 + height / 2)
    if material == 'belt':
        outer = box(-0.07, -0.06, 0.07, 0.06) + middle
        buckle = Line(np.vstack([outer, outer[:1]]), 0.025, 2.2)
        return [dataclasses.replace(band, lines=(*lines, buckle))]
    button = Part(
        strip([middle - (0.02, 0), middle + (0.02, 0)], (0.05, 0.05)),
        'button',
        occludes=False,
        relief=0.0,
    )
    return [band, button] if loops else [band]


# Kind -> ranges of: length, half width of the hem at that length, sag of the hem.
_SKIRTS = {
    'pencil': ((1.2, 2.0), (0.56, 0.7), (0.0, 0.05)),
    'a-line': ((0.95, 2.2), (0.8, 1.15), (0.04, 0.14)),
    'flared': ((0.95, 1.9), (1.1, 1.6), (0.12, 0.28)),
    'pleated': ((1.0, 2.4), (0.85, 1.3), (0.04, 0.14)),
    'maxi': ((2.5, 3.2), (0.9, 1.5), (0.04, 0.18)),
}


def _skirt(rng: np.random.Generator) -> tuple[list[Part], float]:
    kind = pick(rng, list(_SKIRTS), (26, 28, 14, 20, 12))
    length, half, sag = (rng.uniform(*span) for span in _SKIRTS[kind])
    corner = xy(-half, length)
    hip_y = min(0.62, length * 0.5)
    hip_x = 0.6 + 0.03 * rng.random() if kind == 'pencil' else 0.5 + (half - 0.5) * 0.42 + 0.06
    knots = [WAIST, xy(-(0.5 + (hip_x - 0.5) * 0.62), hip_y * 0.5), xy(-hip_x, hip_y), corner]
    side = spline(knots)
    hem = _skirt_hem(kind, corner, sag, rng)
    outline = np.vstack([side, hem[1:-1], mirror(side)[::-1], _waist_edge()[::-1][1:-1]])
    points = {'waistband_left': WAIST, 'hemline_left': corner}
    points.update({n.replace('left', 'right'): mirror(p) for n, p in points.items()})
    lines = [Line(hem - (0, 0.06), 0.012, 0.75)]
    if rng.random() < 0.15 and kind != 'pencil':
        lines += [Line(_across(side, hem, t), 0.03, 0.6) for t in (0.4, 0.7)]
    if kind == 'pencil' and rng.random() < 0.5:
        x = rng.uniform(0.1, 0.4)
        lines.append(Line(xy(x, length * 0.7, x, length), 0.025, 0.45))
    skirt = Part(
        outline,
        'main',
        folds=_skirt_folds(kind, corner, sag, rng),
        lines=tuple(lines),
        points=points,
    )
    return [skirt, *_waistband(rng, loops=kind == 'pencil')], length


def _across(side: np.ndarray, hem: np.ndarray, share: float) -> np.ndarray:
    """Return a seam from side to side at a share of the height, sagging like the hem."""
    at = side[round(share * (len(side) - 1))]
    course = hem * (at[0] / hem[0, 0], 1.0)
    return course - (0, hem[0, 1] - at[1])


def _skirt_hem(kind: str, corner, sag: float, rng: np.random.Generator) -> np.ndarray:
    """Return lower edge from corner to corner; full skirts wave."""
    hem = arc(corner, mirror(corner), -sag, 49)
    if kind in ('flared', 'pleated', 'maxi'):
        t = np.linspace(0, 1, 49)
        waves = int(rng.integers(4, 8)) if kind != 'pleated' else 12
        height = 0.035 if kind != 'pleated' else 0.018
        hem[:, 1] += height * np.sin(np.pi * waves * t) ** 2 * np.sin(np.pi * t) ** 0.5
    return hem


def _skirt_folds(kind: str, corner, sag: float, rng: np.random.Generator) -> tuple[Fold, ...]:
    count = {'pencil': 3, 'a-line': 6, 'flared': 9, 'pleated': 13, 'maxi': 9}[kind]
    folds = []
    for k, place in enumerate(np.linspace(-0.9, 0.9, count)):
        wander = 0.0 if kind == 'pleated' else rng.uniform(-0.08, 0.08)
        x = place + wander
        start = xy(x * 0.46, 0.12 if kind == 'pleated' else rng.uniform(0.15, 0.5))
        end = xy(x * abs(corner[0]), corner[1] + sag * (1 - x * x) + 0.05)
        strong = kind != 'pencil'
        depth = (0.42 if strong else 0.25) * rng.uniform(0.6, 1.1) * (-1 if k % 2 else 0.6)
        folds.append(Fold(arc(start, end, rng.uniform(-0.03, 0.03), 6), depth, 0.06))
    return tuple(folds)


# Kind -> half width at the knee and at the bottom of full length, units.
_TROUSERS = {
    'skinny': (0.2, 0.14),
    'straight': (0.25, 0.22),
    'wide': (0.34, 0.4),
    'flared': (0.22, 0.36),
    'tapered': (0.29, 0.16),
}


def _trousers(legs: tuple[Limb, Limb], rng: np.random.Generator) -> tuple[list[Part], float]:
    kind = pick(rng, list(_TROUSERS), (28, 26, 18, 14, 14))
    length = pick(rng, (0.8, 1.7, 2.35, 2.8), (18, 8, 22, 52)) * rng.uniform(0.95, 1.05)
    crotch = xy(0.0, rng.uniform(0.82, 1.05))
    vary = rng.uniform(0.92, 1.1)
    knee, bottom = (half * vary for half in _TROUSERS[kind])
    left = sleeves.named(_leg(legs[0], (length, knee, bottom), crotch, rng), 'left')
    right = _leg(sleeves.mirrored_arm(legs[1]), (length, knee, bottom), crotch, rng)
    right = sleeves.named(sleeves.mirrored_part(right), 'right')
    pair = [left, right] if rng.random() < 0.5 else [right, left]
    over = {'crotch': crotch, 'waistband_left': WAIST, 'waistband_right': mirror(WAIST)}
    pair[1] = dataclasses.replace(pair[1], points={**pair[1].points, **over})
    fly = (
        Line(xy(0, 0.03, *crotch), 0.016),
        Line(spline([(0.1, 0.08), (0.1, 0.4), (0, 0.55)]), 0.01),
    )
    pockets = tuple(
        Line(arc(xy(s * 0.3, 0.1), xy(s * 0.56, 0.36), s * 0.04, 6), 0.014) for s in (-1, 1)
    )
    pair[1] = dataclasses.replace(pair[1], lines=(*pair[1].lines, *fly, *pockets))
    return [*pair, *_waistband(rng, loops=True)], float(left.points['bottom_left_out'][1])


def _leg(leg: Limb, sizes: tuple[float, float, float], crotch, rng: np.random.Generator) -> Part:
    """Return the left leg with its half of the seat, and the points bottom_in and bottom_out."""
    length, knee, bottom = sizes
    share = min(1.0, length / 2.8)
    low, down = leg.at(length)
    # A short leg ends in the thigh, which is wider than the knee.
    half = np.interp(share, (0.28, 0.55, 1.0), (0.34, knee, bottom))
    out = np.array([-down[1], down[0]])
    outer = [WAIST, xy(-0.56, 0.25), xy(-0.61, 0.58)]
    inner = [crotch, crotch + 0.12 * heading(0.12)]
    if length > 1.5:
        at, along = leg.at(THIGH)
        normal = np.array([-along[1], along[0]])
        outer.append(at + knee * normal)
        inner.append(at - knee * normal)
    bottom_out, bottom_in = low + half * out, low - half * out
    # Legs may touch but the inner edge of a leg stays below the crotch.
    outer_edge, inner_edge = spline([*outer, bottom_out]), spline([*inner, bottom_in])
    opening = arc(bottom_out, bottom_in, -0.02, 6)
    seat = _waist_edge()[:6]
    outline = np.vstack(
        [outer_edge, opening[1:-1], inner_edge[::-1], xy(0, 0.03)[None], seat[::-1]]
    )
    turn_up = rng.uniform(0.1, 0.2) if rng.random() < 0.25 else 0.04
    lines = (Line(opening - turn_up * down, 0.014, 0.6),)
    return Part(
        outline,
        'main',
        angle=float(np.arctan2(-down[0], down[1])),
        folds=_leg_folds(leg, length, crotch, rng),
        lines=lines,
        points={'bottom_out': bottom_out, 'bottom_in': bottom_in},
    )


def _leg_folds(leg: Limb, length: float, crotch, rng: np.random.Generator) -> tuple[Fold, ...]:
    """Return whiskers at the crotch, creases at the knee, and at times a pressed crease."""
    folds = [
        Fold(
            arc(crotch - (0.03, y), xy(-0.5, crotch[1] - y - rng.uniform(-0.1, 0.2)), 0.03, 6),
            -rng.uniform(0.1, 0.25),
            0.04,
        )
        for y in (0.02, 0.14)
    ]
    if length > 1.5:
        for _ in range(2):
            at, down = leg.at(THIGH + rng.uniform(-0.2, 0.3))
            out = np.array([-down[1], down[0]]) * pick(rng, (-0.25, 0.25))
            crease = np.stack([at + out, at + 0.08 * down])
            folds.append(Fold(crease, -rng.uniform(0.12, 0.3), 0.04))
    if rng.random() < 0.4:
        course = np.stack([leg.at(0.0)[0], leg.at(length - 0.05)[0]])
        folds.append(Fold(course, rng.uniform(0.2, 0.45), 0.05))
    return tuple(folds)


def bare_leg(leg: Limb) -> Part:
    """Return the leg itself down to the ankle."""
    course = spline([leg.joint, (leg.joint + leg.bend) / 2, leg.bend, leg.tip], 5)
    widths = (0.44, 0.42, 0.34, 0.24, 0.25, 0.2, 0.13)
    return Part(strip(course, widths), 'legs', relief=0.8)


def shoe(leg: Limb, rng: np.random.Generator) -> Part:
    """Return a shoe at the end of a left leg."""
    toe = leg.tip + (-rng.uniform(0.1, 0.2), 0.24)
    return Part(
        strip(spline([leg.tip - (0, 0.02), leg.tip + (-0.03, 0.12), toe], 5), (0.16, 0.22, 0.14)),
        'shoe',
        relief=0.8,
    )
