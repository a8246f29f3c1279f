"""The order of records.

The stream of a training is a function of the seed alone: record number i of it is the same in every
run, on one device or many, whether the run began at step 0 or goes on from a checkpoint.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from typing import Any, NamedTuple

import tensorflow as tf

from preprocessing import records

# What is compiled runs in a thread of XLA, for which that of tf.data waits: others take its core.
THREADS_PER_CORE = 2
# Not tf.data.AUTOTUNE: its thread sleeps for up to a minute, and an iterator ends when it wakes up.
PARALLEL_CALLS = THREADS_PER_CORE * (os.cpu_count() or 1)
# Files that are open at a time; of a larger training set each is one of several, in random order.
MAX_OPEN_FILES = 64
READ_BYTES = 2**20  # at a time, of each open file: what a request to remote storage is worth
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


class _Files(NamedTuple):
    """Files and how many records each of them holds."""

    paths: list[str]
    counts: list[int]


def untuned() -> tf.data.Options:
    """Return the options of a dataset whose numbers of parallel calls are given."""
    options = tf.data.Options()
    options.autotune.enabled = False
    return options


def share_of(input_context: Any) -> tuple[int, int]:
    """Return which of how many input pipelines this is."""
    if input_context is None:
        return 1, 0
    return input_context.num_input_pipelines, input_context.input_pipeline_id


def pictures_per_step(batch_size: int, input_context: Any) -> int:
    """Return how many records of the stream a step consumes; batch_size is that of a replica."""
    replicas = 1 if input_context is None else input_context.num_replicas_in_sync
    return replicas * batch_size


def in_order(files: list[str], input_context: Any = None) -> tf.data.Dataset:
    """Return (index, serialized record) of a pipeline's share, once."""
    return tf.data.TFRecordDataset(files).enumerate().shard(*share_of(input_context))


def shuffled(
    files: list[str], seed: int, order: Order, batch_size: int, input_context: Any = None
) -> tf.data.Dataset:
    """Return endless (place in the stream, serialized record) of a pipeline's share.

    The stream is epoch after epoch, each of which holds every record once, in an order of its own.
    Each part of an epoch holds its share of every file, and each record is as likely to come early
    as late, whatever the buffer: that only parts records which are neighbors in their file.
    With R replicas step s consumes the records s * R * batch_size and following, whatever the
    number of pipelines: of n pipelines the i-th takes each n-th of them, from i on. Every pipeline
    reads all records, which is cheap beside decoding them, and keeps those of its share.

    To start at a step reads the records of its epoch that come before, at most one epoch.
    """
    first = order.start_step * pictures_per_step(batch_size, input_context)
    epoch, position = divmod(first, order.num_records) if first else (0, 0)
    epochs, counted = tf.data.Dataset.counter(epoch), _Files(files, records.count_in_files(files))
    stream = epochs.flat_map(functools.partial(_epoch, counted, seed, order)).skip(position)
    return stream.enumerate(first).shard(*share_of(input_context))


@tf.autograph.experimental.do_not_convert
def _epoch(files: _Files, seed: int, order: Order, number: tf.Tensor) -> tf.data.Dataset:
    """Return the serialized records of one epoch, in its order."""
    # Of the function that is being traced alone; without it, another graph would be another order.
    tf.random.set_seed(1 + seed % _NUM_SEEDS)
    num_lanes = min(len(files.paths), MAX_OPEN_FILES)
    dealt = tf.argsort(_uniform(len(files.paths), seed, number, 0))
    paths = tf.gather(files.paths, dealt)
    counts = tf.gather(tf.constant(files.counts, tf.int64), dealt)
    sizes = tf.stack([tf.reduce_sum(counts[lane::num_lanes]) for lane in range(num_lanes)])
    starts = tf.cast(_uniform(num_lanes, seed, number, 1) * tf.cast(sizes, tf.float64), tf.int64)
    lanes = [_lane(paths[lane::num_lanes], starts[lane]) for lane in range(num_lanes)]
    turns = tf.data.Dataset.from_tensor_slices(_turns(sizes, sum(files.counts), seed, number))
    mixed = tf.data.Dataset.choose_from_datasets(lanes, turns, stop_on_empty_dataset=False)
    mixed = mixed.shuffle(order.shuffle_buffer, number, reshuffle_each_iteration=False)
    if order.num_records is None:
        return mixed
    return mixed.apply(tf.data.experimental.assert_cardinality(order.num_records))


def _lane(paths: tf.Tensor, start: tf.Tensor) -> tf.data.Dataset:
    """Return the records of files that are read one after the other, from the record `start` on and
    round to it, so that none of them always comes early in an epoch.
    """
    lane = tf.data.TFRecordDataset(paths, buffer_size=READ_BYTES)
    return lane.skip(start).concatenate(lane.take(start))


def _turns(sizes: tf.Tensor, total: int, seed: int, number: tf.Tensor) -> tf.Tensor:
    """Return which lane gives the next record, int64 [total]: each at about even distances, so that
    any part of an epoch holds its share of every lane.
    """
    lanes = tf.repeat(tf.range(tf.size(sizes, tf.int64)), sizes)
    rank = tf.range(tf.size(lanes, tf.int64)) - tf.gather(tf.cumsum(sizes, exclusive=True), lanes)
    place = tf.cast(rank, tf.float64) + _uniform(total, seed, number, 2)
    return tf.gather(lanes, tf.argsort(place / tf.cast(tf.gather(sizes, lanes), tf.float64)))


def _uniform(count: int, seed: int, number: tf.Tensor, use: int) -> tf.Tensor:
    """Return float64 [count] in [0, 1), of an epoch; each `use`, from 0 to 2, draws others."""
    pair = tf.stack([tf.constant(seed, tf.int64), 3 * number + use])
    return tf.random.stateless_uniform([count], pair, dtype=tf.float64)
