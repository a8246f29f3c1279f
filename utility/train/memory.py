"""How much memory the process holds: told after each evaluation, so that growth is seen early."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from absl import logging

_STATUS = '/proc/self/status'  # of Linux
_RESIDENT = 'VmRSS:'


def resident_mb() -> float:
    """Return the process's memory that is not swapped out, MB."""
    lines = Path(_STATUS).read_text().splitlines()
    [line] = [line for line in lines if line.startswith(_RESIDENT)]
    return int(line.split()[1]) / 1024


def tell(step: int, metrics: Mapping[str, float]) -> None:
    """Log the memory in use; an evaluation callback."""
    del metrics
    logging.info('step %d: %.0f MB of memory in use', step, resident_mb())
