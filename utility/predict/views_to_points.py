"""From views of pictures to points, in one graph: heat maps, mirrored ones, fusion, decoding."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import tensorflow as tf

from config import FUSIONS, LossConfig, check, one_of, require, within
from nets.network import Outputs
from nets.precision import Compute
from preprocessing import geometry
from utility.checkpoints.choice import CheckpointChoice
from utility.codecs.heatmaps import MAX_SMOOTHING, HeatmapCodec, flip_heatmaps
from utility.codecs.refinements import REFINEMENTS
from utility.losses import attributes, heatmap_loss
from utility.predict import test_time_augmentation as views
from utility.predict.test_time_augmentation import ViewOptions


@dataclasses.dataclass(frozen=True)
class PredictOptions:
    """How a network, or several, become points.

    Attributes:
        flip_test: Look at the mirrored picture too.
        passes: 2 predicts again on the box around the points of the first pass.
        refine: How heat maps become points; None: as the experiment says.
        batch_size: Pictures at a time.
        views: Further looks at each picture.
        fuse: 'heatmaps' averages the heat maps of all views, mirrored ones and networks in one
            frame; 'keypoints' decodes each and averages the points, weighted by their scores.
        outputs: Weights of a network's outputs, coarse to final, the last one repeated; empty: the
            last output alone.
        smoothing: Standard deviation, cells, of a Gaussian over the heat maps before they are
            decoded; 0: none.
        checkpoint: Which weights of each network.
        compute: How networks are computed.
        use_predicted_category: Give the points of the category that the network tells, not of the
            one that is given.
        map_features: Also tell of each point what map_features.of_maps finds.
    """

    flip_test: bool = False
    passes: int = 1
    refine: str | None = None
    batch_size: int = 16
    views: ViewOptions = ViewOptions()
    fuse: str = 'heatmaps'
    outputs: tuple[float, ...] = ()
    smoothing: float = 0.0
    checkpoint: CheckpointChoice = CheckpointChoice()
    compute: Compute = Compute()
    use_predicted_category: bool = False
    map_features: bool = False

    def __post_init__(self):
        require(self, '', '1 or 2', (1, 2).__contains__, 'passes')
        require(self, '', *one_of(FUSIONS), 'fuse')
        require(self, '', *within(0, MAX_SMOOTHING), 'smoothing')
        if self.outputs:
            check('', 'outputs', self.outputs, 'weights, not negative, not all 0', _are_weights)
        if self.refine is not None:
            REFINEMENTS.get(self.refine)


def _are_weights(numbers: tuple[float, ...]) -> bool:
    return min(numbers) >= 0 and 0 < sum(numbers) < 1e6


def network_heatmaps(
    outputs: Sequence[tf.Tensor], loss_config: LossConfig, weights: tuple[float, ...] = ()
) -> tf.Tensor:
    """Return one heat map a point, with a peak of about 1 where the network is sure.

    Args:
        outputs: Of a network, coarse to final.
        weights: Of its outputs; see PredictOptions.outputs.

    Returns:
        float32 [B, h, w, K].
    """
    if not weights:
        return heatmap_loss.to_heatmaps(outputs[-1], loss_config) / loss_config.target_scale
    weights = heatmap_loss.per_output(weights, len(outputs), 'outputs')
    sigmas = heatmap_loss.per_output(
        loss_config.sigmas_on(outputs[-1].shape[1:3]), len(outputs), 'loss.sigmas'
    )
    maps = [
        weight * heatmap_loss.to_heatmaps(output, dataclasses.replace(loss_config, sigmas=(sigma,)))
        for weight, output, sigma in zip(weights, outputs, sigmas)
    ]
    return tf.add_n(maps) / (sum(weights) * loss_config.target_scale)


def look(
    outputs_of: Callable[[tf.Tensor, bool], Outputs],
    images: tf.Tensor,
    flip_permutation: Sequence[int],
    loss_config: LossConfig,
    options: PredictOptions,
) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """Look at views and, with the flip test, at their mirror images.

    Args:
        outputs_of: Network.outputs.
        images: [B, V, H, W, 3].
        flip_permutation: Of the network's schema; not read without the flip test.

    Returns:
        Heat maps float32 [B, V or 2 V, h, w, K]: of the views, then of the mirrored ones, mirrored
        back; and the means over all of what attributes.probabilities gives.
    """
    num_views = images.shape[1]
    flat = tf.reshape(images, [-1, *images.shape[2:]])
    looks = [flat, flat[:, :, ::-1]] if options.flip_test else [flat]
    outputs, logits = outputs_of(tf.concat(looks, axis=0), False)
    maps = network_heatmaps(outputs, loss_config, options.outputs)
    parts = tf.split(maps, len(looks), axis=0)
    if options.flip_test:
        parts[1] = flip_heatmaps(parts[1], flip_permutation)
    shaped = [tf.reshape(part, [-1, num_views, *part.shape[1:]]) for part in parts]
    told = {}
    for name, values in attributes.probabilities(logits).items():
        parts = tf.split(values, len(looks), axis=0)
        if options.flip_test and name == 'presence':
            parts[1] = tf.gather(parts[1], list(flip_permutation), axis=1)
        views = [tf.reshape(part, [-1, num_views, *part.shape[1:]]) for part in parts]
        told[name] = tf.reduce_mean(tf.concat(views, axis=1), axis=1)
    return tf.concat(shaped, axis=1), told


def to_original(points: tf.Tensor, to_crop: tf.Tensor) -> tf.Tensor:
    """Return points [.., K, 2] of crops, mapped back to the original pictures, px."""
    return geometry.transform_points(points, tf.linalg.inv(to_crop))


def fused_heatmaps(maps: tf.Tensor, to_view: tf.Tensor, codec: HeatmapCodec) -> tf.Tensor:
    """Return the average, in the frame of the first view, of look's heat maps: [B, h, w, K].

    Args:
        maps: float32 [B, V or 2 V, h, w, K].
        to_view: float32 [B, V, 3, 3].
    """
    num_views = to_view.shape[1]
    if maps.shape[1] > num_views:  # a mirrored view has the cells of the view itself
        maps = (maps[:, :num_views] + maps[:, num_views:]) / 2
    return views.fuse_heatmaps(maps, to_view, codec)


def points_of_views(
    maps: tf.Tensor, to_view: tf.Tensor, codec: HeatmapCodec, fuse: str
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return points, original px [B, K, 2], and scores [B, K] of the heat maps of look."""
    if fuse == 'heatmaps':
        points, scores = codec.decode(fused_heatmaps(maps, to_view, codec))
        return to_original(points, to_view[:, 0]), scores
    return views.fuse_keypoints(*each_decoded(maps, to_view, codec))


def each_decoded(
    maps: tf.Tensor, to_view: tf.Tensor, codec: HeatmapCodec
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return points, original px [B, M, K, 2], and scores [B, M, K] of each of M maps."""
    num_maps = maps.shape[1]
    points, scores = codec.decode(tf.reshape(maps, [-1, *maps.shape[2:]]))
    to_view = tf.concat([to_view] * (num_maps // to_view.shape[1]), axis=1)
    shape = [-1, num_maps, *points.shape[1:]]
    return to_original(tf.reshape(points, shape), to_view), tf.reshape(scores, shape[:-1])
