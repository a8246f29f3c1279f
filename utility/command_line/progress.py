"""How far long work has come: a bar on a terminal, a plain line now and then otherwise."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

import tqdm

Item = TypeVar('Item')

SECONDS_PER_LINE = 10.0


def track(iterable: Iterable[Item], total: int | None, label: str) -> Iterator[Item]:
    """Pass the items on and reports on standard error how many there were.

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
