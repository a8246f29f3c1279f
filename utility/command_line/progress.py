"""How far long work has come, a bar on a terminal, plain lines otherwise; and how fast it goes."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

import tqdm

Item = TypeVar('Item')

SECONDS_PER_LINE = 10.0


def track(iterable: Iterable[Item], total: int | None, label: str) -> Iterator[Item]:
    """Pass the items on and report on standard error how many there were.

    Args:
        iterable: Consumed lazily.
        total: How many items are expected, or None where that is not known.
        label: What is being done, such as 'writing records'.
    """
    if sys.stderr.isatty():
        return iter(tqdm.tqdm(iterable, desc=label, total=total, dynamic_ncols=True))
    return _track_in_lines(iterable, total, label)


def _track_in_lines(iterable: Iterable[Item], total: int | None, label: str) -> Iterator[Item]:
    start = last = time.monotonic()
    count = 0
    for count, item in enumerate(iterable, 1):
        yield item
        now = time.monotonic()
        if now - last >= SECONDS_PER_LINE:
            last = now
            _print_line(label, count, total, now - start)
    _print_line(label, count, total, time.monotonic() - start)


def _print_line(label: str, count: int, total: int | None, seconds: float) -> None:
    share = f'/{total} ({100 * count // total} %)' if total else ''
    rate = f', {count / seconds:.1f}/s' if seconds > 0 else ''
    print(f'{label}: {count}{share}, {seconds:.0f} s{rate}', file=sys.stderr, flush=True)


class Stopwatch:
    """Pictures per second of a prediction, by being called with each row that is done, from 0 on.

    The first batch of each network and pass, for which its graph is made, does not count.

    Args:
        batch_size: Rows that are done at a time.
        passes: How often each picture is looked at, from row 0 on.
    """

    def __init__(self, batch_size: int, passes: int = 1):
        self._batch_size, self._passes = batch_size, passes
        self._stretches: list[tuple[float, int, float]] = []  # begin, rows, seconds since

    def __call__(self, row: int) -> None:
        now = time.perf_counter()
        begin = now if row == 0 else self._stretches.pop()[0]
        self._stretches.append((begin, row + 1, now - begin))

    def rate(self) -> float:
        """Return pictures per second, all passes together; NaN where all fit into one batch."""
        known = [(rows, s) for _, rows, s in self._stretches if rows > self._batch_size]
        seconds = sum(rows * s / (rows - self._batch_size) for rows, s in known)
        return sum(rows for rows, _ in known) / self._passes / seconds if seconds else float('nan')
