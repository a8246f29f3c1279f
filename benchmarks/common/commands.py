"""Commands as users run them, timed from their start to their end."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import NamedTuple

from benchmarks.common.isolated import FailedError
from benchmarks.common.recipes import ROOT
from utility.statistics.medians import Summary, summarize


class Cost(NamedTuple):
    """What a command took.

    Attributes:
        seconds: From its start to its end.
        memory: GiB, the most that it or one of its processes had. Linux counts what the caller had
            when it started the command, so that a caller should be small.
        out: What it printed.
        cpu_seconds: Of all cores, of it and its processes: what else the machine does is not in it.
    """

    seconds: float
    memory: float
    out: str
    cpu_seconds: float = 0.0


def run(*words: str) -> Cost:
    """Run `python WORDS...` in the root of the project.

    Raises:
        FailedError: It exits with something else than 0; tells the last line of what it said.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        start = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, *words],
            cwd=ROOT,
            stdout=out,
            stderr=err,
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode(errors='replace'))
    if process.returncode:
        last = (texts[1].strip() or '-').splitlines()[-1]
        raise FailedError(f'{" ".join(words)}: exit code {process.returncode}: {last}')
    cpu_seconds = usage.ru_utime + usage.ru_stime
    return Cost(seconds, usage.ru_maxrss / 2**20, texts[0], cpu_seconds)


def seconds_until(text: str, *words: str) -> float:
    """Run `python WORDS...` until a line of its standard error holds a text, and end it.

    Returns:
        Seconds from its start to that line.

    Raises:
        FailedError: It ends before; tells the last line.
    """
    line, start = '-', time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *words],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        for line in process.stderr:
            if text in line:
                return time.perf_counter() - start
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
    raise FailedError(f'{" ".join(words)}: ends before {text!r}: {line.strip()}')


def seconds_of(costs: Sequence[Cost]) -> Summary:
    return summarize([cost.seconds for cost in costs])


def memory_of(costs: Sequence[Cost]) -> float:
    """Return GiB, the most of several."""
    return max(cost.memory for cost in costs)
