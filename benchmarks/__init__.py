"""Measured commands, each of which prints a table with ratios: `python -m benchmarks.networks`."""
