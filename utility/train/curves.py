"""A page with the curves of a training, `curves.html` beside its checkpoints.

Written anew after each evaluation, from metrics.csv and evaluations.csv; it is one file without
scripts that can be opened anywhere, mailed, or kept beside the results.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from absl import logging

from utility.checkpoints import evaluations, step_tables
from utility.checkpoints.best import best_step
from utility.train import log
from utility.visualization import charts, html_page
from utility.visualization.charts import Line

FILE = 'curves.html'
_ERROR = log.ERROR
_MOST_ROWS = 20  # of the table of evaluations


def make_evaluation_callback(folder: str) -> evaluations.EvaluationCallback:
    """Return the callback that writes the page of the network in `folder`.

    A page that cannot be written is a warning: it ends no training.
    """

    def draw_curves(step: int, _: evaluations.Metrics) -> str | None:
        try:
            write_page(folder, step)
        except OSError as error:
            logging.warning('no page of curves: %s', error)

    return draw_curves


def write_page(folder: str, step: int) -> None:
    """Write the page of a network up to a step: it is complete or as it was before.

    Raises:
        OSError: It cannot be written.
        UserError: A table is broken.
    """
    evaluated = evaluations.read(folder, up_to=step)
    template = html_page.template(__file__, 'curves.html')
    path = os.path.abspath(folder) if '://' not in folder else folder
    values = {
        'title': 'Training of ' + '/'.join(path.rstrip('/').split('/')[-2:]),
        'summary': _summary(evaluated),
        'charts': charts_of(folder, step),
        'table': _table(evaluated),
    }
    html_page.write_page(os.path.join(folder, FILE), template, values)


def charts_of(folder: str, step: int, prefix: str = '') -> dict[str, charts.Chart]:
    """Return title -> the curves of a network up to a step, of which there are numbers.

    Args:
        step: The last that is shown.
        prefix: Of what is said of each, which makes those of one page different.

    Raises:
        UserError: A table is broken.
    """
    trained = step_tables.read(os.path.join(folder, log.FILE), up_to=step)
    lines = _lines(trained, evaluations.read(folder, up_to=step))
    drawn = {title: charts.draw(prefix + title, series, step) for title, series in lines.items()}
    return {title: chart for title, chart in drawn.items() if chart}


_Rows = Mapping[int, Mapping[str, float]]


def _lines(trained: _Rows, evaluated: _Rows) -> dict[str, list[Line]]:
    """Return the title of a chart -> its lines."""
    outputs = sorted({n for row in trained.values() for n in row if n.startswith(log.OUTPUT_LOSS)})
    losses = [_line(trained, log.LOSS, 'of batches')]
    if len(outputs) > 1:
        losses += [_line(trained, n, 'output ' + n.rpartition('_')[2]) for n in outputs]
    categories = sorted(
        {n for row in evaluated.values() for n in row if n.startswith(f'{_ERROR}/')}
    )
    by_category = [_line(evaluated, n, n.partition('/')[2], 100) for n in categories]
    error, validation = 'NE, %', 'validation'
    return {
        'Loss': [*losses, _line(evaluated, log.LOSS, validation)],
        error: [
            _line(trained, _ERROR, 'of training batches', 100),
            _line(evaluated, _ERROR, validation, 100),
        ],
        f'Validation {error}, by category': by_category if len(by_category) > 1 else [],
        'Learning rate': [_line(trained, log.LEARNING_RATE, 'learning rate')],
        'Images per second': [_line(trained, log.RATE, 'images per second')],
        'Time that steps wait for input, %': [_line(trained, log.WAITING, 'waiting', 100)],
    }


def _line(rows: _Rows, column: str, name: str, factor: float = 1.0) -> Line:
    values = {step: factor * row[column] for step, row in rows.items() if column in row}
    return Line(name, list(values), list(values.values()))


def _summary(evaluated: _Rows) -> str:
    best = best_step(evaluated)
    if best is None:
        return 'No evaluation has an NE yet.'
    last = max(evaluated)
    return (
        f'Least validation NE: {100 * evaluated[best][_ERROR]:.2f} % at step {best}; the last of '
        f'{len(evaluated)} evaluations, at step {last}, has {100 * evaluated[last][_ERROR]:.2f} %.'
    )


def _table(evaluated: _Rows) -> html_page.Table:
    names: dict[str, Any] = {
        n: None for row in evaluated.values() for n in row if n.startswith(_ERROR)
    }
    best = best_step(evaluated)
    steps = sorted({*list(evaluated)[-_MOST_ROWS:], *([best] if best is not None else [])})
    rows = [
        [
            f'{step} (best)' if step == best else str(step),
            *(f'{100 * evaluated[step][n]:.2f}' if n in evaluated[step] else '' for n in names),
        ]
        for step in steps
    ]
    heads = ['NE, %' if n == _ERROR else n.partition('/')[2] for n in names]
    return html_page.Table('The last evaluations', ['step', *heads], rows)
