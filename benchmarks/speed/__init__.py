"""The parts of `python -m benchmarks`, what they compare with, and fair timing."""
