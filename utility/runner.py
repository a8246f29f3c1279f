"""The one run loop: what every train script calls.

A train script is an Experiment and `runner.train_main(EXPERIMENT)`. TensorFlow is imported when
work starts, so that `--help` and mistakes in a flag answer at once.
"""

from __future__ import annotations

import dataclasses
import os
import sys

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
        init_checkpoint: Where the first weights come from, or None.
        allow_partial_init: Whether that checkpoint may cover a part of the network.
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
    flags.DEFINE_string('init_checkpoint', None, 'Checkpoint or run directory to start from.')
    flags.DEFINE_boolean('allow_partial_init', False, 'Accept a checkpoint that covers a part.')
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
    from preprocessing.datasets import DATASETS

    schema = DATASETS.get(experiment.data.dataset).schema
    for category in _categories(options.category, schema):
        own = experiment.override(f'data.category={category}')
        _train_one(own, os.path.join(options.model_dir, category), options)


def _categories(text: str, schema) -> list[str]:
    if text == 'each':
        return list(schema.categories)
    names = [name.strip() for name in text.split(',')]
    for name in names:
        schema.subset(name)
    return names


def _claim_model_dir(model_dir: str, experiment: Experiment) -> None:
    """Writes experiment.json, or checks that the one there says the same."""
    import tensorflow as tf

    path = os.path.join(model_dir, config.EXPERIMENT_FILE)
    if tf.io.gfile.exists(path):
        differences = experiment.differences(load_experiment(model_dir))
        if differences:
            raise ValueError(
                f'{model_dir} holds another experiment (now / there): {"; ".join(differences)}; '
                'give another --model_dir or the same settings'
            )
        return
    if tf.io.gfile.exists(model_dir) and tf.train.latest_checkpoint(model_dir):
        raise ValueError(f'{model_dir} holds checkpoints but no {config.EXPERIMENT_FILE}')
    tf.io.gfile.makedirs(model_dir)
    with tf.io.gfile.GFile(path + '.part', 'w') as file:
        file.write(experiment.to_json())
    tf.io.gfile.rename(path + '.part', path, overwrite=True)


def load_experiment(model_dir: str) -> Experiment:
    """The experiment of a run.

    Raises:
        ValueError: There is none, or it is broken.
    """
    import tensorflow as tf

    path = os.path.join(model_dir, config.EXPERIMENT_FILE)
    if not tf.io.gfile.exists(path):
        raise ValueError(f'{model_dir!r} is not a run: no {config.EXPERIMENT_FILE} in it')
    with tf.io.gfile.GFile(path) as file:
        try:
            return Experiment.from_json(file.read())
        except ValueError as error:
            raise ValueError(f'{path}: {error}') from error


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
    stretch = epochs_per_eval * steps_per_epoch
    stops = {round(i * stretch) for i in range(1, int(total / stretch) + 1)}
    return sorted({stop for stop in stops if 0 < stop < total} | {total})


def _train_one(experiment: Experiment, model_dir: str, options: RunOptions) -> None:
    """Trains one network with evaluations in between; resumes where it stopped."""
    import tensorflow as tf

    from preprocessing import records
    from preprocessing.datasets import DATASETS
    from utility.model_fn import Task, make_model_fn

    category = experiment.data.category
    schema = DATASETS.get(experiment.data.dataset).schema.subset(category)
    split_dirs = {name: os.path.join(options.data_dir, name) for name in _SPLITS}
    counts = {n: records.count_by_category(path, category) for n, path in split_dirs.items()}
    num_train = sum(counts['train'].values())
    if not num_train:
        raise ValueError(f'{split_dirs["train"]} has no pictures of {category}')
    strategy, replicas = _strategy(options.strategy)
    steps_per_epoch = num_train / (experiment.data.batch_size * replicas)
    stops = evaluation_steps(experiment.epochs, experiment.epochs_per_eval, steps_per_epoch)
    _claim_model_dir(model_dir, experiment)
    resumed = tf.train.latest_checkpoint(model_dir)
    task = Task(
        experiment=experiment,
        schema=schema,
        total_steps=stops[-1],
        steps_per_epoch=steps_per_epoch,
        eval_dir=os.path.join(model_dir, 'eval'),
        eval_categories=tuple(name for name, n in counts['val'].items() if n),
        init_checkpoint=None if resumed else options.init_checkpoint,
        allow_partial_init=options.allow_partial_init,
        log_every=options.log_every,
    )
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
        model_dir, num_train, category, experiment.data.batch_size, replicas, stops[-1],
    )  # fmt: skip
    input_fns = {
        name: _input_fn(experiment, schema, split_dirs[name], training=name == 'train')
        for name in _SPLITS
        if sum(counts[name].values())
    }
    _alternate(estimator, input_fns, stops, model_dir)


def _input_fn(experiment: Experiment, schema, split_dir: str, training: bool):
    from preprocessing import make_input_fn, records

    data = experiment.data
    return make_input_fn(
        records.split_pattern(split_dir, data.category),
        schema,
        experiment.resolved_ops(data.train_ops if training else data.eval_ops),
        data.batch_size,
        training=training,
        seed=experiment.seed,
        shuffle_buffer=data.shuffle_buffer,
    )


def _alternate(estimator, input_fns, stops: list[int], model_dir: str) -> None:
    """Trains to each stop that is still ahead and evaluates there."""
    newest = estimator.latest_checkpoint()
    done = int(newest.rsplit('-', 1)[1]) if newest else 0
    if done >= stops[-1]:
        logging.info('%s is trained already: %d steps', model_dir, done)
    for stop in stops:
        if stop <= done:
            continue
        estimator.train(input_fns['train'], max_steps=stop)
        if 'val' not in input_fns:
            logging.info('step %d: no validation pictures, no NE', stop)
            continue
        result = estimator.evaluate(input_fns['val'])
        parts = [
            f'{key.split("/")[1]} {100 * value:.2f}'
            for key, value in sorted(result.items())
            if '/' in key
        ]
        logging.info(
            'step %d: validation NE %.2f %%  (%s)',
            stop, 100 * result['normalized_error'], ', '.join(parts),
        )  # fmt: skip
