"""The Estimator's model function: network, loss, metric and decoding in one graph."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import numpy as np
import tensorflow as tf
from absl import logging

from config import Experiment, UserError
from nets import HEADS
from nets.precision import Compute
from preprocessing.ops import op_string
from preprocessing.schema import KeypointSchema
from preprocessing.tables import category_points
from utility.checkpoints import evaluations, files, snapshots
from utility.checkpoints import variables as checkpoints
from utility.codecs.heatmaps import codec_of
from utility.command_line.imports import uncollected
from utility.losses import attributes, heatmap_loss
from utility.metrics import measures, oks
from utility.optim import loss_scale as loss_scaling
from utility.optim import schedules, training_step, weight_averaging
from utility.optim.schedules import Length
from utility.predict import views_to_points
from utility.pretrained import warm_start
from utility.train import guards, plateau, saving
from utility.train import log as training_log
from utility.train.log import TrainingLog, Watch
from utility.visualization import summaries

v1 = tf.compat.v1


@dataclasses.dataclass(frozen=True)
class Task:
    """One network to train and evaluate.

    Attributes:
        experiment: What is trained.
        schema: Its keypoints, of one category or of all.
        length: Of the training.
        freeze_at: Step from which on batch norm keeps its statistics; None: it never does.
        eval_dir: Where pictures of the evaluation are written for TensorBoard, or None.
        eval_categories: Categories that the validation split holds.
        weights: That a training starts from, in a checkpoint, or None.
        allow_partial_init: Whether these may fill the backbone in part.
        has_start: Whether the weights are known; a dry run asks nothing of them.
        watch: What of a training is watched.
        compute: How the network is computed.
        save_every: Steps between two checkpoints; None: the Estimator sees to it, as in a cluster,
            where it takes no listeners and the chief alone is to save.
        keep_checkpoints: How many of the last ones are kept.
    """

    experiment: Experiment
    schema: KeypointSchema
    length: Length = Length(total_steps=1, steps_per_epoch=1.0)
    freeze_at: int | None = None
    eval_dir: str | None = None
    eval_categories: tuple[str, ...] = ()
    weights: checkpoints.Weights | None = None
    allow_partial_init: bool = False
    has_start: bool = True
    watch: Watch = Watch()
    compute: Compute = Compute()
    save_every: int | None = None
    keep_checkpoints: int = 5

    def __post_init__(self):
        head = self.experiment.network.head
        gives_logits = getattr(HEADS.get(head), 'logits', False)
        heatmap_loss.check_loss(self.experiment.loss, head, gives_logits)


def make_model_fn(task: Task) -> Callable:
    """Return the model_fn of `task` for tf.estimator.Estimator."""
    # A distribution strategy would have AutoGraph rewrite all that the model_fn calls; there is
    # nothing to rewrite, and errors would tell of the rewritten code.
    make_spec = tf.autograph.experimental.do_not_convert(_spec)

    def model_fn(features, labels, mode, config):
        with uncollected():
            return make_spec(task, features, labels, mode, config.model_dir)

    return model_fn


def _spec(task: Task, features, labels, mode: str, model_dir: str):
    experiment = task.experiment
    if mode == tf.estimator.ModeKeys.TRAIN and _is_frozen(task, model_dir):
        experiment = dataclasses.replace(experiment, network=experiment.network.frozen())
    network = attributes.network_of(experiment, task.schema, task.compute.precision)
    features = _with_pictures(task, features, labels)
    outputs, logits = network.outputs(features['image'], mode == tf.estimator.ModeKeys.TRAIN)
    loss, output_losses = heatmap_loss.heatmap_loss(
        outputs, labels, task.experiment.loss, task.experiment.network.image_size
    )
    attribute_losses = attributes.attribute_losses(
        logits, features['category'], labels['visibility'], task.experiment.loss, task.schema
    )
    loss = tf.add_n([loss, *attribute_losses.values()])
    maps = heatmap_loss.to_heatmaps(outputs[-1], task.experiment.loss)
    predicted, scores = codec_of(task.experiment).decode(maps)
    error = normalized_errors(predicted, features, labels)
    shown = {
        'pictures': summaries.images_with_points(features['image'], predicted, labels),
        'heatmaps': summaries.images_with_heatmaps(
            features['image'], maps / task.experiment.loss.target_scale, labels
        ),
    }
    if mode == tf.estimator.ModeKeys.EVAL:
        spec = _eval_spec(task, features, loss, error, shown, logits)
        chosen_by = _schema_metric(task.schema, features, labels, predicted, scores)
        if files.newest(model_dir) and not tf.distribute.has_strategy():
            spec = spec._replace(scaffold=saving.starting_at_once(restores=True))
        return spec._replace(eval_metric_ops={**spec.eval_metric_ops, **chosen_by})
    # A run that has a checkpoint of its own goes on from there.
    variables = network.variables
    if task.has_start and not files.newest(model_dir):
        _start(task, variables)
    # By the evaluations so far; this graph is made anew after each.
    drops = plateau.drops_so_far(task.experiment.schedule, model_dir)
    task = dataclasses.replace(task, length=dataclasses.replace(task.length, drops=drops))
    watched = {'loss': loss, 'normalized_error': _batch_error(*error)}
    watched.update({f'loss/output_{i}': value for i, value in enumerate(output_losses)})
    watched.update({f'loss/{name}': value for name, value in attribute_losses.items()})
    _show(shown)
    loss_scale = loss_scale_of(task.compute.precision, model_dir)
    if loss_scale:
        watched['loss_scale'] = loss_scale.value
    spec = _train_spec(
        task, [v for v in variables if v.trainable], watched, features, outputs[-1], loss_scale
    )
    if task.save_every is None:
        return spec
    scaffold = None
    if not tf.distribute.has_strategy():
        scaffold = saving.starting_at_once(bool(files.newest(model_dir)), task.keep_checkpoints)
    saver = saving.Saver(model_dir, task.save_every, scaffold)
    return spec._replace(
        training_hooks=[*spec.training_hooks, saver], scaffold=scaffold or spec.scaffold
    )


def _is_frozen(task: Task, model_dir: str) -> bool:
    """Return whether batch norm keeps its statistics in the steps after the newest checkpoint.

    By a batch's own statistics no picture stands out as far as it may by the moving ones, which
    predict. A network that is trained by these in the end learns to bear it (Wu and Johnson 2021,
    Rethinking "Batch" in BatchNorm, section 3).
    """
    if task.freeze_at is None or snapshots.newest_step(model_dir) < task.freeze_at:
        return False
    logging.info('from step %d on batch norm keeps its statistics', task.freeze_at)
    return True


def _with_pictures(task: Task, features, labels):
    """Return the features of a batch with 'image', which is made here where the host only decoded
    it.
    """
    if 'canvas' not in features:
        return features
    data, resolved = task.experiment.data, task.experiment.resolved_ops
    ops = [resolved(one) for one in (data.train_ops, data.late_ops) if one]
    return {**features, 'image': op_string.painted_batch(ops, features, labels)}


def normalized_errors(predicted, features, labels, least_visibility: int = 1):
    """Return the error of each point and which count: visible, in a picture with a normaliser.

    Args:
        predicted: [B, K, 2] crop px.
        features: With 'to_crop' [B, 3, 3].
        labels: 'keypoints' [B, K, 2] crop px, 'visibility' [B, K], 'normalizer' [B] original px.
        least_visibility: Of a point that counts; 0: occluded ones, too.

    Returns:
        errors float32 [B, K], in normalisers (0 where not scored); scored bool [B, K].
    """
    normalizer = labels['normalizer'][:, tf.newaxis]
    scored = tf.logical_and(labels['visibility'] >= least_visibility, normalizer > 0)
    target = tf.where(scored[..., tf.newaxis], labels['keypoints'], predicted)
    to_crop = features['to_crop']
    offsets = views_to_points.to_original(predicted, to_crop) - views_to_points.to_original(
        target, to_crop
    )
    return tf.math.divide_no_nan(tf.norm(offsets, axis=-1), normalizer), scored


def _schema_metric(schema: KeypointSchema, features, labels, predicted, scores):
    """Return the metric that the schema names, for eval_metric_ops; nothing for NE, which is there.

    Args:
        schema: Of the network.
        features: Of the batch.
        labels: Of the batch.
        predicted: [B, K, 2] crop px.
        scores: [B, K].
    """
    if schema.metric == evaluations.NE:
        return {}
    is_oks = schema.metric == 'oks_ap'
    errors, scored = normalized_errors(predicted, features, labels, 0 if is_oks else 1)
    if is_oks:
        return {schema.metric: _known_boxes_precision(schema, features, errors, scored, scores)}
    values = {
        'epe': errors * labels['normalizer'][:, tf.newaxis],
        'pck': tf.cast(errors <= measures.AUC_LIMIT, tf.float32),
        'auc': tf.maximum(1 - errors / measures.AUC_LIMIT, 0),
    }
    return {schema.metric: mean_where(scored, values[schema.metric])}


def _known_boxes_precision(schema: KeypointSchema, features, errors, scored, scores):
    """Return oks.precision_of_known_boxes over all batches, and its update.

    Args:
        schema: Whose normalizers are the roots of the areas.
        features: With 'category' [B].
        errors: [B, K], in normalizers.
        scored: bool [B, K].
        scores: [B, K].
    """
    sigmas = tf.constant(oks.sigmas_of(schema), tf.float32)
    similar = tf.exp(-tf.square(errors / (2 * sigmas)) / 2)
    names = list(schema.categories)
    is_category = tf.equal(features['category'][:, tf.newaxis], names)
    category = tf.argmax(tf.cast(is_category, tf.int32), axis=1)
    points = tf.gather(tf.constant(category_points(names, schema)), category)
    columns = [
        tf.cast(category, tf.float32),
        _mean_of_points(points, scores),
        _mean_of_points(scored, similar),
    ]
    is_counted = tf.reduce_any(scored, axis=1)
    kept, update = _all_rows(tf.boolean_mask(tf.stack(columns, axis=1), is_counted))

    def precision(found: tf.Tensor) -> tf.Tensor:
        return tf.numpy_function(
            lambda table: np.float32(oks.precision_of_known_boxes(*table.T)), [found], tf.float32
        )

    return precision(kept), update


def _mean_of_points(mask: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """Return the mean of values [B, K] where `mask` [B, K] of each picture: [B]; 0 if nowhere."""
    weights = tf.cast(mask, tf.float32)
    return tf.math.divide_no_nan(tf.reduce_sum(values * weights, 1), tf.reduce_sum(weights, 1))


def _all_rows(rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the rows [B, C] of all batches of an evaluation, and the update that adds these."""
    kept = v1.get_variable(
        'rows',
        initializer=tf.zeros([0, rows.shape[1]]),
        trainable=False,
        collections=[v1.GraphKeys.LOCAL_VARIABLES, v1.GraphKeys.METRIC_VARIABLES],
        validate_shape=False,
        use_resource=False,
    )
    update = v1.assign(kept, tf.concat([kept, rows], axis=0), validate_shape=False)
    return tf.ensure_shape(kept, [None, rows.shape[1]]), update


def mean_where(mask: tf.Tensor, values: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the mean of `values` where `mask`, over all batches of an evaluation; NaN if it never
    holds.

    Returns:
        The mean, float32 [], and its update, as tf.compat.v1.metrics give them.
    """
    parts = (tf.where(mask, values, 0.0), tf.cast(mask, tf.float32))
    (total, update_total), (count, update_count) = map(v1.metrics.mean, parts)
    return total / count, update_total / update_count


def _eval_spec(task: Task, features, loss, error, shown, logits):
    errors, scored = error
    metrics = {'normalized_error': mean_where(scored, errors)}
    for category in task.eval_categories:
        own = tf.logical_and(scored, tf.equal(features['category'], category)[:, tf.newaxis])
        metrics[f'normalized_error/{category}'] = mean_where(own, errors)
    if logits.category is not None:
        given = attributes.category_indices(features['category'], task.schema)
        metrics['category_accuracy'] = v1.metrics.accuracy(given, tf.argmax(logits.category, -1))
    hooks = []
    if task.eval_dir:
        # One summary an evaluation: the first batch.
        hooks = [
            v1.train.SummarySaverHook(
                save_steps=10**9, output_dir=task.eval_dir, summary_op=_show(shown)
            )
        ]
    return tf.estimator.EstimatorSpec(
        tf.estimator.ModeKeys.EVAL, loss=loss, eval_metric_ops=metrics, evaluation_hooks=hooks
    )


def _start(task: Task, variables) -> None:
    config, restored = task.experiment.network, ()
    if task.weights:
        report = warm_start.plan(task.weights, variables, task.allow_partial_init, config.backbone)
        checkpoints.apply_warm_start(report, variables)
        warm_start.log_start(report, config.head)
        restored = report.restored
    warm_start.check_frozen(config, variables, restored)


def _batch_error(errors: tf.Tensor, scored: tf.Tensor) -> tf.Tensor:
    """Return the mean of errors [B, K] over the scored points [B, K]; NaN where there are none."""
    total = tf.reduce_sum(tf.where(scored, errors, 0.0))
    return total / tf.reduce_sum(tf.cast(scored, tf.float32))


def _show(pictures) -> tf.Tensor:
    """Return the summary for TensorBoard of tag -> pictures, uint8 [B, H, W, 3]."""
    most = summaries.MAX_IMAGES
    return v1.summary.merge([v1.summary.image(t, p, max_outputs=most) for t, p in pictures.items()])


def _train_spec(task: Task, weights, watched, features, heatmaps, loss_scale):
    """Return the step of the weights; `watched` has the loss, which is minimised, and what else is
    reported of it.
    """
    experiment = task.experiment
    step = v1.train.get_or_create_global_step()
    rate = schedules.learning_rate(experiment.optimizer, experiment.schedule, step, task.length)
    check = functools.partial(
        guards.stop_unless_finite,
        watched['loss'],
        features['image_id'],
        forgives=loss_scale.can_fall if loss_scale else False,
    )
    train_op = training_step.training_step(
        watched['loss'],
        rate,
        weights,
        experiment.optimizer,
        training_step.StepOptions(check, loss_scale, task.compute.recompute),
    )
    train_op = weight_averaging.averaging_step(train_op, weights, experiment, task.length)
    watched = {**watched, 'learning_rate': rate}
    for name, value in watched.items():
        v1.summary.scalar(name, value)
    if task.watch.histograms:
        for variable in weights:
            v1.summary.histogram(f'weights/{variable.name.split(":")[0]}', variable)
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    log = TrainingLog(
        watched,
        training_log.waiting_time(features['image_id']),
        length=task.length,
        batch_size=experiment.data.batch_size * replicas,
        watch=task.watch,
    )
    flat_maps = guards.FlatMaps(heatmaps, experiment.loss.target_scale, task.watch.every)
    return tf.estimator.EstimatorSpec(
        tf.estimator.ModeKeys.TRAIN,
        loss=watched['loss'],
        train_op=train_op,
        training_hooks=[log, flat_maps],
    )


def loss_scale_of(precision: str, model_dir: str) -> loss_scaling.LossScale | None:
    """Return the loss scale of a training in float16, None in other precisions.

    Args:
        precision: As in nets.precision.
        model_dir: Of the network.

    Raises:
        UserError: The training is under way in another precision.
    """
    if precision != 'float16':
        return None
    newest = files.newest(model_dir) if model_dir else None
    if newest and not any(
        n.startswith(loss_scaling.SCOPE) for n, _, _ in checkpoints.list_variables(newest)
    ):
        raise UserError(
            f'--precision=float16: {newest} was trained in another precision and has no loss '
            'scale; go on in float32 or bfloat16, or start a new run with --init_checkpoint'
        )
    return loss_scaling.LossScale()
