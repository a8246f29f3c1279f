"""Canvases and their samples, compiled or not, against TensorFlow's warp of the whole picture."""

import functools
import gc
import weakref

import cv2
import numpy as np
import pytest
import tensorflow as tf
from absl import logging

from config import DataConfig
from preprocessing import geometry, rendering
from preprocessing.datasets.fashionai import SCHEMA
from preprocessing.ops import op_string, registry

OUT = (48, 64)
FILL = tf.constant([120.25, 7.5, 200.0])


def make_picture(height, width, seed=0):
    """Return the JPEG of a picture, and its pixels."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 4, 3)).astype(np.uint8)
    image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    jpeg = tf.io.encode_jpeg(image, quality=95)
    return jpeg, tf.io.decode_jpeg(jpeg, dct_method='INTEGER_ACCURATE')


@functools.cache
def _functions(compiled):
    functions = (functools.partial(rendering.sample, out_size=OUT), rendering.colors)
    return tuple(map(rendering.compiled, functions)) if compiled else functions


def render(jpeg, size, to_crop, compiled=False):
    """Return the view, and what was decoded for it."""
    sample, colors = _functions(compiled)
    decoded = rendering.decode_to_canvas(jpeg, tf.constant(size), to_crop, OUT)
    sums, covered = sample(*(decoded[n] for n in ('canvas', 'canvas_size', 'crop_to_canvas')))
    return colors(sums, covered, FILL).numpy(), decoded


def view(size, scale=1.0, degrees=0.0, shift=(0.0, 0.0), mirrored=False):
    center = tf.constant([size[1] / 2, size[0] / 2])
    matrix = geometry.rotation(degrees, center)
    matrix = geometry.about(geometry.scaling(scale, scale), center) @ matrix
    matrix = geometry.letterbox(size, OUT) @ geometry.translation(*shift) @ matrix
    return matrix @ geometry.mirror(size[1]) if mirrored else matrix


VIEWS = [
    ((48, 64), {}),
    ((50, 31), {'degrees': 30.0, 'shift': (3.3, -4.1)}),
    ((70, 90), {'degrees': -20.0, 'scale': 1.2, 'mirrored': True}),
    ((33, 64), {'scale': 2.5, 'shift': (-9.0, 5.5)}),
]


@pytest.mark.parametrize('compiled', [False, True])
@pytest.mark.parametrize(('size', 'changes'), VIEWS)
def test_a_view_is_what_tensorflow_warps_the_whole_picture_to(size, changes, compiled):
    jpeg, image = make_picture(*size)
    to_crop = view(size, **changes)
    seen, _ = render(jpeg, size, to_crop, compiled)
    np.testing.assert_allclose(seen, geometry.warp_image(image, to_crop, OUT, FILL), atol=0.07)


@pytest.mark.parametrize('size', [(200, 150), (203, 333)])
def test_a_view_that_shrinks_averages_and_rounds_the_averages(size):
    jpeg, image = make_picture(*size)
    to_crop = view(size, degrees=10.0, scale=1.3, shift=(7.0, 2.0))
    expected = geometry.warp_image(image, to_crop, OUT, FILL)
    np.testing.assert_allclose(render(jpeg, size, to_crop)[0], expected, atol=0.57)


def test_only_what_a_view_shows_of_a_huge_picture_is_decoded():
    size = (1500, 1800)
    jpeg, image = make_picture(*size)
    for scale, shift in ((1.0, (0.0, 0.0)), (20.0, (0.0, 0.0)), (2.5, (500.0, -400.0))):
        to_crop = view(size, degrees=30.0, scale=scale, shift=shift)
        seen, decoded = render(jpeg, size, to_crop)
        expected = geometry.warp_image(image, to_crop, OUT, FILL)
        np.testing.assert_allclose(seen, expected, atol=0.57)
        # The box around a turned view at less than half the size, and a pixel around it.
        assert max(decoded['canvas_size']) <= 2 * np.hypot(*OUT) + 4


@pytest.mark.parametrize(('pixels', 'length'), [(1, 1024), (1024, 1024), (1025, 2048)])
def test_compiled_functions_see_few_lengths_of_canvases(pixels, length):
    canvas = tf.fill([pixels, 3], tf.constant(9, tf.uint8))
    lengthened = rendering.lengthened(canvas).numpy()
    assert len(lengthened) == length in rendering.CANVAS_LENGTHS
    assert np.all(lengthened[:pixels] == 9) and not lengthened[pixels:].any()


@pytest.mark.parametrize('shift', [(900.0, 0.0), (-900.0, 50.0), (10.0, 1e4)])
def test_a_view_beside_the_picture_is_fill(shift):
    jpeg, _ = make_picture(60, 40)
    seen, _ = render(jpeg, (60, 40), view((60, 40), shift=shift))
    np.testing.assert_allclose(seen, np.broadcast_to(FILL, seen.shape))


def test_a_picture_stored_smaller_is_seen_in_the_pixels_of_the_original():
    size = (120, 160)
    _, image = make_picture(*size)
    small = tf.image.resize(image, (60, 80), method='area')
    jpeg = tf.io.encode_jpeg(rendering.to_uint8(small), quality=100)
    to_crop = view(size, degrees=15.0, shift=(3.0, 2.0))
    seen, decoded = render(jpeg, size, to_crop)
    expected = geometry.warp_image(image, to_crop, OUT, FILL)
    assert max(decoded['canvas_size']) <= 80
    inside = (slice(8, -8), slice(12, -12))
    np.testing.assert_allclose(seen[inside], expected[inside], atol=6)
    assert np.abs(seen - expected)[inside].mean() < 1


def test_draws_are_tensorflows_uniform_numbers_compiled_or_not():
    seed = tf.constant([20180417, 2**40 + 3], tf.int64)
    expected = tf.random.stateless_uniform([5], seed, alg='philox')
    np.testing.assert_array_equal(registry.draw(seed, 5), expected)
    compiled = tf.function(lambda own: registry.draw(own, 5), jit_compile=True, autograph=False)
    np.testing.assert_array_equal(compiled(seed), expected)
    for seed in ([3, -5], [2**31 - 1, -(2**31)]):
        folded = tf.random.experimental.stateless_fold_in(seed, 7, alg='philox')
        np.testing.assert_array_equal(registry.own_seeds(seed, [3, 7])[1], folded)


PIXEL_OPS = [
    name for name in registry.OPS.names() if registry.OPS.get(name).stage == registry.Stage.PIXELS
]


@pytest.mark.parametrize('name', PIXEL_OPS)
def test_a_picture_is_the_same_compiled_or_not(name):
    text = DataConfig().train_ops.replace('{height}', '48').replace('{width}', '64')
    text = f'{text.rpartition("|")[0]}|{name}'
    jpeg, _ = make_picture(100, 80)
    rng = np.random.default_rng(1)
    example = {
        'encoded': jpeg,
        'image_size': tf.constant([100, 80]),
        'keypoints': tf.constant(rng.uniform(10, 70, (24, 2)), tf.float32),
        'visibility': tf.ones([24], tf.int32),
    }
    plain, compiled = op_string.make_painter(text), op_string.compiled_sampler(text)
    seeds = [tf.constant([3, i], tf.int64) for i in range(6)]
    pictures = []
    for seed in seeds:
        framed = op_string.framed(text, SCHEMA, example, seed)
        one, other = (op_string.sample_crop(p, framed, seed) for p in (plain, compiled))
        assert one.dtype == tf.uint8 and one.shape == (48, 64, 3)
        assert np.abs(one.numpy().astype(int) - other.numpy()).max() <= 1
        pictures.append(one.numpy())
    assert len(np.unique(pictures, axis=0)) == len(seeds)


def test_graphs_that_pictures_are_made_in_do_not_stay():
    jpeg, _ = make_picture(60, 40)
    decoded = rendering.decode_to_canvas(jpeg, tf.constant([60, 40]), view((60, 40)), OUT)
    arguments = [decoded[name].numpy() for name in ('canvas', 'canvas_size', 'crop_to_canvas')]
    graphs = []
    for _ in range(2):
        with tf.Graph().as_default() as graph:
            op_string.compiled_sampler('letterbox(48,64)|warp').sample(*map(tf.constant, arguments))
        graphs.append(weakref.ref(graph))
        del graph
    gc.collect()
    assert [graph() for graph in graphs] == [None, None]


def test_without_xla_functions_stay_as_they_are_and_the_log_says_so_once(monkeypatch):
    def refused(*_, **__):
        raise tf.errors.UnimplementedError(None, None, 'could not find a compiler')

    warnings = []
    rendering._can_compile.cache_clear()
    with monkeypatch.context() as patched:
        patched.setattr(tf, 'function', refused)
        patched.setattr(logging, 'warning', lambda *message: warnings.append(message))
        assert rendering.compiled(view) is view and rendering.compiled(render) is render
    rendering._can_compile.cache_clear()
    ((message, reason),) = warnings
    assert 'without XLA' in message and reason == 'could not find a compiler'
    assert rendering.compiled(view) is not view


def test_picture_size_is_the_letterboxs():
    assert op_string.picture_size('flip|letterbox(20, width=30)|warp|color') == (20, 30)
