"""The Python interface: the predictor's points, from whatever an image comes as."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from preprocessing import schema_files
from preprocessing.conversion.images import DecodedImage
from preprocessing.datasets.fashionai import SCHEMA
from tests.commands import ROOT
from tests.tiny_checkpoints import write_checkpoint
from tests.tiny_runs import random_weights, smooth_image, write_run
from utility.checkpoints.runs import load_experiment
from utility.predict import load, predictor
from utility.predict.boxes import RecordBoxes
from utility.predict.test_time_augmentation import ViewOptions
from utility.predict.views_to_points import PredictOptions

SIZES = [(120, 90), (64, 64), (300, 200)]
CATEGORIES = ['blouse', 'skirt', 'blouse']


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp('runs')
    return [write_run(folder / name, seed=seed) for seed, name in enumerate(('one', 'two'))]


@pytest.fixture(scope='module')
def jpegs():
    images = [smooth_image(*size, seed=seed) for seed, size in enumerate(SIZES)]
    return [tf.io.encode_jpeg(image, quality=95).numpy() for image in images]


def _pixels(jpeg):
    return tf.io.decode_jpeg(jpeg, dct_method='INTEGER_ACCURATE', fancy_upscaling=True).numpy()


@pytest.mark.parametrize(
    ('both', 'given', 'options'),
    [
        (False, {}, PredictOptions()),
        (
            False,
            {'flip_test': True, 'passes': 2, 'refine': 'dark', 'scales': [0.9, 1, 1.1]},
            PredictOptions(True, 2, 'dark', views=ViewOptions(scales=(0.9, 1.0, 1.1))),
        ),
        (True, {'batch_size': 2}, PredictOptions(batch_size=2)),
    ],
)
def test_points_are_those_of_the_predictor(runs, jpegs, both, given, options):
    chosen = runs if both else runs[:1]
    images = [DecodedImage(jpeg, size, ()) for jpeg, size in zip(jpegs, SIZES)]
    expected = predictor.predict_images(chosen, ['a', 'b', 'c'], images, CATEGORIES, options)
    with load(chosen, **given) as model:
        found = model.predict(jpegs, CATEGORIES)
    for row, (result, category) in enumerate(zip(found, CATEGORIES)):
        own = list(SCHEMA.indices(category))
        assert result.names == tuple(SCHEMA.keypoints[k] for k in own)
        assert (result.category, result.image_size) == (category, SIZES[row])
        np.testing.assert_allclose(result.points, expected.keypoints[row, own], atol=0.02)
        np.testing.assert_allclose(result.scores, expected.scores[row, own], atol=1e-4)


@pytest.fixture(scope='module')
def model(runs):
    with load(runs[0]) as opened:
        yield opened


def test_an_image_may_be_a_path_bytes_pixels_or_in_a_folder(model, jpegs, tmp_path):
    (tmp_path / 'a.JPG').write_bytes(jpegs[0])
    (tmp_path / 'notes.txt').write_text('no image')
    (tmp_path / '._a.JPG').write_text('a note of the system')
    (tmp_path / 'more.jpg').mkdir()
    expected = model.predict(jpegs[0], 'blouse').points
    for image in (str(tmp_path / 'a.JPG'), tmp_path / 'a.JPG', _pixels(jpegs[0])):
        np.testing.assert_array_equal(model.predict(image, 'blouse').points, expected)
    (result,) = model.predict(tmp_path, 'blouse')
    np.testing.assert_array_equal(result.points, expected)
    assert str(result.image).endswith('a.JPG')


def test_gray_is_rgb_and_behind_alpha_is_white(model):
    gray = smooth_image(80, 70)[:, :, 0]
    as_rgb = np.repeat(gray[:, :, None], 3, axis=2)
    expected = model.predict(as_rgb, 'skirt').points
    np.testing.assert_array_equal(model.predict(gray, 'skirt').points, expected)
    opaque = np.dstack([as_rgb, np.full_like(gray, 255)])
    np.testing.assert_array_equal(model.predict(opaque, 'skirt').points, expected)
    white = model.predict(np.full_like(as_rgb, 255), 'skirt').points
    clear = opaque.copy()
    clear[:, :, 3] = 0
    np.testing.assert_array_equal(model.predict(clear, 'skirt').points, white)


def test_results_can_be_drawn_written_and_tabulated(model, jpegs):
    result = model.predict(jpegs[0], 'blouse')
    drawn = result.draw()
    assert drawn.shape == (*SIZES[0], 3) and drawn.dtype == np.uint8
    assert (drawn != _pixels(jpegs[0])).any()
    content = json.loads(result.to_json())
    assert content['category'] == 'blouse' and list(content['points']) == list(result.names)
    table = result.to_dataframe()
    assert list(table.columns) == ['name', 'x', 'y', 'score']
    np.testing.assert_allclose(table[['x', 'y']].to_numpy(), result.points)


@pytest.mark.parametrize(
    ('image', 'message'),
    [
        (np.zeros([80, 80, 3], np.float32), 'of dtype float32: must be uint8'),
        (np.zeros([80, 80, 2], np.uint8), r'of shape \[80, 80, 2\]: must be'),
        (np.zeros([1, 1, 3], np.uint8), '1x1 px; a side must be at least 8'),
        (np.zeros([1, 20_000, 3], np.uint8), '20000x1 px; a side must be'),
        (np.broadcast_to(np.uint8(0), [20_000, 20_000, 3]), 'the area at most 50000000'),
        (b'', 'the file is empty'),
        (b'no image', 'not a picture in one of the formats'),
        ('/nowhere/a.jpg', '/nowhere/a.jpg: No such file'),
        (3, 'of type int: must be a path, bytes or a NumPy array'),
    ],
)
def test_what_is_no_image_is_told(model, image, message):
    with pytest.raises(ValueError, match=message):
        model.predict(image, 'skirt')


def test_a_damaged_file_is_told_by_its_name(model, jpegs, tmp_path):
    (tmp_path / 'cut.jpg').write_bytes(jpegs[0][: len(jpegs[0]) // 2])
    with pytest.raises(ValueError, match=r'cut\.jpg: broken picture'):
        model.predict(tmp_path / 'cut.jpg', 'skirt')


def test_the_category_must_be_one_that_the_network_knows(model, jpegs):
    with pytest.raises(ValueError, match='category is missing; there are: blouse'):
        model.predict(jpegs[0])
    with pytest.raises(ValueError, match="unknown category 'hat'; there are: blouse"):
        model.predict(jpegs[0], 'hat')
    with pytest.raises(ValueError, match='3 images, but 1 categories'):
        model.predict(jpegs, ['skirt'])


@pytest.mark.parametrize(
    ('categories', 'boxes', 'message'),
    [
        (['skirt', 'skirt'], None, 'fewer categories than images'),
        (['skirt'] * 4, None, 'more categories than images'),
        ('skirt', iter([None]), 'fewer boxes than images'),
        ('skirt', [None] * 4, 'more boxes than images'),
    ],
)
def test_of_images_one_by_one_none_is_silently_left_out(model, jpegs, categories, boxes, message):
    with pytest.raises(ValueError, match=message):
        list(model.predict_each(iter(jpegs), categories, boxes))
    every = model.predict_each(iter(jpegs), iter(['skirt'] * 3), [None] * 3)
    assert [result.image for result in every] == jpegs


def test_runs_for_other_keypoints_are_not_averaged(runs, tmp_path):
    fields = schema_files.describe(SCHEMA)
    fields |= {'name': 'other', 'keypoints': [*SCHEMA.keypoints[1:], SCHEMA.keypoints[0]]}
    other = write_run(tmp_path / 'other')
    experiment = load_experiment(other)
    data = dataclasses.replace(experiment.data, schema=fields)
    text = dataclasses.replace(experiment, data=data).to_json()
    (tmp_path / 'other' / 'experiment.json').write_text(text)
    with pytest.raises(ValueError, match=r"other is for other keypoints .*\('other'\) than"):
        load([runs[0], other])
    load(other).close()


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'flip': True}, "unknown option 'flip'"),
        ({'passes': 3}, 'passes=3: must be 1 or 2'),
        ({'batch_size': 0}, 'batch_size=0'),
        ({'fuse': 'both'}, "fuse='both'"),
    ],
)
def test_options_are_those_of_the_flags(runs, options, message):
    with pytest.raises(ValueError, match=message):
        load(runs[0], **options)


def test_the_last_checkpoints_are_averaged(tmp_path, jpegs):
    run = write_run(tmp_path / 'run')
    experiment = load_experiment(run)
    kept = [random_weights(experiment, seed) for seed in (1, 2, 3)]
    for step, weights in enumerate(kept, 1):
        write_checkpoint(tmp_path / 'run' / f'model.ckpt-{step}', weights)
    mean = {name: (kept[1][name] + kept[2][name]) / 2 for name in kept[1]}
    expected = write_checkpoint(tmp_path / 'mean' / 'model.ckpt-3', mean)
    with load(run, checkpoint=expected) as one, load(run, average_last=2) as two:
        result = two.predict(jpegs[0], 'dress')
        np.testing.assert_allclose(result.points, one.predict(jpegs[0], 'dress').points, atol=1e-2)
    with load(run, checkpoint=f'{run}/model.ckpt-3') as last:
        assert np.abs(result.points - last.predict(jpegs[0], 'dress').points).max() > 0.5
    with pytest.raises(ValueError, match='3 checkpoints, not 4 to average'):
        load(run, average_last=4)


def test_what_is_no_run_is_told(tmp_path):
    with pytest.raises(ValueError, match='holds no trained network'):
        load(tmp_path)


def test_threads_may_share_a_model(model, jpegs):
    expected = [model.predict(jpeg, 'blouse').points for jpeg in jpegs]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda jpeg: model.predict(jpeg, 'blouse').points, jpegs * 4))
    for points, right in zip(found, expected * 4):
        np.testing.assert_allclose(points, right, atol=1e-3)


def test_a_network_of_one_category_needs_no_name(tmp_path, jpegs):
    run = write_run(tmp_path / 'skirt', 'skirt')
    with load(run) as model:
        assert model.categories == ('skirt',)
        assert set(model.predict(jpegs[0]).names) == set(SCHEMA.categories['skirt'])


def test_the_graph_is_made_once_and_the_model_closes(runs, jpegs):
    model = load(runs[0])
    model.predict(jpegs[0], 'blouse')
    (network,) = model._predictor._warm.values()
    operations = len(network._session.graph.get_operations())
    model.predict(jpegs, 'skirt')
    assert model._predictor._warm == {next(iter(model._predictor._warm)): network}
    assert len(network._session.graph.get_operations()) == operations
    model.close()
    model.close()
    with pytest.raises(ValueError, match='the model is closed'):
        model.predict(jpegs[0], 'blouse')


def test_the_door_imports_no_tensorflow():
    code = 'import sys; from utility.predict import load; assert "tensorflow" not in sys.modules'
    subprocess.run([sys.executable, '-c', code], cwd=ROOT, check=True)


def test_a_box_is_looked_at_as_a_second_pass_looks(model, runs, jpegs):
    """The points of a box are those of predictor.predict_images, and others than of the image."""
    boxes = [np.array([10, 20, 70, 100], np.float32), None, np.array([50, 80, 190, 260.5])]
    images = [DecodedImage(jpeg, size, ()) for jpeg, size in zip(jpegs, SIZES)]
    given = RecordBoxes.one_each(boxes, are_given=True)
    expected = predictor.predict_images(
        runs[:1], ['a', 'b', 'c'], images, CATEGORIES, PredictOptions(), given
    )
    whole = model.predict(jpegs, CATEGORIES)
    for row, result in enumerate(model.predict(jpegs, CATEGORIES, box=boxes)):
        own = list(SCHEMA.indices(CATEGORIES[row]))
        np.testing.assert_allclose(result.points, expected.keypoints[row, own], atol=0.02)
        is_same = np.allclose(result.points, whole[row].points, atol=0.02)
        assert is_same == (boxes[row] is None)
    alone = model.predict(jpegs[0], 'blouse', box=[10, 20, 70, 100])
    own = list(SCHEMA.indices('blouse'))
    np.testing.assert_allclose(alone.points, expected.keypoints[0, own], atol=0.02)


@pytest.mark.parametrize(
    ('box', 'message'),
    [
        ([1, 2, 3], r'box=\[1, 2, 3\]: must be'),
        ([5, 5, 5, 9], 'of sides of at least 1 px'),
        ([5, 5, 5.5, 9], 'of sides of at least 1 px'),
        ([0, 0, float('nan'), 5], 'of sides of at least 1 px'),
        ([5000, 0, 6000, 9], 'box: the box 5000, 0, 6000, 9 is outside of the picture'),
        ('ab', "box='ab': must be"),
        ({}, 'must be'),
    ],
)
def test_a_box_that_is_none_is_refused(model, jpegs, tmp_path, box, message):
    with pytest.raises(ValueError, match=message):
        model.predict(jpegs[0], 'blouse', box=box)
    with pytest.raises(ValueError, match='2 images, but 1 boxes'):
        model.predict(jpegs[:2], 'blouse', box=[box])
    with pytest.raises(ValueError, match='box: a folder has none'):
        model.predict(tmp_path, 'blouse', box=box)
