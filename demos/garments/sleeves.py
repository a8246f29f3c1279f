"""Arms in a pose, and sleeves that follow them.

Everything is built for the left side (x < 0 is outwards) and mirrored for the right.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from demos.garments.parts import (
    Fold,
    Limb,
    Line,
    Part,
    arc,
    heading,
    mirror,
    pick,
    spline,
    strip,
    xy,
)

UPPER_ARM = 0.86  # units, a unit being the distance between the armpits
FOREARM = 0.76
_ARM_WIDTHS = (0.24, 0.23, 0.2, 0.18, 0.14, 0.12, 0.15, 0.06)  # From shoulder to finger tips.
_POSES = {  # upper arm from straight down and bend of the elbow, outwards, degrees: (low, high)
    'relaxed': ((10, 24), (-16, 4)),
    'away': ((24, 42), (-14, 6)),
    'laid out': ((42, 75), (-10, 10)),
    'on the hip': ((30, 46), (-92, -66)),
    'raised': ((70, 100), (-12, 30)),
    'forward': ((8, 18), (-75, -45)),
}


@dataclasses.dataclass(frozen=True)
class SleeveStyle:
    """The cut of both sleeves.

    Attributes:
        length: From the shoulder joint along the arm, units; 0 is sleeveless.
        top: Half width at the upper arm, units.
        middle: Half width half-way.
        cuff: Half width of the opening.
        band: Length of a cuff band, units; 0 for none.
    """

    length: float
    top: float
    middle: float
    cuff: float
    band: float = 0.0


def draw_style(rng: np.random.Generator, warm: bool) -> SleeveStyle:
    """Return a random cut; warm garments have no short sleeves."""
    kinds = ('long', 'three-quarter', 'short')
    kind = pick(rng, kinds, (70, 18, 0) if warm else (38, 20, 42))
    top = rng.uniform(0.19, 0.25)
    if kind == 'short':
        flare = rng.uniform(0.85, 1.15)
        return SleeveStyle(rng.uniform(0.4, 0.66), top, top * 0.98, top * flare, _band(rng, 0.06))
    low, high = (1.42, 1.56) if kind == 'long' else (0.98, 1.3)
    shape = pick(rng, ('fitted', 'straight', 'bell', 'balloon'), (45, 25, 15, 15))
    middle, cuff = {
        'fitted': (0.155, 0.105),
        'straight': (0.19, 0.165),
        'bell': (0.16, 0.27),
        'balloon': (0.27, 0.11),
    }[shape]
    vary = rng.uniform(0.92, 1.1)
    band = _band(rng, 0.1) if shape != 'bell' else 0.0
    return SleeveStyle(rng.uniform(low, high), top, middle * vary, cuff * vary, band)


def _band(rng: np.random.Generator, width: float) -> float:
    return width * rng.uniform(0.7, 1.3) if rng.random() < 0.55 else 0.0


def draw_arms(rng: np.random.Generator, shoulder: np.ndarray, worn: bool) -> tuple[Limb, Limb]:
    """Return a pose for both arms.

    Args:
        shoulder: [2] the left shoulder point, units.
        worn: Whether somebody wears the garment; otherwise it hangs or lies.
    """
    weights = (42, 20, 4, 16, 6, 12) if worn else (38, 40, 22, 0, 0, 0)
    names = list(_POSES)
    left = pick(rng, names, weights)
    right = left if rng.random() < (0.5 if worn else 0.9) else pick(rng, names, weights)
    return _arm(rng, shoulder, left), mirrored_arm(_arm(rng, shoulder, right))


def _arm(rng: np.random.Generator, shoulder: np.ndarray, pose: str) -> Limb:
    upper, bend = (np.radians(rng.uniform(*span)) for span in _POSES[pose])
    joint = shoulder + (0.1, 0.24)
    elbow = joint + UPPER_ARM * heading(upper)
    return Limb(joint, elbow, elbow + FOREARM * heading(upper + bend))


def mirrored_arm(arm: Limb) -> Limb:
    """Return the same arm on the other side."""
    return Limb(mirror(arm.joint), mirror(arm.bend), mirror(arm.tip))


def sleeve(style: SleeveStyle, arm: Limb, shoulder, armpit, rng: np.random.Generator) -> Part:
    """Return the left sleeve with its keypoints under their names without a side.

    Args:
        style: Its cut.
        arm: The left arm.
        shoulder: [2] upper end of the armhole, units.
        armpit: [2] lower end of the armhole, units.

    Returns:
        A part with the points shoulder, armpit, cuff_in and cuff_out.
    """
    outer, inner = _edges(style, arm, shoulder, armpit)
    opening = arc(outer[-1], inner[-1], rng.uniform(-0.03, 0.0), 6)
    armhole = arc(armpit, shoulder, -0.04)
    _, down = arm.at(style.length)
    lines = [Line(armhole, 0.014, 0.75)]
    if style.band:
        back = style.band * down
        lines.append(Line(opening - back, 0.014))
    else:
        lines.append(Line(opening - 0.03 * down, 0.01, 0.8))
    return Part(
        outline=np.vstack([outer, opening[1:], inner[::-1][1:], armhole[1:]]),
        material='main',
        angle=float(np.arctan2(-down[0], down[1])) * 0.8,
        folds=_folds(style, arm, rng),
        lines=tuple(lines),
        points={
            'shoulder': shoulder,
            'armpit': armpit,
            'cuff_out': outer[-1],
            'cuff_in': inner[-1],
        },
    )


def _edges(style: SleeveStyle, arm: Limb, shoulder, armpit) -> tuple[np.ndarray, np.ndarray]:
    """Return outer edge from shoulder to cuff and inner edge from armpit to cuff, each [N, 2]."""
    cuff, down = arm.at(style.length)
    start = min(0.38, style.length * 0.6)
    middle = (start + style.length) / 2
    stations = [(start, style.top)]
    if style.length > 0.8:
        stations += [(UPPER_ARM, (style.top + style.middle) / 2), (middle + 0.25, style.middle)]
    outer, inner = [shoulder], [armpit]
    for length, half in sorted(stations):
        at = sum(arm.at(length + step)[0] for step in (-0.12, 0.12)) / 2
        along = arm.at(length + 0.12)[0] - arm.at(length - 0.12)[0]
        out = half * _outwards(along / np.hypot(*along))
        outer.append(at + out)
        inner.append(at - out)
    out = style.cuff * _outwards(down)
    return spline([*outer, cuff + out]), spline([*inner, cuff - out])


def _outwards(down: np.ndarray) -> np.ndarray:
    """Return unit normal of a left limb on the side away from the body."""
    return np.array([-down[1], down[0]])


def _folds(style: SleeveStyle, arm: Limb, rng: np.random.Generator) -> tuple[Fold, ...]:
    """Return creases across the elbow and along the sleeve."""
    folds = []
    for _ in range(int(rng.integers(1, 4))):
        at, down = arm.at(rng.uniform(0.2, style.length * 0.9))
        across = _outwards(down) * style.middle
        slant = down * rng.uniform(-0.15, 0.25)
        course = arc(at + across - slant, at - 0.3 * across + slant, rng.uniform(-0.05, 0.05), 6)
        folds.append(Fold(course, rng.uniform(0.2, 0.5) * pick(rng, (-1, 1)), 0.05))
    return tuple(folds)


def bare_arm(arm: Limb, start: float = 0.0) -> Part:
    """Return the arm itself from `start` units below its joint, hand included."""
    direction = (arm.tip - arm.bend) / np.hypot(*(arm.tip - arm.bend))
    hand = arm.tip + 0.24 * direction
    whole = UPPER_ARM + FOREARM
    stations = [s for s in (0.0, 0.43, UPPER_ARM, whole) if s > start + 0.1]
    course = spline([arm.at(start)[0], *(arm.at(s)[0] for s in stations), hand], 5)
    at = np.linspace(start / (whole + 0.24), 1, 8)
    widths = np.interp(at, np.linspace(0, 1, 8), _ARM_WIDTHS)
    if not start:  # The round of a bare shoulder.
        course = np.vstack([arm.joint + xy(0.12, -0.22), arm.joint + xy(0.04, -0.14), course])
        widths = np.hstack([0.06, 0.19, widths])
    return Part(strip(course, widths), 'skin', relief=0.8)


def mirrored_part(part: Part) -> Part:
    """Return a part on the other side of the garment."""
    return dataclasses.replace(
        part,
        outline=mirror(part.outline),
        angle=-part.angle,
        folds=tuple(dataclasses.replace(f, points=mirror(f.points)) for f in part.folds),
        lines=tuple(dataclasses.replace(x, points=mirror(x.points)) for x in part.lines),
        points={name: mirror(point) for name, point in part.points.items()},
    )


def named(part: Part, side: str) -> Part:
    """Put the side into the names of a part's points: 'cuff_in' -> 'cuff_left_in'."""
    points = {}
    for name, point in part.points.items():
        first, *rest = name.split('_')
        points['_'.join([first, side, *rest])] = point
    return dataclasses.replace(part, points=points)
