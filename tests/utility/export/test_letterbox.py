"""The letter-box that exporters know, against that of preprocessing."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from preprocessing import geometry
from preprocessing.datasets.fashionai import SCHEMA
from preprocessing.ops import op_string
from tests.tiny_runs import smooth_image
from utility.export.letterbox import letterbox, to_original

SIZES = [(97, 55), (512, 512), (40, 30), (300, 401), (8, 1500), (1000, 777), (64, 48), (8, 8)]


def _ours(jpeg, size, ops):
    example = {
        'encoded': jpeg,
        'image_size': tf.constant(size),
        'keypoints': tf.zeros([SCHEMA.num_keypoints, 2]),
        'visibility': tf.ones([SCHEMA.num_keypoints], tf.int32),
        'box': tf.zeros([4]),
    }
    framed = op_string.framed(ops, SCHEMA, example, [0, 0])
    sampler = op_string.make_painter(ops)
    seen = {'image_id': '', 'category': '', 'normalizer': 1.0, **framed}
    return op_string.sample_crop(sampler, seen, [0, 0]).numpy(), framed['to_crop']


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('crop_size', [(64, 64), (96, 72)])
def test_the_pixels_are_those_of_preprocessing(size, crop_size):
    jpeg = tf.io.encode_jpeg(smooth_image(*size), quality=95)
    image = tf.io.decode_jpeg(jpeg, dct_method='INTEGER_ACCURATE', fancy_upscaling=True)
    ops = f'letterbox({crop_size[0]},{crop_size[1]})|warp(fill=(10,200,30))'
    expected, to_crop = _ours(jpeg, size, ops)
    crop, placing = letterbox(image, crop_size, op_string.fill_color(ops))
    different = np.abs(crop.numpy() - expected)
    # A mean that lies between two whole numbers may be rounded to either.
    assert different.max() <= 1 and (different > 0).mean() < 5e-3
    points = tf.constant([[3.0, 4.0], [60.0, 1.5]])
    back = geometry.transform_points(points, tf.linalg.inv(to_crop))
    np.testing.assert_allclose(to_original(points, placing), back, atol=1e-3)


@pytest.mark.parametrize('ops', ['flip|letterbox(8,8)|warp', 'letterbox(8,8)|warp|color(0.1)'])
def test_what_does_more_than_a_letterbox_is_told(ops):
    with pytest.raises(ValueError, match='must be one letterbox and one warp'):
        op_string.fill_color(ops)
