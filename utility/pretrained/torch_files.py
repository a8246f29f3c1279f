"""Tensors in files of torch.save, without PyTorch: where they are, and reading one at a time.

Two containers are read: the zip archive of PyTorch 1.6 and later, and the stream of pickles and raw
storages of PyTorch 0.3 to 1.5 (2018 to 2020). `torch_pickles` says why nothing of a file can run.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

import numpy as np

from config import UserError
from utility.pretrained import torch_pickles
from utility.pretrained.torch_pickles import Storage, Tensor

# A description takes about 150 bytes a tensor; this is the room of 100,000 tensors. What it is made
# into can take a hundred times as much memory, so a larger one might exhaust the machine.
MAX_DESCRIPTION_BYTES = 16 << 20
# Where training scripts put the weights when they save more than these; the first that is there.
NESTED_KEYS = ('state_dict', 'model', 'model_state_dict', 'state_dict_ema')
# Put before every name by torch.nn.DataParallel.
PARALLEL_PREFIX = 'module.'

_STREAM_MAGIC = 0x1950A86A20F9469CFC6C
_STREAM_VERSION = 1001
_ZIP_HEADER = struct.Struct('<4s22xHH')  # signature, length of the name, length of the extra field
_ZIP_ENCRYPTED = 1
_CHUNK_BYTES = 1 << 20


class _Region(NamedTuple):
    """The bytes of one stored array in the file; their CRC-32, or 0 where none is stored."""

    offset: int
    size: int
    checksum: int = 0


class TorchFile:
    """The tensors of a file of torch.save.

    A dictionary of tensors is read; or one that holds it under a key of NESTED_KEYS, besides epoch,
    optimizer and the like. If all names begin with 'module.', that is left out. What is no tensor
    is skipped.

    Attributes:
        tensors: The description of each tensor, by name.

    Raises:
        UserError: The file is no such file, or asks for more than tensors. A malformed one may
            raise other errors as well, here and in `read`; the caller tells which file it was.
    """

    def __init__(self, file: BinaryIO):
        """Read the description; the file stays open, and with the caller."""
        self._file = file
        self._verified: set[_Region] = set()
        if file.read(len(zipfile.stringFileHeader)) == zipfile.stringFileHeader:
            saved, self._regions = _open_archive(file)
        else:
            saved, self._regions = _open_stream(file)
        self.tensors = _state_dict(saved)

    def read(self, name: str) -> np.ndarray:
        """Return one tensor in the type in which it is stored; bfloat16 is that of ml_dtypes.

        Memory for its span in the storage is used: that is, where tensors are not interleaved, for
        the tensor alone.
        """
        tensor = self.tensors[name]
        dtype = tensor.storage.dtype
        region = self._regions[tensor.storage.key]
        self._verify(region)
        self._file.seek(region.offset + tensor.offset * dtype.itemsize)
        size = tensor.span * dtype.itemsize
        data = np.fromfile(self._file, np.uint8, size)
        if len(data) != size:
            raise UserError('it is truncated')
        return np.lib.stride_tricks.as_strided(
            data.view(dtype), tensor.shape, [stride * dtype.itemsize for stride in tensor.strides]
        )

    def _verify(self, region: _Region) -> None:
        """Check the checksum of a stored array, at its first use."""
        if region in self._verified or not region.checksum:
            return
        self._file.seek(region.offset)
        checksum = 0
        for start in range(0, region.size, _CHUNK_BYTES):
            checksum = zlib.crc32(self._file.read(min(_CHUNK_BYTES, region.size - start)), checksum)
        if checksum != region.checksum:
            raise UserError('it is damaged: the checksum of a tensor does not fit')
        self._verified.add(region)


def _state_dict(saved: object) -> dict[str, Tensor]:
    if not isinstance(saved, dict):
        raise UserError('it holds no tensors by name')
    for candidate in [*(saved.get(key) for key in NESTED_KEYS), saved]:
        items = candidate.items() if isinstance(candidate, dict) else ()
        tensors = {n: t for n, t in items if isinstance(n, str) and isinstance(t, Tensor)}
        if tensors and all(name.startswith(PARALLEL_PREFIX) for name in tensors):
            return {name[len(PARALLEL_PREFIX) :]: t for name, t in tensors.items()}
        if tensors:
            return tensors
    raise UserError('it holds no tensors by name')


def _open_archive(file: BinaryIO) -> tuple[object, dict[str, _Region]]:
    """Return a zip archive's content and the places of its arrays, NAME/data/KEY."""
    regions = {}
    for name, region in _members(file):
        if name in regions:
            raise UserError(f'it holds {name!r} twice')
        regions[name] = region
    roots = [name[: -len('data.pkl')] for name in regions if name.split('/', 1)[-1] == 'data.pkl']
    if len(roots) != 1:
        raise UserError('it is a zip archive, but not one of torch.save: it has no data.pkl')
    (root,) = roots
    order = regions.get(f'{root}byteorder')
    if order and _bytes(file, order) != b'little':
        raise UserError('its numbers are big-endian; only little-endian ones are read')
    machine = torch_pickles.Machine()
    saved = machine.load(io.BytesIO(_bytes(file, regions[f'{root}data.pkl'])))
    arrays = {key: regions.get(f'{root}data/{key}') for key in machine.storages}
    for key, storage in machine.storages.items():
        if not arrays[key] or arrays[key].size != storage.size * storage.dtype.itemsize:
            raise UserError(f'storage {key!r} is missing or not of the size that is described')
    return saved, arrays


def _members(file: BinaryIO) -> Iterator[tuple[str, _Region]]:
    """Yield the name and place of each member of a zip archive, which must be stored as it is."""
    size = file.seek(0, io.SEEK_END)
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
    except zipfile.BadZipFile as error:
        raise UserError(f'it is truncated or damaged: {error}') from error
    for member in members:
        if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & _ZIP_ENCRYPTED:
            raise UserError(f'{member.filename!r} in it is compressed; torch.save never does so')
        file.seek(member.header_offset)
        signature, name_length, extra_length = _ZIP_HEADER.unpack(file.read(_ZIP_HEADER.size))
        start = member.header_offset + _ZIP_HEADER.size + name_length + extra_length
        if signature != zipfile.stringFileHeader or start + member.file_size > size:
            raise UserError(f'{member.filename!r} in it is not where its table says')
        yield member.filename, _Region(start, member.file_size, member.CRC)


def _bytes(file: BinaryIO, region: _Region) -> bytes:
    """Return a small member of the archive."""
    if region.size > MAX_DESCRIPTION_BYTES:
        raise UserError(f'its description takes more than {MAX_DESCRIPTION_BYTES} bytes')
    file.seek(region.offset)
    data = file.read(region.size)
    if region.checksum and zlib.crc32(data) != region.checksum:
        raise UserError('it is damaged: the checksum of its description does not fit')
    return data


def _open_stream(file: BinaryIO) -> tuple[object, dict[str, _Region]]:
    """Return what a file of five pickles and raw storages holds, and where these are.

    The pickles: a magic number, a version, the machine it was written on, the object, and the keys
    of the storages in their order. Each storage is its number of elements and the elements.
    """
    file.seek(0)
    stream = io.BytesIO(file.read(MAX_DESCRIPTION_BYTES))
    if torch_pickles.Machine().load(stream) != _STREAM_MAGIC:
        raise UserError('it is a pickle, but not one of torch.save')
    if torch_pickles.Machine().load(stream) != _STREAM_VERSION:
        raise UserError(f'its version is not {_STREAM_VERSION}, the one that is known')
    if torch_pickles.Machine().load(stream).get('little_endian') is not True:
        raise UserError('its numbers are big-endian; only little-endian ones are read')
    machine = torch_pickles.Machine()
    saved = machine.load(stream)
    keys = torch_pickles.Machine().load(stream)
    if sorted(keys) != sorted(machine.storages):
        raise UserError('its list of storages is not that of its tensors')
    return saved, dict(_arrays(file, stream.tell(), [machine.storages[key] for key in keys]))


def _arrays(file: BinaryIO, start: int, storages: list[Storage]) -> Iterator[tuple[str, _Region]]:
    """Yield the key and place of each storage; the first begins at `start`."""
    end = file.seek(0, io.SEEK_END)
    for storage in storages:
        file.seek(start)
        (count,) = struct.unpack('<q', file.read(8))
        region = _Region(start + 8, storage.size * storage.dtype.itemsize)
        start = region.offset + region.size
        if count != storage.size:
            raise UserError(f'storage {storage.key!r} is not of the size that is described')
        if start > end:
            raise UserError('it is truncated')
        yield storage.key, region
