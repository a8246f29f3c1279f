"""Keypoints as heat maps and back: Gaussian targets, sub-cell decoding, mirroring.

Coordinates are continuous: the center of heat-map cell i is at (i + 0.5) * stride crop px.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from config import POSITIVE, Experiment, check, require, within
from utility.codecs.refinements import REFINEMENTS, windows

MAX_SMOOTHING = 100  # cells
_SMALLEST_MAP = 3


@dataclasses.dataclass(frozen=True)
class HeatmapCodec:
    """Turns keypoints into heat maps and heat maps into keypoints.

    Attributes:
        image_size: (height, width) of the crop, px.
        heatmap_size: (height, width) of the heat maps, cells; at least 3 x 3. The stride may differ
            in x and y and need not be a whole number.
        sigma: Standard deviation of the Gaussians, cells.
        refine: Name in REFINEMENTS; by default that of an experiment.
        smoothing: Standard deviation, cells, of a Gaussian over maps that are decoded; 0: none.
    """

    image_size: tuple[int, int]
    heatmap_size: tuple[int, int]
    sigma: float = 2.0
    refine: str = Experiment.refine
    smoothing: float = 0.0

    def __post_init__(self):
        require(self, '', *POSITIVE, 'image_size', 'sigma')
        large_enough = 'at least 3 x 3 cells', lambda side: side >= _SMALLEST_MAP
        require(self, '', *large_enough, 'heatmap_size')
        require(self, '', *within(0, MAX_SMOOTHING), 'smoothing')
        REFINEMENTS.get(self.refine)

    @property
    def stride(self) -> tuple[float, float]:
        """(y, x) crop px per cell."""
        return tuple(image / cells for image, cells in zip(self.image_size, self.heatmap_size))

    def encode(self, keypoints: tf.Tensor, sigma: float | None = None) -> tf.Tensor:
        """Return Gaussians over the whole plane, with their centers where the points are.

        Nothing depends on visibility: the loss leaves out points that do not count. A point outside
        the crop leaves its tail inside; a NaN coordinate gives a map of zeros.

        Args:
            keypoints: [B, K, 2], (x, y) crop px.
            sigma: Standard deviation in cells; None: the codec's.

        Returns:
            float32 [B, h, w, K], each map the density of its point at the cell centers over the
            density at the point itself, in [0, 1].
        """
        sigma = self.sigma if sigma is None else sigma
        check('', 'sigma', sigma, *POSITIVE)
        (stride_y, stride_x), (height, width) = self.stride, self.heatmap_size
        keypoints = tf.cast(keypoints, tf.float64)
        column = _profile(keypoints[..., 1], height, stride_y, sigma)
        row = _profile(keypoints[..., 0], width, stride_x, sigma)
        return column[:, :, tf.newaxis, :] * row[:, tf.newaxis, :, :]

    def decode(self, heatmaps: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the point of largest value of each map, refined between the cells.

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
        if self.smoothing:
            heatmaps = smooth(heatmaps, self.smoothing)
        maps = tf.transpose(heatmaps, [0, 3, 1, 2])
        maps = tf.reshape(maps, [*batch_keypoints, height * width])
        largest = tf.argmax(maps, axis=2, output_type=tf.int32)
        cells = tf.stack([largest // width, largest % width], axis=-1)
        refine = REFINEMENTS.get(self.refine)
        centers, window = windows(maps, cells, self.heatmap_size, refine.radius)
        peak = tf.reshape(tf.reverse(cells - centers, axis=[-1]), [-1, 2])
        position = tf.reshape(refine(window, peak), [*batch_keypoints, 2])
        centers = tf.cast(tf.reverse(centers, axis=[-1]), tf.float32)
        points = (centers + position + 0.5) * tf.constant(self.stride[::-1], tf.float32)
        return points, tf.reduce_max(maps, axis=2)


def codec_of(experiment: Experiment, smoothing: float = 0.0) -> HeatmapCodec:
    """Make the codec of a network's last output.

    Args:
        smoothing: Standard deviation, cells, of a Gaussian over maps that are decoded; 0: none.
    """
    return HeatmapCodec(
        image_size=experiment.network.image_size,
        heatmap_size=experiment.network.map_size,
        sigma=experiment.loss.sigmas_on(experiment.network.map_size)[-1],
        refine=experiment.refine,
        smoothing=smoothing,
    )


def smooth(heatmaps: tf.Tensor, sigma: float) -> tf.Tensor:
    """Blur maps by a Gaussian, then scale them so that each keeps its maximum (DARK, section 3.1).

    Args:
        heatmaps: float32 [B, h, w, K].
        sigma: Standard deviation, cells.

    Returns:
        float32 [B, h, w, K]; the border is continued by its own cells.
    """
    radius = max(1, round(3 * sigma))
    steps = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (steps / sigma) ** 2)
    weights = tf.constant(weights / weights.sum(), tf.float32)
    num_maps = heatmaps.shape[-1]
    # One cell at a time, so that the border is continued however small the map is.
    blurred = heatmaps
    for _ in range(radius):
        blurred = tf.pad(blurred, [[0, 0], [1, 1], [1, 1], [0, 0]], 'SYMMETRIC')
    for shape in ([-1, 1, 1, 1], [1, -1, 1, 1]):
        kernel = tf.tile(tf.reshape(weights, shape), [1, 1, num_maps, 1])
        blurred = tf.nn.depthwise_conv2d(blurred, kernel, [1, 1, 1, 1], 'VALID')
    peak, blurred_peak = (tf.reduce_max(m, [1, 2], keepdims=True) for m in (heatmaps, blurred))
    return blurred * tf.math.divide_no_nan(peak, blurred_peak)


def _profile(coordinates: tf.Tensor, num_cells: int, stride: float, sigma: float) -> tf.Tensor:
    """Return an axis of the Gaussians: float64 [B, K] px -> float32 [B, num_cells, K].

    In float64 until the end, because the float32 exponential of TensorFlow's CPU kernels rounds
    differently in the last elements of a tensor: a mirrored point would not give exactly the
    mirrored map.
    """
    centers = coordinates[:, tf.newaxis, :] / stride - 0.5
    cells = tf.range(num_cells, dtype=tf.float64)[:, tf.newaxis]
    profile = tf.exp(-0.5 * tf.square((cells - centers) / sigma))
    profile = tf.where(tf.math.is_nan(profile), tf.zeros_like(profile), profile)
    return tf.cast(profile, tf.float32)


def flip_heatmaps(heatmaps: tf.Tensor, flip_permutation: Sequence[int]) -> tf.Tensor:
    """Return heat maps of the mirrored picture: columns reversed, left and right points exchanged.

    No shift: with cell centers at +0.5 the mirror of a cell is a cell.

    Args:
        heatmaps: [B, h, w, K].
        flip_permutation: K indices, as KeypointSchema.flip_permutation.

    Returns:
        [B, h, w, K]; its own inverse.
    """
    return tf.gather(tf.reverse(heatmaps, axis=[2]), list(flip_permutation), axis=3)
