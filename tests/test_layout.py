"""The shape of the project: who may import whom, how long things get, how scripts answer."""

from __future__ import annotations

import ast
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGES = ('nets', 'preprocessing', 'utility', 'demos', 'benchmarks', 'tests')
FILES = sorted(
    str(path.relative_to(ROOT))
    for pattern in ('*.py', *(f'{package}/**/*.py' for package in PACKAGES))
    for path in ROOT.glob(pattern)
)
WITHOUT_TESTS = [file for file in FILES if not file.startswith('tests/')]
MODULES = ('config.py', 'sections.py', 'settings.py')  # at the top level, to be imported
TRAIN_SCRIPTS = [file for file in FILES if file.startswith('train_')]
RUN_ALONE = "if __name__ == '__main__'"
SCRIPTS = [
    file
    for file in WITHOUT_TESTS
    if file not in MODULES and (RUN_ALONE in (ROOT / file).read_text() or '/' not in file)
]
# What a part of the project may import from the rest of it, besides itself.
MAY_IMPORT = {
    'settings': set(),
    'sections': {'settings'},
    'config': {'sections', 'settings'},
    'nets': {'settings', 'config'},
    'preprocessing': {'settings', 'config'},
    'utility': {'settings', 'config', 'nets', 'preprocessing'},
}
KNOW_ESTIMATOR = {'utility/model_fn.py', 'utility/runner.py', 'utility/predictor.py'}
# These leave the graph, or run one element at a time.
OUTSIDE_THE_GRAPH = {'py_function', 'numpy_function', 'py_func', 'map_fn'}


def _tree(file: str) -> ast.Module:
    return ast.parse((ROOT / file).read_text(), file)


def _part(file: str) -> str:
    """The package of a file, or the name of a top-level module: 'nets/layers.py' -> 'nets'."""
    return pathlib.PurePath(file).with_suffix('').parts[0]


def _imported_modules(file: str, tree: ast.Module) -> set[str]:
    """Absolute dotted names of all that a file imports, wherever in it."""
    package = list(pathlib.PurePath(file).parts[:-1])
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else []
            module = '.'.join([*above, *([node.module] if node.module else [])])
            names.update(f'{module}.{alias.name}' for alias in node.names)
    return names


def _identifiers(tree: ast.Module) -> set[str]:
    """Every name and attribute of the code; not what strings and comments say."""
    attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    return attributes | {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


def _forbidden_imports(file: str, tree: ast.Module) -> set[str]:
    """The project's parts that a file imports and must not."""
    own = _part(file)
    parts = {_part(name) for name in WITHOUT_TESTS} | {'tests'}
    allowed = MAY_IMPORT.get(own, parts - {'tests'})
    imported = {name.split('.')[0] for name in _imported_modules(file, tree)}
    return (imported & parts) - allowed - {own}


@pytest.mark.parametrize('file', WITHOUT_TESTS)
def test_imports_go_one_way(file):
    assert _forbidden_imports(file, _tree(file)) == set()


@pytest.mark.parametrize(
    ('file', 'code', 'forbidden'),
    [
        ('nets/a.py', 'import preprocessing.schema', {'preprocessing'}),
        ('preprocessing/datasets/a.py', 'def f():\n  from nets import layers', {'nets'}),
        ('preprocessing/datasets/a.py', 'from .. import ops; from . import x', set()),
        ('utility/a.py', 'from nets import network; import tests.test_layout', {'tests'}),
        ('config.py', 'from utility import runner', {'utility'}),
        ('eval_metrics.py', 'from utility import runner; import config', set()),
    ],
)
def test_the_walk_over_imports_sees_them(file, code, forbidden):
    assert _forbidden_imports(file, ast.parse(code)) == forbidden


def test_config_imports_the_standard_library_only():
    # With -S nothing that was installed is on the path.
    subprocess.run([sys.executable, '-S', '-c', 'import config'], cwd=ROOT, check=True)


@pytest.mark.parametrize('file', sorted(set(WITHOUT_TESTS) - KNOW_ESTIMATOR))
def test_estimator_is_known_in_few_files(file):
    tree = _tree(file)
    words = {word for name in _imported_modules(file, tree) for word in name.split('.')}
    assert not {'estimator', 'tensorflow_estimator'} & (words | _identifiers(tree))


@pytest.mark.parametrize('file', [file for file in FILES if file.startswith('preprocessing/')])
def test_preprocessing_stays_in_the_graph(file):
    assert not OUTSIDE_THE_GRAPH & _identifiers(_tree(file))


@pytest.mark.parametrize('file', FILES)
def test_nothing_is_long(file):
    num_lines = len((ROOT / file).read_text().splitlines())
    if file in TRAIN_SCRIPTS:
        assert num_lines <= 30
    if file in WITHOUT_TESTS:
        assert num_lines <= 300
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    lengths = {
        node.name: node.end_lineno - node.lineno + 1
        for node in ast.walk(_tree(file))
        if isinstance(node, functions)
    }
    assert {name: length for name, length in lengths.items() if length > 60} == {}


def _run(script: str, flag: str, *options: str) -> subprocess.CompletedProcess:
    """Runs a script as its users do: by its path, or with -m where it is a module of a package."""
    module = ['-m', script[: -len('.py')].replace('/', '.')]
    return subprocess.run(
        [
            sys.executable,
            *options,
            *(module if _part(script) in ('utility', 'benchmarks') else [script]),
            flag,
        ],
        cwd=ROOT,
        env={**os.environ, 'COLUMNS': '100'},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize('script', SCRIPTS)
def test_help_needs_no_tensorflow(script):
    done = _run(script, '--help', '-X', 'importtime')
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(ast.get_docstring(_tree(script)).splitlines()[0])
    assert 'Flags:' in done.stdout
    imported = {line.rpartition('|')[2].strip() for line in done.stderr.splitlines()}
    assert 'absl.flags' in imported
    assert 'tensorflow' not in imported


@pytest.mark.parametrize('script', SCRIPTS)
def test_unknown_flag_is_one_line(script):
    done = _run(script, '--no_such_flag_at_all')
    assert (done.returncode, done.stdout) == (2, '')
    assert done.stderr == 'error: unknown flag --no_such_flag_at_all; --help lists the flags\n'
