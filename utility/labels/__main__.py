"""Suggests which pictures to label next, and merges what was labelled with what was there.

    python -m utility.labels suggest RUN --images=DIR --labelled=RECORDS/train --output=NEXT
    python -m utility.labels suggest RUN --images=RECORDS/test_0 --output=NEXT --format=cvat
    python -m utility.labels merge OLD_RECORDS NEW_RECORDS --output=RECORDS

NEXT/ranking.csv names the pictures, the first one first, and NEXT/annotations holds what the run
predicts of them, for the annotation tool. Corrected there and converted, they are NEW_RECORDS.
docs/labelling.md shows the whole loop.
"""

from __future__ import annotations

import os

import numpy as np
from absl import flags

from config import UserError
from preprocessing import writers
from preprocessing.files import check_output, csv_bytes, write_bytes
from preprocessing.writers import ANNOTATION_FORMATS
from utility.checkpoints import runs
from utility.command_line import scripts

RANKING_FILE, ANNOTATIONS_DIR = 'ranking.csv', 'annotations'
_SUGGEST_ONLY = ('images', 'labelled', 'count', 'format', 'category', 'checkpoint')
_USAGE = 'give suggest RUN, or merge OLD_RECORDS NEW_RECORDS'


def _define_flags() -> None:
    flags.DEFINE_string('output', None, 'A new directory, which gets what is made.')
    flags.DEFINE_string('images', None, 'Pictures to choose from: a folder, or RECORDS/<split>.')
    flags.DEFINE_string('labelled', None, 'A split of the records that the run was trained on.')
    flags.DEFINE_integer('count', 50, 'How many pictures are suggested.', lower_bound=1)
    flags.DEFINE_enum('format', 'label_studio', ANNOTATION_FORMATS, 'Of the pre-annotations.')
    flags.DEFINE_string(
        'category',
        None,
        'Of all pictures of a folder; default: by the names of its sub-folders.',
    )
    flags.DEFINE_string('checkpoint', 'best', "The weights, as of eval_metrics.py's --checkpoint.")


def suggest(run_dir: str, values) -> str:
    """Write a ranking of pictures, and pre-annotations of them; returns what to tell."""
    from utility.checkpoints.choice import CheckpointChoice
    from utility.labels import pictures, suggestions, survey
    from utility.predict.views_to_points import PredictOptions

    ranking, annotations = (
        os.path.join(values.output, name) for name in (RANKING_FILE, ANNOTATIONS_DIR)
    )
    check_output(ranking)
    schema = runs.schema_of(run_dir)
    options = PredictOptions(checkpoint=CheckpointChoice(values.checkpoint))
    known, names = None, set()
    if values.labelled:
        known = survey.survey([run_dir], pictures.of_split(values.labelled, schema), options)
        names = set(known.image_ids)
    images = pictures.of_folder_or_split(values.images, schema, values.category, names)
    candidates = survey.survey([run_dir], images, options)
    choices = suggestions.ranked(candidates, known, schema, values.count)
    chosen = candidates.rows(np.array([choice.row for choice in choices]))
    garments = writers.garments_of(
        chosen.image_ids,
        chosen.categories,
        chosen.keypoints,
        chosen.visibility(schema),
        chosen.image_sizes,
        chosen.scores,
    )
    # First what may be written again: of what is there already annotations are not.
    write_bytes(ranking, csv_bytes(suggestions.table(chosen, choices, schema)))
    writers.write(values.format, annotations, garments, schema)
    against = f', against {len(known.image_ids)} labelled ones' if known else ''
    return (
        f'{ranking}: {len(choices)} of {len(candidates.image_ids)} pictures{against}\n'
        f'{annotations}: what {run_dir} predicts of them, as {values.format}'
    )


def merge(old_dir: str, new_dir: str, output_dir: str) -> str:
    """Merge two directories of records; returns what to tell."""
    from utility.labels import merging

    report = merging.merge(old_dir, new_dir, output_dir)
    conflicts = os.path.join(output_dir, merging.CONFLICTS_FILE)
    return (
        f'{output_dir}: {report.kept} garments kept, {report.replaced} replaced by '
        f'{report.updated}, {report.added} added\n'
        f'{conflicts}: {report.conflicts} differences'
    )


def main(positional: list[str]) -> None:
    values = flags.FLAGS
    action, *paths = positional or ['']
    if (action, len(paths)) not in (('suggest', 1), ('merge', 2)):
        raise UserError(_USAGE)
    if not values.output:
        raise UserError('--output is missing: a new directory')
    if action == 'merge':
        for name in _SUGGEST_ONLY:
            if values[name].present:
                raise UserError(f'--{name} is for suggest')
        print(merge(*paths, values.output))
        return
    if not values.images:
        raise UserError('--images is missing: a folder of pictures, or a split of the records')
    if os.path.lexists(os.path.join(values.output, ANNOTATIONS_DIR)):
        raise UserError(f'{values.output} holds suggestions already; give a new --output')
    print(suggest(paths[0], values))


if __name__ == '__main__':
    _define_flags()
    scripts.run(main, __doc__)
