"""Mistakes that are put into annotations, and how many of them a label audit finds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from demos.garments import dataset
from preprocessing.schema import KeypointSchema
from preprocessing.tables import KeypointTable
from utility.labels.exchanges import exchanges_of
from utility.metrics.normalized_error import normalizers_of

SHARES = {'sides': 0.03, 'in_out': 0.03, 'place': 0.03, 'same_place': 0.03}
_MOVED = 0.5  # normalizers
# Of the simulated network: its error on the median in normalizers, about that of NE 5 %, its heavy
# tail, and the share of pictures where it takes left for right.
_ERROR, _DOF, _CONFUSED = 0.03, 2.5, 0.02


class Mistake(NamedTuple):
    """What was done to a picture: the kind, and the indices of the points that are wrong."""

    kind: str
    keypoints: frozenset[int]


def make_mistakes(
    table: KeypointTable,
    schema: KeypointSchema,
    shares: Mapping[str, float] = SHARES,
    seed: int = 0,
) -> tuple[KeypointTable, dict[int, Mistake]]:
    """Make mistakes of each kind in a share of the pictures, at most one in each.

    Returns:
        The table with mistakes, and which these are by row.
    """
    rng = np.random.default_rng(seed)
    keypoints, visibility = table.keypoints.copy(), table.visibility.copy()
    lengths = normalizers_of(table, schema)
    mistakes: dict[int, Mistake] = {}
    rows = iter(rng.permutation(len(keypoints)))
    for kind, share in shares.items():
        limit = len(mistakes) + round(share * len(keypoints))
        for row in rows:
            points = _choose(kind, str(table.categories[row]), visibility[row] >= 0, schema, rng)
            if lengths[row] <= 0 or not points:
                continue
            point = points[0]
            if kind == 'place':
                angle = rng.uniform(0, 2 * np.pi)
                step = np.array([np.cos(angle), np.sin(angle)]) * _MOVED * lengths[row]
                keypoints[row, point] = np.round(keypoints[row, point] + step - 0.5) + 0.5
            elif kind == 'same_place':
                keypoints[row, point] = keypoints[row, points[1]]
            else:
                keypoints[row, points] = keypoints[row, points[::-1]]
                visibility[row, points] = visibility[row, points[::-1]]
            mistakes[int(row)] = Mistake(kind, frozenset(map(int, points)))
            if len(mistakes) == limit:
                break
    return table._replace(keypoints=keypoints, visibility=visibility), mistakes


def _choose(
    kind: str, category: str, present: np.ndarray, schema: KeypointSchema, rng: np.random.Generator
) -> list[int]:
    """Return the points of a picture that become wrong; none where there are no such."""
    columns = schema.indices(category)
    if kind in ('place', 'same_place'):
        present_columns = [k for k in columns if present[k]]
        number = 1 if kind == 'place' else 2
        return (
            list(rng.choice(present_columns, number, replace=False))
            if len(present_columns) > number
            else []
        )
    pairs = [
        [columns[a], columns[b]]
        for exchange in exchanges_of(category, schema)
        for a, b in exchange.pairs
        if exchange.kind == kind and len(exchange.pairs) == 1
    ]
    pairs = [pair for pair in pairs if present[pair].all()]
    return pairs[rng.integers(len(pairs))] if pairs else []


def simulate_predictions(table: KeypointTable, schema: KeypointSchema, seed: int = 0) -> np.ndarray:
    """Return what a network might say of pictures with these true points: float64 [N, K, 2], px."""
    rng = np.random.default_rng(seed)
    lengths = normalizers_of(table, schema)
    lengths = np.where(lengths > 0, lengths, np.median(lengths))
    tail = np.sqrt(rng.chisquare(_DOF, table.visibility.shape) / _DOF)
    noise = rng.normal(size=table.keypoints.shape) / tail[..., np.newaxis]
    predicted = table.keypoints + _ERROR * lengths[:, np.newaxis, np.newaxis] * noise
    predicted[table.visibility < 0] = np.nan
    confused = rng.random(len(predicted)) < _CONFUSED
    predicted[confused] = predicted[confused][:, schema.flip_permutation]
    return predicted


class Counts(NamedTuple):
    """Of a kind of mistakes.

    Attributes:
        num_mistakes: How many there are.
        suspected: How many of them have a wrong point in a suspicion.
        identified: How many of them have a suspicion of this kind and these points.
        suspicions: How many suspicions of this kind there are.
        right: How many of these concern a wrong point, of whatever kind.
    """

    num_mistakes: int
    suspected: int
    identified: int
    suspicions: int
    right: int


def count_detections(suspicions: Sequence, mistakes: Mapping[int, Mistake]) -> dict[str, Counts]:
    """Count by kind, and of 'all', where the last of the attributes are over all suspicions."""
    hits, exact = set(), set()
    right = []
    for suspicion in suspicions:
        mistake = mistakes.get(suspicion.row, Mistake('', frozenset()))
        right.append(not mistake.keypoints.isdisjoint(suspicion.keypoints))
        if right[-1]:
            hits.add(suspicion.row)
        # Of two points in one place the audit names the one that it would move.
        named = mistake.keypoints >= set(suspicion.keypoints)
        same_points = mistake.keypoints == set(suspicion.keypoints) or mistake.kind == 'same_place'
        if named and same_points and suspicion.kind in (mistake.kind, 'prediction'):
            exact.add(suspicion.row)
    kinds = {row: mistake.kind for row, mistake in mistakes.items()}
    counts = {}
    for kind in (*dict.fromkeys([*kinds.values(), *(s.kind for s in suspicions)]), 'all'):
        rows = {row for row, name in kinds.items() if kind in (name, 'all')}
        of_kind = [
            ok for suspicion, ok in zip(suspicions, right) if kind in (suspicion.kind, 'all')
        ]
        counts[kind] = Counts(
            len(rows), len(rows & hits), len(rows & exact), len(of_kind), sum(of_kind)
        )
    return counts


def draw_garments(count: int, size: int, seed: int) -> tuple[KeypointTable, np.ndarray]:
    """Return annotations of synthetic garments, and the sizes of the pictures [N, 2]."""
    garments = dataset.GarmentSet(seed, size, {dataset.TRAIN: count})
    samples = [dataset.draw_sample(garments, dataset.TRAIN, number) for number in range(count)]
    table = KeypointTable(
        np.array([sample.image_id for sample in samples], object),
        np.array([sample.category for sample in samples]),
        np.stack([sample.keypoints for sample in samples]),
        np.stack([sample.visibility for sample in samples]),
        np.arange(count) + 2,
    )
    return table, np.array([sample.image.shape[:2] for sample in samples])
