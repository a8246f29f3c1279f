"""Weights of this and other frameworks, read one tensor at a time and by nothing but their names.

Files come from anywhere, so they are not trusted: nothing in them is run or followed to another
file, and what does not fit together is an error of one line.

| kind | what |
|---|---|
| checkpoint | of TensorFlow: name-based, or the listing of an object-based one |
| keras | .h5 of Keras: weights or a whole model |
| safetensors | of any framework, as timm publishes |
| torch | .pth, .pt or .bin of torch.save, in its formats since 0.1.10; see torch_files.TorchFile |
"""

from __future__ import annotations

import contextlib
import math
import os
import pathlib
import re
import tempfile
import types
from collections.abc import Callable, Iterator, Mapping

import ml_dtypes
import numpy as np

from config import UserError
from utility.checkpoints import variables
from utility.pretrained import packages, torch_files

# Names with shapes, and what reads one of them in the type in which it is stored.
_Tensors = tuple[dict[str, tuple[int, ...]], Callable[[str], np.ndarray]]

_HEAD_BYTES = 512
_BINARY = (
    (0, b'\x89HDF\r\n\x1a\n', 'keras'),
    (0, b'PK\x03\x04', 'torch'),
    *((0, bytes([0x80, protocol]), 'torch') for protocol in (2, 3, 4, 5)),  # a pickle
    (4, b'\0\0\0\0{', 'safetensors'),  # after the lower half of the length of a JSON header
)
_SAFETENSORS_NUMBERS = frozenset(
    ('F64', 'F32', 'F16', 'BF16', 'I64', 'I32', 'I16', 'I8', 'U64', 'U32', 'U16', 'U8')
)
_FOREIGN = (
    (0, b'version https://git-lfs', 'a pointer of git-lfs: get the file itself by `git lfs pull`'),
    (0, b'\x1f\x8b', 'compressed by gzip: unpack it'),
    (257, b'ustar', 'a tar archive: unpack it; one of PyTorch before 0.1.10 must be saved anew'),
)
_MARKUP = (b'<!doctype', b'<html', b'<?xml', b'<head', b'<body')
# Of the files that a checkpoint consists of.
_CHECKPOINT_PART = re.compile(r'(.+)\.(index|meta|data-\d+-of-\d+)$')


class WeightFile(contextlib.AbstractContextManager):
    """An open file of weights; `open_weights` makes it. A context manager, which closes it.

    Attributes:
        path: As it was given.
        kind: 'checkpoint', 'keras', 'safetensors' or 'torch'.
        shapes: The shape of each tensor of floats or integers, by its name in the file: of Keras
            without ':0', of PyTorch without a 'module.' that all names share.
    """

    path: str
    kind: str
    shapes: Mapping[str, tuple[int, ...]]

    def __init__(self, path: str, kind: str, tensors: _Tensors, resources: contextlib.ExitStack):
        """Take over `resources`, which are closed with it."""
        self.path = path
        self.kind = kind
        self.shapes = types.MappingProxyType(tensors[0])
        self._load = tensors[1]
        self._resources = resources
        self._closed = False

    def read(self, name: str) -> np.ndarray:
        """Return one tensor, C-contiguous: floats of any width as float32, integers as they are.

        Raises:
            UserError: The numbers are damaged.
            ValueError: There is no such tensor, or the file is closed.
        """
        if self._closed:
            raise ValueError(f'{self.path!r} is closed')
        if name not in self.shapes:
            raise ValueError(f'{self.path!r} has no tensor {name!r}')
        with _blamed_on(self.path, 'it is damaged: '):
            stored = self._load(name)
            dtype = stored.dtype.newbyteorder('=') if stored.dtype.kind in 'iu' else np.float32
            with np.errstate(over='ignore', invalid='ignore'):
                return np.asarray(stored, dtype, order='C')

    def close(self) -> None:
        """Close the file; a second time does nothing."""
        self._closed = True
        self._resources.close()

    def __exit__(self, *_) -> None:
        self.close()


def open_weights(path: str) -> WeightFile:
    """Open weights of any kind; which one is told by the content, not by the name.

    Args:
        path: A file, a checkpoint's prefix or a directory of checkpoints; anything that
            tf.io.gfile opens. A file that is not local is copied, for as long as it is open.

    Raises:
        UserError: There is nothing, it is of no known kind, or it is damaged.
    """
    path = os.fspath(path)
    with contextlib.ExitStack() as resources:
        with _blamed_on(path):
            kind, place = _locate(path, resources)
        with _blamed_on(path, 'it is truncated or damaged: '):
            tensors = _OPENERS[kind](place, resources)
            if not tensors[0]:
                raise UserError('it holds no tensors')
            if kind != 'checkpoint':
                _check_sizes(tensors[0], os.path.getsize(place))
        return WeightFile(path, kind, tensors, resources.pop_all())


@contextlib.contextmanager
def _blamed_on(path: str, reason: str = '') -> Iterator[None]:
    """Make any error one line about the file.

    The readers of the formats have no list of what they raise for a malformed file: it is OSError,
    RuntimeError, KeyError, struct.error and more.

    Args:
        path: Of the file.
        reason: What an error means that is not worded for the user, that is, no ValueError.
    """
    try:
        yield
    except Exception as error:
        text = next(iter(str(error).splitlines()), '')[:400]
        text = text if isinstance(error, UserError) else f'{reason}{type(error).__name__}: {text}'
        raise UserError(f'cannot read weights from {path!r}: {text}') from error


def _locate(path: str, resources: contextlib.ExitStack) -> tuple[str, str]:
    """Return the kind of the weights and where to read them: locally, unless a checkpoint."""
    files = _file_system(path)
    if files.isdir(path) or files.exists(f'{path}.index'):
        return 'checkpoint', path
    if not files.exists(path):
        advice = packages.how_to_get(path)
        raise UserError('there is no such file or checkpoint' + (advice and f'; {advice}'))
    part = _CHECKPOINT_PART.match(path)
    if part and files.exists(f'{part.group(1)}.index'):
        raise UserError(f'it is a part of a checkpoint: give its prefix, {part.group(1)!r}')
    place = path
    if files is not os.path:
        place = os.path.join(resources.enter_context(tempfile.TemporaryDirectory()), 'weights')
        files.copy(path, place)
    return _kind(place), place


def _file_system(path: str):
    """Return what knows files and directories: os.path, or tf.io.gfile for paths like gs://..."""
    if '://' not in path:
        return os.path
    import tensorflow as tf

    return tf.io.gfile


def _kind(path: str) -> str:
    """Return the kind of a file, by its first bytes."""
    with pathlib.Path(path).open('rb') as file:
        head = file.read(_HEAD_BYTES)
    for position, magic, kind in _BINARY:
        if head.startswith(magic, position):
            return kind
    raise UserError(f'it is {_describe(head)}')


def _describe(head: bytes) -> str:
    """Return what a file is that holds no weights."""
    if not head:
        return 'empty'
    for position, magic, what in _FOREIGN:
        if head.startswith(magic, position):
            return what
    if head.lstrip().lower().startswith(_MARKUP):
        return 'a web page: a download has failed'
    if all(byte >= ord('\t') for byte in head):
        return 'a text'
    return 'neither of Keras (.h5), nor safetensors, nor of torch.save'


def _check_sizes(shapes: Mapping[str, tuple[int, ...]], file_size: int) -> None:
    """Refuse a tensor that a small file makes large by repeating elements."""
    for name, shape in shapes.items():
        if math.prod(shape) > file_size:
            raise UserError(f'{name!r} of shape {shape} is larger than the file')


def _is_number(dtype: object) -> bool:
    return np.dtype(dtype).kind in 'fiu' or dtype == ml_dtypes.bfloat16


def _open_checkpoint(path: str, resources: contextlib.ExitStack) -> _Tensors:
    reader, _ = variables.open_checkpoint(path)
    dtypes = reader.get_variable_to_dtype_map()
    shapes = {
        name: tuple(shape)
        for name, shape in reader.get_variable_to_shape_map().items()
        if _is_number(dtypes[name].as_numpy_dtype)
    }
    return shapes, reader.get_tensor


def _open_keras(path: str, resources: contextlib.ExitStack) -> _Tensors:
    import h5py

    from utility.pretrained import keras_files

    file = resources.enter_context(h5py.File(path, 'r'))
    weights = keras_files.find_weights(file)
    shapes = {n: dataset.shape for n, dataset in weights.items() if _is_number(dataset.dtype)}
    return shapes, lambda name: weights[name][()]


def _open_safetensors(path: str, resources: contextlib.ExitStack) -> _Tensors:
    import safetensors

    # Its NumPy arrays of bfloat16 need ml_dtypes, which names that type to NumPy.
    file = resources.enter_context(safetensors.safe_open(path, framework='numpy'))
    stored = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
    shapes = {
        name: tuple(tensor.get_shape())
        for name, tensor in stored.items()
        if tensor.get_dtype() in _SAFETENSORS_NUMBERS
    }
    return shapes, file.get_tensor


def _open_torch(path: str, resources: contextlib.ExitStack) -> _Tensors:
    file = torch_files.TorchFile(
        resources.enter_context(pathlib.Path(path).open('rb'))  # noqa: SIM115 - it is closed there
    )
    shapes = {n: t.shape for n, t in file.tensors.items() if _is_number(t.storage.dtype)}
    return shapes, file.read


_OPENERS = {
    'checkpoint': _open_checkpoint,
    'keras': _open_keras,
    'safetensors': _open_safetensors,
    'torch': _open_torch,
}
