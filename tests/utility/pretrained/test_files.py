"""Weights of every kind: told apart by content, read alike, and refused in one line if damaged."""

from __future__ import annotations

import collections
import json
import pathlib
import shutil
import struct
import subprocess
import sys

import h5py
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
import tensorflow as tf

from tests import torch_writer
from tests.commands import ROOT
from tests.tiny_checkpoints import write_checkpoint
from utility.pretrained.files import open_weights

KINDS = ('checkpoint', 'keras', 'safetensors', 'torch')
FLOATS = np.random.default_rng(0).normal(size=[3, 4]).astype(np.float32)
# What a file of any kind is made to hold, and what is read of it.
STORED = {
    'conv/kernel': FLOATS,
    'conv/half': FLOATS.astype(np.float16),
    'conv/double': FLOATS.astype(np.float64),
    'norm/scalar': np.array(2.5, np.float32),
    'norm/count': np.array([3, 4], np.int64),
    'norm/byte': np.array([[5]], np.uint8),
    'norm/flag': np.array([True]),
}
EXPECTED = {
    name: array if array.dtype.kind in 'iu' else array.astype(np.float32)
    for name, array in STORED.items()
    if array.dtype != np.bool_
}


def _write(kind: str, root: pathlib.Path, values=None) -> str:
    """Write values with a name that tells nothing; the path to open."""
    values = STORED if values is None else values
    path = root / 'weights.bin'
    if kind == 'checkpoint':
        return write_checkpoint(path, {**values, 'graph': b'text'})
    if kind == 'keras':
        with h5py.File(path, 'w') as file:
            for name, array in values.items():
                file[f'layer_of_{name.split("/")[0]}/{name}:0'] = array
            file.create_group('layer_without_weights')
    if kind == 'safetensors':
        safetensors.numpy.save_file(dict(values), path)
    if kind == 'torch':
        torch_writer.write_archive(path, {n: torch_writer.tensor(a) for n, a in values.items()})
    return str(path)


def _read(path) -> dict[str, np.ndarray]:
    with open_weights(str(path)) as file:
        return {name: file.read(name) for name in file.shapes}


def _assert_same(actual, expected) -> None:
    assert actual.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(actual[name], array, strict=True)
        assert actual[name].flags.c_contiguous


@pytest.mark.parametrize('kind', KINDS)
def test_every_kind_is_read_alike(tmp_path, kind):
    path = _write(kind, tmp_path)
    with open_weights(path) as file:
        assert (file.path, file.kind) == (path, kind)
        assert dict(file.shapes) == {name: array.shape for name, array in EXPECTED.items()}
        _assert_same({name: file.read(name) for name in file.shapes}, EXPECTED)
        with pytest.raises(ValueError, match="weights.bin' has no tensor 'norm/flag'"):
            file.read('norm/flag')
    with pytest.raises(ValueError, match='is closed'):
        file.read('conv/kernel')
    file.close()


@pytest.mark.parametrize('kind', [kind for kind in KINDS if kind != 'keras'])  # HDF5 has none
def test_bfloat16_becomes_float32(tmp_path, kind):
    brain = FLOATS.astype(ml_dtypes.bfloat16)
    path = _write(kind, tmp_path, {'a': brain})
    _assert_same(_read(path), {'a': brain.astype(np.float32)})


@pytest.mark.parametrize('kind', KINDS)
def test_doubles_beyond_float32_are_infinite(tmp_path, kind):
    path = _write(kind, tmp_path, {'a': np.array([1e300, -1e300, 1.0])})
    _assert_same(_read(path), {'a': np.array([np.inf, -np.inf, 1], np.float32)})


@pytest.mark.parametrize('kind', KINDS)
def test_a_file_without_numbers_is_refused(tmp_path, kind):
    path = _write(kind, tmp_path, {'flag': np.array([True])})
    with pytest.raises(ValueError, match=r"from '.*weights.bin': it holds no tensors"):
        _read(path)


def test_checkpoints_are_found_by_directory_and_object_based_ones_are_listed(tmp_path):
    module = tf.Module()
    module.kernel = tf.Variable(FLOATS)
    tf.train.Checkpoint(net=module).save(str(tmp_path / 'model'))
    values = _read(tmp_path)
    np.testing.assert_array_equal(values['net/kernel/.ATTRIBUTES/VARIABLE_VALUE'], FLOATS)
    assert not any('OBJECT_GRAPH' in name for name in values)


def test_a_part_of_a_checkpoint_is_told_by_its_prefix(tmp_path):
    path = _write('checkpoint', tmp_path)
    for part in ('index', 'data-00000-of-00001'):
        with pytest.raises(ValueError, match=f"give its prefix, '{path}'"):
            open_weights(f'{path}.{part}')


@pytest.mark.parametrize('kind', KINDS)
def test_whatever_tensorflow_opens_is_read(tmp_path, kind):
    path = f'file://{_write(kind, tmp_path)}'
    with open_weights(path) as file:
        assert (file.path, file.kind) == (path, kind)
        _assert_same({name: file.read(name) for name in file.shapes}, EXPECTED)
    with pytest.raises(ValueError, match="'ram://none': there is no such file"):
        open_weights('ram://none')
    with pytest.raises(ValueError, match="scheme 'https' not implemented"):
        open_weights('https://example.org/weights.pth')


def test_a_copy_is_removed(tmp_path, monkeypatch):
    monkeypatch.setattr('tempfile.tempdir', str(tmp_path / 'temporary'))
    (tmp_path / 'temporary').mkdir()
    shutil.copy(_write('keras', tmp_path), tmp_path / 'damaged')
    (tmp_path / 'damaged').write_bytes((tmp_path / 'damaged').read_bytes()[:100])
    for name in ('weights.bin', 'damaged'):
        tf.io.gfile.copy(str(tmp_path / name), f'ram://{name}', overwrite=True)
    with open_weights('ram://weights.bin'):
        assert len(list((tmp_path / 'temporary').iterdir())) == 1
    assert not list((tmp_path / 'temporary').iterdir())
    with pytest.raises(ValueError, match='damaged'):
        open_weights('ram://damaged')
    assert not list((tmp_path / 'temporary').iterdir())


@pytest.mark.parametrize(
    'content, message',
    [
        (b'', 'it is empty'),
        (b'some text\nof two lines', 'it is a text'),
        (b'\n\n<!DOCTYPE html><html>', 'a web page: a download has failed'),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', 'a web page'),
        (b'version https://git-lfs.github.com/spec/v1\noid sha256:00', 'git lfs pull'),
        (b'\x1f\x8b\x08' + bytes(100), 'unpack it'),
        (bytes(257) + b'ustar' + bytes(300), 'a tar archive'),
        (b'\xff\xd8\xff\xe0' + bytes(100), 'neither of Keras'),
        (bytes(600), 'neither of Keras'),
        (b'PK\x03\x04' + bytes(100), 'truncated or damaged'),
        (b'\x80\x02K\x01.', 'a pickle, but not one of torch.save'),
        (b'\x89HDF\r\n\x1a\n', 'truncated or damaged'),
        (struct.pack('<Q', 2**20) + b'{', 'truncated or damaged'),
    ],
)
def test_what_holds_no_weights_is_named(tmp_path, content, message):
    path = tmp_path / 'weights.pth'
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        open_weights(str(path))
    assert str(caught.value).startswith(f"cannot read weights from '{path}': ")
    assert '\n' not in str(caught.value)


def test_a_missing_file_and_an_empty_directory_are_told(tmp_path):
    with pytest.raises(ValueError, match='there is no such file or checkpoint'):
        open_weights(str(tmp_path / 'none'))
    with pytest.raises(ValueError, match='holds no checkpoint'):
        open_weights(str(tmp_path))


def _model() -> tf.keras.Model:
    inner = tf.keras.Sequential(
        [
            tf.keras.layers.Conv2D(2, 1, name='conv'),
            tf.keras.layers.BatchNormalization(name='norm'),
        ],
        name='inner',
    )
    outer = tf.keras.Sequential([inner, tf.keras.layers.Dense(3, name='dense')], name='outer')
    model = tf.keras.Sequential([tf.keras.Input([4, 4, 3]), outer, tf.keras.layers.ReLU()])
    model.compile('adam', 'mse')
    return model


@pytest.mark.filterwarnings('ignore:You are saving your model as an HDF5 file')
@pytest.mark.parametrize('save', ['save_weights', 'save'])
def test_names_are_those_of_keras(tmp_path, save):
    model = _model()
    getattr(model, save)(str(tmp_path / 'model.h5'))
    names = ('kernel', 'bias'), ('gamma', 'beta', 'moving_mean', 'moving_variance')
    expected = {f'conv/{n}' for n in names[0]} | {f'norm/{n}' for n in names[1]}
    values = _read(tmp_path / 'model.h5')
    assert values.keys() == expected | {'dense/kernel', 'dense/bias'}
    for variable in model.variables:
        np.testing.assert_array_equal(values[variable.name.split(':')[0]], variable.numpy())


def _link_to_file(file):
    file['layer/a'] = h5py.ExternalLink('other.h5', '/secret')


def _link_to_path(file):
    file['layer/a'] = h5py.SoftLink('/layer/b')


def _store_elsewhere(file):
    file.create_dataset('layer/a', [4], 'u1', external=[('secret.bin', 0, 4)])


def _store_virtually(file):
    layout = h5py.VirtualLayout((4,), 'u1')
    layout[:] = h5py.VirtualSource('other.h5', 'secret', (4,))
    file.create_virtual_dataset('layer/a', layout)


def _compress(file):
    file.create_dataset('layer/a', [2**30], 'u1', compression='gzip')


def _leave_unwritten(file):
    file.create_dataset('layer/a', [2**40], 'f4')


def _repeat(file):
    file['layer/a:0'] = file['other/a'] = FLOATS


def _make_a_circle(file):
    file['layer/circle'] = file['layer']


@pytest.mark.parametrize(
    'write, message',
    [
        (_link_to_file, 'link to elsewhere'),
        (_link_to_path, 'link to elsewhere'),
        (_store_elsewhere, 'in pieces or elsewhere'),
        (_store_virtually, 'in pieces or elsewhere'),
        (_compress, 'in pieces or elsewhere'),
        (_leave_unwritten, 'larger than the file'),
        (_repeat, "holds 'a' twice"),
        (_make_a_circle, 'linked twice'),
    ],
)
def test_keras_files_that_lead_astray_are_refused(tmp_path, write, message):
    with h5py.File(tmp_path / 'other.h5', 'w') as file:
        file['secret'] = np.arange(4, dtype=np.uint8)
    (tmp_path / 'secret.bin').write_bytes(b'1234')
    with h5py.File(tmp_path / 'weights.h5', 'w') as file:
        file['layer/b'] = FLOATS
        write(file)
    with pytest.raises(ValueError, match=message):
        _read(tmp_path / 'weights.h5')


def test_hostile_attributes_and_odd_members_of_keras_files_do_no_harm(tmp_path):
    with h5py.File(tmp_path / 'weights.h5', 'w') as file:
        file.attrs['layer_names'] = 7
        file['layer/a:0'] = FLOATS
        file['layer'].attrs['weight_names'] = np.zeros([2, 2])
        file['layer/reference'] = np.array([file['layer'].ref], h5py.ref_dtype)
        file['layer/text'] = 'text'
        file['layer/nothing'] = h5py.Empty('f4')
        file['layer/type'] = np.dtype('f4')
        file['layer/inner/a'] = FLOATS[0].astype('>f8')
        file['big_endian'] = np.arange(3, dtype='>i2')
    expected = {'a': FLOATS, 'inner/a': FLOATS[0], 'big_endian': np.arange(3, dtype=np.int16)}
    _assert_same(_read(tmp_path / 'weights.h5'), expected)


def test_safetensors_that_overlap_or_leave_the_file_are_refused(tmp_path):
    path = tmp_path / 'weights'
    for offsets in ([0, 8], [4, 12], [-4, 4], [0, 2**40]):
        header = {n: {'dtype': 'F32', 'shape': [2], 'data_offsets': offsets} for n in 'ab'}
        text = json.dumps(header).encode()
        path.write_bytes(struct.pack('<Q', len(text)) + text + bytes(16))
        with pytest.raises(ValueError, match='truncated or damaged'):
            _read(path)


def test_other_types_of_safetensors_are_left_out(tmp_path):
    flattened = {
        'a': {'dtype': 'float32', 'shape': [1], 'data': struct.pack('<f', 1.5)},
        'b': {'dtype': 'float8_e4m3fn', 'shape': [4], 'data': bytes(4)},
    }
    safetensors.serialize_file(flattened, str(tmp_path / 'weights'))
    _assert_same(_read(tmp_path / 'weights'), {'a': np.array([1.5], np.float32)})


def _damage(content: bytes, rng: np.random.Generator) -> bytes:
    """Return the content that is truncated, has other bytes, or is shuffled."""
    content = bytearray(content)
    way = rng.integers(4)
    if way == 0:
        return bytes(content[: rng.integers(len(content))])
    start, stop = sorted(rng.integers(len(content), size=2))
    if way == 1:
        content[start:stop] = content[start:stop][::-1]
        return bytes(content)
    for _ in range(rng.integers(1, 5)):
        # The beginning holds the description in most kinds.
        position = rng.integers(len(content) if way == 2 else min(len(content), 600))
        content[position] ^= 1 << rng.integers(8)
    return bytes(content)


@pytest.mark.parametrize('kind', [*KINDS, 'torch stream'])
def test_damaged_files_are_read_as_they_say_or_refused(tmp_path, kind):
    if kind == 'torch stream':
        path = str(tmp_path / 'weights.bin')
        saved = {name: torch_writer.tensor(array) for name, array in STORED.items()}
        torch_writer.write_stream(pathlib.Path(path), {'state_dict': saved})
    else:
        path = _write(kind, tmp_path)
    parts = sorted(tmp_path.iterdir())
    sound = [part.read_bytes() for part in parts]
    outcomes = collections.Counter()
    for seed in range(50):
        rng = np.random.default_rng(seed)
        damaged = rng.integers(len(parts))
        parts[damaged].write_bytes(_damage(sound[damaged], rng))
        try:
            with open_weights(path) as file:
                for name, shape in file.shapes.items():
                    assert file.read(name).shape == shape
            outcomes['read'] += 1
        except ValueError as error:
            assert str(error).startswith(f'cannot read weights from {path!r}: ')
            assert '\n' not in str(error)
            outcomes['refused'] += 1
        parts[damaged].write_bytes(sound[damaged])
    assert outcomes['refused'] > 10
    _assert_same(_read(path), EXPECTED)


def test_local_files_are_read_without_tensorflow_and_torch(tmp_path):
    paths = []
    for kind in KINDS[1:]:
        (tmp_path / kind).mkdir()
        paths.append(_write(kind, tmp_path / kind))
    code = (
        'import sys; from utility.pretrained.files import open_weights\n'
        'for path in sys.argv[1:]:\n'
        '    with open_weights(path) as file: file.read("conv/kernel")\n'
        'assert not {"tensorflow", "torch"} & set(sys.modules)'
    )
    subprocess.run([sys.executable, '-c', code, *paths], cwd=ROOT, check=True, timeout=60)
