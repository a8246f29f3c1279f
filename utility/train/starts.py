"""How a run was started: the command, code and versions of each start, in MODEL_DIR/starts.json."""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
import sys
from importlib import metadata
from typing import Any

from config import UserError
from preprocessing import files

FILE = 'starts.json'
_PACKAGES = ('tensorflow-cpu', 'tensorflow', 'tensorflow-addons', 'numpy')
_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_GIT_SECONDS = 10


def keep(model_dir: str) -> None:
    """Add this start to those that a run has kept.

    Raises:
        UserError: The file of those is broken.
    """
    path = os.path.join(model_dir, FILE)
    files.write_bytes(path, files.json_bytes([*read(path), describe()]), rewrites=True)


def read(path: str) -> list[dict[str, Any]]:
    """Return the starts in a file, in their order; none where there is no file.

    Raises:
        UserError: The file is not a list of starts.
    """
    if not files.exists(path):
        return []
    try:
        starts = json.loads(files.read_bytes(path))
    except (ValueError, RecursionError) as error:
        raise UserError(f'{path} is broken: {error}; remove it') from error
    if not isinstance(starts, list):
        raise UserError(f'{path} is broken: no list; remove it')
    return starts


def describe() -> dict[str, Any]:
    """Describe this process: when, which command where, what code, which versions."""
    return {
        'time': datetime.datetime.now(datetime.timezone.utc).isoformat(timespec='seconds'),
        'command': sys.argv,
        'folder': os.getcwd(),
        'commit': commit(_ROOT),
        'python': platform.python_version(),
        'packages': {name: version for name in _PACKAGES if (version := _version(name))},
        'machine': platform.platform(),
    }


def commit(folder: str) -> str | None:
    """Return the commit that a folder is at, with '+' if it holds changes; None where git tells
    none.
    """
    words = ['git', '-C', folder, 'describe', '--always', '--abbrev=40', '--dirty=+', '--exclude=*']
    options = {'capture_output': True, 'text': True, 'check': True, 'timeout': _GIT_SECONDS}
    try:
        return subprocess.run(words, **options).stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return None


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
