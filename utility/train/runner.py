"""The one run loop: what every train script calls.

A train script is an Experiment and `runner.train_main(EXPERIMENT)`. TensorFlow is imported when
work starts, so that `--help` and mistakes in a flag answer at once.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import sys
from collections.abc import Iterator, Sequence

from absl import flags, logging

import config
from config import ALL_THEN_EACH, Experiment, UserError
from nets import precision
from preprocessing.files import alone_in, check_no_link
from utility.checkpoints import evaluations
from utility.command_line import imports, scripts
from utility.distribute import cluster
from utility.distribute.early_stop_signal import EarlyStopSignal
from utility.train import flags as training_flags
from utility.train import log_file
from utility.train.flags import RunOptions
from utility.train.loop import alternate


def train_main(experiment: Experiment) -> None:
    """Run a train script: parses the flags, train, exits.

    Args:
        experiment: What the script trains, before `--set`.
    """
    script = os.path.splitext(os.path.basename(sys.argv[0]))[0]
    name = script[len('train_') :] if script.startswith('train_') else script
    training_flags.define(os.path.join(config.DEFAULT_LOGS_DIR, name))

    def main(positional):
        scripts.no_positional(positional)
        assignments = training_flags.assignments(flags.FLAGS)
        final = experiment.override(*assignments)
        _check_settings(experiment, final, flags.FLAGS.category)
        _check_effects(final, assignments)
        train(final, training_flags.options(flags.FLAGS))

    scripts.run(main, sys.modules['__main__'].__doc__ or '')


def _check_settings(script: Experiment, final: Experiment, category: str) -> None:
    """Refuse settings that would be overruled, or ignored."""
    if final.data.category != script.data.category:
        raise UserError('--set data.category: the networks are chosen with --category')
    if final.starts_from != script.starts_from:
        raise UserError('--set starts_from: it is set by --category')
    if final.finetune != script.finetune and category != ALL_THEN_EACH:
        raise UserError(
            f'--set finetune...: is for --category={ALL_THEN_EACH}, not for {category!r}'
        )


def _check_effects(final: Experiment, assignments: Sequence[str]) -> None:
    """Refuse settings of a schedule that change nothing in it."""
    schedules = {'schedule': final.schedule, 'finetune.schedule': final.finetune.schedule}
    for assignment in assignments:
        key = assignment.partition('=')[0].strip()
        section, _, name = key.rpartition('.')
        if section in schedules:
            schedules[section].check_effect(name, key)


def train(experiment: Experiment, options: RunOptions) -> None:
    """Train the networks that options.category asks for, one after the other.

    Raises:
        UserError: A setting, a path or a category is wrong, or model_dir holds another experiment.
    """
    with log_file.kept() as keep_log_in:
        _train_all(experiment, options, keep_log_in)


def _train_all(experiment: Experiment, options: RunOptions, keep_log_in) -> None:
    """Train; call keep_log_in(model_dir) when nothing is wrong with what was asked for."""
    imports.import_tensorflow()
    from preprocessing import training_data
    from utility.checkpoints import bundles, files, snapshots
    from utility.distribute import strategies

    problem = bundles.path_problem(options.model_dir)
    if problem:
        raise UserError(f'--model_dir={options.model_dir}: {problem}; give another name')
    if options.is_rehearsal:
        strategies.check_rehearsal(options.strategy)
    # First, because a strategy must be made before anything else of TensorFlow runs.
    distribution = strategies.start(options.strategy, options.logical_cpus)
    precision.check(options.compute)
    experiment = training_data.for_records(experiment, options.data_dir)
    categories = training_data.categories(experiment, options.data_dir, options.category)
    distribution.check_networks(categories)
    distribution.check_averaging(experiment.averaging.kind)
    distribution.check_optimizer(experiment.optimizer)
    with contextlib.ExitStack() as stack:
        # All that begin together: they must agree on where to go on, and find the same.
        if (distribution.is_chief or distribution.is_in_step) and not options.is_rehearsal:
            for category in categories:
                folder = os.path.join(options.model_dir, category)
                if distribution.is_chief:
                    stack.enter_context(alone_in(folder))
                    for name in (snapshots.BEST, snapshots.AVERAGED):
                        check_no_link(os.path.join(folder, name))
                files.recover(folder, distribution.is_chief)
        _train_these(experiment, categories, options, distribution, keep_log_in)


def _train_these(experiment, categories, options: RunOptions, distribution, keep_log_in) -> None:
    """Train the categories in folders that nobody else writes."""
    from utility.pretrained import warm_start
    from utility.train import stages, starts
    from utility.train.preflight import faster_precision

    networks = stages.trainings(experiment, categories, options)
    # What is wrong with a later network is told before the first one has taken its hours.
    for network in networks:
        _check_network(network, options, distribution.replicas)
    options_of_each = faster_precision.resolve(networks, options)
    if options.is_rehearsal:
        from utility.train.preflight import rehearse

        rehearse.rehearse(networks, options_of_each, distribution.replicas)
        return
    first = [network.folder for network in networks if not network.source]
    path = options.init_checkpoint
    with warm_start.for_runs(first, path, experiment.network.backbone) as given:
        if distribution.is_chief:
            keep_log_in(options.model_dir)
            starts.keep(options.model_dir)
        for network, its_options in zip(networks, options_of_each):
            _train_or_explain(network, its_options, given, distribution)


def _check_network(network, options: RunOptions, replicas: int) -> None:
    """Refuse what would be found wrong with a network when its turn comes.

    Args:
        network: A regimes.Training.
        options: Of the command.
        replicas: That each read a batch in every step.
    """
    from preprocessing import training_data
    from utility.checkpoints import runs, trained_records
    from utility.train import extension
    from utility.train.plan import make_plan

    folder, experiment = network.folder, network.experiment
    runs.check_folder(folder, experiment, None if network.source else options.init_checkpoint)
    plan = make_plan(experiment, options.data_dir, replicas)
    given = trained_records.identity(options.data_dir, plan.schema.categories)
    trained_records.check(folder, given, options.other_records)
    extension.check(folder, experiment, plan, options.data_dir)
    training_data.check_records(experiment, options.data_dir)
    training_data.warn_of_absent_points(experiment, options.data_dir)


def _train_or_explain(network, options: RunOptions, given, distribution) -> None:
    """Train one of the networks of a command; what stops it is told in words.

    Args:
        network: A regimes.Training.
        options: Of the command.
        given: The weights of --init_checkpoint, or None.
        distribution: Of the command.
    """
    from preprocessing import training_data
    from utility.checkpoints import variables
    from utility.distribute.preemption import at_once
    from utility.train import stages
    from utility.train.failures import explained

    # One that has a checkpoint is past its start, and the weights may be gone.
    is_started = variables.has_checkpoint(network.folder)
    start = contextlib.nullcontext() if is_started else stages.starting_weights(network, given)
    experiment = network.experiment
    check = functools.partial(training_data.check_records, experiment, options.data_dir, True)
    with start as weights, at_once(), explained(network.folder, check):
        _train_one(experiment, network.folder, options, weights, distribution)


def _train_one(
    experiment: Experiment, model_dir: str, options: RunOptions, weights, distribution
) -> None:
    """Train one network, `weights` first if any, with evaluations in between; or goes on."""
    from preprocessing import training_data
    from utility.checkpoints import average as averaging
    from utility.checkpoints import runs, snapshots, trained_records
    from utility.train.log import Watch
    from utility.train.model_fn import Task
    from utility.train.plan import make_plan

    plan = make_plan(experiment, options.data_dir, distribution.replicas)
    watched_in = model_dir if distribution.is_chief else None
    task = Task(
        experiment=experiment,
        schema=plan.schema,
        length=plan.length,
        freeze_at=plan.freeze_at,
        eval_dir=os.path.join(model_dir, 'eval'),
        eval_categories=plan.eval_categories,
        weights=weights,
        allow_partial_init=options.allow_partial_init,
        watch=Watch(options.log_every, watched_in, options.histograms),
        compute=options.compute,
        save_every=None if distribution.cluster else options.save_every,
        keep_checkpoints=options.keep_checkpoints,
    )
    # Given a step, of training; made for the evaluations at once, so that mistakes show at once.
    input_of = functools.partial(
        training_data.input_fn,
        experiment,
        plan.schema,
        options.data_dir,
        total_steps=plan.length.total_steps,
    )
    eval_input = input_of() if plan.num_val else None
    if distribution.is_chief:
        start = weights and weights.path
        runs.keep_experiment(model_dir, experiment, start, options.precision)
        given = trained_records.identity(options.data_dir, plan.schema.categories)
        trained_records.keep(model_dir, given, snapshots.newest_step(model_dir))
    logging.info('%s: %s', model_dir, plan)
    stop_signal = EarlyStopSignal(model_dir, distribution.cluster)
    stop_signal.await_turn()
    with _estimator(task, stop_signal, options, distribution.strategy) as estimator:
        average = functools.partial(averaging.save_running, model_dir, experiment, input_of)
        evaluate = functools.partial(_evaluate, estimator, eval_input, average)
        callbacks = _evaluation_callbacks(experiment, plan.schema.metric, model_dir)
        train_input = functools.partial(input_of, augment_on=options.augment_on)
        alternate(estimator, train_input, evaluate, plan, callbacks, stop_signal)


@contextlib.contextmanager
def _estimator(task, stop_signal: EarlyStopSignal, options: RunOptions, strategy) -> Iterator:
    """Provide the Estimator of a network, or what is used as one where a cluster trains it."""
    import tensorflow as tf

    from utility.distribute.watchdog import Watchdog
    from utility.train.model_fn import make_model_fn

    def make(strategy=None, trains=False):
        # In a cluster TensorFlow's own, which tell who hears of whom.
        is_own = not (strategy and stop_signal.cluster)
        settings = tf.estimator.RunConfig(
            tf_random_seed=task.experiment.seed,
            save_summary_steps=options.summary_every,
            save_checkpoints_steps=options.save_every,
            session_config=precision.session_config(task.compute, trains) if is_own else None,
            keep_checkpoint_max=options.keep_checkpoints,
            log_step_count_steps=None,
            checkpoint_save_graph_def=not stop_signal.is_chief,  # a copy's folder is made with it
            train_distribute=strategy,
        )
        return tf.estimator.Estimator(make_model_fn(task), stop_signal.folder, settings)

    with imports.of_tensorflow():
        together = make(strategy, trains=True)
    with cluster.hidden():
        alone = make()
    if stop_signal.cluster is None:
        yield _Alone(together, alone)
        return
    watchdog = Watchdog(options.stall_minutes)
    try:
        yield _InCluster(together, alone, stop_signal, watchdog)
    finally:
        watchdog.stop()


class _Alone:
    """The Estimator of a network that this process trains alone."""

    def __init__(self, trainer, evaluator):
        self._trainer, self._has_strategy = trainer, trainer.config.train_distribute is not None
        self.model_dir = trainer.model_dir
        self.latest_checkpoint = trainer.latest_checkpoint
        self.evaluate = evaluator.evaluate

    def train(self, input_fn, max_steps: int) -> None:
        from utility.distribute.preemption import after_saving
        from utility.train import saving

        if not self._has_strategy:
            input_fn = saving.beside_the_variables(input_fn)
        # In a cluster the Estimator cannot stop in one process only.
        with after_saving() as hook:
            self._trainer.train(input_fn, [hook], max_steps=max_steps)


class _InCluster:
    """The Estimator of a network that the processes of a cluster train together.

    The chief evaluates it alone. The other processes do not: they wait for its result.
    """

    def __init__(self, together, alone, stop_signal: EarlyStopSignal, watchdog):
        self._together, self._alone = together, alone
        self._agreement, self._watchdog = stop_signal, watchdog
        self.model_dir = together.model_dir
        self.latest_checkpoint = together.latest_checkpoint

    def train(self, input_fn, max_steps: int) -> None:
        import tensorflow as tf

        # Of all there is in the Estimator, only this trains in a cluster. It evaluates nothing:
        # that would be the work of a process of its own.
        tf.estimator.train_and_evaluate(
            self._together,
            tf.estimator.TrainSpec(input_fn, max_steps, [self._watchdog]),
            tf.estimator.EvalSpec(input_fn),
        )
        self._agreement.remove_copies()

    def evaluate(self, input_fn, **which) -> evaluations.Metrics:
        return self._alone.evaluate(input_fn, hooks=[self._watchdog], **which)


def _evaluate(estimator, eval_input, average, step: int) -> evaluations.Metrics:
    """Evaluate the newest checkpoint, and the average of the weights where there is one.

    Args:
        estimator: Of the network.
        eval_input: An input_fn, or None where there is nothing to evaluate on.
        average: Step -> prefix of the checkpoint of the averaged weights, or None.
        step: Of the newest checkpoint.

    Returns:
        The results of the averaged weights if there are any, and the NE of the last ones besides;
        nothing if there is nothing to evaluate on.
    """
    prefix = average(step)
    if eval_input is None:
        return {}
    if prefix is None:
        return estimator.evaluate(eval_input)
    last = estimator.evaluate(eval_input, name='last')[evaluations.ERROR]
    gc.collect()
    return {**estimator.evaluate(eval_input, checkpoint_path=prefix), evaluations.LAST_ERROR: last}


def _evaluation_callbacks(
    experiment: Experiment, metric: str, model_dir: str
) -> list[evaluations.EvaluationCallback]:
    """Return who is told of each evaluation of a network, in this order."""
    from utility.checkpoints.best import BestCheckpoint
    from utility.train import curves, memory, plateau

    return [
        BestCheckpoint(model_dir, metric),
        memory.tell,
        plateau.make_evaluation_callback(experiment, model_dir),
        curves.make_evaluation_callback(model_dir),
    ]
