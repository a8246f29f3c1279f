"""Necklines, collars and front openings of tops."""

from __future__ import annotations

import dataclasses

import numpy as np

from demos.garments.parts import Line, Part, arc, box, ellipse, mirror, pick, spline, strip, xy
from demos.garments.sleeves import mirrored_part


@dataclasses.dataclass(frozen=True)
class Neck:
    """The neckline.

    Attributes:
        kind: One of _NECKS, or 'straps'.
        side: [2] the left neckline point, units.
        center: [2] the lowest point of the front edge, units.
        power: Shape of the front edge: 1 is a V, 2 round, 6 square.
        trimmed: Whether its edge is of another cloth.
    """

    kind: str
    side: np.ndarray
    center: np.ndarray
    power: float
    trimmed: bool


# Kind -> ranges of: half width, height of the sides, depth of the front edge, power.
_NECKS = {
    'round': ((0.2, 0.28), (-0.72, -0.66), (0.08, 0.2), (2.0, 2.4)),
    'scoop': ((0.28, 0.36), (-0.66, -0.6), (0.25, 0.4), (2.2, 3.0)),
    'v': ((0.22, 0.3), (-0.72, -0.66), (0.3, 0.55), (1.0, 1.15)),
    'boat': ((0.36, 0.44), (-0.6, -0.56), (0.04, 0.09), (2.0, 2.4)),
    'square': ((0.28, 0.36), (-0.62, -0.58), (0.22, 0.36), (6.0, 9.0)),
    'turtle': ((0.17, 0.2), (-0.92, -0.82), (0.015, 0.04), (2.0, 2.0)),
    'shirt': ((0.18, 0.23), (-0.76, -0.7), (0.2, 0.3), (1.1, 1.4)),
    'hood': ((0.22, 0.28), (-0.72, -0.66), (0.14, 0.24), (1.4, 1.8)),
    'lapel': ((0.19, 0.25), (-0.76, -0.7), (0.6, 1.0), (1.0, 1.1)),
    'stand': ((0.18, 0.22), (-0.84, -0.76), (0.04, 0.1), (1.6, 2.0)),
    'straps': ((0.24, 0.32), (-0.66, -0.58), (0.3, 0.42), (1.4, 2.0)),
}
# How often each kind is drawn, as (kinds, weights).
_CHOICES = {
    'blouse': (
        ('round', 'scoop', 'v', 'boat', 'square', 'turtle', 'shirt', 'hood'),
        (26, 8, 18, 8, 5, 9, 18, 8),
    ),
    'dress': (
        ('round', 'scoop', 'v', 'boat', 'square', 'turtle', 'shirt'),
        (28, 12, 22, 10, 10, 7, 11),
    ),
    'outwear': (('lapel', 'stand', 'hood', 'shirt', 'round', 'v'), (40, 20, 14, 14, 6, 6)),
}


def draw_neck(category: str, rng: np.random.Generator) -> Neck:
    """Return a random neckline that goes with the category."""
    return _draw(pick(rng, *_CHOICES[category]), rng)


def draw_strap_neck(rng: np.random.Generator) -> Neck:
    """Return the neckline of a strap top: its points are where the straps end on the shoulders."""
    return _draw('straps', rng)


def _draw(kind: str, rng: np.random.Generator) -> Neck:
    width, height, depth, power = (rng.uniform(*span) for span in _NECKS[kind])
    side = xy(-width, height)
    return Neck(kind, side, xy(0.0, height + depth), power, rng.random() < 0.4)


def seam_start(neck: Neck) -> np.ndarray:
    """Return where the left shoulder seam meets the neck, units."""
    return xy(-0.24, -0.66) if neck.kind in ('turtle', 'stand') else neck.side


def _strap_base(neck: Neck) -> np.ndarray:
    return xy(neck.side[0] - 0.03, neck.center[1] + 0.02)


def bodice_top(neck: Neck, armpit: np.ndarray) -> np.ndarray:
    """Return upper edge of a strap top from the left strap to the armpit, [N, 2]."""
    return arc(_strap_base(neck), armpit, 0.04, 8)


def front_edge(neck: Neck) -> np.ndarray:
    """Return the visible neckline from left to right, [N, 2]; straps: the edge between them."""
    left = _strap_base(neck) if neck.kind == 'straps' else neck.side
    t = np.linspace(-1, 1, 25)
    drop = 1 - np.abs(t) ** neck.power
    return np.stack([-left[0] * t, left[1] + (neck.center[1] - left[1]) * drop], axis=1)


def back_parts(neck: Neck) -> tuple[Part, ...]:
    """Return what of the garment shows behind the neck: the inside of the collar, or a hood."""
    if neck.kind == 'straps':
        return ()
    rise = 0.04 if neck.kind in ('boat', 'scoop', 'square') else 0.07
    edge = front_edge(neck)
    back = arc(neck.side, mirror(neck.side), rise, 12)
    inside = Part(np.vstack([back, edge[::-1]]), 'inside', relief=0.5)
    if neck.kind != 'hood':
        return (inside,)
    rim = spline([seam_start(neck) + (-0.08, 0.05), (-0.42, -0.86), (-0.2, -1.08), (0, -1.12)])
    hood = np.vstack([rim, mirror(rim)[::-1][1:]])
    return (Part(hood, 'main', relief=1.3), inside)


def neck_details(neck: Neck, hem_y: float, rng: np.random.Generator) -> list[Part]:
    """Return trim, collar and placket of a blouse or dress."""
    if neck.kind == 'straps':
        base = _strap_base(neck) + (0, 0.02)
        outer = strip(arc(base, neck.side, 0.02, 6), (0.05, 0.04))
        strap = Part(outer, 'main', relief=0.4, lines=(Line(arc(base, neck.side, 0.0, 3), 0.008),))
        return [strap, mirrored_part(strap), _edging(neck, 'main', 0.03)]
    if neck.kind == 'turtle':
        return [_collar_band(neck)]
    if neck.kind == 'shirt':
        end = hem_y if rng.random() < 0.7 else neck.center[1] + 0.45
        return [*_placket(neck.center[1], end - 0.03, rng), *_collar_leaves(neck, 0.3)]
    if neck.kind == 'hood':
        cords = [
            strip(
                spline([(s * 0.1, neck.center[1]), (s * 0.13, -0.25), (s * 0.12, 0.0)]),
                (0.02, 0.02),
            )
            for s in (-1, 1)
        ]
        cord_parts = [Part(cord, 'trim', occludes=False, relief=0.2) for cord in cords]
        return [_edging(neck, 'main', 0.09), *cord_parts]
    return [_edging(neck, 'trim' if neck.trimmed else 'main', rng.uniform(0.03, 0.06))]


def _edging(neck: Neck, material: str, width: float) -> Part:
    """Return a band below the front edge that ends in the neckline points."""
    edge = front_edge(neck)
    lower = edge + (0, width)
    lower[:, 0] *= 1 + 0.4 * width / max(abs(edge[0, 0]), 0.1)
    seam = Line(lower, 0.012, 0.7)
    outline = np.vstack([edge, lower[::-1]])
    return Part(outline, material, lines=(seam,), occludes=False, relief=0.4)


def _collar_band(neck: Neck) -> Part:
    """Return the tube of a turtle neck or a stand-up collar."""
    base = seam_start(neck)
    low = arc(base, mirror(base), -0.09, 12)
    ribs = tuple(
        Line(np.stack([a, b]), 0.012, 0.85) for a, b in zip(front_edge(neck)[2:-2:4], low[1::2])
    )
    outline = np.vstack([front_edge(neck), low[::-1]])
    return Part(outline, 'main', lines=(Line(low, 0.016, 0.6), *ribs), occludes=False, relief=0.8)


def _collar_leaves(neck: Neck, reach: float) -> list[Part]:
    """Return the two leaves of a turned-down collar, from neckline point to center front."""
    edge = front_edge(neck)[:13]
    tip = neck.center + (-reach * 0.62, reach * 0.28)
    outer = np.vstack([arc(neck.side, tip, 0.02, 6), neck.center[None]])
    outline = np.vstack([outer, edge[::-1][1:]])
    material = 'trim' if neck.trimmed else 'main'
    leaf = Part(
        outline, material, 0.4, lines=(Line(outer, 0.016, 0.6),), occludes=False, relief=0.4
    )
    return [leaf, mirrored_part(leaf)]


def _placket(start: float, end: float, rng: np.random.Generator) -> list[Part]:
    """Return a buttoned strip down the middle."""
    strip_ = box(-0.035, start, 0.035, end)
    edges = (Line(strip_[[0, 3]], 0.01, 0.72), Line(strip_[[1, 2]], 0.01, 0.72))
    parts = [Part(strip_, 'main', lines=edges, occludes=False, relief=0.0)]
    return parts + _buttons(0.0, start + 0.08, end - 0.05, rng)


def _buttons(x: float, start: float, end: float, rng: np.random.Generator) -> list[Part]:
    count = max(2, round((end - start) / rng.uniform(0.17, 0.26)))
    return [
        Part(ellipse((x, y), (0.022, 0.022)), 'button', occludes=False, relief=0.0)
        for y in np.linspace(start, end, count)
    ]


def outwear_front(neck: Neck, hem, hem_bulge: float, rng: np.random.Generator) -> list[Part]:
    """Return opening, fastening and collar of an outer garment."""
    parts = []
    top = neck.center[1]
    if rng.random() < 0.45:
        parts += _opening(top, hem, hem_bulge, rng.uniform(0.1, 0.26))
    elif neck.kind == 'lapel' and rng.random() < 0.4:
        edge = xy(0.12, top, 0.12, hem[1] + hem_bulge)
        parts.append(Part(edge, 'main', lines=(Line(edge, 0.016, 0.6),), occludes=False))
        for x in (-0.1, 0.1):
            parts += _buttons(x, top + 0.08, min(hem[1] - 0.15, top + 0.75), rng)
    elif rng.random() < 0.5:
        parts += _placket(top, hem[1] + hem_bulge - 0.02, rng)
    else:
        zip_line = xy(0, top, 0, hem[1] + hem_bulge - 0.02)
        zip_strip = strip(zip_line, (0.04, 0.04))
        parts.append(Part(zip_strip, 'button', lines=(Line(zip_line, 0.012),), occludes=False))
    return parts + _outwear_collar(neck, rng)


def _opening(top: float, hem, hem_bulge: float, half: float) -> list[Part]:
    """Return what shows between the open fronts: the clothes below, down to the hem."""
    x = np.linspace(-half, half, 9)
    low = np.stack([x, hem[1] + hem_bulge * (1 - (x / hem[0]) ** 2)], axis=1)
    outline = np.vstack([xy(-0.02, top - 0.02)[None], low, xy(0.02, top - 0.02)[None]])
    lines = (Line(outline[:2], 0.03, 0.7), Line(outline[-2:], 0.03, 0.7))
    shirt_end = 0.85
    parts = [Part(outline, 'opening', lines=lines, occludes=False, relief=0.4)]
    if hem[1] > shirt_end + 0.1:
        share = (shirt_end - top) / (hem[1] - top)
        high = xy(-half * share, shirt_end, half * share, shirt_end)
        below = np.vstack([high[:1], low, high[1:]])
        parts.append(Part(below, 'opening_low', lines=lines, occludes=False, relief=0.4))
    return parts


def _outwear_collar(neck: Neck, rng: np.random.Generator) -> list[Part]:
    if neck.kind == 'stand':
        return [_collar_band(neck)]
    if neck.kind == 'shirt':
        return _collar_leaves(neck, rng.uniform(0.3, 0.42))
    if neck.kind != 'lapel':
        return [_edging(neck, 'trim' if neck.trimmed else 'main', 0.06)]
    tip_y = neck.side[1] * 0.45 + neck.center[1] * 0.55
    notch = xy(-0.33, tip_y - 0.16)
    outer = np.vstack(
        [
            arc(neck.side, notch - (0.02, 0.06), 0.03, 5),
            notch[None],
            xy(-0.42, tip_y)[None],
            arc(xy(-0.4, tip_y + 0.02), neck.center, 0.03, 6),
        ]
    )
    outline = np.vstack([outer, front_edge(neck)[:12][::-1]])
    gorge = Line(np.stack([notch, front_edge(neck)[3]]), 0.014)
    material = 'trim' if neck.trimmed and rng.random() < 0.4 else 'main'
    lapel = Part(
        outline, material, 0.3, lines=(Line(outer, 0.018, 0.55), gorge), occludes=False, relief=0.5
    )
    return [lapel, mirrored_part(lapel)]
