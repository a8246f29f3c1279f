"""The pickle in which torch.save describes tensors, interpreted without running anything of it.

A pickle is a program: whoever unpickles it runs what its author wished. Here nothing is unpickled.
`pickletools` splits the stream into opcodes, and an interpreter of the few that describe
dictionaries of tensors makes plain containers and inert records. It has no way to import or call
anything, and refuses a pickle that asks for more, naming what it asked for.

The caller tells in the error which file it was; a malformed pickle may raise other errors than
ValueError here (IndexError, KeyError, TypeError, struct.error).
"""

from __future__ import annotations

import dataclasses
import pickletools
from collections.abc import Callable
from typing import BinaryIO

import ml_dtypes
import numpy as np

from config import UserError

# Of a NumPy array.
_MAX_DIMENSIONS = 32
_DTYPES = {
    f'torch.{name}Storage': np.dtype(dtype)
    for name, dtype in {
        'Float': '<f4',
        'Double': '<f8',
        'Half': '<f2',
        'BFloat16': ml_dtypes.bfloat16,
        'Long': '<i8',
        'Int': '<i4',
        'Short': '<i2',
        'Char': 'i1',
        'Byte': 'u1',
        'Bool': '?',
        'ComplexFloat': '<c8',
        'ComplexDouble': '<c16',
    }.items()
}


@dataclasses.dataclass(frozen=True)
class Storage:
    """A stored array of `size` elements."""

    key: str
    dtype: np.dtype
    size: int


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A strided view of a storage; offset and strides count elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def span(self) -> int:
        """The number of elements from the first to the last one."""
        if 0 in self.shape:
            return 0
        return 1 + sum((n - 1) * stride for n, stride in zip(self.shape, self.strides))


@dataclasses.dataclass(frozen=True)
class _Global:
    """The name of a function or type: all that is made of it."""

    name: str


def _are_counts(*values: object) -> bool:
    return all(type(value) is int and value >= 0 for value in values)


def _set_items(mapping: object, keys_and_values: list) -> None:
    if type(mapping) is not dict or len(keys_and_values) % 2:
        raise UserError('its pickle sets items of what is no dictionary')
    keys = keys_and_values[::2]
    # Not all keys are harmless: to hash deeply nested tuples overflows the C stack.
    if not all(key is None or type(key) in (str, int, float, bool) for key in keys):
        raise UserError('its pickle holds a dictionary whose keys are neither text nor numbers')
    mapping.update(zip(keys, keys_and_values[1::2]))


def _mapping() -> dict:
    """Return an OrderedDict, whose items are set later; not `dict`, which would take some here."""
    return {}


def _sizes(values: object = ()) -> tuple:
    if type(values) is not tuple or len(values) > _MAX_DIMENSIONS or not _are_counts(*values):
        raise UserError('a tensor has impossible sizes or strides')
    return values


def _tensor(storage, offset, shape, strides, requires_grad=False, hooks=None, flags=None) -> Tensor:
    """Return a tensor that stays within its storage."""
    if type(storage) is not Storage or not _are_counts(offset):
        raise UserError('a tensor has no storage')
    tensor = Tensor(storage, offset, _sizes(shape), _sizes(strides))
    if len(tensor.shape) != len(tensor.strides):
        raise UserError('a tensor has not as many strides as dimensions')
    if tensor.span and offset + tensor.span > storage.size:
        raise UserError(f'a tensor of shape {shape} reaches beyond storage {storage.key!r}')
    if flags:
        raise UserError('a tensor is stored negated or conjugated')
    return tensor


def _parameter(tensor, requires_grad=True, hooks=None) -> Tensor:
    if type(tensor) is not Tensor:
        raise UserError('a parameter holds no tensor')
    return tensor


# What a file may name and apply to arguments, and what stands for it here.
_BUILDERS: dict[str, Callable] = {
    'collections.OrderedDict': _mapping,
    'torch.Size': _sizes,
    'torch._utils._rebuild_tensor': _tensor,  # PyTorch 0.3, of early 2018
    'torch._utils._rebuild_tensor_v2': _tensor,
    'torch._utils._rebuild_parameter': _parameter,
}


class Machine:
    """The interpreter of one pickle.

    Attributes:
        storages: Every stored array that the pickle speaks of, by its key.
    """

    def __init__(self):
        self.storages: dict[str, Storage] = {}
        self._stack: list = []
        self._marks: list[int] = []
        self._memo: dict[int, object] = {}

    def load(self, stream: BinaryIO) -> object:
        """Return the object of the pickle that begins here; the stream is left behind its end.

        Returns:
            Numbers, text, tuples, lists and dictionaries of them, and `Tensor`s.

        Raises:
            UserError: The pickle holds something else.
        """
        for opcode, argument, _ in pickletools.genops(stream):
            if opcode.name == 'STOP':
                return self._pop(1)[0]
            if opcode.name not in _ACTIONS:
                what = f' {argument[:100]}' if isinstance(argument, str) else ''
                raise UserError(f'its pickle uses {opcode.name}{what}, which no weights need')
            _ACTIONS[opcode.name](self, argument)
        raise UserError('its pickle does not end')

    def _push(self, value: object) -> None:
        self._stack.append(value)

    def _pop(self, count: int) -> list:
        """Return the last values; never from below a mark."""
        start = len(self._stack) - count
        if start < (self._marks[-1] if self._marks else 0):
            raise UserError('its pickle takes more values than it has given')
        values = self._stack[start:]
        del self._stack[start:]
        return values

    def _pop_to_mark(self) -> list:
        values = self._pop(len(self._stack) - self._marks[-1])
        self._marks.pop()
        return values

    def _put(self, index: int) -> None:
        self._memo[index] = self._stack[-1]

    def _name(self, name: str) -> None:
        """Take the name 'module attribute' for what stands for it."""
        name = name.replace(' ', '.')
        if name not in _BUILDERS and name not in _DTYPES:
            raise UserError(
                f'it asks for {name[:100]}, which was neither imported nor run: only tensors by '
                'name are read. If you trust the file, save its state_dict alone with PyTorch'
            )
        self._push(_Global(name))

    def _apply(self) -> None:
        function, arguments = self._pop(2)
        if type(function) is not _Global or function.name not in _BUILDERS:
            raise UserError('its pickle calls what is no function')
        if type(arguments) is not tuple:
            raise UserError('its pickle calls a function without arguments')
        self._push(_BUILDERS[function.name](*arguments))

    def _drop_state(self) -> None:
        """Drop the attribute `_metadata` of dictionaries, which carries no weights."""
        owner, _ = self._pop(2)
        if type(owner) is not dict:
            raise UserError('its pickle sets attributes of what has none')
        self._push(owner)

    def _append(self, values: list) -> None:
        if type(self._stack[-1]) is not list:
            raise UserError('its pickle appends to what is no list')
        self._stack[-1].extend(values)

    def _set(self, keys_and_values: list) -> None:
        _set_items(self._stack[-1], keys_and_values)

    def _refer(self) -> None:
        """Refer to a stored array: ('storage', type, key, device, size), None before 1.6."""
        (identity,) = self._pop(1)
        if type(identity) is not tuple or identity[:1] != ('storage',):
            raise UserError('its pickle refers to something outside that is no storage')
        _, dtype, key, _, size, *part = identity
        if part not in ([], [None]):
            raise UserError('its pickle refers to a part of a storage')
        if type(dtype) is not _Global or dtype.name not in _DTYPES:
            raise UserError('its pickle refers to a storage of no type')
        if type(key) is not str or not _are_counts(size):
            raise UserError('its pickle refers to a storage without key or size')
        storage = Storage(key, _DTYPES[dtype.name], size)
        if self.storages.setdefault(key, storage) != storage:
            raise UserError(f'its pickle describes storage {key!r} in two ways')
        self._push(storage)


# All of protocol 2, the default of torch.save, that it uses.
_ACTIONS: dict[str, Callable[[Machine, object], None]] = {
    'PROTO': lambda machine, _: None,
    **dict.fromkeys(
        ('BININT', 'BININT1', 'BININT2', 'LONG1', 'BINFLOAT', 'BINUNICODE'), Machine._push
    ),
    'NONE': lambda machine, _: machine._push(None),
    'NEWTRUE': lambda machine, _: machine._push(True),
    'NEWFALSE': lambda machine, _: machine._push(False),
    'EMPTY_DICT': lambda machine, _: machine._push({}),
    'EMPTY_LIST': lambda machine, _: machine._push([]),
    'EMPTY_TUPLE': lambda machine, _: machine._push(()),
    'MARK': lambda machine, _: machine._marks.append(len(machine._stack)),
    'TUPLE': lambda machine, _: machine._push(tuple(machine._pop_to_mark())),
    'TUPLE1': lambda machine, _: machine._push(tuple(machine._pop(1))),
    'TUPLE2': lambda machine, _: machine._push(tuple(machine._pop(2))),
    'TUPLE3': lambda machine, _: machine._push(tuple(machine._pop(3))),
    'APPEND': lambda machine, _: machine._append(machine._pop(1)),
    'APPENDS': lambda machine, _: machine._append(machine._pop_to_mark()),
    'SETITEM': lambda machine, _: machine._set(machine._pop(2)),
    'SETITEMS': lambda machine, _: machine._set(machine._pop_to_mark()),
    **dict.fromkeys(('BINPUT', 'LONG_BINPUT'), Machine._put),
    **dict.fromkeys(
        ('BINGET', 'LONG_BINGET'), lambda machine, index: machine._push(machine._memo[index])
    ),
    'GLOBAL': Machine._name,
    'REDUCE': lambda machine, _: machine._apply(),
    'BUILD': lambda machine, _: machine._drop_state(),
    'BINPERSID': lambda machine, _: machine._refer(),
}
