"""Measured commands, each of which prints a table with ratios: `python -m benchmarks.networks`."""

import utility  # noqa: F401, before all that may not be installed
