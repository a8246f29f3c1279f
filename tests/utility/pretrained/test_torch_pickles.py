"""Pickles in files of torch.save: none is run, whatever it asks for, and none takes much memory."""

from __future__ import annotations

import collections
import copyreg
import os
import pickle
import pickletools
import struct
import tracemalloc

import numpy as np
import pytest

from tests import torch_writer
from utility.pretrained import torch_files
from utility.pretrained.files import open_weights

both_formats = pytest.mark.parametrize(
    'write', [torch_writer.write_archive, torch_writer.write_stream]
)


def _open(path) -> None:
    with open_weights(str(path)):
        pass


class _Reduce:
    """Is unpickled by a call."""

    def __init__(self, function, *arguments):
        self._call = function, arguments

    def __reduce__(self):
        return self._call


def _payloads() -> dict[str, bytes]:
    """Return pickles that create the file 'harm' in the working directory when they are
    unpickled.
    """
    command = b'echo > harm'
    text = b"S'%s'\n" % command
    nested = {'state_dict': collections.OrderedDict(a=[(_Reduce(os.system, command.decode()),)])}
    return {
        'reduce': pickle.dumps(_Reduce(os.system, command.decode()), 2),
        'eval': pickle.dumps(_Reduce(eval, "open('harm', 'w').close()"), 2),
        'exec': pickle.dumps(_Reduce(exec, "open('harm', 'w').close()"), 2),
        'stack_global': pickle.dumps(_Reduce(os.system, command.decode()), 4),
        'nested': pickle.dumps(nested, 2),
        'protocol_0': b'cos\nsystem\n(' + text + b'tR.',
        'inst': b'(' + text + b'ios\nsystem\n.',
        'obj': b'(cos\nsystem\n' + text + b'o.',
        'ext': b'\x80\x02\x82\xf0U\x0becho > harm\x85R.',
        'newobj': b'\x80\x02ctests.utility.pretrained.test_torch_pickles\nHarm\n)\x81.',
        'newobj_ex': b'\x80\x04ctests.utility.pretrained.test_torch_pickles\nHarm\n)}\x92.',
        'build': b'\x80\x02ctests.utility.pretrained.test_torch_pickles\nHarmful\n)\x81}b.',
        'dotted': b'\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x0becho > harm\x85R.',
        'from_allowed_module': b'\x80\x04\x8c\x0bcollections\x8c\x10_sys.modules.get\x93'
        b'\x8c\x02os\x85R0cos\nsystem\n\x8c\x0becho > harm\x85R.',
    }


class Harm:
    """Creates a file when it is made."""

    def __new__(cls, *_, **__):
        with open('harm', 'w'):  # noqa: PTH123
            return super().__new__(cls)


class Harmful:
    """Creates a file when its state is set."""

    def __setstate__(self, state):
        Harm()


PAYLOADS = _payloads()


@pytest.fixture
def _extension():
    """Code 240 of the registry of extensions means os.system."""
    copyreg.add_extension(os.system.__module__, 'system', 240)
    yield
    copyreg.remove_extension(os.system.__module__, 'system', 240)


@pytest.mark.usefixtures('_extension')
@both_formats
@pytest.mark.parametrize('name', PAYLOADS)
def test_harmful_pickles_are_refused_without_running(tmp_path, monkeypatch, write, name):
    monkeypatch.chdir(tmp_path)
    harm = tmp_path / 'harm'
    pickle.loads(PAYLOADS[name])
    assert harm.exists()  # this payload does run when it is unpickled
    harm.unlink()
    write(tmp_path / 'w', {}, description=PAYLOADS[name])
    with pytest.raises(ValueError, match='asks for|its pickle uses') as caught:
        _open(tmp_path / 'w')
    assert not harm.exists()
    assert str(tmp_path / 'w') in str(caught.value)
    harm.unlink(missing_ok=True)


@pytest.mark.parametrize('at', ['magic', 'version', 'machine', 'keys'])
def test_every_pickle_of_a_stream_is_guarded(tmp_path, monkeypatch, at):
    monkeypatch.chdir(tmp_path)
    torch_writer.write_stream(tmp_path / 'w', {'a': torch_writer.tensor(np.ones(2, np.float32))})
    content = (tmp_path / 'w').read_bytes()
    pickles = []
    for _ in range(5):
        length = 1 + max(position for _, _, position in pickletools.genops(content))
        pickles.append(content[:length])
        content = content[length:]
    pickles[{'magic': 0, 'version': 1, 'machine': 2, 'keys': 4}[at]] = PAYLOADS['reduce']
    (tmp_path / 'w').write_bytes(b''.join(pickles) + content)
    with pytest.raises(ValueError, match='system'):
        _open(tmp_path / 'w')
    assert not (tmp_path / 'harm').exists()


# A storage of one float, by the bytes of its key and size.
_STORAGE = b'(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000NK\x01tQ'


@both_formats
@pytest.mark.parametrize(
    'description, message',
    [
        (b'ctorch\nFloatStorage\n}X\x01\x00\x00\x00aK\x01sb.', 'attributes of what has none'),
        (b'ctorch._utils\n_rebuild_tensor_v2\n}X\x08\x00\x00\x00__code__K\x01sb.', 'attributes'),
        (b'ctorch\nFloatStorage\n)R.', 'calls what is no function'),
        (b'X\x01\x00\x00\x00a)R.', 'calls what is no function'),
        (b'ccollections\nOrderedDict\n]R.', 'without arguments'),
        (b'ccollections\nOrderedDict\nK\x05\x85R.', 'TypeError'),
        (b'ccollections\nOrderedDict\n]]K\x01aa\x85R.', 'TypeError'),
        (b'ctorch._utils\n_rebuild_parameter\nK\x05\x85R.', 'a parameter holds no tensor'),
        (b'ctorch._utils\n_rebuild_tensor\n(K\x01K\x00))tR.', 'a tensor has no storage'),
        (b'}}K\x01s.', 'neither text nor numbers'),
        (b'K\x05K\x01K\x02s.', 'no dictionary'),
        (b'}(K\x01u.', 'no dictionary'),
        (b'K\x05K\x01a.', 'no list'),
        (b'K\x01Q.', 'no storage'),
        (b'(X\x06\x00\x00\x00moduleK\x01K\x01K\x01K\x01tQ.', 'no storage'),
        (_STORAGE.replace(b'torch\nFloatStorage', b'collections\nOrderedDict'), 'of no type'),
        (_STORAGE.replace(b'ctorch\nFloatStorage\n', b'K\x05'), 'of no type'),
        (_STORAGE.replace(b'X\x01\x00\x00\x000', b'K\x00'), 'without key or size'),
        (_STORAGE.replace(b'K\x01t', b'Nt'), 'without key or size'),
        (_STORAGE + _STORAGE.replace(b'Float', b'Half'), 'in two ways'),
        (b'K\x01(K\x01\x86.', 'more values than it has given'),
        (b'\x86.', 'more values than it has given'),
        (b'.', 'more values than it has given'),
        (b'h\x05.', 'KeyError'),
        (b't.', 'IndexError'),
        (b'', 'exhausted'),
        (b'}\xff.', 'unknown'),
        (b'X\xff\xff\xff\x7fabc.', 'expected 2147483647 bytes'),
        (b'\x8c\x01a.', 'uses SHORT_BINUNICODE a, which no weights need'),
        (_STORAGE.replace(b'K\x01tQ', b'K\x01(NK\x00K\x01ttQ'), 'a part of a storage'),
        (b'}0.', 'uses POP, which no weights need'),
    ],
)
def test_malformed_descriptions_are_one_error(tmp_path, write, description, message):
    # In a stream, more pickles follow: cut off there.
    write(tmp_path / 'w', {}, description=b'\x80\x02' + description)
    if write is torch_writer.write_stream:
        content = (tmp_path / 'w').read_bytes()
        end = content.index(b'\x80\x02' + description) + 2 + len(description)
        (tmp_path / 'w').write_bytes(content[:end])
    with pytest.raises(ValueError, match=message) as caught:
        _open(tmp_path / 'w')
    assert str(caught.value).startswith(f"cannot read weights from '{tmp_path / 'w'}': ")
    assert '\n' not in str(caught.value)


@both_formats
@pytest.mark.parametrize(
    'description, message',
    [
        (b'K\x01' + b'\x85' * 10**5, 'no tensors'),
        (b']' * 10**5 + b'a' * (10**5 - 1), 'no tensors'),
        (b'}K\x01' + b'\x85' * 10**5 + b'K\x01s', 'neither text nor numbers'),  # to be hashed
        (b'(' * 10**5, 'more values than it has given'),
    ],
    ids=['tuples', 'lists', 'key', 'marks'],
)
def test_deep_nesting_is_an_error(tmp_path, write, description, message):
    write(tmp_path / 'w', {}, description=b'\x80\x02' + description + b'.')
    with pytest.raises(ValueError, match=message):
        _open(tmp_path / 'w')


@both_formats
@pytest.mark.parametrize(
    'description',
    [
        b'\x80\x02}r\xff\xff\xff\xff.',  # remembered at the last index that there is
        b'\x80\x02X\xff\xff\xff\xffa.',  # text of 4 GB
        # One list of pairs, made into a dictionary again and again.
        b'\x80\x02]'
        + b''.join(b']M%baNaa' % struct.pack('<H', i) for i in range(10**4))
        + b'q\x00ccollections\nOrderedDict\nq\x01]'
        + b'h\x01h\x00\x85Ra' * 10**3
        + b'.',
    ],
    ids=['memo', 'text', 'dictionaries'],
)
def test_small_descriptions_do_not_become_large(tmp_path, write, description):
    write(tmp_path / 'w', {}, description=description)
    tracemalloc.start()
    with pytest.raises(ValueError, match='cannot read weights from'):
        _open(tmp_path / 'w')
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 << 20


@pytest.mark.parametrize(
    'write, message',
    [
        (torch_writer.write_archive, 'description takes more than'),
        (torch_writer.write_stream, 'but only'),  # so many bytes remain of what is looked at
    ],
)
def test_large_descriptions_are_refused(tmp_path, write, message):
    text = b'X' + struct.pack('<I', torch_files.MAX_DESCRIPTION_BYTES)
    text += b'a' * torch_files.MAX_DESCRIPTION_BYTES
    write(tmp_path / 'w', {}, description=b'\x80\x02' + text + b'.')
    with pytest.raises(ValueError, match=message):
        _open(tmp_path / 'w')
