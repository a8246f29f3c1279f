"""The Estimator's model function for prediction: network, views, fusion and decoding."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import tensorflow as tf

from config import Experiment
from nets import build_network
from nets.precision import Compute
from preprocessing.schema import KeypointSchema
from utility.codecs.heatmaps import HeatmapCodec, codec_of
from utility.losses.heatmap_loss import maps_per_point
from utility.predict import views_to_points
from utility.predict.views_to_points import PredictOptions


@dataclasses.dataclass(frozen=True)
class PredictTask:
    """One network to predict with.

    Attributes:
        experiment: What was trained.
        schema: Its keypoints, of one category or of all.
        options: How it predicts.
        heatmap_size: (height, width), cells. Predict heat maps of this size instead of points, to
            be averaged with those of other networks; None: points.
        compute: How the network is computed.
    """

    experiment: Experiment
    schema: KeypointSchema
    options: PredictOptions = PredictOptions()
    heatmap_size: tuple[int, int] | None = None
    compute: Compute = Compute()

    @property
    def codec(self) -> HeatmapCodec:
        return codec_of(self.experiment, self.options.smoothing)


def make_predict_fn(task: PredictTask) -> Callable:
    """Make the model_fn of `task` for tf.estimator.Estimator; it knows PREDICT only."""

    def model_fn(features, labels, mode):
        assert mode == tf.estimator.ModeKeys.PREDICT, mode
        del labels  # There are none.
        num_maps = task.schema.num_keypoints * maps_per_point(task.experiment.loss)
        network = build_network(task.experiment.network, num_maps, task.compute.precision)
        return tf.estimator.EstimatorSpec(mode, predictions=_predictions(task, network, features))

    return model_fn


def _predictions(task: PredictTask, network, features) -> dict[str, tf.Tensor]:
    """Predict a batch: its points in original px with their scores, or its heat maps."""
    images, to_view = features['image'], features['to_crop']
    if images.shape.rank == 4:  # one view of each image
        images, to_view = images[:, tf.newaxis], to_view[:, tf.newaxis]
    predictions = {name: features[name] for name in ('image_id', 'category', 'image_size')}
    return {**predictions, **predicted(task, network, images, to_view)}


def predicted(
    task: PredictTask, network, images: tf.Tensor, to_view: tf.Tensor
) -> dict[str, tf.Tensor]:
    """Predict a batch of views.

    Args:
        task: Of the network.
        network: A nets.Network.
        images: [B, V, H, W, 3].
        to_view: float32 [B, V, 3, 3], original px -> px of the view.

    Returns:
        'keypoints' [B, K, 2], original px, and 'scores' [B, K]; or, with task.heatmap_size,
        'heatmaps' [B, h, w, K] and 'to_crop' [B, 3, 3].
    """
    maps = views_to_points.heatmaps_of_views(
        network, images, task.schema.flip_permutation, task.experiment.loss, task.options
    )
    if task.heatmap_size:
        fused = views_to_points.fused_heatmaps(maps, to_view, task.codec)
        return {'heatmaps': tf.image.resize(fused, task.heatmap_size), 'to_crop': to_view[:, 0]}
    points, scores = views_to_points.points_of_views(maps, to_view, task.codec, task.options.fuse)
    return {'keypoints': points, 'scores': scores}
