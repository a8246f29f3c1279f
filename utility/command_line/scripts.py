"""What all commands share: flags, `--help`, exit codes, and a quiet TensorFlow.

Exit codes: 0 success; 2 a mistake of the user, told in one line; 1 a failure at run time, told in
one line where it is known what it means, and with its traceback otherwise. Imports neither
TensorFlow nor anything else that is slow, so that help and mistakes in flags answer at once.
"""

from __future__ import annotations

import difflib
import errno
import io
import logging
import os
import re
import shutil
import signal
import stat
import sys
import textwrap
import threading
import traceback
import warnings
from collections.abc import Callable

from absl import flags
from absl import logging as absl_logging

from config import MAX_SEED, UserError
from preprocessing import files, graph_messages
from utility.command_line import environment

_HELP_WORDS = ('-h', '-help', '--help', '--helpshort', '--helpfull')
# Set to anything: the traceback of a mistake is printed as well.
_TRACEBACK_VARIABLE = 'KEYPOINTS_TRACEBACK'
# Of the value of a flag that is no number that makes sense, in a message.
_SHOWN_DIGITS = 20
# A path that is wrong, as opposed to a full disk or a lost connection.
_WRONG_PATH = (
    FileExistsError,
    FileNotFoundError,
    IsADirectoryError,
    NotADirectoryError,
    PermissionError,
)
# The same, without a class of its own: a file system that is read only, a name that is too long,
# links in a circle, a device that is not there.
_WRONG_PATH_NUMBERS = (errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP, errno.ENXIO, errno.EISDIR)
_WRONG_PATH_IN_TENSORFLOW = ('NotFoundError', 'PermissionDeniedError')
# And of its other errors those that end with the words of the system.
_WRONG_PATH_WORDS = re.compile(
    rf'^[^\n]*/[^\n]*(; ({"|".join(map(os.strerror, _WRONG_PATH_NUMBERS))})| is not a directory)$',
    re.MULTILINE,
)
# A disk that is full, a quota or a limit on the size of a file that is reached.
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class RunError(Exception):
    """A failure at run time whose message tells all there is to know; exit code 1."""


class _Pipe(io.FileIO):
    """Standard output whose reader may leave, as `head` does; what is written then goes nowhere.

    The work goes on: it may have files to write.
    """

    reader_left = False

    def write(self, data) -> int | None:
        try:
            return super().write(data)
        except BrokenPipeError:
            self.reader_left = True
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())
            return super().write(data)


class LineFormatter(logging.Formatter):
    """The time, the level where it is more than INFO, the message and any traceback."""

    def __init__(self, time_format: str = '%H:%M:%S'):
        super().__init__(datefmt=time_format)

    def format(self, record: logging.LogRecord) -> str:
        level = f'{record.levelname.lower()}: ' if record.levelno > logging.INFO else ''
        return f'{self.formatTime(record, self.datefmt)} {level}{super().format(record)}'


def run(main: Callable[[list[str]], None], doc: str) -> None:
    """Run a command: `main(positional arguments)`, with flags parsed and errors told.

    Flags and positional arguments may come in any order; all after '--' is positional. A UserError
    and an absent or forbidden path are mistakes in what the user gave; a RunError and a full disk
    are told in one line, too; anything else keeps its traceback.

    Args:
        main: The work; imports what is slow inside.
        doc: What `--help` says above the flags: the script's docstring.
    """
    interrupts = _raised_interrupts()
    threading.excepthook = _tell_of_thread
    _open_streams()
    pipe = _wrapped_pipe()
    _quiet_tensorflow()
    absl_logging.use_absl_handler()
    absl_logging.get_absl_handler().setFormatter(LineFormatter())
    flags.FLAGS.set_default('verbosity', absl_logging.INFO)
    try:
        positional = _parse(sys.argv, doc)
        with files.inputs_kept():
            main(positional)
        sys.stdout.flush()
        if pipe and pipe.reader_left:
            sys.exit(1)
    except BrokenPipeError:
        # Of another output than standard output. Python flushes once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr)
        sys.exit(1)
    except Exception as error:
        if interrupts:  # some imports turn it into an error of their own
            print('interrupted', file=sys.stderr)
            sys.exit(1)
        message, code = _mistake(error), 2
        if message is None:
            message, code = _failure(error), 1
        if message is None:
            raise
        if os.environ.get(_TRACEBACK_VARIABLE):
            traceback.print_exc()
        _fail(message, code)


def _raised_interrupts() -> list[int]:
    """Let Ctrl-C raise KeyboardInterrupt from now on; the list grows with each.

    Before, it ends the process at once: see utility/__init__.py.
    """
    interrupts = []

    def interrupt(number, frame):
        interrupts.append(number)
        raise KeyboardInterrupt

    if signal.getsignal(signal.SIGINT) in (signal.SIG_DFL, signal.default_int_handler):
        signal.signal(signal.SIGINT, interrupt)
    return interrupts


def no_positional(positional: list[str]) -> None:
    """Refuse words that belong to no flag.

    Raises:
        UserError: There are any.
    """
    if positional:
        raise UserError(f'unexpected argument {positional[0]!r}; flags look like --name=value')


def define_dataset() -> None:
    """Define --dataset of commands that read CSVs, of which none tells whose it is."""
    flags.DEFINE_string(
        'dataset',
        'fashionai',
        'Whose categories and keypoints the CSVs have: a name, or the path of a schema file.',
    )


def _open_streams() -> None:
    """Make standard streams that are closed lead nowhere, and those that are not write anything.

    A file that is opened gets the number of a stream that is closed, and all that is printed.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
    for name in ('stdout', 'stderr'):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, 'w'))  # noqa: PTH123, SIM115
        elif hasattr(getattr(sys, name), 'reconfigure'):
            getattr(sys, name).reconfigure(errors='backslashreplace')


def _wrapped_pipe() -> _Pipe | None:
    """Make standard output a _Pipe, where it is a pipe; returns it."""
    if type(sys.stdout) is not io.TextIOWrapper:  # a test's
        return None
    number = sys.stdout.fileno()
    if not stat.S_ISFIFO(os.fstat(number).st_mode):
        return None
    sys.stdout.flush()
    pipe = _Pipe(number, 'w', closefd=False)
    how = {'encoding': sys.stdout.encoding, 'errors': sys.stdout.errors}
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(pipe), **how, write_through=sys.stdout.write_through
    )
    return pipe


def _quiet_tensorflow() -> None:
    """Drop start-up chatter and notices of deprecation by message; other warnings stay."""
    # From 2 down XLA complains of the CPU whenever one more thread augments pictures. What stops
    # the work is raised in Python, too.
    environment.quiet_tensorflow(level=3)
    environment.use_onednn()
    dropped = (
        'is deprecated and will be removed in a future version',
        # In a cluster the Estimator trains only; the run loop evaluates.
        '`eval_strategy` is not passed in',
    )
    tensorflow_logger = logging.getLogger('tensorflow')
    tensorflow_logger.addFilter(lambda record: not any(d in record.getMessage() for d in dropped))
    # What the Estimator says of its every step, the run loop says better.
    tensorflow_logger.setLevel(logging.WARNING)
    warnings.filterwarnings('ignore', message=r'\s*TensorFlow Addons \(TFA\) has ended development')
    # Of its own code, when a strategy hands out the batches inside an Estimator.
    warnings.filterwarnings('ignore', message='To make it possible to preserve tf.data options')


def _parse(argv: list[str], doc: str) -> list[str]:
    """Parse the flags; return the positional arguments. Exits on --help and on errors."""
    before_dashes = argv[1 : argv.index('--')] if '--' in argv else argv[1:]
    asked = [word for word in before_dashes if word in _HELP_WORDS]
    if asked:
        print(_help(doc, with_absl='--helpfull' in asked))
        sys.exit(0)
    # Without it absl would take all that follows the first positional argument for positional.
    flags.FLAGS.set_gnu_getopt(True)
    try:
        positional = flags.FLAGS(argv)[1:]
    except flags.UnrecognizedFlagError as error:
        _fail(_unknown_flag(error.flagname))
    except flags.Error as error:
        _fail(str(error))
    for flag in _defined_flags():
        # What a variable of the shell that is not set leaves; not the same as no flag.
        if flag.present and flag.value in ('', []):
            _fail(f'--{flag.name}= is empty; give it a value or leave it out')
        # No number is larger than that of a seed may be, or is none; what takes memory, or
        # processes, has limits of its own.
        is_number = flag.present and isinstance(flag.value, (int, float))
        if is_number and not abs(flag.value) <= MAX_SEED:
            most = f'must be a number of at most {MAX_SEED}'
            _fail(f'--{flag.name}={str(flag.value)[:_SHOWN_DIGITS]}: {most}')
    return positional


def _defined_flags(with_absl: bool = False) -> list[flags.Flag]:
    """Return the flags of the script and then of what it imported, as they were defined."""
    by_module = flags.FLAGS.flags_by_module_dict()
    modules = [name for name in by_module if with_absl or not name.startswith('absl.')]
    modules.sort(key=lambda name: name != sys.argv[0])
    return [flag for name in modules for flag in by_module[name]]


def _help(doc: str, with_absl: bool) -> str:
    width = min(100, shutil.get_terminal_size().columns)
    lines = [doc.strip(), '', 'Flags:']
    for flag in _defined_flags(with_absl):
        name = f'--[no]{flag.name}' if flag.boolean else f'--{flag.name}'
        # absl adds how to repeat a flag, after a semicolon, on a line of its own.
        said = ' '.join((flag.help or '').partition(';\n')[0].split())
        text = f'{name}: {said}{_default(flag)}'
        lines += textwrap.wrap(
            text, width, initial_indent='  ', subsequent_indent=' ' * 6, break_on_hyphens=False
        )
    if not with_absl:
        lines += ['', "--helpfull lists absl's flags too, such as --verbosity and --flagfile."]
        lines += [f'With {_TRACEBACK_VARIABLE}=1 set, an error tells where it comes from.']
    return '\n'.join(lines)


def _default(flag: flags.Flag) -> str:
    """Return the flag's default in brackets, as typed; nothing where it is empty or false."""
    value = flag.default
    if isinstance(value, (list, tuple)):
        value = ','.join(map(str, value))
    if flag.boolean:
        value = 'true' if value else ''
    return '' if value in (None, '') else f' [{value}]'


def _unknown_flag(name: str) -> str:
    known = [flag.name for flag in _defined_flags()] or list(flags.FLAGS)
    close = difflib.get_close_matches(name, known, n=1)
    return f'unknown flag --{name}; ' + (
        f'did you mean --{close[0]}?' if close else '--help lists the flags'
    )


def _mistake(error: Exception) -> str | None:
    """Return what to tell the user of a mistake of theirs; None if the error is not one."""
    if isinstance(error, UserError):
        return str(error)
    # Readers of pictures and of gzip raise an OSError without a number on a broken file.
    numbers = (None, *_WRONG_PATH_NUMBERS)
    if isinstance(error, _WRONG_PATH) or (isinstance(error, OSError) and error.errno in numbers):
        # What is renamed has two names, of which the user knows the one that is meant.
        name = error.filename if error.filename2 is None else error.filename2
        return f'{name}: {error.strerror}' if name is not None and error.strerror else str(error)
    if isinstance(error, UnicodeEncodeError):
        # Of what is written, which may be a whole table, the cell.
        name = re.search('[^\n,"]*[\ud800-\udfff][^\n,"]*', error.object)
        if name:
            return f'{name.group()!a}: is no UTF-8; give the file another name'
    if isinstance(error, ValueError) and str(error) == 'embedded null byte':
        return 'a path holds a null byte, which no name of a file has'
    faulty = graph_messages.find(graph_messages.FAULTY_RECORD, error)
    if faulty:
        return faulty
    kinds = [k.__name__ for k in type(error).__mro__ if k.__module__.startswith('tensorflow.')]
    is_wrong = any(kind in _WRONG_PATH_IN_TENSORFLOW for kind in kinds)
    if is_wrong or (kinds and _WRONG_PATH_WORDS.search(getattr(error, 'message', ''))):
        # Around the message stands where in the graph it happened.
        return re.sub(r'^\{\{.*?\}\} | \[Op:\w+\] name:.*$', '', _sentence(error.message))
    return None


def _sentence(message: str) -> str:
    """Return the line of a message of TensorFlow that tells what is wrong: the first, or where that
    tells of a graph only, the first that has the system's words.
    """
    lines = message.strip().split('\n')
    words = '|'.join(map(os.strerror, (errno.ENOENT, errno.EACCES, errno.EPERM)))
    told = (line for line in lines if re.search(words, line))
    return next(told, lines[0]) if lines[0] == 'Graph execution error:' else lines[0]


def _failure(error: Exception) -> str | None:
    """Return what to tell of a failure at run time; None if only the traceback tells it."""
    if isinstance(error, RunError):
        return str(error)
    # TensorFlow's writer of events raises a RuntimeError.
    from_system = isinstance(error, (OSError, RuntimeError))
    if not (from_system or type(error).__module__.startswith('tensorflow.')):
        return None
    # TensorFlow gives the words and not the number, in one of many lines.
    reasons = '|'.join(map(os.strerror, _NO_SPACE))
    found = re.search(rf'^.*({reasons}).*$', getattr(error, 'message', str(error)), re.MULTILINE)
    if found is None:
        return None
    path = re.search(r"[^\s;:'\"]*/[^\s;:'\"]*", found.group())
    return (
        f'{path.group() if path else "a file"}: {found.group(1)}; what was complete before is '
        'still there; make room and run the same command again'
    )


def _tell_of_thread(arguments) -> None:
    """Tell what ended a thread: a failure that is understood in one line, as in the main thread.

    TensorFlow's writer of events fails in a thread first, and in the main one when that waits.
    """
    understood = None
    if isinstance(arguments.exc_value, Exception) and not os.environ.get(_TRACEBACK_VARIABLE):
        understood = _failure(arguments.exc_value)
    if understood is None:
        threading.__excepthook__(arguments)
    else:
        print('warning: ' + ' '.join(understood.split()), file=sys.stderr)


def _fail(message: str, code: int = 2) -> None:
    print('error: ' + ' '.join(message.split()), file=sys.stderr)
    sys.exit(code)
