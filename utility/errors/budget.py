"""Where NE comes from: every scored error is of one kind, and the kinds add up to NE.

The kinds are those of M. R. Ronchi and P. Perona, Benchmarking and Error Diagnosis in
Multi-Instance Pose Estimation, ICCV 2017: good, jitter, inversion and miss, by the similarity
exp(-d^2 / (2 k^2)) of a prediction to the true places of points, d being the distance over the
length that divides errors. Here each picture holds one garment, so there is no other instance to
swap with; instead their 'inversion' (a prediction at another point of the same person) is told
apart by which point it is: the mirrored partner, the inner or outer one of the same edge, another.
Added are what the heat maps alone cost, what lies outside the crop, and what is not predicted.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from config import UserError
from preprocessing.schema import KeypointSchema
from preprocessing.tables import KeypointTable
from utility.metrics import normalized_error

# The paper's limits of similarity: what is good, and what has still found its point.
GOOD_SIMILARITY, JITTER_SIMILARITY = 0.85, 0.5
# k, in normalizers. The limits are then 0.057 and 0.118: of 95 % of 82,275 annotated points of
# FashionAI no other point of the garment is as near as that.
SCALE = 0.1
# What an inverted garment is: of its points with a partner so many lie nearer to the partner's
# place than to their own, among them those of two pairs.
_INVERTED_SHARE = 0.75
_MIN_PAIRS = 2


class Kind(NamedTuple):
    """A kind of error: its title, and what is of it."""

    title: str
    meaning: str


FLOOR = 'codec_floor'
KINDS = {
    FLOOR: Kind(
        'Codec floor',
        'of the error of points that are found, the part that the true point, encoded as a heat '
        'map and decoded again, has as well',
    ),
    'good': Kind('Good', f'found, with a similarity from {GOOD_SIMILARITY} on; less the floor'),
    'jitter': Kind(
        'Jitter', f'found, with one from {JITTER_SIMILARITY} to {GOOD_SIMILARITY}; less the floor'
    ),
    'garment_inversion': Kind(
        'Garment inverted',
        "at the mirrored partner's place, as nearly all points of the picture with a partner are",
    ),
    'inversion': Kind('Left-right inversion', "at the mirrored partner's place, in other pictures"),
    'in_out_swap': Kind('In-out swap', 'at the inner point of its edge, not the outer, or reverse'),
    'confusion': Kind('Confusion', 'at any other point of the same garment'),
    'crop': Kind(
        'Crop', 'the true point lies outside of what the box of the first pass let the second see'
    ),
    'miss': Kind('Miss', 'near no point of the garment'),
    'missing': Kind('Not predicted', 'predicted as absent, which counts as a point at (-1, -1)'),
}
FIXED = (
    'Fixed means that the points are predicted at their true places; good ones and jitter, as near '
    'to them as the codec allows; of the codec floor, that the codec adds nothing.'
)
_CODES = {name: code for code, name in enumerate(KINDS)}
_LOCALIZED = ('good', 'jitter')


def radius(similarity: float, scale: float = SCALE) -> float:
    """Return how far off, in normalizers, a point of this similarity is."""
    return scale * math.sqrt(2 * math.log(1 / similarity))


class Evidence(NamedTuple):
    """What is known of a prediction beyond its points.

    Attributes:
        decoded: float [N, K, 2], px: where the true points come to lie by the codec alone; None
            where no codec is known.
        in_view: bool [N, K]: which true points the second pass sees; None where there is none.
    """

    decoded: np.ndarray | None = None
    in_view: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Errors:
    """The scored points of N pictures and what kind each error is of.

    Attributes:
        distances: float64 [N, K], normalized; NaN where a point is not scored.
        floors: float64 [N, K], the part of the distance that is the codec's; 0 without one.
        codes: int8 [N, K], position in KINDS, never that of the floor; -1 where not scored.
        kinds: The names of the kinds that could be told, in the order of KINDS.
        skipped_images: How many pictures have no normalizer.
        missing_predictions: How many points to score were predicted as absent.
    """

    distances: np.ndarray
    floors: np.ndarray
    codes: np.ndarray
    kinds: tuple[str, ...]
    skipped_images: int
    missing_predictions: int

    def costs(self, kind: str) -> np.ndarray:
        """Return what each point loses to a kind, normalized: float64 [N, K]; 0 for all others."""
        if kind == FLOOR:
            return self.floors
        return np.where(self.codes == _CODES[kind], self.distances - self.floors, 0.0)

    def of_kind(self, kind: str) -> np.ndarray:
        """Return which points are of a kind, bool [N, K]; the floor has those that are found."""
        names = _LOCALIZED if kind == FLOOR else (kind,)
        return np.isin(self.codes, [_CODES[name] for name in names])


def find_errors(
    predicted: KeypointTable,
    annotations: KeypointTable,
    schema: KeypointSchema,
    missing: str = 'error',
    evidence: Evidence = Evidence(),  # noqa: B008  immutable
    scale: float = SCALE,
) -> Errors:
    """Tell of every scored point what kind of error it has.

    A point within the radius of JITTER_SIMILARITY of its true place is found. Otherwise the crop is
    to blame if it hides the point, and else another point, if one is within the same radius.

    Args:
        predicted: Points of N pictures.
        annotations: Of the same pictures in the same order.
        schema: Of both.
        missing: As of metrics.distances_to.
        evidence: What more is known.
        scale: k of the similarity, in normalizers.

    Raises:
        UserError: As metrics.distances_to, nothing can be scored, or the scale is not positive.
    """
    if not 0 < scale < math.inf:
        raise UserError(f'scale={scale}: must be positive')
    distances, skipped, lost = normalized_error.distances_to(
        annotations, predicted, schema, missing
    )
    normalizer = normalized_error.normalizers_of(annotations, schema)
    scored, jitter_radius = ~np.isnan(distances), radius(JITTER_SIMILARITY, scale)
    if not scored.any():
        raise UserError(f'no point of {len(distances)} images can be scored')
    is_lost = scored & (predicted.visibility < 0)
    partner, in_out, nearest = _rival_distances(predicted, annotations, schema, normalizer)
    at_other = nearest <= jitter_radius
    at_partner = at_other & (partner <= nearest)
    inverted = _inverted(distances, np.where(is_lost, np.inf, partner), schema)[:, np.newaxis]
    conditions = {
        'missing': is_lost,
        'good': distances <= radius(GOOD_SIMILARITY, scale),
        'jitter': distances <= jitter_radius,
        'crop': False if evidence.in_view is None else ~evidence.in_view,
        'garment_inversion': at_partner & inverted,
        'inversion': at_partner,
        'in_out_swap': at_other & (in_out <= nearest),
        'confusion': at_other,
        'miss': True,
    }
    codes = np.full(scored.shape, -1, np.int8)
    for name in reversed(conditions):  # the first that holds is written last
        codes[scored & conditions[name]] = _CODES[name]
    floors = _floors(distances, codes, annotations, normalizer, evidence)
    absent = {
        FLOOR: evidence.decoded is None,
        'crop': evidence.in_view is None,
        'missing': not is_lost.any(),
    }
    kinds = tuple(name for name in KINDS if not absent.get(name))
    return Errors(distances, floors, codes, kinds, skipped, lost)


def _floors(distances, codes, annotations, normalizer, evidence: Evidence) -> np.ndarray:
    """Return what of each distance [N, K] the codec alone would leave, where the point is found."""
    floors = np.zeros(codes.shape)
    if evidence.decoded is not None:
        alone = normalized_error.normalized_distances(
            evidence.decoded, annotations.keypoints, annotations.visibility, normalizer
        )
        localized = np.isin(codes, [_CODES[name] for name in _LOCALIZED])
        floors[localized] = np.minimum(alone, distances)[localized]
    return floors


def _rival_distances(predicted, annotations, schema, normalizer) -> list[np.ndarray]:
    """Return distances to the partner's true place, the in-out one's, and the nearest.

    Of annotated points other than its own; float64 [N, K] each, normalized, infinite without one.
    """
    num_keypoints = schema.num_keypoints
    partner, in_out, nearest = (np.full([len(normalizer), num_keypoints], np.inf) for _ in range(3))
    lengths = np.where(normalizer > 0, normalizer, np.inf)[:, np.newaxis]
    permutations = schema.flip_permutation, in_out_permutation(schema)
    for k in range(num_keypoints):
        offsets = predicted.keypoints[:, [k]].astype(np.float64) - annotations.keypoints
        distances = np.linalg.norm(offsets, axis=-1) / lengths
        distances[annotations.visibility < 0] = np.inf
        distances[:, k] = np.inf
        partner[:, k], in_out[:, k] = (distances[:, order[k]] for order in permutations)
        nearest[:, k] = distances.min(1)
    return [partner, in_out, nearest]


def in_out_permutation(schema: KeypointSchema) -> tuple[int, ...]:
    """Return, for each keypoint, the inner or outer one of the same edge; else itself."""
    order = list(range(schema.num_keypoints))
    for a, b in schema.in_out_pairs:
        order[a], order[b] = b, a
    return tuple(order)


def _inverted(distances: np.ndarray, partner: np.ndarray, schema: KeypointSchema) -> np.ndarray:
    """Return which pictures have left and right exchanged as a whole: bool [N]."""
    order = np.array(schema.flip_permutation)
    paired = np.isfinite(partner) & ~np.isnan(distances)
    exchanged = paired & (partner < distances)
    pairs = np.maximum(paired, paired[:, order])[:, order > np.arange(len(order))].sum(1)
    most = exchanged.sum(1) >= _INVERTED_SHARE * paired.sum(1)
    return most & (pairs >= _MIN_PAIRS)


def budget(errors: Errors, points: np.ndarray | None = None) -> dict:
    """Return what NE consists of, over all scored points or over some of them.

    Args:
        errors: Of find_errors.
        points: bool, to be broadcast to [N, K], with a scored point among them; None: all.

    Returns:
        normalized_error: NE, a fraction.
        points: How many points are scored.
        kinds: Name -> 'normalized_error', the part of NE that comes from this kind; 'if_fixed', NE
            without it; 'points', how many points are of it; 'share' of the scored points. All
            parts together are NE.
    """
    chosen = ~np.isnan(errors.distances) & (True if points is None else points)
    count = np.count_nonzero(chosen)
    total = float(errors.distances[chosen].sum() / count)
    kinds = {}
    for kind in errors.kinds:
        part = float(errors.costs(kind)[chosen].sum() / count)
        of_kind = np.count_nonzero(errors.of_kind(kind) & chosen)
        kinds[kind] = {
            'normalized_error': part,
            'if_fixed': total - part,
            'points': of_kind,
            'share': of_kind / count,
        }
    parts = math.fsum(row['normalized_error'] for row in kinds.values())
    assert math.isclose(parts, total, rel_tol=1e-9, abs_tol=1e-12), (parts, total)
    return {'normalized_error': total, 'points': count, 'kinds': kinds}


def budgets(errors: Errors, categories: Sequence[str], schema: KeypointSchema) -> dict:
    """Return budget() of all points, 'per_category' and 'per_keypoint'."""
    labels = np.asarray(categories, dtype=str)[:, np.newaxis]
    columns, scored = np.arange(schema.num_keypoints), ~np.isnan(errors.distances)
    groups = {
        'per_category': {name: labels == name for name in schema.categories},
        'per_keypoint': {name: columns == k for k, name in enumerate(schema.keypoints)},
    }
    parts = {
        group: {name: budget(errors, mask) for name, mask in masks.items() if (mask & scored).any()}
        for group, masks in groups.items()
    }
    return {**budget(errors), **parts}


def worst_images(errors: Errors, kind: str, count: int) -> Iterator[tuple[int, float]]:
    """Yield the rows of the pictures that lose most to a kind, and what part of NE."""
    costs = errors.costs(kind).sum(1)
    total = np.count_nonzero(~np.isnan(errors.distances))
    for row in np.argsort(-costs, kind='stable')[:count]:
        if costs[row] > 0:
            yield int(row), float(costs[row] / total)
