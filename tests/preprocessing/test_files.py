import os
import pathlib
import signal
import socket
import subprocess
import sys
import textwrap

import pytest

from config import UserError
from preprocessing import files
from tests.commands import ROOT


def _write(path, data=b'new', **how):
    files.write_bytes(path, data, **how)


def test_an_output_is_whole_or_as_it_was(tmp_path):
    path = tmp_path / 'a' / 'out.json'
    _write(path, b'old')
    with pytest.raises(KeyboardInterrupt), files.written_whole(path) as partial:
        pathlib.Path(partial).write_bytes(b'half')
        raise KeyboardInterrupt
    assert path.read_bytes() == b'old'
    _write(path)
    assert path.read_bytes() == b'new'
    assert os.listdir(tmp_path / 'a') == ['out.json']


@pytest.mark.parametrize('target', ['precious', 'absent'])
def test_nothing_is_written_through_a_symbolic_link(tmp_path, target):
    (tmp_path / 'precious').write_bytes(b'thesis')
    link = tmp_path / 'out.json'
    link.symlink_to(tmp_path / target)
    with pytest.raises(UserError, match='out.json is a symbolic link'):
        _write(link)
    with pytest.raises(UserError, match='out.json is a symbolic link'):
        files.open_to_add(str(link))
    assert (tmp_path / 'precious').read_bytes() == b'thesis'
    assert sorted(os.listdir(tmp_path)) == ['out.json', 'precious']


@pytest.mark.parametrize('end', ['{pid}.partial', 'partial'])
def test_a_link_in_the_place_of_the_unfinished_output_is_not_followed(tmp_path, end):
    (tmp_path / 'precious').write_bytes(b'thesis')
    name = f'dataset.json.{end.format(pid=os.getpid())}'
    (tmp_path / name).symlink_to(tmp_path / 'precious')
    _write(tmp_path / 'dataset.json')
    assert (tmp_path / 'precious').read_bytes() == b'thesis'
    assert (tmp_path / 'dataset.json').read_bytes() == b'new'


def test_a_pipe_is_written_to(tmp_path):
    os.mkfifo(tmp_path / 'pipe')
    (tmp_path / 'link').symlink_to('pipe')
    for name in ('pipe', 'link'):
        with subprocess.Popen(['cat', tmp_path / 'pipe'], stdout=subprocess.PIPE) as reader:
            _write(tmp_path / name, b'numbers')
            assert reader.communicate(timeout=60)[0] == b'numbers'
    assert not os.path.isfile(tmp_path / 'pipe')
    assert (tmp_path / 'link').is_symlink()


def test_a_device_that_is_full_is_named():
    with pytest.raises(OSError, match="No space left on device: '/dev/full'"):
        _write('/dev/full')


def test_a_socket_is_no_file_to_replace(tmp_path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / 'socket'))
        with pytest.raises(OSError, match='No such device'):
            _write(tmp_path / 'socket')
        assert (tmp_path / 'socket').is_socket()


@pytest.mark.parametrize('name', ['/dev/stdout', 'link'])
def test_standard_output_is_written_to_in_its_turn(tmp_path, name):
    (tmp_path / 'link').symlink_to('/dev/stdout')
    code = f"""
        from preprocessing import files
        print('before')
        files.write_bytes({name!r}, b'numbers\\n')
        print('after')
    """
    for path in (tmp_path / 'file', None):
        with pathlib.Path(path or os.devnull).open('wb') as file:
            done = subprocess.run(
                [sys.executable, '-c', textwrap.dedent(code)],
                cwd=tmp_path,
                env={**os.environ, 'PYTHONPATH': str(ROOT)},
                stdout=file if path else subprocess.PIPE,
                check=True,
            )
        assert (path.read_bytes() if path else done.stdout) == b'before\nnumbers\nafter\n'
    assert (tmp_path / 'link').is_symlink()


def test_a_command_writes_over_nothing_that_it_reads(tmp_path):
    path, other = tmp_path / 'a.csv', tmp_path / 'link' / 'a.csv'
    path.write_bytes(b'read')
    (tmp_path / 'link').symlink_to(tmp_path)
    with files.inputs_kept():
        assert files.read_bytes(f'file://{path}') == b'read'
        for output in (path, other, f'file://{path}'):
            with pytest.raises(UserError, match='a.csv is read by this command'):
                _write(output)
        assert path.read_bytes() == b'read'
        _write(path, b'record', rewrites=True)
        _write(tmp_path / 'b.csv')
        _write(tmp_path / 'b.csv')
    _write(path)
    assert path.read_bytes() == b'new'


def test_number_of_an_inode_that_is_used_again_is_not_the_input(tmp_path):
    kept = tmp_path / 'kept'
    kept.write_bytes(b'read')
    with files.inputs_kept():
        files.read_bytes(kept)
        number = kept.stat().st_ino
        kept.unlink()
        fresh = [tmp_path / str(i) for i in range(50)]
        for path in fresh:
            path.write_bytes(b'')
        if number not in [path.stat().st_ino for path in fresh]:
            pytest.skip('this file system does not use the number again')
        for path in fresh:
            _write(path)


def test_directories_are_no_outputs(tmp_path):
    (tmp_path / 'link').symlink_to(tmp_path)
    for path in (tmp_path, tmp_path / 'link'):
        with pytest.raises(IsADirectoryError):
            _write(path)


_HOLD = """
import sys, time
from preprocessing import files
with files.alone_in(sys.argv[1]):
    print('in', flush=True)
    time.sleep(600)
"""


def _hold(directory):
    process = subprocess.Popen(
        [sys.executable, '-c', _HOLD, str(directory)],
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
        stdout=subprocess.PIPE,
    )
    assert process.stdout.readline() == b'in\n'
    return process


@pytest.mark.parametrize('locks_directories', [True, False])
def test_one_process_at_a_time_writes_a_directory(tmp_path, monkeypatch, locks_directories):
    if not locks_directories:  # as NFS does not
        flock = files.fcntl.flock
        monkeypatch.setattr(
            files.fcntl, 'flock', lambda fd, how: _refuse() if _is_directory(fd) else flock(fd, how)
        )
        with files.alone_in(str(tmp_path)):
            _is_taken(tmp_path)
        return
    process = _hold(tmp_path / 'run')
    _is_taken(tmp_path / 'run')
    (tmp_path / 'run' / 'x').write_bytes(b'')  # only those who ask are kept out
    process.send_signal(signal.SIGKILL)
    process.wait()
    with files.alone_in(f'file://{tmp_path}/run'):
        pass
    process.stdout.close()


def _is_taken(directory):
    with pytest.raises(UserError, match=f"another process is writing into '{directory}'"):
        files.alone_in(str(directory)).__enter__()


def _is_directory(descriptor):
    return files.stat.S_ISDIR(os.fstat(descriptor).st_mode)


def _refuse():
    raise OSError(files.errno.EBADF, 'Bad file descriptor')


def test_a_directory_made_for_nothing_goes_again(tmp_path):
    with files.alone_in(str(tmp_path / 'a' / 'b')):
        assert (tmp_path / 'a' / 'b').is_dir()
    assert os.listdir(tmp_path) == []


def test_a_link_is_removed_and_not_what_it_leads_to(tmp_path):
    (tmp_path / 'precious').mkdir()
    (tmp_path / 'precious' / 'thesis').write_bytes(b'x')
    (tmp_path / 'tree').mkdir()
    for link in (tmp_path / 'link', tmp_path / 'tree' / 'link'):
        link.symlink_to(tmp_path / 'precious')
        files.remove_tree(f'{link.parent if link.parent.name == "tree" else link}/')
    assert os.listdir(tmp_path) == ['precious']
    assert (tmp_path / 'precious' / 'thesis').exists()


@pytest.fixture(scope='module')
def ended():
    """The id of a process that has ended."""
    process = subprocess.Popen(['true'])
    process.wait()
    return process.pid


def test_the_next_write_removes_what_ended_processes_left_of_the_same_path(tmp_path, ended):
    left = tmp_path / f'a.csv.{ended}.partial'
    stay = [
        tmp_path / f'b.csv.{ended}.partial',  # of another path
        tmp_path / f'aacsv.{ended}.partial',
        tmp_path / f'a.csv.{os.getppid()}.partial',  # of a process that still writes
        tmp_path / 'a.csv.partial',
    ]
    for path in (left, *stay):
        path.write_bytes(b'half')
    files.write_bytes(tmp_path / 'a.csv', b'whole')
    assert sorted(tmp_path.iterdir()) == sorted([*stay, tmp_path / 'a.csv'])
    assert (tmp_path / 'a.csv').read_bytes() == b'whole'


def test_only_regular_files_are_removed(tmp_path, ended):
    folder, link = (tmp_path / f'{name}.{ended}.partial' for name in ('a', 'b'))
    folder.mkdir()
    link.symlink_to(tmp_path / 'elsewhere')
    for name in 'ab':
        files.write_bytes(tmp_path / name, b'whole')
    assert folder.is_dir() and link.is_symlink()


@pytest.mark.parametrize('is_there', [True, False])
def test_a_folder_is_whole_or_as_it_was(tmp_path, is_there):
    output = tmp_path / 'out'
    if is_there:
        output.mkdir()
    with pytest.raises(KeyboardInterrupt), files.folder_written_whole(f'{output}/') as folder:
        pathlib.Path(folder, 'x').write_bytes(b'half')
        raise KeyboardInterrupt
    assert list(tmp_path.rglob('*')) == [output] * is_there
    with files.folder_written_whole(f'{output}/') as folder:
        pathlib.Path(folder, 'x').write_bytes(b'whole')
    assert (output / 'x').read_bytes() == b'whole'
    with pytest.raises(UserError, match='not an empty directory'):
        files.folder_written_whole(str(output)).__enter__()
    assert os.listdir(tmp_path) == ['out']


def test_an_output_that_cannot_be_written_is_told_before_the_work(tmp_path):
    (tmp_path / 'file').write_bytes(b'thesis')
    (tmp_path / 'link').symlink_to(tmp_path / 'absent')
    refused = {
        'file/a.csv': NotADirectoryError,
        'file/b/a.csv': NotADirectoryError,
        'y' * 300: OSError,
        'y' * 250: OSError,  # with the end of what is not yet complete
        '.': IsADirectoryError,
        'link': UserError,
    }
    for name, kind in refused.items():
        with pytest.raises(kind):
            files.check_output(tmp_path / name)
        with pytest.raises((OSError, UserError)):  # which is true
            _write(tmp_path / name)
    with files.inputs_kept():
        files.read_bytes(tmp_path / 'file')
        with pytest.raises(UserError, match='is read by this command'):
            files.check_output(tmp_path / 'file')
    for name in ('file', 'new/folder/a.csv', 'a.csv'):
        files.check_output(tmp_path / name)
    files.check_output('/dev/null')
    assert sorted(os.listdir(tmp_path)) == ['file', 'link']


def test_a_folder_into_which_nothing_may_be_written_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(files.os, 'access', lambda path, how: path != str(tmp_path))
    with pytest.raises(PermissionError, match=str(tmp_path)):  # root may write anywhere
        files.check_output(tmp_path / 'new' / 'a.csv')


def test_names_that_no_table_can_hold_are_refused():
    files.check_name('\u8863 [v2]*.jpg')
    with pytest.raises(UserError, match=r"'a/.udcff.jpg': is no UTF-8"):
        files.check_name(os.fsdecode(b'a/\xff.jpg'))


def test_links_to_folders_are_refused_where_files_are_replaced(tmp_path):
    (tmp_path / 'precious').mkdir()
    (tmp_path / 'link').symlink_to('precious')
    files.check_no_link(str(tmp_path / 'precious'))
    files.check_no_link(str(tmp_path / 'absent'))
    for end in ('', '/'):
        with pytest.raises(UserError, match='link/? is a symbolic link'):
            files.check_no_link(f'{tmp_path}/link{end}')
