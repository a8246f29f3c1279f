"""The flags of every train script, and the RunOptions that they stand for."""

from __future__ import annotations

import dataclasses
import os

from absl import flags

import config
from config import ALL_THEN_EACH, MAX_PROCESSES, UserError
from nets.precision import (
    AUTO,
    LEAST_STEPS,
    PRECISION_HELP,
    PRECISIONS,
    RECOMPUTE_HELP,
    XLA_HELP,
    Compute,
)
from utility.distribute.strategies import STRATEGIES
from utility.pretrained import packages

# Flags that ask for something else than a training.
_REHEARSALS = ('find_learning_rate', 'dry_run', 'profile_input')
_PRECISION_HELP = (
    f'{PRECISION_HELP} auto: on a CPU bfloat16 where a short measurement at the start shows it to '
    'be faster, and what a training under way was started in; with a GPU, with --strategy and in '
    f'trainings of fewer than {LEAST_STEPS} steps float32.'
)


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """What depends on the machine and the occasion, not on the experiment: values of the flags,
    which `define` explains.

    Attributes:
        init_checkpoint: Path of weights to start from, of any kind that utility/pretrained reads.
    """

    data_dir: str
    model_dir: str
    category: str = 'each'
    init_checkpoint: str | None = None
    allow_partial_init: bool = False
    other_records: bool = False
    strategy: str = 'none'
    augment_on: str = 'host'
    logical_cpus: int = 0
    stall_minutes: float = 30.0
    log_every: int = 20
    summary_every: int = 100
    histograms: bool = False
    save_every: int = 1000
    keep_checkpoints: int = 5
    dry_run: bool = False
    profile_input: bool = False
    find_learning_rate: bool = False
    precision: str = AUTO
    xla: bool = False
    recompute: bool = False

    def __post_init__(self):
        asked = [f'--{name}' for name in _REHEARSALS if getattr(self, name)]
        if len(asked) > 1:
            raise UserError(f'{" ".join(asked)}: give one of them')
        if self.find_learning_rate and self.strategy != 'none':
            raise UserError(
                f'--find_learning_rate --strategy={self.strategy}: it tries rates on one device; '
                'leave --strategy out, and give --set optimizer.accumulate=N for the batch of N '
                'devices'
            )

    @property
    def is_rehearsal(self) -> bool:
        """Whether nothing is to be trained."""
        return any(getattr(self, name) for name in _REHEARSALS)

    @property
    def compute(self) -> Compute:
        return Compute(self.precision, self.xla, self.recompute)


def define(default_model_dir: str) -> None:
    """Define the flags; `default_model_dir` is where a run is kept unless told otherwise."""
    flags.DEFINE_string(
        'data_dir',
        os.path.join(config.DEFAULT_DATA_DIR, config.DEFAULT_RECORDS_SUBDIR),
        'Records, as convert_tfrecords.py wrote them.',
    )
    flags.DEFINE_string('model_dir', default_model_dir, 'Where the run is kept, and resumed from.')
    flags.DEFINE_string(
        'category',
        RunOptions.category,
        "'each': a network per category, one after the other; 'all': one network for all; "
        f"'{ALL_THEN_EACH}': that, then one per category that goes on from it; or a comma list of "
        'categories.',
    )
    flags.DEFINE_multi_string('set', [], 'key=value of the experiment, repeatable.')
    flags.DEFINE_integer(
        'seed', None, 'Short for --set seed=: of the weights, the order and the augmentation.'
    )
    weights = 'Weights to start from: a path, or a name; see `python -m utility.pretrained --help`.'
    flags.DEFINE_string('init_checkpoint', None, weights)
    flags.DEFINE_boolean('allow_partial_init', False, 'Accept weights that cover a part.')
    others = 'Go on with other records than those that the run was trained on.'
    flags.DEFINE_boolean('other_records', False, others)
    beside = 'Look up --init_checkpoint beside the data, at DATA_DIR/NAME.'
    flags.DEFINE_boolean('run_on_cloud', False, beside)
    strategy = (
        'mirrored: all GPUs of this machine; multi_worker, parameter_server: of all machines that '
        'TF_CONFIG names (docs/cloud.md).'
    )
    flags.DEFINE_enum('strategy', RunOptions.strategy, STRATEGIES, strategy)
    where = 'device: the host only decodes; the step warps and colors (docs/speed.md).'
    flags.DEFINE_enum('augment_on', RunOptions.augment_on, ['host', 'device'], where)
    cpus = 'Devices to make of the CPU, to try --strategy=mirrored without GPUs.'
    flags.DEFINE_integer('logical_cpus', RunOptions.logical_cpus, cpus, 0, MAX_PROCESSES)
    stall = 'Minutes after which a process of a cluster ends that has completed no step; longer '
    stall += 'than an evaluation takes.'
    flags.DEFINE_float('stall_minutes', RunOptions.stall_minutes, stall, 0.01, 100_000)
    flags.DEFINE_boolean('histograms', False, 'Histograms of the weights in TensorBoard.')
    for name, text in {
        'log_every': 'Steps between two lines of the log, and rows of metrics.csv.',
        'summary_every': 'Steps between two summaries for TensorBoard.',
        'save_every': 'Steps between two checkpoints.',
        'keep_checkpoints': 'How many of the last ones to keep, besides the best.',
    }.items():
        flags.DEFINE_integer(name, getattr(RunOptions, name), text, lower_bound=1)
    _define_rehearsals()
    flags.DEFINE_enum('precision', RunOptions.precision, [*PRECISIONS, AUTO], _PRECISION_HELP)
    flags.DEFINE_boolean('xla', False, XLA_HELP)
    flags.DEFINE_boolean('recompute', False, RECOMPUTE_HELP)


def _define_rehearsals() -> None:
    """Define the flags of what a train script does instead of training."""
    flags.DEFINE_boolean(
        'dry_run',
        False,
        'Print the experiment, its schedule, variables, steps and memory; train and write nothing.',
    )
    profile = 'Print pictures/s of each stage of the input and of the training step, and which one '
    profile += 'limits; train and write nothing.'
    flags.DEFINE_boolean('profile_input', False, profile)
    flags.DEFINE_boolean(
        'find_learning_rate',
        False,
        'Try rising learning rates for some steps, and write a page and a table of the losses; '
        'train nothing.',
    )


def assignments(values) -> list[str]:
    """Return what the flags change in the experiment, in order: key=value."""
    return [*values.set, *([] if values.seed is None else [f'seed={values.seed}'])]


def options(values) -> RunOptions:
    """Return what the flags stand for."""
    names = [field.name for field in dataclasses.fields(RunOptions)]
    chosen = RunOptions(**{name: values[name].value for name in names})
    given = chosen.init_checkpoint
    if given in packages.PACKAGES:
        return dataclasses.replace(chosen, init_checkpoint=packages.resolve(given))
    if given and values.run_on_cloud and '://' not in given:
        return dataclasses.replace(chosen, init_checkpoint=os.path.join(chosen.data_dir, given))
    return chosen
