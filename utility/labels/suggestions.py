"""What a network suggests to label next, of pictures that it has looked at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from preprocessing.schema import KeypointSchema
from utility.labels import ranking
from utility.labels.survey import Survey

COLUMNS = ('rank', 'image_id', 'image_category', 'uncertainty', 'novelty', 'gain')


def ranked(
    candidates: Survey, known: Survey | None, schema: KeypointSchema, count: int
) -> list[ranking.Choice]:
    """Choose pictures to label, the first one first; see utility.labels.ranking.

    The doubt of a picture is the root of its uncertainty times the number of its points: NE counts
    points. The root keeps those few pictures that a network cannot make anything of from being
    nearly all that is chosen.

    Args:
        candidates: Pictures without labels.
        known: Pictures with labels; None: none.
        schema: Of the network's data set.
        count: How many.
    """
    none = np.zeros(0, int)
    known = candidates.rows(none) if known is None else known
    return ranking.choose(_of_survey(candidates, schema), _of_survey(known, schema), count)


def table(
    chosen: Survey, choices: Sequence[ranking.Choice], schema: KeypointSchema
) -> list[list[object]]:
    """Return the rows of a CSV, with a header, of pictures in the order of the choices."""
    columns = zip(chosen.image_ids, chosen.categories, chosen.uncertainty(schema), choices)
    rows = [
        [rank, image_id, category, *(f'{value:.4f}' for value in (doubt, one.novelty, one.gain))]
        for rank, (image_id, category, doubt, one) in enumerate(columns, 1)
    ]
    return [list(COLUMNS), *rows]


def _of_survey(survey: Survey, schema: KeypointSchema) -> ranking.Pictures:
    numbers = [len(schema.indices(str(category))) for category in survey.categories]
    doubts = np.sqrt(survey.uncertainty(schema)) * np.array(numbers, float)
    return ranking.Pictures(survey.categories, survey.features, doubts)
