"""The house: which room may import which, what knows the Estimator, how scripts answer."""

from __future__ import annotations

import ast
import collections
import os
import pathlib
import re
import subprocess
import sys

import pytest

from tests.commands import ROOT, call

PACKAGES = ('nets', 'preprocessing', 'utility', 'demos', 'benchmarks')
# Rooms from the ground up: a room may import those of lower floors, and itself.
FLOORS = (
    {'config', 'utility'},
    {'nets', 'preprocessing'},
    {'utility.command_line', 'utility.statistics'},
    {'utility.codecs', 'utility.optim'},
    {'utility.losses', 'utility.metrics', 'utility.visualization'},
    {'utility.checkpoints', 'utility.inspection', 'utility.submissions'},
    {'utility.pretrained', 'utility.distribute', 'utility.predict', 'utility.ensembles'},
    {'utility.train', 'utility.errors', 'utility.export', 'utility.labels'},
    {'utility.sweep'},
    {'utility.report'},
    {'demos'},
    {'scripts', 'benchmarks'},
)
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
KNOW_ESTIMATOR = {
    'utility/predict/model_fn.py',
    'utility/predict/predictor.py',
    'utility/train/model_fn.py',
    'utility/train/runner.py',
}
# These leave the graph, or run one element at a time.
OUTSIDE_THE_GRAPH = {'py_function', 'numpy_function', 'py_func', 'map_fn'}
MOST_FILES = 17  # of a folder, its __init__ and __main__ among them
FILES = sorted(
    str(path.relative_to(ROOT))
    for pattern in ('*.py', *(f'{package}/**/*.py' for package in PACKAGES))
    for path in ROOT.glob(pattern)
)
SCRIPTS = [
    file
    for file in FILES
    if "if __name__ == '__main__'" in (ROOT / file).read_text()
    or ('/' not in file and file != 'config.py')
]


def _tree(file: str) -> ast.Module:
    return ast.parse((ROOT / file).read_text(), file)


def _module(file: str) -> str:
    """Return the dotted name of a file: 'nets/heads/__init__.py' -> 'nets.heads'."""
    return file.removesuffix('.py').removesuffix('/__init__').replace('/', '.')


MODULES = {_module(file): file for file in FILES}


def _imports(tree: ast.Module, module: str = '') -> set[str]:
    """Return the project's modules that a file imports, wherever in it, itself excepted."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f'{module}: relative imports hide where things come from'
            for alias in node.names:
                full = f'{node.module}.{alias.name}'
                names.add(full if full in MODULES else node.module)
    return {name for name in names if name in MODULES or name == 'tests'} - {module}


def _room(module: str) -> str:
    parts = module.split('.')
    if parts[0] == 'utility':
        return '.'.join(parts[:2])
    return parts[0] if parts[0] in (*PACKAGES, 'config', 'tests') else 'scripts'


def _forbidden(module: str, imported: set[str]) -> set[str]:
    """Return what of the imported modules lies on the floor of the module's room or above it."""
    room = _room(module)
    return {
        name
        for name in imported
        if _room(name) != room and FLOOR_OF.get(_room(name), 99) >= FLOOR_OF[room]
    }


def test_imports_go_one_way():
    graph = {module: _imports(_tree(file), module) for module, file in MODULES.items()}
    wrong = {m: _forbidden(m, imported) for m, imported in graph.items() if m != 'utility'}
    assert {module: names for module, names in wrong.items() if names} == {}
    assert _circles(graph) == []


@pytest.mark.parametrize(
    ('module', 'code', 'forbidden'),
    [
        ('nets.a', 'import preprocessing.schema', {'preprocessing.schema'}),
        ('preprocessing.a', 'def f():\n  from nets import layers', {'nets.layers'}),
        ('utility.predict.a', 'from utility.train import plan', {'utility.train.plan'}),
        ('utility.train.a', 'from utility.predict import fusion; import config', set()),
        ('config', 'import utility.train.runner', {'utility.train.runner'}),
    ],
)
def test_the_walk_over_imports_sees_them(module, code, forbidden):
    assert _forbidden(module, _imports(ast.parse(code))) == forbidden


def _circles(graph: dict[str, set[str]]) -> list[str]:
    """Return the modules that are left when those that import nothing more are taken away,
    repeatedly.
    """
    left = {module: set(names) & graph.keys() for module, names in graph.items()}
    while free := {module for module, names in left.items() if not names & left.keys()}:
        left = {module: names for module, names in left.items() if module not in free}
    return sorted(left)


def test_circles_are_found():
    assert _circles({'a': {'b'}, 'b': {'c'}, 'c': {'b'}, 'd': set()}) == ['a', 'b', 'c']


def test_the_environment_is_changed_in_one_file():
    changing = re.compile(r'os\.environ(\[[^]]+\] =|\.(setdefault|pop|update|clear)\()|os\.putenv')
    # What runs an exported folder stands in it alone.
    files = [f for f in FILES if not f.startswith(('tests/', 'utility/predict/exported/'))]
    assert [f for f in files if changing.search((ROOT / f).read_text())] == [
        'utility/command_line/environment.py'
    ]


def test_config_imports_the_standard_library_only():
    # With -S nothing that was installed is on the path.
    subprocess.run([sys.executable, '-S', '-c', 'import config'], cwd=ROOT, check=True)


def _identifiers(tree: ast.Module) -> set[str]:
    """Return every name and attribute of the code; not what strings and comments say."""
    attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    return attributes | {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


def test_estimator_is_known_in_few_files():
    words = {'estimator', 'tensorflow_estimator'}
    # A session's graph needs no word of it; the name of an argument or a module would be one.
    knowing = {file for file in FILES if words & _identifiers(_tree(file))}
    assert {file for file in knowing if not file.startswith('benchmarks/')} == KNOW_ESTIMATOR


def test_preprocessing_stays_in_the_graph():
    inside = [file for file in FILES if file.startswith('preprocessing/')]
    assert [file for file in inside if OUTSIDE_THE_GRAPH & _identifiers(_tree(file))] == []


def test_no_folder_is_a_drawer():
    folders = collections.Counter(str(pathlib.PurePath(file).parent) for file in FILES)
    rooms = {folder: n for folder, n in folders.items() if folder not in ('.', 'benchmarks')}
    assert {folder: n for folder, n in rooms.items() if n > MOST_FILES} == {}


def test_functions_and_train_scripts_are_short():
    long = []
    for file in FILES:
        for node in ast.walk(_tree(file)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                length = node.end_lineno - node.lineno + 1
                long += [f'{file}:{node.lineno}'] if length > 60 else []
        if file.startswith('train_') and len((ROOT / file).read_text().splitlines()) > 30:
            long.append(file)
    assert long == []


def _help(script: str) -> subprocess.CompletedProcess:
    """Run a script as its users do: by its path, or with -m where it is a module of a package."""
    module = ['-m', _module(script).removesuffix('.__main__')]
    in_package = script.startswith(('utility/', 'benchmarks/'))
    return subprocess.run(
        [sys.executable, '-X', 'importtime', *(module if in_package else [script]), '--help'],
        cwd=ROOT,
        env={**os.environ, 'COLUMNS': '100'},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize('script', SCRIPTS)
def test_help_needs_no_tensorflow(script):
    done = _help(script)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(ast.get_docstring(_tree(script)).splitlines()[0])
    assert 'Flags:' in done.stdout
    imported = {line.rpartition('|')[2].strip() for line in done.stderr.splitlines()}
    assert 'absl.flags' in imported
    assert 'tensorflow' not in imported


@pytest.mark.parametrize('script', SCRIPTS)
def test_unknown_flag_is_one_line(script):
    done = call(script, '--no_such_flag_at_all')
    assert (done.returncode, done.stdout) == (2, '')
    assert done.stderr == 'error: unknown flag --no_such_flag_at_all; --help lists the flags\n'
