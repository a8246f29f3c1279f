"""How the first public system for this contest predicts, to compare with.

One picture at a time, warped with a plain resize; all maps decoded one by one; for the second pass
the network is in the graph a second time. With any network and weights of this project. What it
makes of its points does not matter here, only what it costs; so its margins are not explained.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import tensorflow as tf

from preprocessing import records
from preprocessing.datasets import schema_of
from utility.checkpoints import runs

v1 = tf.compat.v1

_STEP = 0.25  # cells, towards the second largest cell; px, towards the mirrored picture's point
_MARGIN = (100.0, 80.0)  # px around the points of the first pass, in x and in y


def predictions(
    run_dir: str, split_dir: str, flip_test: bool, passes: int
) -> Iterator[dict[str, tf.Tensor]]:
    """Predict the pictures of a split over and over; yield one row a picture.

    Args:
        run_dir: Of one network of all categories.
        flip_test: Whether to look at the mirrored picture too.
        passes: 1, or 2 to look again at the box around the points.
    """
    from nets import build_network

    experiment = runs.load_experiment(run_dir)
    schema = schema_of(experiment.data)
    with tf.Graph().as_default(), v1.Session() as session:
        files = records.record_files(records.split_patterns(split_dir, 'all'))
        dataset = records.decoded(tf.data.TFRecordDataset(files).repeat(), schema)
        decode = tf.autograph.experimental.do_not_convert(_with_image)
        dataset = dataset.map(decode, tf.data.AUTOTUNE).prefetch(64)
        example = v1.data.make_one_shot_iterator(dataset).get_next()
        network = build_network(experiment.network, schema.num_keypoints)
        permutation = schema.flip_permutation if flip_test else None

        def look(image):
            return _points(network, image, experiment.network.image_size, permutation)

        points = look(example['image'])
        if passes == 2:
            points = _second_look(look, example['image'], points)
        v1.train.Saver(network.variables).restore(session, tf.train.latest_checkpoint(run_dir))
        fetched = {'image_id': example['image_id'], 'points': points}
        run = session.make_callable(fetched)
        while True:
            yield run()


def seconds_per_image(
    run_dir: str, split_dir: str, flip_test: bool, passes: int, count: int
) -> Iterator[float]:
    """Yield the seconds of `count` pictures, time after time, without the building of the graph.

    A row a picture is added to a table, as the system does.
    """
    import pandas as pd

    rows = predictions(run_dir, split_dir, flip_test, passes)
    next(rows)
    while True:
        start = time.perf_counter()
        table = None
        for number in range(count):
            row = next(rows)
            cells = [row['image_id'].decode(), *(f'{x:.0f}_{y:.0f}_1' for x, y in row['points'])]
            if table is None:
                table = pd.DataFrame(columns=range(len(cells)))
            table.loc[number] = cells
        yield (time.perf_counter() - start) / count


def _with_image(example):
    return {**example, 'image': tf.io.decode_jpeg(example['encoded'], channels=3)}


def _points(network, image: tf.Tensor, size, permutation) -> tf.Tensor:
    """Return [K, 2] px of a picture [H, W, 3]; `permutation`: of the flip test, or None."""
    resized = v1.image.resize_bilinear(image[tf.newaxis], size)
    looks = [resized] if permutation is None else [resized, resized[:, :, ::-1]]
    maps = tf.transpose(network(tf.concat(looks, axis=0), False)[-1], [0, 3, 1, 2])
    frame = tf.cast(tf.shape(image)[:2], tf.float32)
    points = _decoded(maps[0], frame)
    if permutation is None:
        return points
    mirrored = tf.map_fn(lambda rows: rows[:, ::-1], tf.gather(maps[1], list(permutation)))
    return points + _short_step(points, _decoded(mirrored, frame))


def _decoded(maps: tf.Tensor, frame: tf.Tensor) -> tf.Tensor:
    """Return points [K, 2], px of a frame (height, width), of maps [K, h, w] one by one."""
    height, width = maps.shape[1:]

    def cell(index):
        return tf.cast(tf.stack([index % width, index // width]), tf.float32)

    def decode(heatmap):
        values = tf.reshape(heatmap, [-1])
        peak = tf.argmax(values, output_type=tf.int32)
        below_peak = values * (1.0 - tf.one_hot(peak, height * width))
        second_peak = tf.argmax(below_peak, output_type=tf.int32)
        return cell(peak) + _short_step(cell(peak), cell(second_peak))

    cells = tf.constant([width, height], tf.float32)
    return tf.map_fn(decode, maps) * tf.reverse(frame, [0]) / cells


def _short_step(start: tf.Tensor, end: tf.Tensor) -> tf.Tensor:
    """Return a step of fixed length from points [.., 2] towards others."""
    way = end - start
    return _STEP * tf.math.divide_no_nan(way, tf.norm(way, axis=-1, keepdims=True))


def _second_look(look, image: tf.Tensor, points: tf.Tensor) -> tf.Tensor:
    """Return the points of the box around those of a first look, in px of the whole picture."""
    last_pixel = tf.cast(tf.reverse(tf.shape(image)[:2], [0]) - 1, tf.float32)
    low = tf.maximum(tf.floor(tf.reduce_min(points, axis=0)) - _MARGIN, 0.0)
    high = tf.minimum(tf.floor(tf.reduce_max(points, axis=0)) + _MARGIN, last_pixel)
    (left, top), (right, bottom) = (tf.unstack(tf.cast(end, tf.int32)) for end in (low, high))
    crop = image[top:bottom, left:right]
    return look(crop) + low
