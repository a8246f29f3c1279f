"""The Estimator's model function: network, loss, metric and decoding in one graph."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import tensorflow as tf
from absl import logging

from config import Experiment
from nets import build_network
from preprocessing import geometry
from preprocessing.schema import KeypointSchema
from utility import checkpoints, losses, optimizers, summaries
from utility.heatmaps import HeatmapCodec, flip_heatmaps
from utility.training_log import TrainingLog

v1 = tf.compat.v1


@dataclasses.dataclass(frozen=True)
class Task:
    """One network to train, evaluate or predict with.

    Attributes:
        experiment: What is trained.
        schema: Its keypoints, of one category or of all.
        total_steps: Planned length of the training, steps.
        steps_per_epoch: Training records over the global batch size.
        eval_dir: Where pictures of the evaluation are written for TensorBoard, or None.
        eval_categories: Categories that the validation split holds.
        flip_test: Whether prediction averages in the mirrored picture's heat maps.
        init_checkpoint: Where the first weights come from, or None.
        allow_partial_init: Whether that checkpoint may cover the network in part.
        log_every: Steps between two lines of the training log.
    """

    experiment: Experiment
    schema: KeypointSchema
    total_steps: int = 0
    steps_per_epoch: float = 1.0
    eval_dir: str | None = None
    eval_categories: tuple[str, ...] = ()
    flip_test: bool = False
    init_checkpoint: str | None = None
    allow_partial_init: bool = False
    log_every: int = 20

    @property
    def codec(self) -> HeatmapCodec:
        network = self.experiment.network
        return HeatmapCodec(
            image_size=network.image_size,
            heatmap_size=network.heatmap_size,
            sigma=self.experiment.loss.sigmas[-1],
            refine=self.experiment.refine,
        )


def make_model_fn(task: Task) -> Callable:
    """The model_fn of `task` for tf.estimator.Estimator."""
    # A distribution strategy would have AutoGraph rewrite all that the model_fn calls; there is
    # nothing to rewrite, and errors would tell of the rewritten code.
    make_spec = tf.autograph.experimental.do_not_convert(_spec)

    def model_fn(features, labels, mode, config):
        return make_spec(task, features, labels, mode, config.model_dir)

    return model_fn


def _spec(task: Task, features, labels, mode: str, model_dir: str):
    network = build_network(task.experiment.network, task.schema.num_keypoints)
    if mode == tf.estimator.ModeKeys.PREDICT:
        return _predict_spec(task, network, features)
    outputs = network(features['image'], mode == tf.estimator.ModeKeys.TRAIN)
    loss, output_losses = losses.heatmap_loss(
        outputs, labels, task.experiment.loss, task.experiment.network.image_size
    )
    predicted, _ = task.codec.decode(outputs[-1])
    error = normalized_errors(predicted, features, labels)
    pictures = summaries.pictures_with_points(features['image'], predicted, labels)
    if mode == tf.estimator.ModeKeys.EVAL:
        return _eval_spec(task, features, loss, error, pictures)
    # A run that has a checkpoint of its own goes on from there.
    if task.init_checkpoint and not tf.train.latest_checkpoint(model_dir):
        _warm_start(task, network)
    return _train_spec(task, network, loss, output_losses, error, pictures)


def to_original(points: tf.Tensor, to_crop: tf.Tensor) -> tf.Tensor:
    """Points [B, K, 2] of the crops, mapped back to the original pictures, px."""
    return geometry.transform_points(points, tf.linalg.inv(to_crop))


def normalized_errors(predicted, features, labels) -> tuple[tf.Tensor, tf.Tensor]:
    """The error of each point and which count: visible, in a picture with a normaliser.

    Args:
        predicted: [B, K, 2] crop px.
        features: With 'to_crop' [B, 3, 3].
        labels: 'keypoints' [B, K, 2] crop px, 'visibility' [B, K], 'normalizer' [B] original px.

    Returns:
        errors float32 [B, K], in normalisers (0 where not scored); scored bool [B, K].
    """
    normalizer = labels['normalizer'][:, tf.newaxis]
    scored = tf.logical_and(tf.equal(labels['visibility'], 1), normalizer > 0)
    target = tf.where(scored[..., tf.newaxis], labels['keypoints'], predicted)
    to_crop = features['to_crop']
    offsets = to_original(predicted, to_crop) - to_original(target, to_crop)
    return tf.math.divide_no_nan(tf.norm(offsets, axis=-1), normalizer), scored


def _predict_spec(task: Task, network, features):
    images = features['image']
    if task.flip_test:
        maps = network(tf.concat([images, images[:, :, ::-1]], axis=0), False)[-1]
        plain, mirrored = tf.split(maps, 2, axis=0)
        maps = (plain + flip_heatmaps(mirrored, task.schema.flip_permutation)) / 2.0
    else:
        maps = network(images, False)[-1]
    points, scores = task.codec.decode(maps)
    return tf.estimator.EstimatorSpec(
        tf.estimator.ModeKeys.PREDICT,
        predictions={
            'image_id': features['image_id'],
            'category': features['category'],
            'image_size': features['image_size'],
            'keypoints': to_original(points, features['to_crop']),
            'scores': scores / task.experiment.loss.target_scale,
        },
    )


def mean_where(mask: tf.Tensor, values: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The mean of `values` where `mask`, over all batches of an evaluation; NaN if it never holds.

    Returns:
        The mean, float32 [], and its update, as tf.compat.v1.metrics give them.
    """
    parts = (tf.where(mask, values, 0.0), tf.cast(mask, tf.float32))
    (total, update_total), (count, update_count) = map(v1.metrics.mean, parts)
    return total / count, update_total / update_count


def _eval_spec(task: Task, features, loss, error, pictures):
    errors, scored = error
    metrics = {'normalized_error': mean_where(scored, errors)}
    for category in task.eval_categories:
        own = tf.logical_and(scored, tf.equal(features['category'], category)[:, tf.newaxis])
        metrics[f'normalized_error/{category}'] = mean_where(own, errors)
    hooks = []
    if task.eval_dir:
        summary = v1.summary.image('pictures', pictures, max_outputs=summaries.MAX_PICTURES)
        # One summary an evaluation: the first batch.
        hooks = [
            v1.train.SummarySaverHook(
                save_steps=10**9, output_dir=task.eval_dir, summary_op=summary
            )
        ]
    return tf.estimator.EstimatorSpec(
        tf.estimator.ModeKeys.EVAL, loss=loss, eval_metric_ops=metrics, evaluation_hooks=hooks
    )


def _warm_start(task: Task, network) -> None:
    report = checkpoints.plan_warm_start(
        task.init_checkpoint, network.variables, task.allow_partial_init
    )
    checkpoints.apply_warm_start(report, network.variables)
    logging.info('start from %s', report)


def _train_spec(task: Task, network, loss, output_losses, error, pictures):
    step = v1.train.get_or_create_global_step()
    config = task.experiment.optimizer
    rate = optimizers.learning_rate(config, step, task.steps_per_epoch)
    total = loss
    if config.weight_decay:
        total += optimizers.weight_decay_loss(config, network.trainable_variables)
    optimizer = optimizers.OPTIMIZERS.get(config.name)(rate, config)
    with tf.control_dependencies(v1.get_collection(v1.GraphKeys.UPDATE_OPS)):
        train_op = optimizer.minimize(total, step)
    errors, scored = error
    batch_error = tf.math.divide_no_nan(
        tf.reduce_sum(tf.where(scored, errors, 0.0)), tf.reduce_sum(tf.cast(scored, tf.float32))
    )
    watched = {'loss': loss, 'normalized_error': batch_error, 'learning_rate': rate}
    for name, value in watched.items():
        v1.summary.scalar(name, value)
    for i, value in enumerate(output_losses):
        v1.summary.scalar(f'loss/output_{i}', value)
    v1.summary.image('pictures', pictures, max_outputs=summaries.MAX_PICTURES)
    return tf.estimator.EstimatorSpec(
        tf.estimator.ModeKeys.TRAIN,
        loss=total,
        train_op=train_op,
        training_hooks=[
            TrainingLog(
                watched,
                total_steps=task.total_steps,
                steps_per_epoch=task.steps_per_epoch,
                batch_size=task.experiment.data.batch_size
                * tf.distribute.get_strategy().num_replicas_in_sync,
                every=task.log_every,
            )
        ],
    )
