"""What predictions are measured by beside NE: PCK and its AUC, EPE, OKS; by category.

Each is given for visible points alone, as NE is, and with those that are annotated as occluded.

PCK is the share of the points that are not farther off than a fraction of a length: the normalizer
(Y. Yang, D. Ramanan, Articulated human detection with flexible mixtures of parts, TPAMI 35, 2013),
or the diagonal or the longer side of the box. AUC is the area below the PCK curve from 0 to the
largest of the fractions, as a share of what it is at most. EPE, the end-point error, is the mean
distance in px of the original pictures. AP and AR are those of utility.metrics.oks, with the area
of the box.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from preprocessing.schema import KeypointSchema
from preprocessing.tables import ABSENT_INDEX, KeypointTable
from preprocessing.writers.registry import picture_of
from utility.metrics import oks
from utility.metrics.normalized_error import (
    PCK_THRESHOLDS,
    boxes_of,
    in_order_of,
    normalizers_of,
    pck,
)

LENGTHS = ('normalizer', 'box_diagonal', 'box_side')  # that PCK may be a share of
# Which points are scored -> the least visibility of these.
SCOPES = {'visible': 1, 'with_occluded': 0}
AUC_LIMIT = PCK_THRESHOLDS[-1]


class _Errors(NamedTuple):
    """Distances [N, K], NaN where not scored: px, in normalizers, and in the length of PCK."""

    pixels: np.ndarray
    normalized: np.ndarray
    by_length: np.ndarray

    def part(self, rows, columns=slice(None)) -> _Errors:
        return _Errors(*(values[rows][:, columns] for values in self))


def area_under_pck(scored: np.ndarray) -> float:
    """Return the area below the PCK curve from 0 to AUC_LIMIT, divided by AUC_LIMIT.

    Args:
        scored: [P], distances of scored points in the length of PCK, at least one.
    """
    return float(np.maximum(1 - scored / AUC_LIMIT, 0).mean())


def measure(
    predicted: KeypointTable,
    annotations: KeypointTable,
    schema: KeypointSchema,
    scores: np.ndarray | None = None,
    missing: str = 'error',
    pck_by: str = 'normalizer',
) -> dict[str, Any]:
    """Measure predictions of garments whose boxes are known.

    Args:
        predicted: The predictions, of the same garments in whatever order. A scored point that is
            predicted as absent counts as predicted at pixel (-1, -1).
        annotations: The annotations. Garments are in one picture whose image_ids name the same
            one, as of writers.registry.picture_of.
        schema: Of both.
        scores: [N], how sure each prediction is, in the order of `predicted`; AP ranks them so.
            None: as in a CSV, none is surer than another.
        missing: As of normalized_error.distances_to; with 'skip' such points are left out instead.
        pck_by: One of LENGTHS.

    Returns:
        Name in SCOPES -> 'all', 'per_category' and 'per_keypoint' -> (category or keypoint ->)
        'points', 'normalized_error', 'pck', 'auc', 'epe'; and 'oks' -> 'all' or category -> as of
        oks.average_precision, None where that is NaN. What has no scored point is left out.

    Raises:
        UserError: The garments differ, or their lengths are not known.
    """
    if scores is not None:
        rows = {image_id: row for row, image_id in enumerate(predicted.image_ids)}
        scores = np.array([scores[rows[image_id]] for image_id in annotations.image_ids])
    predicted = in_order_of(predicted, annotations, 'the prediction', 'the annotations')
    absent = predicted.visibility < 0
    points = np.where(absent[..., np.newaxis], ABSENT_INDEX + 0.5, predicted.keypoints)
    left_out = absent if missing == 'skip' else np.zeros_like(absent)
    lengths = normalizers_of(annotations, schema), _lengths(annotations, schema, pck_by)
    results = {}
    for scope, least in SCOPES.items():
        scored = (annotations.visibility >= least) & ~left_out
        errors = _errors(points, annotations, scored, lengths)
        garments = _garments(annotations, scored)
        detections = oks.Detections(
            garments.images,
            annotations.categories,
            points,
            np.ones(len(points)) if scores is None else scores,
        )
        results[scope] = {
            **_of_groups(errors, annotations, schema),
            'oks': _precisions(garments, detections, schema),
        }
    return results


def _precisions(
    garments: oks.Garments, detections: oks.Detections, schema: KeypointSchema
) -> dict[str, dict[str, float | None]]:
    """Return oks.average_precision with None, as JSON has it, where nothing is known."""
    found = oks.average_precision(garments, detections, schema)
    return {
        category: {name: None if np.isnan(value) else value for name, value in row.items()}
        for category, row in found.items()
    }


def _lengths(table: KeypointTable, schema: KeypointSchema, kind: str) -> np.ndarray:
    """Return the length that PCK divides by: float64 [N], px, 0 where it is not known."""
    if kind not in LENGTHS:
        raise ValueError(f'pck_by={kind!r}: must be one of {", ".join(LENGTHS)}')
    if kind == 'normalizer':
        return normalizers_of(table, schema)
    boxes = boxes_of(table)
    sides = boxes[:, 2:] - boxes[:, :2]
    return np.hypot(*sides.T) if kind == 'box_diagonal' else sides.max(axis=1)


def _errors(points: np.ndarray, annotations: KeypointTable, scored: np.ndarray, lengths) -> _Errors:
    """Return the distances of points [N, K, 2] where `scored` [N, K]; lengths [N] px divide."""
    offsets = np.asarray(points, np.float64) - np.asarray(annotations.keypoints, np.float64)
    pixels = np.where(scored, np.linalg.norm(offsets, axis=-1), np.nan)
    parts = [np.where(length > 0, length, np.nan)[:, np.newaxis] for length in lengths]
    return _Errors(pixels, *(pixels / part for part in parts))


def _garments(annotations: KeypointTable, scored: np.ndarray) -> oks.Garments:
    boxes = boxes_of(annotations)
    names = [picture_of(str(image_id))[0] for image_id in annotations.image_ids]
    return oks.Garments(
        images=np.array(names),
        categories=annotations.categories,
        keypoints=annotations.keypoints,
        labelled=scored,
        areas=(boxes[:, 2:] - boxes[:, :2]).prod(axis=1),
        boxes=boxes,
        crowds=np.zeros(len(boxes), bool),
    )


def _of_groups(errors: _Errors, annotations: KeypointTable, schema: KeypointSchema) -> dict:
    labels = np.asarray(annotations.categories, str)
    of_category = {name: errors.part(labels == name) for name in schema.categories}
    everything = slice(None)
    of_keypoint = {name: errors.part(everything, [k]) for k, name in enumerate(schema.keypoints)}
    groups = {'per_category': of_category, 'per_keypoint': of_keypoint}
    rows = {
        group: {name: row for name, part in parts.items() if (row := _row(part))}
        for group, parts in groups.items()
    }
    return {'all': _row(errors), **rows}


def _row(errors: _Errors) -> Mapping[str, Any]:
    """Return the numbers of some points; nothing where none is scored."""
    pixels, normalized, by_length = (values[~np.isnan(values)] for values in errors)
    if not len(pixels):
        return {}
    row = {'points': len(pixels), 'epe': float(pixels.mean())}
    if len(normalized):
        row['normalized_error'] = float(normalized.mean())
    if len(by_length):
        row.update(pck=pck(by_length), auc=area_under_pck(by_length))
    return row
