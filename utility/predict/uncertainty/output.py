"""What is told of radii: a table of them, and a warning where they may not hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from absl import logging

from preprocessing.files import csv_bytes
from utility.predict.uncertainty.calibration import LEVEL, Calibration
from utility.statistics import conformal

if TYPE_CHECKING:
    from utility.predict.predictor import Predictions

_ALARM = 0.01  # p-value of a shift that is warned of


def sentence_of(shifts: Sequence[conformal.Shift]) -> str | None:
    """Return what to warn of, where pictures are unlike those that calibrated; else None."""
    found = [shift for shift in shifts if shift.p_value < _ALARM]
    if not found:
        return None
    first = found[0]
    return (
        f'these pictures are unlike those that calibrated: {len(found)} of {len(shifts)} features '
        f'differ, most the {first.feature} of {first.group} (Kolmogorov-Smirnov distance '
        f'{first.distance:.2f}, p = {first.p_value:.2g}); radii may be too small or too large'
    )


def warn_of_shift(calibration: Calibration, predictions: Predictions) -> None:
    """Log a warning where pictures are unlike those that calibrated."""
    sentence = sentence_of(calibration.shifts(predictions))
    if sentence:
        logging.warning('%s', sentence)


COLUMNS = ('image_id', 'image_category', 'keypoint', 'x', 'y', 'score', 'radius', 'expected_error')


def table_of(
    calibration: Calibration,
    predictions: Predictions,
    level: float = LEVEL,
    reject_above: float | None = None,
) -> bytes:
    """Return a CSV with a row for each point: COLUMNS, and `rejected` where a limit is given."""
    radii = calibration.radii(predictions, level)
    expected = calibration.expected_errors(predictions)
    rows = [[*COLUMNS, *(['rejected'] if reject_above is not None else [])]]
    for row, k in np.argwhere(predictions.visibility >= 0):
        x, y = predictions.keypoints[row, k]
        numbers = (x, y, predictions.scores[row, k], radii[row, k], expected[row, k])
        cells = [predictions.image_ids[row], predictions.categories[row], calibration.keypoints[k]]
        cells += [f'{number:.4f}' for number in numbers]
        rows.append(cells)
        if reject_above is not None:
            rows[-1].append(int(radii[row, k] > reject_above))
    return csv_bytes(rows)
