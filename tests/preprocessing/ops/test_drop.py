"""Information dropping: what it hides, how often and where, and that points stay as they are."""

from __future__ import annotations

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import tensorflow as tf

from preprocessing.ops.drop import drop

HEIGHT, WIDTH = 40, 60
POINTS = np.array([[10.5, 8.25], [30.0, 20.0], [52.0, 33.0]], np.float32)
RED = (255, 0, 0)


def _example(visibility=(1, 0, 1), points=POINTS):
    return {
        'image': tf.fill([HEIGHT, WIDTH, 3], 100.0),
        'keypoints': tf.constant(points),
        'visibility': tf.constant(visibility, tf.int32),
    }


def _hidden(arguments, seed, example=None):
    """Return bool [H, W] of what an op hides, and its result."""
    result = drop(fill=RED, **arguments)(example or _example(), tf.constant([3, seed]))
    image = result['image'].numpy()
    hidden = np.all(image == RED, axis=-1)
    np.testing.assert_array_equal(image[~hidden], 100.0)
    return hidden, result


@hypothesis.given(
    st.integers(0, 10**6),
    st.floats(0.05, 0.5),
    st.floats(0, 0.5),
    st.floats(0, 1),
    st.lists(st.sampled_from([-1, 0, 1]), min_size=3, max_size=3),
)
def test_a_square_near_an_annotated_point_is_hidden_and_points_stay(seed, low, more, jitter, v):
    example = _example(v)
    arguments = {'probability': 1, 'low': low, 'high': low + more, 'jitter': jitter}
    hidden, result = _hidden(arguments, seed, example)
    for name in ('keypoints', 'visibility'):
        assert result[name] is example[name]
    if max(v) < 0:
        assert not hidden.any()
        return
    rows, columns = np.flatnonzero(hidden.any(axis=1)), np.flatnonzero(hidden.any(axis=0))
    side = (low + more) * HEIGHT
    assert max(len(rows), len(columns)) <= side + 1
    if not len(rows):  # smaller than a pixel, or beside the picture
        return
    assert hidden[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
    # The center of the nearest hidden pixel is within jitter and half a side of a point.
    distance = [
        max(abs(columns + 0.5 - x).min(), abs(rows + 0.5 - y).min())
        for (x, y), visible in zip(POINTS, v)
        if visible >= 0
    ]
    assert min(distance) <= max(jitter * side - low * HEIGHT / 2, 0) + side / 2 + 1


def test_without_jitter_the_point_is_the_middle_and_the_side_is_as_asked():
    hidden, _ = _hidden(
        {'probability': 1, 'low': 0.25, 'high': 0.25, 'jitter': 0}, 0, _example((-1, 0, -1))
    )
    expected = np.zeros((HEIGHT, WIDTH), bool)
    expected[15:25, 25:35] = True  # 10 px about (30, 20)
    np.testing.assert_array_equal(hidden, expected)


def test_each_annotated_point_is_hidden_about_as_often_as_it_should():
    arguments = {'probability': 0.6, 'low': 0.1, 'high': 0.1, 'jitter': 0}
    op = tf.function(lambda seed: drop(fill=RED, **arguments)(_example(), seed)['image'])
    at_points = np.zeros(3)
    for seed in range(300):
        red = op(tf.constant([3, seed])).numpy()[..., 0] == 255
        at_points += [red[int(y), int(x)] for x, y in POINTS]
    np.testing.assert_allclose(at_points / 300, 0.2, atol=0.07)
    assert not _hidden({'probability': 0.0}, 1)[0].any()


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'probability': 1.5}, 'probability=1.5'),
        ({'low': 0.5, 'high': 0.4}, 'high=0.4: must be a number from 0.5 to 1'),
        ({'jitter': -1}, 'jitter=-1'),
        ({'fill': (1, 2)}, r'fill=\(1, 2\): must be one number or three'),
        ({'fill': 300}, 'fill=300'),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        drop(**arguments)
