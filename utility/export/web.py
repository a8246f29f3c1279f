"""A static page that runs the network in the browser, by ONNX Runtime Web.

Everything lies in the folder: any server of static files will do, and nothing leaves the visitor's
computer. The runtime is a package of npm; it is fetched once, checked, and kept.
"""

from __future__ import annotations

import hashlib
import io
import os
import pathlib
import shutil
import tarfile
import urllib.error
import urllib.request
from collections.abc import Sequence

from config import UserError
from preprocessing import files
from utility.command_line.scripts import RunError
from utility.export import onnx
from utility.export.formats import FORMATS, Format, Settings
from utility.export.graph import ExportGraph
from utility.predict.exported import run_onnx
from utility.pretrained import packages

REGISTRY_VARIABLE = 'npm_config_registry'
_REGISTRY = 'https://registry.npmjs.org/'
_PACKAGE = 'onnxruntime-web-1.23.2.tgz'
_SIZE = 25_592_749  # bytes
_SHA256 = '0b8707d7efab9a2bea63564d66cad79e897cfd0bd627e5ae000488ffc1c45c7d'
# What the page loads of it, and under which terms.
_MEMBERS = (
    'package/dist/ort.wasm.min.mjs',
    'package/dist/ort-wasm-simd-threaded.mjs',
    'package/dist/ort-wasm-simd-threaded.wasm',
)
_RUNTIME = 'runtime'
_PAGE = pathlib.Path(__file__).with_name('web_page')
_TIMEOUT = 60.0  # s, between two pieces of an answer


def _write(graph: ExportGraph, settings: Settings, folder: str) -> Sequence[str]:
    names = list(onnx.write(graph, settings, folder))
    for path in sorted(_PAGE.iterdir()):
        shutil.copyfile(path, os.path.join(folder, path.name))
        names.append(path.name)
    os.makedirs(os.path.join(folder, _RUNTIME))
    for name, data in _unpacked(fetch_runtime()).items():
        pathlib.Path(folder, _RUNTIME, name).write_bytes(data)
        names.append(f'{_RUNTIME}/{name}')
    return names


def fetch_runtime() -> bytes:
    """Return the package of the runtime: kept from an earlier time, or fetched and kept.

    Raises:
        RunError: It cannot be fetched, or is not the package whose SHA-256 is known.
    """
    path = packages.cache_folder() / _PACKAGE
    if path.is_file():
        data = files.read_bytes(path)
        if _is_known(data):
            return data
    registry = os.environ.get(REGISTRY_VARIABLE) or _REGISTRY
    address = f'{registry.rstrip("/")}/onnxruntime-web/-/{_PACKAGE}'
    if not address.startswith(('https://', 'http://')):
        raise UserError(f'{REGISTRY_VARIABLE}={registry}: must begin with https:// or http://')
    try:
        with urllib.request.urlopen(address, timeout=_TIMEOUT) as answer:
            data = answer.read(_SIZE + 1)
    except (urllib.error.URLError, OSError) as error:
        raise RunError(
            f'{address} cannot be fetched: {getattr(error, "reason", error)}; put the file at '
            f'{path}, or set {REGISTRY_VARIABLE} to another registry of npm'
        ) from error
    if not _is_known(data):
        raise RunError(f'{address} is not the file that was expected: its SHA-256 is another')
    files.write_bytes(path, data)
    return data


def _is_known(data: bytes) -> bool:
    return len(data) == _SIZE and hashlib.sha256(data).hexdigest() == _SHA256


def _unpacked(data: bytes) -> dict[str, bytes]:
    """Return name -> content of the files that the page loads, of a package of known hash."""
    with tarfile.open(fileobj=io.BytesIO(data), mode='r:gz') as archive:
        return {
            member.rpartition('/')[2]: archive.extractfile(member).read() for member in _MEMBERS
        }


FORMATS.register('web')(Format(_write, run_onnx.start, ('float32',), 'onnxruntime'))
