"""What --precision=auto stands for: bfloat16 where it makes training steps faster, else float32."""

from __future__ import annotations

import contextlib
import dataclasses
import statistics
from collections.abc import Sequence

from absl import logging

from config import Experiment, UserError
from nets import precision
from nets.precision import Compute
from utility.checkpoints import runs
from utility.train.plan import make_plan
from utility.train.preflight.input_profile import training_step
from utility.train.stages import Training

ROUNDS = 8
SECONDS = 20.0  # after which no further round begins; there are three at least
# bfloat16 rounds more: it is taken where it brings more than the noise of a short measurement.
WORTHWHILE = 0.95


def choose(network: Training, data_dir: str, compute: Compute) -> str:
    """Return the precision of a training: as it was started, or the faster one on this machine.

    Args:
        network: What is trained.
        data_dir: Its records.
        compute: How, but for the precision.
    """
    kept = runs.precision_of(network.folder)
    if kept:
        logging.info('--precision=%s: %s was started in %s', precision.AUTO, network.folder, kept)
        return kept
    if 'bfloat16' not in available(compute):
        logging.info('--precision=%s: float32, this machine has no bfloat16', precision.AUTO)
        return 'float32'
    times = step_times(network.experiment, data_dir, compute)
    ratio = times['bfloat16'] / times['float32']
    chosen = 'bfloat16' if ratio < WORTHWHILE else 'float32'
    logging.info(
        '--precision=%s: a step in bfloat16 takes %.2f of the time of one in float32; %s',
        precision.AUTO, ratio, chosen,
    )  # fmt: skip
    return chosen


def available(compute: Compute) -> list[str]:
    """Return those of the two precisions that this machine has."""
    try:
        precision.check(dataclasses.replace(compute, precision='bfloat16'))
    except UserError:
        return ['float32']
    return ['float32', 'bfloat16']


def step_times(
    experiment: Experiment,
    data_dir: str,
    compute: Compute,
    precisions: Sequence[str] = ('float32', 'bfloat16'),
) -> dict[str, float]:
    """Return precision -> seconds of a training step: the median of some rounds.

    They take turns, so that a slow minute slows all.
    """
    plan = make_plan(experiment, data_dir, 1)
    with contextlib.ExitStack() as stack:
        ways = [dataclasses.replace(compute, precision=name) for name in precisions]
        steps = [
            stack.enter_context(training_step(experiment, plan, data_dir, way)) for way in ways
        ]
        rounds: list[list[float]] = []
        while len(rounds) < 3 or (len(rounds) < ROUNDS and sum(map(sum, rounds)) < SECONDS):
            rounds.append([step() for step in steps])
    return dict(zip(precisions, map(statistics.median, zip(*rounds))))
