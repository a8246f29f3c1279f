"""Points for the pictures of a split, from the networks of a run or of several."""

from __future__ import annotations

import dataclasses
import functools
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from absl import logging

from config import Experiment, UserError
from nets import precision
from preprocessing import faults, make_input_fn, records
from preprocessing.conversion import integrity
from preprocessing.conversion.images import DecodedImage
from preprocessing.datasets import Annotation
from preprocessing.schema import KeypointSchema
from preprocessing.tables import KeypointTable, category_points
from utility.checkpoints import bundles, choice, runs, trained_records, variables
from utility.command_line import environment
from utility.command_line.progress import track
from utility.predict import fusion
from utility.predict.boxes import Box, RecordBoxes, of_records
from utility.predict.model_fn import PredictTask, make_predict_fn
from utility.predict.views_to_points import PredictOptions

# From which probability of being absent on a point is not drawn, and marked in what is written.
ABSENT_FROM = 0.5
# A point whose score is below this share of the picture's median score does not shape the box of
# the second pass: it is most likely occluded or wrong.
_CONFIDENT = 0.5
# Nor does one of the less sure half that lies farther from the box of all others than this share
# of its longer side: of 33,000 annotated points of 3,332 pictures 11 do.
_FAR = 0.75
NO_CATEGORY = (
    'the network does not tell the category: it must be given, or trained, with '
    '--set loss.category_weight=0.001 and --category=all'
)
_FEWEST_POINTS = 4  # to tell which of them is far from the others


@dataclasses.dataclass(frozen=True)
class Predictions:
    """Points of N pictures, sorted by category and within it in the order of the records.

    Attributes:
        image_ids: str [N].
        categories: str [N].
        image_sizes: int [N, 2], (height, width).
        keypoints: float32 [N, K, 2], continuous px of the original pictures, K of the full schema.
        scores: float32 [N, K], peak of the heat map; about 1 where the network is sure.
        visibility: int32 [N, K]: 1 for the points of the picture's category, else -1; with
            use_predicted_category of that which the network tells.
        category_probabilities: float32 [N, C], C the categories of the schema in its order; None
            where the networks do not tell them.
        presence: float32 [N, K, 3], probabilities of absent, occluded and visible, of each point
            given that the picture shows its category, 0 for points that the network does not know;
            None where the networks do not tell them.
        map_features: float32 [N, K, 3], as of map_features.of_maps; None where not asked for.
        boxes: float32 [N, 4] of the garments, px, zeros where there is none; None: not read.
    """

    image_ids: np.ndarray
    categories: np.ndarray
    image_sizes: np.ndarray
    keypoints: np.ndarray
    scores: np.ndarray
    visibility: np.ndarray
    category_probabilities: np.ndarray | None = None
    presence: np.ndarray | None = None
    map_features: np.ndarray | None = None
    boxes: np.ndarray | None = None

    def predicted_categories(self, schema: KeypointSchema) -> np.ndarray:
        """Return the most likely category of each picture, str [N].

        Raises:
            UserError: The networks do not tell it.
        """
        if self.category_probabilities is None:
            raise UserError(NO_CATEGORY)
        return np.array(list(schema.categories))[self.category_probabilities.argmax(axis=1)]

    def likely_visibility(self) -> np.ndarray:
        """Return int32 [N, K], what is to be drawn: as visibility, but 0 for points that are likely
        occluded and -1 for those that are likely absent, where the networks tell it.
        """
        if self.presence is None:
            return self.visibility
        return np.where(self.visibility < 0, -1, likely_visibility(self.presence))

    def mean_scores(self) -> np.ndarray:
        """Return how sure each picture's points are: float64 [N], the mean of its own points."""
        own = self.visibility >= 0
        return np.where(own, self.scores, 0.0).sum(axis=1) / np.maximum(own.sum(axis=1), 1)

    def rows(self, rows: np.ndarray) -> Predictions:
        """Return those of some pictures: their places, int [n], or bool [N]."""
        return Predictions(*(None if one is None else one[rows] for one in _arrays(self)))

    def table(self) -> KeypointTable:
        lines = np.arange(2, len(self.image_ids) + 2)
        return KeypointTable(
            self.image_ids, self.categories, self.keypoints, self.visibility, lines
        )


def likely_visibility(presence: np.ndarray) -> np.ndarray:
    """Return int32 [.., K] of probabilities [.., K, 3] of absent, occluded and visible: -1 of a
    point that is absent with a probability of ABSENT_FROM, else 1 or 0, whichever is likelier.
    """
    likelier = np.where(presence[..., 2] >= presence[..., 1], 1, 0)
    return np.where(presence[..., 0] >= ABSENT_FROM, -1, likelier).astype(np.int32)


def categories_of(split_dir: str) -> dict[str, int]:
    """Return the categories that a split of the records holds, and how many pictures of each.

    Raises:
        UserError: It is no split, or an empty one.
    """
    counts = {name: n for name, n in records.count_by_category(split_dir, 'all').items() if n}
    if not counts:
        raise UserError(f'{split_dir!r} holds no records')
    return counts


def predict_split(
    run_dirs: Sequence[str],
    split_dir: str,
    options: PredictOptions,
    on_row: Callable[[int], None] | None = None,
    given_boxes: Mapping[str, Sequence[Box]] | None = None,
) -> Predictions:
    """Predict every picture of a split of the records with the networks of one run or several.

    Arguments and errors are those of predict_passes, whose last it is.
    """
    return predict_passes(run_dirs, split_dir, options, on_row, given_boxes)[-1]


def predict_passes(
    run_dirs: Sequence[str],
    split_dir: str,
    options: PredictOptions,
    on_row: Callable[[int], None] | None = None,
    given_boxes: Mapping[str, Sequence[Box]] | None = None,
) -> list[Predictions]:
    """Predict every picture of a split in one pass or, by options.passes, in two.

    Several runs are one predictor: options.fuse tells what of them is averaged.

    Args:
        run_dirs: The runs, at least one.
        split_dir: RECORDS/<split>.
        on_row: Called whenever a picture is done, with its number in its pass and network.
        given_boxes: image_id -> boxes, to which it is cropped in place of the record's own: one
            prediction for each. Of other records the own box is read. None: no box is read.

    Returns:
        What each pass has predicted, of the same pictures in the same order.

    Raises:
        UserError: A path holds no run or not the records that dataset.json tells of, a network
            has no checkpoint yet or that of another, heat maps cannot be averaged, or a box is of
            no record or of another category.
    """
    counts = categories_of(split_dir)
    _check_category(run_dirs, options)
    parts = []
    with tempfile.TemporaryDirectory() as scratch:
        chosen = fusion.trained_networks(run_dirs, counts, options, scratch)
        records.check_schema(split_dir, chosen[0][0][0].full_schema)
        _warn_of_selection(split_dir, chosen, options)
        files = [_files_of(split_dir, ','.join(categories)) for _, categories in chosen]
        boxes = _record_boxes(files, chosen[0][0][0].full_schema, given_boxes)
        for (networks, categories), paths, own in zip(chosen, files, boxes):
            count = sum(counts[c] for c in categories)
            with faults.explained(paths, networks[0].full_schema):
                parts.append(_predict(networks, paths, count, options, on_row, own))
    return [_sorted(of_networks) for of_networks in zip(*parts)]


def _files_of(split_dir: str, category: str) -> list[str]:
    patterns = records.split_patterns(split_dir, category)
    integrity.check_split(split_dir, category)
    return records.record_files(patterns)


def _record_boxes(
    files: Sequence[Sequence[str]],
    schema: KeypointSchema,
    given: Mapping[str, Sequence[Box]] | None,
) -> list[RecordBoxes | None]:
    """Return boxes.of_records of the records of some lists of files; None where none is asked for.

    Raises:
        UserError: A box is of no record.
    """
    if given is None:
        return [None] * len(files)
    found = [of_records(paths, schema, given) for paths in files]
    unknown = given.keys() - set().union(*(met for _, met in found))
    if unknown:
        first = given[min(unknown)][0]
        problem = f'no picture {min(unknown)!r} in the records'
        raise UserError(f'{first.place}: {problem}, nor {len(unknown) - 1} others of the file')
    return [own for own, _ in found]


def _check_category(run_dirs: Sequence[str], options: PredictOptions) -> None:
    """Refuse, before anything is predicted, to ask for what the networks do not tell."""
    if options.use_predicted_category and not fusion.tells_category(run_dirs):
        raise UserError(NO_CATEGORY)


def _sorted(parts: Sequence[Predictions]) -> Predictions:
    """Return the predictions of several networks as one, by category."""
    joined = _joined(parts)
    return joined.rows(np.argsort(joined.categories.astype(str), kind='stable'))


def _joined(parts: Sequence[Predictions]) -> Predictions:
    """Return all pictures of the parts; what one part does not tell is not told."""
    columns = zip(*map(_arrays, parts))
    return Predictions(
        *(None if any(part is None for part in own) else np.concatenate(own) for own in columns)
    )


def _warn_of_selection(split_dir: str, chosen, options: PredictOptions) -> None:
    """Say so where weights are to be scored on the pictures that they were chosen by."""
    selected = {
        network.folder
        for networks, _ in chosen
        for network in networks
        if choice.is_best(network.checkpoint, options.checkpoint)
    }
    if any(trained_records.validates_on(folder, split_dir) for folder in selected):
        logging.warning(
            'the weights were chosen by their scores on %s: they are worse on other pictures',
            split_dir,
        )


def predict_images(
    run_dirs: Sequence[str],
    image_ids: Sequence[str],
    pictures: Sequence[DecodedImage],
    categories: Sequence[str],
    options: PredictOptions,
    boxes: RecordBoxes | None = None,
) -> Predictions:
    """Predict pictures that are in no split; they become records for as long as it takes.

    Args:
        run_dirs: The runs, at least one.
        image_ids: Their names, N of them.
        pictures: As preprocessing.conversion.images gives them.
        categories: What each shows.
        boxes: Of each picture one, zeros where it has none; networks crop to them that were trained
            on boxes, and all networks if they are given. None: of none.

    Returns:
        Predictions in the order given.
    """
    _check_category(run_dirs, options)
    categories = np.asarray(categories, str)
    schema = runs.schema_of(run_dirs[0])
    absent = np.full(schema.num_keypoints, -1, np.int32)
    nowhere = np.zeros((schema.num_keypoints, 2), np.float32)
    rows, parts = [], []
    with tempfile.TemporaryDirectory() as directory:
        present = sorted(set(categories))
        for networks, own in fusion.trained_networks(run_dirs, present, options, directory):
            path = os.path.join(directory, f'{len(parts)}.tfrecord')
            chosen = np.flatnonzero(np.isin(categories, own))
            with records.shard_writer(path) as write:
                for row in chosen:
                    name, category = image_ids[row], categories[row]
                    box = boxes.boxes[row] if boxes is not None else None
                    annotation = Annotation(name, name, category, nowhere, absent, box)
                    jpeg, size = pictures[row][:2]
                    write(records.encode_example(jpeg, annotation, size))
            looked_at = boxes and boxes.of(chosen)
            parts.append(_predict(networks, [path], len(chosen), options, own=looked_at)[-1])
            rows.append(chosen)
    return _joined(parts).rows(np.argsort(np.concatenate(rows)))


def _arrays(predictions: Predictions) -> list[np.ndarray | None]:
    return [getattr(predictions, field.name) for field in dataclasses.fields(predictions)]


class _Look(NamedTuple):
    """What a pass looks at: `count` pictures; or N boxes [N, 4], of which a record has `counts`."""

    count: int
    boxes: np.ndarray | None = None
    counts: np.ndarray | None = None


def _predict(
    networks: Sequence[fusion.TrainedNetwork],
    files: list[str],
    count: int,
    options: PredictOptions,
    on_row=None,
    own: RecordBoxes | None = None,
) -> list[Predictions]:
    """Predict the `count` records of `files` in one or two passes; what each has given."""
    for network in networks:
        logging.info('predicting %d pictures with %s', count, network.checkpoint)
    look = _Look(count)
    if own is not None and own.are_given:
        look = _Look(len(own.boxes), own.boxes, own.counts)
    passes = [_predict_pass(networks, files, look, options, on_row)]
    if options.passes == 2:
        second = look._replace(boxes=confident_boxes(passes[0]))
        passes.append(_predict_pass(networks, files, second, options, on_row))
    if own is None:
        return passes
    ids = own.numbered(passes[0].image_ids)
    return [dataclasses.replace(one, image_ids=ids, boxes=own.boxes) for one in passes]


def _predict_pass(networks, files: list[str], look: _Look, options, on_row=None) -> Predictions:
    averages_maps = len(networks) > 1 and options.fuse == 'heatmaps'
    heatmap_size = fusion.common_heatmap_size(networks) if averages_maps else None
    sources = [_rows(network, files, options, heatmap_size, look) for network in networks]
    name = ' + '.join(os.path.basename(network.folder) for network in networks)
    rows = track(fusion.together(sources, networks, options), look.count, name)
    collected, number = _collect(rows, look.count, networks[0].full_schema, on_row)
    if number != look.count:
        raise UserError(
            f'{", ".join(files)}: {number} records, but {look.count} by {records.DATASET_FILE}; '
            'run convert_tfrecords.py again'
        )
    shown = collected.categories
    if options.use_predicted_category:
        shown = collected.predicted_categories(networks[0].full_schema)
    in_category = category_points(shown, networks[0].full_schema)
    visibility = np.where(in_category, 1, -1).astype(np.int32)
    return dataclasses.replace(collected, visibility=visibility)


def pass_ops(experiment: Experiment, is_second: bool) -> str:
    """Return the op string of the first or the second pass: the second crops to a box.

    Where the first one crops, too, because the records have boxes, the second has other boxes. A
    first pass that is given boxes is as a second one.
    """
    ops = experiment.data.eval_ops
    crops = is_second and 'crop_box' not in ops
    return experiment.resolved_ops(f'crop_box|{ops}' if crops else ops)


def _rows(network: fusion.TrainedNetwork, files, options, heatmap_size, look: _Look):
    """Return what starts the rows of Estimator.predict of a network."""
    experiment = network.experiment
    task = PredictTask(experiment, network.schema, options, heatmap_size, network.scalings)
    # What predicts is no member of the cluster that a training may have been started in.
    with environment.hidden('TF_CONFIG'):
        settings = tf.estimator.RunConfig(
            log_step_count_steps=None, session_config=precision.session_config(options.compute)
        )
    estimator = tf.estimator.Estimator(make_predict_fn(task), network.folder, settings)
    ops = pass_ops(experiment, is_second=look.boxes is not None)
    input_fn = make_input_fn(
        files,
        network.schema,
        options.views.op_strings(ops),
        options.batch_size,
        training=False,
        boxes=look.boxes,
        box_counts=look.counts,
    )
    hooks = [_SameNetwork(network.checkpoint)]
    return functools.partial(
        estimator.predict,
        input_fn,
        hooks=hooks,
        checkpoint_path=bundles.literal(network.checkpoint),
    )


def _collect(
    rows: Iterable[dict], count: int, schema: KeypointSchema, on_row=None
) -> tuple[Predictions, int]:
    """Return the first `count` rows, over the full schema, as arrays; and how many rows there were.
    The visibility of all points is -1.

    No row is held: a network gives arrays of whole batches, which parts of them would keep.
    """
    image_ids, categories = np.full(count, '', object), np.full(count, '', object)
    image_sizes = np.zeros([count, 2], np.int32)
    keypoints = np.zeros([count, schema.num_keypoints, 2], np.float32)
    scores = np.zeros([count, schema.num_keypoints], np.float32)
    told: dict[str, np.ndarray] = {}
    number = 0
    for number, row in enumerate(rows, 1):
        if number <= count:
            place = number - 1
            image_ids[place], categories[place] = row['image_id'].decode(), row['category'].decode()
            image_sizes[place] = row['image_size']
            keypoints[place], scores[place] = row['keypoints'], row['scores']
            for name in (*fusion.TOLD, 'map_features'):
                if name in row:
                    told.setdefault(name, np.zeros([count, *row[name].shape], np.float32))
                    told[name][place] = row[name]
        if on_row:
            on_row(number - 1)
    visibility = np.full([count, schema.num_keypoints], -1, np.int32)
    arrays = (image_ids, categories.astype(str), image_sizes, keypoints, scores, visibility)
    return Predictions(*arrays, **told), number


def confident_boxes(predictions: Predictions) -> np.ndarray:
    """Return confident_box of each picture: float32 [N, 4]."""
    rows = zip(predictions.keypoints, predictions.scores, predictions.visibility)
    return np.stack([confident_box(*row) for row in rows])


def confident_box(keypoints: np.ndarray, scores: np.ndarray, visibility: np.ndarray) -> np.ndarray:
    """Return the box around a picture's confident points.

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
    if len(points) >= _FEWEST_POINTS:
        points = points[_near_the_others(points) | (scores[sure] > median)]
    return np.concatenate([points.min(axis=0), points.max(axis=0)]).astype(np.float32)


def _near_the_others(points: np.ndarray) -> np.ndarray:
    """Return which of the points [N, 2] lie near the box of the others: bool [N]."""
    ordered = np.sort(points, axis=0)
    low = np.where(points == ordered[0], ordered[1], ordered[0])
    high = np.where(points == ordered[-1], ordered[-2], ordered[-1])
    gaps = np.maximum(low - points, points - high).max(axis=1)
    return gaps <= _FAR * (high - low).max(axis=1)


class _SameNetwork(tf.compat.v1.train.SessionRunHook):
    """Refuses, before a session restores it, a checkpoint of another network than the graph's."""

    def __init__(self, checkpoint: str):
        self._checkpoint = checkpoint

    def begin(self):
        variables.check_fit(self._checkpoint, tf.compat.v1.global_variables())
