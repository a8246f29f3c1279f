"""Keypoints as heat maps and back: Gaussian targets, sub-cell decoding, mirroring.

Coordinates are continuous: the centre of heat-map cell i is at (i + 0.5) * stride crop px.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from config import Registry

REFINEMENTS = Registry(
    'refine mode',
    """Name -> f(window, peak) -> position: where between the cells the maximum of a map lies.

    window: float32 [N, 3, 3], the map around the interior cell nearest to its largest cell.
    peak: int32 [N, 2], (x, y) of the largest cell relative to the window's centre, in cells;
        0 except where the largest cell is at the border of the map.
    position: float32 [N, 2], (x, y) of the refined maximum relative to the window's centre, in
        cells; finite for every finite window and at most one cell from `peak` in x and in y.""",
)

# Values below this share of the peak count as this share in 'dark'. Low enough for the window of
# a border cell to be exact from sigma = 0.81 cells on (there the farthest of the nine cells is
# 2.5 cells from the maximum in x and in y), high enough that noise around zero has no long tail.
_LOG_FLOOR = 1e-4
# Peaks that are not larger have no logarithm worth expanding.
_SMALLEST_PEAK = 1e-30
_MAX_STEP = 1
_SMALLEST_MAP = 3
_WINDOW = np.array([(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)], np.int32)


@REFINEMENTS.register('argmax')
def _argmax(window: tf.Tensor, peak: tf.Tensor) -> tf.Tensor:
    """The centre of the largest cell."""
    del window
    return tf.cast(peak, tf.float32)


@REFINEMENTS.register('quarter')
def _quarter(window: tf.Tensor, peak: tf.Tensor) -> tf.Tensor:
    """A quarter cell towards the larger neighbour, in x and in y (Newell et al. 2016, section 3.4).

    No step where the largest cell has one neighbour only, or equal ones.
    """
    row = tf.gather(window, peak[:, 1] + 1, axis=1, batch_dims=1)
    column = tf.gather(window, peak[:, 0] + 1, axis=2, batch_dims=1)
    side = tf.stack([tf.sign(v[:, 2] - v[:, 0]) for v in (row, column)], axis=-1)
    return tf.cast(peak, tf.float32) + tf.where(tf.equal(peak, 0), 0.25 * side, 0.0)


@REFINEMENTS.register('dark')
def _dark(window: tf.Tensor, peak: tf.Tensor) -> tf.Tensor:
    """One Newton step on the log of the map (DARK: Zhang et al. 2020, section 3.1).

    The log of a Gaussian is a quadratic, so the step finds its maximum exactly, from any cell; that
    is why the border cells may borrow the window of their neighbour. Departures from the paper: the
    step is bounded, and where the log is not strictly concave the quarter step stands in.
    """
    log = _log_share(window)
    slope_x = (log[:, 1, 2] - log[:, 1, 0]) / 2
    slope_y = (log[:, 2, 1] - log[:, 0, 1]) / 2
    curve_xx = log[:, 1, 2] - 2 * log[:, 1, 1] + log[:, 1, 0]
    curve_yy = log[:, 2, 1] - 2 * log[:, 1, 1] + log[:, 0, 1]
    curve_xy = (log[:, 2, 2] - log[:, 2, 0] - log[:, 0, 2] + log[:, 0, 0]) / 4
    determinant = curve_xx * curve_yy - curve_xy**2
    concave = (curve_xx < 0) & (curve_yy < 0) & (determinant > 0)
    newton_x = (curve_xy * slope_y - curve_yy * slope_x) / tf.where(concave, determinant, 1.0)
    newton_y = (curve_xy * slope_x - curve_xx * slope_y) / tf.where(concave, determinant, 1.0)
    largest = tf.cast(peak, tf.float32)
    newton = tf.clip_by_value(
        tf.stack([newton_x, newton_y], axis=-1), largest - _MAX_STEP, largest + _MAX_STEP
    )
    return tf.where(concave[:, tf.newaxis], newton, _quarter(window, peak))


def _log_share(window: tf.Tensor) -> tf.Tensor:
    """Log of the window [N, 3, 3] over its maximum; all floor where nothing is positive."""
    peak = tf.reduce_max(window, axis=[1, 2], keepdims=True)
    share = window / tf.where(peak > _SMALLEST_PEAK, peak, 1.0)
    return tf.math.log(tf.clip_by_value(share, _LOG_FLOOR, 1.0))


@dataclasses.dataclass(frozen=True)
class HeatmapCodec:
    """Turns keypoints into heat maps and heat maps into keypoints.

    Attributes:
        image_size: (height, width) of the crop, px.
        heatmap_size: (height, width) of the heat maps, cells; at least 3 x 3. The stride may differ
            in x and y and need not be a whole number.
        sigma: Standard deviation of the Gaussians, cells.
        refine: Name in REFINEMENTS.
    """

    image_size: tuple[int, int]
    heatmap_size: tuple[int, int]
    sigma: float = 2.0
    refine: str = 'dark'

    def __post_init__(self):
        if min(self.image_size) <= 0:
            raise ValueError(f'image_size={self.image_size!r}: must be positive')
        if min(self.heatmap_size) < _SMALLEST_MAP:
            raise ValueError(f'heatmap_size={self.heatmap_size!r}: must be at least 3 x 3 cells')
        _check_sigma(self.sigma)
        REFINEMENTS.get(self.refine)

    @property
    def stride(self) -> tuple[float, float]:
        """(y, x) crop px per cell."""
        return tuple(image / cells for image, cells in zip(self.image_size, self.heatmap_size))

    def encode(self, keypoints: tf.Tensor, sigma: float | None = None) -> tf.Tensor:
        """Gaussians over the whole plane, with their centres where the points are.

        Nothing depends on visibility: the loss leaves out points that do not count. A point outside
        the crop leaves its tail inside; a NaN coordinate gives a map of zeros.

        Args:
            keypoints: [B, K, 2], (x, y) crop px.
            sigma: Standard deviation in cells; None: the codec's.

        Returns:
            float32 [B, h, w, K], each map the density of its point at the cell centres over the
            density at the point itself, in [0, 1].
        """
        sigma = self.sigma if sigma is None else sigma
        _check_sigma(sigma)
        (stride_y, stride_x), (height, width) = self.stride, self.heatmap_size
        keypoints = tf.cast(keypoints, tf.float64)
        column = _profile(keypoints[..., 1], height, stride_y, sigma)
        row = _profile(keypoints[..., 0], width, stride_x, sigma)
        return column[:, :, tf.newaxis, :] * row[:, tf.newaxis, :, :]

    def decode(self, heatmaps: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The point of largest value of each map, refined between the cells.

        The scale of the maps does not matter. Of equal maxima the first, in reading order, is
        taken. A point may lie up to half a cell outside the crop, or a whole one in a noisy map.

        Args:
            heatmaps: [B, h, w, K] of any float type, finite.

        Returns:
            keypoints: float32 [B, K, 2], (x, y) crop px.
            scores: float32 [B, K], the maximum of each map as it is: on the scale the network was
                trained on (loss.target_scale), divided by nothing.

        Raises:
            ValueError: The maps have another size than the codec's.
        """
        height, width = self.heatmap_size
        heatmaps = tf.cast(heatmaps, tf.float32)
        if not heatmaps.shape[1:3].is_compatible_with([height, width]):
            raise ValueError(
                f'heatmaps of shape {heatmaps.shape}: must be {height} x {width} cells'
            )
        batch_keypoints = tf.shape(heatmaps)[0], tf.shape(heatmaps)[3]
        maps = tf.transpose(heatmaps, [0, 3, 1, 2])
        maps = tf.reshape(maps, [-1, height * width])
        largest = tf.argmax(maps, axis=1, output_type=tf.int32)
        cells = tf.stack([largest // width, largest % width], axis=-1)
        centres = tf.clip_by_value(cells, 1, [height - 2, width - 2])
        around = centres[:, tf.newaxis, :] + _WINDOW
        window = tf.gather(maps, around[..., 0] * width + around[..., 1], batch_dims=1)
        position = REFINEMENTS.get(self.refine)(
            tf.reshape(window, [-1, 3, 3]), tf.reverse(cells - centres, axis=[-1])
        )
        centres = tf.cast(tf.reverse(centres, axis=[-1]), tf.float32)
        points = (centres + position + 0.5) * tf.constant(self.stride[::-1], tf.float32)
        scores = tf.reduce_max(maps, axis=1)
        return tf.reshape(points, [*batch_keypoints, 2]), tf.reshape(scores, batch_keypoints)


def _check_sigma(sigma: float) -> None:
    if not sigma > 0:
        raise ValueError(f'sigma={sigma!r}: must be positive')


def _profile(coordinates: tf.Tensor, num_cells: int, stride: float, sigma: float) -> tf.Tensor:
    """One axis of the Gaussians: coordinates float64 [B, K], px -> float32 [B, num_cells, K].

    In float64 until the end, because the float32 exponential of TensorFlow's CPU kernels rounds
    differently in the last elements of a tensor: a mirrored point would not give exactly the
    mirrored map.
    """
    centres = coordinates[:, tf.newaxis, :] / stride - 0.5
    cells = tf.range(num_cells, dtype=tf.float64)[:, tf.newaxis]
    profile = tf.exp(-0.5 * tf.square((cells - centres) / sigma))
    profile = tf.where(tf.math.is_nan(profile), tf.zeros_like(profile), profile)
    return tf.cast(profile, tf.float32)


def flip_heatmaps(heatmaps: tf.Tensor, flip_permutation: Sequence[int]) -> tf.Tensor:
    """Heat maps of the mirrored picture: columns reversed, left and right points exchanged.

    No shift: with cell centres at +0.5 the mirror of a cell is a cell.

    Args:
        heatmaps: [B, h, w, K].
        flip_permutation: K indices, as KeypointSchema.flip_permutation.

    Returns:
        [B, h, w, K]; its own inverse.
    """
    return tf.gather(tf.reverse(heatmaps, axis=[2]), list(flip_permutation), axis=3)


def flip_keypoints(
    keypoints: tf.Tensor, width: float, flip_permutation: Sequence[int]
) -> tf.Tensor:
    """Keypoints of the mirrored picture.

    Args:
        keypoints: [B, K, 2], (x, y) px.
        width: Of the picture, px.
        flip_permutation: K indices, as KeypointSchema.flip_permutation.

    Returns:
        [B, K, 2]; its own inverse up to rounding.
    """
    swapped = tf.gather(keypoints, list(flip_permutation), axis=1)
    return tf.stack([width - swapped[..., 0], swapped[..., 1]], axis=-1)
