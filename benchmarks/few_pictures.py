"""What a network learns from few real pictures, by what it starts from: NE on held-out ones.

    python -m benchmarks.few_pictures --data_dir=DATA --work_dir=WORK
                [--output=docs/few_pictures.md] [--script=train_efficientnet_lite0_dhn.py]
                [--category=all] [--pictures=50,100,200,400,1900] [--starts=scratch,ImageNet]
                [--steps=600] [--size=128] [--garments=2000] [--garment_steps=1200] [--seeds=1]

DATA holds annotated pictures in the layout of the challenge. A fifth of them, by a hash of their
content, is for validation. Each cell, a start with a number of pictures and a seed, is trained,
scored, and kept in WORK/cells.json: run again, the command goes on where it stopped. `ImageNet`
needs weights that `python -m utility.pretrained --get` fetches for the script's backbone.
"""

from __future__ import annotations

import functools
import itertools
import math
import os
import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from absl import flags

from benchmarks.common import ledger, real_pictures, recipes
from nets.precision import PRECISIONS
from utility.command_line import scripts
from utility.statistics import bootstrap

GARMENTS, IMAGENET = 'garments', 'ImageNet'
# Start -> the weights that the network has before the garments, if any; whether it sees these.
STARTS = {
    'scratch': (None, False),
    GARMENTS: (None, True),
    IMAGENET: (IMAGENET, False),
    f'{IMAGENET}+{GARMENTS}': (IMAGENET, True),
}
_COMMAND = 'python -m benchmarks.few_pictures --data_dir=SAMPLE --work_dir=WORK'
_GARMENT_SIZE = 256  # longest side of a synthetic picture, px
_GARMENT_VAL_FRACTION = 0.05  # of the synthetic ones: for their own NE in the log, no more
_ABOUT = """# Few real pictures

Made by

```
{command}
```

(its docstring has the flags). `{script}` at {size} px, category `{category}`, {precision}; every
training takes {steps} steps of {batch} pictures with the recipe's own schedule, seed {seeds}, and
its last weights are scored on {images} held-out real pictures of FashionAI's challenge ({points}
points; NE in percent, lower is better). {machine}.

- Rows are what a network starts from: **scratch**; **garments**, {garment_steps} steps on
  {garments} synthetic pictures (`demos/make_garments.py`); **ImageNet**, the published weights
  of `{backbone}`; **ImageNet+garments**, one after the other. Steps on garments come on top.
- Columns are real pictures to train with, the same number of each category; smaller sets are parts
  of larger ones. Brackets hold the 95 % interval of a bootstrap over the held-out pictures. It
  does not know how much other training pictures, or another seed, would change.
- **Doubling** is the factor on NE for twice the pictures: a straight line through the logarithms
  of the row. It says what more pictures brought here, at the same number of steps.

A longer training at a larger size: [real_pictures.md](real_pictures.md).

## Without test-time augmentation

"""


class Setting(NamedTuple):
    """What all cells of a page have in common.

    Attributes:
        script: The recipe.
        category: For --category, one or 'all'.
        size: Side of the pictures, px.
        steps: Of each training with real pictures.
        garments: Synthetic pictures.
        garment_steps: Of the training with these.
        precision: Of the networks.
    """

    script: str
    category: str
    size: int
    steps: int
    garments: int
    garment_steps: int
    precision: str

    @classmethod
    def of_flags(cls, values: flags.FlagValues) -> Setting:
        """Return what the flags say; without a flag: all categories, in float32."""
        told = {name: values[name].value for name in cls._fields if name in values}
        return cls(**{'category': 'all', 'precision': 'float32', **told})

    @property
    def prefix(self) -> str:
        return '/'.join(map(str, self)) + '/'

    @property
    def experiment(self):
        return recipes.load(recipes.select([self.script])[0])


def counts_of(available: dict[str, int], number: int) -> dict[str, int]:
    """Return the number of pictures of each category among `number`: equal where it can be."""
    counts, remaining = {}, number
    for index, name in enumerate(sorted(available, key=available.get)):
        counts[name] = min(available[name], remaining // (len(available) - index))
        remaining -= counts[name]
    return counts


def part_of(records_dir: str, target: str, number: int, seed: int) -> str:
    """Return records with `number` of the training pictures, and all for validation, as links.

    They are the first ones of an order that `seed` gives: smaller sets are parts of larger ones.
    """
    split = real_pictures.load(os.path.join(records_dir, 'dataset.json'))['splits']['train']
    counts = counts_of(split['records'], number)

    def first_ones(category: str, examples: Sequence[bytes]) -> Sequence[int]:
        return np.random.default_rng(seed).permutation(len(examples))[: counts[category]]

    return real_pictures.part_of(records_dir, target, first_ones)


def command(
    setting: Setting, data: str, run_dir: str, steps: int, seed: int, weights: str | None
) -> list[str]:
    """Return the script and its flags of a training of so many steps."""
    epochs = steps * setting.experiment.data.batch_size / real_pictures.number_of(data, 'train')
    return [
        setting.script,
        f'--data_dir={data}',
        f'--model_dir={run_dir}',
        f'--category={setting.category}',
        f'--precision={setting.precision}',
        '--keep_checkpoints=1',
        '--log_every=100',
        f'--set=network.image_size={setting.size},{setting.size}',
        f'--set=epochs={epochs:.8g}',
        f'--set=seed={seed}',
        '--set=evaluations=1',
        *([f'--init_checkpoint={weights}'] if weights else []),
    ]


def garments_of(setting: Setting, work_dir: str) -> str:
    """Return records of the synthetic garments, drawn if they are not there."""
    images_dir = os.path.join(work_dir, f'garments_{setting.garments}')
    if not os.path.exists(images_dir):
        words = [f'--count={setting.garments}', '--test_count=0', f'--size={_GARMENT_SIZE}']
        where = f'--output_dir={images_dir}.part'
        real_pictures.run(['demos/make_garments.py', where, *words], 'drawing garments')
        os.rename(f'{images_dir}.part', images_dir)
    records_dir = real_pictures.records_of(
        f'{images_dir}_records', images_dir, _GARMENT_VAL_FRACTION
    )
    return real_pictures.of_category(records_dir, setting.category)


def weights_of(start: str, setting: Setting, work_dir: str, seed: int) -> str | None:
    """Return the weights of a start for --init_checkpoint; trains on the garments if need be."""
    published, sees_garments = STARTS[start]
    weights = setting.experiment.network.backbone if published else None
    if not sees_garments:
        return weights
    size, steps = setting.size, setting.garment_steps
    name = f'{setting.script[:-3]}_{setting.category}_{size}_{setting.garments}_{steps}_{start}'
    run_dir = os.path.join(work_dir, 'runs', f'{name}_{setting.precision}_{seed}')
    data = garments_of(setting, work_dir)
    words = command(setting, data, run_dir, steps, seed, weights)
    real_pictures.run(words, f'the training on garments, {start},')  # no work if it is complete
    return os.path.join(run_dir, setting.category)


def measure(
    setting: Setting, records_dir: str, work_dir: str, start: str, number: int, seed: int
) -> dict[str, Any]:
    """Train and score a cell; its distances, plain and with the flip test, as plain values."""
    data = real_pictures.of_category(records_dir, setting.category)
    part = part_of(data, f'{data}_{number}_{seed}', number, seed)
    weights = weights_of(start, setting, work_dir, seed)
    run_dir = run_of(setting, work_dir, start, number, seed)
    return measure_part(setting, part, run_dir, seed, weights)


def run_of(setting: Setting, work_dir: str, start: str, number: int, seed: int) -> str:
    """Return the directory of the run of a cell."""
    key = f'{setting.prefix}{start}/{number}/{seed}'.replace('/', '_').replace('.py', '')
    return os.path.join(work_dir, 'runs', key)


def measure_part(
    setting: Setting, part: str, run_dir: str, seed: int, weights: str | None
) -> dict[str, Any]:
    """Train on a part of the records and score on its validation split; as of `measure`."""
    words = command(setting, part, run_dir, setting.steps, seed, weights)
    seconds = real_pictures.run(words, f'the training of {os.path.basename(run_dir)}')
    row = {'seconds': round(seconds), 'num_train': real_pictures.number_of(part, 'train')}
    return {**row, **real_pictures.scores(run_dir, os.path.join(part, 'val'))}


def grouped(cells: dict[str, Any], setting: Setting) -> dict[tuple[str, int], list[dict]]:
    """Return (start, number) -> the rows of its seeds, of one setting."""
    groups: dict[tuple[str, int], list[dict]] = {}
    for key, row in cells.items():
        if key.startswith(setting.prefix):
            start, number, _ = key[len(setting.prefix) :].split('/')
            groups.setdefault((start, int(number)), []).append(row)
    return groups


def interval_of(rows: Sequence[dict[str, Any]], name: str):
    """Return NE of the seeds' mean with its interval."""
    sums = np.mean([row[f'{name}_sums'] for row in rows], axis=0)
    return bootstrap.ratio_interval(sums, np.array(rows[0][f'{name}_counts']))


def doubling(numbers: Sequence[int], errors: Sequence[float]) -> float:
    """Return the factor on NE for twice the pictures: of a straight line through the logarithms."""
    slope = statistics.linear_regression([*map(math.log2, numbers)], [*map(math.log2, errors)])[0]
    return 2**slope


def table(groups: dict[tuple[str, int], list[dict]], name: str) -> str:
    """Return a line for each start, a column for each number of pictures."""
    numbers = sorted({number for _, number in groups})
    counts = {n: groups[key][0]['num_train'] for n in numbers for key in groups if key[1] == n}
    lines = []
    for start in STARTS:
        rows_by_number = {n: groups[start, n] for n in numbers if (start, n) in groups}
        if not rows_by_number:
            continue
        values = {n: interval_of(rows, name) for n, rows in rows_by_number.items()}
        texts = [
            '{:.1f} [{:.1f}, {:.1f}]'.format(*(100 * end for end in values[n]))
            if n in values
            else ''
            for n in numbers
        ]
        errors = [values[n].value for n in values]
        factor = f'{doubling([counts[n] for n in values], errors):.2f}' if len(values) > 1 else ''
        lines.append((start, *texts, factor))
    return ledger.markdown_table(('start', *(f'{counts[n]:,}' for n in numbers), 'doubling'), lines)


def page(cells: dict[str, Any], setting: Setting, command_text: str) -> str:
    """Return the Markdown page of what has been measured in a setting."""
    groups = grouped(cells, setting)
    row = next(iter(groups.values()))[0]
    seeds = sorted({key.rsplit('/', 1)[1] for key in cells if key.startswith(setting.prefix)})
    about = _ABOUT.format(
        **setting._asdict(),
        command=command_text,
        batch=setting.experiment.data.batch_size,
        backbone=setting.experiment.network.backbone,
        seeds=', '.join(seeds),
        **real_pictures.counts_of(row),
    )
    return f'{about}{table(groups, "plain")}\n## With the flip test\n\n{table(groups, "flip")}'


def main(positional: list[str]) -> None:
    values = ledger.given(positional, 'data_dir', 'work_dir')
    ledger.check_names('starts', STARTS)
    numbers = ledger.numbers_of('pictures')
    setting = Setting.of_flags(values)
    path = os.path.join(values.work_dir, real_pictures.CELLS_FILE)
    records_dir = real_pictures.converted(values)
    for seed, number, start in itertools.product(values.seeds, numbers, values.starts):
        cell = setting, records_dir, values.work_dir, start, number, int(seed)
        key = f'{setting.prefix}{start}/{number}/{seed}'
        real_pictures.keep(path, key, functools.partial(measure, *cell))
    flag_names = (*Setting._fields, 'pictures', 'starts', 'seeds', 'output')
    command_text = ledger.command(_COMMAND, flag_names, values)
    ledger.publish(page(real_pictures.load(path), setting, command_text), values.output)


def define_flags() -> None:
    """Define the flags of all commands with such trainings."""
    flags.DEFINE_string('data_dir', None, 'Annotated pictures, as convert_tfrecords.py reads them.')
    flags.DEFINE_string('work_dir', None, 'Where records, runs and what was measured are kept.')
    flags.DEFINE_string('script', 'train_efficientnet_lite0_dhn.py', 'The recipe.')
    flags.DEFINE_integer('steps', 600, 'Of each training with real pictures.', 1)
    flags.DEFINE_integer('size', 128, 'Side of the pictures, px.', 32)
    flags.DEFINE_integer('garments', 2000, 'Synthetic pictures.', 100)
    flags.DEFINE_integer('garment_steps', 1200, 'Of the training with synthetic pictures.', 1)
    ledger.define_output('Markdown file for the page, too.')


if __name__ == '__main__':
    define_flags()
    flags.DEFINE_string('category', 'all', 'What is trained: a category, or all.')
    flags.DEFINE_list('pictures', ['50', '100', '200', '400', '1900'], 'Real ones to train with.')
    flags.DEFINE_list('starts', list(STARTS), 'What to start from.')
    flags.DEFINE_list('seeds', ['1'], 'A training each; of the choice of pictures, too.')
    flags.DEFINE_enum('precision', 'float32', PRECISIONS, 'Of the networks.')
    scripts.run(main, __doc__)
