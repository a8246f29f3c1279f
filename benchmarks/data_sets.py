"""What other data sets cost: items of COCO beside pictures of FashionAI in a conversion, and 294
points, those of DeepFashion2, beside 24 in a training.

    python -m benchmarks.data_sets [--items=10000,100000] [--steps=5] [--output=docs/data_sets.md]
    python -m benchmarks.data_sets --only=conversion

Pictures of a conversion have few pixels, so that what is done for each item shows beside them. A
training is some steps of a recipe at 256 px.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from absl import flags

from benchmarks import networks
from benchmarks.common import commands, isolated, ledger, recipes, report, synthetic_data
from benchmarks.common.commands import Cost
from benchmarks.common.report import MET, TARGET, Target
from preprocessing.datasets import named_schema
from preprocessing.datasets.fashionai import SCHEMA
from utility.command_line import scripts

SIDE = 32  # px of the pictures of a conversion
IMAGE_SIZE, BATCH_SIZE = 256, 8  # of a training
_ITEMS_PER_PICTURE = 2
_COCO, _FASHIONAI = 'COCO items', 'FashionAI pictures'
_MEMORY = Target(at_most=10, unit='kB')  # of each further item: its annotation is held
_RATIO = Target(at_least=1.0)
_PARTS = ('conversion', 'training')
_COMMAND = 'python -m benchmarks.data_sets'


def write_coco(folder: str, num_items: int) -> None:
    """Write a COCO keypoint file of garments with the points and categories of FashionAI, two a
    picture, each with its box.
    """
    from benchmarks.common import simulated_models
    from preprocessing import writers
    from preprocessing.writers import coco

    table = simulated_models.annotations(0, num_items, list(SCHEMA.categories))
    table = simulated_models.scaled(table, SIDE)
    garments = []
    Path(folder, 'images').mkdir(parents=True)
    jpegs = [synthetic_data.draw_jpeg(number, SIDE) for number in range(16)]
    for row, category in enumerate(table.categories):
        number, item = divmod(row, _ITEMS_PER_PICTURE)
        name = f'{number:06d}.jpg'
        if not item:
            jpeg = synthetic_data.numbered(jpegs[number % len(jpegs)], number)
            Path(folder, 'images', name).write_bytes(jpeg)
        points = table.keypoints[row], table.visibility[row], (SIDE, SIDE)
        garments.append(writers.Garment(name, str(item), str(category), *points))
    ids = coco.usual_ids([garment.image_name for garment in garments], SCHEMA)
    text = json.dumps(coco.annotations(garments, SCHEMA, ids))
    Path(folder, 'train.json').write_text(text)


def conversion_costs(num_items: int) -> dict[str, Cost]:
    """Convert as many items of COCO and pictures of FashionAI, each by one process."""
    costs = {}
    for name, dataset, write, arguments in (
        (_COCO, 'coco', write_coco, ()),
        (_FASHIONAI, 'fashionai', synthetic_data.write, (SIDE,)),
    ):
        with tempfile.TemporaryDirectory() as folder:
            isolated.call(write, f'{folder}/data', num_items, *arguments)
            words = f'--dataset={dataset} --data_dir={folder}/data --records_dir={folder}/records'
            costs[name] = commands.run(
                'convert_tfrecords.py', *words.split(), '--val_fraction=0', '--num_workers=1'
            )
    return costs


def conversion_table(by_size: Mapping[int, Mapping[str, Cost]]) -> str:
    """Return a page's part from the costs of two or more numbers of items, ascending."""
    *_, before, last = by_size
    rows, growth, rates = [], {}, {}
    for name in by_size[last]:
        few, many = by_size[before][name], by_size[last][name]
        growth[name] = (many.memory - few.memory) * 2**30 / 1e3 / (last - before)
        rates[name] = (last - before) / max(1e-9, many.cpu_seconds - few.cpu_seconds)
        cells = [
            f'{costs[name].cpu_seconds:.1f} / {costs[name].memory:.2f}'
            for costs in by_size.values()
        ]
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
    return (
        '## Conversion\n\n'
        f'Pictures of {SIDE} px, two items in each of COCO, by one process. Whole commands, run '
        'once: CPU seconds of all cores, and the memory of the largest process.\n\n'
        f'{ledger.markdown_table(header, rows)}\n'
        f'{ledger.markdown_table(("", "measured", TARGET, MET), targets)}\n'
    )


def training_steps(recipe: str, dataset: str, num_steps: int) -> tuple[float, float]:
    """Train a recipe on noise with the points of a data set; the median of the CPU seconds of a
    step, without the first, and GiB of memory. In a process of its own.
    """
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
    command = ledger.command(_COMMAND, ('only', 'items', 'recipe', 'steps'), values)
    return f'# What other data sets cost\n\n{report.made_by(command)}' + '\n'.join(parts)


def main(positional: list[str]) -> None:
    scripts.no_positional(positional)
    values = flags.FLAGS
    ledger.check_names('only', _PARTS)
    sizes, parts = ledger.numbers_of('items', 2), []
    if 'conversion' in (values.only or _PARTS):
        parts.append(conversion_table({size: conversion_costs(size) for size in sizes}))
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
    flags.DEFINE_string('recipe', 'resnet50_cpn', 'That is trained.')
    flags.DEFINE_integer('steps', 5, 'Of a training.', lower_bound=1)
    ledger.define_output('Markdown file for the page.')
    scripts.run(main, __doc__)
