"""Runs the project's commands as their users do: each in a process of its own, or in this one."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import pathlib
import runpy
import signal
import subprocess
import sys
from unittest import mock

from absl import flags
from absl import logging as absl_logging

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


def call(script: str, *arguments, folder=ROOT) -> subprocess.CompletedProcess:
    """Do what `run` does in this process: TensorFlow takes longer to import than most commands
    take. What TensorFlow itself prints, and what is printed at exit, needs `run`.
    """
    known, streams = set(flags.FLAGS), (io.StringIO(), io.StringIO())
    handler, argv, code = absl_logging.get_absl_handler(), [*map(str, arguments)], 0
    if script == '-m':
        argv[0] = str(_module_file(argv[0]))
    else:
        argv = [str(ROOT / script), *argv]
    folder_before, on_interrupt = pathlib.Path.cwd(), signal.getsignal(signal.SIGINT)
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(sys, 'argv', argv))
        stack.enter_context(mock.patch.object(sys, 'path', [*sys.path]))
        stack.enter_context(mock.patch.dict(os.environ))
        stack.enter_context(mock.patch.object(handler.python_handler, 'stream', streams[1]))
        stack.enter_context(contextlib.redirect_stdout(streams[0]))
        stack.enter_context(contextlib.redirect_stderr(streams[1]))
        stack.callback(signal.signal, signal.SIGINT, on_interrupt)
        stack.callback(logging.root.removeHandler, handler)
        stack.callback(os.chdir, folder_before)
        os.chdir(folder)
        flags.FLAGS['verbosity'].unparse()  # what an earlier test has set stays no longer
        absl_logging.set_verbosity(absl_logging.INFO)
        try:
            runpy.run_path(argv[0], run_name='__main__')
        except SystemExit as exit:
            code = exit.code or 0
            if isinstance(code, str):  # which Python prints
                print(code, file=sys.stderr)
                code = 1
        finally:
            for flag in set(flags.FLAGS) - known:
                delattr(flags.FLAGS, flag)
    return subprocess.CompletedProcess(argv, code, *(stream.getvalue() for stream in streams))


def _module_file(module: str) -> pathlib.Path:
    """Return what `python -m module` runs. By its path it can be run in a process that has imported
    it, too.
    """
    path = ROOT / module.replace('.', '/')
    return path / '__main__.py' if path.is_dir() else path.with_suffix('.py')


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
