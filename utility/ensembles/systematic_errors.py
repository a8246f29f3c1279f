"""What a model does wrong in every picture, learned from annotations and undone.

Two such faults are common: all points of a kind lie off by the same (a half stride that was left
out; a crop that was mapped back with another origin), or stand in their mirrored partner's column.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from config import UserError
from preprocessing.schema import KeypointSchema
from preprocessing.tables import KeypointTable
from utility.ensembles.combination import Predictions, combine
from utility.metrics.normalized_error import normalizers_of

_PRIOR_POINTS = 20.0  # an offset of so many points is half way between that and the model's own
_LEAST_VARIANCE = 1e-9  # of residuals that are all the same
_LOCATION_STEPS = 8
_MIN_STANDARD_ERRORS = (
    3.0  # standard errors by which the partner's column must be nearer more often
)
_LEAST_SIZE = 8.0  # px; garments are taken to be no smaller


class AnnotatedPoints(NamedTuple):
    """What is true of N pictures.

    Attributes:
        keypoints: float64 [N, K, 2], px.
        present: bool [N, K]: the point is annotated.
        weights: float64 [N, K]: what a pixel of error adds to the sum of NE, 1 over the
            normalizer; 0 where a point is not scored.
    """

    keypoints: np.ndarray
    present: np.ndarray
    weights: np.ndarray

    def of_images(self, rows: np.ndarray) -> AnnotatedPoints:
        return AnnotatedPoints(*(values[rows] for values in self))


class Correction(NamedTuple):
    """How to correct M models.

    Attributes:
        mirrored: bool [M, C, K]: the point is to be taken from its partner's column.
        offsets: float64 [M, C, K, 2], to be subtracted.
        relative: bool [M]: the offsets are shares of the garment's size, not px.
    """

    mirrored: np.ndarray
    offsets: np.ndarray
    relative: np.ndarray

    def of_models(self, indices: Sequence[int]) -> Correction:
        return Correction(*(values[list(indices)] for values in self))


def annotated_points(annotations: KeypointTable, schema: KeypointSchema) -> AnnotatedPoints:
    """Return the points of annotations with their weights.

    Raises:
        UserError: No point can be scored.
    """
    lengths = normalizers_of(annotations, schema)[:, np.newaxis]
    scored = (annotations.visibility == 1) & (lengths > 0)
    if not scored.any():
        raise UserError(f'no point of {len(scored)} images can be scored')
    weights = np.where(scored, 1 / np.where(scored, lengths, 1), 0)
    points = np.asarray(annotations.keypoints, np.float64)
    return AnnotatedPoints(points, annotations.visibility >= 0, weights)


def category_codes(categories: np.ndarray, schema: KeypointSchema) -> np.ndarray:
    """Return the position of each picture's category among those of the schema: int64 [N]."""
    position = {name: code for code, name in enumerate(schema.categories)}
    return np.array([position[name] for name in categories.tolist()], dtype=np.int64)


def garment_frames(
    points: np.ndarray, codes: np.ndarray, in_category: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return where garments are: the medians of their points and of the distances from there.

    Args:
        points: [N, K, 2], px.
        codes: [N], of category_codes.
        in_category: bool [N, K].

    Returns:
        Centers [N, 2] and sizes [N], px; half of a garment's points are nearer to its center.
    """
    centers, sizes = np.zeros([len(points), 2]), np.zeros(len(points))
    for code in np.unique(codes):
        rows = np.flatnonzero(codes == code)
        garments = points[rows][:, in_category[rows[0]]]
        centers[rows] = np.median(garments, axis=1)
        distances = np.linalg.norm(garments - centers[rows, np.newaxis], axis=-1)
        sizes[rows] = np.maximum(np.median(distances, axis=1), _LEAST_SIZE)
    return centers, sizes


def correct(
    correction: Correction, predictions: Predictions, schema: KeypointSchema
) -> Predictions:
    """Return the predictions without what is wrong in all of them."""
    codes = category_codes(predictions.categories, schema)
    straight = _unmirrored(correction.mirrored, predictions, codes, schema)
    scale = np.ones([len(codes), 1, 1])
    if correction.relative.any():
        scale = _raw_sizes(predictions, codes)[:, np.newaxis, np.newaxis]
    keypoints = [
        points - offsets[codes] * (scale if is_relative else 1.0)
        for points, offsets, is_relative in zip(
            straight.keypoints, correction.offsets, correction.relative
        )
    ]
    return straight._replace(keypoints=np.stack(keypoints))


def fit_correction(
    predictions: Predictions, annotated: AnnotatedPoints, schema: KeypointSchema
) -> Correction:
    """Learn what is wrong with each model in all pictures of a category.

    Offsets are where most residuals are, so that a model that is lost in a third of the pictures is
    corrected by what holds for the others. That of a keypoint is drawn to that of all keypoints
    of the model, the more the fewer pictures there are.
    """
    codes = category_codes(predictions.categories, schema)
    mirrored = _find_mirrored(predictions, annotated, codes, schema)
    straight = _unmirrored(mirrored, predictions, codes, schema)
    sizes = _raw_sizes(predictions, codes)
    offsets, relative = [], []
    for points, present in zip(straight.keypoints, straight.present):
        weights = np.where(present, annotated.weights, 0)
        by_unit = []
        for unit in (np.ones(len(codes)), sizes):
            unit = unit[:, np.newaxis, np.newaxis]
            offset = _offsets((points - annotated.keypoints) / unit, weights > 0, codes, schema)
            errors = np.linalg.norm(points - offset[codes] * unit - annotated.keypoints, axis=-1)
            by_unit.append(((errors * weights).sum(), offset))
        relative.append(bool(by_unit[1][0] < by_unit[0][0]))
        offsets.append(by_unit[relative[-1]][1])
    return Correction(mirrored, np.stack(offsets), np.array(relative))


def _raw_sizes(predictions: Predictions, codes: np.ndarray) -> np.ndarray:
    return garment_frames(combine(predictions, 'median')[0], codes, predictions.in_category)[1]


def _unmirrored(
    mirrored: np.ndarray, predictions: Predictions, codes: np.ndarray, schema: KeypointSchema
) -> Predictions:
    """Return the predictions [M, N, K] with the points of mirrored [M, C, K] from their partner."""
    if not mirrored.any():
        return predictions
    partner = list(schema.flip_permutation)
    # Where the partner's column holds nothing, the point's own is better than none.
    swappable = mirrored[:, codes] & predictions.present[:, :, partner]
    swapped = predictions.keypoints[:, :, partner]
    keypoints = np.where(swappable[..., np.newaxis], swapped, predictions.keypoints)
    return predictions._replace(keypoints=keypoints, present=predictions.present | swappable)


def _find_mirrored(
    predictions: Predictions, annotated: AnnotatedPoints, codes: np.ndarray, schema: KeypointSchema
) -> np.ndarray:
    """Return bool [M, C, K]: where a model's partner column is nearer in most pictures."""
    partner = list(schema.flip_permutation)
    errors = (
        np.linalg.norm(predictions.keypoints - annotated.keypoints, axis=-1) * annotated.weights
    )
    partner_offsets = predictions.keypoints[:, :, partner] - annotated.keypoints
    gains = errors - np.linalg.norm(partner_offsets, axis=-1) * annotated.weights
    both_present = (
        predictions.present & predictions.present[:, :, partner] & (annotated.weights > 0)
    )
    gains = np.where(both_present, gains, 0)
    mirrored = np.zeros([len(gains), len(schema.categories), schema.num_keypoints], dtype=bool)
    for code in np.unique(codes):
        of_category = gains[:, codes == code]
        nearer = np.sign(of_category).sum(1)
        counts = np.count_nonzero(of_category, axis=1)
        mirrored[:, code] = (of_category.sum(1) > 0) & (
            nearer > _MIN_STANDARD_ERRORS * np.sqrt(counts)
        )
    return mirrored


def _offsets(
    residuals: np.ndarray, counts: np.ndarray, codes: np.ndarray, schema: KeypointSchema
) -> np.ndarray:
    """Return [C, K, 2]: the mode of the residuals [N, K, 2] where counts [N, K] is True."""
    offsets = np.zeros([len(schema.categories), schema.num_keypoints, 2])
    if not counts.any():
        return offsets
    general = _location(residuals[counts])
    offsets[:] = general
    for code, k in np.argwhere(np.ones(offsets.shape[:2], dtype=bool)):
        chosen = residuals[:, k][(codes == code) & counts[:, k]]
        if len(chosen):
            share = len(chosen) / (len(chosen) + _PRIOR_POINTS)
            offsets[code, k] += share * (_location(chosen) - general)
    return offsets


def _location(residuals: np.ndarray) -> np.ndarray:
    """Return the mode of [n, 2]: a mean with Gaussian weights around itself."""
    center = np.median(residuals, axis=0)
    variance = max(float(np.median(_squares(residuals - center))), _LEAST_VARIANCE)
    for _ in range(_LOCATION_STEPS):
        weights = np.exp(_squares(residuals - center) / (-2 * variance))
        center = weights @ residuals / weights.sum()
    return center


def _squares(offsets: np.ndarray) -> np.ndarray:
    return np.einsum('ij,ij->i', offsets, offsets)
