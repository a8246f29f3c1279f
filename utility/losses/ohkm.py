"""Which points enter the loss: those that count and, of the last output, the hard ones."""

from __future__ import annotations

import tensorflow as tf

# Keeps 0.6 of 25 points, 15.000001 in float32, from being rounded up to 16.
_CEIL_TOLERANCE = 1e-4


def counting_points(visibility: tf.Tensor, points: str) -> tf.Tensor:
    """Return bool [B, K]: the points that enter the loss, by LossConfig.points."""
    # tf.equal, because in a graph of the Estimator == compares the objects.
    return tf.equal(visibility, 1) if points == 'visible' else visibility >= 0


def ohkm_mask(errors: tf.Tensor, counts: tf.Tensor, share: float, over: str = 'image') -> tf.Tensor:
    """Return which counted points online hard keypoint mining keeps (Chen et al. 2018, 3.2).

    Departure from the paper: a share of the points that count, not a fixed number, so that every
    category and every degree of occlusion is mined alike. Of n candidates ceil(share * n) are kept,
    those of largest error; of equal errors the first.

    Args:
        errors: float32 [B, K], not negative.
        counts: bool [B, K].
        share: In (0, 1].
        over: What is mined. 'image': the points of each image. 'batch': those of all images
            together, so that an easy image may have none. 'keypoint': the keypoints that occur, by
            their mean error over the batch, each with all its points (the challenge's 17th place).
            A replica mines its own part of the batch.

    Returns:
        bool [B, K], the kept points, among those that count.
    """
    errors = tf.stop_gradient(errors)
    if over == 'keypoint':
        number = tf.reduce_sum(tf.cast(counts, tf.float32), axis=0, keepdims=True)
        total = tf.reduce_sum(tf.where(counts, errors, 0.0), axis=0, keepdims=True)
        return counts & _largest(tf.math.divide_no_nan(total, number), number > 0, share)
    if over == 'batch':
        hardest = _largest(tf.reshape(errors, [1, -1]), tf.reshape(counts, [1, -1]), share)
        return tf.reshape(hardest, tf.shape(counts))
    return _largest(errors, counts, share)


def _largest(errors: tf.Tensor, counts: tf.Tensor, share: float) -> tf.Tensor:
    """Return bool [R, N]: of n candidates of a row ceil(share * n), at least 1 if any."""
    candidates = tf.where(counts, errors, -1.0)
    order = tf.argsort(candidates, axis=1, direction='DESCENDING', stable=True)
    rank = tf.argsort(order, axis=1, stable=True)
    num_points = tf.reduce_sum(tf.cast(counts, tf.float32), axis=1, keepdims=True)
    num_hardest = tf.maximum(1.0, tf.math.ceil(share * num_points - _CEIL_TOLERANCE))
    return counts & (tf.cast(rank, tf.float32) < num_hardest)


def mean_over(errors: tf.Tensor, counted: tf.Tensor) -> tf.Tensor:
    """Return the mean of errors [B, K] where counted [B, K]; 0, gradients too, without any."""
    total = tf.reduce_sum(tf.where(counted, errors, 0.0))
    return tf.math.divide_no_nan(total, tf.reduce_sum(tf.cast(counted, tf.float32)))
