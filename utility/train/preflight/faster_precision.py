"""What --precision=auto stands for: bfloat16 where it makes training steps faster, else float32.

It is the default, so that what is measured must be small: a block of the kind that the network
consists of, forward and backward. What whole steps take (step_times) is known a minute later.
"""

from __future__ import annotations

import contextlib
import dataclasses
import statistics
import time
from collections.abc import Sequence

import tensorflow as tf
from absl import logging

from config import Experiment, UserError
from nets import precision
from nets.backbones import efficientnet_lite
from nets.blocks import Bottleneck
from nets.layer import Layer
from nets.network import build_network
from nets.precision import AUTO, LEAST_STEPS, Compute
from utility.checkpoints import runs
from utility.train.flags import RunOptions
from utility.train.plan import make_plan
from utility.train.preflight.input_profile import training_step
from utility.train.stages import Training

v1 = tf.compat.v1

ROUNDS = 8
SECONDS = 20.0  # after which no further round begins; there are three at least
# bfloat16 rounds more: it is taken where it brings more than the noise of a short measurement. A
# step has other parts than blocks, which gain less.
WORTHWHILE = 0.85
_BLOCK_ROUNDS = 6
_BLOCK_CELLS = (1, 32, 32)  # [B, H, W]
_BOTH = ('float32', 'bfloat16')


def resolve(networks: Sequence[Training], options: RunOptions) -> list[RunOptions]:
    """Return the options of each network of a command, with the precision that 'auto' stands for.

    A training that is under way goes on in the precision that it was started in; all others get the
    same.
    """
    if options.precision != AUTO:
        return [options] * len(networks)
    if options.strategy != 'none':
        kept = ['float32'] * len(networks)
    else:
        kept = [_kept(network.folder, options.compute) for network in networks]
    anew = [network for network, name in zip(networks, kept) if not name]
    chosen = _choose(anew, options) if anew else None
    return [dataclasses.replace(options, precision=name or chosen) for name in kept]


def _kept(folder: str, compute: Compute) -> str | None:
    """Return the precision of a training that is under way, None if there is none.

    On a machine that has not what it was started in, it goes on in float32.
    """
    started = runs.precision_of(folder)
    if started is None:
        return None
    name = started if _is_available(started, compute) else 'float32'
    logging.info('--precision=%s: %s, as %s was started in %s', AUTO, name, folder, started)
    return name


def _choose(networks: Sequence[Training], options: RunOptions) -> str:
    """Return the precision of trainings that begin, and log why."""
    plans = [make_plan(network.experiment, options.data_dir, 1) for network in networks]
    name, reason = 'float32', ''
    if precision.has_gpu():
        reason = 'as always on a GPU'
    elif not _is_available('bfloat16', options.compute):
        reason = 'this machine has no bfloat16'
    elif max(plan.length.total_steps for plan in plans) < LEAST_STEPS:
        reason = f'as in all trainings of fewer than {LEAST_STEPS} steps'
    else:
        is_depthwise = _is_depthwise(networks[0].experiment)
        ratio = block_ratio(is_depthwise, options.compute)
        name = 'bfloat16' if ratio < WORTHWHILE else 'float32'
        kind = 'depthwise' if is_depthwise else 'residual'
        reason = f'a {kind} block in bfloat16 takes {ratio:.2f} of the time of one in float32'
    logging.info('--precision=%s: %s, %s', AUTO, name, reason)
    return name


def available(compute: Compute) -> list[str]:
    """Return those of the two precisions that this machine has."""
    return [name for name in _BOTH if _is_available(name, compute)]


def _is_available(name: str, compute: Compute) -> bool:
    try:
        precision.check(dataclasses.replace(compute, precision=name))
    except UserError:
        return False
    return True


def _is_depthwise(experiment: Experiment) -> bool:
    """Return whether a network has depthwise convolutions, which gain less from bfloat16."""
    layers = build_network(experiment.network, 1).submodules
    return any(layer.is_depthwise for layer in layers if isinstance(layer, Layer))


def block_ratio(is_depthwise: bool, compute: Compute) -> float:
    """Return the time of a block in bfloat16, in that of one in float32, forward and backward.

    The least of a few rounds in which they take turns, in seconds of the CPU, which depend little
    on what else the machine does.

    Args:
        is_depthwise: Whether the block has a depthwise convolution.
        compute: How it is computed, but for the precision.
    """
    with tf.Graph().as_default():
        steps = [_block_step(name, is_depthwise) for name in _BOTH]
        with v1.Session(config=precision.session_config(compute, trains=True)) as session:
            session.run(v1.global_variables_initializer())
            session.run(steps)
            rounds = []
            for _ in range(_BLOCK_ROUNDS):
                laps = [time.process_time()]
                for step in steps:
                    session.run(step)
                    laps.append(time.process_time())
                rounds.append([after - before for before, after in zip(laps, laps[1:])])
    float32, bfloat16 = map(min, zip(*rounds))
    return bfloat16 / float32


def _block_step(name: str, is_depthwise: bool) -> tf.Operation:
    """Return what computes the gradients of a block in the precision of that name.

    At a stride of 8: of ResNet-50, or of EfficientNet-Lite0.
    """
    if is_depthwise:
        stage = efficientnet_lite.STAGES[2]
        channels = stage.filters
        block = efficientnet_lite.InvertedResidual(
            name, stage, 1, drop_rate=0.0, first_gamma=1.0, momentum=0.9
        )
    else:
        channels = 512
        block = Bottleneck(name, channels // 4, channels)
    inputs = tf.random.stateless_uniform([*_BLOCK_CELLS, channels], [0, 0])
    outputs = block(tf.cast(inputs, name), True)
    return tf.group(*tf.gradients(outputs, [inputs, *block.trainable_variables]))


def step_times(
    experiment: Experiment,
    data_dir: str,
    compute: Compute,
    precisions: Sequence[str] = _BOTH,
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
