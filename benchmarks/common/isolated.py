"""Work in a process of its own: its memory is given back, and its crash is a result.

Imports nothing that is slow.
"""

from __future__ import annotations

import contextlib
import datetime
import logging
import multiprocessing
import os
import pathlib
import signal
import traceback
from collections.abc import Callable, Iterator
from typing import Any

from utility.command_line import environment

_GIB = 2**30
# A process that has not answered by then hangs.
_PATIENCE_SECONDS = 3600.0


class FailedError(RuntimeError):
    """A process ended before its work did; the message says why, in one line."""


class Remote:
    """An iterator over what a generator function yields in a process of its own.

    The process works only while it is asked: what one does between two results of another does not
    run beside it. Raises FailedError where the generator raises or the process is killed.

    Args:
        generate: A generator function of a module.
        arguments: Its arguments, which must survive pickling, as must what it yields.
        has_children: Whether it starts processes of its own. Such a process must be closed, or this
            one does not end.
    """

    def __init__(
        self,
        generate: Callable[..., Iterator[Any]],
        *arguments: Any,
        has_children: bool = False,
    ):
        context = multiprocessing.get_context('spawn')  # the threads of this process do not matter
        self._connection, other_end = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(other_end, generate, arguments), daemon=not has_children
        )
        self._process.start()
        other_end.close()  # or its end would not be noticed

    def __iter__(self) -> Remote:
        return self

    def __enter__(self) -> Remote:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def __next__(self) -> Any:
        try:
            self._connection.send(True)
            if not self._connection.poll(_PATIENCE_SECONDS):
                raise FailedError(f'no answer in {_PATIENCE_SECONDS:.0f} s')
            kind, value = self._connection.recv()
        except (EOFError, ConnectionError):
            self._process.join()
            raise FailedError(_exit_reason(self._process.exitcode)) from None
        if kind == 'error':
            raise FailedError(value)
        if kind == 'end':
            raise StopIteration
        return value

    def close(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()
        self._process.join()
        self._connection.close()


def call(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a function of a module returns, from a process of its own. Raises FailedError."""
    with Remote(_once, function, *arguments) as remote:
        return next(remote)


def _once(function: Callable[..., Any], *arguments: Any) -> Iterator[Any]:
    yield function(*arguments)


def _exit_reason(code: int | None) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        return f'killed by {name}' + (' (out of memory)' if name == 'SIGKILL' else '')
    return f'ended with exit code {code}'


def _serve(connection, generate: Callable, arguments: tuple) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the parent answers it
    # Where memory runs out this process is the one to go, not whatever else runs on the machine.
    with contextlib.suppress(OSError):
        pathlib.Path('/proc/self/oom_score_adj').write_text('1000')
    environment.quiet_tensorflow(level=2)
    environment.use_onednn()
    logging.getLogger('tensorflow').setLevel(logging.ERROR)  # notices of deprecation
    items = generate(*arguments)
    with contextlib.suppress(EOFError, ConnectionError):  # the parent has ended
        while connection.recv():
            try:
                connection.send(('item', next(items)))
            except StopIteration:
                connection.send(('end', None))
            except Exception as error:
                if os.environ.get('KEYPOINTS_TRACEBACK'):
                    traceback.print_exc()
                first_line = (str(error).strip() or '-').splitlines()[0]
                connection.send(('error', f'{type(error).__name__}: {first_line}'))
                return


def available_memory() -> tuple[float, float]:
    """Return GiB that processes could still take, and GiB that the machine has."""
    info = _fields('/proc/meminfo')
    return info['MemAvailable'] / _GIB, info['MemTotal'] / _GIB


def peak_memory() -> float:
    """Return the most memory that this process has had at any time, GiB."""
    return _fields('/proc/self/status')['VmHWM'] / _GIB


def _fields(path: str) -> dict[str, int]:
    """Return the fields of a file of Linux that are given in kB, in bytes."""
    lines = pathlib.Path(path).read_text().splitlines()
    words = [line.replace(':', ' ').split() for line in lines]
    return {word[0]: int(word[1]) * 1024 for word in words if word[2:] == ['kB']}


def describe_machine() -> str:
    """Return one line: processor, cores, memory, TensorFlow, date. Imports TensorFlow."""
    import tensorflow as tf

    return (
        f'{environment.describe_processor()}, {available_memory()[1]:.0f} GiB, '
        f'TensorFlow {tf.__version__}, {datetime.date.today().isoformat()}'
    )
