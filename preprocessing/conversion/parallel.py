"""Work in several processes, in order, with little in flight."""

from __future__ import annotations

import collections
import concurrent.futures
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

_TASKS_PER_WORKER = 3  # one at work, the others so that no process waits for its next


class Workers:
    """Processes that apply functions to items; with fewer than two it is done in this process.

    A context manager. The processes are spawned, so that the threads of this one do not matter, and
    end when this one ends, even if it is killed.
    """

    def __init__(self, num_workers: int):
        self._num_workers = num_workers
        self._executor: concurrent.futures.ProcessPoolExecutor | None = None

    def __enter__(self) -> Workers:
        if self._num_workers > 1:
            self._executor = concurrent.futures.ProcessPoolExecutor(
                self._num_workers,
                mp_context=multiprocessing.get_context('spawn'),
                initializer=_start_worker,
            )
        return self

    def __exit__(self, *exception) -> None:
        if self._executor:
            self._executor.shutdown(cancel_futures=True)

    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        """Yield function(item) in the order of the items, which are taken as they are needed.

        Args:
            function: A function of a module; it and the items must survive pickling.
        """
        if not self._executor:
            yield from map(function, items)
            return
        in_flight: collections.deque = collections.deque()
        for item in items:
            in_flight.append(self._executor.submit(function, item))
            if len(in_flight) >= _TASKS_PER_WORKER * self._num_workers:
                yield in_flight.popleft().result()
        while in_flight:
            yield in_flight.popleft().result()


def _start_worker() -> None:
    # Ctrl-C reaches the whole group; the parent alone answers it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Have a worker end with its parent, which cannot stop it when killed itself."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)
