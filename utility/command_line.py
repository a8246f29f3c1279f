"""What all commands share: flags, `--help`, exit codes, and a quiet TensorFlow.

Exit codes: 0 success; 2 a mistake of the user, told in one line; 1 a failure at run time.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Callable

from absl import flags
from absl import logging as absl_logging


def _quiet_tensorflow() -> None:
    """Drops TensorFlow's start-up chatter and deprecation records by message; warnings stay."""
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
    # Gradients of grouped convolutions on a CPU exist in oneDNN only.
    os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '1')
    dropped = 'is deprecated and will be removed in a future version'
    logging.getLogger('tensorflow').addFilter(lambda record: dropped not in record.getMessage())


def _parse(argv: list[str], doc: str) -> list[str]:
    """Parses the flags; returns the positional arguments. Exits on --help and on errors."""
    if 'help' not in flags.FLAGS:
        flags.DEFINE_boolean('help', False, 'Show this help.', short_name='h')
    try:
        positional = flags.FLAGS(argv)[1:]
    except flags.Error as error:
        if any(word in ('--help', '-h', '-help') for word in argv):
            flags.FLAGS.mark_as_parsed()
            _print_help(doc)
        _fail(error)
    if flags.FLAGS.help:
        _print_help(doc)
    return positional


def _print_help(doc: str) -> None:
    names = ('__main__', sys.argv[0], 'utility.runner', 'utility.command_line')
    print(doc.strip() + '\n\nFlags:')
    by_module = flags.FLAGS.flags_by_module_dict()
    for module, entries in by_module.items():
        if module in names:
            for flag in sorted(entries, key=lambda f: f.name):
                default = '' if flag.default in (None, [], '') else f' [{flag.default}]'
                print(f'  --{flag.name}: {flag.help}{default}')
    sys.exit(0)


def _fail(error: Exception) -> None:
    message = ' '.join(str(error).split())
    print(f'error: {message}', file=sys.stderr)
    sys.exit(2)


def run(main: Callable[[list[str]], None], doc: str) -> None:
    """Runs a command: `main(positional arguments)`, with flags parsed and errors told.

    A ValueError or OSError is taken for a mistake in what the user gave; anything else keeps its
    traceback.
    """
    _quiet_tensorflow()
    positional = _parse(sys.argv, doc)
    absl_logging.use_absl_handler()
    absl_logging.set_verbosity(absl_logging.INFO)
    try:
        main(positional)
    except (ValueError, OSError) as error:
        if os.environ.get('KEYPOINTS_TRACEBACK'):
            traceback.print_exc()
        _fail(error)
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr)
        sys.exit(1)


def no_positional(positional: list[str]) -> None:
    """Refuses words that belong to no flag."""
    if positional:
        raise ValueError(f'unexpected argument {positional[0]!r}; flags look like --name=value')
