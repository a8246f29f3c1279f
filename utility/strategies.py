"""Over which devices a training is spread: tf.distribute, by name."""

from __future__ import annotations

STRATEGIES = ('none', 'mirrored')


def make_strategy(name: str):
    """The distribution strategy, None for a single device, and over how many replicas a batch is
    spread."""
    import tensorflow as tf

    if name == 'none':
        return None, 1
    devices = tf.config.list_logical_devices('GPU') or tf.config.list_logical_devices('CPU')
    # The default all-reduce hangs in an Estimator when all devices are CPUs.
    reduction = tf.distribute.ReductionToOneDevice() if devices[0].device_type == 'CPU' else None
    strategy = tf.distribute.MirroredStrategy([d.name for d in devices], reduction)
    return strategy, strategy.num_replicas_in_sync
