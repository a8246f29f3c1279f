"""Offset maps: where a point lies, as seen from the cells around it.

G-RMI (Papandreou et al., CVPR 2017, section 3.2) and the offset variant of UDP (Huang et al., CVPR
2020, section 3.3): three maps a point, whether a cell is within a disk around the point, and how
far the point is from it in x and in y.

For decoding, every cell tells how far away the point is, and a Gaussian of that distance is its
value in a heat map, times how sure the cell is to be in the disk. So a perfect output gives the
Gaussian target of other losses, cut off at the disk, whatever the size of the cells; and fusion of
views, the flip test and all refine modes take it as any other heat map. (A mirrored distance is the
same distance.) Departure: G-RMI has the cells vote for places instead, and UDP follows the offset
of the largest cell alone.
"""

from __future__ import annotations

import tensorflow as tf

from config import LossConfig
from utility.codecs.heatmaps import HeatmapCodec

NUM_MAPS = 3


def offset_target(codec: HeatmapCodec, keypoints: tf.Tensor, config: LossConfig) -> tf.Tensor:
    """Return what a perfect output is.

    Args:
        codec: With the sizes.
        keypoints: [B, K, 2] crop px; a coordinate that is not finite has an empty disk.
        config: With offset_radius, cells, and target_scale, which multiplies all maps.

    Returns:
        float32 [B, h, w, 3 K]: the K disks, 1 inside and 0 outside; the K offsets in x from the
        cell's center to the point, in radii, and those in y, both 0 outside.
    """
    keypoints = tf.cast(keypoints, tf.float32)
    (height, width), (stride_y, stride_x) = codec.heatmap_size, codec.stride
    center_y, center_x = (
        tf.range(side, dtype=tf.float32)[:, tf.newaxis] + 0.5 for side in (height, width)
    )
    x = (keypoints[:, tf.newaxis, :, 0] / stride_x - center_x) / config.offset_radius
    y = (keypoints[:, tf.newaxis, :, 1] / stride_y - center_y) / config.offset_radius
    x, y = x[:, tf.newaxis], y[:, :, tf.newaxis]
    inside = tf.square(x) + tf.square(y) <= 1.0  # false for NaN
    ones = tf.ones_like(inside, tf.float32)
    maps = [tf.where(inside, value * ones, 0.0) for value in (ones, x, y)]
    return config.target_scale * tf.concat(maps, axis=-1)


def offset_errors(output: tf.Tensor, target: tf.Tensor, config: LossConfig) -> tf.Tensor:
    """Return the mean squared error of the disk, and of the offsets inside of it.

    Args:
        output, target: float32 [B, h, w, 3 K].
        config: With offset_weight, that of the offsets.

    Returns:
        float32 [B, K].
    """
    disk, x, y = tf.split(tf.math.squared_difference(output, target), NUM_MAPS, axis=-1)
    inside = tf.split(target, NUM_MAPS, axis=-1)[0] > 0
    offsets = tf.where(inside, x + y, 0.0)
    return tf.reduce_mean(disk + config.offset_weight * offsets, axis=[1, 2])


def implied_heatmaps(output: tf.Tensor, config: LossConfig) -> tf.Tensor:
    """Return heat maps [B, h, w, K], with the last of loss.sigmas, of an output [B, h, w, 3 K]."""
    disk, x, y = tf.split(tf.cast(output, tf.float32), NUM_MAPS, axis=-1)
    radius_in_sigmas = config.offset_radius / (
        config.sigmas_on(output.shape[1:3])[-1] * config.target_scale
    )
    return disk * tf.exp(-0.5 * radius_in_sigmas**2 * (tf.square(x) + tf.square(y)))
