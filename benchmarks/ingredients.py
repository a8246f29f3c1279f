"""What each ingredient of a training brings, as many pictures seen: targets, loss, augmentation,
rates, averages, one network or one a category.

    python -m benchmarks.ingredients --data_dir=RECORDS --work_dir=WORK [--output=ingredients.md]
                                     [--script=train_resnet18_cpn.py] [--size=128]
                                     [--pictures=7600] [--init_checkpoint=PRE/all]
                                     [--precision=bfloat16] [--set key=value]... [--only=EMA,OHKM]

Trains the network of a recipe once as it is and once for each ingredient, and scores it on
RECORDS/val. A run that was stopped goes on where it was; what is trained is not trained again.
"""

from __future__ import annotations

import os
import re
from typing import Any, NamedTuple

from absl import flags, logging

from benchmarks.common import ledger, real_pictures, recipes
from config import Experiment
from nets.precision import PRECISIONS
from utility.command_line import scripts

_COMMAND = 'python -m benchmarks.ingredients --data_dir=RECORDS --work_dir=WORK'
_HEADER = ('training', 'settings', 'NE %', '95 % interval', 'difference to base', 'p')
_ABOUT = """# What each ingredient of a training brings

Made by `{command}`.
The base is `{script}` at {size} px with its own values; every training sees {pictures:,} pictures
(those of one network a category: together), of {train:,}. {images} validation pictures, {points}
points, no test-time augmentation. {machine}.

- The **interval** is that of a bootstrap over pictures; **difference** and **p** compare with the
  base on the same pictures (sign flips): negative is better. None of it knows how much another
  seed would change: that is what the lines *base of seed ...* are for.

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
_GEOMETRY = 'flip|rotate(30)|crop_keep(min_area=0.45)|letterbox({{height}},{{width}})|warp'
_STRONG = f'{_GEOMETRY}|color(brightness=0.125,contrast=0.5,saturation=0.5,hue=0.2)'
# As many pictures as all others: half of them for the network of all.
_HALF_AND_HALF = ('epochs={half}', 'finetune.epochs={half}')
ARMS = (
    BASE,
    Arm('base of seed 1', ('seed=1',)),
    Arm('base of seed 2', ('seed=2',)),
    Arm('targets of 1 cell', ('loss.sigmas=1',)),
    Arm('targets of 2.5 cells', ('loss.sigmas=2.5',)),
    Arm('annotated points with hidden ones', ('loss.points=annotated',)),
    Arm('OHKM', ('loss.ohkm=0.5',)),
    Arm('balanced L1', ('loss.kind=balanced_l1',)),
    Arm('AdaptiveWing', ('loss.kind=adaptive_wing',)),
    Arm('the flip alone', ('data.train_ops=flip|letterbox({{height}},{{width}})|warp',)),
    Arm('strong augmentation', (f'data.train_ops={_STRONG}',)),
    Arm('strong augmentation later', (f'data.late_ops={_STRONG}',)),
    Arm('last scales of blocks from 0', ('network.backbone_options.residual_gamma=0.0',)),
    # One of the next two is what the base has itself, by the depth of its backbone.
    Arm('last scales of blocks from 0.25', ('network.backbone_options.residual_gamma=0.25',)),
    Arm('last scales of blocks from 1', ('network.backbone_options.residual_gamma=1.0',)),
    Arm('batch norm frozen in the last fifth', ('network.freeze_norm_from=0.8',)),
    Arm('twice the batch', ('data.batch_size={double_batch}',)),
    Arm('a third of the rate', ('optimizer.learning_rate={third_of_rate}',)),
    Arm('three times the rate', ('optimizer.learning_rate={triple_rate}',)),
    Arm('gradients clipped', ('optimizer.clip_norm=0.01',)),
    Arm('SGD with momentum', ('optimizer.name=momentum', 'optimizer.learning_rate=0.05')),
    Arm('AdamW', ('optimizer.name=adamw', 'optimizer.weight_decay=0.05')),
    Arm('steps', _STEP),
    Arm('EMA', ('averaging.kind=ema', 'averaging.decay=0.99')),
    Arm('SWA', _LATE_SWA),
    Arm('SWA without the batch-norm pass', (*_LATE_SWA, 'averaging.statistics_batches=0')),
    Arm('SWA of the last third', _SWA_OF_STEPS),
    Arm('each category', (), 'each'),
    Arm('all then each', _HALF_AND_HALF, 'all_then_each'),
)


def settings_of(arm: Arm, recipe: Experiment, size: int, epochs: float) -> list[str]:
    """Return the values for --set of an arm, those of all arms first."""
    shared = [f'network.image_size={size},{size}', f'epochs={epochs:.6g}', 'evaluations=1']
    return [*shared, *added_by(arm, recipe, epochs)]


def added_by(arm: Arm, recipe: Experiment, epochs: float) -> list[str]:
    """Return the values for --set of an arm in which it differs from the base."""
    values = {
        'half': f'{epochs / 2:.6g}',
        'double_batch': 2 * recipe.data.batch_size,
        'third_of_rate': f'{recipe.optimizer.learning_rate / 3:.3g}',
        'triple_rate': f'{recipe.optimizer.learning_rate * 3:.3g}',
    }
    return [text.format(**values) for text in arm.settings]


def run_dir(work_dir: str, arm: Arm) -> str:
    return os.path.join(work_dir, re.sub(r'\W+', '_', arm.name))


def command(arm: Arm, recipe: Experiment, epochs: float, values) -> list[str]:
    """Return the command that trains an arm; `values` are the flags."""
    settings = [*settings_of(arm, recipe, values.size, epochs), *values.set]
    start = values.init_checkpoint
    return [
        values.script,
        f'--data_dir={values.data_dir}',
        f'--model_dir={run_dir(values.work_dir, arm)}',
        f'--category={arm.category}',
        f'--precision={values.precision}',
        '--log_every=200',
        *(f'--set={setting}' for setting in settings),
        *([f'--init_checkpoint={start}'] if start else []),
    ]


def cells(row: dict[str, Any], base: dict[str, Any]) -> tuple[str, ...]:
    """Return a line of the table of rows with the keys arm, settings and distances [N, K]."""
    measured, difference = row['distances'], ['', '']
    if row is not base:
        difference = real_pictures.difference_cells(measured, base['distances'], 2)
    settings = '<br>'.join(row['settings'])
    return (row['arm'].name, settings, *real_pictures.error_cells(measured, 2), *difference)


def page(rows: list[dict[str, Any]], command_text: str, **facts: Any) -> str:
    """Return the Markdown page; the first row is the base, `facts` are those of `_ABOUT`."""
    counts = real_pictures.counts_of_distances(rows[0]['distances'])
    about = _ABOUT.format(command=command_text, **counts, **facts)
    return about + ledger.markdown_table(_HEADER, [cells(row, rows[0]) for row in rows])


def main(positional: list[str]) -> None:
    values = ledger.given(positional, 'data_dir', 'work_dir')
    ledger.check_names('only', [arm.name for arm in ARMS])
    arms = [arm for arm in ARMS if not values.only or arm is BASE or arm.name in values.only]
    recipe = recipes.load(recipes.select([values.script])[0])
    num_train = real_pictures.number_of(values.data_dir, 'train')
    epochs = values.pictures / num_train
    rows = []
    for arm in arms:
        logging.info('training: %s', arm.name)
        real_pictures.run(command(arm, recipe, epochs, values), f'the training of {arm.name!r}')
        settings = added_by(arm, recipe, epochs)
        settings += [f'--category={arm.category}'] if arm.category != 'all' else []
        run = run_dir(values.work_dir, arm)
        distances = real_pictures.distances([run], os.path.join(values.data_dir, 'val'))
        rows.append({'arm': arm, 'settings': settings, 'distances': distances})
        facts = {name: values[name].value for name in ('script', 'size', 'pictures')}
        text = ledger.command(_COMMAND, (*facts, 'precision', 'set', 'only'), values)
        ledger.publish(page(rows, text, **facts, train=num_train), values.output)


if __name__ == '__main__':
    flags.DEFINE_string('data_dir', None, 'Records with the splits train and val.')
    flags.DEFINE_string('work_dir', None, 'Where the runs are kept.')
    flags.DEFINE_enum(
        'script',
        'train_resnet18_cpn.py',
        [f'train_{name}.py' for name in recipes.scripts()],
        'The recipe that is the base.',
    )
    flags.DEFINE_integer('size', 128, 'Side of the pictures, px.', 32)
    flags.DEFINE_integer('pictures', 7600, 'Seen by every training.', 1)
    flags.DEFINE_enum('precision', 'float32', PRECISIONS, 'Of the networks.')
    flags.DEFINE_multi_string('set', [], 'key=value for all of them, repeatable.')
    flags.DEFINE_string('init_checkpoint', None, 'Weights that all of them start from.')
    flags.DEFINE_list('only', [], 'Ingredients to try; none: all.')
    ledger.define_output('Markdown file for the table, too.')
    scripts.run(main, __doc__)
