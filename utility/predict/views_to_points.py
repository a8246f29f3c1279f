"""From views of pictures to points, in one graph: heat maps, mirrored ones, fusion, decoding."""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from config import LossConfig, check, one_of, require, within
from nets.precision import Compute
from preprocessing import geometry
from utility.checkpoints.choice import CheckpointChoice
from utility.codecs.heatmaps import HeatmapCodec, flip_heatmaps
from utility.codecs.refinements import REFINEMENTS
from utility.losses import heatmap_loss
from utility.predict import test_time_augmentation as views
from utility.predict.test_time_augmentation import ViewOptions

FUSIONS = ('heatmaps', 'keypoints')


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

    def __post_init__(self):
        require(self, '', '1 or 2', (1, 2).__contains__, 'passes')
        require(self, '', *one_of(FUSIONS), 'fuse')
        require(self, '', *within(0, 100), 'smoothing')
        if self.outputs:
            check('', 'outputs', self.outputs, 'weights, not negative, not all 0', _are_weights)
        if self.refine is not None:
            REFINEMENTS.get(self.refine)


def _are_weights(numbers: tuple[float, ...]) -> bool:
    return min(numbers) >= 0 and 0 < sum(numbers) < 1e6


def network_heatmaps(
    network, images: tf.Tensor, loss_config: LossConfig, weights: tuple[float, ...] = ()
) -> tf.Tensor:
    """Return one heat map a point, with a peak of about 1 where the network is sure.

    Args:
        network: A nets.Network.
        images: [B, H, W, 3].
        loss_config: Of its training.
        weights: Of its outputs; see PredictOptions.outputs.

    Returns:
        float32 [B, h, w, K].
    """
    outputs = network(images, False)
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


def heatmaps_of_views(network, images: tf.Tensor, flip_permutation, loss_config, options):
    """Return heat maps of views and, with the flip test, of their mirror images, mirrored back.

    Args:
        network: A nets.Network.
        images: [B, V, H, W, 3].
        flip_permutation: Of the network's schema; None: without the flip test.
        loss_config: Of its training.
        options: PredictOptions.

    Returns:
        float32 [B, V or 2 V, h, w, K]: the views, then the mirrored ones.
    """
    num_views = images.shape[1]
    flat = tf.reshape(images, [-1, *images.shape[2:]])
    looks = [flat, flat[:, :, ::-1]] if options.flip_test else [flat]
    maps = network_heatmaps(network, tf.concat(looks, axis=0), loss_config, options.outputs)
    parts = tf.split(maps, len(looks), axis=0)
    if options.flip_test:
        parts[1] = flip_heatmaps(parts[1], flip_permutation)
    shaped = [tf.reshape(part, [-1, num_views, *part.shape[1:]]) for part in parts]
    return tf.concat(shaped, axis=1)


def to_original(points: tf.Tensor, to_crop: tf.Tensor) -> tf.Tensor:
    """Return points [.., K, 2] of crops, mapped back to the original pictures, px."""
    return geometry.transform_points(points, tf.linalg.inv(to_crop))


def fused_heatmaps(maps: tf.Tensor, to_view: tf.Tensor, codec: HeatmapCodec) -> tf.Tensor:
    """Return the average, in the frame of the first view, of what heatmaps_of_views gives: [B, h,
    w, K].

    Args:
        maps: float32 [B, V or 2 V, h, w, K].
        to_view: float32 [B, V, 3, 3].
        codec: Of the network.
    """
    num_views = to_view.shape[1]
    if maps.shape[1] > num_views:  # a mirrored view has the cells of the view itself
        maps = (maps[:, :num_views] + maps[:, num_views:]) / 2
    return views.fuse_heatmaps(maps, to_view, codec)


def points_of_views(
    maps: tf.Tensor, to_view: tf.Tensor, codec: HeatmapCodec, fuse: str
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return points, original px [B, K, 2], and scores [B, K] of what heatmaps_of_views gives."""
    if fuse == 'heatmaps':
        points, scores = codec.decode(fused_heatmaps(maps, to_view, codec))
        return to_original(points, to_view[:, 0]), scores
    num_maps = maps.shape[1]
    points, scores = codec.decode(tf.reshape(maps, [-1, *maps.shape[2:]]))
    to_view = tf.concat([to_view] * (num_maps // to_view.shape[1]), axis=1)
    shape = [-1, num_maps, *points.shape[1:]]
    points = to_original(tf.reshape(points, shape), to_view)
    return views.fuse_keypoints(points, tf.reshape(scores, shape[:-1]))
