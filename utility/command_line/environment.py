"""Variables of the environment that libraries read by themselves, and take no argument for.

All that this project sets or removes is here. Most must be set before TensorFlow is imported.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
from collections.abc import Iterator


@contextlib.contextmanager
def hidden(name: str) -> Iterator[None]:
    """Hide a variable as long as the context lasts."""
    text = os.environ.pop(name, None)
    try:
        yield
    finally:
        if text is not None:
            os.environ[name] = text


def remove(name: str) -> None:
    """Remove a variable for the rest of the process."""
    os.environ.pop(name, None)


def quiet_tensorflow(level: int) -> None:
    """Show only what is of this level and above, of what TensorFlow logs in C++.

    1 to 3: warnings, errors, fatal errors. Whatever the user has set stays.
    """
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', str(level))


def use_onednn() -> None:
    """Let TensorFlow compute by oneDNN, unless the user has set something else.

    Gradients of grouped convolutions on a CPU exist there only.
    """
    os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '1')


def hide_gpus() -> None:
    """Hide the GPUs from this process and its children, each of which would take memory."""
    os.environ['CUDA_VISIBLE_DEVICES'] = '-1'


def force_xla_on_cpu() -> None:
    """Let XLA compile whatever it can, also for a CPU."""
    os.environ['TF_XLA_FLAGS'] = '--tf_xla_auto_jit=2 --tf_xla_cpu_global_jit'


def describe_processor() -> str:
    """Return the processor and how many of its cores this process may use, in words."""
    path = pathlib.Path('/proc/cpuinfo')
    lines = path.read_text().splitlines() if path.exists() else []
    models = [line.split(':', 1)[1].strip() for line in lines if line.startswith('model name')]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
    return f'{models[0] if models else "unknown processor"}, {cores} cores'


def quiet_ffmpeg() -> None:
    """Keep FFmpeg from writing to standard error; before OpenCV first needs it."""
    os.environ.setdefault('OPENCV_FFMPEG_LOGLEVEL', '-8')
