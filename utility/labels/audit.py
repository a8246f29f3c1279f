"""Which annotations are probably wrong, and what they should be.

How the annotations of a category usually look is learned from themselves, with methods that a few
wrong ones in a hundred do not disturb (utility/labels/evidence.py); then each is looked at
(utility/labels/suspicions.py). NumPy only: 60,000 pictures take seconds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from absl import logging

from config import UserError
from preprocessing.schema import KeypointSchema
from preprocessing.tables import KeypointTable
from utility.labels.evidence import Shapes, learn
from utility.labels.exchanges import exchanges_of
from utility.labels.suspicions import Search, Suspicion
from utility.statistics.shape_model import MIN_POINTS

MIN_PICTURES = 20  # of a category that something can be learned of
MIN_EVIDENCE = 0.5
_NUM_PASSES = 3  # over each category: what was found is left out of what is learned


def audit(
    table: KeypointTable,
    image_sizes: np.ndarray,
    schema: KeypointSchema,
    predictions: np.ndarray | None = None,
    min_evidence: float = MIN_EVIDENCE,
) -> list[Suspicion]:
    """Look for wrong annotations.

    Args:
        table: Annotations of N pictures.
        image_sizes: [N, 2], (height, width), px.
        predictions: [N, K, 2], px, by networks that were not trained on these pictures; NaN where
            there is none.
        min_evidence: Only what has at least this evidence against it is told; see Suspicion.

    Returns:
        What was found, the worst first; rows are those of the table, keypoints the schema's.

    Raises:
        UserError: min_evidence is out of range.
    """
    if not 0 < min_evidence < 1:
        raise UserError(f'min_evidence={min_evidence}: must be between 0 and 1')
    if predictions is None:
        predictions = np.full((*table.visibility.shape, 2), np.nan)
    found = []
    for category in schema.categories:
        rows = np.flatnonzero(table.categories == category)
        own = np.ix_(rows, schema.indices(category))
        usable = np.count_nonzero((table.visibility[own] >= 0).sum(1) >= MIN_POINTS)
        if usable < MIN_PICTURES:
            if len(rows):
                message = '%s: %d pictures with %d points or more are too few to audit'
                logging.warning(message, category, usable, MIN_POINTS)
            continue
        shapes = Shapes(
            np.asarray(table.keypoints[own], np.float64),
            table.visibility[own],
            np.asarray(image_sizes, np.float64)[rows, ::-1],
            np.asarray(predictions[own], np.float64),
        )
        found += _audit_category(category, shapes, rows, schema, min_evidence)
    return sorted(found, key=lambda one: -one.score)


def _audit_category(
    category: str,
    shapes: Shapes,
    rows: np.ndarray,
    schema: KeypointSchema,
    min_evidence: float,
) -> list[Suspicion]:
    """Audit the shapes in these rows of the table."""
    own = schema.indices(category)
    pair = schema.normalizer_indices(category)
    normalizer = pair and tuple(map(own.index, pair))
    exchanges = exchanges_of(category, schema)
    evidence = learn(shapes, exchanges, normalizer)
    for _ in range(_NUM_PASSES - 1):
        trusted = np.ones(len(rows), bool)
        trusted[[one.row for one in Search(shapes, evidence, MIN_EVIDENCE).run()]] = False
        evidence = learn(shapes.of(trusted), exchanges, normalizer)
    return [
        dataclasses.replace(
            one, row=int(rows[one.row]), keypoints=tuple(own[k] for k in one.keypoints)
        )
        for one in Search(shapes, evidence, min_evidence).run()
    ]


def combined_predictions(tables: Sequence[KeypointTable], annotations: KeypointTable) -> np.ndarray:
    """Return predictions of the annotated pictures, medians over the tables that have them.

    Out-of-fold predictions come in one table a fold, which hold different pictures, and of several
    networks, which hold the same ones.

    Returns:
        float64 [N, K, 2], px; NaN where there is none.

    """
    stack = np.full((len(tables), *annotations.keypoints.shape), np.nan)
    for values, table in zip(stack, tables):
        place = {image_id: row for row, image_id in enumerate(table.image_ids)}
        rows = np.array([place.get(image_id, -1) for image_id in annotations.image_ids])
        there = rows >= 0
        points = np.where(table.visibility[..., None] >= 0, table.keypoints, np.nan)
        values[there] = points[rows[there]]
    known = ~np.isnan(stack).all(0)
    combined = np.full(annotations.keypoints.shape, np.nan)
    combined[known] = np.nanmedian(stack[:, known], axis=0)
    return combined
