"""What a training reads: ops that come late in it, and what it is warned of."""

from __future__ import annotations

import dataclasses
import json
import re

import numpy as np
import pytest
import tensorflow as tf

from config import DataConfig, Experiment, NetworkConfig
from preprocessing import records, schema_files, training_data
from preprocessing.datasets import schema_of
from preprocessing.datasets.fashionai import SCHEMA
from preprocessing.ops import op_string
from tests.tiny_records import write_records

SIZE, BATCH = 32, 2
# A gray frame tells which ops a picture has seen.
EARLY = 'flip|scale(0.5,0.5)|letterbox({height},{width})|warp(10)'
LATE = 'flip|scale(0.5,0.5)|letterbox({height},{width})|warp(200)'
EXPERIMENT = Experiment(
    network=NetworkConfig('resnet18', 'dhn', (SIZE, SIZE), (8, 8)),
    data=DataConfig(train_ops=EARLY, batch_size=BATCH, late_ops=LATE, late_from=0.5),
)
TOTAL = 10


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
    splits = {'train': {'skirt': 5}, 'val': {'skirt': 1}}
    return write_records(tmp_path_factory.mktemp('records'), splits, SIZE)


def _batches(data_dir, step=0, experiment=EXPERIMENT, total_steps=TOTAL, context=None):
    input_fn = training_data.input_fn(experiment, SCHEMA, data_dir, step, total_steps)
    return list(input_fn(context).take(TOTAL - (step or 0)).as_numpy_iterator())


@pytest.fixture(scope='module')
def whole(data_dir):
    """The batches of a training without a break."""
    return _batches(data_dir)


def _frames(batches):
    """Return the gray of the corner of each picture, batch by batch."""
    return [features['image'][:, 0, 0, 0].tolist() for features, _ in batches]


def test_late_ops_come_with_the_step_after_their_share(data_dir, whole):
    assert _frames(whole) == [[10] * BATCH] * 5 + [[200] * BATCH] * 5
    for late_from, first in ((0.0, 200), (1.0, 10)):
        experiment = EXPERIMENT.override(f'data.late_from={late_from}')
        assert _frames(_batches(data_dir, experiment=experiment)) == [[first] * BATCH] * TOTAL


@pytest.mark.parametrize('step', [3, 7])
def test_a_training_that_goes_on_sees_what_one_without_a_break_would(data_dir, whole, step):
    rest = _batches(data_dir, step)
    tf.nest.map_structure(np.testing.assert_array_equal, whole[step:], rest)


def test_without_late_ops_the_early_pictures_are_the_same(data_dir, whole):
    plain = EXPERIMENT.override('data.late_ops=')
    early = _batches(data_dir, experiment=plain)[:5]
    tf.nest.map_structure(np.testing.assert_array_equal, early, whole[:5])


def test_the_step_counts_for_several_replicas_of_one_pipeline(data_dir):
    context = tf.distribute.InputContext(1, 0, 2)
    # A step takes two batches.
    frames = _frames(_batches(data_dir, total_steps=4, context=context))
    assert frames == [[10] * BATCH] * 4 + [[200] * BATCH] * 6


def test_evaluation_knows_no_late_ops(data_dir):
    (features, _), *_ = _batches(data_dir, step=None)
    plain = EXPERIMENT.override('data.late_ops=')
    (expected, _), *_ = _batches(data_dir, None, plain)
    np.testing.assert_array_equal(features['image'], expected['image'])


@pytest.mark.parametrize(
    ('assignment', 'message'),
    [
        ('data.late_ops=letterbox(16,32)|warp', r'gives pictures of \(16, 32\), but network'),
        ('data.late_ops=flip|warp', 'letterbox 0 times'),
        ('data.late_from=1.5', 'data.late_from=1.5: must be from 0 to 1'),
    ],
)
def test_mistakes_in_late_ops_are_told_before_training(data_dir, assignment, message):
    with pytest.raises(ValueError, match=message):
        training_data.input_fn(EXPERIMENT.override(assignment), SCHEMA, data_dir, 0, TOTAL)


def test_a_device_makes_late_pictures_of_late_steps(data_dir, whole):
    batches = training_data.input_fn(EXPERIMENT, SCHEMA, data_dir, 3, TOTAL, 'device')()
    ops = [EXPERIMENT.resolved_ops(one) for one in (EARLY, LATE)]
    pairs = zip(whole[3:7], batches)
    for (features, _), (canvases, labels) in pairs:
        image = op_string.painted_batch(ops, canvases, labels).numpy().astype(int)
        assert np.abs(image - features['image']).max() <= 1


HATS = {
    'name': 'hats',
    'keypoints': ['brim_left', 'brim_right'],
    'categories': {'hat': ['brim_left', 'brim_right']},
    'normalizers': {'hat': 'box_diagonal'},
}


def _dataset(root, **changes):
    train = {'labelled': True, 'records': {'hat': 3}}
    info = {'dataset': 'coco', 'schema': HATS, 'splits': {'train': {**train, **changes}}}
    (root / 'dataset.json').write_text(json.dumps(info))
    return str(root)


def test_a_training_takes_the_schema_of_its_records(tmp_path):
    experiment = training_data.for_records(Experiment(), _dataset(tmp_path))
    assert schema_of(experiment.data) == schema_files.parse(HATS, 'hats')
    assert Experiment.from_json(experiment.to_json()) == experiment
    assert training_data.categories(experiment, str(tmp_path), 'each') == ['hat']
    assert training_data.for_records(experiment, str(tmp_path)) == experiment  # resumed
    assert experiment.data.train_ops == Experiment().data.train_ops


def test_a_training_of_records_of_fashionai_stays_as_it_is(data_dir):
    assert training_data.for_records(EXPERIMENT, data_dir) == EXPERIMENT


def test_records_of_another_schema_are_refused(tmp_path):
    experiment = training_data.for_records(Experiment(), _dataset(tmp_path))
    schema = {**HATS, 'keypoints': ['brim_right', 'brim_left']}
    other = dataclasses.replace(experiment.data, schema=schema)
    with pytest.raises(ValueError, match='records of another keypoint schema'):
        training_data.count(str(tmp_path), dataclasses.replace(experiment, data=other))


@pytest.mark.parametrize(
    ('ops', 'cropped'),
    [
        ('letterbox(8,8)|warp', 'crop_box|letterbox(8,8)|warp'),
        ('crop_points|letterbox(8,8)|warp', 'crop_points|letterbox(8,8)|warp'),
        ('crop_box(0.3)|letterbox(8,8)|warp', 'crop_box(0.3)|letterbox(8,8)|warp'),
    ],
)
def test_records_with_boxes_are_cropped_to_them(tmp_path, ops, cropped):
    data_dir = _dataset(tmp_path, boxes=2)
    data = DataConfig(train_ops=ops, eval_ops=ops, late_ops=ops)
    found = training_data.for_records(Experiment(data=data), data_dir).data
    # The crop of points needs annotations, which a prediction has not.
    assert found.eval_ops == (f'crop_box|{ops}' if 'crop_points' in ops else cropped)
    assert (found.train_ops, found.late_ops) == (cropped, cropped)
    data = dataclasses.replace(data, crop_boxes=False, late_ops='')
    found = training_data.for_records(Experiment(data=data), data_dir).data
    assert (found.train_ops, found.eval_ops, found.late_ops) == (ops, ops, '')


@pytest.mark.parametrize(
    ('points', 'category', 'visible', 'message'),
    [
        ('visible', 'skirt', 0, r'train has no visible point of skirt \(0 visible, 4 occluded\)'),
        ('annotated', 'skirt', 0, None),
        ('visible', 'all', 0, None),  # the dress has some
        ('visible', 'skirt', 1, None),
    ],
)
def test_a_training_without_a_point_that_counts_is_warned_of(
    tmp_path, caplog, points, category, visible, message
):
    root = write_records(tmp_path / 'records', {'train': {'skirt': 1, 'dress': 1}}, SIZE)
    path = tmp_path / 'records' / 'dataset.json'
    info = json.loads(path.read_text())
    counts = {'skirt': {'visible': visible, 'occluded': 4}, 'dress': {'visible': 1, 'occluded': 0}}
    info['splits']['train'][records.CATEGORY_POINTS] = counts
    path.write_text(json.dumps(info))
    experiment = Experiment().override(f'loss.points={points}', f'data.category={category}')
    training_data.warn_of_absent_points(experiment, root)
    assert bool(caplog.text) == bool(message)
    assert re.search(message or '', caplog.text)
