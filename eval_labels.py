"""Looks for wrong annotations: a page to look them through, and a CSV of corrections.

    python eval_labels.py --data_dir=RECORDS/train,RECORDS/val [--output_dir=audit]
    python eval_labels.py --data_dir=RECORDS/train --predictions=FOLD0.csv,FOLD1.csv
    python eval_labels.py --data_dir=FOLD0/val --model_dir=RUN0 [--flip_test]

Without predictions the shapes of the annotations themselves must tell. Predictions see much more,
if their networks were not trained on the pictures; a network agrees with the mistakes that it has
learned. To have them of all pictures, convert to one RECORDS a fold, train on each and predict:

    python convert_tfrecords.py --data_dir=DATA --records_dir=FOLD0 --folds=5 --fold=0
    python train_resnet50_cpn.py --data_dir=FOLD0 --model_dir=RUN0 --category=all
    python eval_submission.py --data_dir=FOLD0/val --model_dir=RUN0 --output_csv=FOLD0.csv

Then look at audit/index.html, delete what you do not agree with from audit/corrections.csv, and

    python convert_tfrecords.py --data_dir=DATA --corrections=audit/corrections.csv

Or correct them in an annotation tool: --output_format=label_studio writes the suspect pictures, as
they are annotated, to audit/annotations; docs/labelling.md shows the way back.
"""

from __future__ import annotations

import json
import os
import posixpath

import utility  # noqa: F401, before all that may not be installed

# isort: split
import numpy as np
from absl import flags

from config import UserError
from preprocessing import writers
from preprocessing.conversion import corrections
from preprocessing.conversion.corrections import Correction, cell
from preprocessing.files import check_output, write_bytes
from preprocessing.tables import KeypointTable, read_table
from preprocessing.writers import ANNOTATION_FORMATS
from utility.command_line import scripts
from utility.command_line.text_table import text_table
from utility.labels import audit as label_audit
from utility.labels.suspicions import KINDS
from utility.metrics.annotations import annotations_of
from utility.predict import flags as prediction_flags

PAGE_FILE, CORRECTIONS_FILE, ANNOTATIONS_DIR = 'index.html', 'corrections.csv', 'annotations'


def _define_flags() -> None:
    flags.DEFINE_list('data_dir', [], 'Labelled splits of the records, RECORDS/train.')
    flags.DEFINE_list('predictions', [], 'Submission CSVs of folds or of several networks.')
    flags.DEFINE_list('model_dir', [], 'Instead: one run, or several, to predict with.')
    flags.DEFINE_string('output_dir', 'audit', 'Gets the page and the CSV.')
    flags.DEFINE_integer('count', 200, 'At most so many suspicions are written.', lower_bound=1)
    evidence = 'How much must speak against an annotation, to be told; between 0 and 1.'
    flags.DEFINE_float('min_evidence', 0.5, evidence)
    flags.DEFINE_boolean(
        'apply_geometry',
        False,
        'Write corrections of points that no network has predicted, by the shape alone, too.',
    )
    flags.DEFINE_string('output_json', None, 'Where to write all suspicions too.')
    flags.DEFINE_enum(
        'output_format', None, ANNOTATION_FORMATS, 'Also write the suspect pictures for a tool.'
    )
    prediction_flags.define()


def read_annotations(split_dirs: list[str]):
    """Return the annotations of splits of the records, a preprocessing.tables.KeypointTable, and
    their preprocessing.schema.KeypointSchema.

    Raises:
        UserError: One is not a labelled split or given twice, or they are of different data sets.
    """
    from preprocessing import records

    split_dirs = [path.rstrip('/') for path in split_dirs]
    twice = [path for n, path in enumerate(split_dirs) if path in split_dirs[:n]]
    if twice:
        raise UserError(f'--data_dir: {twice[0]!r} is given twice')
    parents = [posixpath.dirname(path) or '.' for path in split_dirs]
    infos = [records.load_dataset_info(parent) for parent in parents]
    schema, *others = map(records.schema_of, infos)
    if any(other != schema for other in others):
        names = dict.fromkeys(info['dataset'] for info in infos)
        raise UserError(f'--data_dir: these are of different data sets: {", ".join(names)}')
    tables = [annotations_of(path, schema) for path in split_dirs]
    return KeypointTable(*map(np.concatenate, zip(*tables))), schema


def read_predictions(values, table, schema):
    """Return predictions of the pictures, float [N, K, 2], by the flags; None without any."""
    if values.predictions:
        tables = [read_table(path, schema) for path in values.predictions]
        combined = label_audit.combined_predictions(tables, table)
        known = np.count_nonzero(~np.isnan(combined).all((1, 2)))
        if not known:
            raise UserError('--predictions: not one of the pictures of --data_dir is in them')
        print(f'predictions of {known} of {len(table.image_ids)} pictures')
        return combined
    if values.model_dir:
        from utility.predict import predictor

        options = prediction_flags.options(values)
        parts = [
            predictor.predict_split(values.model_dir, path, options) for path in values.data_dir
        ]
        return np.concatenate([part.keypoints for part in parts])
    return None


def corrections_of(suspicions, table, schema, predictions):
    """Return the rows of the CSV, and of each suspicion the numbers of its lines.

    Args:
        suspicions: In their order.
        predictions: float [N, K, 2]: there are rows for points that have one; None: for all.
    """
    rows, lines = [], []
    for one in suspicions:
        first = len(rows) + 2  # the header is line 1
        own = list(one.keypoints)
        is_seen = predictions is None or np.isfinite(predictions[one.row, own]).all()
        if one.has_correction and is_seen:
            for k, to, visibility in zip(one.keypoints, one.moved_to, one.visibility):
                before = cell(table.keypoints[one.row, k], table.visibility[one.row, k])
                rows.append(
                    Correction(
                        line=len(rows) + 2,
                        image_id=table.image_ids[one.row],
                        keypoint=schema.keypoints[k],
                        before=before,
                        after=cell(to, visibility),
                        kind=one.kind,
                        score=f'{one.score:.4f}',
                    )
                )
        lines.append(range(first, len(rows) + 2))
    return rows, lines


def write_suspects(output_dir: str, output_format: str, suspicions, table, schema) -> str:
    """Write the annotations of the suspect pictures for an annotation tool; returns what to tell.

    Args:
        output_dir: A new directory.
        output_format: One of ANNOTATION_FORMATS.
        suspicions: In their order, the first picture first.
    """
    suspect = table.rows([*dict.fromkeys(one.row for one in suspicions)])
    garments = writers.garments_of(
        suspect.image_ids,
        suspect.categories,
        suspect.keypoints,
        suspect.visibility,
        suspect.image_sizes,
        boxes=suspect.boxes,
    )
    writers.write(output_format, output_dir, garments, schema)
    return f'{output_dir}: {len(garments)} suspect annotations, as {output_format}'


def format_counts(suspicions, table, schema) -> str:
    """Return how many suspicions of each kind there are in each category, as a table for people."""
    names = list(schema.categories)
    rows = [['', *names, 'all']]
    for kind, meaning in KINDS.items():
        found = [table.categories[one.row] for one in suspicions if one.kind == kind]
        if found:
            rows.append([meaning, *map(found.count, names), len(found)])
    return text_table(rows)


def to_json(suspicions, table, schema) -> str:
    """Return all suspicions, the worst first; points are continuous px."""
    found = [
        {
            'image_id': table.image_ids[one.row],
            'category': str(table.categories[one.row]),
            'kind': one.kind,
            'evidence': one.evidence,
            'cost': one.cost,
            'score': one.score,
            'keypoints': [schema.keypoints[k] for k in one.keypoints],
            'to': [
                [*map(float, to), int(visibility)] if one.has_correction else None
                for to, visibility in zip(one.moved_to, one.visibility)
            ],
        }
        for one in suspicions
    ]
    return json.dumps({'pictures': len(table.image_ids), 'suspicions': found}, indent=2) + '\n'


def main(positional: list[str]) -> None:
    scripts.no_positional(positional)
    values = flags.FLAGS
    if not values.data_dir:
        raise UserError('--data_dir is missing: labelled splits of the records, RECORDS/train')
    if values.predictions and values.model_dir:
        raise UserError('give either --predictions or --model_dir')
    if not values.model_dir:
        prediction_flags.refuse()
    from preprocessing import records
    from utility.labels import page as audit_page

    suspects_dir = posixpath.join(values.output_dir, ANNOTATIONS_DIR)
    if values.output_format and os.path.lexists(suspects_dir):
        raise UserError(f'{suspects_dir} is there already; give a new --output_dir')
    path, page = (posixpath.join(values.output_dir, n) for n in (CORRECTIONS_FILE, PAGE_FILE))
    for output in filter(None, (path, page, values.output_json)):
        check_output(output)
    table, schema = read_annotations(values.data_dir)
    predictions = read_predictions(values, table, schema)
    found = label_audit.audit(table, table.image_sizes, schema, predictions, values.min_evidence)
    shown = found[: values.count]
    if values.apply_geometry:
        rows, lines = corrections_of(shown, table, schema, None)
    else:
        seen = np.full((*table.visibility.shape, 2), np.nan) if predictions is None else predictions
        rows, lines = corrections_of(shown, table, schema, seen)
    withheld = sum(one.has_correction and not own for one, own in zip(shown, lines))
    corrections.write_corrections(path, rows)
    patterns = [records.split_patterns(path, 'all') for path in values.data_dir]
    files = [file for split in patterns for file in records.record_files(split)]
    audit = audit_page.Audit(table, schema, shown, len(found), lines, CORRECTIONS_FILE)
    audit_page.write_page(page, audit, files)
    if values.output_json:
        write_bytes(values.output_json, to_json(found, table, schema).encode())
    print(format_counts(found, table, schema))
    print(f'{len(found)} suspicions in {len(table.image_ids)} pictures, {len(shown)} written')
    print(f'{path}: {len(rows)} points\n{page}')
    if values.output_format and shown:
        print(write_suspects(suspects_dir, values.output_format, shown, table, schema))
    if withheld:
        print(
            f'{withheld} corrections are not in the file: no network has predicted the points, and '
            'the shape alone is often wrong. Look at the page; --apply_geometry writes them'
        )


if __name__ == '__main__':
    _define_flags()
    scripts.run(main, __doc__)
