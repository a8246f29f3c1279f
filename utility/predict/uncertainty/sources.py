"""Where a calibration comes from: a file, a run, or a labelled split that is predicted now."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from config import UserError
from preprocessing.files import exists, is_folder
from preprocessing.schema import KeypointSchema
from preprocessing.tables import KeypointTable
from utility.checkpoints import runs
from utility.metrics.annotations import annotations_of
from utility.predict.uncertainty.calibration import Calibration, read
from utility.predict.uncertainty.features import FEATURES, POINT_FEATURES
from utility.predict.uncertainty.fitting import calibrate

if TYPE_CHECKING:
    from utility.predict.predictor import Predictions
    from utility.predict.views_to_points import PredictOptions

FILE = 'uncertainty.json'


def load(source: str, run_dirs: Sequence[str], options: PredictOptions) -> Calibration:
    """Return the calibration of a predictor.

    Args:
        source: A file that eval_metrics.py --save_uncertainty wrote, a folder with such a file of
            the name uncertainty.json, or a labelled split of the records, which is predicted now.
        run_dirs: The runs that are one predictor.

    Raises:
        UserError: It is none of these, or is of another predictor.
    """
    from preprocessing import records

    schema = runs.schema_of(run_dirs[0])
    path = file_of(source)
    if path:
        calibration = read(path)
        calibration.check(schema, options, path)
        return calibration
    try:
        records.check_is_split(source)
        records.load_dataset_info(os.path.dirname(source.rstrip('/')) or '.')
    except UserError as error:
        raise UserError(
            f'--uncertainty={source}: is no file, has no {FILE}, and is no labelled split of the '
            f'records ({error})'
        ) from error
    return of_split(source, run_dirs, options)


def file_of(source: str) -> str | None:
    """Return the path of the file that a source is or has; None where it has none."""
    inside = os.path.join(source, FILE)
    if exists(inside):
        return inside
    return source if exists(source) and not is_folder(source) else None


def of_split(
    split_dir: str,
    run_dirs: Sequence[str],
    options: PredictOptions,
    features: Sequence[str] = FEATURES,
) -> Calibration:
    """Predict a labelled split of the records and calibrate on it; arguments as of `load`."""
    from utility.predict import predictor

    schema = runs.schema_of(run_dirs[0])
    annotations = annotations_of(split_dir, schema)
    options = dataclasses.replace(options, map_features=not set(features) <= set(POINT_FEATURES))
    predictions = predictor.predict_split(run_dirs, split_dir, options)
    return calibrate(predictions, annotations, schema, options, features)


def predicted_one_by_one(
    split_dir: str,
    schema: KeypointSchema,
    predict: Callable[[np.ndarray, str], tuple[np.ndarray, np.ndarray]],
) -> tuple[Predictions, KeypointTable]:
    """Predict a labelled split by a function, picture by picture, beside its annotations.

    Args:
        schema: Of what is predicted, a whole one or that of a category.
        predict: From uint8 [H, W, 3] and a category to points [K, 2] px and scores [K].

    Raises:
        UserError: It is no labelled split with pictures of the schema's categories.
    """
    import tensorflow as tf

    from preprocessing import faults, records
    from preprocessing.conversion import images, integrity
    from utility.command_line.progress import track
    from utility.predict.predictor import Predictions

    records.check_is_split(split_dir)
    counts = records.count_by_category(split_dir)
    names = [name for name in schema.categories if counts.get(name)]
    if not names:
        raise UserError(f'{split_dir!r} has no pictures of {", ".join(schema.categories)}')
    integrity.check_split(split_dir, ','.join(names))
    files = records.record_files(records.split_patterns(split_dir, ','.join(names)))
    total = sum(counts[name] for name in names)
    examples = records.decoded(tf.data.TFRecordDataset(files), schema).as_numpy_iterator()
    rows = []
    for example in faults.named(track(examples, total, 'predicting'), files, schema):
        category = example['category'].decode()
        points, scores = predict(images.pixels(records.picture(example)), category)
        own = np.full(schema.num_keypoints, -1)
        own[list(schema.indices(category))] = 1
        known = example['keypoints'], example['visibility']
        rows.append((category, example['image_size'], points, scores, own, *known))
    categories, sizes, points, scores, own, keypoints, visibility = map(np.array, zip(*rows))
    lines = np.arange(len(rows)) + 2
    predictions = Predictions(lines, categories, sizes, points, scores, own)
    return predictions, KeypointTable(lines, categories, keypoints, visibility, lines)
