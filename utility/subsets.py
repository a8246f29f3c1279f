"""NE of pictures that are alike: by how much is occluded, how far they are turned, how large.

Rotations, occlusions and sizes are taken from the answers, so that each picture is in the same bin
whatever is predicted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from preprocessing.schema import KeypointSchema
from preprocessing.tables import KeypointTable
from utility.statistics import LEVEL, ne_interval


class Subset(NamedTuple):
    """A property of pictures and the bins it is looked at in.

    Attributes:
        title: For people.
        edges: Of the bins, ascending; each holds its lower edge, and the last both.
        percent: Whether values are shares, shown in percent; otherwise they are degrees.
    """

    title: str
    edges: tuple[float, ...]
    percent: bool = True

    def label(self, low: float, high: float) -> str:
        factor, unit = (100, '%') if self.percent else (1, 'degrees')
        return f'{factor * low:g} to {factor * high:g} {unit}'


# About a third of 9,996 pictures of FashionAI have no occluded point, are turned by less than 1.2
# degrees, are smaller than 0.55.
SUBSETS = {
    'occlusion': Subset('Occluded points', (0, 0.001, 0.15, 0.3, 1)),
    'rotation': Subset('Turned from upright', (0, 2, 5, 10, 20, 180), percent=False),
    'garment_size': Subset('Garment over picture', (0, 0.4, 0.6, 0.8, 10)),
}


class Bin(NamedTuple):
    """NE of the pictures of a bin; errors are fractions, NaN where too little is scored.

    Attributes:
        label: The range, for people.
        low: Its lower edge.
        high: Its upper edge.
        images: How many pictures have a scored point.
        points: How many points are scored.
        normalized_error: NE.
        interval_low: End of its confidence interval of level statistics.LEVEL.
        interval_high: The other end.
    """

    label: str
    low: float
    high: float
    images: int
    points: int
    normalized_error: float
    interval_low: float
    interval_high: float
