"""The one run loop: what every train script calls.

A train script is an Experiment and `runner.train_main(EXPERIMENT)`. TensorFlow is imported when
work starts, so that `--help` and mistakes in a flag answer at once.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import sys
from collections.abc import Mapping

from absl import flags, logging

import config
from config import Experiment
from utility import command_line

_STRATEGIES = ('none', 'mirrored')
_SPLITS = ('train', 'val')


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """What depends on the machine and the occasion, not on the experiment.

    Attributes:
        data_dir: Records, as convert_tfrecords.py wrote them.
        model_dir: The run; each network is kept in a folder of its own in it.
        category: 'each', 'all' or a comma list of categories.
        init_checkpoint: Weights to start from, of any kind that utility/pretrained.py reads.
        allow_partial_init: Whether these may fill a part of the backbone only.
        strategy: 'none' or 'mirrored'.
        log_every: Steps between two lines of the log.
        save_every: Steps between two checkpoints.
    """

    data_dir: str
    model_dir: str
    category: str = 'each'
    init_checkpoint: str | None = None
    allow_partial_init: bool = False
    strategy: str = 'none'
    log_every: int = 20
    save_every: int = 1000


def _define_flags(default_model_dir: str) -> None:
    flags.DEFINE_string(
        'data_dir',
        os.path.join(config.DEFAULT_DATA_DIR, config.DEFAULT_RECORDS_SUBDIR),
        'Records, as convert_tfrecords.py wrote them.',
    )
    flags.DEFINE_string('model_dir', default_model_dir, 'Where the run is kept, and resumed from.')
    flags.DEFINE_string(
        'category',
        'each',
        "'each': a network per category, one after the other; 'all': one network for all; or a "
        'comma list of categories.',
    )
    flags.DEFINE_multi_string('set', [], 'key=value of the experiment, repeatable.')
    weights = 'Weights to start from; `python -m utility.pretrained --list` says where to get some.'
    flags.DEFINE_string('init_checkpoint', None, weights)
    flags.DEFINE_boolean('allow_partial_init', False, 'Accept weights that cover a part.')
    flags.DEFINE_boolean('run_on_cloud', False, 'Look up --init_checkpoint beside the data.')
    flags.DEFINE_enum('strategy', 'none', _STRATEGIES, 'mirrored: all GPUs of this machine.')
    flags.DEFINE_integer('log_every', 20, 'Steps between two lines of the log.', lower_bound=1)
    flags.DEFINE_integer('save_every', 1000, 'Steps between two checkpoints.', lower_bound=1)


def train_main(experiment: Experiment) -> None:
    """Runs a train script: parses the flags, trains, exits.

    Args:
        experiment: What the script trains, before `--set`.
    """
    script = os.path.splitext(os.path.basename(sys.argv[0]))[0]
    name = script[len('train_') :] if script.startswith('train_') else script
    _define_flags(os.path.join(config.DEFAULT_LOGS_DIR, name))

    def main(positional):
        command_line.no_positional(positional)
        final = experiment
        for assignment in flags.FLAGS.set:
            final = final.override(assignment)
        if final.data.category != experiment.data.category:
            raise ValueError('--set data.category: the networks are chosen with --category')
        train(final, _options_from_flags(flags.FLAGS))

    command_line.run(main, sys.modules['__main__'].__doc__ or '')


def _options_from_flags(values) -> RunOptions:
    names = [field.name for field in dataclasses.fields(RunOptions)]
    options = RunOptions(**{name: values[name].value for name in names})
    if options.init_checkpoint and values.run_on_cloud:
        beside_data = os.path.join(options.data_dir, options.init_checkpoint)
        return dataclasses.replace(options, init_checkpoint=beside_data)
    return options


def train(experiment: Experiment, options: RunOptions) -> None:
    """Trains the networks that options.category asks for, one after the other.

    Raises:
        ValueError: A setting, a path or a category is wrong, or model_dir holds another experiment.
    """
    from utility import pretrained, runs

    folders = {os.path.join(options.model_dir, c): c for c in _categories(experiment, options)}
    path, partial = options.init_checkpoint, options.allow_partial_init
    adopted = pretrained.adopt_for_runs(experiment.network, folders, path, partial)
    networks = {}
    # What is wrong with a later network is told before the first one has taken its hours.
    for folder, category in folders.items():
        own = dataclasses.replace(experiment, network=adopted[folder])
        networks[folder] = own.override(f'data.category={category}')
        runs.check_folder(folder, networks[folder])
    with pretrained.for_runs(folders, path, experiment.network.backbone) as weights:
        for folder, own in networks.items():
            _train_one(own, folder, options, weights)


def _categories(experiment: Experiment, options: RunOptions) -> list[str]:
    """The networks that options.category asks for: categories that have records, or 'all'."""
    from preprocessing.datasets import DATASETS

    schema = DATASETS.get(experiment.data.dataset).schema
    counts = _counts(options.data_dir, experiment)['train']
    if options.category == 'each':
        names = [name for name in schema.categories if counts.get(name)]
        absent = [name for name in schema.categories if name not in names]
        if absent and names:
            logging.warning('%s has no %s', options.data_dir, ', '.join(absent))
    else:
        names = [name.strip() for name in options.category.split(',')]
    for name in names or ['all']:
        if not _num_records(counts, schema.subset(name)):
            raise ValueError(f'{options.data_dir} has no pictures of {name} to train with')
    return names


def _counts(data_dir: str, experiment: Experiment) -> dict[str, dict[str, int]]:
    """Number of records by split and category; a split that is not there has none."""
    from preprocessing import records

    info = records.load_dataset_info(data_dir)
    if info['dataset'] != experiment.data.dataset:
        raise ValueError(
            f'{data_dir} holds records of {info["dataset"]!r}, '
            f'but data.dataset={experiment.data.dataset!r}'
        )
    return {name: info['splits'].get(name, {}).get('records', {}) for name in _SPLITS}


def _num_records(counts: Mapping[str, int], schema) -> int:
    return sum(counts.get(category, 0) for category in schema.categories)


def _strategy(name: str):
    """The distribution strategy, and over how many replicas a batch is spread."""
    import tensorflow as tf

    if name == 'none':
        return None, 1
    devices = tf.config.list_logical_devices('GPU') or tf.config.list_logical_devices('CPU')
    # The default all-reduce hangs in an Estimator when all devices are CPUs.
    reduction = tf.distribute.ReductionToOneDevice() if devices[0].device_type == 'CPU' else None
    strategy = tf.distribute.MirroredStrategy([d.name for d in devices], reduction)
    return strategy, strategy.num_replicas_in_sync


def evaluation_steps(epochs: float, epochs_per_eval: float, steps_per_epoch: float) -> list[int]:
    """The global steps at which a training stops to evaluate; the last one ends it.

    No epoch is dropped: the last stretch is as long as it takes.
    """
    total = max(1, round(epochs * steps_per_epoch))
    stretch = max(1.0, epochs_per_eval * steps_per_epoch)
    stops = {round(i * stretch) for i in range(1, int(total / stretch) + 1)}
    return sorted({stop for stop in stops if 0 < stop < total} | {total})


def _train_one(experiment: Experiment, model_dir: str, options: RunOptions, weights) -> None:
    """Trains one network, `weights` first if any, with evaluations in between; or goes on."""
    import tensorflow as tf

    from preprocessing.datasets import DATASETS
    from preprocessing.tables import write_bytes
    from utility.model_fn import Task, make_model_fn

    data = experiment.data
    schema = DATASETS.get(data.dataset).schema.subset(data.category)
    counts = _counts(options.data_dir, experiment)
    num_train, num_val = (_num_records(counts[name], schema) for name in _SPLITS)
    strategy, replicas = _strategy(options.strategy)
    steps_per_epoch = num_train / (data.batch_size * replicas)
    stops = evaluation_steps(experiment.epochs, experiment.epochs_per_eval, steps_per_epoch)
    task = Task(
        experiment=experiment,
        schema=schema,
        total_steps=stops[-1],
        steps_per_epoch=steps_per_epoch,
        eval_dir=os.path.join(model_dir, 'eval'),
        eval_categories=tuple(name for name in schema.categories if counts['val'].get(name)),
        weights=weights,
        allow_partial_init=options.allow_partial_init,
        log_every=options.log_every,
    )
    # Given a step, of training; made for the evaluations at once, so that mistakes show at once.
    input_of = functools.partial(_input_fn, experiment, schema, options.data_dir)
    eval_input = input_of() if num_val else None
    write_bytes(os.path.join(model_dir, config.EXPERIMENT_FILE), experiment.to_json().encode())
    estimator = tf.estimator.Estimator(
        make_model_fn(task),
        model_dir,
        tf.estimator.RunConfig(
            tf_random_seed=experiment.seed,
            save_summary_steps=100,
            save_checkpoints_steps=options.save_every,
            log_step_count_steps=None,
            train_distribute=strategy,
        ),
    )
    logging.info(
        '%s: %d pictures of %s, batch %d x %d, %d steps in all',
        model_dir, num_train, data.category, data.batch_size, replicas, stops[-1],
    )  # fmt: skip
    _alternate(estimator, input_of, eval_input, stops)


def _input_fn(experiment: Experiment, schema, data_dir: str, step: int | None = None):
    """The input_fn of a training from the global step `step` on; None: of the evaluations.

    An input_fn begins at the start of its order. Another seed for every stretch of a training gives
    it other batches and other augmentation than the stretches before it had.

    Raises:
        ValueError: An op string is wrong, or its pictures do not fit the network.
    """
    from preprocessing import make_input_fn, records

    data, image_size = experiment.data, tuple(experiment.network.image_size)
    split, ops = ('val', data.eval_ops) if step is None else ('train', data.train_ops)
    input_fn = make_input_fn(
        records.split_patterns(os.path.join(data_dir, split), data.category),
        schema,
        experiment.resolved_ops(ops),
        data.batch_size,
        training=step is not None,
        seed=experiment.seed + (step or 0),
        shuffle_buffer=data.shuffle_buffer,
    )
    size = tuple(input_fn().element_spec[0]['image'].shape[1:3])
    if size != image_size:
        raise ValueError(
            f'op string {ops!r} gives pictures of {size}, but network.image_size={image_size}'
        )
    return input_fn


def _alternate(estimator, train_input, eval_input, stops: list[int]) -> None:
    """Trains to each stop that is ahead and evaluates there.

    A stop that was reached in an earlier run, as the last thing it did, is evaluated again: that
    run may have ended before it could.

    Args:
        estimator: Of the network.
        train_input: Global step -> input_fn of the training from there on.
        eval_input: An input_fn, or None where there is nothing to evaluate on.
        stops: Global steps, from evaluation_steps.
    """
    newest = estimator.latest_checkpoint()
    done = int(newest.rsplit('-', 1)[1]) if newest else 0
    if done >= stops[-1]:
        logging.info('%s is trained already: %d steps', estimator.model_dir, done)
    for stop in stops:
        if stop < done:
            continue
        if stop > done:
            estimator.train(train_input(done), max_steps=stop)
            done = stop
        if eval_input is None:
            logging.info('step %d: no validation pictures, no NE', stop)
        else:
            logging.info('step %d: %s', stop, _describe(estimator.evaluate(eval_input)))


def _describe(result: Mapping[str, float]) -> str:
    """The NE of an evaluation, over all and by category, in one line."""
    parts = [f'{k.split("/")[1]} {100 * v:.2f}' for k, v in sorted(result.items()) if '/' in k]
    return f'validation NE {100 * result["normalized_error"]:.2f} %  ({", ".join(parts)})'
