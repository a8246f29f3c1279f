"""Every op: where points go there goes the picture; seeds, ranges, colors, and errors."""

import cv2
import numpy as np
import pytest
import tensorflow as tf

from preprocessing import geometry
from preprocessing.ops.op_string import apply_ops, parse_ops
from preprocessing.ops.registry import OPS, Stage
from preprocessing.rendering import to_uint8
from preprocessing.schema import KeypointSchema

SCHEMA = KeypointSchema(
    name='test',
    keypoints=('side_left', 'side_right', 'middle'),
    categories={'thing': ('side_left', 'side_right', 'middle')},
    normalizers={'thing': ('side_left', 'side_right')},
)
HEIGHT, WIDTH = 96, 120
POINTS = np.array([[40.3, 37.8], [81.6, 42.5], [58.6, 66.25]], np.float32)
FULL = f'letterbox({HEIGHT},{WIDTH})|warp(fill=0)'

# Ops that need arguments, or are more telling with them; any other is tested by its bare name.
CALLS = {
    'flip': 'flip(1)',
    'rotate': 'rotate(30)',
    'scale': 'scale(0.8, 1.25)',
    'shift': 'shift(0.1)',
    'letterbox': f'letterbox({HEIGHT}, {WIDTH})',
    'warp': 'warp(fill=0)',
    'crop_box': 'crop_box(0.5)',
    'crop_points': 'crop_points(0.5)',
    'turn': 'turn(25)',
}


def op_string(name):
    calls = {Stage.SIZE: CALLS['letterbox'], Stage.WARP: CALLS['warp']}
    calls[OPS.get(name).stage] = CALLS.get(name, name)
    return '|'.join(calls[stage] for stage in sorted(calls))


def encode(image):
    return cv2.imencode('.jpg', image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 100])[1].tobytes()


def draw_blobs(points=POINTS, sigma=3):
    """Return uint8 [H, W, 3]: a gray Gaussian at each point."""
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    squares = np.array([(x - px) ** 2 + (y - py) ** 2 for px, py in points])
    gray = 200 * np.exp(-squares / (2 * sigma**2)).sum(0)
    return np.repeat(np.rint(gray).astype(np.uint8)[..., None], 3, axis=2)


def random_picture():
    coarse = np.random.default_rng(3).integers(30, 220, (6, 8, 3)).astype(np.uint8)
    return cv2.resize(coarse, (WIDTH, HEIGHT))


def make_example(image=None, keypoints=POINTS, visibility=(1, 0, 1), box=(30, 28, 92, 77)):
    image = draw_blobs() if image is None else image
    return {
        'encoded': tf.constant(encode(image)),
        'image_id': tf.constant('a.jpg'),
        'category': tf.constant('thing'),
        'image_size': tf.constant(image.shape[:2]),
        'keypoints': tf.constant(keypoints, tf.float32),
        'visibility': tf.constant(visibility, tf.int32),
        'normalizer': tf.constant(41.5),
        'box': tf.constant(box, tf.float32),
    }


def over_seeds(ops, example, count):
    """Return the examples of seeds 0 .. count - 1, stacked, made in a tf.data graph."""
    data = tf.data.Dataset.range(count).map(lambda i: apply_ops(ops, SCHEMA, example, [5, i]))
    return {name: value.numpy() for name, value in next(iter(data.batch(count))).items()}


def centroid(image, near, radius):
    y, x = np.mgrid[: image.shape[0], : image.shape[1]] + 0.5
    # What JPEG leaves around a blob is noise, and far enough from it to pull at the centroid.
    weight = np.maximum(image[..., 1] - 8, 0) * (np.hypot(x - near[0], y - near[1]) < radius)
    return np.array([(weight * x).sum(), (weight * y).sum()]) / weight.sum()


@pytest.mark.parametrize('name', [n for n in OPS.names() if OPS.get(n).stage <= Stage.WARP])
def test_points_go_where_the_picture_goes(name):
    results = over_seeds(op_string(name), make_example(), 6)
    checked = 0
    for image, points, visibility, to_crop in zip(
        *(results[key] for key in ('image', 'keypoints', 'visibility', 'to_crop'))
    ):
        radius = 10 * geometry.magnification(to_crop).numpy()
        for point, v in zip(points, visibility):
            near_edge = np.any(point < radius) or np.any(point > [WIDTH - radius, HEIGHT - radius])
            if v >= 0 and not near_edge:
                np.testing.assert_allclose(centroid(image, point, radius), point, atol=0.05)
                checked += 1
    assert checked >= 6


def test_all_geometry_together():
    ops = f'flip|crop_keep|rotate(30)|scale(0.9,1.1)|shift(0.05)|{FULL}'
    results = over_seeds(ops, make_example(visibility=(1, 1, 1)), 8)
    for image, points, to_crop in zip(results['image'], results['keypoints'], results['to_crop']):
        radius = 10 * geometry.magnification(to_crop).numpy()
        for point in points:
            if np.all(point > radius) and np.all(point < [WIDTH - radius, HEIGHT - radius]):
                np.testing.assert_allclose(centroid(image, point, radius), point, atol=0.05)
        # Rows may have changed places, but the matrix alone tells where original points are.
        mapped = geometry.transform_points(tf.constant(POINTS), tf.constant(to_crop)).numpy()
        np.testing.assert_allclose(np.sort(mapped, axis=0), np.sort(points, axis=0), atol=1e-3)


@pytest.mark.parametrize('name', OPS.names())
def test_an_op_is_pure_and_depends_on_its_seed_only(name):
    ops, example = op_string(name), make_example(random_picture())
    before = dict(example)
    once = apply_ops(ops, SCHEMA, example, [5, 2])
    again = apply_ops(ops, SCHEMA, example, [5, 2])
    assert example.keys() == before.keys() and all(example[k] is before[k] for k in before)
    batch = over_seeds(ops, example, 4)
    for key, value in once.items():
        np.testing.assert_array_equal(value, again[key])
        if value.dtype == tf.float32:
            # Weights of pixels are rounded, either way where the last bit decides.
            atol = 0.1 if key == 'image' else 2e-3
            np.testing.assert_allclose(value, batch[key][2], atol=atol)
        else:
            np.testing.assert_array_equal(value, batch[key][2])


@pytest.mark.parametrize(
    'call', ['rotate(30)', 'scale(0.5,1.5)', 'shift(0.3)', 'crop_keep', 'flip(0.5)']
)
def test_seeds_and_places_in_the_string_differ(call):
    results = over_seeds(f'{call}|{call}|{FULL}', make_example(), 16)['to_crop'].round(5)
    assert len(np.unique(results, axis=0)) > 1
    halves = over_seeds(f'{call}|{FULL}', make_example(), 16)['to_crop'].round(5)
    assert len(np.unique(halves, axis=0)) > (1 if call.startswith('flip') else 14)


def test_image_of_an_untouched_frame_is_the_decoded_picture_and_of_a_flip_its_mirror():
    example = make_example(random_picture())
    decoded = cv2.imdecode(np.frombuffer(example['encoded'].numpy(), np.uint8), 1)[..., ::-1]
    plain = to_uint8(
        apply_ops(f'letterbox({HEIGHT},{WIDTH})|warp', SCHEMA, example, [0, 0])['image']
    )
    np.testing.assert_array_equal(plain, decoded)
    flipped = apply_ops(f'flip(1)|letterbox({HEIGHT},{WIDTH})|warp', SCHEMA, example, [0, 0])
    np.testing.assert_array_equal(to_uint8(flipped['image']), decoded[:, ::-1])


def test_flip_gives_paired_points_each_others_row():
    result = apply_ops(f'flip(1)|{FULL}', SCHEMA, make_example(visibility=(1, -1, 0)), [0, 0])
    expected = np.stack([WIDTH - POINTS[[1, 0, 2], 0], POINTS[[1, 0, 2], 1]], axis=1)
    np.testing.assert_allclose(result['keypoints'], expected, atol=1e-4)
    np.testing.assert_array_equal(result['visibility'], [-1, 1, 0])
    np.testing.assert_array_equal(result['box'], [30, 28, 92, 77])


def test_flip_happens_with_its_probability():
    mirrored = over_seeds(f'flip(0.25)|{FULL}', make_example(), 400)['to_crop'][:, 0, 0] < 0
    assert 0.18 < mirrored.mean() < 0.32


@pytest.mark.parametrize(
    ('call', 'measure', 'low', 'high'),
    [
        ('rotate(30)', lambda m: np.degrees(np.arctan2(m[:, 1, 0], m[:, 0, 0])), -30, 30),
        ('scale(0.7,1.2)', lambda m: m[:, 0, 0], 0.7, 1.2),
        ('shift(0.1)', lambda m: m[:, 0, 2], -0.1 * WIDTH, 0.1 * WIDTH),
        ('shift(0.1)', lambda m: m[:, 1, 2], -0.1 * HEIGHT, 0.1 * HEIGHT),
    ],
)
def test_ranges_are_used_to_their_ends(call, measure, low, high):
    values = measure(over_seeds(f'{call}|{FULL}', make_example(), 200)['to_crop'])
    assert values.min() >= low - 1e-3 and values.max() <= high + 1e-3
    assert values.min() < low + 0.05 * (high - low) and values.max() > high - 0.05 * (high - low)


def test_rotation_happens_with_its_probability():
    sines = over_seeds(f'rotate(30,0.4)|{FULL}', make_example(), 300)['to_crop'][:, 1, 0]
    assert 0.3 < np.mean(np.abs(sines) > 1e-6) < 0.5


def crop_boxes(op, example, count):
    """Return float32 [count, 4]: in original px, the frames that a crop leaves, for as
    many seeds.
    """
    start = {
        **example,
        'frame_size': tf.cast(example['image_size'], tf.float32),
        'to_crop': tf.eye(3),
    }
    data = tf.data.Dataset.range(count).map(lambda i: op(start, tf.stack([5, i])))
    frames = next(iter(data.batch(count)))
    low = -frames['to_crop'][:, :2, 2].numpy()
    return np.concatenate([low, low + frames['frame_size'].numpy()[:, ::-1]], axis=1)


def area_share(boxes):
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) / (HEIGHT * WIDTH)


def test_crop_keep_keeps_the_points_their_margin_and_its_area():
    crop = OPS.get('crop_keep')
    boxes = crop_boxes(crop(min_area=0.45, margin=0.1), make_example(), 300)
    room = 0.1 * max(np.ptp(POINTS, axis=0))
    assert np.all(boxes[:, :2] <= POINTS.min(0) - room + 1e-3)
    assert np.all(boxes[:, 2:] >= POINTS.max(0) + room - 1e-3)
    assert boxes[:, :2].min() >= -1e-3 and np.all(boxes[:, 2:] <= [WIDTH + 1e-3, HEIGHT + 1e-3])
    share = area_share(boxes)
    assert share.min() >= 0.45 - 1e-4 and share.max() <= 1 + 1e-4
    assert share.min() < 0.5 and share.max() > 0.95
    aspect = (boxes[:, 2] - boxes[:, 0]) / (boxes[:, 3] - boxes[:, 1]) / (WIDTH / HEIGHT)
    assert aspect.min() > 1 / 1.34 and aspect.max() < 1.34 and np.ptp(aspect) > 0.3


def test_crop_keep_keeps_a_large_area_whatever_the_aspect():
    crop = OPS.get('crop_keep')(min_area=0.9, max_aspect=2)
    assert area_share(crop_boxes(crop, make_example(), 50)).min() >= 0.9 - 1e-4


def test_crop_keep_keeps_points_at_the_corners_and_ignores_absent_ones():
    corners = [[1, 1], [WIDTH - 1, HEIGHT - 1], [5, 5]]
    everything = [[0, 0, WIDTH, HEIGHT]] * 20
    crop = OPS.get('crop_keep')(min_area=0.1)
    boxes = crop_boxes(crop, make_example(keypoints=corners, visibility=(1, 0, 1)), 20)
    np.testing.assert_allclose(boxes, everything, atol=1e-3)
    boxes = crop_boxes(crop, make_example(keypoints=corners, visibility=(-1, -1, 1)), 100)
    assert area_share(boxes).min() < 0.15


def test_crop_keep_without_points_keeps_the_whole_frame():
    boxes = crop_boxes(OPS.get('crop_keep')(), make_example(visibility=(-1, -1, -1)), 5)
    np.testing.assert_allclose(boxes, [[0, 0, WIDTH, HEIGHT]] * 5, atol=1e-4)


@pytest.mark.parametrize(
    ('box', 'expected'),
    [
        ((30, 30, 70, 50), (26, 28, 74, 52)),  # a tenth of its size on each side
        ((100, 80, 119, 95), (96, 72, 120, 96)),  # at least 24 px, moved into the picture
        ((50, 40, 52, 41), (39, 28.5, 63, 52.5)),  # at least 24 px about its center
        ((-50, -40, 500, 400), (0, 0, WIDTH, HEIGHT)),
        ((0, 0, 0, 0), (0, 0, WIDTH, HEIGHT)),
        ((60, 10, 50, 90), (0, 0, WIDTH, HEIGHT)),
        ((200, 200, 300, 300), (0, 0, WIDTH, HEIGHT)),
        ((np.nan, 10, 50, 90), (0, 0, WIDTH, HEIGHT)),
        ((10, 10, np.inf, 90), (0, 0, WIDTH, HEIGHT)),
    ],
)
def test_crop_box_follows_the_box_or_keeps_the_frame(box, expected):
    crop = OPS.get('crop_box')(margin=0.1, min_size=0.2)
    boxes = crop_boxes(crop, make_example(box=box), 1)
    np.testing.assert_allclose(boxes[0], expected, atol=1e-3)


def test_crop_points_errs_about_the_box_of_the_points_as_told():
    crop = OPS.get('crop_points')(margin=0.0, jitter=0.2, min_size=0.0)
    own = POINTS[[0, 2]]
    boxes = crop_boxes(crop, make_example(visibility=(1, -1, 0)), 200)
    moves = (boxes - np.concatenate([own.min(0), own.max(0)])) / np.ptp(own, axis=0).max()
    # The box is higher than wide, so that no side can move past the middle.
    assert np.abs(moves).max() < 0.2 + 1e-4 and np.abs(moves.mean(0)).max() < 0.03
    assert np.all(moves.min(0) < -0.18) and np.all(moves.max(0) > 0.18)


def test_crop_points_without_jitter_is_the_crop_of_a_perfect_second_pass():
    box = (*POINTS.min(0), *POINTS.max(0))
    second = crop_boxes(OPS.get('crop_box')(), make_example(box=box), 1)
    training = crop_boxes(OPS.get('crop_points')(jitter=0.0), make_example(), 3)
    np.testing.assert_allclose(training, np.repeat(second, 3, axis=0), atol=1e-3)


def test_crop_points_leaves_the_frame_by_chance_and_without_points():
    whole = [0, 0, WIDTH, HEIGHT]
    boxes = crop_boxes(OPS.get('crop_points')(probability=0.4), make_example(), 200)
    assert 0.5 < np.mean(np.all(np.abs(boxes - whole) < 1e-3, axis=1)) < 0.7
    boxes = crop_boxes(OPS.get('crop_points')(), make_example(visibility=(-1, -1, -1)), 5)
    np.testing.assert_allclose(boxes, [whole] * 5, atol=1e-4)


def test_turn_turns_by_just_its_angle():
    to_crop = apply_ops(f'turn(30)|{FULL}', SCHEMA, make_example(), [0, 0])['to_crop']
    center = tf.constant([WIDTH / 2, HEIGHT / 2])
    np.testing.assert_allclose(to_crop, geometry.rotation(30, center), atol=1e-4)


def test_crop_box_finds_the_box_in_a_mirrored_frame():
    ops = 'flip(1)|crop_box(0)|letterbox(40,80)|warp'
    result = apply_ops(ops, SCHEMA, make_example(box=(10, 20, 90, 60)), [0, 0])
    corner = geometry.transform_points(tf.constant([[90.0, 20.0]]), result['to_crop'])
    np.testing.assert_allclose(corner, [[0, 0]], atol=1e-3)


def test_crops_show_what_surrounds_them_where_the_letterbox_has_room():
    example = make_example(np.full((HEIGHT, WIDTH, 3), 90, np.uint8), box=(50, 20, 70, 80))
    image = apply_ops('crop_box(0)|letterbox(60,60)|warp(fill=0)', SCHEMA, example, [0, 0])['image']
    np.testing.assert_allclose(image, 90, atol=1.5)


@pytest.mark.parametrize(
    ('x', 'kept'), [(WIDTH + 0.5, True), (WIDTH + 0.9, True), (WIDTH + 1.2, False), (-1.2, False)]
)
@pytest.mark.parametrize('size', [HEIGHT, HEIGHT // 2, HEIGHT * 2])
def test_points_outside_become_absent_and_points_on_the_edge_stay(x, kept, size):
    example = make_example(keypoints=[[x, 20], [60, 50], [60, HEIGHT + 0.5]])
    ops = f'letterbox({size},{size * WIDTH // HEIGHT})|warp'
    visibility = apply_ops(ops, SCHEMA, example, [0, 0])['visibility']
    np.testing.assert_array_equal(visibility, [1 if kept else -1, 0, 1])


def test_absent_points_stay_absent_in_the_frame():
    result = apply_ops(FULL, SCHEMA, make_example(visibility=(-1, 1, 0)), [0, 0])
    np.testing.assert_array_equal(result['visibility'], [-1, 1, 0])


def test_fill_shows_beside_the_picture():
    example = make_example(np.full((HEIGHT, WIDTH, 3), 200, np.uint8))
    image = apply_ops('letterbox(40,90)|warp((10,20,30))', SCHEMA, example, [0, 0])['image']
    np.testing.assert_allclose(image[:, :15], np.broadcast_to([10, 20, 30], (40, 15, 3)), atol=1e-3)
    np.testing.assert_allclose(image[:, 30:60], 200, atol=2)


def recolor(call, image, seed=0):
    name, arguments = call
    example = {'image': tf.constant(image, tf.float32)}
    return OPS.get(name)(**arguments)(example, tf.constant([7, seed]))['image'].numpy()


NOTHING = {'brightness': 0, 'contrast': 0, 'saturation': 0, 'hue': 0}
LUMA = np.array([0.299, 0.587, 0.114])


def test_colors_without_strength_or_chance_are_unchanged():
    image = random_picture()
    np.testing.assert_array_equal(recolor(('color', NOTHING), image), image)
    np.testing.assert_array_equal(recolor(('color', {'probability': 0}), image), image)
    np.testing.assert_array_equal(recolor(('grayscale', {'probability': 0}), image), image)


@pytest.mark.parametrize('seed', range(4))
def test_gray_stays_gray_and_luma_stays_under_saturation_and_hue(seed):
    call = ('color', {**NOTHING, 'saturation': 0.5, 'hue': 0.5})
    gray = np.repeat(random_picture()[..., :1], 3, axis=2)
    np.testing.assert_allclose(recolor(call, gray, seed), gray, atol=1e-3)
    image = random_picture()
    changed = recolor(call, image, seed)
    np.testing.assert_allclose(changed @ LUMA, image @ LUMA, atol=1e-3)
    assert np.abs(changed - image).max() > 1


def test_brightness_adds_one_number_within_its_range():
    image = random_picture().astype(np.float32)
    added = [
        recolor(('color', {**NOTHING, 'brightness': 0.2}), image, s) - image for s in range(60)
    ]
    assert max(np.ptp(delta) for delta in added) < 1e-3
    means = np.array([delta.mean() for delta in added])
    assert np.abs(means).max() <= 51 and means.min() < -40 and means.max() > 40


def test_contrast_scales_about_the_mean_color():
    image = random_picture().astype(np.float32)
    mean = image.mean((0, 1))
    factors = []
    for seed in range(40):
        changed = recolor(('color', {**NOTHING, 'contrast': 0.5}), image, seed)
        factor = ((changed - mean) * (image - mean)).sum() / ((image - mean) ** 2).sum()
        np.testing.assert_allclose(changed, mean + factor * (image - mean), atol=1e-2)
        factors.append(factor)
    assert 0.5 <= min(factors) < 0.6 and 1.4 < max(factors) <= 1.5


def test_saturation_matches_tensorflow_about_luma_and_hue_turns_the_chroma():
    image = random_picture().astype(np.float32)
    gray = (image @ LUMA)[..., None]
    changed = recolor(('color', {**NOTHING, 'saturation': 0.5}), image, 3)
    factor = ((changed - gray) * (image - gray)).sum() / ((image - gray) ** 2).sum()
    assert 0.5 <= factor <= 1.5 and abs(factor - 1) > 0.01
    np.testing.assert_allclose(changed, gray + factor * (image - gray), atol=1e-2)
    to_yiq = tf.image.rgb_to_yiq
    before = to_yiq(image).numpy()[..., 1:]
    after = to_yiq(recolor(('color', {**NOTHING, 'hue': 0.1}), image, 3)).numpy()[..., 1:]
    np.testing.assert_allclose(np.hypot(*after.T), np.hypot(*before.T), atol=0.2)
    strong = np.hypot(*before.T).T > 20
    turned = np.angle((after @ [1, 1j]) / (before @ [1, 1j]))[strong] / (2 * np.pi)
    assert np.ptp(turned) < 2e-3 and 1e-3 < abs(turned.mean()) <= 0.1


def test_four_color_steps_equal_the_same_steps_one_by_one():
    image = random_picture().astype(np.float32)
    strengths = {'brightness': 0.1, 'contrast': 0.4, 'saturation': 0.5, 'hue': 0.2}
    together = recolor(('color', strengths), image, 1)
    one_by_one = image
    for name in ('hue', 'brightness', 'saturation', 'contrast'):
        one_by_one = recolor(('color', {**NOTHING, name: strengths[name]}), one_by_one, 1)
    np.testing.assert_allclose(together, one_by_one, atol=1e-2)


def test_grayscale_is_luma():
    image = random_picture()
    expected = np.repeat((image @ LUMA)[..., None], 3, axis=2)
    np.testing.assert_allclose(
        recolor(('grayscale', {'probability': 1}), image), expected, atol=1e-3
    )


def test_pixels_are_rounded_and_clipped():
    image = tf.constant([-3.0, 0.4, 0.6, 127.7, 254.6, 300.0])
    np.testing.assert_array_equal(to_uint8(image), [0, 0, 1, 128, 255, 255])


@pytest.mark.parametrize(
    ('ops', 'message'),
    [
        ('flop|letterbox(8,8)|warp', "unknown op 'flop'.*did you mean 'flip'"),
        ('', "op ''.*must look like"),
        ('flip||letterbox(8,8)|warp', "op ''.*must look like"),
        ('flip(|letterbox(8,8)|warp', r"op 'flip\('.*must look like"),
        ('flip(p)|letterbox(8,8)|warp', r"op 'flip\(p\)'.*must look like"),
        ('a.flip()|letterbox(8,8)|warp', 'must look like'),
        ('flip(**{})|letterbox(8,8)|warp', 'must look like'),
        ('flip(probability=0,probability=1)|letterbox(8,8)|warp', 'each key once'),
        ('flip(chance=1)|letterbox(8,8)|warp', r"'chance'.*use flip\(probability=0.5\)"),
        ('flip(0.5,1)|letterbox(8,8)|warp', r'too many.*use flip\('),
        ('flip(2)|letterbox(8,8)|warp', r"op 'flip\(2\)': probability=2: .* from 0 to 1"),
        ("flip('x')|letterbox(8,8)|warp", "probability='x': must be a number"),
        ('flip(True)|letterbox(8,8)|warp', 'probability=True: must be a number'),
        ('rotate|letterbox(8,8)|warp', r"'degrees'.*use rotate\(degrees, probability=1.0\)"),
        ('scale(1.2,0.8)|letterbox(8,8)|warp', 'high=0.8: .* at least 1.2'),
        ('scale(1,1e999)|letterbox(8,8)|warp', 'high=inf'),
        ('letterbox({height},8)|warp', 'letterbox.*must look like'),
        ('letterbox(1441,1440)|warp', 'width=1440: must be of at most 2880 px together'),
        ('letterbox(8.0,8)|warp', 'height=8.0: must be a positive whole number'),
        ('letterbox(8,8)|warp(300)', 'fill=300'),
        ('letterbox(8,8)|warp((1,2))', r'fill=\(1, 2\): must be one number or three'),
        ('letterbox(8,8)|warp|color(hue=0.7)', 'hue=0.7'),
        ('flip|warp', 'has letterbox 0 times; the order is'),
        ('letterbox(8,8)|letterbox(8,8)|warp', 'has letterbox 2 times'),
        ('flip|letterbox(8,8)', 'has warp 0 times'),
        ('letterbox(8,8)|flip|warp', "'flip' comes too late; the order is .*flip.*color"),
        ('color|letterbox(8,8)|warp', r"'letterbox\(8,8\)' comes too late"),
        ('warp|letterbox(8,8)', "'letterbox.*too late"),
    ],
)
def test_mistakes_in_an_op_string_are_told(ops, message):
    with pytest.raises(ValueError, match=message):
        parse_ops(ops)


def test_arguments_by_position_by_name_and_spaces():
    ops = ' flip( 1 ) | rotate(degrees = 0)|letterbox(8, width=8) | warp | color(0, hue=-0)'
    assert len(parse_ops(ops)) == 5
