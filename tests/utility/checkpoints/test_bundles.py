import os
import re
import struct

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import tensor_bundle_pb2

from config import UserError
from utility.checkpoints import bundles, files, snapshots, variables

TENSORS = {
    'backbone/a': np.arange(12, dtype=np.float32).reshape(3, 4),
    'backbone/names': np.array([b'one', b'', b'three' * 50]),
    'global_step': np.int64(7),
    **{f'head/{i}/kernel': np.full([i], i, np.float32) for i in range(300)},
}


@pytest.fixture(scope='module')
def content(tmp_path_factory):
    """Suffix -> bytes of the files of a checkpoint."""
    folder = tmp_path_factory.mktemp('bundle')
    variables.save(str(folder / 'x'), TENSORS)
    return {path.name[1:]: path.read_bytes() for path in folder.iterdir()}


def _write(folder, content, name='model.ckpt-7'):
    for suffix, data in content.items():
        (folder / (name + suffix)).write_bytes(data)
    return str(folder / name)


def test_what_tensorflow_wrote_is_read(tmp_path, content):
    reader = bundles.reader(_write(tmp_path, content))
    for name, value in TENSORS.items():
        np.testing.assert_array_equal(reader.get_tensor(name), value)


def _varint(value):
    parts = []
    while value >= 128:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])


def _index(entries):
    """Return a table of one block, uncompressed, as bundles reads it."""

    def block(pairs):
        body = b''.join(
            b'\0' + _varint(len(key)) + _varint(len(value)) + key + value for key, value in pairs
        )
        return body + struct.pack('<II', 0, 1)

    data = block(entries.items())
    top = block([(b'\xff', b'\0' + _varint(len(data)))])
    place = len(data) + 5
    footer = b'\0\0' + _varint(place) + _varint(len(top))
    footer = footer.ljust(40, b'\0') + struct.pack('<Q', 0xDB4775248B80FB57)
    return data + bytes(5) + top + bytes(5) + footer


def _entry(shape, dtype=tf.float32, size=4, offset=0, shard=0):
    entry = tensor_bundle_pb2.BundleEntryProto(
        dtype=dtype.as_datatype_enum, size=size, offset=offset, shard_id=shard
    )
    for side in shape:
        entry.shape.dim.add(size=side)
    return entry.SerializeToString()


_FAR = _varint(10**9)
CRAFTED = {
    'negative side': ([_entry([-5])], bytes(4), 'cannot be'),
    'large shape': ([_entry([10**6, 10**6])], bytes(4), 'takes 4000000000000 bytes, but 4 are'),
    'large strings': ([_entry([2], tf.string, 12)], _FAR + _FAR + b'ab', 'longer than its 12'),
    'many strings': ([_entry([10**9], tf.string, 4)], bytes(4), 'longer than its 4 bytes'),
    'outside': ([_entry([1], offset=1)], bytes(4), 'lies outside'),
    'other file': ([_entry([1], shard=3)], bytes(4), 'lies outside'),
    'the same bytes again and again': ([_entry([1])] * 9, bytes(4), 'take 36 bytes'),
}


@pytest.mark.parametrize('kind', CRAFTED)
def test_a_crafted_checkpoint_never_reaches_tensorflow(tmp_path, monkeypatch, kind):
    crafted, data, message = CRAFTED[kind]
    header = tensor_bundle_pb2.BundleHeaderProto(num_shards=1).SerializeToString()
    entries = {b'': header, **{b'v%d' % i: entry for i, entry in enumerate(crafted)}}
    prefix = _write(tmp_path, {'.index': _index(entries), '.data-00000-of-00001': data})
    monkeypatch.setattr(tf.train, 'load_checkpoint', lambda _: pytest.fail('it was read'))
    with pytest.raises(UserError, match=f'model.ckpt-7.*{message}'):
        bundles.reader(prefix)
    with pytest.raises(UserError, match='none of its checkpoints can be read'):
        files.usable(str(tmp_path))


def test_a_damaged_index_is_told_in_one_line(tmp_path, content):
    index, rng = content['.index'], np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(index)
        for _ in range(rng.integers(1, 6)):
            damaged[rng.integers(len(index))] = rng.integers(256)
        damaged = damaged[: rng.integers(len(index))] if rng.random() < 0.2 else damaged
        prefix = _write(tmp_path, {**content, '.index': bytes(damaged)})
        try:
            bundles.check(prefix)
        except (ValueError, OSError) as error:
            assert '\n' not in str(error).strip()


@pytest.mark.parametrize('name', ['[v2]', 'a*', 'who?', 'back\\slash'])
def test_characters_of_patterns_name_only_themselves(tmp_path, content, name):
    folder, decoy = tmp_path / name, tmp_path / 'v'
    for one in (folder, decoy, tmp_path / 'ab'):
        one.mkdir()
    prefix = _write(folder, content)
    assert snapshots.read_weights(prefix)['backbone/a'].shape == (3, 4)
    assert files.usable(str(folder)) == prefix
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        variable = tf.compat.v1.get_variable('backbone/a', [3, 4])
        saver = tf.compat.v1.train.Saver([variable])
        saver.restore(session, bundles.literal(prefix))
        np.testing.assert_array_equal(session.run(variable), TENSORS['backbone/a'])


def test_the_file_that_names_the_newest_does_not_lead_out_of_the_folder(tmp_path, content):
    run, other = tmp_path / 'run', tmp_path / 'other'
    for folder in (run, other):
        folder.mkdir()
        _write(folder, content, 'model.ckpt-5')
    pointer = f'model_checkpoint_path: "{other}/model.ckpt-5"\n'
    (run / 'checkpoint').write_text(pointer)
    assert files.usable(str(run)) == files.newest(str(run)) == str(run / 'model.ckpt-5')
    files.recover(str(run))
    assert tf.train.latest_checkpoint(str(run)) == str(run / 'model.ckpt-5')
    (run / 'checkpoint').write_text(pointer.replace('ckpt-5', 'ckpt-6'))
    assert files.newest(str(run)) is None


def test_a_link_that_is_called_like_a_leftover_is_removed_and_not_followed(tmp_path, content):
    run, precious = tmp_path / 'run', tmp_path / 'precious'
    for folder in (run, precious):
        folder.mkdir()
    (precious / 'thesis').write_text('x')
    (run / 'model.ckpt-9_temp').symlink_to(precious)
    files.recover(str(run), is_alone=False)
    assert os.listdir(run) == ['model.ckpt-9_temp']
    files.recover(str(run))
    assert os.listdir(run) == []
    assert os.listdir(precious) == ['thesis']


@pytest.mark.parametrize('value', [np.nan, -np.inf])
def test_weights_that_are_not_finite_are_named(tmp_path, value):
    prefix = str(tmp_path / 'model.ckpt-7')
    sound = np.ones([2], np.float32)
    wrong = np.array([1, value], np.float32)
    variables.save(prefix, {'head/b': wrong, 'backbone/a': sound, 'head/c': wrong, 'x': wrong})
    message = re.escape(f'{prefix!r} holds weights that are not finite: head/b and 1 more')
    with pytest.raises(UserError, match=message):
        variables.check_finite(str(tmp_path))
    variables.save(prefix, {'backbone/a': sound, 'x': wrong})
    variables.check_finite(str(tmp_path))


@pytest.mark.parametrize('path', ['logs/new [v2]', 'a*', 'a?', 'a\\b', 'a,b'])
def test_paths_in_which_nothing_is_trained(path):
    assert bundles.path_problem(path)
    assert bundles.path_problem('logs/new (v2) & {more}') is None
