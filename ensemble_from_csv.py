"""Combines several submissions into one, point by point; or looks for what is wrong with one.

python ensemble_from_csv.py A.csv B.csv [...] --output_csv=ensemble.csv [--method=median]
python ensemble_from_csv.py A.csv B.csv [...] --fit=VAL_A.csv,VAL_B.csv --answers=VAL_ANSWERS.csv
                            [--max_models=2] [--save_weights=WEIGHTS.json]
python ensemble_from_csv.py A.csv B.csv [...] --weights_file=WEIGHTS.json
python ensemble_from_csv.py --check=SUBMISSION.csv [--data_dir=RECORDS/test_0]

--fit learns from the same models' predictions of pictures with answers whom to believe where, and
tells how much that can be expected to gain. Without submissions it only tells, and saves.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import utility  # noqa: F401, before all that may not be installed

# isort: split
from absl import flags

from config import UserError
from preprocessing.datasets import named_schema
from preprocessing.files import json_bytes, read_bytes, write_bytes
from preprocessing.tables import write_table
from utility.command_line import scripts
from utility.ensembles import combination, report
from utility.ensembles.choice import LEARNED, choose
from utility.ensembles.files import SavedEnsemble, from_json, to_json
from utility.ensembles.selection import select_models
from utility.ensembles.systematic_errors import annotated_points
from utility.metrics.annotations import read_annotations
from utility.metrics.normalized_error import in_order_of
from utility.submissions import examine


def _define_flags() -> None:
    flags.DEFINE_string('output_csv', 'ensemble.csv', 'The combined submission.')
    flags.DEFINE_string(
        'method',
        None,
        'How points are combined: mean, median, geometric_median, or learned, which needs --fit; '
        'default: mean, with --fit learned.',
    )
    flags.DEFINE_list('weights', None, 'A positive number for each CSV; default: all the same.')
    flags.DEFINE_float(
        'reject',
        None,
        'Leave out a prediction that is more than so many times as far from the median as half of '
        'the predictions of the point are.',
    )
    flags.DEFINE_list('fit', None, 'For each CSV, predictions of the same model to learn from.')
    flags.DEFINE_string('answers', None, 'With --fit: their annotations, a CSV or RECORDS/val.')
    flags.DEFINE_integer('max_models', None, 'With --fit: choose the best, at most so many.')
    flags.DEFINE_string('save_weights', None, 'With --fit: where to write what is learned, JSON.')
    flags.DEFINE_string('weights_file', None, 'Combine by what --save_weights has written.')
    scripts.define_dataset()
    flags.DEFINE_string(
        'check', None, 'A submission to look at; exits with 2 if it would be rejected.'
    )
    flags.DEFINE_string('data_dir', None, 'With --check: the records of its test split.')
    flags.DEFINE_string(
        'output_json', None, 'With --check or --fit: where to write what it tells too.'
    )


def _parse_weights(texts: list[str] | None) -> list[float] | None:
    try:
        return texts and [float(text) for text in texts]
    except ValueError as error:
        raise UserError(f'--weights={",".join(texts)}: must be numbers with commas') from error


def _check_flags(values, positional: list[str]) -> None:
    """Refuse flags that do not go together.

    Raises:
        UserError: Some do not.
    """

    def given(*names: str) -> list[str]:
        return [f'--{name}' for name in names if getattr(values, name) is not None]

    if values.data_dir or (values.output_json and not values.fit):
        raise UserError(
            '--data_dir and --output_json need --check=SUBMISSION.csv, or the latter --fit'
        )
    if not values.fit:
        for name in given('answers', 'max_models', 'save_weights'):
            raise UserError(f'{name} needs --fit=VAL_A.csv,VAL_B.csv')
        if values.method == 'learned':
            raise UserError('--method=learned needs --fit=VAL_A.csv,VAL_B.csv')
    elif not values.answers:
        raise UserError('--fit needs --answers: VAL_ANSWERS.csv or RECORDS/val')
    elif positional and len(values.fit) != len(positional):
        raise UserError(
            f'--fit={",".join(values.fit)}: must be {len(positional)} CSVs, one for each submission'
        )
    for learned in given('fit', 'weights_file'):
        for name in given('weights', 'reject', *(() if values.fit else ('method',))):
            raise UserError(f'{name} does not go with {learned}')
    if values.fit and values.weights_file:
        raise UserError('--weights_file does not go with --fit')
    _check_paths(values, positional)


def _check_paths(values, positional: list[str]) -> None:
    """Refuse to write a file over one that is read, or over another one that is written."""
    if not positional and not values.fit:
        raise UserError('give the CSVs to combine, such as A.csv B.csv')
    read = [*positional, *(values.fit or []), values.answers, values.weights_file]
    taken = {os.path.realpath(path): path for path in read if path}
    for name in ('output_csv', 'output_json', 'save_weights'):
        path = getattr(values, name)
        if path and os.path.realpath(path) in taken:
            raise UserError(f'--{name}={path}: is one of the CSVs to combine')
        if path:
            taken[os.path.realpath(path)] = path


def check(path: str, data_dir: str | None, dataset: str, output_json: str | None) -> bool:
    """Print, and write, what is wrong with a submission; return whether it would be rejected."""
    schema = examine.schema_of_split(data_dir) if data_dir else named_schema(dataset)
    split = examine.read_split(data_dir, schema) if data_dir else None
    report = examine.examine(path, schema, split)
    print(report.to_text())
    if output_json:
        write_bytes(output_json, report.to_json().encode())
    return report.is_rejected


def _read(paths: list[str], schema):
    """Return the first of some CSVs, and the utility.ensembles.combination.Predictions of all."""
    tables = combination.read_tables(paths, schema)
    return tables[0], combination.stack(tables, schema, paths)


def _write(points, first, predictions, schema, path: str) -> None:
    """Write combined points as a submission."""
    combined = combination.as_table(points, predictions, first, schema)
    write_table(path, combination.round_to_pixels(combined), schema)


def _short(paths: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the files, without their folders unless two have the same name."""
    names = tuple(os.path.basename(path) for path in paths)
    return names if len(set(names)) == len(names) else tuple(paths)


def combine(paths: list[str], schema, values, weights: list[float] | None) -> None:
    """Write the mean, the median or the like of submissions."""
    first, predictions = _read(paths, schema)
    method = values.method or 'mean'
    points, rejected = combination.combine(predictions, method, weights, values.reject)
    _write(points, first, predictions, schema, values.output_csv)
    print(f'{values.output_csv}: {method} of {len(paths)} submissions, {len(points)} images')
    if values.reject is not None:
        share = 100 * rejected / predictions.present.sum()
        print(f'--reject={values.reject:g} left out {rejected} predictions, {share:.2f} %')


def combine_by(saved, first, predictions, schema, output_csv: str) -> None:
    """Write submissions combined by a utility.ensembles.files.SavedEnsemble."""
    count, wanted = len(predictions.names), ', '.join(saved.names)
    if count != len(saved.names):
        raise UserError(
            f'{count} CSVs to combine, but the ensemble is of {len(saved.names)}: {wanted}'
        )
    points = saved.ensemble.points(predictions, schema)
    _write(points, first, predictions, schema, output_csv)
    pairs = ', '.join(
        f'{path} as {name}' for path, name in zip(_short(predictions.names), saved.names)
    )
    print(f'{output_csv}: {saved.ensemble.method} of {pairs}; {len(points)} images')


def learn(schema, values):
    """Learn how to combine, tell what it gains, and save it.

    Returns:
        A utility.ensembles.files.SavedEnsemble, and the positions of its models among --fit.
    """
    first, predictions = _read(values.fit, schema)
    predictions = predictions._replace(names=_short(values.fit))
    answers = read_annotations(values.answers, schema)
    answers = in_order_of(answers, first, values.answers, values.fit[0])
    annotated = annotated_points(answers, schema)
    method, models, selection = values.method or LEARNED, tuple(range(len(values.fit))), None
    if values.max_models is not None:
        selection = select_models(predictions, annotated, schema, values.max_models, method)
        print(report.selection_to_text(selection), end='\n\n')
        models = selection.best
    choice = choose(predictions.of_models(models), annotated, schema, method)
    gains = report.gains_of(choice)
    print(report.to_text(choice, gains), flush=True)
    saved = SavedEnsemble(tuple(predictions.names[i] for i in models), choice.ensemble)
    if values.output_json:
        write_bytes(values.output_json, json_bytes(report.to_dict(choice, gains, selection)))
    if values.save_weights:
        write_bytes(values.save_weights, to_json(saved, schema).encode())
    return saved, models


def main(positional: list[str]) -> None:
    values = flags.FLAGS
    if values.check:
        scripts.no_positional(positional)
        if check(values.check, values.data_dir, values.dataset, values.output_json):
            sys.stdout.flush()
            sys.exit(2)
        return
    _check_flags(values, positional)
    weights = _parse_weights(values.weights)

    schema = named_schema(values.dataset)
    if values.fit:
        # Before what takes long, because they may be broken.
        read = _read(positional, schema) if positional else None
        saved, models = learn(schema, values)
        if read:
            combine_by(saved, read[0], read[1].of_models(models), schema, values.output_csv)
    elif values.weights_file:
        text = read_bytes(values.weights_file).decode(errors='replace')
        saved = from_json(text, schema, f'--weights_file={values.weights_file}')
        combine_by(saved, *_read(positional, schema), schema, values.output_csv)
    else:
        combine(positional, schema, values, weights)


if __name__ == '__main__':
    _define_flags()
    scripts.run(main, __doc__)
