"""The order of records.

The stream of a training is a function of the seed alone: record number i of it is the same in every
run, on one device or many, whether the run began at step 0 or goes on from a checkpoint.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import tensorflow as tf

# Files that are open at a time; a larger training set is read in random groups of that many.
MAX_OPEN_FILES = 64
PARALLEL_READS = 4
# A pair of zeros would be no seed at all.
_NUM_SEEDS = 2**31 - 2


@dataclasses.dataclass(frozen=True)
class Order:
    """How a training goes through its records.

    Attributes:
        shuffle_buffer: Records, still compressed, that are held in memory to draw from.
        num_records: Of an epoch; another number is an error when it shows. None: not known.
        start_step: Global step to start at: the batches that each replica has consumed before.
            Where several batches make one update of the weights, each of them counts.
    """

    shuffle_buffer: int = 2000
    num_records: int | None = None
    start_step: int = 0

    def __post_init__(self):
        for name, least in (('shuffle_buffer', 1), ('num_records', 1), ('start_step', 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f'{name}={value!r}: must be at least {least}')
        if self.start_step and self.num_records is None:
            raise ValueError(f'start_step={self.start_step!r}: needs num_records')


def share_of(input_context: Any) -> tuple[int, int]:
    """Of how many input pipelines this is which."""
    if input_context is None:
        return 1, 0
    return input_context.num_input_pipelines, input_context.input_pipeline_id


def pictures_per_step(batch_size: int, input_context: Any) -> int:
    """How many records of the stream a step consumes; batch_size is that of a replica."""
    replicas = 1 if input_context is None else input_context.num_replicas_in_sync
    return replicas * batch_size


def in_order(files: list[str], input_context: Any = None) -> tf.data.Dataset:
    """(index, serialized record) of a pipeline's share, once."""
    return tf.data.TFRecordDataset(files).enumerate().shard(*share_of(input_context))


def shuffled(
    files: list[str], seed: int, order: Order, batch_size: int, input_context: Any = None
) -> tf.data.Dataset:
    """Endless (index, serialized record) of a pipeline's share; `index` is the place in the stream.

    The stream is epoch after epoch, each of which holds every record once, in an order of its own.
    With R replicas step s consumes the records s * R * batch_size and following, whatever the
    number of pipelines: of n pipelines the i-th takes each n-th of them, from i on. Every pipeline
    reads all records, which is cheap beside decoding them, and keeps those of its share.

    To start at a step reads the records of its epoch that come before, at most one epoch.
    """
    first = order.start_step * pictures_per_step(batch_size, input_context)
    epoch, position = divmod(first, order.num_records) if first else (0, 0)
    epochs = tf.data.Dataset.counter(epoch)
    stream = epochs.flat_map(lambda number: _epoch(files, seed, order, number)).skip(position)
    return stream.enumerate(first).shard(*share_of(input_context))


@tf.autograph.experimental.do_not_convert
def _epoch(files: list[str], seed: int, order: Order, number: tf.Tensor) -> tf.data.Dataset:
    """The serialized records of one epoch, in its order."""
    # Of the function that is being traced alone; without it, another graph would be another order.
    tf.random.set_seed(1 + seed % _NUM_SEEDS)
    num_open = min(len(files), MAX_OPEN_FILES)
    records = tf.data.Dataset.from_tensor_slices(files)
    records = records.shuffle(len(files), 2 * number, reshuffle_each_iteration=False)
    records = records.interleave(
        tf.data.TFRecordDataset,
        cycle_length=num_open,
        num_parallel_calls=min(num_open, PARALLEL_READS),
        deterministic=True,
    )
    records = records.shuffle(order.shuffle_buffer, 2 * number + 1, reshuffle_each_iteration=False)
    if order.num_records is None:
        return records
    return records.apply(tf.data.experimental.assert_cardinality(order.num_records))
