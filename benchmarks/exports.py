"""Exports of four recipes in every format: size, points, NE and speed of each file.

    python -m benchmarks.exports --data_dir=RECORDS/val [--runs=resnet18_cpn=logs/resnet18_cpn,...]
                                 [--splits=resnet18_cpn=OTHER/val,...]
                                 [--output=docs/export_measured.md] [--json=exports.json]

A recipe without a run is exported with its initial weights: then distances and speed mean
something, and NE does not. Each file is made and run in processes of their own. With --json a run
that was interrupted is completed by the next.
"""

from __future__ import annotations

import collections
import functools
import os
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from absl import flags, logging

from benchmarks.common import isolated, ledger, recipes, synthetic_runs
from config import UserError
from utility.checkpoints import runs as runs_of
from utility.command_line import scripts
from utility.predict import load

RECIPES = ('efficientnet_lite0_cpn', 'resnet18_dhn', 'resnet50_cpn', 'seresnext50_cpn')
FILES = (
    ('saved_model', 'float32'),
    ('onnx', 'float32'),
    ('onnx', 'float16'),
    ('onnx', 'int8'),
    ('tflite', 'float32'),
    ('tflite', 'float16'),
    ('tflite', 'int8'),
)
_HEADER = (
    'recipe', 'format', 'precision', 'MB', 'NE, %', "checkpoint's NE, %", 'median, px', 'p90, px',
    'largest, px', 'images/s', "TensorFlow's images/s", 'rate by rounds', 'start-up, s', 'load',
)  # fmt: skip
_ABOUT = """# Exports, measured

Made by

```
{command}
```

Each row is `python -m utility.export`, and `--check` of what it wrote over images of the split. NE
is of those images; distances are between the points of the file and those of the same network in
TensorFlow, in px of the images. A file predicts one image a call, TensorFlow 16 a batch; a call
reads, decodes and predicts. By rounds: how many times TensorFlow's rate the file's is where both go
from pixels to points in turn, {round_images} images a round, the median of {rounds}. The load
is that of the machine (processes that wanted to run): above its cores, rates say little. What is
untrained has its initial weights: its NE says nothing, and neither do its points in int8, because
its maps have no peaks; {untrained} images are enough for it.

"""
_CALIBRATION_IMAGES = 32
_ROUNDS, _ROUND_IMAGES, _BATCH_SIZE = 7, 16, 16
_UNTRAINED_IMAGES = 16  # of which time alone means something


def _define_flags() -> None:
    ledger.define_output('Markdown file for the table.')
    flags.DEFINE_string('data_dir', None, 'A labelled split of the records.')
    flags.DEFINE_list('splits', [], 'recipe=SPLIT of each recipe that has another one.')
    flags.DEFINE_list(
        'runs', [], 'recipe=RUN of each recipe that was trained: of one network each.'
    )
    flags.DEFINE_list('recipes', list(RECIPES), 'Which.')
    flags.DEFINE_list('files', [' '.join(file) for file in FILES], 'Which, "onnx int8".')
    flags.DEFINE_integer('images', 200, 'Of a split, to predict.', lower_bound=2)
    flags.DEFINE_string('json', None, 'Where the rows are kept.')


class _Case(NamedTuple):
    """A recipe to export.

    Attributes:
        run: Its run; None: it was not trained.
        split: To predict, which calibrates int8, too, by its sibling `train` if there is one.
        images: Of the split.
    """

    run: str | None
    split: str
    images: int


def main(positional: list[str]) -> None:
    scripts.no_positional(positional)
    values = flags.FLAGS
    if not values.data_dir:
        raise UserError('--data_dir is missing: a labelled split of the records')
    runs, splits = _pairs('runs', values.runs), _pairs('splits', values.splits)
    book = ledger.Ledger(values.json, {'images': values.images})
    for recipe in values.recipes:
        split = splits.get(recipe, values.data_dir)
        images = values.images if recipe in runs else _UNTRAINED_IMAGES
        case = _Case(runs.get(recipe), split, images)
        _measure_recipe(book, recipe, case, [tuple(file.split(' ')) for file in values.files])
    listed = ('data_dir', 'splits', 'runs', 'images', 'output')
    command = ledger.command('python -m benchmarks.exports', listed, values)
    ledger.publish(page(book.rows, command), values.output)


def _pairs(flag: str, texts: Sequence[str]) -> dict[str, str]:
    for text in texts:
        if '=' not in text:
            raise UserError(f'--{flag}={text}: must be recipe=PATH')
    return dict(text.split('=', 1) for text in texts)


def _measure_recipe(
    book: ledger.Ledger, recipe: str, case: _Case, files: Sequence[tuple[str, str]]
) -> None:
    """Add the rows of a recipe that are missing."""
    experiment = runs_of.load_experiment(_network(case.run)) if case.run else recipes.load(recipe)
    missing = [file for file in files if book.is_missing(' '.join((recipe, *file)), experiment)]
    with tempfile.TemporaryDirectory() as folder:
        run = case.run
        if missing and not run:
            run = os.path.join(folder, recipe)
            isolated.call(synthetic_runs.write_run, run, experiment)
        for file in missing:
            name = ' '.join((recipe, *file))
            told = {'size': experiment.network.image_size[0], 'is_trained': bool(case.run)}
            row = _row(_network(run), file, case)
            book.add(name, experiment, row if ledger.FAILURE in row else {**told, **row})
            logging.info('%s: %s', name, book.rows[name])


def _network(run: str) -> str:
    """Return the folder of the only network of a run."""
    (folder,) = runs_of.networks(run).values()
    return folder


def _row(run: str, file: tuple[str, str], case: _Case) -> dict[str, Any]:
    """Return the row of a file, or why there is none."""
    try:
        return isolated.call(measure, run, *file, case)
    except isolated.FailedError as error:
        return {ledger.FAILURE: ' '.join(str(error).split())[-160:]}


def measure(run: str, name: str, precision: str, case: _Case) -> dict[str, Any]:
    """Export the network of a run and check the folder; a row of the table."""
    from utility.export import calibration, check, folder
    from utility.export.formats import Settings
    from utility.export.graph import ExportGraph
    from utility.predict import fusion
    from utility.predict.views_to_points import PredictOptions

    options = PredictOptions()
    graph = ExportGraph(fusion.load_network(run, options), options)
    train = os.path.join(os.path.dirname(case.split.rstrip('/')), 'train')
    calibrate = train if os.path.isdir(train) else case.split
    images = calibration.images_of(calibrate, graph.schema, _CALIBRATION_IMAGES)
    crops = calibration.crops_of(images, graph)
    with tempfile.TemporaryDirectory() as directory:
        output = os.path.join(directory, 'out')
        folder.export(graph, name, output, Settings(precision, crops), images)
        report = check.check(output, case.split, run, case.images)
        times = _times_faster(run, output, images[:_ROUND_IMAGES])
    return {
        'machine': isolated.describe_machine(),
        'bytes': report.size,
        'times': times,
        'load': os.getloadavg()[0],
        **{f'file_{key}': value for key, value in report.file._asdict().items()},
        **{f'network_{key}': value for key, value in report.network._asdict().items()},
        **report.distances._asdict(),
    }


def _times_faster(run: str, output: str, images: Sequence[np.ndarray]) -> float:
    """Return how many times the rate of a run that of its file is: the median over rounds, in which
    both predict the same images, from pixels to points, one after the other.
    """
    with load(run, batch_size=_BATCH_SIZE) as network, load(output) as file:
        work = [
            functools.partial(_seconds, model, images, network.categories[0])
            for model in (network, file)
        ]
        rounds = [[seconds() for seconds in work] for _ in range(1 + _ROUNDS)]
    return statistics.median(ours / theirs for ours, theirs in rounds[1:])  # the first: start-up


def _seconds(model, images: Sequence[np.ndarray], category: str) -> float:
    begin = time.perf_counter()
    collections.deque(model.predict_each(images, category), maxlen=0)
    return time.perf_counter() - begin


def page(rows: Mapping[str, Mapping[str, Any]], command: str) -> str:
    """Return the whole page, of the rows that there are."""
    table = ledger.markdown_table(_HEADER, (_cells(name, row) for name, row in rows.items()))
    return (
        _ABOUT.format(
            command=command, untrained=_UNTRAINED_IMAGES, round_images=_ROUND_IMAGES, rounds=_ROUNDS
        )
        + ledger.machines(rows)
        + table
    )


def _cells(name: str, row: Mapping[str, Any]) -> list[str]:
    if ledger.FAILURE in row:
        return [*name.split(' '), row[ledger.FAILURE].replace('|', '/'), *[''] * (len(_HEADER) - 4)]
    recipe, *file = name.split(' ')
    numbers = (
        row['bytes'] / 1e6, *(row[key] for key in ('median', 'p90', 'largest')),
        row['file_rate'], row['network_rate'], row['times'], row['file_start'],
        row['load'],
    )  # fmt: skip
    errors = [f'{100 * row[f"{key}_normalized_error"]:.3f}' for key in ('file', 'network')]
    is_trained = '' if row['is_trained'] else ', untrained'
    size, *rest = (f'{number:.4g}' for number in numbers)
    return [f'{recipe}, {row["size"]} px{is_trained}', *file, size, *errors, *rest]


if __name__ == '__main__':
    _define_flags()
    scripts.run(main, __doc__)
