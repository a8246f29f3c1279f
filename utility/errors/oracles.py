"""What NE would be if one choice were always made right: how much a better chooser could gain."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from preprocessing.schema import KeypointSchema
from preprocessing.tables import KeypointTable
from utility.errors.budget import in_out_permutation
from utility.metrics import normalized_error

ORACLES = {
    'garment_sides': 'Left and right exchanged, in whole pictures',
    'pair_sides': 'Left and right exchanged, pair by pair',
    'in_out': 'Inner and outer exchanged, edge by edge',
    'better_pass': 'The better of both passes, point by point',
}


def gains(
    predicted: KeypointTable,
    annotations: KeypointTable,
    schema: KeypointSchema,
    missing: str = 'error',
    first_pass: KeypointTable | None = None,
) -> dict[str, dict[str, float]]:
    """Return what always taking the better of a prediction and its alternative would give.

    Points change places only where both are predicted.

    Args:
        predicted: Points of N pictures.
        annotations: Of the same pictures in the same order.
        schema: Of both.
        missing: As of metrics.distances_to.
        first_pass: What `predicted`, if of two passes, was before the second.

    Returns:
        Name in ORACLES -> 'normalized_error' with that choice, and 'gain' over NE, fractions.
        Without those that have no alternative.
    """

    def distances(table):
        return normalized_error.distances_to(annotations, table, schema, missing)[0]

    columns = np.arange(schema.num_keypoints)
    sides, edges = schema.flip_permutation, in_out_permutation(schema)
    # name -> (alternative, which points are chosen together)
    choices = {
        'garment_sides': (exchanged(predicted, sides), np.zeros_like(columns)),
        'pair_sides': (exchanged(predicted, sides), np.minimum(columns, sides)),
        'in_out': (exchanged(predicted, edges), np.minimum(columns, edges)),
    }
    if first_pass is not None:
        choices['better_pass'] = (first_pass, columns)
    plain = distances(predicted)
    error, results = np.nanmean(plain), {}
    for name, (alternative, groups) in choices.items():
        best = np.nanmean(better(plain, distances(alternative), groups))
        results[name] = {'normalized_error': float(best), 'gain': float(error - best)}
    return results


def exchanged(table: KeypointTable, order: Sequence[int]) -> KeypointTable:
    """Return the table with points [.., k] and [.., order[k]] exchanged where both are present."""
    order = list(order)
    both_present = (table.visibility >= 0) & (table.visibility[:, order] >= 0)
    keypoints = np.where(both_present[..., np.newaxis], table.keypoints[:, order], table.keypoints)
    return table._replace(keypoints=keypoints)


def better(plain: np.ndarray, alternative: np.ndarray, groups: Sequence[int]) -> np.ndarray:
    """Return, for each picture's group of points, the one with the smaller sum.

    Args:
        plain, alternative: float64 [N, K] distances; NaN, in the same places, where not scored.
        groups: [K], equal for points that are chosen together.

    Returns:
        float64 [N, K].
    """
    best = plain.copy()
    for group in set(groups):
        in_group = np.asarray(groups) == group
        wins = np.nansum(alternative[:, in_group], axis=1) < np.nansum(plain[:, in_group], axis=1)
        cells = np.ix_(wins, in_group)
        best[cells] = alternative[cells]
    return best
