"""A split of records and a run to predict it with, both of noise: what speed and memory need."""

from __future__ import annotations

import json
import os

import numpy as np

from benchmarks.common import synthetic_data
from config import Experiment
from preprocessing.datasets import Annotation, schema_of
from preprocessing.datasets.fashionai import SCHEMA
from preprocessing.files import write_bytes
from utility.checkpoints import runs, snapshots
from utility.checkpoints.variables import variable_name

SPLIT = 'val'
CATEGORY = 'blouse'
_NUM_DISTINCT = 64  # pictures, after which they repeat


def write_split(records_dir: str, num_images: int, size: int) -> str:
    """Write a labelled split of square pictures.

    Args:
        records_dir: Where dataset.json is written, too.
        num_images: How many, each with an id of its own; after _NUM_DISTINCT pictures repeat.
        size: Of the pictures, px.

    Returns:
        The folder of the split.
    """
    from preprocessing import records

    split_dir = os.path.join(records_dir, SPLIT)
    os.makedirs(split_dir)
    columns = list(SCHEMA.indices(CATEGORY))
    visibility = np.full(SCHEMA.num_keypoints, -1, np.int32)
    visibility[columns] = 1
    jpegs = [synthetic_data.draw_jpeg(seed, size) for seed in range(min(num_images, _NUM_DISTINCT))]
    points = np.random.default_rng(0).uniform(0, size, [len(jpegs), SCHEMA.num_keypoints, 2])
    with records.shard_writer(records.shard_path(split_dir, CATEGORY, 0, 1)) as write:
        for number in range(num_images):
            name, index = f'{CATEGORY}/{number}.jpg', number % len(jpegs)
            annotation = Annotation(name, name, CATEGORY, points[index], visibility)
            write(records.encode_example(jpegs[index], annotation, (size, size)))
    info = {
        'dataset': SCHEMA.name,
        'schema': {'keypoints': list(SCHEMA.keypoints)},
        'splits': {SPLIT: {'labelled': True, 'records': {CATEGORY: num_images}}},
    }
    write_bytes(os.path.join(records_dir, records.DATASET_FILE), json.dumps(info).encode())
    return split_dir


def write_run(folder: str, experiment: Experiment) -> str:
    """Write a run whose one network, of all categories, has its initial weights; its folder."""
    import tensorflow as tf

    from nets import build_network

    v1 = tf.compat.v1
    num_keypoints = schema_of(experiment.data).num_keypoints
    with tf.Graph().as_default(), v1.Session() as session:
        tf.random.set_seed(experiment.seed)
        network = build_network(experiment.network, num_keypoints)
        network(tf.zeros([1, *experiment.network.image_size, 3]), False)
        session.run(v1.global_variables_initializer())
        weights = {variable_name(v): session.run(v) for v in network.variables}
    runs.keep_experiment(folder, experiment, None)
    snapshots.replace(folder, 1, weights)
    return folder
