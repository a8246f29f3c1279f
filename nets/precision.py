"""How a machine computes a network: in which precision, and whether XLA compiles it.

Weights, heat maps, loss, metric and decoding are float32 in any case; only what is between the
picture and the heat maps is computed in the precision asked for. Imports nothing that is slow.
"""

from __future__ import annotations

import dataclasses
import pathlib

from config import UserError

PRECISIONS = ('float32', 'bfloat16', 'float16')
# Of trainings: the faster one of the first two, as a measurement at the start tells. A training of
# fewer steps ends before that pays off.
AUTO, LEAST_STEPS = 'auto', 200
PRECISION_HELP = 'What the network computes in; weights and all around it stay float32.'
RECOMPUTE_HELP = 'Compute parts of the network twice in a training step, which takes less memory.'
XLA_HELP = 'Compile the network with XLA; on GPUs.'

_CPU_FEATURES = ('avx512_bf16', 'amx_bf16')  # as Linux calls instructions on bfloat16 numbers


@dataclasses.dataclass(frozen=True)
class Compute:
    """How networks are computed.

    Attributes:
        precision: One of PRECISIONS; AUTO is for whoever starts a training to resolve.
        xla: Whether XLA compiles what it can.
        recompute: Whether a training computes again what takes memory; see
            utility/optim/gradient_checkpointing.py.
    """

    precision: str = 'float32'
    xla: bool = False
    recompute: bool = False


FLOAT32 = Compute()


def check(compute: Compute) -> None:
    """Refuse what this machine cannot do, or what would only make it slower.

    Raises:
        UserError: The precision is not known, or so it is.
    """
    import config

    config.check('--', 'precision', compute.precision, *config.one_of((*PRECISIONS, AUTO)))
    if compute.recompute and compute.xla:
        raise UserError(
            '--recompute --xla: give one of them; what XLA compiles does not wait to be computed '
            'again, so that no memory is spared'
        )
    if (compute.precision in ('float32', AUTO) and not compute.xla) or has_gpu():
        return
    if compute.precision == 'float16':
        raise UserError(
            '--precision=float16: needs a GPU; a CPU takes many times as long as in float32 '
            '(docs/training.md). On CPUs of recent years --precision=bfloat16 is faster'
        )
    if compute.precision == 'bfloat16' and not _computes_bfloat16():
        raise UserError(
            '--precision=bfloat16: this CPU has no instructions for it (none of '
            f'{", ".join(_CPU_FEATURES)}), and would be slower than in float32'
        )
    if compute.xla:
        raise UserError(
            '--xla: needs a GPU; on a CPU TensorFlow 2.15 compiles no session, and where it is '
            'forced to (TF_XLA_FLAGS), steps take longer (docs/training.md)'
        )


def apply(compute: Compute, session_config) -> None:
    """Put into the settings of a session, a ConfigProto, what Compute asks of it."""
    if compute.xla:
        options = session_config.graph_options.optimizer_options
        options.global_jit_level = options.ON_1


def session_config(compute: Compute, trains: bool = False):
    """Return the settings of an Estimator's sessions, a ConfigProto.

    By default TensorFlow rewrites a graph whenever something else is asked of it. On a CPU that
    makes the first step of a training seconds later and a step at most some percent faster, other
    than in predictions, where the batch norms become part of the convolutions.
    """
    import tensorflow as tf

    settings = tf.compat.v1.ConfigProto(allow_soft_placement=True)
    settings.graph_options.rewrite_options.meta_optimizer_iterations = 1  # Estimator's default
    if trains and not has_gpu():
        settings.graph_options.rewrite_options.disable_meta_optimizer = True
        # Nor constants computed once, nor equal operations merged: a step has next to none.
        optimizer = settings.graph_options.optimizer_options
        optimizer.opt_level = optimizer.L0
    apply(compute, settings)
    return settings


def has_gpu() -> bool:
    """Return whether TensorFlow has one; imports it."""
    import tensorflow as tf

    return bool(tf.config.list_physical_devices('GPU'))


def _computes_bfloat16() -> bool:
    """Return whether the processor does; True where it does not say."""
    info = pathlib.Path('/proc/cpuinfo')
    flags = [
        line.partition(':')[2].split()
        for line in (info.read_text().splitlines() if info.exists() else [])
        if line.startswith('flags')
    ]
    return not flags or any(feature in flags[0] for feature in _CPU_FEATURES)
