"""The shapes that annotations of one category take: how usual one is, where a point should be.

A shape is the points of a picture, apart from where they are in it and how large. It is taken for a
draw from a multivariate t distribution, whose heavy tails keep the few wrong annotations from
spoiling what is learned of the others (K. L. Lange, R. J. A. Little, J. M. G. Taylor, Robust
statistical modeling using the t distribution, JASA 84, 1989). Absent points are missing data, and
the model is fitted by the EM algorithm of that paper. NumPy only.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from config import UserError

MIN_POINTS = 3  # of a picture that can be judged: two have the same shape always
_DOF = 4.0  # degrees of freedom of the t distribution
_NUM_ROUNDS = 2  # of alignment to the mean shape
_NUM_STEPS = 12  # of EM in each round
# Variances, in squared sizes of a garment, by which its x, y, size and angle may differ from what
# the alignment finds: nothing is known of the first three, and clothes mostly hang upright.
_POSE_VARIANCES = (1.0, 1.0, 1.0, 0.03)
_FLOOR = 1e-4  # variance, a hundredth of a garment's size squared: nobody clicks better
_BITS = 31  # points whose presence is told by one number
_MIN_LENGTH = 1e-3  # px, so that points all in one place can be divided by their extent


class Conditional(NamedTuple):
    """Where each point of N pictures should be, given all others of its picture.

    Attributes:
        predicted: float64 [N, n, 2], px; NaN where the others are too few.
        covariance: float64 [N, n, 2, 2], px^2, of the deviations that are usual; NaN likewise.
        size: float64 [N], px, of the garment: about the mean distance of its points, all of them,
            from their center.
    """

    predicted: np.ndarray
    covariance: np.ndarray
    size: np.ndarray

    @property
    def log_areas(self) -> np.ndarray:
        """float64 [N, n]: log of px^2, of the unit ellipses of `covariance`, but for pi."""
        return np.log(self._determinants) / 2

    def squared_distances(self, points: np.ndarray) -> np.ndarray:
        """Return distances, float64 [N, n], of points [N, n, 2] in units of `covariance`."""
        x, y = np.moveaxis(points - self.predicted, -1, 0)
        (xx, xy), (yx, yy) = np.moveaxis(self.covariance, (2, 3), (0, 1))
        # By hand: there are many matrices of 2 x 2, for each of which a library takes long.
        return (yy * x * x - (xy + yx) * x * y + xx * y * y) / self._determinants

    @property
    def _determinants(self) -> np.ndarray:
        (xx, xy), (yx, yy) = np.moveaxis(self.covariance, (2, 3), (0, 1))
        return xx * yy - xy * yx


@dataclasses.dataclass(frozen=True)
class ShapeModel:
    """A t distribution of shapes of n points.

    Attributes:
        mean: float64 [n, 2], the mean shape: its center is 0, its size 1.
        scatter: float64 [2 n, 2 n], covariance of (x_0, y_0, x_1, ...) but for a factor.
    """

    mean: np.ndarray
    scatter: np.ndarray

    @classmethod
    def fit(cls, points: np.ndarray, present: np.ndarray) -> ShapeModel:
        """Learn the shapes of N pictures.

        Args:
            points: [N, n, 2] px.
            present: bool [N, n]; pictures of fewer than MIN_POINTS are passed over.

        Raises:
            UserError: There is no picture with as many points.
        """
        usable = present.sum(1) >= MIN_POINTS
        if not usable.any():
            raise UserError(f'no picture has {MIN_POINTS} points, to learn their shape from')
        return _fit(np.asarray(points, np.float64)[usable], present[usable])

    def conditional(self, points: np.ndarray, present: np.ndarray) -> Conditional:
        """Predict each point, present or not, by the other points; arguments as of `fit`."""
        aligned, centers, sizes = align(points, present, self.mean)
        predicted = np.full(points.shape, np.nan)
        covariance = np.full((*points.shape, 2), np.nan)
        for rows, mask in _patterns(present):
            if mask.sum() >= MIN_POINTS:
                predicted[rows], covariance[rows] = self._predict(aligned[rows], mask)
        predicted = predicted * sizes[:, None, None] + centers[:, None]
        return Conditional(predicted, covariance * sizes[:, None, None, None] ** 2, sizes)

    def surprise(self, points: np.ndarray, present: np.ndarray) -> np.ndarray:
        """Return float64 [N]: minus the log density of whole shapes; 0 where points are too few.

        Shapes of equally many points can be compared: that of the smaller surprise is more usual.
        """
        aligned, _, sizes = align(points, present, self.mean)
        surprise = np.zeros(len(points))
        for rows, mask in _patterns(present):
            if mask.sum() < MIN_POINTS:
                continue
            residual, precision = self._residual(aligned[rows], mask), self._precision(mask)
            squared = np.einsum('ni,ni->n', residual @ precision, residual)
            dims = len(precision)
            volume = dims * np.log(sizes[rows]) - np.linalg.slogdet(precision)[1] / 2
            surprise[rows] = (_DOF + dims) / 2 * np.log1p(squared / _DOF) + volume
        return surprise

    def _residual(self, aligned: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """Return [M, 2 m]: of shapes [M, n, 2] that have the m points of `mask`."""
        return (aligned - self.mean)[:, mask].reshape(len(aligned), -1)

    def _precision(self, mask: np.ndarray) -> np.ndarray:
        present_xy = np.repeat(mask, 2)
        return np.linalg.inv(self._posed_scatter[np.ix_(present_xy, present_xy)])

    @functools.cached_property
    def _posed_scatter(self) -> np.ndarray:
        """[2 n, 2 n]: the scatter, and what position, size and angle add to it."""
        basis = _pose_basis(self.mean)
        return self.scatter + (basis * np.array(_POSE_VARIANCES)) @ basis.T

    def _predict(self, aligned: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return predicted points [M, n, 2] and covariance [M, n, 2, 2], in units of the mean."""
        residual, precision, posed = (
            self._residual(aligned, mask),
            self._precision(mask),
            self._posed_scatter,
        )
        present_xy, dims = np.repeat(mask, 2), len(precision)
        pulls = residual @ precision
        squared = np.einsum('mi,mi->m', pulls, residual)[:, None]
        # An absent point: all present ones predict it.
        gain = posed[:, present_xy] @ precision
        predicted = (residual @ gain.T).reshape(len(aligned), -1, 2)
        scatter = _blocks(posed - gain @ posed[present_xy])
        squared_by_others, num_coordinates = (
            np.repeat(squared, len(mask), axis=1),
            np.full(len(mask), dims),
        )
        # A present one: the block of the precision says how the others do.
        pulls = pulls.reshape(len(aligned), -1, 2)
        scatter[mask] = np.linalg.inv(_blocks(precision))
        offsets = np.einsum('kij,mkj->mki', scatter[mask], pulls)
        predicted[:, mask] = residual.reshape(pulls.shape) - offsets
        squared_by_others[:, mask] -= np.einsum('mki,mki->mk', offsets, pulls)
        num_coordinates[mask] -= 2
        # The conditional t distribution is the wider the more unusual the others are.
        widening = (_DOF + np.maximum(squared_by_others, 0)) / (_DOF + num_coordinates)
        return predicted + self.mean, widening[..., None, None] * scatter


def align(
    points: np.ndarray, present: np.ndarray, mean: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Move and scales shapes onto the mean shape, by medians; nothing is turned.

    A wrong point hardly moves a median, and points that change places do not move it at all.

    Returns:
        The shapes [N, n, 2] in units of the mean shape, NaN where absent; their centers [N, 2] and
        their sizes [N], px: aligned * size + center are the points.
    """
    points = np.where(present[..., None], np.asarray(points, np.float64), np.nan)
    centers, sizes = np.zeros((len(points), 2)), np.ones(len(points))
    for rows, mask in _patterns(present):
        if mask.any():
            middle, radius = _middle_and_radius(points[rows][:, mask])
            mean_middle, mean_radius = _middle_and_radius(mean[None, mask])
            sizes[rows] = radius / mean_radius
            centers[rows] = middle - mean_middle * sizes[rows, None]
    return (points - centers[:, None]) / sizes[:, None, None], centers, sizes


def _middle_and_radius(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return medians [M, 2] of points [M, m, 2], and of their distances from these [M]."""
    middle = np.median(points, axis=1)
    radius = np.median(np.linalg.norm(points - middle[:, None], axis=-1), axis=1)
    return middle, np.maximum(radius, _MIN_LENGTH)


def _patterns(present: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield rows of pictures with the same points, and these points: bool [n]."""
    if not len(present):
        return
    codes = np.zeros(len(present), np.int64)
    for start in range(0, present.shape[1], _BITS):
        part = present[:, start : start + _BITS]
        bits = part @ (1 << np.arange(part.shape[1], dtype=np.int64))
        _, codes = np.unique(codes << _BITS | bits, return_inverse=True)
    order = np.argsort(codes, kind='stable')
    ends = np.cumsum(np.bincount(codes))
    for rows in np.split(order, ends[:-1]):
        yield rows, present[rows[0]]


def _blocks(matrix: np.ndarray) -> np.ndarray:
    """Return [m, 2, 2]: the blocks on the diagonal of [2 m, 2 m]."""
    index = np.arange(len(matrix)).reshape(-1, 2)
    return matrix[index[:, :, None], index[:, None, :]]


def _pose_basis(mean: np.ndarray) -> np.ndarray:
    """Return [2 n, 4]: how points move with x, y, scale and rotation of the shape."""
    ones, zeros = np.ones(len(mean)), np.zeros(len(mean))
    turned = np.stack([-mean[:, 1], mean[:, 0]], axis=1)
    columns = [np.stack([ones, zeros], 1), np.stack([zeros, ones], 1), mean, turned]
    return np.stack([column.ravel() for column in columns], axis=1)


def _fit(points: np.ndarray, present: np.ndarray) -> ShapeModel:
    mean = _initial_mean(points, present)
    scatter = np.eye(mean.size) * 0.1
    for _ in range(_NUM_ROUNDS):
        aligned, _, _ = align(points, present, mean)
        flat = aligned.reshape(len(points), -1)
        for _ in range(_NUM_STEPS):
            mean, scatter = _em_step(flat, present, mean, scatter)
        mean, scatter = _standardised(mean, scatter)
    return ShapeModel(mean, scatter)


def _initial_mean(points: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Return medians of the shapes, each about its own middle; 0 for a point never present."""
    points = np.where(present[..., None], points, np.nan)
    middle = np.nanmedian(points, axis=1, keepdims=True)
    radius = np.nanmedian(np.linalg.norm(points - middle, axis=-1), axis=1)
    aligned = (points - middle) / np.maximum(radius, _MIN_LENGTH)[:, None, None]
    ever_present = present.any(0)
    mean = np.zeros(points.shape[1:])
    mean[ever_present] = np.nanmedian(aligned[:, ever_present], axis=0)
    return _standardised(mean, np.eye(mean.size))[0]


def _standardised(mean: np.ndarray, scatter: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the same with the mean's center at 0 and its mean distance from there 1."""
    mean = mean - mean.mean(0)
    size = max(np.linalg.norm(mean, axis=-1).mean(), _MIN_LENGTH)
    return mean / size, scatter / size**2


def _em_step(
    flat: np.ndarray, present: np.ndarray, mean: np.ndarray, scatter: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return one step of EM for a t distribution with missing values; shapes flat [N, 2 n]."""
    center, total = mean.ravel(), 0.0
    shift_sum, moment_sum = np.zeros_like(center), np.zeros_like(scatter)
    for rows, mask in _patterns(present):
        present_xy = np.repeat(mask, 2)
        residual = flat[rows][:, present_xy] - center[present_xy]
        precision = np.linalg.inv(scatter[np.ix_(present_xy, present_xy)])
        gain = scatter[:, present_xy] @ precision
        squared = np.einsum('ni,ni->n', residual @ precision, residual)
        weights = (_DOF + present_xy.sum()) / (_DOF + squared)
        filled = residual @ gain.T
        shift_sum += weights @ filled
        total += weights.sum()
        moment_sum += (filled * weights[:, None]).T @ filled
        # What is missing varies around what is filled in.
        moment_sum += len(rows) * (scatter - gain @ scatter[present_xy])
    shift = shift_sum / total
    scatter = moment_sum / len(flat) - np.outer(shift, shift) * total / len(flat)
    return (center + shift).reshape(mean.shape), _shrunk(scatter, len(flat))


def _shrunk(scatter: np.ndarray, count: int) -> np.ndarray:
    """Shrink a covariance towards its diagonal, the more the fewer the pictures."""
    share = len(scatter) / (len(scatter) + count)
    diagonal = np.diag(np.diag(scatter))
    return (1 - share) * scatter + share * diagonal + _FLOOR * np.eye(len(scatter))
