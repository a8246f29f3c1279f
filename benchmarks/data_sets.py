"""What other data sets cost: items of COCO beside pictures of FashionAI in a conversion, and 294
points, those of DeepFashion2, beside 24 in a training.

    python -m benchmarks.data_sets [--items=10000,100000] [--steps=5] [--output=docs/data_sets.md]
    python -m benchmarks.data_sets --only=conversion

Pictures of a conversion have few pixels, so that what is done for each item shows beside them. A
training is some steps of a recipe at 256 px.
"""

from __future__ import annotations

import itertools
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from absl import flags

from benchmarks import networks
from benchmarks.common import (
    commands,
    isolated,
    ledger,
    recipes,
    report,
    simulated_models,
    synthetic_data,
)
from benchmarks.common.commands import Cost
from benchmarks.common.report import MET, TARGET, Target
from preprocessing import writers
from preprocessing.datasets import named_schema
from preprocessing.datasets.fashionai import SCHEMA
from preprocessing.writers import coco
from utility.command_line import scripts

SIDE = 32  # px of the pictures of a conversion
IMAGE_SIZE, BATCH_SIZE = 256, 8  # of a training
_COCO, _FASHIONAI = 'COCO items', 'FashionAI pictures'
_DATASETS = {_COCO: 'coco', _FASHIONAI: 'fashionai'}
_MEMORY = Target(at_most=10, unit='kB')  # of each further item: its annotation is held
_RATIO = Target(at_least=1.0)
_PARTS = ('conversion', 'training')
_COMMAND = 'python -m benchmarks.data_sets'


def write_coco(folder: str, num_items: int) -> None:
    """Write the points of synthetic_data.write as COCO: an item a picture, with its box."""
    table = simulated_models.annotations(0, num_items, list(SCHEMA.categories))
    table = simulated_models.scaled(table, SIDE)
    garments = [
        writers.Garment(f'{synthetic_data.SPLIT}/{name}', '', str(category), *points, (SIDE, SIDE))
        for name, category, *points in zip(
            table.image_ids, table.categories, table.keypoints, table.visibility
        )
    ]
    ids = coco.usual_ids([garment.image_name for garment in garments], SCHEMA)
    path = Path(folder, 'annotations', 'train.json')
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(coco.annotations(garments, SCHEMA, ids)))


def conversion_costs(sizes: Sequence[int], rounds: int) -> dict[int, dict[str, list[Cost]]]:
    """Convert the same pictures by a COCO file and by FashionAI's CSV, each by one process.

    Args:
        sizes: Numbers of pictures.
        rounds: How often; all are converted once before one is converted again.

    Returns:
        Number -> which of the two -> what each time took.
    """
    found = {size: {name: [] for name in _DATASETS} for size in sizes}
    with tempfile.TemporaryDirectory() as folder:
        for size in sizes:
            isolated.call(synthetic_data.write, f'{folder}/{size}', size, SIDE)
            isolated.call(write_coco, f'{folder}/{size}', size)
        for _, size, name in itertools.product(range(rounds), sizes, _DATASETS):
            words = f'--dataset={_DATASETS[name]} --data_dir={folder}/{size}'.split()
            words += [f'--records_dir={folder}/records', '--val_fraction=0', '--num_workers=1']
            found[size][name].append(commands.run('convert_tfrecords.py', *words))
            shutil.rmtree(f'{folder}/records')
    return found


def conversion_table(by_size: Mapping[int, Mapping[str, Sequence[Cost]]]) -> str:
    """Return a page's part from the costs of two or more numbers of items, ascending."""
    *_, before, last = by_size
    seconds = {
        size: {n: statistics.median(cost.cpu_seconds for cost in costs[n]) for n in costs}
        for size, costs in by_size.items()
    }
    memory = {
        size: {n: commands.memory_of(costs[n]) for n in costs} for size, costs in by_size.items()
    }
    rows, growth, rates = [], {}, {}
    for name in by_size[last]:
        more_memory = memory[last][name] - memory[before][name]
        growth[name] = more_memory * 2**30 / 1e3 / (last - before)
        more_seconds = seconds[last][name] - seconds[before][name]
        rates[name] = (last - before) / max(1e-9, more_seconds)
        cells = [f'{seconds[size][name]:.1f} / {memory[size][name]:.2f}' for size in by_size]
        rows.append([name, *cells, f'{rates[name]:,.0f}', f'{growth[name]:.1f}'])
    header = (
        '',
        *(f'{size:,}: CPU s / GiB' for size in by_size),
        'further ones a CPU s',
        'kB a further one',
    )
    ratio = rates[_COCO] / rates[_FASHIONAI]
    targets = [
        ['COCO, times the rate of FashionAI', f'{ratio:.2f}', *_RATIO.cells(ratio)],
        ['COCO, kB a further item', f'{growth[_COCO]:.1f}', *_MEMORY.cells(growth[_COCO])],
    ]
    rounds = len(by_size[last][_COCO])
    return (
        '## Conversion\n\n'
        f'The same pictures of {SIDE} px with the same points, an item in each, by one process. '
        f'Whole commands, {rounds} of each, in turn: the median of the CPU seconds of all cores, '
        'and the most memory of the largest process.\n\n'
        f'{ledger.markdown_table(header, rows)}\n'
        f'{ledger.markdown_table(("", "measured", TARGET, MET), targets)}\n'
    )


def training_steps(recipe: str, dataset: str, num_steps: int) -> tuple[float, float]:
    """Train on noise; return the median CPU seconds of a step after the first, and peak GiB."""
    experiment = recipes.resized(recipes.load(recipe), IMAGE_SIZE)
    experiment = experiment.override(f'data.dataset={dataset}')
    action = networks.step(experiment, 'train', BATCH_SIZE)[0]
    action()
    seconds = []
    for _ in range(num_steps):
        start = time.process_time()
        action()
        seconds.append(time.process_time() - start)
    return statistics.median(seconds), isolated.peak_memory()


def training_table(recipe: str, costs: Mapping[int, tuple[float, float]]) -> str:
    """Return a page's part from number of points -> seconds of a step and GiB."""
    rows = [[f'{n} points', f'{s:.2f}', f'{m:.2f}'] for n, (s, m) in costs.items()]
    seconds, memory = (max(part) / min(part) for part in zip(*(costs[n] for n in sorted(costs))))
    header = ('', 'CPU s a step', 'memory, GiB')
    return (
        '## Training\n\n'
        f'The step of `train_{recipe}.py` at {IMAGE_SIZE} px in batches of {BATCH_SIZE}, on noise, '
        'heat maps, loss, gradients and update in it: the median of the CPU seconds of all cores, '
        'without the first step; memory is that of the whole process.\n\n'
        f'{ledger.markdown_table(header, rows)}\n'
        f'{max(costs)} points take {seconds:.2f} times the time and {memory:.2f} times the memory '
        f'of {min(costs)}.\n'
    )


def page(values: flags.FlagValues, parts: Sequence[str]) -> str:
    """Return the parts below a heading that tells how they were measured."""
    command = ledger.command(_COMMAND, ('only', 'items', 'rounds', 'recipe', 'steps'), values)
    return f'# What other data sets cost\n\n{report.made_by(command)}' + '\n'.join(parts)


def main(positional: list[str]) -> None:
    scripts.no_positional(positional)
    values = flags.FLAGS
    ledger.check_names('only', _PARTS)
    sizes, parts = ledger.numbers_of('items', 2), []
    if 'conversion' in (values.only or _PARTS):
        parts.append(conversion_table(conversion_costs(sizes, values.rounds)))
    if 'training' in (values.only or _PARTS):
        costs = {
            named_schema(name).num_keypoints: isolated.call(
                training_steps, values.recipe, name, values.steps
            )
            for name in ('fashionai', 'deepfashion2')
        }
        parts.append(training_table(values.recipe, costs))
    ledger.publish(page(values, parts), values.output)


if __name__ == '__main__':
    flags.DEFINE_list('only', [], f'Parts to measure, of {", ".join(_PARTS)}; none: all.')
    flags.DEFINE_list('items', ['10000', '100000'], 'Numbers of items to convert.')
    flags.DEFINE_integer('rounds', 3, 'How often each is converted.', lower_bound=1)
    flags.DEFINE_string('recipe', 'resnet50_cpn', 'That is trained.')
    flags.DEFINE_integer('steps', 5, 'Of a training.', lower_bound=1)
    ledger.define_output('Markdown file for the page.')
    scripts.run(main, __doc__)
