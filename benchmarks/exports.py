"""Exports of four recipes in every format: size, points, NE and speed of each file.

    python -m benchmarks.exports --data_dir=RECORDS/val [--runs=resnet18_cpn=logs/resnet18_cpn,...]
                                 [--output=docs/export_measured.md] [--json=exports.json]

A recipe without a run is exported with its initial weights: then distances and speed mean
something, and NE does not. Each file is made and run in processes of their own. With --json a run
that was interrupted is completed by the next.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from typing import Any

from absl import flags, logging

from benchmarks import isolated, ledger, recipes, synthetic_runs
from config import UserError
from utility.command_line import scripts

RECIPES = ('efficientnet_lite0_dhn', 'resnet18_cpn', 'resnet50_cpn', 'seresnext50_cpn')
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
    'largest, px', 'images/s', "TensorFlow's images/s", 'start-up, s',
)  # fmt: skip
_ABOUT = """# Exports, measured

Made by `{command}`: `utility.export`, and `--check` of what it wrote, over {split}.

NE is of the split's images, distances are between the points of a file and those of the same
network in TensorFlow, in px of the images. A file predicts one image a call, TensorFlow 16 a
batch; the time of a call is that of reading, decoding and predicting. Trained: {trained}. The other
recipes have their initial weights, so that their NE says nothing; distances between the points of
maps without a peak are larger than those of a trained network.

"""


def _define_flags() -> None:
    ledger.define_output('Markdown file for the table.')
    flags.DEFINE_string('data_dir', None, 'A labelled split of the records.')
    flags.DEFINE_list('runs', [], 'recipe=RUN of each recipe that was trained.')
    flags.DEFINE_list('recipes', list(RECIPES), 'Which.')
    flags.DEFINE_string('calibrate', None, 'Split for int8; default: --data_dir.')
    flags.DEFINE_string('json', None, 'Where the rows are kept.')


def main(positional: list[str]) -> None:
    scripts.no_positional(positional)
    values = flags.FLAGS
    if not values.data_dir:
        raise UserError('--data_dir is missing: a labelled split of the records')
    runs = dict(pair.split('=', 1) for pair in values.runs if '=' in pair)
    calibrate = values.calibrate or values.data_dir
    settings = {'data_dir': values.data_dir, 'calibrate': calibrate, 'runs': runs}
    book = ledger.Ledger(values.json, settings)
    for recipe in values.recipes:
        experiment = recipes.load(recipe)
        missing = [f for f in FILES if book.is_missing(' '.join((recipe, *f)), experiment)]
        with tempfile.TemporaryDirectory() as folder:
            run = runs.get(recipe)
            if missing and not run:
                run = os.path.join(folder, recipe)
                isolated.call(synthetic_runs.write_run, run, experiment)
            for file in missing:
                name = ' '.join((recipe, *file))
                book.add(name, experiment, _row(run, file, values.data_dir, calibrate))
                logging.info('%s: %s', name, book.rows[name])
    listed = ('data_dir', 'runs', 'calibrate', 'output')
    command = ledger.command('python -m benchmarks.exports', listed, values)
    ledger.publish(page(book.rows, command, values.data_dir, runs), values.output)


def _row(run: str, file: tuple[str, str], split_dir: str, calibrate: str) -> dict[str, Any]:
    """Return the row of a file, or why there is none."""
    try:
        return isolated.call(measure, run, *file, split_dir, calibrate)
    except isolated.FailedError as error:
        return {ledger.FAILURE: ' '.join(str(error).split())[-160:]}


def measure(run: str, name: str, precision: str, split_dir: str, calibrate: str) -> dict[str, Any]:
    """Export the network of a run and check the folder; a row of the table."""
    from utility.export import calibration, check, folder
    from utility.export.formats import Settings
    from utility.export.graph import ExportGraph
    from utility.predict import fusion
    from utility.predict.views_to_points import PredictOptions

    options = PredictOptions()
    graph = ExportGraph(fusion.load_network(run, options), options)
    images = calibration.images_of(calibrate, graph.schema, 32)
    crops = [graph.crop(image)[0].numpy() for image in images]
    with tempfile.TemporaryDirectory() as directory:
        output = os.path.join(directory, 'out')
        folder.export(graph, name, output, Settings(precision, crops), images)
        report = check.check(output, split_dir, run)
    return {
        'machine': isolated.describe_machine(),
        'bytes': report.size,
        **{f'file_{key}': value for key, value in report.file._asdict().items()},
        **{f'network_{key}': value for key, value in report.network._asdict().items()},
        **report.distances._asdict(),
    }


def page(rows: Mapping[str, Mapping[str, Any]], command: str, split: str, runs) -> str:
    """Return the whole page, of the rows that there are."""
    about = _ABOUT.format(command=command, split=split, trained=', '.join(sorted(runs)) or 'none')
    table = ledger.markdown_table(_HEADER, (_cells(name, row) for name, row in rows.items()))
    return about + ledger.machines(rows) + table


def _cells(name: str, row: Mapping[str, Any]) -> list[str]:
    if ledger.FAILURE in row:
        return [*name.split(' '), row[ledger.FAILURE].replace('|', '/'), *[''] * (len(_HEADER) - 4)]
    numbers = (
        row['bytes'] / 1e6,
        100 * row['file_normalized_error'], 100 * row['network_normalized_error'],
        row['median'], row['p90'], row['largest'], row['file_rate'], row['network_rate'],
        row['file_start'],
    )  # fmt: skip
    return [*name.split(' '), *(f'{number:.4g}' for number in numbers)]


if __name__ == '__main__':
    _define_flags()
    scripts.run(main, __doc__)
