"""SIGTERM, which a cloud sends before it takes a machine, and Ctrl-C: no step is lost to them."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator

import tensorflow as tf
from absl import logging

v1 = tf.compat.v1

# Signal -> its name in the log. A process ends with 128 + signal then, 143 or 130, by convention.
_SIGNALS = {signal.SIGTERM: 'SIGTERM', signal.SIGINT: 'Ctrl-C'}
_CONVENTION = 128
_OUT_OF_DESTRUCTOR = 0.1  # seconds


class _Stop(v1.train.SessionRunHook):
    """Ends the training after the step in which a signal has come."""

    def __init__(self):
        self.signal: int | None = None
        self.runs = False

    def after_create_session(self, session, coord):
        self.runs = True

    def after_run(self, run_context, run_values):
        if self.signal is not None:
            run_context.request_stop()


@contextlib.contextmanager
def at_once() -> Iterator[None]:
    """Let a signal end the body at once: what it does can be done again."""
    with _handling(functools.partial(_leave, 'what was saved is there')):
        yield


@contextlib.contextmanager
def after_saving() -> Iterator[v1.train.SessionRunHook]:
    """Let a signal end the training in the body at its next step, with a checkpoint.

    A second one, and one before the first step, ends it at once.

    Yields:
        A hook for the training.
    """
    stop = _Stop()

    def handle(number: int) -> None:
        if stop.signal is not None or not stop.runs:
            _leave('what was saved is there', number)
        stop.signal = number
        logging.warning('%s: the training stops after this step', _SIGNALS[number])

    with _handling(handle):
        yield stop
        if stop.signal is not None:
            _leave('a checkpoint is saved', stop.signal)


@contextlib.contextmanager
def _handling(handle: Callable[[int], None]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # Python handles signals in the main thread only
        return
    unraisable_hook, sys.unraisablehook = sys.unraisablehook, _send_again
    before = {signum: signal.getsignal(signum) for signum in _SIGNALS}
    # What a shell starts in the background is to ignore Ctrl-C.
    handled = [signum for signum, handler in before.items() if handler != signal.SIG_IGN]
    for signum in handled:
        signal.signal(signum, lambda number, frame: handle(number))
    try:
        yield
    finally:
        sys.unraisablehook = unraisable_hook
        for signum in handled:
            signal.signal(signum, before[signum])


def _send_again(unraisable) -> None:
    """Send a signal again whose exit was lost, because a destructor ran when it came."""
    if isinstance(unraisable.exc_value, SystemExit):
        number = unraisable.exc_value.code - _CONVENTION
        timer = threading.Timer(_OUT_OF_DESTRUCTOR, os.kill, (os.getpid(), number))
        timer.daemon = True
        timer.start()
    else:
        sys.__unraisablehook__(unraisable)


def _leave(state: str, number: int) -> None:
    name = _SIGNALS[number]
    logging.warning('ended by %s; %s, the same command goes on from there', name, state)
    raise SystemExit(_CONVENTION + number)
