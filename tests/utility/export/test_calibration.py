"""Which images calibrate int8: those on which the activations are as large as usual."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tests.tiny_runs import smooth_image, write_run
from utility.export import calibration
from utility.export.graph import ExportGraph
from utility.predict import fusion
from utility.predict.views_to_points import PredictOptions


class _Graph:
    """Has one layer, whose activations are the pixels, and crops that are the images."""

    @staticmethod
    def crop(image):
        return tf.constant(image, tf.float32), None

    @staticmethod
    def largest_activations(crops):
        return tf.reduce_max(crops, axis=[1, 2, 3])[:, tf.newaxis]


def test_images_with_exceptional_activations_do_not_calibrate():
    values = [10, 12, 200, 8, 30, 9]
    images = [np.full([4, 4, 3], value, np.uint8) for value in values]
    crops = calibration.crops_of(images, _Graph)
    assert [crop.max() for crop in crops] == [10, 12, 8, 30, 9]
    assert calibration.crops_of([], _Graph) == []


def test_one_layer_is_enough_to_be_exceptional():
    largest = np.array([[1, 100], [1.5, 110], [9, 90], [1.2, 95]])
    np.testing.assert_array_equal(calibration.usual(largest), [True, True, False, True])


def test_at_least_half_of_the_images_are_usual():
    rng = np.random.default_rng(0)
    for _ in range(50):
        largest = 10.0 ** rng.uniform(-6, 6, [9, 5]) * rng.integers(0, 2, 5)
        assert calibration.usual(largest).sum() >= 5


def test_largest_activations_are_of_each_image_and_follow_its_contrast(tmp_path):
    options = PredictOptions()
    run = write_run(tmp_path / 'all')
    graph = ExportGraph(fusion.load_network(run, options), options)
    image = smooth_image(64, 64)
    crops = tf.stack([graph.crop(image)[0], graph.crop(image // 2)[0]])
    both = graph.largest_activations(crops).numpy()
    assert both.shape[0] == 2 and (both >= 0).all() and (both[0] != both[1]).any()
    alone = graph.largest_activations(crops[1:]).numpy()
    np.testing.assert_allclose(both[1:], alone, rtol=1e-4)
