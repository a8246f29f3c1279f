"""NE and PCK of pictures that are alike: by how much is occluded, how far turned, how large.

All is taken from the annotations: a picture is in the same bin whatever is predicted for it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from preprocessing.schema import KeypointSchema
from preprocessing.tables import KeypointTable
from utility.metrics.normalized_error import pck
from utility.statistics.bootstrap import ne_interval

UNKNOWN = 'unknown'


class Subset(NamedTuple):
    """A property of pictures and the bins it is looked at in.

    Attributes:
        title: For people.
        edges: Between the bins, ascending; a value on an edge is in the bin above it.
        labels: Of the bins, one more than edges.
    """

    title: str
    edges: tuple[float, ...]
    labels: tuple[str, ...]


# Of 9,943 scored pictures of FashionAI each bin holds 4 to 50 %.
SUBSETS = {
    'occlusion': Subset(
        'Occluded points',
        (1e-6, 0.15, 0.3),
        ('none', 'under 15 %', '15 to 30 %', '30 % and more'),
    ),
    'rotation': Subset(
        'Turned from upright',
        (2, 5, 10, 20),
        ('under 2 degrees', '2 to 5 degrees', '5 to 10 degrees', '10 to 20 degrees', '20 and more'),
    ),
    'garment_size': Subset(
        "Longest side of the garment's box over the picture's",
        (0.4, 0.6, 0.8),
        ('under 40 %', '40 to 60 %', '60 to 80 %', '80 % and more'),
    ),
}


class Bin(NamedTuple):
    """NE and PCK of the pictures of a bin that have a scored point; all are fractions.

    Attributes:
        label: Of the bin, or UNKNOWN.
        images: How many pictures.
        points: How many points are scored.
        normalized_error: NE.
        interval: The ends of its confidence interval (statistics.LEVEL); None of a single picture.
        pck: Of the points, as of metrics.pck.
    """

    label: str
    images: int
    points: int
    normalized_error: float
    interval: tuple[float, float] | None
    pck: Mapping[str, float]


def occlusions(visibility: np.ndarray) -> np.ndarray:
    """Return the share of annotated points [N, K] that are occluded: float64 [N], or NaN."""
    annotated = (visibility >= 0).sum(1)
    occluded = (visibility == 0).sum(1)
    return np.where(annotated > 0, occluded / np.maximum(annotated, 1), math.nan)


def rotations(keypoints: np.ndarray, visibility: np.ndarray, schema: KeypointSchema) -> np.ndarray:
    """Return by how many degrees each garment is turned; positive is clockwise.

    An upright garment has the points of a pair side by side, the left one on the left. The angle is
    that of the median, in x and in y, of the directions of all pairs: one arm that is raised moves
    the two pairs of its cuff and not the others.

    Args:
        keypoints: [N, K, 2], px.
        visibility: [N, K]; points with -1 do not count.
        schema: Pairs the points; tells which usually stands left, or the first of a pair does.

    Returns:
        float64 [N], from -180 to 180; NaN where no pair is annotated or its points coincide.
    """
    left, right = _side_by_side(schema)
    offsets = keypoints[:, right].astype(np.float64) - keypoints[:, left]
    lengths = np.linalg.norm(offsets, axis=-1)
    has_pair = (visibility[:, left] >= 0) & (visibility[:, right] >= 0) & (lengths > 0)
    angles = np.full(len(keypoints), math.nan)
    for row in np.flatnonzero(has_pair.any(1)):
        directions = offsets[row, has_pair[row]] / lengths[row, has_pair[row], np.newaxis]
        x, y = np.median(directions, axis=0)
        angles[row] = math.degrees(math.atan2(y, x))
    return angles


def _side_by_side(schema: KeypointSchema) -> np.ndarray:
    """Return int [2, pairs]: indices of the points of each pair, those that stand left first."""
    left_of = {tuple(map(schema.keypoints.index, pair)) for pair in schema.left_of}
    pairs = [pair[::-1] if pair[::-1] in left_of else pair for pair in schema.side_pairs]
    return np.array(pairs, int).reshape(-1, 2).T


def garment_sizes(
    keypoints: np.ndarray, visibility: np.ndarray, image_sizes: np.ndarray
) -> np.ndarray:
    """Return the longest side of the box of the annotated points over that of the picture.

    Args:
        keypoints: [N, K, 2], px.
        visibility: [N, K]; points with -1 do not count.
        image_sizes: [N, 2], (height, width), px; NaN where unknown.

    Returns:
        float64 [N]; NaN without a point or a size.
    """
    is_annotated = (visibility >= 0)[..., np.newaxis]
    low = np.where(is_annotated, keypoints, math.inf).min(1)
    high = np.where(is_annotated, keypoints, -math.inf).max(1)
    sides = (high - low).max(1)
    return np.where(np.isfinite(sides), sides, math.nan) / np.asarray(image_sizes).max(1)


def properties(
    annotations: KeypointTable, schema: KeypointSchema, image_sizes: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Return the properties that SUBSETS names: name -> [N]; rotations without their sign.

    Args:
        annotations: Of N pictures.
        image_sizes: As of garment_sizes; None: without the sizes of garments.
    """
    by_name = {
        'occlusion': occlusions(annotations.visibility),
        'rotation': np.abs(rotations(annotations.keypoints, annotations.visibility, schema)),
    }
    if image_sizes is not None:
        sizes = garment_sizes(annotations.keypoints, annotations.visibility, image_sizes)
        by_name['garment_size'] = sizes
    return by_name


def bins(distances: np.ndarray, values: np.ndarray, subset: Subset) -> list[Bin]:
    """Return NE by bins of a property.

    Args:
        distances: [N, K], normalized; NaN where a point is not scored.
        values: [N], the property; NaN where unknown.

    Returns:
        Those with a scored point, in order; they hold each scored picture once.
    """
    unknown = len(subset.labels)
    numbers = np.where(np.isnan(values), unknown, np.digitize(values, subset.edges))
    has_points = ~np.isnan(distances).all(1)
    parts = (
        (label, distances[has_points & (numbers == number)])
        for number, label in enumerate((*subset.labels, UNKNOWN))
    )
    return [_bin(label, part) for label, part in parts if len(part)]


def _bin(label: str, distances: np.ndarray) -> Bin:
    scored = distances[~np.isnan(distances)]
    interval = tuple(ne_interval(distances)[1:]) if len(distances) > 1 else None
    return Bin(label, len(distances), len(scored), float(scored.mean()), interval, pck(scored))


def all_bins(distances: np.ndarray, values: Mapping[str, np.ndarray]) -> dict[str, list[Bin]]:
    """Return bins() of several of SUBSETS: name -> its bins, of name -> values [N]."""
    return {name: bins(distances, of_name, SUBSETS[name]) for name, of_name in values.items()}
