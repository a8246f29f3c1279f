"""The log of a run on disk: `train.log` in its directory, all log lines of all its trainings.

Lines are kept in memory until the run has a directory, and added to what earlier trainings left.
"""

from __future__ import annotations

import contextlib
import logging
import logging.handlers
import os
import sys
from collections.abc import Callable, Iterator

from absl import logging as absl_logging

from preprocessing.files import exists, open_to_add
from utility.command_line.scripts import LineFormatter

FILE = 'train.log'

_DATE = '%Y-%m-%d %H:%M:%S'
_ASIDE = 'for_the_file_only'  # an attribute of a record
# More lines than are logged before a run has its directory.
_WAITING = 10_000


class _ToFile(logging.StreamHandler):
    """Says once, in a line, that the file cannot be written; lines go to the terminal as ever."""

    _has_failed = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802, the name is logging's
        if not self._has_failed:
            self._has_failed = True
            error = sys.exc_info()[1]
            print(f'warning: {FILE} lacks lines: {error}', file=sys.stderr)


@contextlib.contextmanager
def kept() -> Iterator[Callable[[str], None]]:
    """Keep what is logged in the body, and how the body ends if it fails.

    Yields:
        f(directory), to be called once the run has one; without a call nothing is written.
    """
    root, terminal = logging.getLogger(), absl_logging.get_absl_handler().python_handler
    keeper = logging.handlers.MemoryHandler(_WAITING, flushLevel=logging.CRITICAL + 1)
    with contextlib.ExitStack() as stack:
        root.addHandler(keeper)
        stack.callback(root.removeHandler, keeper)
        terminal.addFilter(_is_for_all)
        stack.callback(terminal.removeFilter, _is_for_all)

        def begin(directory: str) -> None:
            stream = stack.enter_context(_opened(os.path.join(directory, FILE)))
            stack.callback(keeper.close)
            keeper.setTarget(_ToFile(stream))
            keeper.target.setFormatter(LineFormatter(_DATE))
            keeper.flushLevel = logging.NOTSET  # from now on every line is written at once
            keeper.flush()

        try:
            yield begin
        except BaseException as error:
            failure = (type(error), error, error.__traceback__)
            ending = ('the training ends with', (), failure)
            keeper.handle(logging.LogRecord('', logging.ERROR, '', 0, *ending))
            raise


def log_aside(message: str, *values) -> None:
    """Log a line that is for the file only, because the terminal shows it in another way."""
    absl_logging.info(message, *values, extra={_ASIDE: True})


def _is_for_all(record: logging.LogRecord) -> bool:
    return not hasattr(record, _ASIDE)


def _opened(path: str):
    """Return the file, to be added to; a line that a killed process left unfinished is ended."""
    import tensorflow as tf

    is_torn = False
    if exists(path):
        with tf.io.gfile.GFile(path, 'rb') as file:
            size = file.size()
            file.seek(max(0, size - 1))
            is_torn = file.read(1) not in (b'', b'\n')
    file = open_to_add(path)
    file.write('\n' if is_torn else '')
    return file
