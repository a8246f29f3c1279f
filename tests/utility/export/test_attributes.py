"""Exports of a network that tells category and presence: the numbers are the network's."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from config import LossConfig
from preprocessing.conversion.images import DecodedImage
from preprocessing.datasets.fashionai import SCHEMA
from tests.tiny_runs import smooth_image, write_run
from utility.export import folder
from utility.export.formats import FORMATS, Settings
from utility.export.graph import ExportGraph
from utility.predict import fusion, load, predictor
from utility.predict.views_to_points import PredictOptions

NAMES = list(SCHEMA.categories)
OPTIONS = PredictOptions(flip_test=True)
JPEGS = [
    tf.io.encode_jpeg(smooth_image(64, 64) * np.uint8(color), quality=95).numpy()
    for color in ((1, 1, 1), (1, 0, 0), (0, 0, 1))
]
IMAGES = [
    tf.io.decode_jpeg(jpeg, dct_method='INTEGER_ACCURATE', fancy_upscaling=True).numpy()
    for jpeg in JPEGS
]
# What each format needs beside the project's own packages.
PACKAGES = {'onnx': ['onnx', 'tf2onnx', 'onnxruntime']}


@pytest.fixture(scope='module')
def run_dir(tmp_path_factory):
    loss = LossConfig(category_weight=0.1, presence_weight=0.1)
    return write_run(tmp_path_factory.mktemp('run') / 'all', loss=loss)


@pytest.fixture(scope='module')
def graph(run_dir):
    return ExportGraph(fusion.load_network(run_dir, OPTIONS), OPTIONS)


@pytest.fixture(scope='module')
def expected(run_dir):
    pictures = [DecodedImage(jpeg, (64, 64), ()) for jpeg in JPEGS]
    ids = [str(number) for number in range(len(IMAGES))]
    options = PredictOptions(flip_test=True, use_predicted_category=True)
    return predictor.predict_images([run_dir], ids, pictures, NAMES[:3], options)


@pytest.fixture(scope='module', params=sorted({*FORMATS.names()} - {'web'}))
def exported(request, graph, tmp_path_factory):
    for package in PACKAGES.get(request.param, ()):
        pytest.importorskip(package, reason=f'{package} is not installed (tests/run.sh --export)')
    output = tmp_path_factory.mktemp(request.param) / 'out'
    folder.export(graph, request.param, str(output), Settings())
    return output


def test_the_category_may_be_left_out_and_probabilities_are_the_networks(exported, expected):
    told = expected.predicted_categories(SCHEMA)
    assert json.loads((exported / 'model.json').read_text())['tells'] == list(fusion.TOLD)
    with load(str(exported)) as model:
        results = model.predict(IMAGES)
        given = model.predict(IMAGES[0], 'skirt')
    for row, result in enumerate(results):
        own = list(SCHEMA.indices(told[row]))
        assert result.category == told[row]
        np.testing.assert_allclose(result.presence, expected.presence[row, own], atol=1e-3)
        shares = list(result.category_probabilities.values())
        np.testing.assert_allclose(shares, expected.category_probabilities[row], atol=1e-3)
        np.testing.assert_allclose(result.points, expected.keypoints[row, own], atol=0.05)
    assert given.category == 'skirt' and len(given.points) == 4


def test_the_script_of_the_folder_tells_them(exported, expected, tmp_path):
    path = tmp_path / 'a.png'
    path.write_bytes(tf.io.encode_png(IMAGES[0]).numpy())
    command = [sys.executable, '-I', exported / 'predict.py', '-']
    lines = f'{path}\nskirt\t{path}\n'
    done = subprocess.run(
        command, input=lines, cwd=tmp_path, capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 0, done.stderr
    first, second = map(json.loads, done.stdout.splitlines())
    assert first['category'] == expected.predicted_categories(SCHEMA)[0]
    assert second['category'] == 'skirt'
    for answer in (first, second):
        names = SCHEMA.categories[answer['category']]
        assert set(answer['points']) == set(answer['presence']) == set(names)
        assert answer['category_probabilities'].keys() == set(NAMES)
    k = SCHEMA.keypoints.index('waistband_left')
    np.testing.assert_allclose(
        second['presence']['waistband_left'], expected.presence[0, k], atol=1e-3
    )


def test_a_server_may_leave_the_category_out(graph, expected):
    jpegs = tf.constant([tf.io.encode_png(image).numpy() for image in IMAGES])
    answer = graph.of_bytes(jpegs, tf.constant(['', 'skirt', '']))
    for row, name in ((0, expected.predicted_categories(SCHEMA)[0]), (1, 'skirt')):
        shown = np.flatnonzero(answer['visibility'][row] == 1)
        assert shown.tolist() == list(SCHEMA.indices(name))
    with pytest.raises(tf.errors.InvalidArgumentError, match='unknown category'):
        graph.of_bytes(jpegs, tf.constant(['', 'shirt', '']))
