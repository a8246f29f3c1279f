"""Writes files as torch.save does, without PyTorch: classes of its names are in the pickles."""

from __future__ import annotations

import collections
import dataclasses
import io
import pickle
import struct
import sys
import types
import zipfile
from unittest import mock

import ml_dtypes
import numpy as np

_TYPES = {
    'Float': np.float32,
    'Double': np.float64,
    'Half': np.float16,
    'BFloat16': ml_dtypes.bfloat16,
    'Long': np.int64,
    'Int': np.int32,
    'Byte': np.uint8,
    'Bool': np.bool_,
}
PROTOCOL = 2  # the default of torch.save
MAGIC = 0x1950A86A20F9469CFC6C
MACHINE = {
    'protocol_version': 1001,
    'little_endian': True,
    'type_sizes': {'short': 2, 'int': 4, 'long': 4},
}


def _modules() -> dict[str, types.ModuleType]:
    """Return what a pickle of PyTorch names, to be imported while it is written."""
    content = {
        'torch': [f'{name}Storage' for name in _TYPES] + ['Size'],
        'torch._utils': ['_rebuild_tensor', '_rebuild_tensor_v2', '_rebuild_parameter'],
        'torch.nn.parameter': ['Parameter'],
    }
    modules = {}
    for module, names in content.items():
        modules[module] = types.ModuleType(module)
        for name in names:
            setattr(modules[module], name, type(name, (), {'__module__': module}))
    modules['torch.nn'] = types.ModuleType('torch.nn')
    return modules


_MODULES = _modules()


@dataclasses.dataclass(eq=False)
class Storage:
    """A stored array.

    Attributes:
        array: Its elements, of one dimension.
        size: What the pickle says of their number, if not the truth.
    """

    array: np.ndarray
    size: int | None = None

    @property
    def type_name(self) -> str:
        return next(f'{n}Storage' for n, t in _TYPES.items() if self.array.dtype == t)


@dataclasses.dataclass(eq=False)
class Tensor:
    """A view of a storage, as PyTorch pickles it; offset and strides count elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    rebuild: str = '_rebuild_tensor_v2'
    flags: tuple = ()

    def __reduce__(self):
        view = (self.storage, self.offset, self.shape, self.strides)
        rest = (False, collections.OrderedDict()) if self.rebuild.endswith('_v2') else ()
        return getattr(_MODULES['torch._utils'], self.rebuild), view + rest + self.flags


@dataclasses.dataclass(eq=False)
class Call:
    """Another object of PyTorch: `name` of `module`, called with arguments; then set to a state."""

    module: str
    name: str
    arguments: tuple
    state: object = None

    def __reduce__(self):
        function = getattr(_MODULES[self.module], self.name)
        return (function, self.arguments) + ((self.state,) if self.state is not None else ())


def tensor(array) -> Tensor:
    """Return a tensor of its own storage, contiguous."""
    array = np.asarray(array)
    strides = np.zeros(array.shape, np.bool_).strides
    return Tensor(Storage(array.ravel()), 0, array.shape, strides)


class _Pickler(pickle.Pickler):
    """Names storages by their order, and keeps them in `storages`."""

    def __init__(self, file, legacy: bool):
        super().__init__(file, PROTOCOL)
        self.storages: list[Storage] = []
        self._legacy = legacy

    def persistent_id(self, obj):
        if not isinstance(obj, Storage):
            return None
        if not any(obj is known for known in self.storages):
            self.storages.append(obj)
        key = next(str(i) for i, known in enumerate(self.storages) if obj is known)
        size = obj.array.size if obj.size is None else obj.size
        kind = getattr(_MODULES['torch'], obj.type_name)
        return ('storage', kind, key, 'cpu', size) + ((None,) if self._legacy else ())


def _describe(saved, legacy: bool) -> tuple[bytes, list[Storage]]:
    stream = io.BytesIO()
    with mock.patch.dict(sys.modules, _MODULES):
        pickler = _Pickler(stream, legacy)
        pickler.dump(saved)
    return stream.getvalue(), pickler.storages


def write_archive(path, saved, *, description: bytes | None = None, **extra):
    """The zip archive of PyTorch 1.6 and later.

    Args:
        path: Of the file.
        saved: What to save.
        description: A pickle that is written in place of that of `saved`.
        extra: More members, name -> bytes, below the root.
    """
    pickled, storages = _describe(saved, legacy=False)
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_STORED) as archive:
        archive.writestr('archive/data.pkl', pickled if description is None else description)
        for i, storage in enumerate(storages):
            archive.writestr(f'archive/data/{i}', storage.array.tobytes())
        for name, content in {'byteorder': b'little', 'version': b'3\n', **extra}.items():
            archive.writestr(f'archive/{name}', content)


def write_stream(path, saved, *, description: bytes | None = None, machine=None):
    """The stream of PyTorch 0.3 to 1.5; arguments as of write_archive.

    Args:
        path: Of the file.
        saved: What to save.
        description: A pickle that is written in place of that of `saved`.
        machine: Changes of what it says of the machine.
    """
    pickled, storages = _describe(saved, legacy=True)
    keys = [str(i) for i in range(len(storages))]
    with path.open('wb') as file:
        for value in (MAGIC, 1001, {**MACHINE, **(machine or {})}):
            pickle.dump(value, file, PROTOCOL)
        file.write(pickled if description is None else description)
        pickle.dump(keys, file, PROTOCOL)
        for storage in storages:
            file.write(struct.pack('<q', storage.array.size) + storage.array.tobytes())
