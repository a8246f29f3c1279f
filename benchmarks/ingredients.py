"""What each ingredient of a training brings at equal steps: averages, schedules, losses, regimes.

    python -m benchmarks.ingredients --data_dir=RECORDS --work_dir=WORK [--output=ingredients.md]
                                     [--epochs=12] [--set key=value]... [--init_checkpoint=PRE/all]
                                     [--only=EMA,cosine] [--script=train_resnet18_cpn.py]

Trains a small network once for each ingredient and scores it on RECORDS/val. A run that was stopped
goes on where it was; what is trained is not trained again.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import Any, NamedTuple

from absl import flags, logging

from benchmarks import ledger, real_pictures
from benchmarks.isolated import describe_machine
from config import UserError
from utility.command_line import scripts

# The networks, with settings of their own.
SCRIPTS = {
    'train_resnet18_dhn.py': ('loss.sigmas=1.25',),
    'train_resnet18_cpn.py': ('loss.sigmas=2,1.5,1.25,1.25,1.25',),
}
_BASE = (
    'network.image_size=128,128',
    'network.backbone_options.width=32',
    'network.head_options.channels=48',
    'loss.points=annotated',
    'loss.ohkm=1',
    'optimizer.learning_rate=3e-3',
)
_HEADER = ('training', 'settings', 'NE %', '95 % interval', 'difference to base', 'p')
_ABOUT = """# What each ingredient of a training brings

Made by `{command}`.
`{script}` at 128 px, of width 32; every training takes {steps} steps of 16
pictures (those of one network a category: together). {images} validation pictures, {points} points,
no test-time augmentation. {machine}.

- The **interval** is that of a bootstrap over pictures; **difference** and **p** compare with the
  base on the same pictures (sign flips): negative is better. None of it knows how much another
  seed would change: that is what the lines *base, seed ...* are for.

"""


class Arm(NamedTuple):
    """One training.

    Attributes:
        name: What it adds to the base.
        settings: Of the experiment, for --set; {half} is half the epochs of the training.
        category: For --category.
    """

    name: str
    settings: tuple[str, ...] = ()
    category: str = 'all'


BASE = Arm('base')
_SWA = ('averaging.kind=swa', 'schedule.name=cyclic', 'schedule.cycle=0.0833')
_LATE_SWA = (*_SWA, 'averaging.start=0.5')
_STEP = ('schedule.name=step', 'schedule.decay_at=0.65,0.87')
# The weights of the low rates of steps.
_SWA_OF_STEPS = (
    *_STEP,
    'averaging.kind=swa',
    'averaging.start=0.65',
    'averaging.period=0.0833',
)
# As many steps as all others: half of them for the network of all.
_HALF_AND_HALF = ('epochs={half}', 'finetune.epochs={half}')
ARMS = (
    BASE,
    Arm('base, seed 1', ('seed=1',)),
    Arm('base, seed 2', ('seed=2',)),
    Arm('EMA', ('averaging.kind=ema', 'averaging.decay=0.99')),
    Arm('SWA', _LATE_SWA),
    Arm('SWA without the batch-norm pass', (*_LATE_SWA, 'averaging.statistics_batches=0')),
    Arm('SWA of the last third', _SWA_OF_STEPS),
    Arm('steps', _STEP),
    Arm('steps, EMA', (*_STEP, 'averaging.kind=ema', 'averaging.decay=0.99')),
    Arm('AdamW', ('optimizer.name=adamw', 'optimizer.weight_decay=0.05')),
    Arm('OHKM', ('loss.ohkm=0.5',)),
    Arm('AdaptiveWing', ('loss.kind=adaptive_wing',)),
    Arm('each category', (), 'each'),
    Arm('all, then each', _HALF_AND_HALF, 'all_then_each'),
)


def settings_of(arm: Arm, epochs: float) -> list[str]:
    """Return the values for --set of an arm, the base's first."""
    return [*_BASE, f'epochs={epochs:g}', 'evaluations=1', *added_by(arm, epochs)]


def added_by(arm: Arm, epochs: float) -> list[str]:
    """Return the values for --set of an arm in which it differs from the base."""
    return [text.format(half=f'{epochs / 2:g}') for text in arm.settings]


def run_dir(work_dir: str, arm: Arm) -> str:
    return os.path.join(work_dir, re.sub(r'\W+', '_', arm.name))


def command(arm: Arm, values) -> list[str]:
    """Return the command that trains an arm; `values` are the flags."""
    settings = [*settings_of(arm, values.epochs), *SCRIPTS[values.script], *values.set]
    start = values.init_checkpoint
    return [
        sys.executable,
        values.script,
        f'--data_dir={values.data_dir}',
        f'--model_dir={run_dir(values.work_dir, arm)}',
        f'--category={arm.category}',
        '--log_every=200',
        *(f'--set={setting}' for setting in settings),
        *([f'--init_checkpoint={start}'] if start else []),
    ]


def score(arm: Arm, values) -> dict[str, Any]:
    """Return a row: the arm, what it adds, and its scored distances [N, K]."""
    run_dirs = [run_dir(values.work_dir, arm)]
    distances = real_pictures.distances(run_dirs, os.path.join(values.data_dir, 'val'))
    settings = added_by(arm, values.epochs)
    settings += [f'--category={arm.category}'] if arm.category != 'all' else []
    return {'arm': arm, 'settings': settings, 'distances': distances}


def cells(row: dict[str, Any], base: dict[str, Any]) -> tuple[str, ...]:
    """Return a line of the table."""
    from utility.statistics import bootstrap

    arm, settings = row['arm'], row['settings']
    value, low, high = (100 * end for end in bootstrap.ne_interval(row['distances']))
    line = [arm.name, '<br>'.join(settings), f'{value:.2f}', f'[{low:.2f}, {high:.2f}]']
    if row is base:
        return (*line, '', '')
    comparison = bootstrap.compare(row['distances'], base['distances'])
    return (*line, f'{100 * comparison.difference.value:+.2f}', f'{comparison.p_value:.4f}')


def page(rows: list[dict[str, Any]], script: str, steps: int, command_text: str) -> str:
    """Return the Markdown page; the first row is the base."""
    import numpy as np

    scored = np.isfinite(rows[0]['distances'])
    about = _ABOUT.format(
        command=command_text,
        script=script,
        steps=steps,
        images=int(scored.any(axis=1).sum()),
        points=int(scored.sum()),
        machine=describe_machine(),
    )
    return about + ledger.markdown_table(_HEADER, [cells(row, rows[0]) for row in rows])


def main(positional: list[str]) -> None:
    scripts.no_positional(positional)
    values = flags.FLAGS
    if not (values.data_dir and values.work_dir):
        raise UserError('--data_dir and --work_dir are needed')
    arms_by_name = {arm.name: arm for arm in ARMS}
    for name in values.only:
        if name not in arms_by_name:
            raise UserError(f'--only={name}: there are {", ".join(arms_by_name)}')
    arms = [arm for arm in ARMS if not values.only or arm is BASE or arm.name in values.only]
    for arm in arms:
        logging.info('training: %s', arm.name)
        if subprocess.run(command(arm, values), check=False).returncode:
            raise RuntimeError(f'the training of {arm.name!r} failed; see above')

    import tensorflow as tf

    rows = [score(arm, values) for arm in arms]
    base_dir = run_dir(values.work_dir, BASE)
    newest = tf.train.latest_checkpoint(os.path.join(base_dir, 'all'))
    command_text = 'python -m benchmarks.ingredients ' + ' '.join(sys.argv[1:])
    steps = int(newest.rsplit('-', 1)[1])
    ledger.publish(page(rows, values.script, steps, command_text), values.output)


if __name__ == '__main__':
    flags.DEFINE_string('data_dir', None, 'Records with the splits train and val.')
    flags.DEFINE_string('work_dir', None, 'Where the runs are kept.')
    flags.DEFINE_enum('script', next(iter(SCRIPTS)), list(SCRIPTS), 'What is trained.')
    flags.DEFINE_float('epochs', 12.0, 'Of every training.', 1.0)
    flags.DEFINE_multi_string('set', [], 'key=value for all of them, repeatable.')
    flags.DEFINE_string('init_checkpoint', None, 'Weights that all of them start from.')
    flags.DEFINE_list('only', [], 'Ingredients to try; none: all.')
    ledger.define_output('Markdown file for the table, too.')
    scripts.run(main, __doc__)
