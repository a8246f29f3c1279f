"""Training and evaluation of a network in turn, from whatever step it stands at."""

from __future__ import annotations

import functools
import gc
from collections.abc import Sequence
from typing import TYPE_CHECKING

from absl import logging

from utility.checkpoints import evaluations
from utility.distribute.early_stop_signal import EarlyStopSignal

if TYPE_CHECKING:  # it imports TensorFlow
    from utility.train.plan import Plan


def alternate(
    trainer,
    train_input,
    evaluate,
    plan: Plan,
    callbacks: Sequence[evaluations.EvaluationCallback],
    stop_signal: EarlyStopSignal | None = None,
) -> None:
    """Train to each stop that is ahead, evaluate there and run the callbacks.

    At a stop that was reached in an earlier run, as the last thing it did, the result is taken from
    that run if it had the time to keep it; the callbacks are run again, and a training that one of
    them had ended has ended. Where batch norm freezes another graph goes on, without an evaluation.

    Args:
        trainer: The network's: an Estimator, or what is used as one.
        train_input: Global step -> input_fn of the training from there on.
        evaluate: Step of the newest checkpoint -> results; none where there is nothing to evaluate
            on.
        plan: Has the stops, and the step after which batch norm freezes.
        callbacks: Of the results; see utility/checkpoints/evaluations.py.
        stop_signal: Of all processes that train the network; None: there is one process.
    """
    stop_signal = stop_signal or EarlyStopSignal(trainer.model_dir)
    done = _trained_steps(trainer)
    if stop_signal.is_chief:
        evaluations.forget_after(trainer.model_dir, done)
        stop_signal.forget_after(done)
    if done >= plan.stops[-1]:
        logging.info('%s is trained already: %d steps', trainer.model_dir, done)
    for stop in plan.stops:
        if stop < done:
            continue
        for end in (plan.freeze_at or 0, stop):
            if done < end <= stop:
                trainer.train(train_input(done), max_steps=end)
                gc.collect()
                # Workers at their own pace go a few steps beyond.
                done = max(end, _trained_steps(trainer))
                if end < stop:  # nobody goes on before the chief has saved
                    stop_signal.settle(done, list)
        judge = functools.partial(_judge, trainer.model_dir, evaluate, callbacks, done)
        reasons = stop_signal.settle(done, judge)
        if reasons:
            logging.info('step %d: the training ends here: %s', done, '; '.join(reasons))
            return


def _trained_steps(trainer) -> int:
    """Return the global step of the newest checkpoint, 0 if there is none."""
    newest = trainer.latest_checkpoint()
    return int(newest.rsplit('-', 1)[1]) if newest else 0


def _judge(model_dir: str, evaluate, callbacks, step: int) -> list[str]:
    """Evaluate the newest checkpoint and run the callbacks; why the training is to end."""
    result = evaluations.once(model_dir, step, functools.partial(evaluate, step))
    if result:
        logging.info('step %d: %s', step, evaluations.describe(result))
    else:
        logging.info('step %d: no validation pictures, no NE', step)
    return evaluations.run_callbacks(callbacks, step, result)
