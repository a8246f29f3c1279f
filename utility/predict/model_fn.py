"""The Estimator's model function for prediction: network, views, fusion and decoding."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import tensorflow as tf

from config import Experiment
from preprocessing.schema import KeypointSchema
from utility.codecs.heatmaps import HeatmapCodec, codec_of
from utility.losses import attributes
from utility.predict import map_features, views_to_points
from utility.predict.probabilities import scaled
from utility.predict.views_to_points import PredictOptions
from utility.statistics.reliability import GroupScalings, Scaling


@dataclasses.dataclass(frozen=True)
class PredictTask:
    """One network to predict with.

    Attributes:
        experiment: What was trained.
        schema: Its keypoints, of one category or of all.
        options: How it predicts.
        heatmap_size: (height, width), cells. Predict heat maps of this size instead of points, to
            be averaged with those of other networks; None: points.
        scalings: Of the probabilities that it tells, by name.
    """

    experiment: Experiment
    schema: KeypointSchema
    options: PredictOptions = PredictOptions()
    heatmap_size: tuple[int, int] | None = None
    scalings: Mapping[str, Scaling | GroupScalings] = dataclasses.field(default_factory=dict)

    @property
    def codec(self) -> HeatmapCodec:
        return codec_of(self.experiment, self.options.smoothing)


def make_predict_fn(task: PredictTask) -> Callable:
    """Make the model_fn of `task` for tf.estimator.Estimator; it knows PREDICT only."""

    def model_fn(features, labels, mode):
        assert mode == tf.estimator.ModeKeys.PREDICT, mode
        del labels  # There are none.
        network = attributes.network_of(
            task.experiment, task.schema, task.options.compute.precision
        )
        return tf.estimator.EstimatorSpec(mode, predictions=_predictions(task, network, features))

    return model_fn


def _predictions(task: PredictTask, network, features) -> dict[str, tf.Tensor]:
    """Predict a batch: its points in original px with their scores, or its heat maps."""
    images, to_view = features['image'], features['to_crop']
    if images.shape.rank == 4:  # one view of each image
        images, to_view = images[:, tf.newaxis], to_view[:, tf.newaxis]
    predictions = {name: features[name] for name in ('image_id', 'category', 'image_size')}
    category = None if task.options.use_predicted_category else features['category']
    return {**predictions, **predicted(task, network, images, to_view, category)}


def predicted(
    task: PredictTask,
    network,
    images: tf.Tensor,
    to_view: tf.Tensor,
    category: tf.Tensor | None = None,
) -> dict[str, tf.Tensor]:
    """Predict a batch of views.

    Args:
        network: A nets.Network.
        images: [B, V, H, W, 3].
        to_view: float32 [B, V, 3, 3], original px -> px of the view.
        category: string [B], what the images show, which matters to the scaling of 'presence'.
            None, or a name that is no category: what the network tells.

    Returns:
        'keypoints' [B, K, 2], original px, and 'scores' [B, K]; or, with task.heatmap_size,
        'heatmaps' [B, h, w, K] and 'to_crop' [B, 3, 3]. In both cases, as far as the network
        tells them, 'category_probabilities' [B, C] and 'presence' [B, K, 3]. With the points, if
        the options want them, 'map_features' [B, K, 3].
    """
    maps, told = views_to_points.look(
        network.outputs, images, task.schema.flip_permutation, task.experiment.loss, task.options
    )
    if category is not None:
        category = attributes.category_indices(category, task.schema, other=-1)
    told = scaled(told, task.scalings, task.schema, category)
    if task.heatmap_size:
        fused = views_to_points.fused_heatmaps(maps, to_view, task.codec)
        heatmaps = tf.image.resize(fused, task.heatmap_size)
        return {'heatmaps': heatmaps, 'to_crop': to_view[:, 0], **told}
    points, scores = views_to_points.points_of_views(maps, to_view, task.codec, task.options.fuse)
    if task.options.map_features:
        fused = views_to_points.fused_heatmaps(maps, to_view, task.codec)
        told['map_features'] = map_features.of_maps(maps, fused, to_view, task.codec)
    return {'keypoints': points, 'scores': scores, **told}
