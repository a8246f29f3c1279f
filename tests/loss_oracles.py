"""The losses in NumPy, one map at a time, written from the papers."""

from __future__ import annotations

import math

import numpy as np


def gaussian(point, size, stride, sigma):
    """Return [h, w]: a Gaussian with a peak of 1 at (x, y) crop px, seen from the
    centers of cells.
    """
    y, x = ((np.arange(cells) + 0.5) * step for cells, step in zip(size, stride))
    dx, dy = (x - point[0]) / stride[1], (y - point[1]) / stride[0]
    return np.exp(-(dy[:, None] ** 2 + dx**2) / (2 * sigma**2))


def squared_error(output, target):
    return np.square(output - target).mean()


def divergence(output, target):
    """Return Kullback-Leibler, in nats, from the normalized target to the softmax of the output."""
    output, target = output.astype(np.float64), target.astype(np.float64)
    share = target / target.sum()
    log_output = output - np.log(np.exp(output).sum())
    positive = share > 0
    return (share[positive] * (np.log(share[positive]) - log_output[positive])).sum()


def balanced_absolute_error(output, target):
    is_foreground = target > 0.1
    halves = [np.abs(output - target)[m] for m in (is_foreground, ~is_foreground)]
    return sum(half.mean() if len(half) else 0.0 for half in halves) / 2


def adaptive_wing(output, target):
    """Return Wang et al. 2019, equations 4 to 6 and 8."""
    alpha, omega, epsilon, theta = 2.1, 14.0, 1.0, 0.5
    rows, columns = (range(side) for side in target.shape)
    around = [[target[max(r - 1, 0) : r + 2, max(c - 1, 0) : c + 2] for c in columns] for r in rows]
    weights = np.array([[11.0 if part.max() > 0.2 else 1.0 for part in row] for row in around])
    total = 0.0
    for y, prediction, weight in zip(target.ravel(), output.ravel(), weights.ravel()):
        a = omega / (1 + (theta / epsilon) ** (alpha - y)) * (alpha - y)
        a *= (theta / epsilon) ** (alpha - y - 1) / epsilon
        c = theta * a - omega * math.log(1 + (theta / epsilon) ** (alpha - y))
        d = abs(y - prediction)
        near = d < theta
        total += weight * (
            omega * math.log(1 + (d / epsilon) ** (alpha - y)) if near else a * d - c
        )
    return total / target.size


def offset(output, point, stride, config):
    """Return output [h, w, 3]: disk, x and y."""
    total, (height, width, _) = 0.0, output.shape
    for row in range(height):
        for column in range(width):
            x = (point[0] / stride[1] - (column + 0.5)) / config.offset_radius
            y = (point[1] / stride[0] - (row + 0.5)) / config.offset_radius
            disk, dx, dy = output[row, column] / config.target_scale
            inside = math.hypot(x, y) <= 1
            total += (disk - inside) ** 2
            total += config.offset_weight * ((dx - x) ** 2 + (dy - y) ** 2) if inside else 0.0
    return config.target_scale**2 * total / (height * width)


def _of_scale(error, config):
    """Return an error of maps with a peak of 1, from outputs with a peak of target_scale."""
    scale = config.target_scale
    power = {'mse': 2, 'balanced_l1': 1}.get(config.kind, 0)
    return lambda output, target: scale**power * error(output / scale, target)


ERRORS = {
    'mse': squared_error,
    'balanced_l1': balanced_absolute_error,
    'adaptive_wing': adaptive_wing,
    'cross_entropy': divergence,
    'offset': offset,
}


def errors(output, keypoints, sigma, image_size, config):
    """Return [B, K], of an output [B, h, w, C]."""
    batch, height, width, _ = output.shape
    num_keypoints = keypoints.shape[1]
    stride = image_size[0] / height, image_size[1] / width
    found = np.zeros((batch, num_keypoints))
    for b, k in np.ndindex(batch, num_keypoints):
        maps, point = output[b, :, :, k::num_keypoints].astype(np.float64), keypoints[b, k]
        if config.kind == 'offset':
            found[b, k] = offset(maps, point, stride, config)
            continue
        target = gaussian(point, (height, width), stride, sigma)
        error = ERRORS[config.kind]
        if config.kind != 'cross_entropy':
            error = _of_scale(error, config)
        found[b, k] = error(maps[:, :, 0], target)
    return found


def hard_errors(found, counts, config):
    """Return those of hard points, by sorting."""

    def hardest(values):
        number = max(1, math.ceil(config.ohkm * len(values) - 1e-9))
        return sorted(values, reverse=True)[:number]

    if config.ohkm_over == 'batch':
        return hardest(found[counts])
    if config.ohkm_over == 'keypoint':
        occurring = [k for k in range(counts.shape[1]) if counts[:, k].any()]
        means = {found[counts[:, k], k].mean(): k for k in occurring}
        return np.concatenate([found[counts[:, means[m]], means[m]] for m in hardest(list(means))])
    rows = [hardest(row[use]) for row, use in zip(found, counts) if use.any()]
    return np.concatenate(rows) if rows else np.array([])
