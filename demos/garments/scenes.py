"""A whole picture: garment, whoever shows it, background, occluders, light and camera."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import NamedTuple

import cv2
import numpy as np

from config import UserError
from demos.garments import backgrounds, body, bottoms, fabrics, occluders, sleeves, tops
from demos.garments.canvas import SUPERSAMPLE, Canvas, Placement
from demos.garments.parts import Garment, Part, pick
from preprocessing.datasets.fashionai import SCHEMA
from preprocessing.schema import KeypointSchema
from preprocessing.tables import ABSENT_INDEX

MIN_SIZE = 32  # px
TOPS = ('blouse', 'dress', 'outwear')
_SHOWN = ('person', 'mannequin', 'hanger', 'flat')
_SHOWN_WEIGHTS = {'top': (46, 10, 20, 24), 'bottom': (56, 0, 18, 26)}
_ASPECTS = (1.0, 0.75, 0.8, 4 / 3)  # width / height
_ASPECT_WEIGHTS = (50, 25, 17, 8)
OCCLUDED_SHARE = 0.3  # of the pictures have an occluder
CROPPED_SHARE = 0.14  # of the pictures are framed so closely that points may be outside
TILTED_SHARE = 0.22  # of the pictures are tilted by more than a few degrees


def render(
    category: str, rng: np.random.Generator, size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw one garment.

    The same generator state gives the same scene at any size.

    Args:
        category: One of the five categories of the FashionAI schema.
        rng: Source of all randomness.
        size: Longest side, px; at least MIN_SIZE.

    Returns:
        image: uint8 [H, W, 3] RGB.
        keypoints: float32 [24, 2], continuous px (pixel centers at +0.5); where absent
            (-0.5, -0.5), as a reader of the CSV file would give.
        visibility: int32 [24]: 1 visible, 0 occluded, -1 absent, outside or of other categories.

    Raises:
        UserError: category is unknown or size is too small.
    """
    scene = draw(category, rng, size)
    return (scene.image, *scene.answers(SCHEMA))


class Scene(NamedTuple):
    """A picture of a garment.

    Attributes:
        image: uint8 [H, W, 3] RGB.
        category: As the points were named for.
        points: Keypoint -> [2] continuous px, also outside the picture.
        hidden: Keypoints that cannot be seen.
        box: float32 [4] (x_min, y_min, x_max, y_max) px, of the garment within the picture.
    """

    image: np.ndarray
    category: str
    points: Mapping[str, np.ndarray]
    hidden: frozenset[str]
    box: np.ndarray

    def answers(self, schema: KeypointSchema) -> tuple[np.ndarray, np.ndarray]:
        """Return keypoints and visibility of the points of a schema, as of render."""
        keypoints = np.full((schema.num_keypoints, 2), ABSENT_INDEX + 0.5, np.float32)
        visibility = np.full(schema.num_keypoints, -1, np.int32)
        for name in self.points.keys() & set(schema.keypoints):
            point = self.points[name]
            if (point >= 0).all() and (np.floor(point) < self.image.shape[1::-1]).all():
                k = schema.keypoints.index(name)
                keypoints[k] = point
                visibility[k] = 0 if name in self.hidden else 1
        return keypoints, visibility


def draw(
    category: str,
    rng: np.random.Generator,
    size: int,
    name_points: Callable[[str, Garment], tuple[str, Garment]] = lambda *same: same,
) -> Scene:
    """Draw one garment; arguments and errors are those of render.

    Args:
        category, rng, size: As of render.
        name_points: (category, garment) -> both in another schema, such as outlines.with_points.
    """
    if category not in SCHEMA.categories:
        raise UserError(f'category={category!r}: must be one of {", ".join(SCHEMA.categories)}')
    if size < MIN_SIZE:
        raise UserError(f'size={size}: must be at least {MIN_SIZE}')
    shown = pick(rng, _SHOWN, _SHOWN_WEIGHTS['top' if category in TOPS else 'bottom'])
    build = tops.build if category in TOPS else bottoms.build
    name, garment = name_points(category, build(category, rng, shown == 'person'))
    shape = _draw_shape(rng, size)
    placement = _draw_placement(garment, rng, shape, shown)
    wall = backgrounds.draw_wall(rng)
    sample_crop = (shape[0] * SUPERSAMPLE, shape[1] * SUPERSAMPLE)
    background = backgrounds.draw_background(rng, sample_crop, wall, shown == 'flat')
    light = np.array([rng.choice((-1.0, 1.0)) * rng.uniform(0.2, 0.7), -rng.uniform(0.4, 0.9)])
    canvas = Canvas(background, placement, _draw_materials(rng, wall, shown), light)
    _paint_scene(canvas, garment, category, shown, rng)
    image = _photograph(canvas.finish(), rng)
    hidden = garment.hidden | canvas.covered
    return Scene(image, name, canvas.points, frozenset(hidden), _box(canvas, garment, shape))


def _draw_shape(rng: np.random.Generator, size: int) -> tuple[int, int]:
    """Return (height, width) with the longest side `size`, px."""
    aspect = pick(rng, _ASPECTS, _ASPECT_WEIGHTS)
    return (size, round(size * aspect)) if aspect <= 1 else (round(size / aspect), size)


def _draw_placement(garment: Garment, rng, shape, shown: str) -> Placement:
    """Tilt, bends and frames the garment."""
    worn = shown == 'person'
    tilt = rng.normal(0, 4)
    if rng.random() < TILTED_SHARE * (0.5 if worn else 1.5):
        tilt = pick(rng, (-1, 1)) * rng.uniform(8, 24 if worn else 45)
    extent = max(garment.hem, 1.2)
    bent = Placement(
        np.eye(2, 3),
        lean=rng.uniform(-0.1, 0.1) / extent**2,
        turn=rng.normal(0, 0.08) if worn else 0.0,
        waves=tuple(
            (rng.uniform(0.005, 0.02), rng.uniform(2, 5), rng.uniform(0, 6.3), axis)
            for axis in (0, 1)
        ),
    )
    c, s = np.cos(np.radians(tilt)), np.sin(np.radians(tilt))
    widen = rng.uniform(0.94, 1.06)
    linear = np.array([[c, -s], [s, c]]) @ np.diag([widen, 1 / widen])
    cloud = bent.bend(np.vstack([part.outline for part in garment.parts])) @ linear.T
    low, high = cloud.min(axis=0), cloud.max(axis=0)
    if rng.random() < CROPPED_SHARE:
        fill = rng.uniform(1.0, 1.3)
        share = pick(rng, (-1, 1)) * rng.uniform(0.2, 0.5, 2) + 0.5
    else:
        fill = rng.uniform(0.64, 0.94)
        share = np.clip(rng.normal(0.5, 0.17, 2), 0.05, 0.95)
    points = np.array([xy for part in garment.parts for xy in part.points.values()])
    frame = np.array(shape[::-1], np.float64)
    while True:
        scale = fill * float((frame / (high - low)).min())
        offset = (frame - scale * (high - low)) * share - scale * low
        matrix = np.hstack([scale * linear, offset[:, None]])
        placement = dataclasses.replace(bent, matrix=matrix)
        placed = placement(points)
        # So close a frame that most points are outside shows no garment: step back.
        if fill <= 0.94 or ((placed >= 0) & (placed < frame)).all(axis=1).mean() > 0.6:
            return placement
        fill *= 0.92


def _draw_materials(rng, wall: np.ndarray, shown: str) -> dict[str, fabrics.Material]:
    """Return what everything in the scene is made of; mostly the garment stands out
    from the wall.
    """
    color = fabrics.contrasting(rng, wall, 75 if rng.random() < 0.9 else 25)
    main = fabrics.draw_fabric(rng, color)
    ground = main.tile.reshape(-1, 3).mean(axis=0)
    skin = fabrics.jittered(pick(rng, fabrics.SKIN_COLORS), rng, 8)
    lower = fabrics.contrasting(rng, ground, 70)
    shirt = fabrics.contrasting(rng, ground, 70)
    lining = 1.15 if ground.mean() < 60 else 0.6
    inside = main.toned(lining)
    person = shown == 'person'
    tights = skin if rng.random() < 0.75 else np.array([40.0, 38, 42])
    if shown == 'mannequin':
        skin = np.array(pick(rng, ((232, 224, 210), (60, 58, 58), (214, 190, 160))), np.float64)
    colors = {
        'trim': fabrics.contrasting(rng, ground, 60),
        'skin': skin,
        'legs': tights,
        'hair': fabrics.jittered(pick(rng, fabrics.HAIR_COLORS), rng, 8),
        'lips': np.array([186.0, 84, 84]),
        'dark': np.array([40.0, 30, 28]),
        'shirt': shirt,
        'lower': lower,
        'belt': pick(rng, (np.array([62.0, 40, 30]), np.array([30.0, 30, 32]), lower)),
        'button': pick(rng, (np.array([236.0, 230, 220]), np.array([40.0, 36, 36]), lower)),
        'metal': np.array([176.0, 178, 182]),
        'wood': fabrics.jittered((186, 144, 100), rng),
        'shoe': fabrics.jittered(pick(rng, fabrics.CLOTH_COLORS), rng),
        'leather': fabrics.contrasting(rng, ground, 60),
        'card': fabrics.contrasting(rng, ground, 60),
        'leaf': fabrics.jittered((84, 128, 80), rng),
    }
    materials = {name: fabrics.plain(value, rng) for name, value in colors.items()}
    opening = (materials['shirt'], materials['lower']) if person else (inside, inside)
    return {
        **materials,
        'main': main,
        'inside': inside,
        'opening': opening[0],
        'opening_low': opening[1],
    }


def _paint_scene(canvas: Canvas, garment: Garment, category: str, shown: str, rng) -> None:
    """Paint everything from back to front."""
    top = category in TOPS
    far, near = _behind(garment, category, shown, rng)
    unit = canvas.placement.scale
    turned = pick(rng, (-1, 1)) * rng.uniform(0.03, 0.12)
    offset = unit * np.array([turned, rng.uniform(0.03, 0.1)])
    depth = rng.uniform(0.15, 0.45) if shown != 'person' else rng.uniform(0.05, 0.25)
    canvas.cast_shadow([*far, *near, *garment.parts], offset, 0.06 * unit, depth)
    arms = _arms(garment) if shown == 'person' and top else ((), ())
    if not garment.sleeve_length:  # Bare arms are behind the garment, sleeves in front of it.
        near, arms = [*near, *arms[0], *arms[1]], ((), ())
    order = [*far, *garment.back, *near, *garment.front]
    for arm, limb in zip(arms, garment.limbs):
        order += [*arm, *limb]
    for part in [*order, *_in_front(garment, top, shown, rng)]:
        canvas.paint(part)


def _behind(garment: Garment, category: str, shown: str, rng) -> body.Layers:
    top = category in TOPS
    if shown == 'person':
        if top:
            return body.person_behind_top(category == 'outwear', rng)
        return body.person_behind_bottom(garment.arms, rng)
    if shown == 'mannequin':
        return body.mannequin_behind_top(garment.hem, rng)
    if shown == 'hanger':
        return body.hanger(rng) if top else body.clips(rng)
    return [], []


def _arms(garment: Garment) -> tuple[tuple[Part, ...], tuple[Part, ...]]:
    """Return the wearer's arms as far as they come out of the sleeves."""
    start = max(0.0, garment.sleeve_length - 0.12)
    left = sleeves.bare_arm(garment.arms[0], start)
    right = sleeves.bare_arm(sleeves.mirrored_arm(garment.arms[1]), start)
    return (left,), (sleeves.mirrored_part(right),)


def _in_front(garment: Garment, top: bool, shown: str, rng) -> list[Part]:
    """Return hair, an untucked shirt, occluders."""
    parts = []
    if shown == 'person' and top and rng.random() < 0.2:
        parts += body.hair_strands(rng)
    if shown == 'person' and not top and rng.random() < 0.14:
        parts.append(body.untucked_shirt(rng))
    if rng.random() < OCCLUDED_SHARE:
        points = {name: xy for part in garment.parts for name, xy in part.points.items()}
        parts += occluders.draw_occluder(rng, points)
    return parts


def _photograph(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return uneven light, tint, blur and sensor noise."""
    h, w = image.shape[:2]
    corners = 1 + rng.uniform(-0.14, 0.12, (2, 2, 1)) + rng.uniform(-0.03, 0.03, 3)
    light = np.clip(200 * corners, 0, 255).astype(np.uint8)
    light = cv2.resize(light, (w, h), interpolation=cv2.INTER_LINEAR)
    image = cv2.multiply(image, light, scale=1 / 200)
    sigma = max(0.0, rng.normal(0.1, 0.35)) * max(h, w) / 256
    if sigma > 0.25:
        image = cv2.GaussianBlur(image, (0, 0), sigma)
    tile = rng.standard_normal((128, 128, 3), np.float32) * rng.uniform(0.5, 5)
    noise = np.tile(tile, (-(-h // 128), -(-w // 128), 1))[:h, :w]
    return cv2.add(image, noise, dtype=cv2.CV_8U)


def _box(canvas: Canvas, garment: Garment, shape: tuple[int, int]) -> np.ndarray:
    """Return the box around the garment, as far as it is in the picture: float32 [4]."""
    outline = canvas.placement(np.vstack([part.outline for part in garment.parts]))
    corners = np.clip([outline.min(axis=0), outline.max(axis=0)], 0, shape[::-1])
    return corners.ravel().astype(np.float32)
