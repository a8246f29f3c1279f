"""Imports of TensorFlow, and other work that makes many objects at once, in less time."""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import sys
from collections.abc import Iterator, Sequence

# Keras and Estimator import them only to accept what they define.
_LATE = ('h5py', 'pandas')
_HIDDEN = ('scipy',)


def import_tensorflow() -> None:
    """Import TensorFlow in a command, which hands it nothing of SciPy."""
    with of_tensorflow():
        import tensorflow  # noqa: F401
    gc.freeze()


@contextlib.contextmanager
def of_tensorflow(hidden: Sequence[str] = _HIDDEN) -> Iterator[None]:
    """Import what is of TensorFlow, and other modules that it imports when they are first used.

    Args:
        hidden: Modules that it does not find.
    """
    hidden = [name for name in hidden if name not in sys.modules]
    with uncollected():
        for name in _LATE:
            _import_late(name)
        try:
            sys.modules.update(dict.fromkeys(hidden))
            yield
        finally:
            for name in hidden:
                del sys.modules[name]


def _import_late(name: str) -> None:
    """Import a module that is loaded when something of it is asked for."""
    spec = None if name in sys.modules else importlib.util.find_spec(name)
    if spec is not None:
        spec.loader = importlib.util.LazyLoader(spec.loader)
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)


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
