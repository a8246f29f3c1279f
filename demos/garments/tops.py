"""Blouses, dresses and outerwear."""

from __future__ import annotations

import dataclasses

import numpy as np

from demos.garments import collars, sleeves
from demos.garments.parts import (
    Fold,
    Garment,
    Line,
    Part,
    arc,
    box,
    mirror,
    pick,
    spline,
    strip,
    xy,
)

ARMPIT = xy(-0.5, 0.0)


@dataclasses.dataclass(frozen=True)
class Cut:
    """The silhouette of a top; points of the left side, units.

    Attributes:
        category: 'blouse', 'dress' or 'outwear'.
        neck: The collar.
        shoulder: [2] end of the shoulder seam.
        waist: [2] narrowest point of the side.
        has_waistline: Whether a seam or belt marks the waist.
        hem: [2] lower corner.
        hem_bulge: How far the hem hangs below its corners, units.
        straps: Whether straps take the place of shoulders.
    """

    category: str
    neck: collars.Neck
    shoulder: np.ndarray
    waist: np.ndarray
    has_waistline: bool
    hem: np.ndarray
    hem_bulge: float
    straps: bool = False


def build(category: str, rng: np.random.Generator, worn: bool) -> Garment:
    """Return a random blouse, dress or outer garment.

    Args:
        category: 'blouse', 'dress' or 'outwear'.
    """
    warm = category == 'outwear'
    sleeveless = not warm and rng.random() < (0.3 if category == 'dress' else 0.16)
    cut = _draw_cut(category, sleeveless, rng)
    arms = sleeves.draw_arms(rng, cut.shoulder, worn)
    style = sleeves.draw_style(rng, warm)
    front = [_torso(cut, sleeveless, rng), *_details(cut, rng)]
    limbs: list[tuple[Part, ...]] = [(), ()]
    hidden: set[str] = set()
    if not sleeveless:
        for k, side in enumerate(('left', 'right')):
            part = _sleeve(cut, style, arms[k], rng, side)
            limbs[k] = (part,)
            if _closes_armpit(cut, part, side):
                hidden.add(f'armpit_{side}')
    return Garment(
        back=collars.back_parts(cut.neck),
        front=tuple(front),
        limbs=(limbs[0], limbs[1]),
        arms=arms,
        hidden=frozenset(hidden),
        hem=float(cut.hem[1]),
        sleeve_length=0.0 if sleeveless else style.length,
    )


def _draw_cut(category: str, sleeveless: bool, rng: np.random.Generator) -> Cut:
    straps = sleeveless and rng.random() < 0.3
    shoulder_x = rng.uniform(0.42, 0.5) if sleeveless else rng.uniform(0.52, 0.64)
    waist_y = rng.uniform(0.48, 0.64)
    if category == 'dress':
        length = pick(rng, (1.6, 2.0, 2.6), (45, 35, 20)) * rng.uniform(0.9, 1.12)
        waisted = rng.random() < 0.6
        hem_x = (rng.uniform(0.5, 1.15) if waisted else rng.uniform(0.55, 0.85)) + 0.05 * length
        pinch = rng.uniform(0.05, 0.14) if waisted else rng.uniform(-0.04, 0.02)
        bulge = rng.uniform(0.0, 0.16)
    elif category == 'outwear':
        length = pick(rng, (0.95, 1.25, 1.9, 2.4), (30, 30, 25, 15)) * rng.uniform(0.92, 1.1)
        waisted = length > 1.15 and rng.random() < 0.3
        hem_x = rng.uniform(0.52, 0.66) + 0.06 * length
        pinch = rng.uniform(0.04, 0.1) if waisted else rng.uniform(-0.03, 0.05)
        bulge = rng.uniform(0.0, 0.06)
    else:
        length, waisted = rng.uniform(0.75, 1.35), False
        hem_x = rng.uniform(0.46, 0.68)
        pinch = rng.uniform(-0.02, 0.08)
        bulge = rng.uniform(-0.06, 0.12)
    return Cut(
        category=category,
        neck=collars.draw_strap_neck(rng) if straps else collars.draw_neck(category, rng),
        shoulder=xy(-shoulder_x, -rng.uniform(0.46, 0.57)),
        waist=xy(-0.5 + pinch, waist_y),
        has_waistline=waisted,
        hem=xy(-hem_x, length),
        hem_bulge=bulge,
        straps=straps,
    )


def _side(cut: Cut) -> np.ndarray:
    """Return the left side from the armpit to the hem."""
    if cut.hem[1] <= cut.waist[1] + 0.45:
        middle = (ARMPIT + cut.hem) / 2 + (cut.waist[0] + 0.5, 0)
        return spline([ARMPIT, middle, cut.hem])
    bodice = spline([ARMPIT, (ARMPIT + cut.waist) / 2 + (0.015, 0), cut.waist])
    if not cut.has_waistline:
        return spline([ARMPIT, cut.waist, cut.waist * 0.5 + cut.hem * 0.5 - (0.02, 0), cut.hem])
    hip = cut.waist * 0.62 + cut.hem * 0.38 - (0.06, 0)
    return np.vstack([bodice[:-1], spline([cut.waist, hip, cut.hem])])


def _torso(cut: Cut, sleeveless: bool, rng: np.random.Generator) -> Part:
    side = _side(cut)
    if cut.straps:
        left = [collars.bodice_top(cut.neck, ARMPIT), side[1:]]
    else:
        armhole = arc(cut.shoulder, ARMPIT, 0.06 if sleeveless else 0.04)
        left = [arc(collars.seam_start(cut.neck), cut.shoulder, 0.015, 5), armhole[1:], side[1:]]
    left_path = np.vstack(left)
    hem = arc(cut.hem, mirror(cut.hem), -cut.hem_bulge, 16)
    neckline = collars.front_edge(cut.neck)
    outline = np.vstack([left_path, hem[1:-1], mirror(left_path)[::-1], neckline[::-1]])
    points = {'armpit_left': ARMPIT, 'hem_left': cut.hem, 'neckline_left': cut.neck.side}
    if sleeveless and not cut.straps:
        points['shoulder_left'] = cut.shoulder
    if cut.has_waistline:
        points['waistline_left'] = cut.waist
    hem_name = 'hemline' if cut.category == 'dress' else 'top_hem'
    both = {}
    for name, point in points.items():
        name = name.replace('hem_left', f'{hem_name}_left')
        both[name] = point
        both[name.replace('left', 'right')] = mirror(point)
    if cut.category != 'outwear':
        both['center_front'] = cut.neck.center
    lines = [Line(hem - (0, 0.045), 0.01, 0.8)]
    if sleeveless and not cut.straps:
        lines += [Line(edge, 0.02, 0.75) for edge in (armhole, mirror(armhole))]
    return Part(outline, 'main', folds=_torso_folds(cut, rng), lines=tuple(lines), points=both)


def _torso_folds(cut: Cut, rng: np.random.Generator) -> tuple[Fold, ...]:
    """Return drapes from the armpits and creases that fall to the hem."""
    folds = []
    for sign in (1.0, -1.0):
        if rng.random() < 0.7:
            end = xy(-rng.uniform(0.1, 0.3), rng.uniform(0.15, 0.4))
            course = arc(ARMPIT + (0.03, 0.02), end, rng.uniform(-0.05, 0.05), 6)
            folds.append(Fold(course * (sign, 1), -rng.uniform(0.2, 0.45), 0.05))
    top = cut.waist[1] if cut.has_waistline else cut.hem[1] * rng.uniform(0.3, 0.6)
    full = abs(cut.hem[0]) > 0.75
    for place in np.linspace(-0.85, 0.85, int(rng.integers(5, 9)) if full else 3):
        place += rng.uniform(-0.12, 0.12)
        start = xy(place * abs(cut.waist[0]), top + rng.uniform(0.05, 0.15))
        end = xy(place * abs(cut.hem[0]), cut.hem[1] + 0.05)
        depth = rng.uniform(0.15, 0.4) * pick(rng, (-1, 0.7))
        folds.append(Fold(arc(start, end, rng.uniform(-0.03, 0.03), 6), depth, 0.06))
    return tuple(folds)


def _details(cut: Cut, rng: np.random.Generator) -> list[Part]:
    """Return opening, print, pockets, collar and belt, in painting order."""
    parts = []
    if cut.category == 'outwear':
        parts += collars.outwear_front(cut.neck, cut.hem, cut.hem_bulge, rng)
        if rng.random() < 0.6:
            parts += _pockets(cut, rng)
    else:
        if rng.random() < 0.22:
            parts.append(_chest_print(rng))
        parts += collars.neck_details(cut.neck, cut.hem[1], rng)
    if cut.has_waistline:
        parts.append(_belt(cut, rng))
    elif cut.category == 'outwear' and cut.hem[1] < 1.25 and rng.random() < 0.4:
        parts.append(_hem_band(cut))
    return parts


def _chest_print(rng: np.random.Generator) -> Part:
    y, size = rng.uniform(0.05, 0.25), rng.uniform(0.14, 0.26)
    kind = pick(rng, ('disc', 'star', 'block', 'heart'))
    t = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    if kind == 'star':
        radius = np.where(np.arange(10) % 2, 0.45, 1.0)
        angle = np.arange(10) * np.pi / 5 - np.pi / 2
        shape = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    elif kind == 'heart':
        waves = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
        shape = np.stack([16 * np.sin(t) ** 3, -waves], axis=1) / 17
    elif kind == 'block':
        shape = box(-1.1, -0.5, 1.1, 0.5)
    else:
        shape = np.stack([np.cos(t), np.sin(t)], axis=1)
    return Part(shape * size + (0, y), 'trim', occludes=False, relief=0.0)


def _pockets(cut: Cut, rng: np.random.Generator) -> list[Part]:
    y = min(rng.uniform(0.62, 0.8), cut.hem[1] - 0.3)
    left = box(-0.42, y, -0.18, y + rng.uniform(0.16, 0.26))
    edge = Line(np.vstack([left, left[:1]]), 0.012)
    flap = Line(left[:2] + (0, 0.06), 0.012)
    pocket = Part(left, 'main', lines=(edge, flap), occludes=False, relief=0.3)
    return [pocket, sleeves.mirrored_part(pocket)]


def _belt(cut: Cut, rng: np.random.Generator) -> Part:
    """Return a belt, or only a seam, from waistline point to waistline point."""
    course = arc(cut.waist, mirror(cut.waist), -0.03, 8)
    if rng.random() < 0.45:
        return Part(strip(course, (0.02, 0.02)), 'inside', occludes=False, relief=0.0)
    width = rng.uniform(0.06, 0.12)
    edges = (Line(course + (0, width / 2), 0.01), Line(course - (0, width / 2), 0.01))
    buckle = box(-0.06, -width * 0.6, 0.06, width * 0.6) + course[4]
    lines = (*edges, Line(np.vstack([buckle, buckle[:1]]), 0.02, 1.5))
    return Part(strip(course, (width, width)), 'trim', lines=lines, occludes=False, relief=0.3)


def _hem_band(cut: Cut) -> Part:
    low = arc(cut.hem, mirror(cut.hem), -cut.hem_bulge, 12)
    high = low - (0, 0.11)
    high[:, 0] *= 0.985
    ribs = tuple(Line(np.stack([a, b]), 0.01, 0.8) for a, b in zip(low[1:-1], high[1:-1]))
    return Part(np.vstack([low, high[::-1]]), 'trim', lines=ribs, occludes=False, relief=0.3)


def _sleeve(cut: Cut, style, arm, rng, side: str) -> Part:
    if side == 'left':
        return sleeves.named(sleeves.sleeve(style, arm, cut.shoulder, ARMPIT, rng), 'left')
    left = sleeves.sleeve(style, sleeves.mirrored_arm(arm), cut.shoulder, ARMPIT, rng)
    return sleeves.named(sleeves.mirrored_part(left), 'right')


def _closes_armpit(cut: Cut, part: Part, side: str) -> bool:
    """Return whether the sleeve lies on the torso just below the armpit, so that nobody
    can see it.
    """
    outline = part.outline if side == 'left' else mirror(part.outline)
    near = outline[(outline[:, 1] > 0.08) & (outline[:, 1] < 0.3)]
    return bool(len(near)) and float(near[:, 0].max()) > -0.5 - 0.01
