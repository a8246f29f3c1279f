"""The error that no network can avoid: of points outside its view, and of its codec."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from preprocessing import faults, geometry, records
from preprocessing.ops.op_string import apply_ops
from preprocessing.ops.registry import EDGE_TOLERANCE
from preprocessing.stream import PARALLEL_CALLS
from preprocessing.tables import KeypointTable
from utility.checkpoints.choice import CheckpointChoice
from utility.codecs.heatmaps import HeatmapCodec
from utility.errors.budget import Evidence
from utility.predict import fusion, predictor
from utility.predict.fusion import TrainedNetwork
from utility.predict.views_to_points import PredictOptions

_IMAGES_AT_A_TIME = 16


def evidence_of(
    run_dirs: Sequence[str],
    split_dir: str,
    annotations: KeypointTable,
    options: PredictOptions,
    boxes: np.ndarray | None = None,
) -> Evidence:
    """Send the true points through the frames and the codecs of networks, and back.

    The frame is that of the first view. Of a network whose outputs are no heat maps the codec is
    that of the maps which they stand for. No picture is decoded.

    Args:
        annotations: Of all its pictures, in the order of annotations.annotations_of.
        boxes: float32 [N, 4], original px: what the second pass looks at; None: whole pictures.

    Returns:
        Where the true points come to lie, and with boxes which of them are seen.
    """
    decoded = annotations.keypoints.copy()
    in_view = np.zeros(annotations.visibility.shape, bool)
    counts = predictor.categories_of(split_dir)
    # No weights are read: any checkpoint will do.
    options = dataclasses.replace(options, checkpoint=CheckpointChoice())
    for networks, categories in fusion.trained_networks(run_dirs, counts, options):
        for category in categories:
            rows = np.flatnonzero(annotations.categories == category)
            cells = np.ix_(rows, networks[0].full_schema.indices(category))
            patterns = records.split_patterns(split_dir, category)
            category_boxes = None if boxes is None else boxes[rows]
            results = [
                _round_trip(
                    codec,
                    crop_matrices(network, patterns, category_boxes),
                    annotations.keypoints[cells],
                )
                for network, codec in _codecs(networks, options)
            ]
            decoded[cells] = np.mean([points for points, _ in results], axis=0)
            in_view[cells] = np.any([inside for _, inside in results], axis=0)
    return Evidence(decoded, None if boxes is None else in_view)


def _codecs(
    networks: Sequence[TrainedNetwork], options: PredictOptions
) -> list[tuple[TrainedNetwork, HeatmapCodec]]:
    """Return the codecs whose points are averaged, and the network in whose frame each works."""
    if options.fuse == 'keypoints' or len(networks) == 1:
        sizes = [network.experiment.network.map_size for network in networks]
        return [(n, _codec(n, n, s, options)) for n, s in zip(networks, sizes)]
    # The maps of the others are brought to the size of the finest.
    size = fusion.common_heatmap_size(networks)
    finest = next(n for n in networks if tuple(n.experiment.network.map_size) == size)
    return [(networks[0], _codec(networks[0], finest, size, options))]


def _codec(network: TrainedNetwork, finest: TrainedNetwork, size, options) -> HeatmapCodec:
    return HeatmapCodec(
        image_size=network.experiment.network.image_size,
        heatmap_size=size,
        sigma=finest.experiment.loss.sigmas_on(size)[-1],
        refine=network.experiment.refine,
        smoothing=options.smoothing,
    )


def _round_trip(
    codec: HeatmapCodec, to_crop: np.ndarray, keypoints: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return points [N, k, 2], original px, decoded again, and which lie in the frame."""
    decoded, inside = [], []
    for start in range(0, len(keypoints), _IMAGES_AT_A_TIME):
        part = slice(start, start + _IMAGES_AT_A_TIME)
        matrices = tf.constant(to_crop[part])
        in_crop = geometry.transform_points(tf.constant(keypoints[part]), matrices)
        points, _ = codec.decode(codec.encode(in_crop))
        decoded.append(geometry.transform_points(points, tf.linalg.inv(matrices)).numpy())
        tolerance = (EDGE_TOLERANCE * geometry.magnification(matrices))[:, None, None]
        frame = tf.constant(codec.image_size[::-1], tf.float32)
        within = (in_crop >= -tolerance) & (in_crop <= frame + tolerance)
        inside.append(tf.reduce_all(within, axis=-1).numpy())
    return np.concatenate(decoded), np.concatenate(inside)


def crop_matrices(
    network: TrainedNetwork, patterns: Sequence[str], boxes: np.ndarray | None = None
) -> np.ndarray:
    """Return what takes each record's picture to the network's input: float32 [N, 3, 3].

    Args:
        patterns: Of the files of records, as of records.record_files.
        boxes: float32 [N, 4], original px, of the second pass; None: of the first.
    """
    experiment = network.experiment
    ops = predictor.pass_ops(experiment, is_second=boxes is not None)
    paths = records.record_files(patterns)
    dataset = tf.data.TFRecordDataset(paths)
    # Without boxes each record has its own, which the ops of the first pass do not ask for.
    rows = tf.data.Dataset.from_tensor_slices(
        np.zeros([1, 4], np.float32) if boxes is None else np.asarray(boxes, np.float32)
    )
    rows = rows.repeat() if boxes is None else rows

    @tf.autograph.experimental.do_not_convert
    def matrix(record, box):
        example = dict(records.decode_example(record, network.full_schema))
        if boxes is not None:
            example['box'] = box
        # Nothing asks for the pixels, so that they are not decoded.
        return apply_ops(ops, network.full_schema, example, tf.constant([0, 0]))['to_crop']

    dataset = tf.data.Dataset.zip((dataset, rows)).map(matrix, PARALLEL_CALLS)
    with faults.explained(paths, network.full_schema):
        return np.stack(list(dataset.as_numpy_iterator()))
