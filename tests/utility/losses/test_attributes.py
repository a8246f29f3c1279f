"""Losses of category and presence: against NumPy, what has no part in them, and that they teach."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tensorflow as tf

from config import Experiment, LossConfig, NetworkConfig, UserError
from nets.heads.attributes import AttributeLogits, AttributeSizes
from preprocessing.datasets.fashionai import SCHEMA
from utility.losses import attributes

BOTH = LossConfig(category_weight=0.5, presence_weight=2.0)
NAMES = list(SCHEMA.categories)
CATEGORIES = np.array(['skirt', 'blouse', 'skirt'])
K = SCHEMA.num_keypoints


def _data(seed=0):
    rng = np.random.default_rng(seed)
    logits = AttributeLogits(
        tf.constant(rng.normal(size=(3, len(NAMES))), tf.float32),
        tf.constant(rng.normal(size=(3, K, 3)), tf.float32),
    )
    return logits, rng.integers(-1, 2, (3, K)).astype(np.int32)


def _losses(logits, visibility, config=BOTH):
    return attributes.attribute_losses(logits, tf.constant(CATEGORIES), visibility, config, SCHEMA)


def test_losses_are_weighted_cross_entropies_over_the_points_of_the_category():
    logits, visibility = _data()
    losses = _losses(logits, visibility)
    category, presence = (np.asarray(one) - np.log(np.exp(one).sum(-1, keepdims=True))
                          for one in logits)  # fmt: skip
    expected = -np.mean([category[row, NAMES.index(c)] for row, c in enumerate(CATEGORIES)])
    np.testing.assert_allclose(losses['category'], 0.5 * expected, rtol=1e-5)
    parts = [
        -presence[row, k, visibility[row, k] + 1]
        for row, c in enumerate(CATEGORIES)
        for k in SCHEMA.indices(c)
    ]
    np.testing.assert_allclose(losses['presence'], 2 * np.mean(parts), rtol=1e-5)


def test_points_of_other_categories_say_nothing():
    logits, visibility = _data()
    others = ~attributes.points_of(tf.constant(CATEGORIES), SCHEMA).numpy()
    changed = np.where(others, -visibility, visibility)
    assert (changed != visibility).any()
    assert _losses(logits, changed)['presence'] == _losses(logits, visibility)['presence']


def test_a_weight_of_0_and_a_single_category_ask_for_nothing():
    assert attributes.attribute_sizes(LossConfig(), SCHEMA) == AttributeSizes()
    skirt = SCHEMA.subset('skirt')
    assert attributes.attribute_sizes(BOTH, skirt) == AttributeSizes(0, skirt.num_keypoints)
    assert attributes.attribute_sizes(BOTH, SCHEMA) == AttributeSizes(len(NAMES), K)
    assert _losses(AttributeLogits(), _data()[1]) == {}


def test_the_weights_are_settings_that_older_experiments_lack():
    experiment = Experiment().override('loss.category_weight=0.1', 'loss.presence_weight=0.2')
    assert Experiment.from_json(experiment.to_json()) == experiment
    values = json.loads(Experiment().to_json())
    del values['loss']['category_weight'], values['loss']['presence_weight']
    assert Experiment.from_json(json.dumps(values)) == Experiment()
    with pytest.raises(UserError, match=r'loss\.presence_weight=-1.0: must be not negative'):
        experiment.override('loss.presence_weight=-1')


def test_category_and_presence_are_learned():
    """Pictures of one color are of a category; all points of the bright ones are visible."""
    tf.random.set_seed(0)
    config = NetworkConfig('resnet18', 'dhn', (32, 32), (8, 8), {'width': 8}, {'channels': 8})
    network = attributes.network_of(Experiment(config, loss=BOTH), SCHEMA)
    level = np.array([255.0, 128.0, 200.0])[:, None, None, None]
    colors = np.array([[1, 0, 0], [0, 1, 0], [1, 0, 0]])[:, None, None]
    images = tf.constant(np.ones((3, 32, 32, 1)) * level * colors, tf.float32)
    visibility = np.array([1, -1, 0], np.int32)[:, None] * np.ones((1, K), np.int32)
    optimizer = tf.keras.optimizers.Adam(3e-3)
    for _ in range(40):
        with tf.GradientTape() as tape:
            logits = network.outputs(images, True).attributes
            loss = tf.add_n(list(_losses(logits, visibility).values()))
        weights = network.trainable_variables
        pairs = zip(tape.gradient(loss, weights), weights)
        optimizer.apply_gradients((g, w) for g, w in pairs if g is not None)
    told = attributes.probabilities(logits)
    best = told['category_probabilities'].numpy().argmax(1)
    assert [NAMES[n] for n in best] == list(CATEGORIES)
    own = attributes.points_of(tf.constant(CATEGORIES), SCHEMA).numpy()
    np.testing.assert_array_equal(told['presence'].numpy().argmax(-1)[own], visibility[own] + 1)
