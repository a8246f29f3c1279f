"""How a loss becomes the update of a training step, with any update rule.

A rule is a formula for one weight. What surrounds it is written once: gradients are summed
over the replicas, collected over several batches, limited in length; weights decay; Lookahead goes
back half way. All of it happens across replicas, where tf.distribute wants updates to happen, so it
is the same on one device and on many, and all state is in the checkpoint under clean names.
Hyper-parameters are constants of the graph, never variables: a resumed run takes the new value.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import tensorflow as tf

from config import OptimizerConfig
from nets import graph_variables
from nets.names import kind_of
from utility.optim import gradient_checkpointing
from utility.optim.loss_scale import LossScale
from utility.optim.rules import OPTIMIZERS, Update

v1 = tf.compat.v1


class StepOptions(NamedTuple):
    """What a step may be besides an update of the weights.

    Attributes:
        check: f([(gradient, variable)]) -> an op that the update waits for, and may fail.
        loss_scale: Of a network in float16.
        recompute: Whether what takes memory is computed again; see gradient_checkpointing.py.
    """

    check: Callable[[Sequence], tf.Operation] | None = None
    loss_scale: LossScale | None = None
    recompute: bool = False


def training_step(
    loss: tf.Tensor,
    rate: tf.Tensor,
    variables: Sequence,
    config: OptimizerConfig,
    options: StepOptions = StepOptions(),  # noqa: B008  it cannot change
) -> tf.Operation:
    """Return the op of one step: of the weights (with optimizer.accumulate perhaps later), of the
    batch-norm statistics and of the global step.

    Args:
        loss: float32 [], without weight decay.
        rate: Learning rate, float32 [].
        variables: The network's trainable ones.
        config: The optimiser.
        options: What else belongs to the step.
    """
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    loss_scale = options.loss_scale
    gradients_of = loss_scale.gradients if loss_scale else tf.gradients
    if options.recompute:
        gradients_of = gradient_checkpointing.recomputing(gradients_of)
    # What is computed again must be in turn; all else is faster as it comes.
    gradients = gradients_of(loss / replicas, variables, gate_gradients=options.recompute)
    pairs = [(g, v) for g, v in zip(gradients, variables) if g is not None]
    if OPTIMIZERS.get(config.name).decay == 'loss':
        pairs = with_weight_decay(config, pairs, replicas)

    def across_replicas(strategy, pairs, rate):
        return _Updater(strategy, pairs, rate, config, loss_scale).step()

    checks = [options.check(pairs)] if options.check else []
    # One operation to wait for: each change of a weight waits for what is named here.
    first = tf.group(*v1.get_collection(v1.GraphKeys.UPDATE_OPS), *checks)
    with tf.control_dependencies([first]):
        context = tf.distribute.get_replica_context()
        return context.merge_call(across_replicas, args=(pairs, rate))


def decays(config: OptimizerConfig, variable) -> bool:
    """Return whether weight decay applies: by the kind of the variable."""
    kind = kind_of(variable.name.split(':')[0])
    return bool(config.weight_decay) and kind in config.decay_kinds


def with_weight_decay(config: OptimizerConfig, pairs: Sequence, replicas: int) -> list:
    """Return (gradient, variable) of a loss -> of that loss and an L2 loss, weight_decay / 2 times
    the sum of the squares of what decays, of which each replica has its share.
    """
    if not config.weight_decay:
        return list(pairs)
    share = tf.constant(config.weight_decay / replicas)
    return [(g + share * v if decays(config, v) else g, v) for g, v in pairs]


def updates_before(step, config: OptimizerConfig):
    """Return how many updates were made in the first `step` steps."""
    return step // config.accumulate


class _Updater:
    """The changes of one step, in the cross-replica context.

    Args:
        strategy: tf.distribute's; its default one on a single device.
        pairs: A gradient of each replica with its variable; gradients are summed over the replicas.
        rate: Learning rate of each replica, all the same.
        config: The optimiser.
        loss_scale: Or None; where a gradient is not finite, this step then changes no weight.
    """

    def __init__(self, strategy, pairs, rate, config: OptimizerConfig, loss_scale):
        self._strategy, self._config = strategy, config
        self._loss_scale = loss_scale
        self._rule = OPTIMIZERS.get(config.name)
        self._weights = [weight for _, weight in pairs]
        self._gradients = strategy.extended.batch_reduce_to(tf.distribute.ReduceOp.SUM, pairs)
        self._step = v1.train.get_or_create_global_step()
        self._steps_before = self._step.read_value()
        self._count = updates_before(self._steps_before, config)
        self._rate = self._local(rate)
        # Of the whole variable: those of further replicas have other names.
        self._decays = [decays(config, weight) for weight in self._weights]
        # Made here, because within tf.cond they would be made anew.
        slots = self._rule.slots(config)
        self._slots = [self._make(name, initial) for name, initial in slots.items()]
        self._slow = self._make('Lookahead') if config.lookahead_steps else []
        self._sums = self._make('Gradient') if config.accumulate > 1 else []

    def step(self) -> tf.Operation:
        """Return all changes, and then the global step's."""
        changes = [self._accumulate()]
        if self._loss_scale:
            with tf.control_dependencies(changes):
                changes.append(self._loss_scale.adapt(self._strategy, self._is_finite()))
        with tf.control_dependencies(changes):
            return self._strategy.extended.update(
                self._step, lambda step: step.assign_add(1, read_value=False)
            )

    def _accumulate(self):
        """Return an update by the mean gradient of config.accumulate steps, on the last of them."""
        number = self._config.accumulate
        if number == 1:
            return self._where_finite(lambda: self._update(self._gradients))

        def add(_, total, gradient):
            return total.assign_add(gradient / number, read_value=False)

        def clear(_, total):
            return total.assign(tf.zeros_like(total), read_value=False)

        def update_and_clear():
            with tf.control_dependencies([self._update(self._sums)]):
                return self._each(clear, self._sums)

        added = self._where_finite(lambda: self._each(add, self._sums, self._gradients))
        with tf.control_dependencies([added]):
            # Not ==, which in a graph asks whether two tensors are one.
            last = tf.equal(self._steps_before % number, number - 1)
            return self._when(last, update_and_clear)

    def _where_finite(self, change: Callable[[], tf.Operation]):
        """Return the change, with a loss scale only where no gradient has overflowed."""
        return self._when(self._is_finite(), change) if self._loss_scale else change()

    def _is_finite(self) -> tf.Tensor:
        values = [tf.convert_to_tensor(self._local(g)) for g in self._gradients]
        return tf.reduce_all([tf.reduce_all(tf.math.is_finite(value)) for value in values])

    def _update(self, gradients: Sequence):
        """Return one update of the weights, and with Lookahead what comes before and after it."""
        config = self._config
        scale = self._scale(gradients)
        update = Update(self._rate, tf.cast(self._count, tf.float32), config)
        update = update._replace(shared=self._rule.share(update))
        shrinks = self._rule.decay == 'step' and any(self._decays)
        decay = self._rate * config.weight_decay if shrinks else None

        def move(weight, does_decay, gradient, *slots):
            gradient = gradient if scale is None else scale * gradient
            own = update._replace(decay=config.weight_decay * does_decay)
            if not (shrinks and does_decay):
                return self._rule.move(weight, gradient, slots, own)
            # Once there is a gradient, all that it comes from has read the weight.
            with tf.control_dependencies([gradient]):
                shrink = weight.assign_sub(decay * weight, read_value=False)
            with tf.control_dependencies([shrink]):
                return self._rule.move(weight, gradient, slots, own)

        def remember(weight, slow):
            return slow.assign(weight, read_value=False)

        def go_back(weight, slow):
            middle = slow + config.lookahead_alpha * (weight - slow)
            return tf.group(*[v.assign(middle, read_value=False) for v in (slow, weight)])

        lists = (self._decays, gradients, *self._slots)
        if not self._slow:
            return self._each(move, *lists)
        first = tf.equal(self._count, 0)
        remembered = self._when(first, lambda: self._each(remember, self._slow))
        with tf.control_dependencies([remembered]):
            moved = self._each(move, *lists)
        with tf.control_dependencies([moved]):
            last = tf.equal((self._count + 1) % config.lookahead_steps, 0)
            return self._when(last, lambda: self._each(go_back, self._slow))

    def _scale(self, gradients: Sequence):
        """Return the factor that limits the norm of gradients to clip_norm; None: no limit."""
        limit = self._config.clip_norm
        if not limit:
            return None
        norm = tf.linalg.global_norm([tf.convert_to_tensor(self._local(g)) for g in gradients])
        return limit / tf.maximum(norm, limit)

    def _each(self, change: Callable, *lists: Sequence) -> tf.Operation:
        """Return change(weight, *values) for all weights, with their values in the lists."""
        update = self._strategy.extended.update
        rows = zip(self._weights, *lists)
        return tf.group(*[update(weight, change, args=tuple(values)) for weight, *values in rows])

    def _when(self, condition: tf.Tensor, change: Callable[[], tf.Operation]):
        return tf.cond(condition, change, tf.no_op)

    def _local(self, value):
        """Return the value of one replica, of a value that is the same on all."""
        return self._strategy.experimental_local_results(value)[0]

    def _make(self, name: str, initial: Callable = tf.zeros) -> list:
        """Return a variable 'weight/name' for each weight, initial(shape, dtype) of it at first."""
        if initial is tf.zeros and graph_variables.is_lean():
            return graph_variables.zeros_beside(name, self._weights)

        def make(weight):
            with tf.init_scope():
                value = initial(weight.shape, weight.dtype)  # which may be of another shape
            with tf.name_scope(weight.name.split(':')[0] + '/'):
                return graph_variables.make(
                    name, value.shape, lambda: value, value.dtype, trainable=False
                )

        colocated = self._strategy.extended.colocate_vars_with
        made = []
        for weight in self._weights:
            with colocated(weight):
                made.append(make(weight))
        return made
