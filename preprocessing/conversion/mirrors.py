"""Do left and right of a schema mirror each other on the data?

A wrong pair in a schema spoils every flipped picture of a training, and nothing else tells of it.
Published tables have such faults: see docs/data.md.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from preprocessing.conversion.dataset_info import Part
from preprocessing.conversion.screening import Entry
from preprocessing.schema import KeypointSchema

MIN_PICTURES = 30  # with a point; fewer say nothing of where it usually is
# A partner is doubtful if it is usually farther from the point's mirror image than this share of
# the garment's size, and another point is at less than half of that.
_DOUBTFUL = 0.1


def warnings(part: Part, schema: KeypointSchema) -> list[str]:
    """Return sentences about the pairs of a schema that are no mirror pairs on these records."""
    found = []
    for category, entries in part.items():
        own = schema.subset(category)
        places = _usual_places(entries, list(schema.indices(category)))
        for k, partner in enumerate(own.flip_permutation):
            nearest = _nearer(places, k, partner)
            if nearest is not None:
                a, b, c = (own.keypoints[i] for i in (k, partner, nearest))
                says = f'{a} changes places with {b}' if k != partner else f'{a} is its own mirror'
                found.append(
                    f'{category}: by the schema {says} in a mirror, but on the data the mirror '
                    f'image of {a} is where {c} is; correct swaps if the schema is wrong'
                )
    return found


def _usual_places(entries: Sequence[Entry], indices: list[int]) -> np.ndarray:
    """Return medians of the points about the middle of their box, as shares of its size.

    Returns:
        float64 [n, 2], x to the right; NaN of a point that too few pictures have.
    """
    places = np.full((len(indices), 2), np.nan)
    if not entries:
        return places
    points = np.stack([e.annotation.keypoints[indices] for e in entries]).astype(np.float64)
    there = np.stack([e.annotation.visibility[indices] for e in entries]) >= 0
    points[~there] = np.nan
    usable = there.any(1)
    points, there = points[usable], there[usable]
    if not len(points):
        return places
    low, high = np.nanmin(points, axis=1), np.nanmax(points, axis=1)
    size = np.maximum(np.hypot(*(high - low).T), 1.0)
    points = (points - (low + high)[:, np.newaxis] / 2) / size[:, np.newaxis, np.newaxis]
    enough = there.sum(0) >= MIN_PICTURES
    places[enough] = np.nanmedian(points[:, enough], axis=0)
    return places


def _nearer(places: np.ndarray, k: int, partner: int) -> int | None:
    """Return the point clearly nearer to the mirror image of point k than its partner."""
    distances = np.hypot(*(places - places[k] * [-1, 1]).T)
    if np.isnan(distances[partner]) or distances[partner] <= _DOUBTFUL:
        return None
    nearest = int(np.nanargmin(distances))
    return nearest if distances[nearest] < distances[partner] / 2 else None
