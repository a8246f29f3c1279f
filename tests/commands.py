"""Runs the project's commands as their users do, each in a process of its own."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

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
