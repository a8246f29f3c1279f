"""Ends a process that hangs.

When a worker of a cluster dies, the others wait for it inside TensorFlow, for ever, and do not
listen to signals. What starts processes anew (Kubernetes, launch_local.py) sees nothing of
that: a process that has completed no step for long must end itself.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable

import tensorflow as tf
from absl import logging

# Of sysexits.h: a failure that may pass when it is tried again.
EXIT_CODE = 75
_LOOKS = 10  # in the time that is allowed


def _leave() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(EXIT_CODE)  # a thread cannot end the process otherwise


class Watchdog(tf.compat.v1.train.SessionRunHook):
    """Ends the process when no session it is a hook of has completed a run for so many minutes.

    Watches from its making until `stop`.

    Args:
        minutes: More than 0.
        leave: What ends the process.
    """

    def __init__(self, minutes: float, leave: Callable[[], None] = _leave):
        self._seconds, self._leave = 60 * minutes, leave
        self._last = time.monotonic()
        self._over = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def after_run(self, run_context, run_values):
        self._last = time.monotonic()

    def stop(self) -> None:
        self._over.set()

    def _watch(self) -> None:
        while not self._over.wait(self._seconds / _LOOKS):
            if time.monotonic() - self._last > self._seconds:
                logging.error(
                    'no step was completed for %g minutes: another process has died, or the '
                    'network is down; this one ends, to be started again (--stall_minutes)',
                    self._seconds / 60,
                )
                self._leave()
                return
