"""File I/O of all commands: outputs are whole or not there, and harm nothing that is.

An output never goes through a symbolic link, never over a file that the same command reads, and
replaces nothing but a regular file; a device or a pipe is written to. What several files make up
stands in a directory that one process at a time writes.
"""

from __future__ import annotations

import contextlib
import csv
import errno
import fcntl
import io
import json
import os
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from config import UserError

PARTIAL_SUFFIX = '.partial'
_URL = re.compile(r'([A-Za-z][A-Za-z0-9.]*)://([^/]*)(.*)', re.DOTALL)  # as TensorFlow reads it
_DESCRIPTORS = re.compile(rf'/proc/{os.getpid()}(/task/[0-9]+)?/fd')
# A file system that locks no directory, or nothing at all.
_NO_LOCKS = (errno.EBADF, errno.EINVAL, errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
_LOCK_FILE = '.lock'

# (device, inode) -> real path of what the command that runs has read; None outside of commands.
_inputs: dict[tuple[int, int], str] | None = None


def local_path(path: str | os.PathLike) -> str | None:
    """Return the path as this machine knows it, 'file://' taken off; None if it is on another."""
    url = _URL.fullmatch(os.fspath(path))
    if url is None:
        return os.fspath(path)
    return url.group(3) if url.group(1) == 'file' else None


@contextlib.contextmanager
def inputs_kept() -> Iterator[None]:
    """Keep outputs from replacing what was read, in the body, which is a command's whole work."""
    global _inputs
    before, _inputs = _inputs, {}
    try:
        yield
    finally:
        _inputs = before


def keep(paths: Iterable[str | os.PathLike]) -> None:
    """Note files that the command reads, or will read."""
    if _inputs is not None:
        for path in filter(None, map(local_path, paths)):
            with contextlib.suppress(OSError, ValueError):  # reading it will tell
                _inputs[_identity(os.stat(path))] = os.path.realpath(path)


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _is_input(path: str, status: os.stat_result) -> bool:
    known = (_inputs or {}).get(_identity(status))
    if known is None:
        return False
    # Numbers of inodes are used again once their file is gone.
    return os.path.exists(known) and os.path.samefile(known, path)


def read_bytes(path: str | os.PathLike) -> bytes:
    """Return the content of a local or remote file. Raises OSError if it cannot be read."""
    local = local_path(path)
    if local is not None:
        keep([local])
        return Path(local).read_bytes()
    with _remote(path) as gfile, gfile.GFile(os.fspath(path), 'rb') as file:
        return file.read()


def _gfile() -> Any:
    import tensorflow as tf  # here, because it takes seconds

    return tf.io.gfile


def exists(path: str | os.PathLike) -> bool:
    """Return whether there is a file or a directory, local or remote."""
    local = local_path(path)
    return os.path.exists(local) if local is not None else _gfile().exists(os.fspath(path))


def is_folder(path: str | os.PathLike) -> bool:
    """Return whether there is a directory, local or remote."""
    local = local_path(path)
    return os.path.isdir(local) if local is not None else _gfile().isdir(os.fspath(path))


def names_in(folder: str) -> list[str]:
    """Return the names of what is in a directory, local or remote, sorted."""
    local = local_path(folder)
    names = os.listdir(local or '.') if local is not None else _gfile().listdir(folder)
    return sorted(name.rstrip('/') for name in names)


@contextlib.contextmanager
def _remote(path: str | os.PathLike) -> Iterator[Any]:
    """Give tf.io.gfile; what fails with it in the body is an OSError that names the path."""
    import tensorflow as tf  # here, because it takes seconds

    try:
        yield tf.io.gfile
    except tf.errors.OpError as error:
        raise OSError(f'{path}: {error.message}') from error


def read_regular(path: str | os.PathLike, most: int) -> bytes:
    """Return the content of a file that was found in data: of a regular one, as of read_bytes.

    Args:
        path: Local or remote.
        most: Bytes that are read.

    Raises:
        UserError: It is a pipe or a device, which may have no end, or it has more bytes.
        OSError: It cannot be read.
    """
    check_regular(path)
    local = local_path(path)
    size = os.stat(local).st_size if local is not None else 0
    data = read_bytes(path) if size <= most else b''
    if max(size, len(data)) > most:
        raise UserError(f'{path}: {max(size, len(data))} bytes; at most {most} are read')
    return data


def check_regular(path: str | os.PathLike) -> None:
    """Refuse a pipe or a device, which may have no end, where data should have a file.

    Raises:
        UserError: It is one. A directory, and what is not there, is told by whoever opens it.
    """
    local = local_path(path)
    if local is not None and os.path.exists(local):
        mode = os.stat(local).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise UserError(f'{path} is no regular file')


def check_name(path: str) -> None:
    """Refuse the name of a file that cannot be told in a table or a page.

    Raises:
        UserError: It is no UTF-8.
    """
    try:
        path.encode()
    except UnicodeEncodeError:
        raise UserError(f'{path!a}: is no UTF-8; give the file another name') from None


def open_bytes(path: str | os.PathLike) -> IO[bytes]:
    """Open a local or remote file to be read in parts. Raises OSError if it cannot be read."""
    local = local_path(path)
    if local is None:
        return io.BufferedReader(io.BytesIO(read_bytes(path)))
    keep([local])
    return Path(local).open('rb')


def write_bytes(path: str | os.PathLike, data: bytes, rewrites: bool = False) -> None:
    """Write a local or remote file: it is complete or as it was before. Makes its directory.

    Args:
        rewrites: Whether it is a record that the command keeps, and has read to change it.

    Raises:
        UserError: The output is a symbolic link, or a file that the command has read.
        OSError: It cannot be written.
    """
    local = local_path(path)
    make_folder(os.path.dirname(os.fspath(path)))
    if local is not None:
        with written_whole(local, rewrites) as partial:
            Path(partial).write_bytes(data)
        return
    with _remote(path) as gfile, written_whole(path) as part, gfile.GFile(part, 'wb') as file:
        file.write(data)


def write_folder(path: str, contents: Mapping[str, bytes]) -> list[str]:
    """Write several files that make up one output: all are there, or the directory is as before.

    Args:
        path: Of the directory, local or remote (there files appear one by one). It must be new or
            empty; a single file may also replace an earlier one.
        contents: Name below it, with '/' -> content. Names are not trusted.

    Returns:
        The paths of the files.

    Raises:
        UserError: A name leads out of the directory, two cannot both be files, or there is
            something in it.
        OSError: It cannot be written.
    """
    for name in contents:
        parents = [name[:place] for place, letter in enumerate(name) if letter == '/']
        if {'', '.', '..'} & set(name.split('/')) or any(parent in contents for parent in parents):
            raise UserError(f'{name[:80]!r} cannot be the name of a file in {path}')
    path = path.rstrip('/') or path
    paths, local = [os.path.join(path, name) for name in contents], local_path(path)
    if len(contents) == 1 or local is None:
        for target, content in zip(paths, contents.values()):
            write_bytes(target, content)
        return paths
    with folder_written_whole(path) as partial:
        for name, content in contents.items():
            write_bytes(os.path.join(partial, name), content)
    return paths


@contextlib.contextmanager
def folder_written_whole(path: str) -> Iterator[str]:
    """Give a directory beside `path` to write into; it becomes `path` once the body has succeeded.

    Args:
        path: Of the directory, local or remote (there it is written into, and files appear one by
            one). It must be new or empty.

    Raises:
        UserError: There is something in it, before or after the body.
    """
    path = path.rstrip('/') or path
    check_new_folder(path)
    local = local_path(path)
    if local is None:
        make_folder(path)
        yield path
        return
    make_folder(os.path.dirname(os.path.abspath(local)))
    parent, base = os.path.split(local)
    partial = tempfile.mkdtemp(prefix=f'{base}.', suffix=PARTIAL_SUFFIX, dir=parent or '.')
    try:
        yield partial
        os.chmod(partial, 0o755)
        check_new_folder(path)  # another process may have been faster
        os.rename(partial, local)  # which takes the place of an empty directory
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def make_folder(path: str) -> None:
    """Make a directory, local or remote, and those above it, where they are not there.

    Raises:
        OSError: It cannot be made.
    """
    local = local_path(path)
    if local is not None:
        os.makedirs(local or '.', exist_ok=True)
        return
    with _remote(path) as gfile:
        gfile.makedirs(path)


def check_new_folder(path: str) -> None:
    """Refuse a directory with something in it, or no directory; remote ones are not seen.

    Raises:
        UserError: It is one.
    """
    local = local_path(path.rstrip('/') or path)
    if local is not None and os.path.lexists(local):
        is_empty = os.path.isdir(local) and not os.path.islink(local) and not os.listdir(local)
        if not is_empty:
            raise UserError(f'{path} is not an empty directory; give a new one')


@contextlib.contextmanager
def written_whole(path: str | os.PathLike, rewrites: bool = False) -> Iterator[str]:
    """Give a path beside `path` to write to; renames it to `path` once the body has succeeded.

    A process that is killed leaves PATH.<its id>.partial, which the next one to write to the same
    local path removes.

    Args:
        path: Local, or anything tf.io.gfile opens.
        rewrites: As in write_bytes.

    Raises:
        UserError: As write_bytes does.
    """
    local = local_path(path)
    if local is None:
        with _written_remotely(os.fspath(path)) as partial:
            yield partial
    elif _check_output(local, rewrites):
        with _written_into(local) as partial:
            yield partial
    else:
        _remove_leftovers(Path(local))
        partial = f'{local}.{os.getpid()}{PARTIAL_SUFFIX}'
        try:
            # Nothing that stands there is followed, whoever has put it there.
            Path(partial).unlink(missing_ok=True)
            os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
            yield partial
            os.replace(partial, local)
        except OSError as error:
            # A full disk does not say which file it was; the user knows the one that is meant.
            if error.filename in (None, partial) and error.errno is not None:
                error.filename = local
            raise
        finally:
            with contextlib.suppress(OSError):  # a file system that has become read-only
                Path(partial).unlink(missing_ok=True)


def _remove_leftovers(path: Path) -> None:
    """Remove what processes that have ended left half written of a local path.

    Only regular files of this user; what cannot be removed stays.
    """
    of_process = re.compile(re.escape(path.name) + rf'\.(\d+){re.escape(PARTIAL_SUFFIX)}')
    with contextlib.suppress(OSError):
        for name in os.listdir(path.parent):
            found = of_process.fullmatch(name)
            if found and not _is_alive(int(found.group(1))):
                status = path.with_name(name).lstat()
                if stat.S_ISREG(status.st_mode) and status.st_uid == os.getuid():
                    path.with_name(name).unlink()


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)  # signals nothing
    except ProcessLookupError:
        return False
    except OverflowError:  # no process has such an id
        return False
    except PermissionError:
        return True
    return True


@contextlib.contextmanager
def _written_remotely(path: str) -> Iterator[str]:
    gfile, partial = _gfile(), f'{path}.{os.getpid()}{PARTIAL_SUFFIX}'
    try:
        yield partial
        gfile.rename(partial, path, overwrite=True)
    except BaseException:
        if gfile.exists(partial):
            gfile.remove(partial)
        raise


@contextlib.contextmanager
def _written_into(path: str) -> Iterator[str]:
    """Give a path to write to, whose content then goes into a device or a pipe."""
    with tempfile.TemporaryDirectory(prefix='output_') as folder:
        partial = os.path.join(folder, 'output')
        yield partial
        descriptor = _open_descriptor(path)
        if descriptor is not None:  # opened anew it would begin at the start of the file again
            if sys.stdout:
                sys.stdout.flush()
            descriptor = os.dup(descriptor)
        else:
            descriptor = os.open(path, os.O_WRONLY)
        try:
            with Path(partial).open('rb') as file, os.fdopen(descriptor, 'wb') as output:
                shutil.copyfileobj(file, output)
        except OSError as error:  # does not say which
            error.filename = error.filename or path
            raise


def _check_output(path: str, rewrites: bool = False) -> bool:
    """Refuse an output that would do harm; whether it is one to write into, not to replace."""
    if _open_descriptor(path) is not None:
        return True
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return False
    if stat.S_ISLNK(status.st_mode):
        if os.path.exists(path) and not stat.S_ISREG(os.stat(path).st_mode):
            return not os.path.isdir(path) or _refuse_directory(path)
        raise UserError(
            f'{path} is a symbolic link, through which nothing is written; give the path that it '
            'leads to, or remove it'
        )
    if stat.S_ISDIR(status.st_mode):
        _refuse_directory(path)
    if not rewrites and _is_input(path, status):
        raise UserError(f'{path} is read by this command; give its output another name')
    return not stat.S_ISREG(status.st_mode)


def check_output(path: str | os.PathLike) -> None:
    """Refuse an output that could not be written, before the work that it is for.

    Raises:
        UserError: As write_bytes does.
        OSError: The path is wrong, or nothing may be written there. Of a remote one, and of a disk
            that will be full, nothing is known yet.
    """
    local = local_path(path)
    if local is None or _check_output(local):
        return
    with contextlib.suppress(FileNotFoundError):
        os.lstat(f'{local}.{os.getpid()}{PARTIAL_SUFFIX}')  # which may be too long
    folder = os.path.dirname(local) or '.'
    while not os.path.lexists(folder):
        folder = os.path.dirname(folder.rstrip('/')) or '.'
    if not os.path.isdir(folder):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), local)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, f'nothing may be written into {folder}', local)


def _refuse_directory(path: str) -> bool:
    raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)


def _open_descriptor(path: str) -> int | None:
    """Return the open file that a path such as /dev/stdout, or a link to it, stands for."""
    for _ in range(8):  # links in a row; the usual ones are two
        folder = os.path.realpath(os.path.dirname(path) or '.')
        if _DESCRIPTORS.fullmatch(folder) and os.path.basename(path).isdigit():
            return int(os.path.basename(path))
        if not os.path.islink(path):
            return None
        path = os.path.join(folder, os.readlink(path))
    return None


def open_to_add(path: str):
    """Return a text file, local or remote, that is added to; its directory is made.

    Raises:
        UserError: It is a symbolic link.
    """
    local = local_path(path)
    if local is not None:
        _check_output(local, rewrites=True)
    make_folder(os.path.dirname(path))
    return _gfile().GFile(path, 'a')


def folders_in(path: str) -> list[str]:
    """Return the paths of the directories in a directory, sorted; none where it is not there."""
    paths = [os.path.join(path, name) for name in (names_in(path) if is_folder(path) else ())]
    return [one for one in paths if is_folder(one)]


def remove_tree(path: str) -> None:
    """Remove a directory and all that is in it; of a symbolic link the link alone."""
    local = local_path(path)
    if local is None:
        _gfile().rmtree(path)
        return
    local = local.rstrip('/')
    if os.path.islink(local) or not os.path.isdir(local):
        os.unlink(local)
    else:
        shutil.rmtree(local)


def check_no_link(folder: str) -> None:
    """Refuse a directory, in which files are replaced, that is somebody else's by a symbolic link.

    Raises:
        UserError: It is a link.
    """
    if os.path.islink((local_path(folder) or '').rstrip('/')):
        raise UserError(
            f'{folder} is a symbolic link, through which nothing is replaced; remove it, or put '
            'the directory itself there'
        )


@contextlib.contextmanager
def alone_in(directory: str) -> Iterator[None]:
    """Lock a directory, which is made: no other process is in such a body with it at the same time.

    The kernel forgets the lock when the process ends, however it ends. Reading is not affected.

    Args:
        directory: That is written. Of a remote one nothing is locked.

    Raises:
        UserError: Another process writes there.
    """
    local = local_path(directory)
    if local is None:
        yield
        return
    local = local or '.'
    made = _make_directory(local)
    descriptor = os.open(local, os.O_RDONLY)
    try:
        if not _lock(descriptor, directory):
            os.close(descriptor)
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
            descriptor = os.open(os.path.join(local, _LOCK_FILE), flags, 0o666)
            _lock(descriptor, directory)
        yield
    finally:
        os.close(descriptor)
        with contextlib.suppress(OSError):  # something has been written, or is about to be
            for one in made:
                os.rmdir(one)


def _make_directory(path: str) -> list[str]:
    """Make a directory; it and those above it that were not there, the lowest first."""
    made, parent = [], path
    while not os.path.isdir(parent or '.'):
        made.append(parent)
        parent = os.path.dirname(parent.rstrip('/'))
    os.makedirs(path, exist_ok=True)
    return made


def _lock(descriptor: int, directory: str) -> bool:
    """Lock what is open; False where the file system cannot."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(
            f'another process is writing into {directory!r}; wait until it has ended, or give '
            'another directory'
        ) from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return False
    return True


def json_bytes(value: object) -> bytes:
    """Return a value as JSON for people and programs: indented, a line feed at the end."""
    return (json.dumps(value, indent=2) + '\n').encode()


def csv_bytes(rows: Iterable[Iterable[object]]) -> bytes:
    """Return rows as CSV: UTF-8, a line feed after each."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator='\n').writerows(rows)
    return buffer.getvalue().encode()
