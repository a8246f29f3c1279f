"""A curve as text, for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def text_chart(values: Sequence[float], width: int = 72, height: int = 12) -> list[str]:
    """Lines of a curve from its first value to its last; the axis at the left begins at 0.

    A column that stands for several values is filled from the lowest to the highest of them, so
    that nothing between two columns is lost.

    Args:
        values: [N], not negative, at least one.
        width: Columns at the most.
        height: Rows.
    """
    parts = np.array_split(np.asarray(values, np.float64), min(width, len(values)))
    top = max(max(part.max() for part in parts), 1e-300)
    rows = [
        {round(part.min() / top * (height - 1)), round(part.max() / top * (height - 1))}
        for part in parts
    ]
    labels = {height - 1: f'{top:.3g}', (height - 1) // 2: '', 0: '0'}
    lines = []
    for row in range(height - 1, -1, -1):
        cells = ('*' if min(own) <= row <= max(own) else ' ' for own in rows)
        lines.append(f'{labels.get(row, ""):>9} |{"".join(cells)}'.rstrip())
    return lines
