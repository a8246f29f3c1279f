"""The best few of many models, by annotations that no fit has seen."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from config import UserError
from preprocessing.schema import KeypointSchema
from utility.ensembles.choice import (
    LEARNED,
    distances_of,
    folds_of,
    out_of_fold,
    simple_candidates,
)
from utility.ensembles.combination import Predictions, combine
from utility.ensembles.systematic_errors import AnnotatedPoints

STRENGTH = 3.0  # of the shrinkage at which sets of models are compared
MAX_SETS = 40  # that are all tried; of more, models are added one by one


class Selection(NamedTuple):
    """Sets of models that were tried.

    Attributes:
        names: Of all models.
        ranked: The positions of the models of a set, and the NE of what can be made of them, a
            fraction; the best first.
    """

    names: tuple[str, ...]
    ranked: tuple[tuple[tuple[int, ...], float], ...]

    @property
    def best(self) -> tuple[int, ...]:
        return self.ranked[0][0]


def select_models(
    predictions: Predictions,
    annotated: AnnotatedPoints,
    schema: KeypointSchema,
    max_models: int,
    method: str = LEARNED,
) -> Selection:
    """Look for the best few of many models.

    All sets of at most `max_models` are tried if they are few. Else models are added one by one,
    each time the one that helps most.

    Args:
        predictions: Of pictures with annotations.
        schema: Of both.
        max_models: The most models, from 1 on.
        method: As of choose. What is learned is compared out of fold, at STRENGTH.

    Raises:
        UserError: max_models is less than 1, or as choose does.
    """
    if max_models < 1:
        raise UserError(f'max_models={max_models}: must be 1 or more')
    count = len(predictions.names)
    sizes = range(1, min(max_models, count) + 1)
    tried: dict[tuple[int, ...], float] = {}
    folds = folds_of(predictions, annotated, schema) if method == LEARNED else []

    def try_all(sets: Iterable[tuple[int, ...]]) -> None:
        for models in sets:
            part = predictions.of_models(models)
            if method != LEARNED:
                points = combine(part, method)[0]
                tried[models] = float(np.nanmean(distances_of(points, annotated)))
                continue
            model_folds = [fold.of_models(models) for fold in folds]
            candidates = simple_candidates(part, annotated, schema)
            candidates += out_of_fold(model_folds, part, annotated, schema, (STRENGTH,))
            tried[models] = min(candidate.error for candidate in candidates)

    if sum(math.comb(count, size) for size in sizes) <= MAX_SETS:
        try_all(models for size in sizes for models in itertools.combinations(range(count), size))
    else:
        best: tuple[int, ...] = ()
        for _ in sizes:
            larger = [tuple(sorted({*best, i})) for i in range(count) if i not in best]
            try_all(larger)
            best = min(larger, key=tried.__getitem__)
    ranked = sorted(tried.items(), key=lambda item: (item[1], len(item[0])))
    return Selection(predictions.names, tuple(ranked))
