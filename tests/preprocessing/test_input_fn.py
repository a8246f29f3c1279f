"""Batches: their order, shapes and contents, seeds, epochs, shares and boxes."""

import subprocess
import sys
import traceback

import cv2
import numpy as np
import pytest
import tensorflow as tf

import preprocessing
from preprocessing import geometry, input_fn, make_input_fn
from preprocessing.datasets import Annotation
from preprocessing.ops import op_string
from preprocessing.ops.registry import OPS, Stage
from preprocessing.records import encode_example
from preprocessing.schema import KeypointSchema
from preprocessing.stream import Order

SCHEMA = KeypointSchema(
    name='test',
    keypoints=('side_left', 'side_right', 'middle'),
    categories={'coat': ('side_left', 'side_right', 'middle'), 'belt': ('side_left', 'side_right')},
    normalizers={'coat': ('side_left', 'side_right'), 'belt': ('side_left', 'side_right')},
)
SIZE = (24, 32)
EVAL_OPS = 'letterbox(24,24)|warp'
TRAIN_OPS = 'flip|crop_keep|rotate(30)|letterbox(24,24)|warp|color'
COUNTS = {'belt': 5, 'coat': 7}
IDS = [f'{category}{i}' for category in sorted(COUNTS) for i in range(COUNTS[category])]


def make_record(category, i):
    rng = np.random.default_rng([len(category) * ord(category[0]), i])
    image = cv2.resize(rng.integers(0, 256, (3, 4, 3)).astype(np.uint8), SIZE[::-1])
    points = np.array([[4 + i, 8], [20, 9.5], [12, 20]], np.float32)
    visibility = np.array([1, 0, -1 if category == 'belt' else 1])
    annotation = Annotation('', f'{category}{i}', category, points, visibility)
    return encode_example(cv2.imencode('.jpg', image)[1].tobytes(), annotation, SIZE)


@pytest.fixture(scope='module')
def pattern(tmp_path_factory):
    directory = tmp_path_factory.mktemp('records')
    for category, count in COUNTS.items():
        with tf.io.TFRecordWriter(str(directory / f'{category}-00000-of-00001.tfrecord')) as writer:
            for i in range(count):
                writer.write(make_record(category, i))
    return str(directory / '*.tfrecord')


def read(pattern, count, context=None, ops=TRAIN_OPS, batch_size=4, training=True, **options):
    """Return the first `count` batches, as NumPy."""
    make = make_input_fn(pattern, SCHEMA, ops, batch_size, training=training, **options)
    return list(make(input_context=context).take(count).as_numpy_iterator())


def evaluate(pattern, batch_size=4, ops=EVAL_OPS, **options):
    return read(pattern, -1, ops=ops, batch_size=batch_size, training=False, **options)


def ids_of(batches):
    return [image_id.decode() for features, _ in batches for image_id in features['image_id']]


def assert_equal_batches(one, other):
    assert len(one) == len(other)
    tf.nest.map_structure(np.testing.assert_array_equal, one, other)


@pytest.mark.parametrize(('training', 'batch_dimension'), [(True, 3), (False, None)])
def test_shapes_and_types_are_known_in_advance(pattern, training, batch_dimension):
    data = make_input_fn(pattern, SCHEMA, EVAL_OPS, 3, training=training)()
    shapes = {
        'image': ([24, 24, 3], tf.uint8),
        'image_id': ([], tf.string),
        'category': ([], tf.string),
        'image_size': ([2], tf.int32),
        'to_crop': ([3, 3], tf.float32),
        'keypoints': ([3, 2], tf.float32),
        'visibility': ([3], tf.int32),
        'normalizer': ([], tf.float32),
    }
    specs = {n: tf.TensorSpec([batch_dimension, *s], t) for n, (s, t) in shapes.items()}
    features, labels = data.element_spec
    assert not features.keys() & labels.keys()
    assert {**features, **labels} == specs
    assert sorted(labels) == ['keypoints', 'normalizer', 'visibility']


def test_evaluation_reads_every_record_once_in_order_with_a_smaller_last_batch(pattern):
    batches = evaluate(pattern, batch_size=5)
    assert [len(features['image']) for features, _ in batches] == [5, 5, 2]
    assert ids_of(batches) == IDS


def test_contents_of_an_evaluation_batch(pattern):
    ((features, labels),) = evaluate(pattern, batch_size=12)
    assert [category.decode() for category in features['category']] == ['belt'] * 5 + ['coat'] * 7
    np.testing.assert_array_equal(features['image_size'], [SIZE] * 12)
    np.testing.assert_allclose(features['to_crop'][0], [[0.75, 0, 0], [0, 0.75, 3], [0, 0, 1]])
    original = [[4 + 6, 8], [20, 9.5], [12, 20]]
    np.testing.assert_allclose(labels['keypoints'][11], np.multiply(original, 0.75) + [0, 3])
    np.testing.assert_array_equal(labels['visibility'], [[1, 0, -1]] * 5 + [[1, 0, 1]] * 7)
    np.testing.assert_allclose(labels['normalizer'][11], np.hypot(10, 1.5), rtol=1e-6)


def test_a_point_outside_the_picture_counts_in_an_evaluation_not_in_a_training(tmp_path):
    points = np.array([[4, 8], [60, 9], [12, 20]], np.float32)
    annotation = Annotation('', 'coat0', 'coat', points, np.array([1, 1, 1]))
    jpeg = cv2.imencode('.jpg', np.zeros((*SIZE, 3), np.uint8))[1].tobytes()
    path = str(tmp_path / 'coat-00000-of-00001.tfrecord')
    with tf.io.TFRecordWriter(path) as writer:
        writer.write(encode_example(jpeg, annotation, SIZE))
    visibility = {}
    for training in (False, True):
        ((_, labels),) = read(path, 1, ops=EVAL_OPS, batch_size=1, training=training)
        visibility[training] = labels['visibility'][0].tolist()
    assert visibility == {False: [1, 1, 1], True: [1, -1, 1]}


def test_pictures_are_rounded_not_truncated(pattern):
    ops = 'letterbox(24,32)|warp'
    ((features, _),) = evaluate(pattern, batch_size=12, ops=ops)
    encoded = tf.train.Example.FromString(make_record('coat', 0)).features.feature['image/encoded']
    jpeg = np.frombuffer(encoded.bytes_list.value[0], np.uint8)
    np.testing.assert_array_equal(features['image'][5], cv2.imdecode(jpeg, 1)[..., ::-1])


def test_training_reads_every_record_once_an_epoch_in_a_new_order(pattern):
    epochs = [ids_of([batch]) for batch in read(pattern, 4, batch_size=12)]
    assert all(sorted(epoch) == IDS for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4 and IDS not in epochs


def test_training_gives_full_batches_only(pattern):
    assert {len(features['image']) for features, _ in read(pattern, 7, batch_size=5)} == {5}


def test_epochs_differ_in_augmentation_and_points_follow_it(pattern):
    (first, first_labels), (second, second_labels) = read(pattern, 2, batch_size=12)
    for features, labels in ((first, first_labels), (second, second_labels)):
        middle = np.array([[12, 20]] * 12, np.float32)[:, None]
        mapped = geometry.transform_points(tf.constant(middle), tf.constant(features['to_crop']))
        coats = features['category'] == b'coat'
        np.testing.assert_allclose(labels['keypoints'][coats, 2], mapped[:, 0][coats], atol=1e-3)
    order = [list(second['image_id']).index(image_id) for image_id in first['image_id']]
    same = np.isclose(first['to_crop'], second['to_crop'][order]).all((1, 2))
    assert not same.any()


def test_same_seed_same_batches_with_any_number_of_threads(pattern, monkeypatch):
    runs = []
    for calls in (1, 2, 2):
        monkeypatch.setattr(input_fn, 'PARALLEL_CALLS', calls)
        runs.append(read(pattern, 5, seed=3, order=Order(6)))
    assert_equal_batches(runs[0], runs[1])
    assert_equal_batches(runs[0], runs[2])
    other = read(pattern, 5, seed=4, order=Order(6))
    assert ids_of(other) != ids_of(runs[0])


@pytest.mark.parametrize('training', [True, False])
def test_nothing_of_it_sleeps_when_it_should_end(pattern, training):
    # The thread of TensorFlow's that tunes a pipeline does, for up to a minute.
    data = make_input_fn(pattern, SCHEMA, EVAL_OPS, 3, training=training)()
    assert data.options().autotune.enabled is False


def test_a_step_has_its_batch_wherever_a_training_begins(pattern):
    """Ids, pictures as they are augmented, points: over the borders of epochs of 12 records."""
    uninterrupted = read(pattern, 9, seed=3, batch_size=5, order=Order(6))
    assert len({features['image'].tobytes() for features, _ in uninterrupted}) == 9
    for step in (1, 2, 5, 8):
        order = Order(6, sum(COUNTS.values()), step)
        resumed = read(pattern, 9 - step, seed=3, batch_size=5, order=order)
        assert_equal_batches(resumed, uninterrupted[step:])


def test_replicas_of_several_pipelines_see_the_pictures_of_one_device(pattern):
    (single, _), *_ = read(pattern, 1, batch_size=6)
    shares = [read(pattern, 1, batch_size=2, context=share_of(3, i))[0][0] for i in range(3)]
    for position, share in enumerate(shares):
        for name in ('image_id', 'image', 'to_crop'):
            np.testing.assert_array_equal(share[name], single[name][position::3])


def test_a_device_makes_the_pictures_that_the_host_would_make(pattern):
    (host, host_labels), *_ = read(pattern, 1, seed=3)
    (device, labels), *_ = read(pattern, 1, seed=3, augment_on='device')
    tf.nest.map_structure(np.testing.assert_array_equal, labels, host_labels)
    assert 'image' not in device and device['canvas'].dtype == np.uint8
    # Canvases are as large as what they show of a picture.
    assert device['canvas'].shape[1] == device['canvas_size'].prod(axis=1).max()
    image = op_string.painted_batch([TRAIN_OPS], device, labels).numpy()
    assert image.dtype == np.uint8 and image.std() > 20
    assert np.abs(image.astype(int) - host['image']).max() <= 1
    for name in ('image_id', 'category', 'image_size', 'to_crop'):
        np.testing.assert_array_equal(device[name], host[name])


def test_seed_may_be_any_integer(pattern):
    for seed in (2**40 + 1, -1):
        assert len(ids_of(read(pattern, 1, seed=seed))) == 4


def test_files_are_mixed_even_with_hardly_any_buffer(pattern):
    ((features, _),) = read(pattern, 1, batch_size=4, order=Order(1))
    assert sorted(features['category']) == [b'belt'] * 2 + [b'coat'] * 2


def share_of(num_shares, position):
    return tf.distribute.InputContext(
        num_input_pipelines=num_shares,
        input_pipeline_id=position,
        num_replicas_in_sync=num_shares,
    )


def test_shares_of_an_evaluation_are_disjoint_and_complete(pattern):
    shares = [ids_of(evaluate(pattern, context=share_of(5, i))) for i in range(5)]
    assert sorted(sum(shares, [])) == IDS
    assert shares[1] == IDS[1::5]


def test_shares_of_every_training_epoch_are_disjoint_complete_and_differently_augmented(pattern):
    shares = [read(pattern, 3, context=share_of(3, i), batch_size=4) for i in range(3)]
    for epoch in range(3):
        assert sorted(sum((ids_of([share[epoch]]) for share in shares), [])) == IDS
    matrices = np.concatenate([features['to_crop'] for share in shares for features, _ in share])
    assert len(np.unique(matrices.round(5), axis=0)) == len(matrices)


def test_boxes_take_the_place_of_the_records_boxes_in_order(pattern):
    boxes = np.array([[i, 4, i + 12, 16] for i in range(12)])
    ops = 'crop_box(margin=0)|letterbox(24,24)|warp'
    ((features, _),) = evaluate(pattern, batch_size=12, ops=ops, boxes=boxes)
    np.testing.assert_allclose(features['to_crop'][:, 0, 2], -2.0 * boxes[:, 0], atol=1e-4)
    share = evaluate(pattern, ops=ops, boxes=boxes, context=share_of(3, 1))
    matrices = np.concatenate([features['to_crop'] for features, _ in share])
    np.testing.assert_allclose(matrices[:, 0, 2], -2.0 * boxes[1::3, 0], atol=1e-4)


def test_fewer_boxes_than_records_are_an_error(pattern):
    with pytest.raises(tf.errors.InvalidArgumentError, match='boxes has 11 rows'):
        evaluate(pattern, boxes=np.zeros((11, 4)))


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'batch_size': 0}, 'batch_size=0'),
        ({'boxes': np.zeros((12, 4)), 'training': True}, 'None in training'),
        ({'boxes': np.zeros((12, 3))}, r'boxes of shape \[12, 3\]'),
        ({'ops': 'flop'}, "unknown op 'flop'"),
        ({'augment_on': 'gpu'}, "augment_on='gpu': must be host or device"),
        ({'augment_on': 'device'}, 'training with one op string'),
        ({'augment_on': 'device', 'training': True, 'ops': [EVAL_OPS] * 2}, 'one op string'),
        ({'file_pattern': '/nowhere/*.tfrecord'}, '/nowhere'),
    ],
)
def test_mistakes_are_told_before_anything_is_read(pattern, changes, message):
    arguments = {'file_pattern': pattern, 'ops': EVAL_OPS, 'batch_size': 2, 'training': False}
    with pytest.raises(ValueError, match=message):
        make_input_fn(schema=SCHEMA, **{**arguments, **changes})


def test_a_session_reads_the_same_as_eager_mode_without_leaving_the_graph(pattern):
    make = make_input_fn(pattern, SCHEMA, EVAL_OPS, 5, training=False)
    with tf.Graph().as_default() as graph, tf.compat.v1.Session() as session:
        batch = tf.compat.v1.data.make_one_shot_iterator(make()).get_next()
        first = session.run(batch)
        functions = graph.as_graph_def().library.function
        used = {node.op for function in functions for node in function.node_def}
    assert 'DecodeAndCropJpeg' in used and not [op for op in used if 'PyFunc' in op]
    # What moves the pixels is compiled.
    assert [function for function in functions if function.attr['_XlaMustCompile'].b]
    assert_equal_batches([first], evaluate(pattern, batch_size=5)[:1])


def test_no_source_is_read_again_when_a_pipeline_is_built(pattern, monkeypatch):
    files = set()

    def probe():
        def op(example, seed):
            del seed
            files.update(frame.filename for frame in traceback.extract_stack())
            return example

        return op

    probe.stage = Stage.GEOMETRY
    monkeypatch.setitem(OPS._entries, 'probe', probe)
    make_input_fn(pattern, SCHEMA, f'probe|{EVAL_OPS}', 2, training=False)()
    assert input_fn.__file__ in files
    assert not [file for file in files if 'autograph_generated' in file]


def test_the_package_exports_make_input_fn_but_imports_tensorflow_only_for_it():
    code = 'import sys, preprocessing.schema; sys.exit("tensorflow" in sys.modules)'
    assert subprocess.run([sys.executable, '-c', code], check=False).returncode == 0
    assert preprocessing.make_input_fn is input_fn.make_input_fn
    with pytest.raises(AttributeError, match='no attribute'):
        _ = preprocessing.nothing


def test_several_op_strings_give_as_many_views_of_each_picture(pattern):
    plain, other = EVAL_OPS, f'shift(0.2)|{EVAL_OPS}'
    (features, labels), *_ = evaluate(pattern, ops=[plain, other, other])
    assert features['image'].shape == (4, 3, 24, 24, 3)
    assert features['to_crop'].shape == (4, 3, 3, 3)
    (first, first_labels), *_ = evaluate(pattern, ops=plain)
    np.testing.assert_array_equal(features['image'][:, 0], first['image'])
    np.testing.assert_array_equal(features['to_crop'][:, 0], first['to_crop'])
    assert labels.keys() == first_labels.keys()
    np.testing.assert_array_equal(labels['keypoints'], first_labels['keypoints'])
    # Equal op strings draw different numbers, the same ones at every run.
    assert np.all(features['to_crop'][:, 1, 0, 2] != features['to_crop'][:, 2, 0, 2])
    (again, _), *_ = evaluate(pattern, ops=[plain, other, other])
    np.testing.assert_array_equal(features['image'], again['image'])


def test_every_op_string_of_several_is_checked(pattern):
    with pytest.raises(ValueError, match="unknown op 'wrap'"):
        make_input_fn(pattern, SCHEMA, [EVAL_OPS, 'letterbox(24,24)|wrap'], 1, training=False)
