"""Looks at a submission before it is handed in: would it be rejected, and is it what was meant?"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
import posixpath
from typing import NamedTuple

import numpy as np

from config import UserError
from preprocessing.files import read_bytes
from preprocessing.schema import KeypointSchema
from preprocessing.tables import IMAGE_ID
from utility.submissions.findings import Finding, format_findings, num_errors
from utility.submissions.plausibility import Prediction, check_plausibility
from utility.submissions.raw_submission import RawSubmission, read_raw
from utility.submissions.rules import Split, check_cells, check_ids, check_split, read_cells

_IMAGES_AT_A_TIME = 1024


class Report(NamedTuple):
    """What is known of a file: its path, how many rows it has, what has been found."""

    path: str
    rows: int
    findings: tuple[Finding, ...]

    @property
    def is_rejected(self) -> bool:
        return num_errors(self.findings) > 0

    def to_text(self) -> str:
        errors = num_errors(self.findings)
        counts = f'rows {self.rows:,}, errors {errors}, warnings {len(self.findings) - errors}'
        verdict = 'would be rejected' if errors else 'keeps the rules'
        head = f'{self.path}: {verdict} ({counts})'
        return '\n\n'.join(filter(None, [head, format_findings(self.findings)]))

    def to_json(self) -> str:
        values = {'path': self.path, 'rows': self.rows, 'rejected': self.is_rejected}
        findings = [
            {**dataclasses.asdict(f), 'examples': [e._asdict() for e in f.examples]}
            for f in self.findings
        ]
        return json.dumps({**values, 'findings': findings}, indent=2) + '\n'


def examine(path: str | os.PathLike, schema: KeypointSchema, split: Split | None = None) -> Report:
    """Look for all that is wrong with a submission.

    Args:
        path: A CSV, local or remote, gzipped or not.
        split: The pictures it must predict; None: these are not known, nor are their sizes.

    Raises:
        OSError: The file cannot be read.
    """
    raw, findings = read_raw(path, schema)
    if raw is None:
        return Report(os.fspath(path), 0, tuple(findings))
    num_rows = len(raw.lines)
    findings += check_ids(raw, schema)
    if split is not None:
        findings += check_split(raw, split)
    raw = _with_known_categories(raw, schema)
    if len(raw.lines):
        sizes = np.full([len(raw.lines), 2], np.nan)
        sizes = sizes if split is None else split.sizes_of(raw.image_ids)
        cells = read_cells(raw, schema)
        findings += check_cells(raw, schema, cells, sizes)
        keypoints = np.where(cells.present[..., np.newaxis], cells.values[..., :2], np.nan)
        prediction = Prediction(raw.lines, raw.image_ids, raw.categories, keypoints, sizes)
        findings += check_plausibility(prediction, schema)
    return Report(os.fspath(path), num_rows, tuple(findings))


def _with_known_categories(raw: RawSubmission, schema: KeypointSchema) -> RawSubmission:
    rows = [row for row, category in enumerate(raw.categories) if category in schema.categories]
    if len(rows) == len(raw.lines):
        return raw
    cells = {name: tuple(column[row] for row in rows) for name, column in raw.cells.items()}
    return RawSubmission(raw.lines[rows], raw.image_ids[rows], raw.categories[rows], cells)


def schema_of_split(split_dir: str) -> KeypointSchema:
    """Return the schema of the records that a split, RECORDS/test_0, belongs to."""
    from preprocessing import records

    return records.schema_of(records.info_of_split(split_dir)[0])


def read_split(split_dir: str, schema: KeypointSchema) -> Split:
    """Return the pictures of a split of the records, RECORDS/test_0, labelled or not.

    Raises:
        UserError: It is no split of records, or has none.
    """
    import tensorflow as tf  # here, because it takes seconds

    from preprocessing import faults, records
    from preprocessing.conversion import integrity
    from preprocessing.conversion.convert import REJECTED_FILE
    from preprocessing.stream import PARALLEL_CALLS, untuned

    if not records.count_records(split_dir):
        raise UserError(f'{split_dir!r} holds no records')

    def read_file(file: tf.Tensor) -> tf.data.Dataset:
        decoded = records.decoded(tf.data.TFRecordDataset(file), schema)
        keys = ('image_id', 'category', 'image_size')
        return decoded.map(lambda e: tuple(e[key] for key in keys)).batch(_IMAGES_AT_A_TIME)

    paths = records.record_files(records.split_patterns(split_dir, 'all'))
    files = tf.data.Dataset.from_tensor_slices(paths)
    read = files.interleave(
        read_file, PARALLEL_CALLS, num_parallel_calls=PARALLEL_CALLS
    ).with_options(untuned())
    batches = read.as_numpy_iterator()
    integrity.check_split(split_dir, 'all')
    with faults.explained(paths, schema):
        ids, categories, sizes = map(np.concatenate, zip(*batches))
    rejected = posixpath.join(posixpath.dirname(split_dir.rstrip('/')), REJECTED_FILE)
    text = read_bytes(rejected).decode() if tf.io.gfile.exists(rejected) else ''
    return Split(
        image_ids=np.array([image_id.decode() for image_id in ids], object),
        categories=np.array([category.decode() for category in categories]),
        image_sizes=sizes,
        rejected_ids=frozenset(row[IMAGE_ID] for row in csv.DictReader(io.StringIO(text))),
        num_rejected=records.count_rejected(split_dir),
    )
