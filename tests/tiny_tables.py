"""CSVs of skirts, written row by row."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

HEADER = 'image_id,image_category,waistband_left,waistband_right,hemline_left,hemline_right'


def write_skirts(folder: pathlib.Path, **tables: Sequence[str]) -> pathlib.Path:
    """Write the rows of each table as folder/NAME.csv; the folder."""
    for name, rows in tables.items():
        (folder / f'{name}.csv').write_text('\n'.join([HEADER, *rows, '']))
    return folder
