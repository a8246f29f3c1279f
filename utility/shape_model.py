"""The shapes that annotations of one category take: what is usual, and where a point should be.

A shape is the points of a picture, apart from where and how large they are in it. It is taken for a
draw from a multivariate t distribution, whose heavy tails keep the few wrong annotations from
spoiling what is learned of the others (K. L. Lange, R. J. A. Little, J. M. G. Taylor, Robust
statistical modeling using the t distribution, JASA 84, 1989). Absent points are missing data; the
model is fitted by their EM algorithm. NumPy only.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

MIN_POINTS = 3  # of a picture that can be judged: two always have the usual shape
_DOF = 4.0  # degrees of freedom of the t distribution
_NUM_ROUNDS = 2  # of alignment to the mean shape
_NUM_STEPS = 12  # of EM in each round
# Variances, in squared sizes of a garment, by which position, size and angle may differ from what
# the alignment has found: nothing is known of the first two, and clothes mostly hang upright.
_POSE_VARIANCES = (1.0, 1.0, 1.0, 0.03)
_FLOOR = 1e-4  # variance, about a hundredth of a garment's size: people do not click better


class Conditional(NamedTuple):
    """Each point of N pictures, given all others of its picture.

    Attributes:
        predicted: float64 [N, n, 2], where the point should be, px; NaN if unknown.
        distance: float64 [N, n], squared, from there to where it is, in units of what is usual: 1
            for an expected deviation; NaN where the point is absent.
        unit: float64 [N], px, the size of the garment: mean distance of its points from their
            centre, of the whole shape.
    """

    predicted: np.ndarray
    distance: np.ndarray
    unit: np.ndarray


@dataclasses.dataclass(frozen=True)
class ShapeModel:
    """A t distribution of shapes of n points.

    Attributes:
        mean: float64 [n, 2], the mean shape: its centre is 0, its size 1.
        scatter: float64 [2 n, 2 n], covariance of (x_0, y_0, x_1, ...) but for a factor.
    """

    mean: np.ndarray
    scatter: np.ndarray

    @classmethod
    def fit(cls, points: np.ndarray, present: np.ndarray) -> ShapeModel:
        """Learns the shapes of N pictures.

        Args:
            points: [N, n, 2] px.
            present: bool [N, n]; pictures of fewer than MIN_POINTS are passed over.

        Raises:
            ValueError: There is no picture with as many points.
        """
        usable = present.sum(1) >= MIN_POINTS
        points, present = np.asarray(points, np.float64)[usable], present[usable]
        if not len(points):
            raise ValueError(f'no picture has {MIN_POINTS} points, to learn their shape from')
        return _fit(points, present)

    def conditional(self, points: np.ndarray, present: np.ndarray) -> Conditional:
        """Judges each point by all others; arguments as of `fit`. Unknown where these are few."""
        aligned, centers, scales = align(points, present, self.mean)
        predicted, distance = np.full(points.shape, np.nan), np.full(present.shape, np.nan)
        for rows, mask in _patterns(present):
            if mask.sum() < MIN_POINTS:
                continue
            residual = self._residuals(aligned[rows], mask)
            predicted[rows], distance[np.ix_(rows, mask)] = self._judge(residual, mask)
        predicted = predicted * scales[:, None, None] + centers[:, None]
        return Conditional(predicted, distance, scales)

    def deviation(self, points: np.ndarray, present: np.ndarray) -> np.ndarray:
        """float64 [N]: minus log density of whole shapes, but for terms that depend on `present`.

        Two shapes of the same points can be compared: the one with the smaller deviation is the
        more usual. 0 for pictures of fewer than MIN_POINTS.
        """
        aligned, _, _ = align(points, present, self.mean)
        deviation = np.zeros(len(points))
        for rows, mask in _patterns(present):
            size = 2 * mask.sum()
            if mask.sum() >= MIN_POINTS:
                residual = self._residuals(aligned[rows], mask)
                squared = np.einsum('ni,ni->n', residual @ self._precision(mask), residual)
                deviation[rows] = (_DOF + size) / 2 * np.log1p(squared / _DOF)
        return deviation

    def _residuals(self, aligned: np.ndarray, mask: np.ndarray) -> np.ndarray:
        return (aligned - self.mean)[:, mask].reshape(len(aligned), -1)

    def _precision(self, mask: np.ndarray) -> np.ndarray:
        own = np.repeat(mask, 2)
        return np.linalg.inv(self.posed_scatter[np.ix_(own, own)])

    @property
    def posed_scatter(self) -> np.ndarray:
        """[2 n, 2 n], the scatter with what position, size and angle add to it."""
        basis = _pose_basis(self.mean)
        return self.scatter + (basis * np.array(_POSE_VARIANCES)) @ basis.T

    def _judge(self, residual: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of M aligned shapes of the same points: predicted [M, n, 2], and squared distances."""
        precision = self._precision(mask)
        pulls = (residual @ precision).reshape(len(residual), -1, 2)
        size = len(precision)
        index = np.arange(size).reshape(-1, 2)
        blocks = np.linalg.inv(precision[index[:, :, None], index[:, None, :]])
        offsets = np.einsum('kij,mkj->mki', blocks, pulls)
        own = np.einsum('mki,mki->mk', offsets, pulls)
        total = np.einsum('mki,mki->m', residual.reshape(pulls.shape), pulls)
        # The conditional t distribution is wider where the others are unusual themselves.
        others = np.maximum(total[:, None] - own, 0)
        distance = own * (_DOF + size - 2) / (_DOF + others)
        where = np.repeat(mask, 2)
        posed = self.posed_scatter
        gain = posed[:, where] @ precision
        predicted = (residual @ gain.T).reshape(len(residual), -1, 2)
        predicted[:, mask] = residual.reshape(pulls.shape) - offsets
        return predicted + self.mean, distance


def align(
    points: np.ndarray, present: np.ndarray, mean: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Moves and scales shapes onto the mean shape.

    By medians, which a wrong point hardly moves, and which do not change if points of a picture
    change places. Nothing is turned.

    Returns:
        The shapes [N, n, 2] in units of the mean shape; their centres [N, 2], px, and their sizes
        [N], px: aligned * size + centre are the points. Absent ones are NaN.
    """
    points = np.where(present[..., None], np.asarray(points, np.float64), np.nan)
    centers, scales = np.zeros((len(points), 2)), np.ones(len(points))
    for rows, mask in _patterns(present):
        if mask.any():
            middle, radius = _middle_and_radius(points[rows][:, mask])
            own_middle, own_radius = _middle_and_radius(mean[None, mask])
            scales[rows] = np.maximum(radius, 1e-3) / max(float(own_radius[0]), 1e-3)
            centers[rows] = middle - own_middle * scales[rows, None]
    return (points - centers[:, None]) / scales[:, None, None], centers, scales


def _middle_and_radius(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Medians of points [M, m, 2], and of their distances from it."""
    middle = np.median(points, axis=1)
    return middle, np.median(np.linalg.norm(points - middle[:, None], axis=-1), axis=1)


def _patterns(present: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows of the pictures that have the same points, and which these are: bool [n]."""
    masks, inverse = np.unique(present, axis=0, return_inverse=True)
    order = np.argsort(inverse, kind='stable')
    ends = np.cumsum(np.bincount(inverse, minlength=len(masks)))
    for mask, rows in zip(masks, np.split(order, ends[:-1])):
        yield rows, mask


def _pose_basis(mean: np.ndarray) -> np.ndarray:
    """[2 n, 4]: how the points move if the shape is moved along x and y, scaled, and turned."""
    ones, zeros = np.ones(len(mean)), np.zeros(len(mean))
    turned = np.stack([-mean[:, 1], mean[:, 0]], axis=1)
    columns = [np.stack([ones, zeros], 1), np.stack([zeros, ones], 1), mean, turned]
    return np.stack([column.ravel() for column in columns], axis=1)


def _fit(points: np.ndarray, present: np.ndarray) -> ShapeModel:
    mean = _first_mean(points, present)
    scatter = np.eye(mean.size) * 0.1
    for _ in range(_NUM_ROUNDS):
        aligned, _, _ = align(points, present, mean)
        flat = aligned.reshape(len(points), -1)
        for _ in range(_NUM_STEPS):
            mean, scatter = _em_step(flat, present, mean, scatter)
        mean, scatter = _standardised(mean, scatter)
    return ShapeModel(mean, scatter)


def _first_mean(points: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Medians of the shapes, each about the middle of its own points."""
    points = np.where(present[..., None], points, np.nan)
    middle = np.nanmedian(points, axis=1, keepdims=True)
    radius = np.nanmedian(np.linalg.norm(points - middle, axis=-1), axis=1)
    aligned = (points - middle) / np.maximum(radius, 1e-3)[:, None, None]
    known = present.any(0)
    mean = np.zeros(points.shape[1:])
    mean[known] = np.nanmedian(aligned[:, known], axis=0)
    return _standardised(mean, np.eye(mean.size))[0]


def _standardised(mean: np.ndarray, scatter: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same with the mean's centre at 0 and its mean distance from there 1."""
    mean = mean - mean.mean(0)
    size = np.linalg.norm(mean, axis=-1).mean()
    return mean / size, scatter / size**2


def _em_step(
    flat: np.ndarray, present: np.ndarray, mean: np.ndarray, scatter: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """One step of EM for a t distribution with missing values; shapes flat [N, 2 n]."""
    size = flat.shape[1]
    center, total = mean.ravel(), 0.0
    first, second = np.zeros(size), np.zeros((size, size))
    for rows, mask in _patterns(present):
        own = np.repeat(mask, 2)
        residual = flat[rows][:, own] - center[own]
        precision = np.linalg.inv(scatter[np.ix_(own, own)])
        gain = scatter[:, own] @ precision
        squared = np.einsum('ni,ni->n', residual @ precision, residual)
        weights = (_DOF + own.sum()) / (_DOF + squared)
        filled = residual @ gain.T
        first += weights @ filled
        total += weights.sum()
        # What is missing varies around what is filled in.
        second += (filled * weights[:, None]).T @ filled
        second += len(rows) * (scatter - gain @ scatter[own])
    shift = first / total
    scatter = second / len(flat) - np.outer(shift, shift) * total / len(flat)
    return (center + shift).reshape(mean.shape), _shrunk(scatter, len(flat))


def _shrunk(scatter: np.ndarray, count: int) -> np.ndarray:
    """Towards its diagonal, the more the fewer pictures there are; positive definite."""
    share = len(scatter) / (len(scatter) + count)
    diagonal = np.diag(np.diag(scatter)) + _FLOOR * np.eye(len(scatter))
    return (1 - share) * (scatter + scatter.T) / 2 + share * diagonal + _FLOOR * np.eye(len(scatter))
