"""How radii do on pictures with known points: coverage, sizes and what a limit of them leaves."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from config import UserError
from preprocessing.schema import KeypointSchema
from preprocessing.tables import KeypointTable
from utility.command_line.text_table import text_table
from utility.metrics import normalized_error
from utility.predict.uncertainty.calibration import LEVEL
from utility.statistics import conformal
from utility.statistics.bootstrap import image_sums, ratio_interval

if TYPE_CHECKING:
    from utility.predict.predictor import Predictions

SHARES = (1.0, 0.95, 0.9, 0.8, 0.7, 0.5)  # of the points kept, of a risk-coverage curve


@dataclasses.dataclass(frozen=True)
class Assessment:
    """How radii have done on pictures with known points.

    Attributes:
        level: That they were to hold.
        points: How many points.
        coverage: The share that they held.
        interval: Its 95 % interval, by a bootstrap over pictures; None of a single picture.
        mean_radius: px.
        median_radius: px.
        per_category: Category -> (coverage, low, high, points), low and high NaN of one picture.
        curve: Share of the points kept, the largest radius kept in px, NE of what is kept.
        rejected: What a limit of the radius leaves: 'above', px, 'points' that are rejected and
            'of' how many scored ones, and NE of the others, None without any; None: no limit.
    """

    level: float
    points: int
    coverage: float
    interval: tuple[float, float] | None
    mean_radius: float
    median_radius: float
    per_category: Mapping[str, tuple[float, float, float, int]]
    curve: Sequence[tuple[float, float, float]]
    rejected: Mapping[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def assess(
    radii: np.ndarray,
    predictions: Predictions,
    annotations: KeypointTable,
    schema: KeypointSchema,
    level: float = LEVEL,
    reject_above: float | None = None,
) -> Assessment:
    """Compare radii [N, K] with errors; arguments as of
    fitting.calibrate, and a limit of the radius, px.

    Raises:
        UserError: No point is annotated.
    """
    annotated = (predictions.visibility >= 0) & (annotations.visibility >= 0)
    if not annotated.any():
        raise UserError('no annotated point, to compare radii with')
    errors = np.linalg.norm(predictions.keypoints - annotations.keypoints, axis=-1)
    held = np.where(annotated, errors <= radii, np.nan)
    normalizers = normalized_error.normalizers_of(annotations, schema)
    normalized = normalized_error.normalized_distances(
        predictions.keypoints, annotations.keypoints, annotations.visibility, normalizers
    )
    scored = ~np.isnan(normalized)
    categories = annotations.categories.astype(str)
    parts = {name: held[categories == name] for name in schema.categories}
    curve = conformal.risk_coverage(radii[scored], normalized[scored], SHARES)
    return Assessment(
        level=level,
        points=int(annotated.sum()),
        coverage=share(held)[0],
        interval=share(held)[1:] if len(held) > 1 else None,
        mean_radius=float(radii[annotated].mean()),
        median_radius=float(np.median(radii[annotated])),
        per_category={
            name: (*share(part), int(np.isfinite(part).sum()))
            for name, part in parts.items()
            if np.isfinite(part).any()
        },
        curve=curve if scored.any() else (),
        rejected=None
        if reject_above is None
        else _rejected(radii[scored], normalized[scored], reject_above),
    )


def _rejected(radii: np.ndarray, errors: np.ndarray, above: float) -> dict[str, Any]:
    kept = radii <= above
    error = float(errors[kept].mean()) if kept.any() else None
    count = int(np.count_nonzero(~kept))
    return {'above': above, 'points': count, 'of': len(radii), 'normalized_error': error}


def format_assessment(found: Assessment) -> str:
    """Return an Assessment as tables for people."""
    rows = [[f'radii of {100 * found.level:g} %', 'held %', '95 % interval', 'points']]
    every = (found.coverage, *(found.interval or (math.nan, math.nan)), found.points)
    for name, (held, low, high, points) in {'all': every, **found.per_category}.items():
        rows.append([name, f'{100 * held:.1f}', f'[{100 * low:.1f}, {100 * high:.1f}]', points])
    lines = [
        text_table(rows),
        f'radius: mean {found.mean_radius:.1f} px, median {found.median_radius:.1f} px',
    ]
    if found.curve:
        curve = [['points kept', 'largest radius, px', 'NE % of them']]
        curve += [[f'{100 * s:g} %', f'{r:.1f}', f'{100 * e:.2f}'] for s, r, e in found.curve]
        lines.append(text_table(curve))
    if found.rejected:
        error = found.rejected['normalized_error']
        rest = 'none is left' if error is None else f'NE of the others {100 * error:.4f} %'
        lines.append(
            '{points} of {of} scored points have a radius above {above:g} px; '.format(
                **found.rejected
            )
            + rest
        )
    return '\n'.join(lines)


def share(held: np.ndarray) -> tuple[float, float, float]:
    """Return the share of ones in [N, K], NaN left out, and its 95 % interval over pictures."""
    sums, counts = image_sums(held)
    if len(sums) < 2:
        return float(sums.sum() / counts.sum()), math.nan, math.nan
    return tuple(ratio_interval(sums, counts))
