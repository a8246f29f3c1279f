"""Kinds of loss: what the outputs of a network are compared with, and how."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from config import LossConfig, Registry
from utility.codecs import offsets
from utility.codecs.heatmaps import HeatmapCodec

_CELLS = [1, 2]  # axes of the cells of a map
# The 17th place's: above this share of the peak a cell is foreground.
_FOREGROUND = 0.1
# Wang, Bo and Fuxin 2019, section 7.2: of the loss, and of the map that weighs its cells.
_ALPHA, _OMEGA, _EPSILON, _THETA = 2.1, 14.0, 1.0, 0.5
_DILATION, _MASK_THRESHOLD, _MASK_WEIGHT = 3, 0.2, 10.0


def _gaussians(codec: HeatmapCodec, keypoints: tf.Tensor, config: LossConfig) -> tf.Tensor:
    return config.target_scale * codec.encode(keypoints)


def _the_output(output: tf.Tensor, config: LossConfig) -> tf.Tensor:
    del config
    return output


class LossKind(NamedTuple):
    """A kind of loss. The axes of a map are B h w, C is K times num_maps.

    Attributes:
        errors: (output, target, config) -> float32 [B, K], how far each point's maps are from
            their target: not negative, 0 for a perfect output. Finite wherever output and target
            are, and so is the gradient, because a point that does not count has both, too.
            output, target: float32 [B, h, w, C].
        target: (codec, keypoints [B, K, 2] crop px, config) -> what a perfect output is. Gaussians
            with a peak of loss.target_scale by default.
        heatmaps: (output [B, h, w, C], config) -> [B, h, w, K], heat maps of about the scale of the
            targets, which are decoded. The output itself by default.
        num_maps: Maps that the network gives for each point.
        over_logits: Whether the outputs are logits over the cells.
    """

    errors: Callable[[tf.Tensor, tf.Tensor, LossConfig], tf.Tensor]
    target: Callable[[HeatmapCodec, tf.Tensor, LossConfig], tf.Tensor] = _gaussians
    heatmaps: Callable[[tf.Tensor, LossConfig], tf.Tensor] = _the_output
    num_maps: int = 1
    over_logits: bool = False


LOSSES = Registry('loss kind', 'Name, as of config.LossConfig.kind, -> LossKind.')


def squared_errors(output: tf.Tensor, target: tf.Tensor, config: LossConfig) -> tf.Tensor:
    """Return the mean squared error of each map."""
    del config
    return tf.reduce_mean(tf.math.squared_difference(output, target), _CELLS)


def balanced_absolute_errors(output: tf.Tensor, target: tf.Tensor, config: LossConfig) -> tf.Tensor:
    """Return the mean absolute error of each map's foreground and of its background, half of each.

    The loss of the challenge's 17th place; its mining of channels is loss.ohkm_over='keypoint'.
    Departures: each map is balanced by itself, not all maps of a keypoint in the batch; outputs are
    taken as they are, without a ReLU, which has no gradient where a point is missed.
    """
    distance = tf.abs(output - target)
    foreground = tf.cast(target > _FOREGROUND * config.target_scale, tf.float32)
    halves = [
        tf.math.divide_no_nan(tf.reduce_sum(distance * part, _CELLS), tf.reduce_sum(part, _CELLS))
        for part in (foreground, 1.0 - foreground)
    ]
    return tf.add_n(halves) / 2


def adaptive_wing_errors(output: tf.Tensor, target: tf.Tensor, config: LossConfig) -> tf.Tensor:
    """Return adaptive Wing loss with its weighted map (Wang et al., ICCV 2019, section 4, 5).

    A logarithm of small differences, steeper the nearer the target is to 1, and linear from theta
    on; cells in and next to the foreground weigh 11 times as much.
    """
    output, target = output / config.target_scale, target / config.target_scale
    distance, power = tf.abs(output - target), _ALPHA - target
    ratio = tf.pow(_THETA / _EPSILON, power)
    slope = _OMEGA / (1.0 + ratio) * power * ratio / _THETA
    offset = _THETA * slope - _OMEGA * tf.math.log1p(ratio)
    near = tf.minimum(distance, _THETA)  # the branch that is not taken must stay finite
    errors = tf.where(
        distance < _THETA,
        _OMEGA * tf.math.log1p(tf.pow(near / _EPSILON, power)),
        slope * distance - offset,
    )
    dilated = tf.nn.max_pool2d(target, _DILATION, 1, 'SAME')
    weights = 1.0 + _MASK_WEIGHT * tf.cast(dilated > _MASK_THRESHOLD, tf.float32)
    return tf.reduce_mean(weights * errors, _CELLS)


def divergences(output: tf.Tensor, target: tf.Tensor, config: LossConfig) -> tf.Tensor:
    """Return the cross-entropy of the target, a distribution, and the output's softmax.

    Less the entropy of the target, which no output can go below: the Kullback-Leibler divergence,
    in nats. So it can fall to 0, and compares points for ohkm_mask whose targets are cut off by
    the border to different degrees. Where the target is a product of a distribution over columns
    and one over rows and the output a sum of logits of columns and of rows, it is the sum of the
    divergences along both axes: the loss of SimCC (Li et al. 2022).
    """
    del config
    target = tf.math.divide_no_nan(target, tf.reduce_sum(target, _CELLS, keepdims=True))
    terms = tf.math.xlogy(target, target) - target * log_softmax(output)
    return tf.reduce_sum(terms, _CELLS)


def probabilities(output: tf.Tensor, config: LossConfig) -> tf.Tensor:
    """Return the probabilities of the cells times the sum of a target over the whole plane.

    A perfect output gives the target; beside the border, more, because a part of the target is
    outside.
    """
    total = config.target_scale * 2 * math.pi * config.sigmas_on(output.shape[1:3])[-1] ** 2
    return total * tf.exp(log_softmax(tf.cast(output, tf.float32)))


def log_softmax(logits: tf.Tensor) -> tf.Tensor:
    """Return logarithms of the probabilities of the cells of each map: [B, h, w, K] -> the same.

    From the largest logit down, so that neither the size of the logits nor their number costs
    precision where the probabilities are.
    """
    below = logits - tf.stop_gradient(tf.reduce_max(logits, _CELLS, keepdims=True))
    return below - tf.math.log(tf.reduce_sum(tf.exp(below), _CELLS, keepdims=True))


LOSSES.register('mse')(LossKind(squared_errors))
LOSSES.register('balanced_l1')(LossKind(balanced_absolute_errors))
LOSSES.register('adaptive_wing')(LossKind(adaptive_wing_errors))
LOSSES.register('offset')(
    LossKind(
        offsets.offset_errors,
        target=offsets.offset_target,
        heatmaps=offsets.implied_heatmaps,
        num_maps=offsets.NUM_MAPS,
    )
)
LOSSES.register('cross_entropy')(LossKind(divergences, heatmaps=probabilities, over_logits=True))
