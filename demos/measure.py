"""Measures garments in pictures: widths and lengths between points, with how sure they are.

    python demos/measure.py --model_dir=RUN --category=blouse IMAGE... --uncertainty=RUN
    python demos/measure.py --model_dir=RUN --category=blouse IMAGE --uncertainty=RUN \\
        --reference=x1,y1,x2,y2 --reference_cm=29.7 --output=measurements.csv

Without a reference lengths are in shoulder widths, or in what --unit names; with one, the ends of
something of known length in the picture, px, they are in cm. --uncertainty, as of eval_metrics.py,
gives each length the interval that holds the length between the annotated points as often as is
asked for: it is calibrated on lengths between annotated points, not added up from the radii of the
points. The interval of a length in units of another one adds the relative half widths of both: it
holds at least where both are right. What is measured is named in the schema of the data set.

What is measured is the picture of a garment. A sleeve that hangs bent or points to the camera is
longer than the straight line between its ends; a fold, or a body turned to the side, makes a
garment narrower; what is nearer to the camera looks larger. No interval knows of these. Lay the
garment flat and smooth, the reference beside it in the same plane, and take the picture from
straight above. The reference itself is taken as exact.
"""

from __future__ import annotations

import math
import os
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import utility  # noqa: F401, before all that may not be installed

# isort: split
import numpy as np
from absl import flags, logging

from config import UserError
from preprocessing.files import check_output, csv_bytes, json_bytes, write_bytes
from utility.checkpoints import runs
from utility.command_line import scripts
from utility.command_line.text_table import text_table
from utility.predict import flags as prediction_flags
from utility.predict import uncertainty

_UNITS = ('shoulder_width', 'chest_width', 'waistband_width')  # the first that a garment has
COLUMNS = ('image', 'category', 'measurement', 'length', 'low', 'high', 'unit', 'px')


class Length(NamedTuple):
    """A measured length.

    Attributes:
        name: Of the measurement.
        px: Its length in the picture.
        half: By how much it may be wrong, px; None where that is not known.
    """

    name: str
    px: float
    half: float | None


class Row(NamedTuple):
    """A line of the output: a length in a unit, with its interval; None where not known."""

    image: str
    category: str
    measurement: str
    length: float
    low: float | None
    high: float | None
    unit: str
    px: float


def _define_flags() -> None:
    flags.DEFINE_list('model_dir', None, 'A run, or several with commas as one.')
    flags.DEFINE_string('category', None, 'What the pictures show.')
    flags.DEFINE_list('reference', None, 'x1,y1,x2,y2: ends of a known length in the picture, px.')
    flags.DEFINE_float('reference_cm', None, 'How long that is.')
    flags.DEFINE_string(
        'unit', None, f'The measurement that is 1; default: the first there is of {_UNITS}.'
    )
    flags.DEFINE_string('output', None, 'Where the lengths go too: a .csv or a .json.')
    prediction_flags.define(flip_test=True)
    prediction_flags.define_uncertainty()


def reference_scale(values) -> float | None:
    """Return cm per px by the flags; None without a reference.

    Raises:
        UserError: Only one of the two is given, or one means nothing.
    """
    if (values.reference is None) != (values.reference_cm is None):
        raise UserError('--reference=x1,y1,x2,y2 and --reference_cm go together')
    if values.reference is None:
        return None
    try:
        x1, y1, x2, y2 = map(float, values.reference)
    except ValueError as error:
        raise UserError(
            f'--reference={",".join(values.reference)}: must be x1,y1,x2,y2, px'
        ) from error
    px, cm = math.hypot(x2 - x1, y2 - y1), values.reference_cm
    if not (0 < px < math.inf and 0 < cm < math.inf):
        raise UserError(
            f'--reference={",".join(values.reference)} --reference_cm={cm}: must be two different '
            'points and a positive length'
        )
    return cm / px


def lengths_of(points, visibility, category: str, schema, half_of=None) -> list[Length]:
    """Return the lengths of a picture whose points are all there.

    Args:
        points: [K, 2], px.
        visibility: [K]; lengths to a point with -1, which is absent or rejected, are left out.
        schema: The whole one.
        half_of: Returns by how much a length may be wrong, of its name and its ends; None: unknown.
    """
    lengths = []
    for name, ends in schema.measurements_of(category).items():
        places = [schema.keypoints.index(point) for end in ends for point in end]
        if all(visibility[place] >= 0 for place in places):
            half = half_of(name, ends) if half_of else None
            lengths.append(Length(name, uncertainty.length(ends, points, schema.keypoints), half))
    return lengths


def in_units(lengths: Sequence[Length], unit: str | None, scale: float | None) -> list[tuple]:
    """Return (name, length, low, high, unit name, px) of lengths; low and high None where unknown.

    Args:
        lengths: Of a picture.
        unit: The name of the length that is 1; None: the first of _UNITS that there is, or else px.
        scale: cm per px; None: in units.

    Raises:
        UserError: There is no such length.
    """
    by_name = {length.name: length for length in lengths}
    if unit is not None and unit not in by_name:
        raise UserError(f'--unit={unit}: not measured here; there are: {", ".join(by_name)}')
    name = unit or next((own for own in _UNITS if own in by_name), None)
    one = None
    if scale is not None:
        factor, label = scale, 'cm'
    elif name is not None and by_name[name].px > 0:
        one = by_name[name]
        factor, label = 1 / one.px, name
    else:
        factor, label = 1.0, 'px'
    rows = []
    for length in lengths:
        low = high = None
        if length.half is not None:
            half = length.half
            if one is length:
                half = 0.0  # it is 1 by what the unit means
            elif one is not None:
                half += length.px * one.half / one.px
            low, high = max(0.0, length.px - half) * factor, (length.px + half) * factor
        rows.append((length.name, length.px * factor, low, high, label, length.px))
    return rows


def rows_of(
    pictures: Mapping[str, list[Length]], category: str, unit: str | None, scale: float | None
) -> list[Row]:
    """Return the lines of all pictures. One without any length, or without that of the unit, is
    left out with a warning.

    Args:
        pictures: Their paths -> their lengths.
        category: Of all.
        unit, scale: As of in_units.
    """
    rows = []
    for path, lengths in pictures.items():
        if not lengths or unit not in (None, *(length.name for length in lengths)):
            logging.warning('%s is left out: no %s in it', path, unit or 'length')
            continue
        rows += [Row(path, category, *own) for own in in_units(lengths, unit, scale)]
    return rows


def measure(paths: Sequence[str], values) -> list[Row]:
    """Predict picture files and measure what is in them.

    Raises:
        UserError: A file cannot be used, or the schema does not name the measurements.
    """
    from demos import draw_keypoints
    from utility.predict import predictor

    scale, category = reference_scale(values), values.category
    schema = runs.schema_of(values.model_dir[0])
    known = schema.measurements_of(category)
    if not known:
        raise UserError(
            f"the schema of {schema.name} names no measurements of {category}: add 'measurements' "
            'to its file'
        )
    if values.unit is not None and values.unit not in known:
        raise UserError(f'--unit={values.unit}: not measured; there are: {", ".join(known)}')
    options = prediction_flags.options(values)
    calibration, options = prediction_flags.uncertainty(values, values.model_dir, options)
    checked = draw_keypoints.read_images(list(paths))
    predictions = predictor.predict_images(
        values.model_dir, list(checked), list(checked.values()), [category] * len(checked), options
    )
    visibility, radii = draw_keypoints.circles(calibration, predictions, values)
    sizes = calibration.sizes(predictions) if calibration else radii
    pictures = {}
    for row, path in enumerate(checked):

        def half_of(name, ends, own=sizes[row]):
            level = values.uncertainty_level
            half = calibration.length_interval(category, name, ends, own, level)
            return half if np.isfinite(half) else None

        pictures[path] = lengths_of(
            predictions.keypoints[row].astype(float),
            visibility[row],
            category,
            schema,
            half_of if calibration else None,
        )
    return rows_of(pictures, category, values.unit, scale)


def _text(rows: Sequence[Row], level: float) -> str:
    lines = [['', 'length', 'unit', f'{100 * level:g} % interval', 'px']]
    for image in dict.fromkeys(row.image for row in rows):
        lines.append([image])
        for row in (row for row in rows if row.image == image):
            interval = '' if row.low is None else f'[{row.low:.2f}, {row.high:.2f}]'
            lines.append(
                [row.measurement, f'{row.length:.2f}', row.unit, interval, f'{row.px:.1f}']
            )
    return text_table(lines)


def _content(rows: Sequence[Row], suffix: str) -> bytes:
    if suffix == '.json':
        return json_bytes([row._asdict() for row in rows])
    # The CSV has nothing where a value is None.
    cells = [[f'{v:.4f}' if isinstance(v, float) else v for v in row] for row in rows]
    return csv_bytes([COLUMNS, *cells])


def main(positional: list) -> None:
    values = flags.FLAGS
    if not (values.model_dir and values.category and positional):
        raise UserError('--model_dir, --category and picture files are needed')
    suffix = os.path.splitext(values.output or '')[1]
    if values.output and suffix not in ('.csv', '.json'):
        raise UserError(f'--output={values.output}: must end in .csv or .json')
    reference_scale(values)
    if values.output:
        check_output(values.output)
    rows = measure(positional, values)
    print(_text(rows, values.uncertainty_level))
    if values.output:
        write_bytes(values.output, _content(rows, suffix))
        print(values.output)


if __name__ == '__main__':
    _define_flags()
    scripts.run(main, __doc__)
