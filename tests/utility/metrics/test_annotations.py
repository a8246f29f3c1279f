"""Annotations to score against come from a CSV or from the records, and are the same."""

from __future__ import annotations

import json

import numpy as np
import pytest

from preprocessing import tables
from preprocessing.datasets.fashionai import SCHEMA
from tests import commands
from tests.tiny_records import write_records
from utility.errors import cases
from utility.metrics.annotations import read_annotations

SIZE = 40  # px
COUNTS = {'skirt': 3, 'blouse': 2}


@pytest.fixture
def folder(tmp_path):
    """Records with a validation split, and it as a CSV, with its points in whole pixels."""
    write_records(tmp_path / 'records', {'val': COUNTS, 'test_0': COUNTS}, SIZE)
    table = read_annotations(str(tmp_path / 'records' / 'val'), SCHEMA)
    tables.write_table(str(tmp_path / 'val.csv'), table, SCHEMA)
    return tmp_path


def test_a_split_of_the_records_is_as_good_as_a_csv(folder):
    of_split = read_annotations(f'{folder}/records/val/', SCHEMA)
    of_csv = read_annotations(f'{folder}/val.csv', SCHEMA)
    order = [of_csv.image_ids.tolist().index(one) for one in of_split.image_ids]
    np.testing.assert_array_equal(of_csv.visibility[order], of_split.visibility)
    shown = of_split.visibility == 1
    away = np.abs(of_csv.keypoints[order] - of_split.keypoints)[shown]
    assert away.max() <= 0.5 < SIZE  # a CSV has whole pixels


def test_what_is_no_labelled_split_of_the_data_set_is_told(folder):
    with pytest.raises(ValueError, match='test_0.*not a labelled split'):
        read_annotations(f'{folder}/records/test_0', SCHEMA)
    with pytest.raises(ValueError, match='not a directory written by convert_tfrecords.py'):
        read_annotations(str(folder / 'records'), SCHEMA)
    with pytest.raises(FileNotFoundError):
        read_annotations(f'{folder}/records/none.csv', SCHEMA)


def test_errors_of_a_submission_are_those_against_the_records(folder):
    case = cases.case_of_csvs(f'{folder}/val.csv', f'{folder}/records/val', SCHEMA.name)
    visible = case.annotations.visibility == 1
    assert np.abs(case.predicted.keypoints - case.annotations.keypoints)[visible].max() <= 0.5


def test_a_submission_is_scored_against_the_records(folder):
    where = ('--prediction=val.csv', '--answers=records/val', '--output_json=score.json')
    done = commands.call('eval_metrics.py', *where, folder=folder)
    assert (done.returncode, done.stderr) == (0, '')
    score = json.loads((folder / 'score.json').read_text())
    assert score['points'] == sum(n * len(SCHEMA.indices(c)) for c, n in COUNTS.items())
    assert 0 < score['normalized_error'] < 0.5


def test_an_ensemble_is_fitted_to_the_records(folder):
    words = ('--fit=val.csv,val.csv', '--answers=records/val', '--output_json=fit.json')
    done = commands.call('ensemble_from_csv.py', *words, folder=folder)
    # What it says of so few pictures does not matter, but that it has read them.
    assert 'records/val' not in done.stderr
    assert done.returncode == 0 or 'images' in done.stderr
