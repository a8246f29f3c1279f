"""Signals end what they should end, whatever Python does in that moment."""

from __future__ import annotations

import os
import signal
import time

import pytest

from utility.distribute import preemption


class _Signals:
    """Sends SIGTERM to this process when it is destroyed, and handles it there and then."""

    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0)


def test_a_signal_in_a_destructor_ends_the_body_all_the_same():
    start = time.monotonic()
    with pytest.raises(SystemExit) as left, preemption.at_once():
        _Signals()
        time.sleep(20)
    assert left.value.code == 128 + signal.SIGTERM
    assert time.monotonic() - start < 10


def test_signals_and_hooks_are_as_before_afterwards():
    before = signal.getsignal(signal.SIGTERM), preemption.sys.unraisablehook
    with pytest.raises(SystemExit), preemption.at_once():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(20)
    assert (signal.getsignal(signal.SIGTERM), preemption.sys.unraisablehook) == before
