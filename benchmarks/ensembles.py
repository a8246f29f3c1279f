"""How much better a learned ensemble is than plain ones: fitted on a half, measured on the other.

python -m benchmarks.ensembles --answers=ANSWERS.csv A.csv B.csv [...] [--max_models=2]

The halves are random, by picture. Whatever is chosen or learned, is so on one half only.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from absl import flags

from benchmarks.common import ledger
from config import UserError
from preprocessing.datasets import named_schema
from preprocessing.schema import KeypointSchema
from preprocessing.tables import read_table
from utility.command_line import scripts
from utility.ensembles.choice import LEARNED, Ensemble, choose, distances_of, image_groups
from utility.ensembles.combination import Predictions, read_tables, stack
from utility.ensembles.methods import METHODS
from utility.ensembles.selection import select_models
from utility.ensembles.systematic_errors import AnnotatedPoints, annotated_points
from utility.metrics.normalized_error import in_order_of
from utility.statistics.bootstrap import (
    LEVEL,
    Interval,
    grouped_folds,
    image_sums,
    ratio_interval,
)

BASELINE = 'median'
_HEADER = ('combined by', 'NE %', 'spread', f'less than {BASELINE}', f'{100 * LEVEL:g} % interval')
_ABOUT = """# Ensembles, fitted on one half of the pictures and measured on the other

{models} submissions, {images} images, {splits} random halves. NE is the mean over the halves, the
spread its standard deviation. What it is less by is in percentage points, with an interval of a
bootstrap over pictures, each with its mean over the halves it was measured in.

"""


def _define_flags() -> None:
    flags.DEFINE_string('answers', None, 'The annotations of the pictures, a CSV.')
    flags.DEFINE_integer('splits', 10, 'Random halves.', lower_bound=1)
    flags.DEFINE_integer('max_models', None, 'Also the best of so many submissions.', lower_bound=1)
    flags.DEFINE_integer('seed', 0, 'Of the halves.')
    flags.DEFINE_string(
        'dataset',
        'fashionai',
        'Whose categories and keypoints the CSVs have: a name, or the path of a schema file.',
    )
    ledger.define_output('Markdown file for the table, with what it says of itself.')


class Row(NamedTuple):
    """A way to combine, as measured on S halves.

    Attributes:
        name: For people.
        errors: NE of each half, fractions.
        gain: By how much NE is less than that of BASELINE, fractions.
        chosen: How often what was chosen, if it was.
    """

    name: str
    errors: tuple[float, ...]
    gain: Interval
    chosen: Counter


def main(positional: list[str]) -> None:
    values = flags.FLAGS
    if not values.answers or not positional:
        raise UserError('give --answers=ANSWERS.csv and the CSVs to combine')
    schema = named_schema(values.dataset)
    tables = read_tables(positional, schema)
    predictions = stack(tables, schema, positional)
    annotations = in_order_of(
        read_table(values.answers, schema), tables[0], values.answers, positional[0]
    )
    annotated = annotated_points(
        annotations.keypoints, annotations.visibility, annotations.categories, schema
    )
    seeds = range(values.seed, values.seed + values.splits)
    rows = measure(predictions, annotated, schema, seeds, values.max_models)
    ledger.publish(page(rows, len(positional), len(annotated.weights)), values.output)


def measure(
    predictions: Predictions,
    annotated: AnnotatedPoints,
    schema: KeypointSchema,
    seeds: Sequence[int],
    max_models: int | None = None,
) -> list[Row]:
    """Combine in all ways, once for each random half of the pictures.

    Args:
        predictions: Of pictures with answers.
        annotated: The answers.
        schema: Of both.
        seeds: Of the halves.
        max_models: Also chooses the best of so many models; None: does not.

    Raises:
        UserError: There are too few pictures.
    """
    distances: dict[str, list[np.ndarray]] = defaultdict(list)
    chosen: dict[str, Counter] = defaultdict(Counter)
    for seed in seeds:
        fold_of = grouped_folds(image_groups(predictions), predictions.categories, 2, seed)
        train, held_out = (np.flatnonzero(fold_of == fold) for fold in range(2))
        ways = _ways(predictions.of_images(train), annotated.of_images(train), schema, max_models)
        for name, way in ways.items():
            held_out_predictions = predictions.of_images(held_out).of_models(way.models)
            measured = np.full(annotated.weights.shape, np.nan)
            points = way.ensemble.points(held_out_predictions, schema)
            measured[held_out] = distances_of(points, annotated.of_images(held_out))
            distances[name].append(measured)
            chosen[name].update([way.chosen] if way.chosen else [])
    base = distances[BASELINE]
    return [
        Row(name, tuple(float(np.nanmean(d)) for d in halves), _gain(base, halves), chosen[name])
        for name, halves in distances.items()
    ]


class _Way(NamedTuple):
    """An ensemble of some of the models, and what was chosen in making it."""

    ensemble: Ensemble
    models: Sequence[int]
    chosen: str = ''


def _ways(
    predictions: Predictions,
    annotated: AnnotatedPoints,
    schema: KeypointSchema,
    max_models: int | None,
) -> dict[str, _Way]:
    all_models = range(len(predictions.names))
    choice = choose(predictions, annotated, schema)
    single = min(choice.singles, key=lambda candidate: candidate.error)
    # The median of one model is the model.
    ways = {'best single submission': _Way(Ensemble(BASELINE), [single.model], single.label)}
    ways.update({name: _Way(Ensemble(name), all_models) for name in METHODS.names()})
    ways[LEARNED] = _Way(choice.ensemble, all_models, choice.ensemble.method)
    if max_models is not None:
        models = select_models(predictions, annotated, schema, max_models).best
        best_choice = choose(predictions.of_models(models), annotated, schema)
        names = ' + '.join(predictions.names[i] for i in models)
        ways[f'{LEARNED}, best {max_models}'] = _Way(best_choice.ensemble, models, names)
    return ways


def _gain(base: Sequence[np.ndarray], distances: Sequence[np.ndarray]) -> Interval:
    """Return the gain by a bootstrap over pictures, of the sums over the halves each was measured
    in.
    """
    differences = np.concatenate([b - d for b, d in zip(base, distances)], axis=1)
    return ratio_interval(*image_sums(differences))


def page(rows: Sequence[Row], models: int, images: int) -> str:
    """Return the table and what it says of itself, Markdown."""
    about = _ABOUT.format(models=models, images=f'{images:,}', splits=len(rows[0].errors))
    table = ledger.markdown_table(_HEADER, map(_cells, rows))
    lines = [
        f'- {row.name}: '
        + ', '.join(f'{name} {count} times' for name, count in row.chosen.most_common())
        for row in rows
        if row.chosen
    ]
    return about + table + '\nWhat was chosen:\n' + ''.join(f'{line}\n' for line in lines)


def _cells(row: Row) -> list[str]:
    value, low, high = (100 * end for end in row.gain)
    gain = [f'{value:.3f}', f'{low:.3f} to {high:.3f}'] if row.name != BASELINE else ['', '']
    return [row.name, f'{100 * np.mean(row.errors):.3f}', f'{100 * np.std(row.errors):.3f}', *gain]


if __name__ == '__main__':
    _define_flags()
    scripts.run(main, __doc__)
