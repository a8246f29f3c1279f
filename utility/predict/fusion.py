"""Several networks as one predictor: their heat maps, or their points, averaged picture by picture.

The networks run side by side, each in a thread of its own (the graph of tf.estimator is a thread's
own), and no picture's heat maps outlive it: memory does not grow with the number of pictures.
"""

from __future__ import annotations

import dataclasses
import itertools
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
import tensorflow as tf

from config import Experiment, UserError
from nets import precision
from preprocessing.datasets import schema_of
from preprocessing.schema import KeypointSchema
from utility.checkpoints import choice, runs
from utility.codecs.heatmaps import HeatmapCodec
from utility.losses.attributes import attribute_sizes
from utility.predict import map_features, probabilities, test_time_augmentation, views_to_points
from utility.predict.views_to_points import PredictOptions
from utility.statistics.reliability import GroupScalings, Scaling

_END = object()
_HELD = 32  # pictures that a network may be ahead of the others
_POLL = 0.2  # s
# What some networks tell of a picture beside its points.
TOLD = ('category_probabilities', 'presence')


@dataclasses.dataclass(frozen=True)
class TrainedNetwork:
    """A network of a run, ready to predict.

    Attributes:
        folder: With its checkpoints.
        checkpoint: Prefix of the one that is used.
        experiment: What was trained, and how to decode.
        full_schema: Of the data set.
        schema: Of the network: of one category or of all.
        scalings: Of the probabilities in TOLD, by name.
    """

    folder: str
    checkpoint: str
    experiment: Experiment
    full_schema: KeypointSchema
    schema: KeypointSchema
    scalings: Mapping[str, Scaling | GroupScalings] = dataclasses.field(default_factory=dict)

    @property
    def columns(self) -> list[int]:
        """The positions of its keypoints in the full schema."""
        return list(self.schema.record_positions)


def load_network(folder: str, options: PredictOptions, scratch: str = '') -> TrainedNetwork:
    """Return the network of a folder; `scratch` is as of choice.choose."""
    experiment = runs.load_experiment(folder)
    if options.refine:
        experiment = dataclasses.replace(experiment, refine=options.refine)
    full = schema_of(experiment.data)
    checkpoint = choice.choose(folder, options.checkpoint, scratch)
    schema = full.subset(experiment.data.category)
    return TrainedNetwork(folder, checkpoint, experiment, full, schema, probabilities.read(folder))


def common_categories(run_dirs: Sequence[str]) -> list[str]:
    """Return the categories that each of the runs has a network for."""
    known = [runs.networks(run_dir).keys() for run_dir in run_dirs]
    categories = runs.schema_of(run_dirs[0]).categories
    return [c for c in categories if all({c, 'all'} & names for names in known)]


def tells_category(run_dirs: Sequence[str]) -> bool:
    """Return whether runs, as one predictor, need not be told what a picture shows.

    Where categories have networks of their own, none of these could be asked first.
    """
    categories = common_categories(run_dirs)
    groups = list(networks_of_runs(run_dirs, categories)) if categories else []
    if len(groups) != 1:
        return False
    experiments = map(runs.load_experiment, groups[0])
    schema = runs.schema_of(run_dirs[0])
    return any(
        attribute_sizes(own.loss, schema.subset(own.data.category)).num_categories
        for own in experiments
    )


def networks_of_runs(
    run_dirs: Sequence[str], categories: Iterable[str]
) -> dict[tuple[str, ...], list[str]]:
    """Return which networks, one of each run, predict which categories: folders -> categories."""
    categories = list(categories)
    by_category: dict[str, list[str]] = {category: [] for category in categories}
    for run_dir in run_dirs:
        for folder, own in runs.networks_for(run_dir, categories).items():
            for category in own:
                by_category[category].append(folder)
    chosen: dict[tuple[str, ...], list[str]] = {}
    for category, folders in by_category.items():
        chosen.setdefault(tuple(folders), []).append(category)
    return chosen


def trained_networks(
    run_dirs: Sequence[str], categories: Iterable[str], options: PredictOptions, scratch: str = ''
) -> list[tuple[list[TrainedNetwork], list[str]]]:
    """Return what networks_of_runs finds, ready to predict; `scratch` is as of choice.choose.

    Raises:
        UserError: One has no such checkpoint, a path would stand for those of several, two are of
            other keypoints or categories, or this machine cannot compute as options.compute asks.
    """
    precision.check(options.compute)
    found = networks_of_runs(run_dirs, categories)
    folders = sorted({folder for together in found for folder in together})
    if options.checkpoint.is_path and len(folders) > 1:
        raise UserError(
            f'checkpoint={options.checkpoint.which!r} is a path, of one network, but there are '
            f'{", ".join(folders)}; give a name that each of these folders holds'
        )
    loaded = {folder: load_network(folder, options, scratch) for folder in folders}
    _check_one_schema(list(loaded.values()))
    return [([loaded[folder] for folder in together], own) for together, own in found.items()]


def _check_one_schema(networks: Sequence[TrainedNetwork]) -> None:
    """Refuse networks whose points, or probabilities of categories, are not in the same order."""
    first = networks[0]
    for network in networks[1:]:
        own, other = first.full_schema, network.full_schema
        if own.keypoints != other.keypoints or [*own.categories] != [*other.categories]:
            raise UserError(
                f'{network.folder} is for other keypoints or categories ({other.name!r}) than '
                f'{first.folder} ({own.name!r}): they cannot predict together'
            )


def common_heatmap_size(networks: Sequence[TrainedNetwork]) -> tuple[int, int]:
    """Return the size in which the heat maps of several networks are averaged: that of the finest.

    Raises:
        UserError: The networks do not see the same part of a picture.
    """
    first = networks[0].experiment
    height, width = first.network.image_size
    for network in networks[1:]:
        experiment = network.experiment
        other_height, other_width = experiment.network.image_size
        if height * other_width != width * other_height:
            raise UserError(
                f'{network.folder}: pictures of {experiment.network.image_size} have other '
                f'proportions than {first.network.image_size} of {networks[0].folder}; '
                "their heat maps cannot be averaged, but points can: fuse='keypoints'"
            )
        if experiment.data.eval_ops != first.data.eval_ops:
            raise UserError(
                f'{network.folder}: data.eval_ops={experiment.data.eval_ops!r}, but '
                f'{first.data.eval_ops!r} in {networks[0].folder}; heat maps cannot be '
                "averaged, but points can: fuse='keypoints'"
            )
    sizes = [tuple(network.experiment.network.map_size) for network in networks]
    return max(sizes, key=lambda size: size[0] * size[1])


def together(
    sources: Sequence[Callable[[], Iterator[dict]]],
    networks: Sequence[TrainedNetwork],
    options: PredictOptions,
) -> Iterator[dict]:
    """Yield one row a picture, from the rows that each network gives for the same pictures.

    Args:
        sources: For each network, what starts its rows: 'image_id', 'category', 'image_size', and
            'keypoints' and 'scores', or 'heatmaps' and 'to_crop' where heat maps are averaged; of
            TOLD what the network tells.
        networks: The same number.

    Yields:
        'image_id', 'category', 'image_size', 'keypoints' [K, 2] original px and 'scores' [K], K of
        the full schema; 0 for what the networks do not have. Of TOLD the means over the networks
        that tell it: 'category_probabilities' [C], 'presence' [K, 3]. If the options want them,
        'map_features' [K, 3].
    """
    if len(sources) == 1:
        (network,) = networks
        for row in sources[0]():
            names = ('keypoints', 'scores', *(['map_features'] if options.map_features else []))
            points = {name: row[name] for name in names}
            yield _in_full([row], points, network.columns, networks)
        return
    steps = zip(*(_beside(source) for source in sources))
    fuse = _fused_points if options.fuse == 'heatmaps' else _mean_points
    while batch := list(itertools.islice(steps, options.batch_size)):
        yield from fuse(batch, networks, options)


def _beside(start: Callable[[], Iterator[dict]]) -> Iterator[dict]:
    """Yield the items of an iterator that runs in a thread of its own, some items ahead."""
    items: queue.Queue = queue.Queue(_HELD)
    stopped = threading.Event()

    def put(item) -> bool:
        while not stopped.is_set():
            try:
                items.put(item, timeout=_POLL)
                return True
            except queue.Full:
                continue
        return False

    def work():
        try:
            for item in start():
                if not put(item):
                    return
            put(_END)
        except Exception as error:  # told in the thread that waits for it
            put(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while (item := items.get()) is not _END:
            if isinstance(item, Exception):
                raise item
            yield item
    finally:
        stopped.set()
        thread.join()


def _common_columns(networks: Sequence[TrainedNetwork]) -> list[int]:
    return sorted(set.intersection(*(set(network.columns) for network in networks)))


def _of_columns(values: np.ndarray, network: TrainedNetwork, columns: list[int], axis: int):
    """Return, of the values of a network's keypoints along `axis`, those of some columns."""
    places = [network.columns.index(column) for column in columns]
    return np.take(values, places, axis=axis)


def _fused_points(batch: list[tuple], networks, options: PredictOptions) -> Iterator[dict]:
    """Yield the rows of a batch from the means of the networks' heat maps."""
    columns = _common_columns(networks)
    maps = np.stack(
        [
            np.stack([_of_columns(rows[i]['heatmaps'], network, columns, 2) for rows in batch])
            for i, network in enumerate(networks)
        ],
        axis=1,
    )
    mean = maps.mean(axis=1)
    first = networks[0].experiment
    codec = HeatmapCodec(
        first.network.image_size,
        mean.shape[1:3],
        refine=first.refine,
        smoothing=options.smoothing,
    )
    points, scores = codec.decode(tf.constant(mean))
    to_crop = tf.constant(np.stack([rows[0]['to_crop'] for rows in batch]))
    values = {'keypoints': views_to_points.to_original(points, to_crop), 'scores': scores}
    if options.map_features:
        to_view = to_crop[:, tf.newaxis]
        values['map_features'] = map_features.of_maps(tf.constant(maps), mean, to_view, codec)
    values = {name: value.numpy() for name, value in values.items()}
    for place, rows in enumerate(batch):
        own = {name: value[place] for name, value in values.items()}
        yield _in_full(rows, own, columns, networks)


def _mean_points(batch: list[tuple], networks, options: PredictOptions) -> Iterator[dict]:
    """Yield the rows of a batch from the score-weighted means of the networks' points."""
    columns = _common_columns(networks)
    for rows in batch:
        pairs = [
            (_of_columns(r['keypoints'], n, columns, 0), _of_columns(r['scores'], n, columns, 0))
            for r, n in zip(rows, networks)
        ]
        keypoints, scores = (np.stack(values)[np.newaxis] for values in zip(*pairs))
        points, means = test_time_augmentation.fuse_keypoints(
            tf.constant(keypoints), tf.constant(scores)
        )
        values = {'keypoints': points[0].numpy(), 'scores': means[0].numpy()}
        if options.map_features:
            own = [_of_columns(r['map_features'], n, columns, 0) for r, n in zip(rows, networks)]
            values['map_features'] = map_features.of_networks(np.stack(own), keypoints[0])
        yield _in_full(rows, values, columns, networks)


def _in_full(rows: Sequence[dict], points: dict, columns: list[int], networks) -> dict:
    """Return a row over the full schema from what is known of the points of some of its columns.

    Args:
        rows: Of the networks, for one picture.
        points: Of the columns, 'keypoints' and 'scores' among them: name -> [k, ..].
        columns: Of the full schema.
        networks: As many as rows.
    """
    num_keypoints = networks[0].full_schema.num_keypoints
    row = {name: rows[0][name] for name in ('image_id', 'category', 'image_size')}
    for name, values in points.items():
        row[name] = np.zeros((num_keypoints, *values.shape[1:]), np.float32)
        row[name][columns] = values
    telling = [own['category_probabilities'] for own in rows if 'category_probabilities' in own]
    if telling:
        row['category_probabilities'] = np.mean(telling, axis=0)
    pairs = [(own, network) for own, network in zip(rows, networks) if 'presence' in own]
    if pairs:
        parts = [_of_columns(own['presence'], network, columns, 0) for own, network in pairs]
        row['presence'] = np.zeros((num_keypoints, parts[0].shape[-1]), np.float32)
        row['presence'][columns] = np.mean(parts, axis=0)
    return row
