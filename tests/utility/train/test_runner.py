"""The run loop: its arithmetic, which networks it trains, where it stops, what it refuses."""

from __future__ import annotations

import dataclasses
import functools
import types

import numpy as np
import pytest
import tensorflow as tf

from config import DataConfig, Experiment, NetworkConfig
from preprocessing import files, training_data
from preprocessing.datasets import DATASETS
from preprocessing.datasets.fashionai import SCHEMA
from tests.tiny_checkpoints import write_checkpoint
from tests.tiny_records import write_records
from utility.checkpoints import evaluations
from utility.distribute.early_stop_signal import EarlyStopSignal
from utility.train import loop, model_fn, runner
from utility.train.flags import RunOptions

SIZE = 32
EXPERIMENT = Experiment(
    network=NetworkConfig('resnet18', 'dhn', (SIZE, SIZE), (8, 8), {'width': 8}, {'channels': 8}),
    data=DataConfig(batch_size=2),
)


class _Estimator:
    """Keeps in mind what it was asked for."""

    def __init__(self, step, model_dir):
        self.step = step
        self.model_dir = str(model_dir)
        self.calls = []

    def latest_checkpoint(self):
        return f'run/model.ckpt-{self.step}' if self.step else None

    def train(self, input_fn, max_steps):
        self.calls.append(('train', input_fn, max_steps))
        self.step = max_steps

    def evaluate(self, input_fn, checkpoint_path=None, name=None):
        what = [part for part in (checkpoint_path, name) if part]
        self.calls.append(('evaluate', input_fn, self.step, *what))
        return {'loss': 1.0, 'normalized_error': 0.25, 'normalized_error/skirt': 0.5}


# What a training with stops at 10 and 15 does after the evaluation at 10.
END = [('train', 10, 15), ('evaluate', 'val', 15)]


def _plan(freeze_at=None):
    return types.SimpleNamespace(stops=[10, 15], freeze_at=freeze_at)


def _alternate(estimator, callbacks=(), val='val', average=lambda step: None):
    evaluate = functools.partial(runner._evaluate, estimator, val, average)
    loop.alternate(estimator, lambda step: step, evaluate, _plan(), callbacks)
    return estimator.calls


@pytest.mark.parametrize(
    ('step', 'calls'),
    [
        (0, [('train', 0, 10), ('evaluate', 'val', 10), *END]),
        (4, [('train', 4, 10), ('evaluate', 'val', 10), *END]),
        # The run that ended here had no time to keep a result.
        (10, [('evaluate', 'val', 10), *END]),
        (15, END[1:]),
        (20, []),
    ],
)
def test_training_resumes_at_any_step_and_misses_no_evaluation(tmp_path, step, calls):
    assert _alternate(_Estimator(step, tmp_path)) == calls


@pytest.mark.parametrize(
    ('freeze_at', 'step', 'calls'),
    [
        (4, 0, [('train', 0, 4), ('train', 4, 10), ('evaluate', 'val', 10), *END]),
        (12, 0, [('train', 0, 10), ('evaluate', 'val', 10), ('train', 10, 12), ('train', 12, 15),
                 END[1]]),
        (12, 11, [('train', 11, 12), ('train', 12, 15), END[1]]),
        (12, 12, [('train', 12, 15), END[1]]),
        (10, 0, [('train', 0, 10), ('evaluate', 'val', 10), *END]),
    ],
)  # fmt: skip
def test_where_the_graph_changes_training_pauses_and_nothing_is_evaluated(
    tmp_path, freeze_at, step, calls
):
    estimator = _Estimator(step, tmp_path)
    evaluate = functools.partial(runner._evaluate, estimator, 'val', lambda step: None)
    signal, settled = EarlyStopSignal(str(tmp_path)), []

    def settle(step, judge):
        settled.append(step)
        return signal.settle(step, judge)

    settling = types.SimpleNamespace(is_chief=True, forget_after=signal.forget_after, settle=settle)
    loop.alternate(estimator, lambda step: step, evaluate, _plan(freeze_at), [], settling)
    assert estimator.calls == calls
    trained = [stop for what, _, stop in calls if what == 'train']
    assert sorted(set(settled)) == sorted({*trained, 15})  # as all processes of a cluster do


def test_without_validation_there_is_training_only(tmp_path):
    calls = _alternate(_Estimator(0, tmp_path), val=None)
    assert calls == [('train', 0, 10), ('train', 10, 15)]


def test_without_validation_callbacks_are_told_all_the_same(tmp_path):
    """So that there is a page of curves, too."""
    told = []
    _alternate(_Estimator(0, tmp_path), [lambda *one: told.append(one)], val=None)
    assert told == [(10, {}), (15, {})]
    for callback in runner._evaluation_callbacks(EXPERIMENT, 'ne', str(tmp_path)):
        assert callback(10, {}) is None
    assert (tmp_path / 'curves.html').exists()


def test_no_step_is_evaluated_twice(tmp_path):
    _alternate(_Estimator(0, tmp_path))
    assert list(evaluations.read(str(tmp_path))) == [10, 15]
    assert _alternate(_Estimator(10, tmp_path)) == END
    assert _alternate(_Estimator(15, tmp_path)) == []


def test_a_training_that_falls_back_evaluates_again(tmp_path):
    evaluations.keep(str(tmp_path), 5, {'normalized_error': 0.75})
    evaluations.keep(str(tmp_path), 10, {'normalized_error': 0.75})
    assert _alternate(_Estimator(5, tmp_path)) == [
        ('train', 5, 10), ('evaluate', 'val', 10), *END
    ]  # fmt: skip
    errors = [m['normalized_error'] for m in evaluations.read(str(tmp_path)).values()]
    assert errors == [0.75, 0.25, 0.25]


def test_a_reaction_is_told_after_the_result_is_kept_and_may_end_the_training(tmp_path):
    told = []

    def callback(step, metrics):
        told.append((step, metrics['normalized_error'], list(evaluations.read(str(tmp_path)))))
        return 'enough' if step == 10 else None

    begin = [('train', 0, 10), ('evaluate', 'val', 10)]
    assert _alternate(_Estimator(0, tmp_path), [callback]) == begin
    # Run again, it has ended still, without another evaluation.
    assert _alternate(_Estimator(10, tmp_path), [lambda *_: None, callback]) == []
    assert told == [(10, 0.25, [10])] * 2
    assert _alternate(_Estimator(10, tmp_path), [lambda *_: None]) == END


def test_averaged_weights_are_evaluated_and_the_last_ones_besides(tmp_path):
    averaged = {15: 'averaged/model.ckpt-15'}
    estimator = _Estimator(10, tmp_path)
    assert _alternate(estimator, average=averaged.get) == [
        ('evaluate', 'val', 10),  # no weights have entered the average yet
        ('train', 10, 15),
        ('evaluate', 'val', 15, 'last'),
        ('evaluate', 'val', 15, 'averaged/model.ckpt-15'),
    ]
    results = evaluations.read(str(tmp_path))
    assert [m.get(evaluations.LAST_ERROR) for m in results.values()] == [None, 0.25]
    assert evaluations.describe({**results[15], evaluations.ERROR: 0.125}) == (
        'averaged weights: validation NE 12.50 %  (skirt 50.00); last weights: 25.00 %'
    )


def test_weights_are_averaged_where_nothing_is_validated_too(tmp_path):
    asked = []
    _alternate(_Estimator(0, tmp_path), val=None, average=asked.append)
    assert asked == [10, 15]
    assert evaluations.read(str(tmp_path)) == {}


def test_an_evaluation_is_told_in_percent():
    result = _Estimator(0, '').evaluate(None)
    assert evaluations.describe(result) == 'validation NE 25.00 %  (skirt 50.00)'


@pytest.mark.parametrize(
    ('mask', 'mean'), [([[1, 0], [1, 1], [0, 0]], 3.0), ([[0, 0], [0, 0], [0, 0]], np.nan)]
)
def test_an_evaluation_without_a_scored_point_has_no_error(mask, mean):
    values = np.array([[1.0, 2.0], [3.0, 5.0], [7.0, np.nan]], np.float32)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        row = tf.compat.v1.placeholder(tf.int32, [])
        scored = tf.gather(tf.constant(mask) > 0, row)
        result, update = model_fn.mean_where(scored, tf.gather(tf.constant(values), row))
        session.run(tf.compat.v1.local_variables_initializer())
        for i in range(len(mask)):
            session.run(update, {row: i})
        np.testing.assert_allclose(session.run(result), mean, rtol=1e-6)


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
    """Records of six skirts and a dress to train with, and of a skirt to validate with."""
    splits = {'train': {'skirt': 6, 'dress': 1, 'blouse': 0}, 'val': {'skirt': 1}}
    return write_records(tmp_path_factory.mktemp('records'), splits, SIZE)


def _batches(data_dir, step, count):
    input_fn = training_data.input_fn(EXPERIMENT, SCHEMA, data_dir, step)
    return list(input_fn().take(count).as_numpy_iterator())


def test_a_later_stretch_of_a_training_goes_on_where_the_earlier_ended(data_dir):
    """Seven pictures, two a step: step 4 begins in the second epoch."""
    whole = _batches(data_dir, 0, 6)
    for step in (1, 4):
        for (a, _), (b, _) in zip(whole[step:], _batches(data_dir, step, 6 - step)):
            np.testing.assert_array_equal(a['image_id'], b['image_id'])
            np.testing.assert_array_equal(a['image'], b['image'])
    ids = [i for features, _ in whole for i in features['image_id']]
    assert len(set(ids[:7])) == 7 and set(ids[7:]) < set(ids[:7])


def _first_losses(data_dir, augment_on):
    """Of the step 0 of a training with colors, and of the evaluation."""
    data = dataclasses.replace(
        EXPERIMENT.data, train_ops=f'flip|rotate(30)|{EXPERIMENT.data.eval_ops}|color'
    )
    experiment = dataclasses.replace(EXPERIMENT, data=data)
    make_spec = model_fn.make_model_fn(model_fn.Task(experiment, SCHEMA))
    losses = []
    for step, mode in ((0, 'train'), (None, 'eval')):
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            tf.compat.v1.set_random_seed(1)
            batches = training_data.input_fn(experiment, SCHEMA, data_dir, step, 9, augment_on)()
            features, labels = tf.compat.v1.data.make_one_shot_iterator(batches).get_next()
            config = tf.estimator.RunConfig(model_dir=data_dir + '/none')
            loss = make_spec(features, labels, mode, config).loss
            session.run(tf.compat.v1.global_variables_initializer())
            losses.append(session.run(loss))
    return losses


def test_where_pictures_are_made_does_not_change_a_training(data_dir):
    host, device = (_first_losses(data_dir, where) for where in ('host', 'device'))
    np.testing.assert_allclose(host, device, rtol=2e-3)


def test_evaluation_reads_the_validation_split_once(data_dir):
    input_fn = training_data.input_fn(EXPERIMENT, SCHEMA, data_dir)
    ids = [features['image_id'].tolist() for features, _ in input_fn().as_numpy_iterator()]
    assert ids == [[b'skirt/0.jpg']]


@pytest.mark.parametrize('field', ['train_ops', 'eval_ops'])
def test_ops_that_do_not_fit_the_network_are_told_before_training(data_dir, field):
    data = dataclasses.replace(EXPERIMENT.data, **{field: 'letterbox(16,32)|warp'})
    experiment = dataclasses.replace(EXPERIMENT, data=data)
    with pytest.raises(ValueError, match=r'\(16, 32\), but network.image_size=\(32, 32\)'):
        training_data.input_fn(experiment, SCHEMA, data_dir, 0 if field == 'train_ops' else None)


@pytest.mark.parametrize(
    ('category', 'names'),
    [
        ('each', ['dress', 'skirt']),  # of those that there are, in the order of the schema
        ('all', ['all']),
        ('skirt, dress', ['skirt', 'dress']),
        ('all,skirt', ['all', 'skirt']),
    ],
)
def test_categories(data_dir, category, names):
    assert training_data.categories(EXPERIMENT, data_dir, category) == names


@pytest.mark.parametrize(
    ('category', 'message'),
    [
        ('skirt,blouse', 'no pictures of blouse'),
        ('trousers', 'no pictures of trousers'),
        ('shirt', "unknown category 'shirt'; fashionai has: blouse, dress"),
        ('each,skirt', "unknown category 'each'"),
        ('', "unknown category ''"),
    ],
)
def test_categories_without_pictures_are_told_before_training(data_dir, category, message):
    with pytest.raises(ValueError, match=message):
        runner.train(EXPERIMENT, RunOptions(data_dir, '', category))


def test_records_of_another_data_set_are_refused(data_dir, monkeypatch):
    spec = types.SimpleNamespace(schema=SCHEMA)
    monkeypatch.setitem(DATASETS._entries, 'other', spec)
    experiment = EXPERIMENT.override('data.dataset=other')
    with pytest.raises(ValueError, match="records of 'fashionai', but data.dataset='other'"):
        runner.train(experiment, RunOptions(data_dir, '', 'all'))


def test_a_later_network_that_cannot_be_trained_stops_the_first(data_dir, tmp_path):
    folder = tmp_path / 'dress'
    folder.mkdir()
    (folder / 'experiment.json').write_text(Experiment().to_json())
    write_checkpoint(folder / 'model.ckpt-1', {'global_step': np.int64(1)})
    with pytest.raises(ValueError, match='dress holds another experiment.*data.batch_size: 2 / 10'):
        runner.train(EXPERIMENT, RunOptions(data_dir, str(tmp_path), 'skirt,dress'))
    assert not (tmp_path / 'skirt').exists()


def test_a_mistake_in_a_setting_leaves_the_folder_free(data_dir, tmp_path):
    options = RunOptions(data_dir, str(tmp_path), 'skirt')
    for assignment, message in (
        ('network.backbone=resnet1', 'unknown backbone'),
        ('network.image_size=30,32', 'needs multiples of 32'),
        ('data.train_ops=flip|warp', 'letterbox 0 times'),
        ('optimizer.name=sgd', 'unknown optimizer'),
        ('loss.kind=balanced_l2', "unknown loss kind .* did you mean 'balanced_l1'"),
        ('refine=third', 'unknown refine mode'),
        ('loss.sigmas=1,2,3,4,5,6,7', 'at most'),
    ):
        with pytest.raises(ValueError, match=message):
            runner.train(EXPERIMENT.override(assignment), options)
        assert not list(tmp_path.glob('*/model.ckpt*'))


@pytest.mark.parametrize('name', ['new [v2]', 'a*', 'who?', 'back\\slash', 'this,that'])
def test_a_folder_that_tensorflow_would_take_for_a_pattern_is_refused(data_dir, tmp_path, name):
    with pytest.raises(ValueError, match='model_dir=.*; give another name'):
        runner.train(EXPERIMENT, RunOptions(data_dir, str(tmp_path / name), 'skirt'))
    assert list(tmp_path.iterdir()) == []


def test_two_trainings_do_not_write_one_folder(data_dir, tmp_path):
    options = RunOptions(data_dir, str(tmp_path), 'skirt')
    (tmp_path / 'skirt').mkdir()
    (tmp_path / 'skirt' / 'model.ckpt-9_temp').mkdir()  # of the first
    is_taken = pytest.raises(ValueError, match="another process is writing into '.*skirt'")
    with files.alone_in(str(tmp_path / 'skirt')), is_taken:
        runner.train(EXPERIMENT, options)
    assert [path.name for path in (tmp_path / 'skirt').iterdir()] == ['model.ckpt-9_temp']
