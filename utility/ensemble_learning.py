"""An ensemble that is fitted to answers: what is wrong in each model, and whom to believe where.

The steps, each fitted on what the one before gives:
1. corrections: columns that are mirrored, points that are off by the same everywhere;
2. weights: of each model, by category and keypoint;
3. votes: the weights depend on which models agree with each other at this point of this picture,
   and one more voter says where the point should be, given the other points and the usual shapes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from preprocessing.schema import KeypointSchema
from preprocessing.tables import ABSENT_INDEX
from utility import ensemble_corrections, ensemble_votes
from utility.ensemble_corrections import Correction, Truth, category_codes, garment_frames
from utility.ensemble_votes import Ballot, Voting
from utility.ensembles import Predictions, rows_of
from utility.shape_model import ShapeModel

_LEAST_PICTURES = 20  # of a category, to learn its shapes from


class Learned(NamedTuple):
    """A fitted ensemble of M models.

    Attributes:
        correction: Of the models.
        weights: The Voting of the M models by category and keypoint.
        shapes: Of the garments, by category; without those of which too few were seen.
        votes: The Voting of the models and the shapes, M + 1 voters, with features; None: the
            points are those that `weights` gives.
    """

    correction: Correction
    weights: Voting
    shapes: Mapping[str, ShapeModel]
    votes: Voting | None


def combine(learned: Learned, predictions: Predictions, schema: KeypointSchema) -> np.ndarray:
    """The ensemble's points: float64 [N, K, 2], px; at pixel (-1, -1) where no model has one."""
    corrected = ensemble_corrections.correct(learned.correction, predictions, schema)
    weighted = _elected(learned.weights, corrected, None, schema)
    if learned.votes is None:
        return weighted
    voters, sizes = _with_shapes(learned.shapes, corrected, weighted, schema)
    return _elected(learned.votes, voters, sizes, schema)


def fit(
    predictions: Predictions, truth: Truth, schema: KeypointSchema, strengths: Sequence[float]
) -> Iterator[Learned]:
    """Fits ensembles, with votes, for each strength of the shrinkage.

    Args:
        predictions: Of M models.
        truth: Of the same pictures.
        schema: Of both.
        strengths: Of ensemble_votes.fit, in falling order.
    """
    correction = ensemble_corrections.fit(predictions, truth, schema)
    corrected = ensemble_corrections.correct(correction, predictions, schema)
    shapes = fit_shapes(predictions, truth, schema)
    weights_start = votes_start = None
    for strength in strengths:
        ballot, n, k = _ballot(corrected, schema)
        weights, weights_start = _fit_voting(ballot, n, k, truth, schema, strength, weights_start)
        weighted = _placed(elect(weights, ballot), n, k, truth)
        voters, sizes = _with_shapes(shapes, corrected, weighted, schema)
