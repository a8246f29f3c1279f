"""Variables of the environment that libraries read by themselves."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator


@contextlib.contextmanager
def hidden(name: str) -> Iterator[None]:
    """As long as the context lasts, the variable is not set."""
    text = os.environ.pop(name, None)
    try:
        yield
    finally:
        if text is not None:
            os.environ[name] = text
