"""Where NE comes from: kinds of errors, what fixing each would give, subsets, the worst pictures.

python eval_errors.py --data_dir=RECORDS/val --model_dir=RUN[,RUN2] [--flip_test] [--passes=2]
python eval_errors.py --prediction=SUBMISSION.csv --answers=ANNOTATIONS.csv [--missing=count]

Prints tables, and writes OUTPUT_DIR/errors.json and a page to look at, OUTPUT_DIR/errors.html. The
pictures of a submission are drawn if --data_dir has them; else its points are, on gray.
"""

from __future__ import annotations

import os

import utility  # noqa: F401, before all that may not be installed

# isort: split
from absl import flags

from preprocessing.files import check_output, json_bytes, write_bytes
from utility.command_line import scripts
from utility.errors import budget as error_budget
from utility.predict import flags as prediction_flags
from utility.predict import scoring_flags

JSON_FILE, PAGE_FILE = 'errors.json', 'errors.html'


def _define_flags() -> None:
    scoring_flags.define()
    flags.DEFINE_float(
        'similarity_scale',
        0.1,
        'A point is found if it is not further off than 1.18 times this share of the normalizer.',
    )
    flags.DEFINE_integer('pictures_per_kind', 12, 'How many to draw of each kind.', lower_bound=0)
    flags.DEFINE_string('output_dir', 'errors', 'Where the numbers and the page go.')


def main(positional: list[str]) -> None:
    scripts.no_positional(positional)
    values = flags.FLAGS
    are_csvs = scoring_flags.are_csvs_given(values, with_data_dir=True)

    from utility.errors import cases as error_cases
    from utility.errors import page as error_page

    page, numbers = (os.path.join(values.output_dir, name) for name in (PAGE_FILE, JSON_FILE))
    for path in (page, numbers):
        check_output(path)
    if are_csvs:
        case = error_cases.case_of_csvs(values.prediction, values.answers, values.dataset)
    else:
        options = prediction_flags.options(values)
        case = error_cases.case_of_runs(values.data_dir, values.model_dir, options)
    missing, scale = values.missing, values.similarity_scale
    errors = error_budget.find_errors(
        case.predicted, case.annotations, case.schema, missing, case.evidence, scale
    )
    worst = error_cases.worst_of_all(errors, values.pictures_per_kind)
    rows = {row for ranked in worst.values() for row, _ in ranked}
    sizes, images = None, {}
    if values.data_dir:
        sizes, images = error_cases.read_images(case, rows, values.data_dir)
    report = error_cases.report_of(case, errors, missing, scale, sizes)
    report['pictures_lacking'] = len(rows - set(images))
    report['worst'] = error_cases.with_image_ids(case, worst)
    error_page.write_page(page, report, error_cases.sections(case, errors, worst, images))
    write_bytes(numbers, json_bytes(report))
    print('\n\n'.join(table.text() for table in error_page.tables(report)))
    print(f'\n{page}\n{numbers}')


if __name__ == '__main__':
    _define_flags()
    scripts.run(main, __doc__)
