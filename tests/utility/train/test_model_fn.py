"""The graph of training, evaluation and prediction, through an Estimator, on tiny networks."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from config import Experiment, LossConfig, NetworkConfig, OptimizerConfig, ScheduleConfig
from preprocessing.datasets.fashionai import SCHEMA
from preprocessing.schema import BOX_AREA_ROOT
from preprocessing.tables import KeypointTable
from tests.tiny_batches import skirts
from utility.codecs.heatmaps import codec_of
from utility.metrics import measures
from utility.metrics.normalized_error import normalized_error
from utility.optim.schedules import Length
from utility.predict.model_fn import PredictTask, make_predict_fn
from utility.predict.views_to_points import PredictOptions
from utility.train.log import Watch
from utility.train.model_fn import Task, make_model_fn

SIZE = 64
SKIRT = SCHEMA.subset('skirt')
EXPERIMENT = Experiment(
    network=NetworkConfig(
        backbone='resnet18',
        head='dhn',
        image_size=(SIZE, SIZE),
        heatmap_size=(16, 16),
        backbone_options={'width': 8},
        head_options={'channels': 16},
    ),
    loss=LossConfig(sigmas=(1.5,)),
    optimizer=OptimizerConfig(name='adam', learning_rate=3e-3, weight_decay=0.0),
    schedule=ScheduleConfig(
        name='step',
        warmup_steps=20,
        decay_epochs=(300.0,),
        decay_factors=(1.0, 0.1),
    ),
)


def _data(count, seed=0):
    """Return pictures that were twice reduced, with some points that do not count."""
    features, labels = skirts(count, (SIZE, SIZE), seed)
    features['image_size'] *= 2
    features['to_crop'][:, :2] /= 2
    rng = np.random.default_rng(seed)
    visibility = rng.choice([1, 1, 1, 0, -1], labels['visibility'].shape)
    visibility[:, 0] = 1
    labels['keypoints'][visibility < 0] = -1
    labels['normalizer'][1] = 0
    return features, {**labels, 'visibility': visibility.astype(np.int32)}


def _estimator(model_dir, save_summary_steps=100, schema=SKIRT, **task):
    task = Task(EXPERIMENT, schema, length=Length(1000, 1.0), eval_categories=('skirt',), **task)
    config = tf.estimator.RunConfig(
        tf_random_seed=1, log_step_count_steps=None, save_summary_steps=save_summary_steps
    )
    return tf.estimator.Estimator(make_model_fn(task), str(model_dir), config)


def _input_fn(data, batch_size, repeat=1):
    return lambda: tf.data.Dataset.from_tensor_slices(data).repeat(repeat).batch(batch_size)


def _predict(model_dir, data, batch_size=2, options=PredictOptions()):  # noqa: B008  frozen
    model_fn = make_predict_fn(PredictTask(EXPERIMENT, SKIRT, options))
    return list(
        tf.estimator.Estimator(model_fn, str(model_dir)).predict(_input_fn(data, batch_size))
    )


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A network trained on one repeated batch of four pictures, and those pictures."""
    data = _data(4)
    model_dir = tmp_path_factory.mktemp('run')
    estimator = _estimator(model_dir)
    estimator.train(_input_fn(data, 4, repeat=None), max_steps=1)
    first = estimator.evaluate(_input_fn(data, 4))['loss']
    estimator.train(_input_fn(data, 4, repeat=None), max_steps=400)
    return model_dir, data, first


def test_the_loss_of_a_repeated_batch_falls_to_near_nothing(trained):
    model_dir, data, first = trained
    last = _estimator(model_dir).evaluate(_input_fn(data, 4))
    # With the batch's own statistics it is 1/3000. The moving variances are the unbiased ones, at
    # the deepest level of 16 cells 16/15 of the batch's, and all blocks feel it.
    assert last['loss'] < first / 50
    assert last['normalized_error'] < 0.005  # 1.1 at the first step


def test_batch_norm_statistics_move(trained):
    estimator = _estimator(trained[0])
    means = [n for n in estimator.get_variable_names() if n.endswith('moving_mean')]
    assert len(means) > 20
    for name in means:
        assert np.abs(estimator.get_variable_value(name)).max() > 0, name


def test_from_a_step_on_batch_norm_keeps_its_statistics_and_learns_its_scales(tmp_path):
    estimator, values = _estimator(tmp_path, freeze_at=2), []
    for stop in (1, 2, 4):
        estimator.train(_input_fn(_data(4), 4, repeat=None), max_steps=stop)
        names = estimator.get_variable_names()
        values.append({name: estimator.get_variable_value(name) for name in names})
    statistics = [name for name in values[0] if '/moving_' in name]
    scales = [name for name in values[0] if name.endswith('/gamma')]
    assert len(statistics) > 40 and len(scales) > 20
    first, second, last = values
    assert any((first[name] != second[name]).any() for name in statistics)
    for name in statistics:
        np.testing.assert_array_equal(second[name], last[name], name)
    assert all((second[name] != last[name]).any() for name in scales)


def test_the_metric_over_unequal_batches_is_the_numpy_one(trained):
    data = _data(5, seed=1)
    estimator = _estimator(trained[0])
    result = estimator.evaluate(_input_fn(data, 2))
    predicted = np.stack([p['keypoints'] for p in _predict(trained[0], data)])
    labels = data[1]
    scored = labels['normalizer'] > 0
    expected = normalized_error(
        predicted[scored],
        2 * labels['keypoints'][scored],
        labels['visibility'][scored],
        labels['normalizer'][scored],
    )
    assert expected > 0.1
    np.testing.assert_allclose(result['normalized_error'], expected, rtol=1e-5)
    np.testing.assert_allclose(result['normalized_error/skirt'], expected, rtol=1e-5)


def _measured_in_numpy(model_dir, data, schema):
    """The metrics of a network by utility.metrics.measures, from its predictions."""
    predicted = _predict(model_dir, data)
    labels = data[1]
    rows = labels['normalizer'] > 0
    side = labels['normalizer'][rows]
    ids = np.array([f'{row}.jpg' for row in np.flatnonzero(rows)], object)
    to_original = np.linalg.inv(data[0]['to_crop'])[rows]
    # The crops are halves of the pictures.
    keypoints = labels['keypoints'][rows] * to_original[0, 0, 0]
    boxes = np.stack([0 * side, 0 * side, side, side], axis=1)
    truth = KeypointTable(
        ids,
        np.full(len(ids), 'skirt'),
        keypoints,
        labels['visibility'][rows],
        np.arange(len(ids)),
        boxes,
    )
    found = truth._replace(
        keypoints=np.stack([one['keypoints'] for one in predicted])[rows],
        visibility=np.ones_like(truth.visibility),
    )
    scores = np.stack([one['scores'] for one in predicted])[rows].mean(axis=1)
    return measures.measure(found, truth, schema, scores)


@pytest.mark.parametrize('metric', ['oks_ap', 'pck', 'auc', 'epe'])
def test_the_metric_of_the_schema_is_the_numpy_one(trained, metric):
    schema = dataclasses.replace(
        SKIRT,
        normalizers={'skirt': BOX_AREA_ROOT},
        sigmas=dict(zip(SKIRT.keypoints, (0.9, 0.5, 1.2, 0.7))),
        metric=metric,
    )
    # Pictures that it knows and others.
    data = tuple(
        {name: np.concatenate([known[name], other[name]]) for name in known}
        for known, other in zip(trained[1], _data(5, seed=2))
    )
    result = _estimator(trained[0], schema=schema).evaluate(_input_fn(data, 4))
    measured = _measured_in_numpy(trained[0], data, schema)
    visible = measured['visible']['all']
    expected = {
        'oks_ap': measured['with_occluded']['oks']['all']['AP'],
        'pck': visible['pck']['0.2'],
        'auc': visible['auc'],
        'epe': visible['epe'],
    }[metric]
    assert result[metric] == pytest.approx(expected, rel=1e-4)
    assert expected > 0
    assert expected < 1 or metric == 'epe'


def test_predictions_do_not_depend_on_the_batch_size(trained):
    model_dir, data, _ = trained
    one, four = (_predict(model_dir, data, size) for size in (1, 4))
    for a, b in zip(one, four):
        assert a['image_id'] == b['image_id']
        np.testing.assert_allclose(a['keypoints'], b['keypoints'], atol=1e-2)


def test_the_flip_test_makes_prediction_symmetric(trained):
    model_dir, (features, labels), _ = trained
    mirrored = {**features, 'image': features['image'][:, :, ::-1]}
    options = PredictOptions(flip_test=True)
    plain = _predict(model_dir, (features, labels), options=options)
    flipped = _predict(model_dir, (mirrored, labels), options=options)
    for a, b in zip(plain, flipped):
        back = b['keypoints'][list(SKIRT.flip_permutation)]
        back[:, 0] = 2 * SIZE - back[:, 0]
        np.testing.assert_allclose(back, a['keypoints'], atol=0.05)


def test_pictures_of_the_evaluation_are_written(trained, tmp_path):
    estimator = _estimator(trained[0], eval_dir=str(tmp_path))
    estimator.evaluate(_input_fn(trained[1], 2))
    assert {tag.split('/')[0] for tag, _ in _summaries(tmp_path)} == {'pictures', 'heatmaps'}


def _summaries(folder) -> list[tuple[str, tf.compat.v1.Summary.Value]]:
    [path] = folder.glob('events*')
    serialized = tf.data.TFRecordDataset(str(path)).as_numpy_iterator()
    events = map(tf.compat.v1.Event.FromString, serialized)
    return [(value.tag, value) for event in events for value in event.summary.value]


@pytest.mark.parametrize('histograms', [False, True])
def test_a_training_writes_scalars_pictures_and_on_demand_histograms(tmp_path, histograms):
    watch = Watch(every=2, folder=str(tmp_path), histograms=histograms)
    estimator = _estimator(tmp_path, save_summary_steps=2, watch=watch)
    estimator.train(_input_fn(_data(4), 2, repeat=None), max_steps=4)
    found = _summaries(tmp_path)
    scalars = {tag for tag, value in found if value.HasField('simple_value')}
    assert scalars >= {'loss', 'loss/output_0', 'normalized_error', 'learning_rate'}
    assert scalars >= {'images_per_second', 'waiting'}
    assert {'pictures/image/0', 'heatmaps/image/0'} <= {tag for tag, _ in found}
    weights = {tag for tag, value in found if value.HasField('histo')}
    names = {f'weights/{name}' for name in estimator.get_variable_names()}
    trained = {name for name in names if name.endswith(('kernel', 'bias', 'gamma', 'beta'))}
    assert weights == (trained if histograms else set())


def test_equal_seeds_give_equal_weights(tmp_path):
    data = _data(4)
    readers = []
    for name in 'ab':
        _estimator(tmp_path / name).train(_input_fn(data, 2, repeat=None), max_steps=3)
        readers.append(tf.train.load_checkpoint(str(tmp_path / name)))
    names = readers[0].get_variable_to_shape_map()
    assert len(names) > 100
    for name in names:
        np.testing.assert_array_equal(*(reader.get_tensor(name) for reader in readers), name)


def test_an_unknown_refinement_is_an_error_that_names_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'dark'"):
        codec_of(dataclasses.replace(EXPERIMENT, refine='darc'))
