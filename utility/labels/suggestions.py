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

    The weight of a picture is the number of its points: NE counts points. Its uncertainty is told,
    but does not decide: with it the choice was worse (docs/labelling_probe.md).

    Args:
        candidates: Pictures without labels.
        known: Pictures with labels; None: none.
        schema: Of the network's data set.
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
    visible = survey.visibility(schema) > 0
    places = survey.keypoints / survey.image_sizes[:, np.newaxis, ::-1]
    places = np.where(visible[..., np.newaxis], places, 0)
    places = places.reshape(len(visible), 2 * schema.num_keypoints)  # also of no picture
    return ranking.Pictures(survey.categories, survey.features, places, visible.sum(axis=1))
