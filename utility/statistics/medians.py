"""Several measurements of one thing in three numbers."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import NamedTuple


class Summary(NamedTuple):
    """Several numbers: the median, half the distance between the quartiles, how many there are."""

    median: float
    spread: float
    count: int


def summarize(values: Sequence[float]) -> Summary:
    """Return the median and the spread of at least one number."""
    if len(values) < 2:
        return Summary(values[0], 0.0, 1)
    low, median, high = statistics.quantiles(values, n=4, method='inclusive')
    return Summary(median, (high - low) / 2, len(values))
