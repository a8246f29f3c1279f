"""Fair timing on a noisy machine.

What is compared is run in turn, round by round, so that a slow minute slows all of it alike; and
a fixed piece of work, the reference, is timed right before and after each run, so that a rate can
be given as a share of what the machine could do at that moment. Results are medians.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from benchmarks.common.isolated import FailedError
from utility.statistics.medians import Summary

_REFERENCE_SIDE = 1024
_REFERENCE_SECONDS = 0.1
_never = object()  # what no function returns


class Run(NamedTuple):
    """One timed run.

    Attributes:
        seconds: It took.
        reference: FLOP/s of the reference, the mean of right before and right after.
    """

    seconds: float
    reference: float


def seconds_of(action: Callable[[], Any]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def text(summary: Summary, factor: float = 1.0) -> str:
    """Return a summary times a factor, such as '12.3 ± 0.4', in about three digits."""
    median, spread = summary.median * factor, summary.spread * factor
    digits = 0 if median >= 100 else 1 if median >= 10 else 2
    return f'{median:.{digits}f}' + (f' ± {spread:.{digits}f}' if summary.count > 1 else '')


def matrix_product() -> Callable[[], float]:
    """Return the reference: () -> FLOP/s of a float32 product of 1024 x 1024 matrices, just now."""
    import tensorflow as tf

    side = _REFERENCE_SIDE
    matrix_a, matrix_b = (tf.random.stateless_normal([side, side], [n, n]) for n in (1, 2))

    def rate() -> float:
        count, start = 0, time.perf_counter()
        while time.perf_counter() - start < _REFERENCE_SECONDS:
            tf.matmul(matrix_a, matrix_b).numpy()
            count += 1
        return count * 2 * side**3 / (time.perf_counter() - start)

    rate()
    return rate


def beside_reference(
    actions: Mapping[str, Callable[[], Any]], reference: Callable[[], float]
) -> dict[str, Run]:
    """Run each action once, the reference before, between and after them."""
    runs, before = {}, reference()
    for name, action in actions.items():
        seconds = seconds_of(action)
        after = reference()
        runs[name] = Run(seconds, (before + after) / 2)
        before = after
    return runs


def rounds(
    actions: Mapping[str, Callable[[], Any]], repeats: int, max_seconds: float
) -> dict[str, list]:
    """Interleave functions in this process; return what each returned, time after time.

    Raises:
        FailedError: One of them failed.
    """
    members = {name: iter(action, _never) for name, action in actions.items()}
    measurements, failures = interleave(members, repeats, max_seconds)
    for name, reason in failures.items():
        raise FailedError(f'{name}: {reason}')
    return measurements


def interleave(
    members: Mapping[str, Iterator[Any]], repeats: int, max_seconds: float
) -> tuple[dict[str, list], dict[str, str]]:
    """Ask each member for its next measurement, in rounds, every other one in reverse order.

    Args:
        members: Iterators that measure when they are asked.
        repeats: The most measurements of each member.
        max_seconds: A member that has used up so much time is asked no more. Each is asked once.

    Returns:
        The measurements of each member, at least one, and why others failed.
    """
    measurements: dict[str, list] = {name: [] for name in members}
    used = dict.fromkeys(members, 0.0)
    failures: dict[str, str] = {}
    for number in range(repeats):
        active = [
            n
            for n in members
            if n not in failures and (not measurements[n] or used[n] < max_seconds)
        ]
        for name in active if number % 2 == 0 else reversed(active):
            start = time.perf_counter()
            try:
                measurements[name].append(next(members[name]))
            except FailedError as error:
                failures[name] = str(error)
            used[name] += time.perf_counter() - start
    return {name: values for name, values in measurements.items() if name not in failures}, failures
