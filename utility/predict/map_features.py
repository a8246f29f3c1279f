"""What heat maps tell of how far off their points may be, beside their peaks.

Nothing is computed but sums over maps that are there anyway. All lengths are px of the original
picture, so that what is learned from one size of pictures says something of another.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from utility.codecs.heatmaps import HeatmapCodec
from utility.predict import views_to_points

# The columns of what `of_maps` returns.
NAMES = ('spread', 'second_peak', 'disagreement')
SPREAD, SECOND_PEAK, DISAGREEMENT = range(len(NAMES))
_FLOOR = 0.1  # of the peak: what is lower is noise, of which a map has much
_ELSEWHERE = 0.1  # of the map's longer side: what is farther from the peak is another place
_TINY = 1e-9


def of_maps(
    maps: tf.Tensor, fused: tf.Tensor, to_view: tf.Tensor, codec: HeatmapCodec
) -> tf.Tensor:
    """Return the features of the points that are decoded from fused heat maps.

    Args:
        maps: float32 [B, M, h, w, K], of M views or networks.
        fused: float32 [B, h, w, K], their mean in the frame of the first one.
        to_view: float32 [B, V, 3, 3], original px -> px of the view; M is V, or 2 V where each
            view has a mirrored one.

    Returns:
        float32 [B, K, 3]. 'spread', px: the root of the second moment about the peak of what rises
        above a tenth of it. 'second_peak': the highest value away from the peak over the peak's.
        'disagreement', px: the root mean square distance of the points of the M maps from their
        mean; 0 of one map.
    """
    crop_points, peaks = codec.decode(fused)
    stride = tf.constant(codec.stride[::-1], tf.float32)
    cells = crop_points / stride
    height, width = codec.heatmap_size
    x = np.arange(width, dtype=np.float32)[np.newaxis, np.newaxis, :, np.newaxis] + 0.5
    y = np.arange(height, dtype=np.float32)[np.newaxis, :, np.newaxis, np.newaxis] + 0.5
    offset_x = x - cells[:, tf.newaxis, tf.newaxis, :, 0]
    offset_y = y - cells[:, tf.newaxis, tf.newaxis, :, 1]
    squared_px = tf.square(offset_x * stride[0]) + tf.square(offset_y * stride[1])
    top = tf.maximum(peaks, _TINY)[:, tf.newaxis, tf.newaxis]
    weights = tf.nn.relu(fused - _FLOOR * top)
    moments = tf.reduce_sum(weights * squared_px, [1, 2]) / (tf.reduce_sum(weights, [1, 2]) + _TINY)
    reach = (_ELSEWHERE * max(height, width)) ** 2
    is_elsewhere = tf.square(offset_x) + tf.square(offset_y) > reach
    elsewhere = tf.reduce_max(tf.where(is_elsewhere, fused, tf.zeros_like(fused)), [1, 2])
    first = to_view[:, 0, :2, :2]
    px_per_crop_px = tf.math.rsqrt(tf.maximum(tf.abs(tf.linalg.det(first)), _TINY))
    return tf.stack(
        [
            tf.sqrt(moments) * px_per_crop_px[:, tf.newaxis],
            elsewhere / top[:, 0, 0],
            _disagreement(maps, to_view, codec),
        ],
        axis=-1,
    )


def _disagreement(maps: tf.Tensor, to_view: tf.Tensor, codec: HeatmapCodec) -> tf.Tensor:
    """Return float32 [B, K], px; see of_maps."""
    if maps.shape[1] == 1:
        return tf.zeros([tf.shape(maps)[0], maps.shape[-1]])
    points, _ = views_to_points.each_decoded(maps, to_view, codec)
    return spread_of(points, 1)


def spread_of(points, axis: int) -> tf.Tensor:
    """Return the root mean square distance of points [.., 2] from their mean along an axis."""
    offsets = points - tf.reduce_mean(points, axis, keepdims=True)
    return tf.sqrt(tf.reduce_mean(tf.reduce_sum(tf.square(offsets), -1), axis))


def of_networks(features: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return the features of the mean of points that several networks decoded: float32 [K, 3].

    Args:
        features: [M, K, 3], those of each network.
        points: [M, K, 2], px of the original picture.
    """
    mean = features.mean(axis=0)
    mean[:, DISAGREEMENT] = np.hypot(mean[:, DISAGREEMENT], spread_of(points, 0))
    return mean
