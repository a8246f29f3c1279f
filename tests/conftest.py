"""What holds for every test."""

import os
import signal

# Before anything imports TensorFlow.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '1')

# A shell that starts the tests in the background has them ignore Ctrl-C, and all that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

import hypothesis  # noqa: E402

# The same examples in every run, and no failure because the machine was busy.
hypothesis.settings.register_profile('fixed', derandomize=True, deadline=None, max_examples=50)
hypothesis.settings.load_profile('fixed')


def pytest_make_parametrize_id(config, val, argname):
    """Shorten what would make an id of up to a megabyte, which every process and report repeats."""
    is_long = isinstance(val, (str, bytes)) and len(val) > 100
    return f'{val[:20]!r} and {len(val) - 20:,} more' if is_long else None
