"""A command that is run in a folder until it succeeds, perhaps by one process after another.

What it prints is in FOLDER/output.log, when it ran in FOLDER/attempts.json. While it runs it holds
FOLDER/lock, even where the process that started it has been killed: the next one waits for it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import pathlib
import subprocess
import time
from collections.abc import Iterator, Sequence

from absl import logging

from preprocessing.files import write_bytes

OUTPUT = 'output.log'
_TIMES, _LOCK = 'attempts.json', 'lock'
_TOLD = 'error: '  # how the commands of this project begin the line that tells why they fail


class Attempts:
    """The attempts in a folder, which is made; use it as a context, which holds the lock."""

    def __init__(self, folder: pathlib.Path):
        self._folder = folder
        self._lock = None

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody else runs a command in the folder; waits for who does."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / _LOCK).open('w') as self._lock:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                logging.warning('%s: an earlier process still works; waiting for it', self._folder)
                fcntl.flock(self._lock, fcntl.LOCK_EX)
            yield

    def run(self, command: Sequence[str]) -> str:
        """Runs the command, in `alone`; why it failed, '' if it did not."""
        before = self._times()
        start = time.time()
        self._keep([*before, [start, None]])
        with (self._folder / OUTPUT).open('ab') as output:
            offset = output.tell()
            process = subprocess.Popen(
                command,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=[self._lock.fileno()],  # whoever has it open holds the lock
            )
            try:
                code = process.wait()
            finally:
                process.terminate()  # where waiting was interrupted
                process.wait()
                self._keep([*before, [start, time.time()]])
        if code == 0:
            return ''
        printed = (self._folder / OUTPUT).read_bytes()[offset:].decode(errors='replace')
        last = (printed.strip().splitlines() or [''])[-1].strip()
        if last.startswith(_TOLD):
            return last[len(_TOLD) :]
        ending = f'killed by signal {-code}' if code < 0 else f'exit code {code}'
        return f'{ending}: {last}' if last else ending

    def seconds(self) -> float:
        """That all attempts took."""
        return sum(end - start for start, end in self._times())

    def _times(self) -> list[list[float]]:
        """Start and end of each attempt; one whose end nobody saw ended with its last output."""
        path, output = self._folder / _TIMES, self._folder / OUTPUT
        times = json.loads(path.read_text()) if path.exists() else []
        return [
            [start, max(start, output.stat().st_mtime) if end is None else end]
            for start, end in times
        ]

    def _keep(self, times: Sequence) -> None:
        write_bytes(self._folder / _TIMES, json.dumps(times).encode())
