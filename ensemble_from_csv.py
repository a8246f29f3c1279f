"""Combines several submissions into one, point by point; or looks for what is wrong with one.

python ensemble_from_csv.py A.csv B.csv [...] --output_csv=ensemble.csv [--method=median]
python ensemble_from_csv.py --check=SUBMISSION.csv [--data_dir=RECORDS/test_0]
"""

from __future__ import annotations

import os
import sys

from absl import flags

from utility import command_line


def _define_flags() -> None:
    flags.DEFINE_string('output_csv', 'ensemble.csv', 'The combined submission.')
    flags.DEFINE_enum('method', 'mean', ['mean', 'median'], 'How x and y are combined.')
    flags.DEFINE_list('weights', None, 'A positive number for each CSV; default: all the same.')
    flags.DEFINE_string('dataset', 'fashionai', 'Whose categories and keypoints the CSVs have.')
    flags.DEFINE_string(
        'check', None, 'A submission to look at; exits with 2 if it would be rejected.'
    )
    flags.DEFINE_string('data_dir', None, 'With --check: the records of its test split.')
    flags.DEFINE_string('output_json', None, 'With --check: where to write the findings too.')


def _parse_weights(texts: list[str] | None) -> list[float] | None:
    try:
        return texts and [float(text) for text in texts]
    except ValueError as error:
        raise ValueError(f'--weights={",".join(texts)}: must be numbers with commas') from error


def check(path: str, data_dir: str | None, dataset: str, output_json: str | None) -> bool:
    """Prints, and writes, what is wrong with a submission; whether it would be rejected."""
    from preprocessing.datasets import DATASETS
    from preprocessing.tables import write_bytes
    from utility import doctor

    schema = DATASETS.get(dataset).schema
    report = doctor.examine(path, schema, doctor.read_split(data_dir, schema) if data_dir else None)
    print(report.to_text())
    if output_json:
        write_bytes(output_json, report.to_json().encode())
    return report.is_rejected


def main(positional: list[str]) -> None:
    values = flags.FLAGS
    if values.check:
        command_line.no_positional(positional)
        if check(values.check, values.data_dir, values.dataset, values.output_json):
            sys.stdout.flush()
            sys.exit(2)
        return
    if values.data_dir or values.output_json:
        raise ValueError('--data_dir and --output_json need --check=SUBMISSION.csv')
    if not positional:
        raise ValueError('give the CSVs to combine, such as A.csv B.csv')
    if os.path.realpath(values.output_csv) in map(os.path.realpath, positional):
        raise ValueError(f'--output_csv={values.output_csv}: is one of the CSVs to combine')
    weights = _parse_weights(values.weights)

    from preprocessing.datasets import DATASETS
    from preprocessing.tables import read_table, write_table
    from utility import submissions

    schema = DATASETS.get(values.dataset).schema
    tables = [read_table(path, schema) for path in positional]
    combined = submissions.ensemble(tables, schema, values.method, weights, positional)
    write_table(values.output_csv, submissions.round_to_pixels(combined), schema)
    count = len(combined.image_ids)
    print(f'{values.output_csv}: {values.method} of {len(tables)} submissions, {count} images')


if __name__ == '__main__':
    _define_flags()
    command_line.run(main, __doc__)
