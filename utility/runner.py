"""The one run loop: what every train script calls.

A train script is an Experiment and `runner.train_main(EXPERIMENT)`. TensorFlow is imported when
work starts, so that `--help` and mistakes in a flag answer at once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import gc
import os
import sys
from collections.abc import Iterator, Sequence

from absl import flags, logging

import config
from config import Experiment
from utility import cluster, command_line, evaluations, run_log, training_flags
from utility.agreement import Agreement
from utility.training_flags import RunOptions


def train_main(experiment: Experiment) -> None:
    """Runs a train script: parses the flags, trains, exits.

    Args:
        experiment: What the script trains, before `--set`.
    """
    script = os.path.splitext(os.path.basename(sys.argv[0]))[0]
    name = script[len('train_') :] if script.startswith('train_') else script
    training_flags.define(os.path.join(config.DEFAULT_LOGS_DIR, name))

    def main(positional):
        command_line.no_positional(positional)
        final = experiment.override(*flags.FLAGS.set)
        if final.data.category != experiment.data.category:
            raise ValueError('--set data.category: the networks are chosen with --category')
        train(final, training_flags.options(flags.FLAGS))

    command_line.run(main, sys.modules['__main__'].__doc__ or '')


def train(experiment: Experiment, options: RunOptions) -> None:
    """Trains the networks that options.category asks for, one after the other.

    Raises:
        ValueError: A setting, a path or a category is wrong, or model_dir holds another experiment.
    """
    with run_log.kept() as keep_log_in:
        _train_all(experiment, options, keep_log_in)


def _train_all(experiment: Experiment, options: RunOptions, keep_log_in) -> None:
    """As `train`; calls keep_log_in(model_dir) when nothing is wrong with what was asked for."""
    from utility import checkpoint_files, pretrained, runs, strategies, training_data
    from utility.plan import make_plan

    # First, because a strategy must be made before anything else of TensorFlow runs.
    distribution = strategies.start(options.strategy, options.logical_cpus)
    categories = training_data.categories(experiment, options.data_dir, options.category)
    distribution.check_networks(categories)
    distribution.check_averaging(experiment.averaging.kind)
    folders = {os.path.join(options.model_dir, category): category for category in categories}
    if not options.is_rehearsal:
        for folder in folders:
            checkpoint_files.recover(folder)
    path, partial = options.init_checkpoint, options.allow_partial_init
    adopted = pretrained.adopt_for_runs(experiment.network, folders, path, partial)
    networks = {}
    # What is wrong with a later network is told before the first one has taken its hours.
    for folder, category in folders.items():
        own = dataclasses.replace(experiment, network=adopted[folder])
        networks[folder] = own.override(f'data.category={category}')
        runs.check_folder(folder, networks[folder])
        make_plan(networks[folder], options.data_dir, distribution.replicas)
    if options.is_rehearsal:
        from utility import rehearsals

        rehearsals.rehearse(networks, options, distribution.replicas)
        return
    with pretrained.for_runs(folders, path, experiment.network.backbone) as weights:
        if distribution.is_chief:
            keep_log_in(options.model_dir)
        for folder, own in networks.items():
            _train_one(own, folder, options, weights, distribution)


def _train_one(
    experiment: Experiment, model_dir: str, options: RunOptions, weights, distribution
) -> None:
    """Trains one network, `weights` first if any, with evaluations in between; or goes on."""
    from preprocessing.tables import write_bytes
    from utility import averaging, training_data
    from utility.model_fn import Task
    from utility.plan import make_plan
    from utility.training_log import Watch

    plan = make_plan(experiment, options.data_dir, distribution.replicas)
    watched_in = model_dir if distribution.is_chief else None
    task = Task(
        experiment=experiment,
        schema=plan.schema,
        length=plan.length,
        eval_dir=os.path.join(model_dir, 'eval'),
        eval_categories=plan.eval_categories,
        weights=weights,
        allow_partial_init=options.allow_partial_init,
        watch=Watch(options.log_every, watched_in, options.histograms),
    )
    # Given a step, of training; made for the evaluations at once, so that mistakes show at once.
    input_of = functools.partial(training_data.input_fn, experiment, plan.schema, options.data_dir)
    eval_input = input_of() if plan.num_val else None
    if distribution.is_chief:
        write_bytes(os.path.join(model_dir, config.EXPERIMENT_FILE), experiment.to_json().encode())
    logging.info('%s: %s', model_dir, plan)
    agreement = Agreement(model_dir, distribution.cluster)
    agreement.await_turn()
    with _estimator(task, agreement, options, distribution.strategy) as estimator:
        average = functools.partial(averaging.save_running, model_dir, experiment, options.data_dir)
        evaluate = functools.partial(_evaluate, estimator, eval_input, average)
        reactions = _reactions(experiment, model_dir)
        _alternate(estimator, input_of, evaluate, plan.stops, reactions, agreement)


@contextlib.contextmanager
def _estimator(task, agreement: Agreement, options: RunOptions, strategy) -> Iterator:
    """The Estimator of a network, or what is used as one where a cluster trains it."""
    import tensorflow as tf

    from utility.model_fn import make_model_fn
    from utility.watchdog import Watchdog

    def make(strategy=None):
        settings = tf.estimator.RunConfig(
            tf_random_seed=task.experiment.seed,
            save_summary_steps=options.summary_every,
            save_checkpoints_steps=options.save_every,
            keep_checkpoint_max=options.keep_checkpoints,
            log_step_count_steps=None,
            train_distribute=strategy,
        )
        return tf.estimator.Estimator(make_model_fn(task), agreement.folder, settings)

    together = make(strategy)
    if agreement.cluster is None:
        yield together
        return
    with cluster.hidden():
        alone = make()
    watchdog = Watchdog(options.stall_minutes)
    try:
        yield _InCluster(together, alone, agreement, watchdog)
    finally:
        watchdog.stop()


class _InCluster:
    """The Estimator of a network that the processes of a cluster train together.

    The chief evaluates it alone. The other processes do not: they wait for its result.
    """

    def __init__(self, together, alone, agreement: Agreement, watchdog):
        self._together, self._alone = together, alone
        self._agreement, self._watchdog = agreement, watchdog
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
    """Evaluates the newest checkpoint, and the average of the weights where there is one.

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
    result = estimator.evaluate(eval_input, checkpoint_path=prefix)
    return {**result, evaluations.LAST_ERROR: last}


def _reactions(experiment: Experiment, model_dir: str) -> list[evaluations.Reaction]:
    """Who is told of each evaluation of a network, in this order."""
    from utility import curves, plateau
    from utility.best_checkpoint import BestCheckpoint

    return [
        BestCheckpoint(model_dir),
        plateau.make_reaction(experiment, model_dir),
        curves.make_reaction(model_dir),
    ]


def _alternate(
    estimator,
    train_input,
    evaluate,
    stops: Sequence[int],
    reactions: Sequence[evaluations.Reaction] = (),
    agreement: Agreement | None = None,
) -> None:
    """Trains to each stop that is ahead, evaluates there and tells the reactions.

    At a stop that was reached in an earlier run, as the last thing it did, the result is taken from
    that run if it had the time to keep it; the reactions are told again, and a training that one of
    them had ended has ended.

    Args:
        estimator: Of the network.
        train_input: Global step -> input_fn of the training from there on.
        evaluate: Step of the newest checkpoint -> results; none where there is nothing to evaluate
            on.
        stops: Global steps, those of a Plan.
        reactions: To the results; see utility/evaluations.py.
        agreement: With the other processes that train the network; None: there are none.
    """
    agreement = agreement or Agreement(estimator.model_dir)
    done = _trained_steps(estimator)
    if agreement.is_chief:
        evaluations.forget_after(estimator.model_dir, done)
        agreement.forget_after(done)
    if done >= stops[-1]:
        logging.info('%s is trained already: %d steps', estimator.model_dir, done)
    for stop in stops:
        if stop < done:
            continue
        if stop > done:
            estimator.train(train_input(done), max_steps=stop)
            gc.collect()
            # Workers at their own pace go a few steps beyond.
            done = max(stop, _trained_steps(estimator))
        judge = functools.partial(_judge, estimator.model_dir, evaluate, reactions, done)
        reasons = agreement.settle(done, judge)
        if reasons:
            logging.info('step %d: the training ends here: %s', done, '; '.join(reasons))
            return


def _trained_steps(estimator) -> int:
    """The global step of the newest checkpoint, 0 if there is none."""
    newest = estimator.latest_checkpoint()
    return int(newest.rsplit('-', 1)[1]) if newest else 0


def _judge(model_dir: str, evaluate, reactions, step: int) -> list[str]:
    """Evaluates the newest checkpoint and tells the reactions; why the training is to end."""
    result = evaluations.once(model_dir, step, functools.partial(evaluate, step))
    if not result:
        logging.info('step %d: no validation pictures, no NE', step)
        return []
    logging.info('step %d: %s', step, evaluations.describe(result))
    return evaluations.react(reactions, step, result)
