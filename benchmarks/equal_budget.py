"""Our recipes beside the ways of two published systems: same network, same pictures, same budget.

    python -m benchmarks.equal_budget --data_dir=DATA --work_dir=WORK
                [--output=docs/equal_budget.md] [--script=train_resnet18_cpn.py]
                [--categories=blouse,all] [--pictures=7600] [--size=192] [--seeds=1,2,3]
                [--ways=ours,17th_place] [--precision=bfloat16]

DATA holds annotated pictures in the layout of the challenge. A fifth of them, by a hash of their
content, is for validation. Each cell, a way with a category and a seed, is trained from scratch,
scored, and kept in WORK/cells.json: run again, the command goes on where it stopped, and what other
runs of it have measured is on the page too.
"""

from __future__ import annotations

import functools
import itertools
import os
import statistics
from typing import Any, NamedTuple

import numpy as np
from absl import flags

from benchmarks.common import ledger, real_pictures
from utility.command_line import scripts
from utility.statistics import bootstrap

OURS = 'ours'
# What differs between the ways; the network is that of the script. Facts of tf.fashionAI
# (github.com/HiKapok/tf.fashionAI) and of the 17th place (github.com/gathierry/FashionAI-KeyPoints
# DetectionOfApparel); their schedules are stretched to the length.
WAYS: dict[str, tuple[str, ...]] = {
    OURS: (),
    'ours_frozen_norm': ('network.freeze_norm_from=0.8',),
    'tf.fashionAI': (
        'data.train_ops=flip|rotate(30, 0.4)|crop_keep(min_area=0.45)|letterbox({height},{width})'
        '|warp|color(brightness=0.125,contrast=0.5,saturation=0.5,hue=0.2)',
        'data.batch_size=10',
        'network.mean=171.04,162.98,159.89',
        'network.std=255,255,255',
        'network.backbone_options.residual_gamma=1.0',
        'loss.kind=mse',
        'loss.points=visible',
        'loss.target_scale=255',
        # Targets of one cell, blurred by kernels that are not normalized, for each output.
        'loss.sigmas=1.41,1.69,1.98,2.58,1',
        'loss.peaks=2.772,3.758,4.424,5.159,1',
        'loss.weights=0.5,0.5,0.5,0.5,1',
        'loss.ohkm=0.5',
        'optimizer.name=momentum',
        'optimizer.learning_rate=1e-4',
        'optimizer.weight_decay=1e-5',
        'schedule.name=step',
        'schedule.decay_at=0.357,0.714',
        'schedule.decay_factors=1,0.5,0.1',
        'schedule.warmup=0.02',
        'refine=quarter',
    ),
    '17th_place': (
        'data.train_ops=flip|rotate(30)|letterbox({height},{width})|warp',
        'data.batch_size=10',
        'network.mean=165.75,165.75,165.75',
        'network.std=63.75,63.75,63.75',
        'network.backbone_options.residual_gamma=1.0',
        'loss.kind=balanced_l1',
        'loss.points=annotated',
        'loss.target_scale=100',
        'loss.sigma_shares=0.0625',
        'loss.ohkm=0.5',
        'loss.ohkm_over=keypoint',
        'optimizer.name=momentum',
        'optimizer.learning_rate=1e-3',
        'optimizer.weight_decay=1e-4',
        'optimizer.decay_kinds=kernel,bias,norm',
        'schedule.name=step',
        'schedule.decay_at=0.8',  # for the rule of the plateau
        'schedule.decay_factors=1,0.1',
        'schedule.warmup=0',
        'refine=quarter',
    ),
}
# The two systems have heads of 256 channels, which costs them time; our small recipes have 128.
_WIDE_HEAD = 'network.head_options.channels=256'
WAYS.update({f'{way}_head256': (*WAYS[way], _WIDE_HEAD) for way in ('tf.fashionAI', '17th_place')})
_HEADER = (
    'network', 'category', 'px', 'precision', 'pictures seen', 'way', 'NE % of each seed', 'mean',
    '95 % interval', 'with flip test', 'ours / this',
)  # fmt: skip
_ABOUT = """# Learning at an equal budget

Made by `python -m benchmarks.equal_budget` (its docstring has the flags). Trained from scratch on
real pictures of FashionAI's challenge; {split}. {machine}.

- **Ours** is the recipe with two settings, `epochs` and `network.image_size`.
- **ours_frozen_norm** is the recipe with `network.freeze_norm_from=0.8`: batch norm keeps its
  statistics in the later part of the training (docs/training.md).
- **tf.fashionAI** and **17th_place** are the ways of the two published systems on the same network:
  targets, loss, mining of hard points, optimiser, rates, augmentation, standardisation and decoding
  are theirs, as the settings in `benchmarks/equal_budget.py` say; with **_head256** the width of
  the head is theirs, too, otherwise the recipe's (128 channels in resnet18_cpn, 256 in
  resnet50_cpn). Departures: the mirror image is exact, the frame is letter-boxed, initial kernels
  and batch norm are those of our networks (residual branches start from their scale of 1), the
  plateau rule of the 17th place is one drop of the rate at 0.8.
- **NE of each seed** is without test-time augmentation. The **interval** of their mean is that of a
  bootstrap over the validation pictures. The **flip test**, the mean of the seeds too, is ours for
  all ways.
- The settings of the recipe were chosen on these validation pictures, those of the two systems were
  not: a comparison that is kind to ours.

"""


class Cell(NamedTuple):
    """One training. `budget`: pictures seen; `size`: side of the pictures, px."""

    script: str
    category: str
    size: int
    budget: int
    precision: str
    way: str
    seed: int

    @property
    def key(self) -> str:
        return '/'.join(map(str, self))

    @classmethod
    def of_key(cls, key: str) -> Cell:
        script, category, size, budget, precision, way, seed = key.split('/')
        return cls(script, category, int(size), int(budget), precision, way, int(seed))

    @property
    def network(self) -> str:
        return self.script[len('train_') : -len('.py')]


def settings_of(cell: Cell, num_train: int) -> list[str]:
    """Return the values for --set of a cell, with `num_train` pictures to train with."""
    length = f'epochs={cell.budget / num_train:.6g}'
    size = f'network.image_size={cell.size},{cell.size}'
    cell_settings = [size, length, f'seed={cell.seed}', 'evaluations=1']
    return [*cell_settings, *WAYS[cell.way]]


def train(cell: Cell, records_dir: str, run_dir: str, num_train: int) -> float:
    """Train a cell; seconds that it took."""
    words = [
        cell.script, f'--data_dir={records_dir}', f'--model_dir={run_dir}',
        f'--category={cell.category}', f'--precision={cell.precision}', '--keep_checkpoints=1',
        '--log_every=100',
    ]  # fmt: skip
    sets = [f'--set={setting}' for setting in settings_of(cell, num_train)]
    return real_pictures.run([*words, *sets], f'the training of {cell.key}')


def measure(cell: Cell, records_dir: str, work_dir: str) -> dict[str, Any]:
    """Train and score a cell: its distances, plain and with the flip test, as plain values."""
    data = real_pictures.of_category(records_dir, cell.category)
    num_train = real_pictures.number_of(data, 'train')
    run_dir = os.path.join(work_dir, 'runs', cell.key.replace('/', '_').replace('.py', ''))
    seconds = train(cell, data, run_dir, num_train)
    row = {'seconds': round(seconds), 'num_train': num_train}
    return {**row, **real_pictures.scores(run_dir, os.path.join(data, 'val'))}


def table(cells: dict[str, Any]) -> list[tuple[str, ...]]:
    """Return a line for each way of each setting, ours first."""
    groups: dict[Cell, dict[str, dict[int, Any]]] = {}
    for key, row in cells.items():
        cell = Cell.of_key(key)
        group = groups.setdefault(cell._replace(way='', seed=0), {})
        group.setdefault(cell.way, {})[cell.seed] = row
    lines = []
    for setting, ways in groups.items():
        ours = [real_pictures.error_of(row, 'plain') for row in ways.get(OURS, {}).values()]
        for way in sorted(ways, key=list(WAYS).index):
            rows = [row for _, row in sorted(ways[way].items())]
            errors = [real_pictures.error_of(row, 'plain') for row in rows]
            mean = statistics.mean(errors)
            sums = np.mean([row['plain_sums'] for row in rows], axis=0)
            _, low, high = bootstrap.ratio_interval(sums, np.array(rows[0]['plain_counts']))
            flipped = statistics.mean(real_pictures.error_of(row, 'flip') for row in rows)
            ratio = f'{statistics.mean(ours) / mean:.2f}' if ours else ''
            lines.append((
                setting.network, setting.category, str(setting.size), setting.precision,
                f'{setting.budget:,}', way, ', '.join(f'{100 * error:.1f}' for error in errors),
                f'{100 * mean:.1f}', f'[{100 * low:.1f}, {100 * high:.1f}]', f'{100 * flipped:.1f}',
                '' if way == OURS else ratio,
            ))  # fmt: skip
    return lines


def precision_lines(cells: dict[str, Any]) -> list[str]:
    """Return a sentence for each way of a setting that was trained in both precisions, of the seeds
    that both have, paired by picture.
    """
    pairs: dict[Cell, dict[int, tuple[Any, Any]]] = {}
    for key, row in cells.items():
        cell = Cell.of_key(key)
        other = cells.get(cell._replace(precision='float32').key)
        if cell.precision == 'bfloat16' and other:
            pairs.setdefault(cell._replace(seed=0), {})[cell.seed] = row, other
    lines = []
    for cell, rows in pairs.items():
        # By sums, not by NE: each picture has as many points in both.
        differences = [np.subtract(a['plain_sums'], b['plain_sums']) for a, b in rows.values()]
        sums = np.mean(differences, axis=0)
        counts = np.array(next(iter(rows.values()))[0]['plain_counts'], float)
        seeds = ', '.join(map(str, sorted(rows)))
        found = bootstrap.compare_sums(sums[counts > 0], counts[counts > 0])
        value, low, high = (100 * end for end in found.difference)
        lines.append(
            f'- {cell.network}, {cell.category}, {cell.size} px, {cell.budget:,} pictures, '
            f'{cell.way}: NE of bfloat16 minus that of float32, mean of the seeds {seeds}: '
            f'**{value:+.2f}** points [{low:+.2f}, {high:+.2f}], p = {found.p_value:.2f}.\n'
        )
    return lines


def page(cells: dict[str, Any]) -> str:
    row = next(iter(cells.values()))
    counts = {
        key.split('/')[1]: (row['num_train'], len(row['plain_sums'])) for key, row in cells.items()
    }
    split = '; '.join(
        f'{category}: {train} to train with, {val} to validate with'
        for category, (train, val) in counts.items()
    )
    about = _ABOUT.format(split=split, machine=row['machine'])
    text = about + ledger.markdown_table(_HEADER, table(cells))
    lines = precision_lines(cells)
    return text + '\n## In bfloat16 and in float32\n\n' + ''.join(lines) if lines else text


def main(positional: list[str]) -> None:
    values = ledger.given(positional, 'data_dir', 'work_dir')
    ledger.check_names('ways', WAYS)
    path = os.path.join(values.work_dir, real_pictures.CELLS_FILE)
    records_dir = real_pictures.converted(values)
    products = itertools.product(values.categories, map(int, values.seeds), values.ways)
    for category, seed, way in products:
        cell = Cell(
            values.script, category, values.size, values.pictures, values.precision, way, seed
        )
        train_and_score = functools.partial(measure, cell, records_dir, values.work_dir)
        real_pictures.keep(path, cell.key, train_and_score)
    ledger.publish(page(real_pictures.load(path)), values.output)


if __name__ == '__main__':
    flags.DEFINE_string('data_dir', None, 'Annotated pictures, as convert_tfrecords.py reads them.')
    flags.DEFINE_string('work_dir', None, 'Where records, runs and cells.json are kept.')
    flags.DEFINE_string('script', 'train_resnet18_cpn.py', 'The recipe, whose network all train.')
    flags.DEFINE_list('categories', ['blouse'], "What is trained: categories, or 'all'.")
    flags.DEFINE_integer('pictures', 7600, 'Seen by every training.', 1)
    flags.DEFINE_integer('size', 192, 'Side of the pictures, px.', 32)
    flags.DEFINE_list('seeds', ['1', '2', '3'], 'A training each.')
    flags.DEFINE_list('ways', list(WAYS), 'Which ways to train.')
    flags.DEFINE_enum('precision', 'float32', ['float32', 'bfloat16'], 'Of the networks.')
    ledger.define_output('Markdown file for the page, too.')
    scripts.run(main, __doc__)
