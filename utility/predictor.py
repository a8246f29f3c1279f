"""Points for the pictures of a split, from the networks of a run."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from absl import logging

from config import Experiment
from preprocessing import make_input_fn, records
from preprocessing.datasets import DATASETS, Annotation
from preprocessing.pictures import Picture
from preprocessing.schema import KeypointSchema
from preprocessing.tables import KeypointTable
from utility import runs
from utility.heatmaps import REFINEMENTS
from utility.model_fn import Task, make_model_fn
from utility.progress import track

# A point whose score is below this share of the picture's median score does not shape the box of
# the second pass: it is most likely occluded or wrong.
_CONFIDENT = 0.5
_SECOND_PASS_OPS = 'crop_box|'


@dataclasses.dataclass(frozen=True)
class PredictOptions:
    """How a network is used.

    Attributes:
        flip_test: Average with the mirrored picture's heat maps.
        passes: 2 predicts again on the box around the points of the first pass.
        refine: How heat maps become points; None: as the experiment says.
        batch_size: Pictures at a time.
    """

    flip_test: bool = False
    passes: int = 1
    refine: str | None = None
    batch_size: int = 16

    def __post_init__(self):
        if self.passes not in (1, 2):
            raise ValueError(f'passes={self.passes}: must be 1 or 2')
        if self.refine is not None:
            REFINEMENTS.get(self.refine)


@dataclasses.dataclass(frozen=True)
class Predictions:
    """Points of N pictures, sorted by category and within it in the order of the records.

    Attributes:
        image_ids: str [N].
        categories: str [N].
        image_sizes: int [N, 2], (height, width).
        keypoints: float32 [N, K, 2], continuous px of the original pictures, K of the full schema.
        scores: float32 [N, K], peak of the heat map; about 1 where the network is sure.
        visibility: int32 [N, K]: 1 for the points of the picture's category, else -1.
    """

    image_ids: np.ndarray
    categories: np.ndarray
    image_sizes: np.ndarray
    keypoints: np.ndarray
    scores: np.ndarray
    visibility: np.ndarray

    def table(self) -> KeypointTable:
        lines = np.arange(2, len(self.image_ids) + 2)
        return KeypointTable(
            self.image_ids, self.categories, self.keypoints, self.visibility, lines
        )


def categories_of(split_dir: str) -> dict[str, int]:
    """The categories that a split of the records holds, and how many pictures of each.

    Raises:
        ValueError: It is no split, or an empty one.
    """
    counts = {name: n for name, n in records.count_by_category(split_dir, 'all').items() if n}
    if not counts:
        raise ValueError(f'{split_dir!r} holds no records')
    return counts


def predict_split(run_dir: str, split_dir: str, options: PredictOptions) -> Predictions:
    """Predicts every picture of a split of the records with the networks of a run.

    Raises:
        ValueError: A path holds no run or not the records that dataset.json tells of, or a network
            has no checkpoint yet.
    """
    counts = categories_of(split_dir)
    parts = []
    for folder, categories in runs.networks_for(run_dir, counts).items():
        files = records.split_patterns(split_dir, ','.join(categories))
        parts.append(_predict(folder, files, sum(counts[c] for c in categories), options))
    joined = Predictions(*map(np.concatenate, zip(*map(_arrays, parts))))
    order = np.argsort(joined.categories.astype(str), kind='stable')
    return Predictions(*(values[order] for values in _arrays(joined)))


def predict_pictures(
    run_dir: str,
    image_ids: Sequence[str],
    pictures: Sequence[Picture],
    categories: Sequence[str],
    options: PredictOptions,
) -> Predictions:
    """Predicts pictures that are in no split; they become records for as long as it takes.

    Args:
        run_dir: The run.
        image_ids: Their names, N of them.
        pictures: As preprocessing.pictures gives them.
        categories: What each shows.
        options: How to predict.

    Returns:
        Predictions in the order given.
    """
    categories = np.asarray(categories, str)
    schema = runs.schema_of(run_dir)
    absent = np.full(schema.num_keypoints, -1, np.int32)
    nowhere = np.zeros((schema.num_keypoints, 2), np.float32)
    rows, parts = [], []
    with tempfile.TemporaryDirectory() as directory:
        for folder, own in runs.networks_for(run_dir, sorted(set(categories))).items():
            path = os.path.join(directory, f'{len(parts)}.tfrecord')
            chosen = np.flatnonzero(np.isin(categories, own))
            with records.shard_writer(path) as write:
                for row in chosen:
                    name, category = image_ids[row], categories[row]
                    annotation = Annotation(name, name, category, nowhere, absent)
                    jpeg, size, _ = pictures[row]
                    write(records.encode_example(jpeg, annotation, size))
            parts.append(_arrays(_predict(folder, [path], len(chosen), options)))
            rows.append(chosen)
    order = np.argsort(np.concatenate(rows))
    return Predictions(*(np.concatenate(values)[order] for values in zip(*parts)))


def _arrays(predictions: Predictions) -> list[np.ndarray]:
    return [getattr(predictions, field.name) for field in dataclasses.fields(predictions)]


def _predict(folder: str, files: list[str], count: int, options: PredictOptions) -> Predictions:
    """Predicts the `count` records of `files` with one network, in one or two passes."""
    experiment = runs.load_experiment(folder)
    logging.info('predicting %d pictures with %s', count, tf.train.latest_checkpoint(folder))
    if options.refine:
        experiment = dataclasses.replace(experiment, refine=options.refine)
    first = _predict_pass(folder, experiment, files, count, options)
    if options.passes == 1:
        return first
    boxes = np.stack(
        [confident_box(*row) for row in zip(first.keypoints, first.scores, first.visibility)]
    )
    return _predict_pass(folder, experiment, files, count, options, boxes)


def _predict_pass(
    folder: str, experiment: Experiment, files: list[str], count: int, options, boxes=None
) -> Predictions:
    full = DATASETS.get(experiment.data.dataset).schema
    schema = full.subset(experiment.data.category)
    task = Task(experiment=experiment, schema=schema, flip_test=options.flip_test)
    estimator = tf.estimator.Estimator(
        make_model_fn(task), folder, tf.estimator.RunConfig(log_step_count_steps=None)
    )
    ops = experiment.data.eval_ops if boxes is None else _SECOND_PASS_OPS + experiment.data.eval_ops
    input_fn = make_input_fn(
        files,
        schema,
        experiment.resolved_ops(ops),
        options.batch_size,
        training=False,
        boxes=boxes,
    )
    rows = list(track(estimator.predict(input_fn), count, os.path.basename(folder)))
    if len(rows) != count:
        raise ValueError(
            f'{", ".join(files)}: {len(rows)} records, but {count} by {records.DATASET_FILE}; '
            'run convert_tfrecords.py again'
        )
    return _collect(rows, full, schema)


def _collect(rows: list[dict], full: KeypointSchema, schema: KeypointSchema) -> Predictions:
    """The rows of Estimator.predict as arrays over the full schema."""
    categories = np.array([row['category'].decode() for row in rows], str)
    keypoints = np.zeros((len(rows), full.num_keypoints, 2), np.float32)
    scores = np.zeros((len(rows), full.num_keypoints), np.float32)
    columns = list(schema.record_positions)
    keypoints[:, columns] = np.stack([row['keypoints'] for row in rows])
    scores[:, columns] = np.stack([row['scores'] for row in rows])
    visibility = np.full((len(rows), full.num_keypoints), -1, np.int32)
    for category in set(categories):
        visibility[np.ix_(categories == category, full.indices(category))] = 1
    return Predictions(
        image_ids=np.array([row['image_id'].decode() for row in rows], object),
        categories=categories,
        image_sizes=np.stack([row['image_size'] for row in rows]),
        keypoints=keypoints,
        scores=scores,
        visibility=visibility,
    )


def confident_box(keypoints: np.ndarray, scores: np.ndarray, visibility: np.ndarray) -> np.ndarray:
    """The box around a picture's confident points.

    Args:
        keypoints: [K, 2] px.
        scores: [K].
        visibility: [K]; -1 where the category has no such point.

    Returns:
        float32 [4] (x_min, y_min, x_max, y_max) px; all zeros where there are no points.
    """
    own = visibility >= 0
    if not own.any():
        return np.zeros(4, np.float32)
    median = np.median(scores[own])
    # Half of a negative median is above it: without the minimum no point might be sure.
    sure = own & (scores >= min(median, _CONFIDENT * median))
    points = keypoints[sure]
    return np.concatenate([points.min(axis=0), points.max(axis=0)]).astype(np.float32)


def annotations_of(split_dir: str, schema: KeypointSchema) -> tuple[KeypointTable, np.ndarray]:
    """The annotations of a labelled split of the records, in the order of predict_split.

    Returns:
        The table, and the sizes of the pictures, int32 [N, 2], (height, width), px.

    Raises:
        ValueError: The split is not labelled.
    """
    records_dir, split = os.path.split(split_dir.rstrip('/'))
    info = records.load_dataset_info(records_dir or '.')
    if not info['splits'].get(split, {}).get('labelled', False):
        raise ValueError(f'{split_dir!r} is not a labelled split of the records')
    keys = ('image_id', 'category', 'keypoints', 'visibility', 'image_size')
    files = records.record_files(records.split_patterns(split_dir, 'all'))
    examples = records.decoded(tf.data.TFRecordDataset(files), schema).as_numpy_iterator()
    rows = [{key: example[key] for key in keys} for example in examples]
    rows.sort(key=lambda row: row['category'])
    table = KeypointTable(
        np.array([row['image_id'].decode() for row in rows], object),
        np.array([row['category'].decode() for row in rows], str),
        np.stack([row['keypoints'] for row in rows]),
        np.stack([row['visibility'] for row in rows]),
        np.arange(1, len(rows) + 1),
    )
    return table, np.stack([row['image_size'] for row in rows])
