"""The points of DeepFashion2 on a garment: along its outline, at equal distances between corners.

Their numbers are those of the official figure, as preprocessing.datasets.deepfashion2 has them: 1
the middle of the upper edge, then from the left of the picture round the hem to the right. A front
that is closed has its two edges on the middle line.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

import numpy as np

from demos.garments.parts import Garment, Part, mirror, xy

# Sleeves up to here along the arm, units, are short ones; outerwear has three-quarter ones, too.
_SHORT = {'blouse': 0.8, 'dress': 0.8, 'outwear': 1.32}
_KINDS = {'blouse': 'top', 'outwear': 'outwear', 'dress': 'dress'}
_SHORTS_END = 1.7  # y of the lower edge, units
_SEAM = 0.02  # half the distance of the edges of a closed front, units
# A point with the part that it is on.
_Place = tuple[Part, np.ndarray]


def with_points(category: str, garment: Garment) -> tuple[str, Garment]:
    """Return what a garment is in DeepFashion2, and the garment with its points as well.

    Args:
        category: Of FashionAI.
        garment: As tops or bottoms build it.

    Returns:
        The category, and a garment that differs in the points of its parts and what of them it
        hides.
    """
    points = {name: (part, at) for part in garment.parts for name, at in part.points.items()}
    if category == 'skirt':
        name, numbered = 'skirt', _skirt(garment.front[0])
    elif category == 'trousers':
        is_short = points['bottom_left_out'][1][1] < _SHORTS_END
        name, numbered = ('shorts' if is_short else 'trousers'), _trousers(points, is_short)
    else:
        name = _top_name(category, garment, points)
        numbered = _top(name, garment, points)
    named = {f'{name}_{number}': place for number, place in numbered.items()}
    hidden = {n for n, place in named.items() if _is_hidden(place, garment, points)}
    return name, _with(garment, named, hidden)


def _is_hidden(place: _Place, garment: Garment, points: Mapping[str, _Place]) -> bool:
    return any(np.array_equal(place[1], points[name][1]) for name in garment.hidden)


def _with(garment: Garment, named: Mapping[str, _Place], hidden: set[str]) -> Garment:
    def part_with(part: Part) -> Part:
        own = {name: at for name, (owner, at) in named.items() if owner is part}
        return dataclasses.replace(part, points={**part.points, **own}) if own else part

    parts = {field: tuple(map(part_with, getattr(garment, field))) for field in ('back', 'front')}
    limbs = tuple(tuple(map(part_with, limb)) for limb in garment.limbs)
    return dataclasses.replace(garment, **parts, limbs=limbs, hidden=garment.hidden | hidden)


def _top_name(category: str, garment: Garment, points: Mapping[str, _Place]) -> str:
    if garment.sleeve_length:
        length = 'short' if garment.sleeve_length < _SHORT[category] else 'long'
        return f'{length}_sleeve_{_KINDS[category]}'
    kind = 'vest' if 'shoulder_left' in points else 'sling'
    return f'{kind}_dress' if category == 'dress' else kind


def _between(part: Part, start: np.ndarray, end: np.ndarray, count: int) -> list[_Place]:
    """Return `count` points on the outline of a part between two others, in its order, at equal
    distances.
    """
    first, last = (np.hypot(*(part.outline - at).T).argmin() for at in (start, end))
    length = (last - first) % len(part.outline) + 1
    course = part.outline[(first + np.arange(length)) % len(part.outline)]
    along = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(course, axis=0).T))])
    stops = np.linspace(0, along[-1], count + 2)[1:-1]
    x, y = (np.interp(stops, along, course[:, axis]) for axis in (0, 1))
    return [(part, np.array(at)) for at in zip(x, y)]


def _top(name: str, garment: Garment, points: Mapping[str, _Place]) -> dict[int, _Place]:
    torso = garment.front[0]
    hem = 'hemline' if 'hemline_left' in points else 'top_hem'
    left, right = (points[f'neckline_{side}'] for side in ('left', 'right'))
    if 'sling' in name:  # the straps begin at the ends of the upper edge
        base = torso.outline[0]
        shoulders = {'left': (torso, base), 'right': (torso, mirror(base))}
        edge = _between(torso, mirror(base), base, 3)
    else:
        shoulders = {side: points[f'shoulder_{side}'] for side in ('left', 'right')}
        edge = _between(torso, right[1], left[1], 3)
    inner = torso, (left[1] + right[1]) / 2
    if garment.back:  # the inside of the collar, whose outline begins with its upper edge
        part = garment.back[-1]
        inner = _between(part, left[1], right[1], 1)[0]
    numbered = dict(enumerate([inner, left, *edge[::-1], right], 1))
    on_sleeve = 3 if name.startswith('long') else 1
    on_side = 4 if name.endswith('sleeve_dress') else 3 if 'dress' in name else 2
    on_side = 1 if name in ('vest', 'sling') else on_side
    corners = points[f'{hem}_left'], points[f'{hem}_right']
    front = _front(garment, torso, corners) if 'outwear' in name else ()
    low = [front[3]] if front else _between(torso, corners[0][1], corners[1][1], 1)
    course = [
        shoulders['left'],
        *_sleeve(garment, points, 'left', on_sleeve),
        points['armpit_left'],
        *_between(torso, points['armpit_left'][1], corners[0][1], on_side),
        corners[0],
        *low,
        corners[1],
        *_between(torso, corners[1][1], points['armpit_right'][1], on_side),
        points['armpit_right'],
        *reversed(_sleeve(garment, points, 'right', on_sleeve)),
        shoulders['right'],
    ]
    numbered.update(enumerate(course, 7))
    if front:
        numbered[4] = front[0]
        # Down the right edge of the opening, then the two on the left one, from the upper to the
        # lower.
        numbered.update(enumerate([*front[4:], front[1], front[2]], 7 + len(course)))
    return numbered


def _sleeve(garment: Garment, points: Mapping[str, _Place], side: str, count: int) -> list[_Place]:
    """Return the points from the shoulder round the cuff to the armpit, without these."""
    if not garment.sleeve_length:
        return []
    (part,) = garment.limbs[0 if side == 'left' else 1]
    out, inside = (points[f'cuff_{side}_{end}'] for end in ('out', 'in'))
    outer = _between(part, part.points[f'shoulder_{side}'], out[1], count)
    inner = _between(part, inside[1], part.points[f'armpit_{side}'], count)
    return [*outer, out, inside, *inner]


def _front(garment: Garment, torso: Part, corners: tuple[_Place, _Place]) -> list[_Place]:
    """Return four points down each edge of the opening, the left edge first."""
    openings = [part for part in garment.front if part.material == 'opening']
    if openings:
        outline = openings[0].outline
        ends = (outline[0], outline[1]), (outline[-1], outline[-2])
    else:
        (_, top), *_ = _between(torso, torso.points['neckline_right'],
                                torso.points['neckline_left'], 1)  # fmt: skip
        (_, low), *_ = _between(torso, corners[0][1], corners[1][1], 1)
        ends = tuple((xy(x, top[1]), xy(x, low[1])) for x in (-_SEAM, _SEAM))
    shares = np.linspace(0, 1, 4)[:, np.newaxis]
    return [(torso, at) for top, low in ends for at in top + shares * (low - top)]


def _skirt(part: Part) -> dict[int, _Place]:
    waist, corner = part.points['waistband_left'], part.points['hemline_left']
    side, low = _between(part, waist, corner, 1)[0], _between(part, corner, mirror(corner), 1)[0]
    top = _between(part, mirror(waist), waist, 1)[0]
    other = part, mirror(side[1])
    course = [(part, waist), top, (part, mirror(waist)), side, (part, corner), low,
              (part, mirror(corner)), other]  # fmt: skip
    return dict(enumerate(course, 1))


def _trousers(points: Mapping[str, _Place], is_short: bool) -> dict[int, _Place]:
    left, right = (points[f'waistband_{side}'] for side in ('left', 'right'))
    crotch = points['crotch']
    middle = crotch[0], (left[1] + right[1]) / 2 + (0, 0.03)
    legs = list(_legs(points, 0 if is_short else 1))
    return dict(enumerate([left, middle, right, *legs[0], crotch, *legs[1][::-1]], 1))


def _legs(points: Mapping[str, _Place], on_inner: int) -> Iterator[list[_Place]]:
    """Yield of each leg the points from the waist round its end to the crotch, without these."""
    for side in ('left', 'right'):
        part, out = points[f'bottom_{side}_out']
        inside = points[f'bottom_{side}_in'][1]
        outer = _between(part, points[f'waistband_{side}'][1], out, 1 + on_inner)
        inner = _between(part, inside, points['crotch'][1], on_inner)
        yield [*outer, (part, out), (part, inside), *inner]
