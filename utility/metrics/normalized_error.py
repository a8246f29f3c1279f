"""NE, the normalized error that everything is compared by; PCK beside it.

NE is the rule of the FashionAI challenge: the sum over visible points of the distance between
prediction and annotation divided by the picture's normalizer, over the number of those points.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from config import UserError
from preprocessing.schema import BOX_DIAGONAL, PICTURE_SIZE, KeypointSchema
from preprocessing.tables import ABSENT_INDEX, KeypointTable
from utility.statistics.bootstrap import confidence_of

PCK_THRESHOLDS = (0.02, 0.05, 0.1, 0.2)  # of the normalizer
MISSING_POLICIES = ('error', 'count', 'skip')
NUM_EXAMPLES = 3  # in an error message about many pictures


def normalizers_of(table: KeypointTable, schema: KeypointSchema) -> np.ndarray:
    """Return what divides the error of each picture of a table, such as armpit to armpit.

    Args:
        table: Annotations, of N pictures. Where it has no box, that of the annotated points is
            taken.
        schema: Tells what divides the errors of each category.

    Returns:
        float64 [N], px; 0 where a point of the pair is absent, or no point is annotated and there
        is no box: the picture is not scored.

    Raises:
        UserError: The size of the picture is needed, and the table does not tell it.
    """
    lengths = np.zeros(len(table.categories))
    for category in np.unique(np.asarray(table.categories, dtype=str)):
        rows = np.flatnonzero(table.categories == category)
        pair = schema.normalizer_indices(str(category))
        of_category = table.rows(rows)
        if pair is not None:
            ends = np.asarray(of_category.keypoints, dtype=np.float64)[:, pair]
            present = (np.asarray(of_category.visibility)[:, pair] >= 0).all(-1)
            length = np.linalg.norm(ends[:, 0] - ends[:, 1], axis=-1)
            lengths[rows] = np.where(present, length, 0.0)
        else:
            lengths[rows] = _of_sizes(schema.normalizers[category], of_category)
    return lengths


def _of_sizes(normalizer: str, table: KeypointTable) -> np.ndarray:
    """Return float64 [N], px, of boxes or pictures; the same as in records."""
    if normalizer == PICTURE_SIZE:
        if table.image_sizes is None:
            raise UserError(
                f'normalizer {normalizer!r}: a CSV does not tell the sizes of its pictures; score '
                'with --data_dir and --model_dir'
            )
        return np.sqrt(np.prod(np.asarray(table.image_sizes, np.float64), axis=-1))
    boxes = boxes_of(table)
    sides = boxes[:, 2:] - boxes[:, :2]
    return np.hypot(*sides.T) if normalizer == BOX_DIAGONAL else np.sqrt(sides.prod(-1))


def boxes_of(table: KeypointTable) -> np.ndarray:
    """Return the boxes of a table; where it has none, those of the annotated points.

    Returns:
        float64 [N, 4], (x_min, y_min, x_max, y_max) px; of no size where no point is annotated.
    """
    points = np.asarray(table.keypoints, np.float64)
    annotated = (np.asarray(table.visibility) >= 0)[..., np.newaxis]
    low = np.where(annotated, points, np.inf).min(axis=1)
    high = np.where(annotated, points, -np.inf).max(axis=1)
    is_there = annotated.any(axis=1)
    boxes = np.where(np.tile(is_there, 4), np.concatenate([low, high], axis=1), 0.0)
    if table.boxes is not None:
        given = np.asarray(table.boxes, np.float64)
        has_area = (given[:, 2:] > given[:, :2]).all(-1, keepdims=True)
        boxes = np.where(has_area, given, boxes)
    return boxes


def normalized_distances(
    predicted: np.ndarray, target: np.ndarray, visibility: np.ndarray, normalizer: np.ndarray
) -> np.ndarray:
    """Return distances between prediction and annotation as fractions of the normalizer.

    Args:
        predicted: [N, K, 2], px.
        target: [N, K, 2], px.
        visibility: [N, K]; only points with 1 are scored.
        normalizer: [N], px; only pictures where it is positive are scored.

    Returns:
        float64 [N, K], NaN where a point is not scored.
    """
    scored = (np.asarray(visibility) == 1) & (np.asarray(normalizer) > 0)[:, np.newaxis]
    offsets = np.asarray(predicted, np.float64) - np.asarray(target, np.float64)
    lengths = np.where(np.asarray(normalizer) > 0, normalizer, 1.0)
    distances = np.linalg.norm(offsets, axis=-1) / lengths[:, np.newaxis]
    if not np.isfinite(distances[scored]).all():
        raise UserError('predicted: a scored point is not a finite number')
    return np.where(scored, distances, np.nan)


def normalized_error(
    predicted: np.ndarray, target: np.ndarray, visibility: np.ndarray, normalizer: np.ndarray
) -> float:
    """Return NE as a fraction; arguments as of normalized_distances; NaN if no point is scored."""
    distances = normalized_distances(predicted, target, visibility, normalizer)
    scored = distances[~np.isnan(distances)]
    return float(scored.mean()) if len(scored) else float('nan')


def pck(scored: np.ndarray) -> dict[str, float]:
    """Return threshold, a fraction of the normalizer -> share of points within it.

    Args:
        scored: [P], the normalized distances of scored points, at least one.
    """
    return {str(t): float((scored <= t).mean()) for t in PCK_THRESHOLDS}


@dataclasses.dataclass(frozen=True)
class Score:
    """How good predictions are. Categories and keypoints without a scored point are left out.

    Attributes:
        normalized_error: NE of all points, a fraction.
        points: How many points were scored.
        images: How many pictures there are.
        skipped_images: How many of them were not scored for lack of a normalizer.
        missing_predictions: How many points to score were predicted as absent.
        per_category: Category -> NE of its points.
        per_keypoint: Keypoint -> NE of its points.
        points_per_category: Category -> number of its scored points.
        points_per_keypoint: Keypoint -> number of its scored points.
        pck: Of all points, as of the function pck.
        pck_per_category: Category -> that of its points.
        pck_per_keypoint: Keypoint -> that of its points.
        confidence: What statistics.confidence_of says of NE, if it was asked.
    """

    normalized_error: float
    points: int
    images: int
    skipped_images: int
    missing_predictions: int
    per_category: Mapping[str, float]
    per_keypoint: Mapping[str, float]
    points_per_category: Mapping[str, int]
    points_per_keypoint: Mapping[str, int]
    pck: Mapping[str, float]
    pck_per_category: Mapping[str, Mapping[str, float]]
    pck_per_keypoint: Mapping[str, Mapping[str, float]]
    confidence: Mapping | None = None


def summarize(
    distances: np.ndarray,
    categories: Sequence[str],
    schema: KeypointSchema,
    skipped_images: int,
    missing_predictions: int = 0,
    confidence: bool = False,
) -> Score:
    """Make a Score of the normalized distances [N, K] of pictures, NaN where not scored.

    Raises:
        UserError: No point is scored.
    """
    if np.isnan(distances).all():
        raise UserError(f'no point of {len(distances)} images can be scored')
    labels = np.asarray(categories, dtype=str)
    of_category = _scored_parts({c: distances[labels == c] for c in schema.categories})
    of_keypoint = _scored_parts({n: distances[:, k] for k, n in enumerate(schema.keypoints)})
    scored = distances[~np.isnan(distances)]
    return Score(
        normalized_error=float(scored.mean()),
        points=len(scored),
        images=len(distances),
        skipped_images=skipped_images,
        missing_predictions=missing_predictions,
        per_category={name: float(part.mean()) for name, part in of_category.items()},
        per_keypoint={name: float(part.mean()) for name, part in of_keypoint.items()},
        points_per_category={name: len(part) for name, part in of_category.items()},
        points_per_keypoint={name: len(part) for name, part in of_keypoint.items()},
        pck=pck(scored),
        pck_per_category={name: pck(part) for name, part in of_category.items()},
        pck_per_keypoint={name: pck(part) for name, part in of_keypoint.items()},
        confidence=confidence_of(distances, labels) if confidence else None,
    )


def _scored_parts(parts: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the scored distances of each part, without the parts that have none."""
    scored = {name: part[~np.isnan(part)] for name, part in parts.items()}
    return {name: part for name, part in scored.items() if len(part)}


def score(
    predicted: KeypointTable,
    annotations: KeypointTable,
    schema: KeypointSchema,
    missing: str = 'error',
    confidence: bool = False,
) -> Score:
    """Score predictions; arguments as of distances_to, and whether to estimate confidence.

    Raises:
        UserError: As distances_to, or nothing can be scored.
    """
    distances, skipped, lost = distances_to(annotations, predicted, schema, missing)
    return summarize(distances, annotations.categories, schema, skipped, lost, confidence)


def distances_to(
    annotations: KeypointTable,
    predicted: KeypointTable,
    schema: KeypointSchema,
    missing: str = 'error',
) -> tuple[np.ndarray, int, int]:
    """Compare predictions with annotations of the same pictures, in whatever order.

    Args:
        schema: Of both.
        missing: What to do with a scored point that is predicted as absent: 'error' raises,
            'count' scores it as predicted at pixel (-1, -1), 'skip' leaves it out.

    Returns:
        float64 [N, K], normalized distances in the annotations' order, NaN where not scored; the
        number of pictures without a normalizer, and that of points predicted as absent.

    Raises:
        UserError: The pictures or their categories differ, or a prediction is missing.
    """
    if missing not in MISSING_POLICIES:
        raise ValueError(f'missing={missing!r}: must be one of {", ".join(MISSING_POLICIES)}')
    predicted = in_order_of(predicted, annotations, 'the prediction', 'the answers')
    normalizer = normalizers_of(annotations, schema)
    scored = (annotations.visibility == 1) & (normalizer > 0)[:, np.newaxis]
    lost = scored & (predicted.visibility < 0)
    if lost.any() and missing == 'error':
        row, k = np.argwhere(lost)[0]
        raise UserError(
            f'{np.count_nonzero(lost)} scored points have no prediction, such as '
            f'{schema.keypoints[k]} of {predicted.image_ids[row]} in line {predicted.lines[row]}; '
            '--missing=count scores them as predicted at (-1, -1), --missing=skip leaves them out'
        )
    keypoints = np.where(lost[..., np.newaxis], ABSENT_INDEX + 0.5, predicted.keypoints)
    visibility = np.where(lost & (missing == 'skip'), -1, annotations.visibility)
    distances = normalized_distances(keypoints, annotations.keypoints, visibility, normalizer)
    return distances, int(np.count_nonzero(normalizer <= 0)), int(np.count_nonzero(lost))


def matching_rows(
    image_ids: Sequence[str], expected_ids: Sequence[str], name: str, expected_name: str
) -> np.ndarray:
    """Return where in `image_ids` each of `expected_ids` stands: int64 [N].

    Raises:
        UserError: They are not the same pictures, or hold one twice; counts and some of them are
            told, under the names of the two.
    """
    for ids, holder in ((image_ids, name), (expected_ids, expected_name)):
        repeated = [image_id for image_id, count in Counter(ids).items() if count > 1]
        if repeated:
            raise UserError(f'{holder} holds {_examples(repeated)} more than once')
    position = {image_id: row for row, image_id in enumerate(image_ids)}
    lacking = [image_id for image_id in expected_ids if image_id not in position]
    expected = set(expected_ids)
    extra = [image_id for image_id in image_ids if image_id not in expected]
    problems = []
    if lacking:
        problems.append(f'{name} lacks {_examples(lacking)} of {expected_name}')
    if extra:
        problems.append(f'{name} has {_examples(extra)} unknown to {expected_name}')
    if problems:
        raise UserError('; '.join(problems))
    return np.array([position[image_id] for image_id in expected_ids], dtype=np.int64)


def _examples(image_ids: Sequence[str]) -> str:
    examples = ', '.join(map(str, image_ids[:NUM_EXAMPLES]))
    return f'{len(image_ids)} images ({examples}{", ..." if len(image_ids) > NUM_EXAMPLES else ""})'


def in_order_of(
    table: KeypointTable, reference: KeypointTable, name: str, reference_name: str
) -> KeypointTable:
    """Return the table with its rows in the order of another one of the same pictures.

    Raises:
        UserError: The pictures or their categories differ; told under the names of the two.
    """
    rows = matching_rows(table.image_ids, reference.image_ids, name, reference_name)
    table = table.rows(rows)
    differs = np.flatnonzero(table.categories != reference.categories)
    if len(differs):
        row = differs[0]
        raise UserError(
            f'{name}, line {table.lines[row]}: {table.image_ids[row]} is {table.categories[row]}, '
            f'but {reference.categories[row]} in {reference_name}; {len(differs)} images differ so'
        )
    return table
