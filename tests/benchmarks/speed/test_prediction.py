"""Measuring prediction: what is predicted, the way compared with, and the tables."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from benchmarks.common import recipes, synthetic_runs
from benchmarks.speed import prediction, seed_prediction
from preprocessing.datasets.fashionai import SCHEMA
from utility.metrics.annotations import annotations_of


def test_a_synthetic_split_is_as_large_as_asked_and_repeats_its_pictures(tmp_path):
    split_dir = synthetic_runs.write_split(str(tmp_path / 'records'), 70, 16)
    annotations = annotations_of(split_dir, SCHEMA)
    assert len(set(annotations.image_ids)) == 70
    assert (annotations.image_sizes == 16).all()
    np.testing.assert_array_equal(annotations.keypoints[:6], annotations.keypoints[64:])
    assert (annotations.keypoints[0] != annotations.keypoints[1]).any()


def test_the_way_compared_with_finds_the_largest_cell_and_steps_to_the_next():
    maps = np.zeros([3, 4, 8], np.float32)
    maps[0, 1, 2], maps[0, 1, 6] = 2, 1
    maps[1, 3, 5], maps[1, 0, 1] = 2, 1
    maps[2, 2, 7] = 1  # the second largest is the first of the others
    points = seed_prediction._decoded(tf.constant(maps), tf.constant([8.0, 32.0])).numpy()
    way = np.array([[1, 0], [-0.8, -0.6], [-7 / 53**0.5, -2 / 53**0.5]])
    expected = (np.array([[2, 1], [5, 3], [7, 2]]) + 0.25 * way) * [4, 2]
    np.testing.assert_allclose(points, expected, rtol=1e-6)


def test_ratios_are_of_the_same_round():
    mine = [{'picture': 0.1, 'start': 3.0}, {'picture': 0.2, 'start': 5.0}]
    theirs = [{'picture': 0.2}, {'picture': 0.4}]
    table = prediction.speed_table({'flip': (mine, theirs)}, [{'picture': 1 / 20}])
    assert table.numbers['flip']['ratio'][0] == pytest.approx(2.0)
    rates = ('flip', '7.50 ± 1.25', '3.75 ± 0.62', '2.00 ± 0.00')
    assert table.rows[0] == (*rates, '75%', '4.0')  # two looks at 7.5 pictures of 20
    assert table.rows[1][:2] == ('the network alone', '20.0')


@pytest.mark.parametrize(('last', 'met'), [(464, 'yes'), (465, '**no**')])
def test_memory_that_grows_is_told(last, met):
    found = {'passes': [[400, 401, 402, 403, last]], 'scored': 480, 'seconds': 10.0}
    table = prediction.memory_table(found, 1000)
    assert table.rows[0][:2] == ('pass 1, MB', '400')
    assert table.rows[0][-1] == met
    assert len(table.rows[0]) == len(table.header)


@pytest.mark.slow
def test_both_ways_predict_and_memory_is_looked_at_in_both_passes(tmp_path):
    settings = [f'{key}={value}' for key, value in prediction.TINY.items()]
    experiment = recipes.load('resnet18_dhn').override(*settings)
    prediction.write_inputs(str(tmp_path), 64, 48, experiment)
    for way in prediction.WAYS.values():
        for rows in (prediction.ours(str(tmp_path), way, 16), prediction.seed(str(tmp_path), way)):
            assert next(rows) == {}
            assert 0 < next(rows)['picture'] < 1
            rows.close()
    found = prediction.watch_memory(str(tmp_path), 64)
    assert [len(sizes) for sizes in found['passes']] == [5, 5]
    assert min(found['passes'][0]) > 100
