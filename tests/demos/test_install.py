"""What a newcomer meets who has installed nothing, or tries to install it as a package."""

from __future__ import annotations

import ast
import os
import pathlib
import subprocess
import sys

import pytest

import utility
from tests.commands import ROOT, check_mistake


def _without_packages(*command) -> subprocess.CompletedProcess:
    """Run a command by a Python that finds no installed package."""
    return subprocess.run(
        [sys.executable, '-S', *command],
        cwd=ROOT,
        env={**os.environ, 'PYTHONPATH': ''},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.mark.parametrize(
    'command',
    [
        *([path.name] for path in sorted(ROOT.glob('*.py')) if path.name != 'config.py'),
        ['demos/draw_keypoints.py'],
        ['demos/make_garments.py'],
        ['-m', 'utility.checkpoints'],
        ['-m', 'benchmarks'],
    ],
    ids=' '.join,
)
def test_where_nothing_is_installed_a_command_says_what_to_run(command):
    check_mistake(_without_packages(*command, '--help'), '.venv/bin/activate')


def test_what_lacks_is_named_with_the_command_that_brings_it(monkeypatch):
    assert utility.what_lacks() == ''
    assert 'no_such, nor_that, or_this, ... not installed' in utility.what_lacks(
        ['no_such', 'numpy', 'nor_that', 'or_this', 'and_more']
    )
    monkeypatch.setattr(sys, 'version_info', (3, 12, 0))
    assert '3.9 to 3.11 is needed' in utility.what_lacks(['no_such'])


def test_all_that_is_imported_at_the_top_of_a_file_is_looked_for():
    ours = {path.stem for path in ROOT.glob('*') if path.suffix in ('', '.py')}
    imported = set()
    for folder in ('', 'nets', 'preprocessing', 'utility', 'demos'):
        for path in (ROOT / folder).glob('**/*.py' if folder else '*.py'):
            for node in ast.parse(path.read_text()).body:
                if isinstance(node, ast.Import):
                    imported.update(alias.name.split('.')[0] for alias in node.names)
                elif isinstance(node, ast.ImportFrom):
                    imported.add(node.module.split('.')[0])
    known = getattr(sys, 'stdlib_module_names', None)
    if known is None:
        pytest.skip('Python 3.9 does not tell which modules are its own')
    assert imported - known - ours <= set(utility.REQUIRED)


def test_pip_install_says_that_this_is_no_package():
    command = [sys.executable, '-m', 'pip', 'install', '--no-deps', '--no-index', str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode != 0
    assert 'bash demos/environment.sh runtime' in done.stdout + done.stderr


def _bash(*words, **environment) -> subprocess.CompletedProcess:
    return subprocess.run(
        ['bash', *words],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ('script', 'arguments'),
    [
        ('demos/quickstart.sh', '[OUT]'),
        ('demos/deepfashion2.sh', '[OUT]'),
        ('demos/web.sh', '[RUN] [FOLDER]'),
    ],
)
def test_demonstrations_have_help_and_refuse_what_they_do_not_know(tmp_path, script, arguments):
    before = set(ROOT.iterdir())
    shown = _bash(script, '--help')
    assert shown.returncode == 0 and f'bash {script} {arguments}' in shown.stdout
    assert 'set -e' not in shown.stdout and '#' not in shown.stdout.splitlines()[0]
    for words in (['--hlep'], [*[str(tmp_path)] * len(arguments.split()), 'another']):
        check_mistake(_bash(script, *words), f'{words[-1]}; usage: bash {script} {arguments}')
    assert set(ROOT.iterdir()) == before


def test_the_environment_is_made_by_a_command_of_its_own():
    check_mistake(_bash('demos/environment.sh'), "give 'runtime' or 'dev'")


@pytest.mark.parametrize('script', ['eval_metrics.py', 'train_resnet18_dhn.py'])
def test_an_interrupt_ends_a_command_without_a_traceback_while_python_imports(script, tmp_path):
    """The absl that it imports interrupts it."""
    (tmp_path / 'absl').mkdir()
    stop = 'import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nimport time\ntime.sleep(9)\n'
    (tmp_path / 'absl' / '__init__.py').write_text(stop)
    done = subprocess.run(
        [sys.executable, script, '--help'],
        cwd=ROOT,
        env={**os.environ, 'PYTHONPATH': str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == -2
    assert done.stderr == '' == done.stdout


def test_this_project_is_no_command_where_it_is_imported():
    code = (
        'import sys; sys.path.insert(0, sys.argv[1]); import utility; print(utility._is_command())'
    )
    done = subprocess.run(
        [sys.executable, '-c', code, str(ROOT)], capture_output=True, text=True, check=True
    )
    assert done.stdout == 'False\n'
    assert pathlib.Path(utility.__file__).parent.parent == ROOT
