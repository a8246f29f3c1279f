"""Several views of each picture, and one prediction from all of them (test-time augmentation).

A view is a matrix: another scale, rotation or crop of the same picture, mirrored or not. Heat maps
of all views are resampled into the frame of the first one by those matrices, and averaged there.
The mirrored view needs no resampling: its cells are the first view's.
"""

from __future__ import annotations

import dataclasses
import itertools

import tensorflow as tf

from config import require, within
from preprocessing import geometry
from utility.codecs.heatmaps import HeatmapCodec

# Least weight of a view in the average over a cell, so that cells that no view sees are zero.
_SMALLEST_COVERAGE = 1e-3


@dataclasses.dataclass(frozen=True)
class ViewOptions:
    """Which views are taken; the plain one always is, and is the first.

    Attributes:
        scales: Factors of enlargement about the center.
        rotations: Degrees, clockwise; each with each scale.
        num_crops: Further views, slightly moved and scaled at random, the same at every run.
    """

    scales: tuple[float, ...] = (1.0,)
    rotations: tuple[float, ...] = (0.0,)
    num_crops: int = 0

    def __post_init__(self):
        require(self, '', *within(0.25, 4), 'scales')
        require(self, '', *within(-180, 180), 'rotations')
        require(self, '', *within(0, 64), 'num_crops')

    def op_strings(self, eval_ops: str) -> list[str]:
        """Return the op string of each view, the plain one first.

        A crop to the box comes before what moves a view: after it a scale would change nothing.
        """
        first, _, others = eval_ops.partition('|')
        is_crop = first.strip().startswith('crop_box')
        crop, rest = (f'{first}|', others) if is_crop else ('', eval_ops)
        pairs = itertools.product(dict.fromkeys(self.rotations), dict.fromkeys(self.scales))
        turned = [f'{crop}turn({r})|scale({s},{s})|{rest}' for r, s in pairs if (r, s) != (0, 1)]
        crops = [f'{crop}scale(0.93,1.07)|shift(0.04)|{rest}'] * self.num_crops
        return [eval_ops, *turned, *crops]


def fuse_heatmaps(heatmaps: tf.Tensor, to_view: tf.Tensor, codec: HeatmapCodec) -> tf.Tensor:
    """Average the heat maps of several views in the frame of the first.

    Each cell averages over the views that see it. Maps of a view are resampled bilinearly.

    Args:
        heatmaps: float32 [B, V, h, w, K], V known.
        to_view: float32 [B, V, 3, 3], original px -> px of the view.
        codec: Of the network; its sizes tell how px become cells.

    Returns:
        float32 [B, h, w, K].
    """
    num_views = heatmaps.shape[1]
    if num_views == 1:
        return heatmaps[:, 0]
    stride_y, stride_x = codec.stride
    to_px, to_cells = (
        geometry.scaling(stride_x, stride_y),
        geometry.scaling(1 / stride_x, 1 / stride_y),
    )
    first = to_view[:, 0]
    total, coverage = heatmaps[:, 0], tf.ones_like(heatmaps[:, 0, :, :, :1])
    for view in range(1, num_views):
        to_first = to_cells @ first @ tf.linalg.inv(to_view[:, view]) @ to_px
        maps = heatmaps[:, view]
        seen = tf.concat([maps, tf.ones_like(maps[..., :1])], axis=-1)
        seen = geometry.warp_image(seen, to_first, codec.heatmap_size)
        total += seen[..., :-1]
        coverage += seen[..., -1:]
    return total / tf.maximum(coverage, _SMALLEST_COVERAGE)


def fuse_keypoints(keypoints: tf.Tensor, scores: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Average points of several views, weighted by their scores.

    Args:
        keypoints: float32 [B, V, K, 2], original px.
        scores: float32 [B, V, K]; what is not positive has next to no weight.

    Returns:
        keypoints [B, K, 2] and mean scores [B, K].
    """
    weights = tf.maximum(scores, 1e-6)[..., tf.newaxis]
    points = tf.reduce_sum(weights * keypoints, axis=1) / tf.reduce_sum(weights, axis=1)
    return points, tf.reduce_mean(scores, axis=1)
