"""What makes many objects at once, such as the import of TensorFlow, in less time."""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Iterator

# Keras and Estimator import them to accept what they define; no command hands them any of it.
_ACCEPTED = ('h5py', 'pandas', 'scipy')


def import_tensorflow() -> None:
    """Import TensorFlow in a command, which then lasts; a program that imports it for itself may
    want all of it.
    """
    with of_tensorflow():
        import tensorflow  # noqa: F401
    gc.freeze()


@contextlib.contextmanager
def of_tensorflow() -> Iterator[None]:
    """Import what is of TensorFlow, in a command, without what it takes for the types alone."""
    hidden = [name for name in _ACCEPTED if name not in sys.modules]
    with uncollected():
        try:
            sys.modules.update(dict.fromkeys(hidden))
            yield
        finally:
            for name in hidden:
                del sys.modules[name]


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Look for no garbage: objects that are to stay are gone through again and again otherwise,
    the more often the more there are.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
