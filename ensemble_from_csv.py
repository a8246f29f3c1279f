"""Combines several submissions into one, point by point.

python ensemble_from_csv.py A.csv B.csv [...] --output_csv=ensemble.csv [--method=median]
"""

from __future__ import annotations

import os

from absl import flags

from utility import command_line


def _define_flags() -> None:
    flags.DEFINE_string('output_csv', 'ensemble.csv', 'The combined submission.')
    flags.DEFINE_enum('method', 'mean', ['mean', 'median'], 'How x and y are combined.')
    flags.DEFINE_list('weights', None, 'A positive number for each CSV; default: all the same.')
    flags.DEFINE_string('dataset', 'fashionai', 'Whose categories and keypoints the CSVs have.')


def _parse_weights(texts: list[str] | None) -> list[float] | None:
    try:
        return texts and [float(text) for text in texts]
    except ValueError as error:
        raise ValueError(f'--weights={",".join(texts)}: must be numbers with commas') from error


def main(positional: list[str]) -> None:
    values = flags.FLAGS
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
