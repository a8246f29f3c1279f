"""The loss of a network's outputs: on the points that count, the hard ones of the last output.

kinds.py has what one map costs, ohkm.py which points enter.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import tensorflow as tf

from config import LossConfig, UserError
from utility.codecs.heatmaps import HeatmapCodec
from utility.losses.kinds import LOSSES
from utility.losses.ohkm import counting_points, mean_over, ohkm_mask


def heatmap_loss(
    outputs: Sequence[tf.Tensor],
    labels: Mapping[str, tf.Tensor],
    loss_config: LossConfig,
    image_size: tuple[int, int],
) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """Return the loss of a network's outputs against the labelled points.

    Each output: the error of each map by loss_config.kind, averaged over the points of the batch
    that count; 0 when none counts. The last output averages the hard points only. Points that do
    not count have no part in it, whatever their coordinates, NaN included.

    Args:
        outputs: [B, h, w, C] of any float type, coarse to final; C is K times maps_per_point. The
            sizes may differ but are known when the graph is built.
        labels: 'keypoints' [B, K, 2] crop px and 'visibility' [B, K] (1, 0 or -1).
        loss_config: Kind, points that count, sigma and weight of each output, target scale, hard
            points.
        image_size: (height, width) of the crop, px.

    Returns:
        The sum of the outputs' losses times their weights, float32 [], and the losses of the
        outputs before weighting, each float32 [].

    Raises:
        UserError: There are more sigmas or weights than outputs, or an output has no static size.
    """
    kind = LOSSES.get(loss_config.kind)
    sizes = [_static_size(output) for output in outputs]
    sigmas = [
        per_output(loss_config.sigmas_on(size), len(outputs), 'loss.sigmas')[index]
        for index, size in enumerate(sizes)
    ]
    peaks = per_output(loss_config.peaks, len(outputs), 'loss.peaks')
    weights = per_output(loss_config.weights, len(outputs), 'loss.weights')
    counts = counting_points(labels['visibility'], loss_config.points)
    targets: dict[tuple, tf.Tensor] = {}
    losses = []
    for index, (output, sigma) in enumerate(zip(outputs, sigmas)):
        key = (sizes[index], sigma, peaks[index])
        scale = loss_config.target_scale * peaks[index]
        scaled = dataclasses.replace(loss_config, target_scale=scale)
        if key not in targets:
            codec = HeatmapCodec(tuple(image_size), sizes[index], sigma)
            targets[key] = kind.target(codec, labels['keypoints'], scaled)
        errors = kind.errors(tf.cast(output, tf.float32), targets[key], scaled)
        counted = counts
        if index == len(outputs) - 1:
            counted = ohkm_mask(errors, counts, loss_config.ohkm, loss_config.ohkm_over)
        losses.append(mean_over(errors, counted))
    return tf.add_n([weight * loss for weight, loss in zip(weights, losses)]), losses


def check_loss(loss_config: LossConfig, head: str, gives_logits: bool) -> None:
    """Refuse an unknown loss, and to compare logits as they are with targets.

    The other way round will do: any head can be trained to give logits.

    Raises:
        UserError: There is no such loss, or the head gives logits and the loss is not over logits.
    """
    over_logits = LOSSES.get(loss_config.kind).over_logits
    if gives_logits and not over_logits:
        kinds = [name for name in LOSSES.names() if LOSSES.get(name).over_logits]
        allowed = ' or '.join(map(repr, kinds))
        raise UserError(f'loss.kind={loss_config.kind!r}: must be {allowed} for the head {head!r}')


def maps_per_point(loss_config: LossConfig) -> int:
    """Return how many maps a network that is trained with this loss gives for each point."""
    return LOSSES.get(loss_config.kind).num_maps


def to_heatmaps(output: tf.Tensor, loss_config: LossConfig) -> tf.Tensor:
    """Return what a network trained with this loss predicts, on the scale of the targets.

    Args:
        output: [B, h, w, K * maps_per_point], the last of the network's.
        loss_config: Of its training.

    Returns:
        [B, h, w, K]; see LossKind.heatmaps.
    """
    return LOSSES.get(loss_config.kind).heatmaps(output, loss_config)


def per_output(values: tuple[float, ...], num_outputs: int, field: str) -> tuple[float, ...]:
    """Return one value per output; the last one is repeated."""
    if len(values) > num_outputs:
        raise UserError(
            f'{field}={values!r}: must have at most {num_outputs} entries, one per output'
        )
    return values + values[-1:] * (num_outputs - len(values))


def _static_size(output: tf.Tensor) -> tuple[int, int]:
    height, width = output.shape[1:3]
    if height is None or width is None:
        raise ValueError(f'output of shape {output.shape}: its height and width must be static')
    return height, width
