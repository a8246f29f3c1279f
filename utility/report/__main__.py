"""Writes the report of a run: one page without scripts, and beside it a model card in Markdown.

python -m utility.report RUN --data_dir=RECORDS/val --output=report.html [--flip_test]
python -m utility.report RUN --data_dir=RECORDS/val --output=report.html --uncertainty=RUN
python -m utility.report RUN --data_dir=RECORDS/val --output=report.html --track=mlflow

On the page: the data and the training, curves, scores with intervals, per category and keypoint,
what the network tells of its own errors and how true that is, where NE comes from, the best and the
worst pictures, speed and size, and the command that trains the network again. Without --uncertainty
the radii of each half of the split are learned from the other half.
"""

from __future__ import annotations

import os

import utility  # noqa: F401, before all that may not be installed

# isort: split
from absl import flags

from config import UserError
from preprocessing.files import check_output, write_bytes
from utility.command_line import scripts
from utility.predict import flags as prediction_flags

TRACKERS = ('mlflow', 'wandb')


def _define_flags() -> None:
    flags.DEFINE_string('data_dir', None, 'A labelled split that the run was not trained on.')
    flags.DEFINE_string('output', 'report.html', 'The page; the card is written beside it, as .md.')
    flags.DEFINE_integer('pictures', 8, 'How many of the best and worst to draw.', 0, 1000)
    flags.DEFINE_enum(
        'track', None, TRACKERS, 'Also give the numbers and the page to an experiment tracker.'
    )
    prediction_flags.define()
    prediction_flags.define_uncertainty()


def main(positional: list[str]) -> None:
    values = flags.FLAGS
    if len(positional) != 1 or not values.data_dir:
        raise UserError('give one run, and --data_dir, a labelled split of the records')
    stem, suffix = os.path.splitext(values.output)
    if suffix not in ('.html', '.htm'):
        raise UserError(f'--output={values.output}: the name of the page must end in .html')

    from utility.report import findings, model_card, page, trackers

    for path in (values.output, f'{stem}.md'):
        check_output(path)
    tracker = trackers.find(values.track) if values.track else None  # before anything takes long
    found = findings.collect(positional[0], values)
    page.write(values.output, found)
    write_bytes(f'{stem}.md', model_card.text(found).encode())
    print(f'{values.output}\n{stem}.md')
    if tracker:
        tracker(found, values.output)
        print(f'{values.track}: {found.name}')


if __name__ == '__main__':
    _define_flags()
    scripts.run(main, __doc__)
