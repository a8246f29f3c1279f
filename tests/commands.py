"""Runs the project's commands as their users do, each in a process of its own."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys

_SIGNALLED = """
import importlib, os, runpy, sys
place, number, kind_of_signal = sys.argv[1], *map(int, sys.argv[2:4])
module, _, name = place.rpartition('.')
try:
    owner = importlib.import_module(module)
except ImportError:
    module, _, kind = module.rpartition('.')
    owner = getattr(importlib.import_module(module), kind)
original, calls = getattr(owner, name), [0]
def counted(*args, **kwargs):
    calls[0] += 1
    if calls[0] == number:
        os.kill(os.getpid(), kind_of_signal)
    return original(*args, **kwargs)
setattr(owner, name, counted)
sys.argv = sys.argv[4:]
sys.path.insert(0, os.path.dirname(sys.argv[0]))
runpy.run_path(sys.argv[0], run_name='__main__')
"""

ROOT = pathlib.Path(__file__).resolve().parent.parent


def users_environment() -> dict[str, str]:
    """Return this environment, except that the command decides what TensorFlow logs."""
    return {k: v for k, v in os.environ.items() if k != 'TF_CPP_MIN_LOG_LEVEL'}


def run(
    script: str, *arguments, folder=ROOT, timeout=400, **environment: str
) -> subprocess.CompletedProcess:
    """Run `python script arguments` in a folder; the path of the script is below the root, or the
    script is '-m' and the first argument a module.
    """
    return subprocess.run(
        [sys.executable, script if script == '-m' else ROOT / script, *map(str, arguments)],
        cwd=folder,
        env={**users_environment(), **environment},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def signalled(place: str, number: int, how: signal.Signals = signal.SIGKILL) -> list[str]:
    """Return words between `python` and a script, with which it gets a signal from itself: at the
    n-th call of the function at a place, before that does anything.
    """
    return ['-c', _SIGNALLED, place, str(number), str(int(how))]


def rerun_test(file: str, *arguments) -> str:
    """Run the `__main__` of a file of tests, for what needs a process; what it has printed."""
    done = run(file, *arguments, PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stderr
    return done.stdout


def check_mistake(done: subprocess.CompletedProcess, message: str) -> None:
    """Check that a command has shown a mistake of its user in one line, which holds the message."""
    assert (done.returncode, done.stdout) == (2, ''), done.stderr
    [line] = done.stderr.splitlines()
    assert line.startswith('error: ')
    assert message in line
