"""Who or what shows the garment: a person, a mannequin, a hanger."""

from __future__ import annotations

import numpy as np

from demos.garments.bottoms import bare_leg, shoe
from demos.garments.parts import (
    Limb,
    Line,
    Part,
    arc,
    box,
    ellipse,
    heading,
    mirror,
    pick,
    spline,
    strip,
    xy,
)
from demos.garments.sleeves import bare_arm, mirrored_arm, mirrored_part

Layers = tuple[list[Part], list[Part]]  # Behind the garment's back parts, and in front of them.


def person_behind_top(warm: bool, rng: np.random.Generator) -> Layers:
    """Return hair, legs, torso, neck and head of whoever wears a top.

    Args:
        warm: Whether something is worn below it, too.
    """
    parts = []
    hair = pick(rng, ('long', 'bob', 'short', 'bun'))
    if hair in ('long', 'bob'):
        end = -0.45 if hair == 'long' else -0.95
        parts.append(
            _symmetric([(0, -1.66), (-0.27, -1.52), (-0.33, -1.2), (-0.33, end), (0, end)], 'hair')
        )
    if hair == 'bun':
        parts.append(Part(ellipse((0, -1.7), (0.15, 0.14)), 'hair'))
    parts += _lower_clothes(rng)
    shirt = [_inner_shirt(rng)] if warm else []
    return parts, [*_torso_and_neck(), *shirt, *_head(rng)]


def mannequin_behind_top(hem: float, rng: np.random.Generator) -> Layers:
    """Return a dress-maker's dummy: pole, torso and capped neck; `hem` is where the
    garment ends.
    """
    end = hem + rng.uniform(0.6, 1.0)
    foot = Part(ellipse((0, end), (0.5, 0.08)), 'wood')
    pole = Part(box(-0.035, 0.5, 0.035, end), 'wood')
    cap = Part(ellipse((0, -0.98), (0.145, 0.06)), 'wood')
    return [pole, foot], [*_torso_and_neck(), cap]


def hanger(rng: np.random.Generator) -> Layers:
    """Return a hanger inside a top: its bar and its hook."""
    rise = rng.uniform(-0.74, -0.68)
    left = spline([(0, rise), (-0.22, rise + 0.06), (-0.5, -0.47)])
    bar = np.vstack([left, mirror(left)[::-1]])
    hook = spline(
        [
            (0.0, rise),
            (0.0, rise - 0.16),
            (0.09, rise - 0.24),
            (0.05, rise - 0.36),
            (-0.06, rise - 0.36),
            (-0.09, rise - 0.29),
        ]
    )
    hook_part = Part(strip(hook, (0.03, 0.03)), 'metal', relief=0.3)
    return [], [hook_part, Part(strip(bar[::2], (0.08, 0.08)), 'wood', relief=0.6)]


def clips(rng: np.random.Generator) -> Layers:
    """Return a hanger with clips that holds a lower garment by its waistband."""
    height = rng.uniform(0.1, 0.22)
    bar = Part(box(-0.56, -height - 0.03, 0.56, -height), 'metal', relief=0.3)
    hook = spline(
        [
            (0, -height),
            (0, -height - 0.16),
            (0.09, -height - 0.26),
            (0.0, -height - 0.38),
            (-0.09, -height - 0.3),
        ]
    )
    pair = [
        Part(
            box(s * 0.4 - 0.04, -height, s * 0.4 + 0.04, 0.07), 'metal', occludes=False, relief=0.4
        )
        for s in (-1, 1)
    ]
    return [], [Part(strip(hook, (0.03, 0.03)), 'metal', relief=0.3), bar, *pair]


def person_behind_bottom(legs: tuple[Limb, Limb], rng: np.random.Generator) -> Layers:
    """Return legs, shoes, upper body and head of whoever wears a skirt or trousers."""
    parts = []
    for mirrored, leg in zip((False, True), legs):
        left = mirrored_arm(leg) if mirrored else leg
        pair = [bare_leg(left), shoe(left, rng)]
        parts += [mirrored_part(p) for p in pair] if mirrored else pair
    shirt = _symmetric(
        [
            (0, -1.98),
            (-0.3, -1.98),
            (-0.68, -1.84),
            (-0.6, -1.2),
            (-0.47, -0.4),
            (-0.49, 0.1),
            (0, 0.16),
        ],
        'shirt',
    )
    neck = Part(box(-0.16, -2.35, 0.16, -1.9), 'skin')
    head = Part(ellipse((0, -2.65), (0.31, 0.4)), 'skin')
    hair = Part(ellipse((0, -2.78), (0.35, 0.36)), 'hair')
    return [], [*parts, hair, neck, head, shirt, *_arms_beside(rng)]


def untucked_shirt(rng: np.random.Generator) -> Part:
    """Return a shirt that hangs over a waistband and hides its ends."""
    low = rng.uniform(0.16, 0.3)
    return _symmetric(
        [(0, -0.5), (-0.49, -0.5), (-0.56, -0.1), (-0.59, low - 0.04), (0, low)], 'shirt'
    )


def hair_strands(rng: np.random.Generator) -> list[Part]:
    """Return long hair that falls over the shoulders of a top."""
    parts = []
    for sign in (-1.0, 1.0):
        if rng.random() < 0.75:
            end = rng.uniform(-0.3, 0.35)
            course = spline(
                [
                    (sign * 0.24, -1.3),
                    (sign * 0.3, -0.9),
                    (sign * 0.34, -0.6),
                    (sign * rng.uniform(0.26, 0.46), end),
                ]
            )
            shine = Line(course + (0.03, 0), 0.03, 1.25)
            parts.append(Part(strip(course, (0.12, 0.22, 0.24, 0.05)), 'hair', lines=(shine,)))
    return parts


def _arms_beside(rng: np.random.Generator) -> list[Part]:
    """Return arms that hang beside a lower garment, or rest on the hips, sleeves included."""
    parts = []
    for mirrored in (False, True):
        angle = np.radians(rng.uniform(10, 22))
        bend = np.radians(rng.uniform(-26, -4))
        joint = xy(-0.62, -1.66)
        elbow = joint + 1.0 * heading(angle)
        arm = Limb(joint, elbow, elbow + 0.9 * heading(angle + bend))
        course = spline([joint - (0, 0.1), joint + 0.45 * heading(angle)], 4)
        pair = [bare_arm(arm), Part(strip(course, (0.4, 0.36)), 'shirt')]
        parts += [mirrored_part(p) for p in pair] if mirrored else pair
    return parts


def _symmetric(left: list[tuple[float, float]], material: str) -> Part:
    """Return a part from the left half of its outline, smooth, from top to bottom."""
    course = spline(left)
    return Part(np.vstack([course, mirror(course)[::-1]]), material)


def _torso_and_neck() -> list[Part]:
    chest = _symmetric(
        [
            (0, -0.66),
            (-0.2, -0.65),
            (-0.48, -0.5),
            (-0.44, -0.1),
            (-0.4, 0.5),
            (-0.46, 0.8),
            (0, 0.85),
        ],
        'skin',
    )
    left = spline([(-0.125, -1.1), (-0.125, -0.8), (-0.17, -0.68), (-0.36, -0.56)])
    shadow = Line(arc(xy(-0.1, -0.94), xy(0.1, -0.94), -0.04, 8), 0.05, 0.82)
    neck = Part(np.vstack([left, mirror(left)[::-1]]), 'skin', lines=(shadow,), relief=0.6)
    return [chest, neck]


def _inner_shirt(rng: np.random.Generator) -> Part:
    """Return what is worn below an outer garment, with a round or a high neck."""
    neck = pick(rng, ([(0, -0.52), (-0.12, -0.56), (-0.2, -0.68)], [(0, -0.84), (-0.14, -0.85)]))
    return _symmetric(
        [*neck, (-0.3, -0.6), (-0.48, -0.48), (-0.44, 0.0), (-0.42, 0.8), (0, 0.85)], 'shirt'
    )


def _head(rng: np.random.Generator) -> list[Part]:
    turn = rng.uniform(-0.03, 0.03)
    face = Part(_egg(turn), 'skin', relief=0.5)
    part = rng.uniform(-0.12, 0.12)
    fringe = np.vstack(
        [
            spline(
                [
                    (-0.25, -1.2),
                    (-0.27, -1.45),
                    (-0.14, -1.64),
                    (0.02, -1.68),
                    (0.16, -1.63),
                    (0.27, -1.44),
                    (0.25, -1.2),
                ]
            ),
            spline([(0.22, -1.28), (0.18, -1.42), (part, -1.55), (-0.18, -1.42), (-0.22, -1.28)]),
        ]
    )
    eyes = [
        Part(ellipse((turn + s * 0.085, -1.29), (0.022, 0.014)), 'dark', relief=0) for s in (-1, 1)
    ]
    brows = tuple(
        Line(arc(xy(turn + x - 0.04, -1.345), xy(turn + x + 0.04, -1.345), 0.015, 5), 0.012, 0.6)
        for x in (-0.09, 0.09)
    )
    nose = Line(xy(turn + 0.015, -1.24, turn + 0.02, -1.2, turn - 0.005, -1.19), 0.01, 0.8)
    lips = Part(ellipse((turn, -1.115), (0.052, 0.017)), 'lips', lines=(*brows, nose), relief=0)
    return [face, Part(fringe, 'hair', relief=1.2), *eyes, lips]


def _egg(turn: float) -> np.ndarray:
    left = spline(
        [(0, -1.62), (-0.19, -1.52), (-0.235, -1.32), (-0.19, -1.12), (-0.08, -0.98), (0, -0.96)]
    )
    return np.vstack([left, mirror(left)[::-1]]) + (turn * 0.5, 0)


def _lower_clothes(rng: np.random.Generator) -> list[Part]:
    """Return plain trousers or bare legs below a top."""
    material = pick(rng, ('lower', 'legs'))
    parts = []
    for sign in (-1.0, 1.0):
        end = xy(sign * rng.uniform(0.22, 0.38), 3.5)
        course = spline([(sign * 0.23, 0.8), (sign * 0.25, 1.3), (sign * 0.27, 2.3), end])
        widths = (0.46, 0.46, 0.36, 0.26) if material == 'lower' else (0.44, 0.42, 0.3, 0.16)
        parts.append(Part(strip(course, widths), material))
        parts.append(Part(ellipse(end + (sign * 0.05, 0.08), (0.15, 0.1)), 'shoe'))
    hips = _symmetric([(0, 0.5), (-0.42, 0.5), (-0.5, 1.0), (-0.46, 1.25), (0, 1.3)], 'lower')
    return [*parts, hips]
