"""Losses over heat maps: on the points that count, the hard ones of the last output.

A new kind of loss is a function of two maps, registered in LOSSES and named in config.LossConfig.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import tensorflow as tf

from config import LossConfig, Registry
from utility.heatmaps import HeatmapCodec

# Keeps 0.6 of 25 points, 15.000001 in float32, from being rounded up to 16.
_CEIL_TOLERANCE = 1e-4
_CELLS = [1, 2]  # axes of the cells of a map

LOSSES = Registry(
    'loss kind',
    """Name -> f(output, target) -> errors: how far each map is from its target.

    output, target: float32 [B, h, w, K]; the targets are Gaussians with a peak of
        loss.target_scale, or all 0 where a point does not count.
    errors: float32 [B, K], not negative, 0 for a perfect output. Finite wherever output and target
        are, and so is the gradient, because a point that does not count has both, too.
    A loss that takes the outputs for logits over the cells is in OVER_LOGITS, too.""",
)
OVER_LOGITS = ('cross_entropy',)


def heatmap_loss(
    outputs: Sequence[tf.Tensor],
    labels: Mapping[str, tf.Tensor],
    loss_config: LossConfig,
    image_size: tuple[int, int],
) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """The loss of a network's outputs against the labelled points.

    Each output: the error of each map by loss_config.kind, averaged over the points of the batch
    that count; 0 when none counts. The last output averages the hard points only. Points that do
    not count have no part in it, whatever their coordinates, NaN included.

    Args:
        outputs: [B, h, w, K] of any float type, coarse to final; the sizes may differ but are known
            when the graph is built.
        labels: 'keypoints' [B, K, 2] crop px and 'visibility' [B, K] (1, 0 or -1).
        loss_config: Kind, points that count, sigma and weight of each output, target scale, OHKM
            share.
        image_size: (height, width) of the crop, px.

    Returns:
        The sum of the outputs' losses times their weights, float32 [], and the losses of the
        outputs before weighting, each float32 [].

    Raises:
        ValueError: There are more sigmas or weights than outputs, or an output has no static size.
    """
    errors_of = LOSSES.get(loss_config.kind)
    sigmas = per_output(loss_config.sigmas, len(outputs), 'loss.sigmas')
    weights = per_output(loss_config.weights, len(outputs), 'loss.weights')
    counts = counting_points(labels['visibility'], loss_config.points)
    targets: dict[tuple, tf.Tensor] = {}
    losses = []
    for index, (output, sigma) in enumerate(zip(outputs, sigmas)):
        key = (_static_size(output), sigma)
        if key not in targets:
            codec = HeatmapCodec(tuple(image_size), *key)
            targets[key] = loss_config.target_scale * codec.encode(labels['keypoints'])
        errors = errors_of(tf.cast(output, tf.float32), targets[key])
        is_last = index == len(outputs) - 1
        kept = hard_points(errors, counts, loss_config.ohkm) if is_last else counts
        losses.append(mean_over(errors, kept))
    return tf.add_n([weight * loss for weight, loss in zip(weights, losses)]), losses


def counting_points(visibility: tf.Tensor, points: str) -> tf.Tensor:
    """bool [B, K]: the points that enter the loss, by LossConfig.points."""
    # tf.equal, because in a graph of the Estimator == compares the objects.
    return tf.equal(visibility, 1) if points == 'visible' else visibility >= 0


def check_loss(loss_config: LossConfig, head: str, gives_logits: bool) -> None:
    """Refuses to compare logits as they are with targets.

    The other way round will do: any head can be trained to give logits.

    Raises:
        ValueError: The head gives logits and the loss is not over logits.
    """
    if gives_logits and loss_config.kind not in OVER_LOGITS:
        allowed = ' or '.join(map(repr, OVER_LOGITS))
        raise ValueError(f'loss.kind={loss_config.kind!r}: must be {allowed} for the head {head!r}')


def to_heatmaps(output: tf.Tensor, loss_config: LossConfig) -> tf.Tensor:
    """What a network trained with this loss predicts, on the scale of the targets.

    Args:
        output: [B, h, w, K], the last of the network's.
        loss_config: Of its training.

    Returns:
        [B, h, w, K]: the output itself or, where it is logits, the probabilities of the cells times
        the sum of a target over the whole plane. A perfect output gives the target; beside the
        border, more, because a part of the target is outside.
    """
    if loss_config.kind not in OVER_LOGITS:
        return output
    total = loss_config.target_scale * 2 * math.pi * loss_config.sigmas[-1] ** 2
    return total * tf.exp(log_softmax(tf.cast(output, tf.float32)))


def log_softmax(logits: tf.Tensor) -> tf.Tensor:
    """Logarithms of the probabilities of the cells of each map: [B, h, w, K] -> the same.

    From the largest logit down, so that neither the size of the logits nor their number costs
    precision where the probabilities are.
    """
    below = logits - tf.stop_gradient(tf.reduce_max(logits, _CELLS, keepdims=True))
    return below - tf.math.log(tf.reduce_sum(tf.exp(below), _CELLS, keepdims=True))


@LOSSES.register('mse')
def squared_errors(output: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """Mean squared error of each map; as LOSSES."""
    return tf.reduce_mean(tf.math.squared_difference(output, target), _CELLS)


@LOSSES.register('cross_entropy')
def divergences(output: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """Cross-entropy of the target, as a distribution over the cells, and the softmax of the output.

    Less the entropy of the target, which no output can go below: the Kullback-Leibler divergence,
    in nats. So it can fall to 0, and compares points for hard_points whose targets are cut off by
    the border to different degrees. Where the target is a product of a distribution over columns
    and one over rows and the output a sum of logits of columns and of rows, it is the sum of the
    divergences along both axes: the loss of SimCC (Li et al. 2022).
    """
    target = tf.math.divide_no_nan(target, tf.reduce_sum(target, _CELLS, keepdims=True))
    terms = tf.math.xlogy(target, target) - target * log_softmax(output)
    return tf.reduce_sum(terms, _CELLS)


def hard_points(errors: tf.Tensor, counts: tf.Tensor, share: float) -> tf.Tensor:
    """Online hard keypoint mining (Chen et al. 2018, CPN, section 3.2) over the points that count.

    Departure from the paper: a share of the points that count in each image, not a fixed number,
    so that every category and every degree of occlusion is mined alike.

    Args:
        errors: float32 [B, K], not negative.
        counts: bool [B, K].
        share: In (0, 1]; an image with n points that count keeps ceil(share * n), if any, at
            least 1.

    Returns:
        bool [B, K], the kept points: those of largest error among those that count.
    """
    candidates = tf.where(counts, tf.stop_gradient(errors), -1.0)
    order = tf.argsort(candidates, axis=1, direction='DESCENDING', stable=True)
    rank = tf.argsort(order, axis=1, stable=True)
    num_points = tf.reduce_sum(tf.cast(counts, tf.float32), axis=1, keepdims=True)
    num_kept = tf.maximum(1.0, tf.math.ceil(share * num_points - _CEIL_TOLERANCE))
    return counts & (tf.cast(rank, tf.float32) < num_kept)


def mean_over(errors: tf.Tensor, kept: tf.Tensor) -> tf.Tensor:
    """Mean of errors [B, K] where kept [B, K]; 0 with zero gradients when none is kept."""
    total = tf.reduce_sum(tf.where(kept, errors, 0.0))
    return tf.math.divide_no_nan(total, tf.reduce_sum(tf.cast(kept, tf.float32)))


def per_output(values: tuple[float, ...], num_outputs: int, field: str) -> tuple[float, ...]:
    """One value per output; the last one is repeated."""
    if len(values) > num_outputs:
        raise ValueError(
            f'{field}={values!r}: must have at most {num_outputs} entries, one per output'
        )
    return values + values[-1:] * (num_outputs - len(values))


def _static_size(output: tf.Tensor) -> tuple[int, int]:
    height, width = output.shape[1:3]
    if height is None or width is None:
        raise ValueError(f'output of shape {output.shape}: its height and width must be static')
    return height, width
