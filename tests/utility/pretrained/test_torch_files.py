"""Files of torch.save: every tensor is read as it was saved, and nothing of a file is run."""

from __future__ import annotations

import collections
import contextlib
import pickle
import struct
import tracemalloc
import zipfile
import zlib
from unittest import mock

import ml_dtypes
import numpy as np
import pytest

from tests import torch_writer
from tests.torch_writer import Call, Storage, Tensor, tensor
from utility.pretrained import torch_files
from utility.pretrained.files import open_weights

WRITERS = [torch_writer.write_archive, torch_writer.write_stream]
both_formats = pytest.mark.parametrize('write', WRITERS)


def _read(path) -> dict[str, np.ndarray]:
    with open_weights(str(path)) as file:
        assert file.kind == 'torch'
        return {name: file.read(name) for name in file.shapes}


def _floats(*shape) -> np.ndarray:
    return np.random.default_rng(len(shape)).normal(size=shape).astype(np.float32)


def _assert_same(actual, expected) -> None:
    assert actual.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(actual[name], array, strict=True)
        assert actual[name].flags.c_contiguous


@both_formats
def test_all_types_are_read_and_floats_become_float32(tmp_path, write):
    floats = _floats(3, 4)
    arrays = {
        'weight': floats,
        'half': floats.astype(np.float16),
        'double': floats.astype(np.float64),
        'brain': floats.astype(ml_dtypes.bfloat16),
        'num_batches_tracked': np.array(7, np.int64),
        'int': np.arange(6, dtype=np.int32).reshape(2, 3),
        'byte': np.arange(5, dtype=np.uint8),
        'empty': np.zeros([0, 4], np.float32),
    }
    saved = {name: tensor(array) for name, array in arrays.items()}
    saved['mask'] = tensor(np.array([True, False]))  # is left out, as no number
    write(tmp_path / 'w', saved)
    expected = {
        name: array if array.dtype.kind in 'iu' else array.astype(np.float32)
        for name, array in arrays.items()
    }
    _assert_same(_read(tmp_path / 'w'), expected)


@both_formats
def test_views_are_materialized(tmp_path, write):
    array = _floats(6, 8)
    storage = Storage(array.ravel())
    saved = {
        'whole': Tensor(storage, 0, (6, 8), (8, 1)),
        'transposed': Tensor(storage, 0, (8, 6), (1, 8)),
        'column': Tensor(storage, 3, (6,), (8,)),
        'block': Tensor(storage, 2 * 8 + 1, (3, 5), (8, 1)),
        'steps': Tensor(storage, 5, (7,), (6,)),
        'last': Tensor(storage, 47, (), ()),
        'expanded': Tensor(storage, 9, (2, 4), (0, 1)),
        'nothing': Tensor(storage, 48, (0,), (1,)),
    }
    write(tmp_path / 'w', saved)
    expected = {
        'whole': array,
        'transposed': array.T,
        'column': array[:, 3],
        'block': array[2:5, 1:6],
        'steps': array.ravel()[5:47:6],
        'last': array[5, 7],
        'expanded': np.stack([array[1, 1:5]] * 2),
        'nothing': array.ravel()[:0],
    }
    _assert_same(_read(tmp_path / 'w'), {n: np.asarray(a) for n, a in expected.items()})


@both_formats
@pytest.mark.parametrize(
    'view',
    [
        (1, (6, 8), (8, 1)),
        (0, (6, 9), (8, 1)),
        (0, (6, 8), (9, 1)),
        (48, (1,), (1,)),
        (-1, (2,), (1,)),
        (47, (2,), (-1,)),
        (0, (-6, -8), (8, 1)),
        (0, (6, 8), (8,)),
        (0, (2**62, 2**62), (0, 2**62)),
        (0, (True,), (1,)),
        (0, (1.0,), (1,)),
        (0, [48], (1,)),
        (None, (48,), (1,)),
        (0, (1,) * 33, (1,) * 33),
    ],
)
def test_views_that_leave_their_storage_are_refused(tmp_path, write, view):
    write(tmp_path / 'w', {'a': Tensor(Storage(_floats(48)), *view)})
    with pytest.raises(ValueError, match='a tensor'):
        _read(tmp_path / 'w')


@both_formats
def test_negated_views_are_refused(tmp_path, write):
    write(tmp_path / 'w', {'a': Tensor(Storage(_floats(2)), 0, (2,), (1,), flags=({'neg': True},))})
    with pytest.raises(ValueError, match='negated'):
        _read(tmp_path / 'w')


def test_elements_are_not_repeated_beyond_the_size_of_the_file(tmp_path):
    torch_writer.write_stream(
        tmp_path / 'w', {'bomb': Tensor(Storage(_floats(4)), 0, (2**20, 2**20, 4), (0, 0, 1))}
    )
    with pytest.raises(ValueError, match='larger than the file'):
        _read(tmp_path / 'w')


@both_formats
@pytest.mark.parametrize('key', torch_files.NESTED_KEYS)
def test_weights_are_found_in_a_whole_checkpoint(tmp_path, write, key):
    array = _floats(2, 3)
    weights = collections.OrderedDict({'fc.weight': tensor(array)})
    weights._metadata = collections.OrderedDict({'': {'version': 1}})
    saved = {
        'epoch': 3,
        'best': tensor(np.float32(70)),
        key: weights,
        'optimizer': {
            'state': {0: {'momentum_buffer': tensor(array)}},
            'lr': [0.1, None, (2**40,)],
        },
    }
    write(tmp_path / 'w', saved)
    _assert_same(_read(tmp_path / 'w'), {'fc.weight': array})


@both_formats
def test_prefix_of_data_parallel_goes_if_all_names_have_it(tmp_path, write):
    array = _floats(2)
    write(tmp_path / 'all', {'module.a': tensor(array), 'module.module.b': tensor(array)})
    assert list(_read(tmp_path / 'all')) == ['a', 'module.b']
    write(tmp_path / 'some', {'module.a': tensor(array), 'b': tensor(array)})
    assert list(_read(tmp_path / 'some')) == ['module.a', 'b']


@both_formats
@pytest.mark.parametrize(
    'saved', [{}, {'epoch': 3}, [tensor([1.0])], {'a': [1]}, {'model': 'x'}, 3]
)
def test_a_file_without_tensors_by_name_is_refused(tmp_path, write, saved):
    saved = [tensor(np.float32([1]))] if isinstance(saved, list) else saved
    write(tmp_path / 'w', saved)
    with pytest.raises(ValueError, match='no tensors by name'):
        _read(tmp_path / 'w')


def test_state_dictionaries_of_2018_are_read(tmp_path):
    array = _floats(2, 3)
    old = tensor(array)
    old.rebuild = '_rebuild_tensor'
    old.shape = Call('torch', 'Size', (old.shape,))
    hooks = collections.OrderedDict()
    saved = {
        'weight': old,
        'parameter': Call('torch._utils', '_rebuild_parameter', (tensor(array), True, hooks)),
    }
    torch_writer.write_stream(tmp_path / 'w', saved)
    _assert_same(_read(tmp_path / 'w'), dict.fromkeys(saved, array))


@both_formats
def test_big_endian_files_are_refused(tmp_path, write):
    order = {'machine': {'little_endian': False}}
    if write is torch_writer.write_archive:
        order = {'byteorder': b'big'}
    write(tmp_path / 'w', {'a': tensor(_floats(2))}, **order)
    with pytest.raises(ValueError, match='big-endian'):
        _read(tmp_path / 'w')


@both_formats
@pytest.mark.parametrize('size', [1, 3, 2**40])
def test_storages_of_another_size_are_refused(tmp_path, write, size):
    saved = {'a': Tensor(Storage(_floats(2), size=size), 0, (1,), (1,))}
    write(tmp_path / 'w', saved)
    with pytest.raises(ValueError, match='not of the size'):
        _read(tmp_path / 'w')


def _rewrite(path, change) -> None:
    """Write an archive anew: `change(archive, name, content)` adds each member."""
    with zipfile.ZipFile(path) as old:
        members = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(path, 'w') as archive:
        for name, content in members.items():
            change(archive, name, content)


@pytest.mark.parametrize(
    'change, message',
    [
        (lambda a, n, c: a.writestr(n, c, zipfile.ZIP_DEFLATED), 'compressed'),
        (lambda a, n, c: [a.writestr(n, c) for _ in range(2)], 'twice'),
        (lambda a, n, c: a.writestr(n.replace('data.pkl', 'model.json'), c), 'no data.pkl'),
        (lambda a, n, c: a.writestr(n.replace('data/0', 'data/7'), c), 'missing'),
        (lambda a, n, c: a.writestr(n, c[:-4] if n.endswith('data/0') else c), 'not of the size'),
    ],
    ids=['compressed', 'twice', 'foreign', 'missing', 'short'],
)
def test_archives_that_torch_does_not_write_are_refused(tmp_path, change, message):
    path = tmp_path / 'w'
    torch_writer.write_archive(path, {'a': tensor(_floats(3))})
    with contextlib.ExitStack() as stack:
        if message == 'twice':
            stack.enter_context(pytest.warns(UserWarning, match='Duplicate name'))
        _rewrite(path, change)
    with pytest.raises(ValueError, match=message):
        _read(path)


def test_damage_within_an_archive_is_found(tmp_path):
    path = tmp_path / 'w'
    array = _floats(100)
    torch_writer.write_archive(path, {'a': tensor(array), 'b': tensor(array + 1)})
    content = path.read_bytes()
    assert content.count(array.tobytes()) == 1
    path.write_bytes(content.replace(array.tobytes(), array[::-1].tobytes()))
    with open_weights(str(path)) as file:
        np.testing.assert_array_equal(file.read('b'), array + 1)
        with pytest.raises(ValueError, match='checksum of a tensor'):
            file.read('a')
        with mock.patch.object(zlib, 'crc32', side_effect=AssertionError):
            file.read('b')  # has been checked
    path.write_bytes(content.replace(b'_rebuild_tensor_v2', b'_rebuild_tensor_v3'))
    with pytest.raises(ValueError, match='checksum of its description'):
        _read(path)


@pytest.mark.parametrize('field', ['local signature', 'local length', 'size'])
def test_archives_whose_table_is_wrong_are_refused(tmp_path, field):
    path = tmp_path / 'w'
    torch_writer.write_archive(path, {'a': tensor(_floats(3))})
    content = bytearray(path.read_bytes())
    local = content.index(b'archive/data/0') - 30
    central = content.rindex(b'archive/data/0') - 46
    position, value = {
        'local signature': (local, b'PK\x03\x05'),
        'local length': (local + 28, b'\xff\xff'),
        'size': (central + 20, struct.pack('<II', 2**20, 2**20)),
    }[field]
    content[position : position + len(value)] = value
    path.write_bytes(content)
    with pytest.raises(ValueError, match='not where its table says'):
        _read(path)


@pytest.mark.parametrize(
    'old, new, message',
    [
        (1001, 1002, 'version is not 1001'),
        (['0', '1'], ['0'], 'list of storages'),
        (['0', '1'], ['1', '0'], 'not of the size'),
        (['0', '1'], ['0', '1', '1'], 'list of storages'),
    ],
)
def test_streams_that_do_not_fit_together_are_refused(tmp_path, old, new, message):
    path = tmp_path / 'w'
    torch_writer.write_stream(path, {'a': tensor(_floats(3)), 'b': tensor(_floats(4))})
    content = path.read_bytes()
    assert content.count(pickle.dumps(old, 2)) == 1
    path.write_bytes(content.replace(pickle.dumps(old, 2), pickle.dumps(new, 2)))
    with pytest.raises(ValueError, match=message):
        _read(path)


def test_truncation_is_found_when_the_file_is_opened(tmp_path):
    path = tmp_path / 'w'
    for write in WRITERS:
        write(path, {'a': tensor(_floats(3)), 'b': tensor(_floats(4))})
        path.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(ValueError, match='it is truncated'):
            open_weights(str(path))


def test_an_archive_without_checksums_is_read(tmp_path):
    # torch.serialization.set_crc32_options(False) leaves all of them zero.
    path = tmp_path / 'w'
    array = _floats(5)
    torch_writer.write_archive(path, {'a': tensor(array)})
    content = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            content = content.replace(struct.pack('<I', member.CRC), bytes(4))
    path.write_bytes(content)
    _assert_same(_read(path), {'a': array})


@both_formats
def test_memory_is_that_of_one_tensor(tmp_path, write):
    saved = {f'layer{i}': tensor(np.full(1 << 18, i, np.float32)) for i in range(20)}
    write(tmp_path / 'w', saved)
    del saved
    with open_weights(str(tmp_path / 'w')) as file:
        file.read('layer0')
        tracemalloc.start()
        for i in range(20):
            assert file.read(f'layer{i}')[-1] == i
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 4 << 20  # of 20 MB
