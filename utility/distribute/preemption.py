"""SIGTERM, which a cloud sends before it takes a machine away, ends a training without loss."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator

import tensorflow as tf
from absl import logging

v1 = tf.compat.v1

EXIT_CODE = 128 + signal.SIGTERM  # 143, by convention


class _Stop(v1.train.SessionRunHook):
    """Ends the training after the step in which `asked` has become true."""

    def __init__(self):
        self.asked = self.runs = False

    def after_create_session(self, session, coord):
        self.runs = True

    def after_run(self, run_context, run_values):
        if self.asked:
            run_context.request_stop()


@contextlib.contextmanager
def at_once() -> Iterator[None]:
    """SIGTERM ends the body at once: what it does can be done again."""
    with _handling(lambda: _leave('what was saved is there')):
        yield


@contextlib.contextmanager
def after_saving() -> Iterator[v1.train.SessionRunHook]:
    """SIGTERM ends the training in the body at its next step, with a checkpoint.

    A second one, and one before the first step, ends it at once.

    Yields:
        A hook for the training.
    """
    stop = _Stop()

    def handle():
        if stop.asked or not stop.runs:
            _leave('what was saved is there')
        stop.asked = True
        logging.warning('SIGTERM: the training stops after this step')

    with _handling(handle):
        yield stop
        if stop.asked:
            _leave('a checkpoint is saved')


@contextlib.contextmanager
def _handling(handle: Callable[[], None]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # Python handles signals in the main thread only
        return
    before = signal.signal(signal.SIGTERM, lambda number, frame: handle())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _leave(state: str) -> None:
    logging.warning('ended by SIGTERM; %s, the same command goes on from there', state)
    raise SystemExit(EXIT_CODE)
