"""Matrices against NumPy; warped pictures against the points that the same matrix maps."""

import numpy as np
import pytest
import tensorflow as tf

from preprocessing import geometry

FRAME = (60, 80)
POINTS = np.array([[20.3, 17.8], [41.0, 30.5], [58.6, 39.25]], np.float32)
BLOB_SIGMA = 2.5


def draw_blobs(points, size, sigma=BLOB_SIGMA):
    """Return float32 [h, w, 1]: a Gaussian of peak 200 at each continuous point."""
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    squares = [(x - px) ** 2 + (y - py) ** 2 for px, py in points]
    return 200 * np.exp(-np.array(squares) / (2 * sigma**2)).sum(0).astype(np.float32)[..., None]


def find_blob(image, near, radius):
    """Return the continuous centroid of the window around `near`."""
    y, x = np.mgrid[: image.shape[0], : image.shape[1]] + 0.5
    weight = image[..., 0] * (np.hypot(x - near[0], y - near[1]) < radius)
    return np.array([(weight * x).sum(), (weight * y).sum()]) / weight.sum()


def apply(matrix, point):
    return (np.asarray(matrix) @ [*point, 1.0])[:2]


CENTER = tf.constant([FRAME[1] / 2, FRAME[0] / 2])
MAPS = {
    'identity': (lambda: tf.eye(3), FRAME),
    'mirror': (lambda: geometry.mirror(FRAME[1]), FRAME),
    'rotation': (lambda: geometry.rotation(25.0, CENTER), FRAME),
    'enlarged': (lambda: geometry.about(geometry.scaling(1.3, 1.3), CENTER), FRAME),
    'shift': (lambda: geometry.translation(3.3, -2.6), FRAME),
    'crop': (lambda: geometry.crop(tf.constant([7.25, 5.5, 70.0, 50.0])), (45, 63)),
    'letterbox': (lambda: geometry.letterbox(FRAME, (96, 100)), (96, 100)),
    'all': (
        lambda: (
            geometry.letterbox(FRAME, (70, 70))
            @ geometry.about(geometry.scaling(1.1, 1.1), CENTER)
            @ geometry.rotation(-17.0, CENTER)
            @ geometry.mirror(FRAME[1])
        ),
        (70, 70),
    ),
}


def test_builders_map_points_as_their_names_say():
    box = tf.constant([3.0, 5.0, 30.0, 40.0])
    np.testing.assert_allclose(apply(geometry.translation(2, -3), (1, 1)), (3, -2))
    np.testing.assert_allclose(apply(geometry.scaling(2, 0.5), (3, 4)), (6, 2))
    np.testing.assert_allclose(apply(geometry.mirror(80), (0.5, 9)), (79.5, 9))
    np.testing.assert_allclose(apply(geometry.crop(box), (3, 5)), (0, 0))
    half = geometry.about(geometry.scaling(0.5, 0.5), tf.constant([10.0, 20.0]))
    np.testing.assert_allclose(apply(half, (10, 20)), (10, 20))
    np.testing.assert_allclose(apply(half, (14, 20)), (12, 20))


def test_positive_rotation_is_clockwise_on_screen():
    matrix = geometry.rotation(90.0, tf.constant([10.0, 10.0]))
    np.testing.assert_allclose(apply(matrix, (10, 4)), (16, 10), atol=1e-5)  # top -> right
    np.testing.assert_allclose(apply(matrix, (10, 10)), (10, 10), atol=1e-5)


@pytest.mark.parametrize(
    ('from_size', 'to_size'), [((60, 80), (96, 96)), ((500, 300), (64, 128)), ((7, 7), (7, 7))]
)
def test_letterbox_keeps_aspect_and_center_and_touches_the_frame(from_size, to_size):
    matrix = geometry.letterbox(from_size, to_size).numpy()
    assert matrix[0, 0] == matrix[1, 1] and matrix[0, 1] == matrix[1, 0] == 0
    low, high = apply(matrix, (0, 0)), apply(matrix, from_size[::-1])
    np.testing.assert_allclose(low + high, to_size[::-1], atol=1e-3)
    assert np.all(low > -1e-3)
    np.testing.assert_allclose(low.min(), 0, atol=1e-3)


def test_transform_points_matches_numpy_for_one_matrix_and_for_a_batch():
    rng = np.random.default_rng(0)
    matrices = rng.normal(size=(3, 3, 3)).astype(np.float32)
    matrices[:, 2] = (0, 0, 1)
    points = rng.normal(size=(3, 5, 2)).astype(np.float32)
    homogeneous = np.concatenate([points, np.ones((3, 5, 1))], axis=2)
    expected = np.einsum('bij,bkj->bki', matrices, homogeneous)[..., :2]
    np.testing.assert_allclose(
        geometry.transform_points(tf.constant(points), tf.constant(matrices)), expected, atol=1e-5
    )
    np.testing.assert_allclose(
        geometry.transform_points(tf.constant(points[1]), tf.constant(matrices[1])),
        expected[1],
        atol=1e-5,
    )


@pytest.mark.parametrize('name', MAPS)
def test_inverse_brings_points_back(name):
    matrix = MAPS[name][0]()
    there = geometry.transform_points(tf.constant(POINTS), matrix)
    back = geometry.transform_points(there, tf.linalg.inv(matrix))
    np.testing.assert_allclose(back, POINTS, atol=1e-4)


@pytest.mark.parametrize('name', MAPS)
def test_blobs_are_where_their_points_are(name):
    make, out_size = MAPS[name]
    matrix = make()
    warped = geometry.warp_image(tf.constant(draw_blobs(POINTS, FRAME)), matrix, out_size).numpy()
    assert warped.shape == (*out_size, 1)
    radius = 3.2 * BLOB_SIGMA * geometry.magnification(matrix).numpy()
    for point in geometry.transform_points(tf.constant(POINTS), matrix).numpy():
        np.testing.assert_allclose(find_blob(warped, point, radius), point, atol=0.02)


@pytest.mark.parametrize('size', [(241, 322), (240, 320)])
def test_blobs_are_where_their_points_are_in_much_smaller_pictures(size):
    points, out_size = POINTS * 4, (69, 69)
    matrix = geometry.letterbox(size, out_size)
    image = draw_blobs(points, size, sigma=10)
    warped = geometry.warp_image(tf.constant(image), matrix, out_size).numpy()
    for point in geometry.transform_points(tf.constant(points), matrix).numpy():
        np.testing.assert_allclose(find_blob(warped, point, 7), point, atol=0.03)


def random_picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def test_identity_and_mirror_are_exact():
    image = random_picture(13, 18)
    np.testing.assert_array_equal(
        geometry.warp_image(tf.constant(image), tf.eye(3), (13, 18)), image
    )
    mirrored = geometry.warp_image(tf.constant(image), geometry.mirror(18), (13, 18))
    np.testing.assert_array_equal(mirrored, image[:, ::-1])


def test_smaller_picture_is_what_tensorflow_resizes_to():
    image = random_picture(24, 36)
    warped = geometry.warp_image(
        tf.constant(image), geometry.letterbox((24, 36), (16, 24)), (16, 24)
    )
    np.testing.assert_allclose(warped, tf.image.resize(image, (16, 24)), atol=2e-3)


def test_whole_pixels_are_not_truncated():
    image = np.tile(np.array([[[0], [1]]], np.uint8), (2, 1, 1))
    warped = geometry.warp_image(tf.constant(image), geometry.translation(0.5, 0), (2, 2))
    np.testing.assert_allclose(warped[:, 1, 0], 0.5)


def test_large_reduction_is_the_mean_of_the_pixels():
    image = random_picture(24, 32)
    warped = geometry.warp_image(tf.constant(image), geometry.scaling(0.25, 0.25), (6, 8))
    expected = image.reshape(6, 4, 8, 4, 3).mean((1, 3))
    np.testing.assert_allclose(warped, expected, atol=1e-2)


def test_reduction_of_sides_that_are_no_multiple_does_not_darken_the_border():
    image = tf.fill([33, 35, 1], 200)
    warped = geometry.warp_image(image, geometry.scaling(0.25, 0.25), (9, 9))
    np.testing.assert_allclose(warped, np.full((9, 9, 1), 200))


def test_reduction_by_many_times_leaves_no_stripes():
    stripes = np.zeros((90, 90, 1), np.uint8)
    stripes[:, ::2] = 200
    warped = geometry.warp_image(tf.constant(stripes), geometry.scaling(1 / 9, 1 / 9), (10, 10))
    assert np.abs(warped.numpy() - 100).max() <= 100 / 9 + 0.1


def test_picture_of_one_pixel_in_a_frame_of_one_pixel():
    image = tf.constant(random_picture(1, 40))
    warped = geometry.warp_image(image, geometry.letterbox((1, 40), (1, 1)), (1, 1), fill=7.0)
    assert np.isfinite(warped.numpy()).all()


def test_fill_is_a_color():
    image = tf.constant(random_picture(4, 4))
    warped = geometry.warp_image(image, geometry.translation(6, 0), (4, 12), fill=[1.0, 2.0, 3.0])
    np.testing.assert_allclose(warped[:, :5], np.broadcast_to([1, 2, 3], (4, 5, 3)), atol=1e-4)
    np.testing.assert_allclose(warped[:, 6:10], image, atol=1e-4)


def test_batch_equals_its_pictures_one_by_one():
    images = np.stack([random_picture(20, 30, seed) for seed in range(3)])
    matrices = tf.stack(
        [tf.eye(3), geometry.mirror(30), geometry.rotation(40.0, tf.constant([15.0, 10.0]))]
    )
    batch = geometry.warp_image(tf.constant(images), matrices, (16, 30))
    for image, matrix, warped in zip(images, matrices, batch):
        alone = geometry.warp_image(tf.constant(image), matrix, (16, 30))
        np.testing.assert_allclose(warped, alone, atol=1e-5)


def test_warp_has_a_static_shape_in_a_graph():
    @tf.function(input_signature=[tf.TensorSpec([None, None, 3], tf.uint8)], autograph=False)
    def warp(image):
        warped = geometry.warp_image(image, tf.eye(3), (5, 6))
        assert warped.shape == (5, 6, 3)
        return warped

    image = random_picture(5, 6)
    np.testing.assert_array_equal(warp(image), image)
