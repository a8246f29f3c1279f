"""Records and a run of commit 2ba4802 (tests/fixtures/README.md) are read as they were there."""

from __future__ import annotations

import json
import shutil
import tarfile

import numpy as np
import pytest
import tensorflow as tf

from config import Experiment
from preprocessing.datasets.fashionai import SCHEMA
from tests.commands import ROOT
from tests.tiny_runs import score_model
from utility.checkpoints import evaluations, step_tables
from utility.metrics.annotations import annotations_of
from utility.predict import predictor
from utility.predict.views_to_points import PredictOptions
from utility.submissions.write import write_submission
from utility.train import runner
from utility.train.flags import RunOptions

ARCHIVE = ROOT / 'tests' / 'fixtures' / 'run_2ba4802.tar.xz'
SPLITS = {'train': 6, 'val': 4, 'test_0': 5}


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('old')
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder)
    return folder


def test_records_are_read(folder):
    for split, number in SPLITS.items():
        counts = predictor.categories_of(f'{folder}/records/{split}')
        assert sum(counts.values()) == number
    table = annotations_of(f'{folder}/records/train', SCHEMA)
    assert table.image_sizes.shape == (6, 2) and set(table.image_sizes.max(axis=1)) == {64}
    assert (table.visibility == 1).sum() > 30
    assert set(table.categories) == set(SCHEMA.categories)


def test_the_score_is_the_same_to_all_digits_that_were_printed(folder):
    split, run = f'{folder}/records/val', f'{folder}/run'
    score = score_model(split, [run], PredictOptions())
    expected = json.loads((folder / 'expected' / 'ne.json').read_text())
    assert score.points == expected['points']
    assert f'{100 * score.normalized_error:.4f}' == f'{100 * expected["normalized_error"]:.4f}'
    for field in ('per_category', 'per_keypoint'):
        found = getattr(score, field)
        assert list(found) == list(expected[field])
        # Points are decoded in float32 now, where they were in float64.
        np.testing.assert_allclose([*found.values()], [*expected[field].values()], rtol=1e-6)


def test_the_submission_is_the_same(folder):
    split, run = f'{folder}/records/test_0', f'{folder}/run'
    found = predictor.predict_split([run], split, PredictOptions())
    ids, points = found.image_ids, (found.keypoints, found.image_sizes)
    path = folder / 'test_0.csv'
    write_submission(str(path), ids, found.categories, *points, SCHEMA, expected_ids=ids)
    assert path.read_bytes() == (folder / 'expected' / 'test_0.csv').read_bytes()


def test_the_training_goes_on_where_it_was_killed(folder):
    run = folder / 'resumed'
    shutil.copytree(folder / 'run', run)
    experiment = Experiment.from_json((run / 'all' / 'experiment.json').read_text())
    options = RunOptions(f'{folder}/records', str(run), 'all', log_every=1, save_every=3)
    runner.train(experiment, options)
    now, then = (
        step_tables.read(f'{place}/metrics.csv') for place in (run / 'all', folder / 'expected')
    )
    assert list(now) == list(then) == list(range(1, 13))
    for step, row in then.items():
        # An epoch has had another order since.
        names = ('epoch', 'learning_rate') if step > 6 else row
        assert [now[step][name] for name in names] == [row[name] for name in names]
    now, then = (evaluations.read(str(place)) for place in (run / 'all', folder / 'expected'))
    assert list(now) == list(then) == [6, 12] and now[6] == then[6]
    np.testing.assert_allclose(now[12]['normalized_error'], then[12]['normalized_error'], rtol=0.01)
    assert abs(now[6]['normalized_error'] / then[12]['normalized_error'] - 1) > 0.04
    before, after = (_tensors(f'{place}/all') for place in (folder / 'run', run))
    assert before == after  # those of the optimizer and of the average, too


def _tensors(path: str) -> dict[str, list[int]]:
    """Return name -> shape of all that the newest checkpoint holds."""
    return tf.train.load_checkpoint(path).get_variable_to_shape_map()
