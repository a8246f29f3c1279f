"""Predictions beside their annotations: from CSVs or from runs, and the pictures that go with them.

Mistakes in CSVs are told at once: TensorFlow is imported where records are read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from config import UserError
from preprocessing.datasets import named_schema
from preprocessing.schema import KeypointSchema
from preprocessing.tables import KeypointTable, read_table
from utility.checkpoints import runs
from utility.command_line.progress import track
from utility.errors import budget as error_budget
from utility.errors import oracles, subsets
from utility.errors import page as error_page
from utility.errors.budget import Errors, Evidence, worst_images
from utility.metrics import normalized_error
from utility.metrics.annotations import annotations_of, read_annotations
from utility.visualization import draw, html_page

if TYPE_CHECKING:
    from preprocessing.conversion.images import DecodedImage
    from utility.predict.views_to_points import PredictOptions

_MAX_NAMED_POINTS = 4  # points in the words beside a picture


@dataclasses.dataclass(frozen=True)
class Case:
    """Predictions and annotations of N pictures, in the same order.

    Attributes:
        source: Whose predictions, for people.
        predicted: The predictions.
        annotations: What they are scored against.
        image_ids: str [N]; the tables may have others, which are different for each picture.
        schema: Of both tables.
        evidence: What is known beyond the points.
        first_pass: The predictions before the second pass; None without one.
    """

    source: str
    predicted: KeypointTable
    annotations: KeypointTable
    image_ids: np.ndarray
    schema: KeypointSchema
    evidence: Evidence = Evidence()
    first_pass: KeypointTable | None = None


def case_of_csvs(prediction: str, annotations: str, dataset: str) -> Case:
    """Return a submission and its annotations.

    Raises:
        UserError: A file is broken, or they are not of the same pictures.
    """
    schema = named_schema(dataset)
    predicted, annotated = read_table(prediction, schema), read_annotations(annotations, schema)
    source = f'{prediction} against {annotations}'
    try:
        predicted = normalized_error.in_order_of(
            predicted, annotated, 'the prediction', 'the answers'
        )
    except ValueError as error:
        raise UserError(f'{source}: {error}') from error
    return Case(source, predicted, annotated, annotated.image_ids, schema)


def case_of_runs(data_dir: str, run_dirs: Sequence[str], options: PredictOptions) -> Case:
    """Return what runs, as one predictor, make of a labelled split of the records.

    Raises:
        UserError: As predictor.predict_split and annotations_of.
    """
    from utility.errors import codec_floor
    from utility.predict import predictor

    schema = runs.schema_of(run_dirs[0])
    annotated = annotations_of(data_dir, schema)
    # One picture may lie in two splits of the data set under one id, and both in one of records.
    by_place = annotated._replace(image_ids=annotated.lines)

    passes = predictor.predict_passes(run_dirs, data_dir, options)
    tables = [predictions.table()._replace(image_ids=annotated.lines) for predictions in passes]
    predicted, boxes, first = tables[-1], None, None
    if len(passes) == 2:
        boxes, first = predictor.confident_boxes(passes[0]), tables[0]
    evidence = codec_floor.evidence_of(run_dirs, data_dir, annotated, options, boxes)
    source = f'{", ".join(run_dirs)} on {data_dir}'
    return Case(source, predicted, by_place, annotated.image_ids, schema, evidence, first)


def report_of(
    case: Case, errors: Errors, missing: str, scale: float, image_sizes: np.ndarray | None
) -> dict:
    """Return all numbers that there are of a case, as plain values.

    Args:
        scale: With which k of the similarity.
        image_sizes: float [N, 2], (height, width), px; None where not known.
    """
    categories, schema = case.annotations.categories, case.schema
    properties = subsets.properties(case.annotations, schema, image_sizes)
    return {
        'source': case.source,
        **error_budget.budgets(errors, categories, schema),
        'images': len(categories),
        'skipped_images': errors.skipped_images,
        'missing_predictions': errors.missing_predictions,
        'similarity_scale': scale,
        'good_within': error_budget.radius(error_budget.GOOD_SIMILARITY, scale),
        'found_within': error_budget.radius(error_budget.JITTER_SIMILARITY, scale),
        'oracles': oracles.gains(
            case.predicted, case.annotations, schema, missing, case.first_pass
        ),
        'subsets': {
            name: [group._asdict() for group in bins]
            for name, bins in subsets.all_bins(errors.distances, properties).items()
        },
    }


def read_images(
    case: Case, rows: Collection[int], data_dir: str
) -> tuple[np.ndarray, dict[int, DecodedImage]]:
    """Read a split of the records once; held in memory are the pictures that are wanted.

    Args:
        rows: Of which the pictures themselves are wanted.

    Returns:
        The sizes of all pictures, float64 [N, 2], (height, width), px, NaN where a picture is not
        in the split; and the wanted pictures by row.

    Raises:
        UserError: None of the pictures is in the split.
    """
    import tensorflow as tf

    from preprocessing import faults, records
    from preprocessing.conversion import integrity

    keys = zip(case.annotations.categories.tolist(), case.image_ids.tolist())
    row_of = {key: row for row, key in enumerate(keys)}
    sizes, images = np.full([len(case.image_ids), 2], np.nan), {}
    total = records.count_records(data_dir)
    files = records.record_files(records.split_patterns(data_dir, 'all'))
    examples = records.decoded(tf.data.TFRecordDataset(files), case.schema).as_numpy_iterator()
    integrity.check_split(data_dir, 'all')
    for example in faults.named(track(examples, total, 'reading pictures'), files, case.schema):
        row = row_of.get((example['category'].decode(), example['image_id'].decode()))
        if row is None:
            continue
        sizes[row] = example['image_size']
        if row in rows:
            images[row] = records.picture(example)
    if np.isnan(sizes).all():
        raise UserError(f'{data_dir} holds none of the pictures of {case.source}')
    return sizes, images


def worst_of_all(errors: Errors, count: int) -> dict[str, list[tuple[int, float]]]:
    """Return kind -> the rows that lose most to it, and how much of NE.

    The kind that costs most comes first; those that cost nothing are left out.
    """
    ordered = sorted(errors.kinds, key=lambda kind: -errors.costs(kind).sum())
    ranked = {kind: list(worst_images(errors, kind, count)) for kind in ordered}
    return {kind: worst for kind, worst in ranked.items() if worst}


def with_image_ids(
    case: Case, worst: Mapping[str, Sequence[tuple[int, float]]]
) -> dict[str, list[dict]]:
    """Return worst_of_all with the ids and the categories of pictures in place of their rows."""
    categories = case.annotations.categories
    return {
        kind: [
            {
                'image_id': case.image_ids[row],
                'category': str(categories[row]),
                'normalized_error': cost,
            }
            for row, cost in ranked
        ]
        for kind, ranked in worst.items()
    }


def sections(
    case: Case,
    errors: Errors,
    worst: Mapping[str, Sequence[tuple[int, float]]],
    images: Mapping[int, DecodedImage],
) -> list[error_page.Section]:
    """Return the worst pictures of each kind, drawn; on gray where there is no JPEG of the row."""
    return [
        error_page.section(
            kind, [_figure(case, errors, kind, row, cost, images.get(row)) for row, cost in rows]
        )
        for kind, rows in worst.items()
    ]


def _figure(
    case: Case, errors: Errors, kind: str, row: int, cost: float, decoded: DecodedImage | None
):
    from preprocessing.conversion.images import pixels

    image = None if decoded is None else pixels(decoded)
    chosen = errors.of_kind(kind)[row]
    present = case.predicted.visibility[row] >= 0
    keypoints = np.where(present[:, np.newaxis], case.predicted.keypoints[row], np.nan)
    annotations = case.annotations.keypoints[row], case.annotations.visibility[row]
    drawn = draw.draw_error(image, keypoints, annotations, chosen, case.schema)
    image_id, category = case.image_ids[row], str(case.annotations.categories[row])
    points = _points_in_words(errors.costs(kind)[row], chosen, case.schema)
    alt = f'{category} {image_id} with its answers and these predictions: {points}'
    return error_page.Figure(image_id, category, points, cost, html_page.picture(drawn, alt))


def _points_in_words(costs: np.ndarray, chosen: np.ndarray, schema: KeypointSchema) -> str:
    ranked = [k for k in np.argsort(-costs, kind='stable') if chosen[k]]
    words = [f'{schema.keypoints[k]} {100 * costs[k]:.1f} %' for k in ranked[:_MAX_NAMED_POINTS]]
    more = len(ranked) - len(words)
    return ', '.join(words) + (f' and {more} more' if more else '')
