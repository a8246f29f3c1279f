"""What --precision=auto stands for: bfloat16 where it makes training steps faster, else float32."""

from __future__ import annotations

import contextlib
import dataclasses
import statistics

from absl import logging

from config import UserError
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
    """The precision of a training: as it was started, or the faster one on this machine.

    Args:
        network: What is trained.
        data_dir: Its records.
        compute: How, but for the precision.
    """
    kept = runs.precision_of(network.folder)
    if kept:
        logging.info('--precision=%s: %s was started in %s', precision.AUTO, network.folder, kept)
        return kept
    try:
        precision.check(dataclasses.replace(compute, precision='bfloat16'))
    except UserError:
        logging.info('--precision=%s: float32, this machine has no bfloat16', precision.AUTO)
        return 'float32'
    ratio = step_ratio(network, data_dir, compute)
    chosen = 'bfloat16' if ratio < WORTHWHILE else 'float32'
    logging.info(
        '--precision=%s: a step in bfloat16 takes %.2f of the time of one in float32; %s',
        precision.AUTO, ratio, chosen,
    )  # fmt: skip
    return chosen


def step_ratio(network: Training, data_dir: str, compute: Compute) -> float:
    """Time of a training step in bfloat16 over that of one in float32: the median of some rounds.

    The two take turns, so that a slow minute slows both.
    """
    plan = make_plan(network.experiment, data_dir, 1)
    with contextlib.ExitStack() as stack:
        low, full = (
            stack.enter_context(
                training_step(
                    network.experiment, plan, data_dir, dataclasses.replace(compute, precision=name)
                )
            )
            for name in ('bfloat16', 'float32')
        )
        ratios, spent = [], 0.0
        while len(ratios) < 3 or (len(ratios) < ROUNDS and spent < SECONDS):
            times = low(), full()
            ratios.append(times[0] / times[1])
            spent += sum(times)
    return statistics.median(ratios)
