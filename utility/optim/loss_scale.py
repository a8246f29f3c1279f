"""Loss scaling: what makes gradients in float16 usable (Micikevicius et al. 2018, section 3.2).

float16 holds nothing below 6e-8 and nothing above 65504. The loss is multiplied by a scale before
the gradients are taken, so that small ones do not vanish, and the gradients are divided by it.
Where one overflows, the weights are left as they are and the scale is halved; after many good steps
it is doubled. A skipped step is a step still: of the schedule, and of the statistics of batch norm.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

v1 = tf.compat.v1

INITIAL = 2.0**15
GROWTH_STEPS = 2000  # good ones in a row, after which the scale is doubled
_LEAST, _MOST = 1.0, 2.0**24
SCOPE = 'loss_scale/'


class LossScale:
    """The scale, a variable of the checkpoint; made in the graph of a training, in its replicas.

    Attributes:
        value: The scale of this step, float32 [].
        can_fall: Whether it can be less, bool [].
    """

    def __init__(self):
        options = {'trainable': False, 'use_resource': True}
        with tf.name_scope(SCOPE):
            self._scale = v1.Variable(lambda: tf.constant(INITIAL), name='scale', **options)
            zero = lambda: tf.constant(0, tf.int64)  # noqa: E731
            self._good_steps = v1.Variable(zero, name='good_steps', **options)
        self.value = self._scale.read_value()
        self.can_fall = self.value > _LEAST

    def gradients(self, loss: tf.Tensor, variables: Sequence, **options) -> list[tf.Tensor]:
        """Return tf.gradients, taken of the scaled loss; not finite where they overflow."""
        gradients = tf.gradients(self.value * loss, variables, **options)
        return [g if g is None else g / self.value for g in gradients]

    def adapt(self, strategy, is_finite: tf.Tensor) -> tf.Operation:
        """Make the scale of the next step. In the cross-replica context.

        Args:
            strategy: tf.distribute's.
            is_finite: bool [], whether all gradients are, of all replicas.

        """
        scale, good_steps = (
            strategy.experimental_local_results(v.read_value())[0]
            for v in (self._scale, self._good_steps)
        )
        grows = tf.equal(good_steps + 1, GROWTH_STEPS)
        good_steps = tf.where(is_finite & ~grows, good_steps + 1, 0)
        factor = tf.where(is_finite, tf.where(grows, 2.0, 1.0), 0.5)
        scale = tf.clip_by_value(scale * factor, _LEAST, _MOST)
        update = strategy.extended.update
        return tf.group(
            *[
                update(variable, lambda v, new: v.assign(new, read_value=False), args=(new,))
                for variable, new in ((self._scale, scale), (self._good_steps, good_steps))
            ]
        )
