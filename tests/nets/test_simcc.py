"""SimCC: logits of columns and rows, what may train them, and that training does."""

from __future__ import annotations

import os

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')

import dataclasses
import math

import numpy as np
import pytest
import tensorflow as tf

import nets
from config import Experiment, LossConfig, NetworkConfig
from preprocessing.datasets.fashionai import SCHEMA
from tests.tiny_batches import skirts
from utility.codecs.heatmaps import HeatmapCodec
from utility.losses.heatmap_loss import heatmap_loss, to_heatmaps
from utility.losses.kinds import log_softmax
from utility.predict.model_fn import PredictTask, make_predict_fn
from utility.predict.views_to_points import PredictOptions
from utility.train.model_fn import Task, make_model_fn

v1 = tf.compat.v1
K = 4
SIZE = (64, 64)
SKIRT = SCHEMA.subset('skirt')
NETWORK = NetworkConfig(
    backbone='resnet18',
    head='simcc',
    image_size=SIZE,
    heatmap_size=(32, 16),
    backbone_options={'width': 8},
)
LOSS = LossConfig(kind='cross_entropy', sigmas=(1.5,), ohkm=1.0)
EXPERIMENT = Experiment(network=NETWORK, loss=LOSS)


def _features(*shapes, seed=0):
    random = np.random.default_rng(seed)
    return {
        f'C{n}': tf.constant(random.normal(size=(2, *shape)), tf.float32)
        for n, shape in enumerate(shapes, start=2)
    }


def test_logits_are_the_sum_of_dense_layers_over_the_cells_of_the_coarsest_map():
    head, features = nets.HEADS.get('simcc')(K, (6, 10)), _features((8, 4, 7), (4, 2, 5))
    head(features, False)
    random = np.random.default_rng(1)
    for variable in head.variables:
        variable.assign(random.normal(size=variable.shape))
    weights = {v.name: v.numpy() for v in head.variables}
    assert {name: w.shape for name, w in weights.items()} == {
        'head/heatmaps/kernel:0': (1, 1, 5, K),
        'head/heatmaps/bias:0': (K,),
        'head/rows/kernel:0': (1, 1, 8, 6),
        'head/rows/bias:0': (6,),
        'head/columns/kernel:0': (1, 1, 8, 10),
        'head/columns/bias:0': (10,),
    }
    cells = features['C3'].numpy().reshape(2, 8, 5) @ weights['head/heatmaps/kernel:0'][0, 0]
    cells += weights['head/heatmaps/bias:0']
    rows, columns = (
        np.einsum('bck,cn->bnk', cells, weights[f'head/{name}/kernel:0'][0, 0])
        + weights[f'head/{name}/bias:0'][:, None]
        for name in ('rows', 'columns')
    )
    [logits] = head(features, False)
    np.testing.assert_allclose(logits, rows[:, :, None] + columns[:, None], rtol=1e-4, atol=1e-4)


def test_the_softmax_over_the_cells_is_the_product_of_those_along_the_axes():
    random = np.random.default_rng(0)
    rows, columns = random.normal(size=6), random.normal(size=10)
    softmax = [np.exp(values) / np.exp(values).sum() for values in (rows, columns)]
    logits = tf.constant(rows[:, None] + columns, tf.float32)[None, :, :, None]
    np.testing.assert_allclose(
        tf.exp(log_softmax(logits))[0, :, :, 0], np.outer(*softmax), rtol=1e-5
    )


def test_training_starts_from_a_flat_map():
    tf.random.set_seed(0)
    features = _features((8, 8, 2048))
    [logits] = nets.HEADS.get('simcc')(K, (32, 32))(features, True)
    np.testing.assert_allclose(tf.exp(log_softmax(logits)) * 32 * 32, 1.0, atol=0.1)
    assert np.any(logits != logits[:, :1, :1])


def test_half_precision_features_give_float32_logits():
    features = {key: tf.cast(f, tf.bfloat16) for key, f in _features((4, 4, 8)).items()}
    [logits] = nets.HEADS.get('simcc')(K, (8, 8))(features, False)
    assert logits.dtype == tf.float32


def _data():
    """Return four pictures; one point of them does not count."""
    features, labels = skirts(4, SIZE)
    labels['visibility'][0, 0] = -1
    return features, labels


def _train(config, loss_config, num_steps):
    """Return the network after some steps on one batch, and the loss before each."""
    tf.random.set_seed(0)
    network = nets.build_network(config, K)
    features, labels = _data()
    optimizer = tf.keras.optimizers.legacy.Adam(3e-3)
    network(features['image'], False)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            outputs = network(features['image'], True)
            loss, _ = heatmap_loss(outputs, labels, loss_config, SIZE)
        variables = network.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables))
        return loss

    return network, [float(step()) for _ in range(num_steps)]


def test_a_small_network_learns_four_pictures():
    network, losses = _train(NETWORK, LOSS, num_steps=60)
    codec = HeatmapCodec(SIZE, NETWORK.map_size, LOSS.sigmas_on(NETWORK.map_size)[-1])
    features, labels = _data()
    entropy = 1 + math.log(2 * math.pi * 1.5**2)  # of a Gaussian
    assert losses[0] == pytest.approx(math.log(32 * 16) - entropy, rel=0.1)
    assert losses[-1] < losses[0] / 5
    points, _ = codec.decode(to_heatmaps(network(features['image'], True)[-1], LOSS))
    errors = np.linalg.norm(points - labels['keypoints'], axis=-1)[labels['visibility'] == 1]
    assert np.median(errors) < 4  # px, a cell


def test_any_head_trains_with_cross_entropy():
    config = dataclasses.replace(
        NETWORK, head='cpn', heatmap_size=(16, 16), head_options={'channels': 8}
    )
    network, losses = _train(config, dataclasses.replace(LOSS, weights=(0.5, 1.0)), num_steps=3)
    assert len(network(_data()[0]['image'], False)) == 5
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]


def test_a_squared_error_of_logits_is_refused():
    message = "loss.kind='mse': must be 'cross_entropy' for the head 'simcc'"
    with pytest.raises(ValueError, match=message):
        Task(Experiment(network=NETWORK), SKIRT)
    with pytest.raises(ValueError, match="unknown head 'simc'.*did you mean 'simcc'"):
        Task(Experiment(network=NetworkConfig(head='simc')), SKIRT)
    Task(Experiment(network=NetworkConfig(head='cpn'), loss=LOSS), SKIRT)


def _run(task, mode, **outputs):
    """Return what the graph of a task gives whose maps are flat: named tensors of its
    specification.
    """
    with tf.Graph().as_default(), v1.Session() as session:
        tf.random.set_seed(0)
        features, labels = (
            {key: tf.constant(value) for key, value in part.items()} for part in _data()
        )
        if mode == 'infer':
            spec = make_predict_fn(task)(features, None, mode)
        else:
            config = tf.estimator.RunConfig(model_dir='no_run')
            spec = make_model_fn(task)(features, labels, mode, config)
        session.run(v1.global_variables_initializer())
        dense = [
            v for v in v1.trainable_variables() if v.name.startswith(('head/rows', 'head/col'))
        ]
        assert len(dense) == 4
        # Untrained statistics normalize nothing: features are large, and so would logits be.
        session.run([variable.assign(tf.zeros_like(variable)) for variable in dense])
        return session.run({name: get(spec) for name, get in outputs.items()})


@pytest.mark.parametrize('flip_test', [False, True])
@pytest.mark.parametrize('target_scale', [1.0, 255.0])
def test_predictions_have_probabilities_on_the_scale_of_a_target_as_scores(flip_test, target_scale):
    loss = dataclasses.replace(LOSS, target_scale=target_scale)
    options = PredictOptions(flip_test=flip_test)
    task = PredictTask(dataclasses.replace(EXPERIMENT, loss=loss), SKIRT, options=options)
    predictions = _run(task, 'infer', all=lambda spec: spec.predictions)['all']
    flat = 2 * math.pi * 1.5**2 / (32 * 16)
    np.testing.assert_allclose(predictions['scores'], flat, rtol=1e-3)
    assert predictions['keypoints'].shape == (4, K, 2)


def test_evaluation_starts_from_the_loss_of_a_flat_map():
    # Targets near the border are cut and have less entropy than the whole Gaussian.
    loss = _run(Task(EXPERIMENT, SKIRT), 'eval', loss=lambda spec: spec.loss)['loss']
    assert loss == pytest.approx(math.log(32 * 16) - 1 - math.log(2 * math.pi * 1.5**2), rel=0.04)
