"""What the label audit finds of mistakes that were put into annotations.

    python -m benchmarks.label_audit [--count=1500] [--size=128] [--seed=0]
    python -m benchmarks.label_audit --answers=ANNOTATIONS.csv

Points of synthetic garments, or of a CSV of annotations, are exchanged, moved by half a normaliser
or laid on each other, each kind in 3 % of the pictures. The audit is run without and with simulated
predictions of a network. Recall: of the mistakes, how many are suspected, and how many are found
out: the right kind and the right points. Precision: of the suspicions of a kind, how many concern a
point that is wrong; mistakes of the annotators, which real ones have, count as false.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from absl import flags

from preprocessing.schema import KeypointSchema
from preprocessing.tables import KeypointTable
from utility.command_line import scripts
from utility.command_line.text_table import text_table

SHARES = {'sides': 0.03, 'in_out': 0.03, 'place': 0.03, 'same_place': 0.03}
EVIDENCES = (0.5, 0.9)
_MOVED = 0.5  # normalisers
# Of the simulated network: its error on the median in normalisers, about that of NE 5 %, its heavy
# tail, and the share of pictures where it takes left for right.
_ERROR, _DOF, _CONFUSED = 0.03, 2.5, 0.02
_REAL_SIZE = 512  # px; the sizes of the pictures of a CSV are not known


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
    from utility.metrics.normalized_error import normalizers

    rng = np.random.default_rng(seed)
    keypoints, visibility = table.keypoints.copy(), table.visibility.copy()
    lengths = normalizers(keypoints, visibility, table.categories, schema)
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
    from utility.labels.exchanges import exchanges_of

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
    from utility.metrics.normalized_error import normalizers

    rng = np.random.default_rng(seed)
    lengths = normalizers(table.keypoints, table.visibility, table.categories, schema)
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


def format_counts(counts: Mapping[str, Counts]) -> str:
    """Return a table for people, in percent."""

    def percent(part: int, whole: int) -> str:
        return f'{100 * part / whole:.1f}' if whole else '-'

    rows = [['', 'made', 'suspected', 'found out', 'suspicions', 'precision']]
    for kind, row in counts.items():
        shares = percent(row.suspected, row.num_mistakes), percent(row.identified, row.num_mistakes)
        precision = percent(row.right, row.suspicions)
        rows.append([kind, row.num_mistakes, *shares, row.suspicions, precision])
    return text_table(rows)


def draw_garments(count: int, size: int, seed: int) -> tuple[KeypointTable, np.ndarray]:
    """Return annotations of synthetic garments, and the sizes of the pictures [N, 2]."""
    from demos.garments import dataset
    from utility.command_line.progress import track

    garments = dataset.GarmentSet(seed, size, {dataset.TRAIN: count})
    rows = []
    for index in track(range(count), count, 'drawing garments'):
        sample = dataset.draw_sample(garments, dataset.TRAIN, index)
        rows.append(
            (
                sample.image_id,
                sample.category,
                sample.keypoints,
                sample.visibility,
                sample.image.shape[:2],
            )
        )
    image_ids, categories, keypoints, visibility, sizes = zip(*rows)
    table = KeypointTable(
        np.array(image_ids, object),
        np.array(categories),
        np.stack(keypoints),
        np.stack(visibility),
        np.arange(count) + 2,
    )
    return table, np.array(sizes)


def main(positional: list[str]) -> None:
    scripts.no_positional(positional)
    values = flags.FLAGS
    from preprocessing.datasets import DATASETS
    from preprocessing.tables import read_table
    from utility.labels import audit as label_audit

    schema = DATASETS.get('fashionai').schema
    if values.answers:
        table = read_table(values.answers, schema)
        sizes = np.full((len(table.image_ids), 2), _REAL_SIZE)
    else:
        table, sizes = draw_garments(values.count, values.size, values.seed)
    wrong, mistakes = make_mistakes(table, schema, seed=values.seed)
    clean = label_audit.audit(table, sizes, schema)
    print(f'{len(table.image_ids)} annotations; {len(clean)} suspicions before mistakes are made')
    predictions = {'none': None, 'simulated': simulate_predictions(table, schema, values.seed)}
    for name, predicted in predictions.items():
        start = time.monotonic()
        suspicions = label_audit.audit(wrong, sizes, schema, predicted)
        seconds = time.monotonic() - start
        for evidence in EVIDENCES:
            sure = [s for s in suspicions if s.evidence >= evidence]
            print(f'\npredictions {name}, evidence {evidence:g} and more, {seconds:.1f} s')
            print(format_counts(count_detections(sure, mistakes)))


def _define_flags() -> None:
    flags.DEFINE_string('answers', None, 'A CSV of annotations instead of synthetic garments.')
    flags.DEFINE_integer('count', 1500, 'Garments.', lower_bound=100)
    flags.DEFINE_integer('size', 128, 'Longest side of their pictures, px.', lower_bound=32)
    flags.DEFINE_integer('seed', 0, 'Of garments, mistakes and predictions.', lower_bound=0)


if __name__ == '__main__':
    _define_flags()
    scripts.run(main, __doc__)
