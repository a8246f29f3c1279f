"""What README and docs show can be typed: programs, modules, flags, settings and files are there.

The slow tests run the commands of the main path, on a small data set of their own.
"""

from __future__ import annotations

import functools
import importlib
import os
import re
import shutil
import signal
import subprocess
import sys

import pytest

from config import Experiment
from tests import documented_commands
from tests.commands import ROOT, run, signalled
from tests.documented_commands import PAGES, Command, commands_of

COMMANDS = [
    command
    for page in PAGES
    for command in commands_of(page)
    if not command.program.startswith('out/')  # what an earlier command of the page has written
]
PYTHON = [command for command in COMMANDS if command.words[0] == 'python']
# Not ours, or described as that of another system.
OTHER_PROGRAMS = ('-m pytest', '-m http.server')
OTHER_PAGES = ('coming_from_tf_fashionai.md',)
OTHER_FLAGS = {
    '--parity',
    '--export',
    '--tools',
    '--generate-hashes',
    '--logdir',
    '--help',
    '--helpfull',
}
SECTIONS = ('network', 'data', 'loss', 'optimizer', 'schedule', 'averaging', 'finetune')


@functools.cache
def _flags_of(program: str) -> frozenset[str]:
    done = run(*program.split(), '--help', PYTHONPATH=str(ROOT))
    assert done.returncode == 0, f'{program}: {done.stderr}'
    found = re.findall(r'^  --(\[no\])?(\w+):', done.stdout, re.MULTILINE)
    return frozenset(prefix + name for no, name in found for prefix in ('', *(['no'] * bool(no))))


def _is_there(program: str) -> bool:
    path = program.removeprefix('-m ').replace('.', '/') if program.startswith('-m') else program
    places = [f'{path}.py', f'{path}/__main__.py'] if program.startswith('-m') else [path]
    return any((ROOT / place).is_file() for place in places)


def test_commands_are_found_in_the_pages():
    text = (
        "a `python x.py --a=1` b\n```\nbash y.sh  # why\npython z.py --s 'p|\\\nq' \\\n  --b\n```\n"
    )
    page = ROOT / 'tests' / '.page.md'
    page.write_text(text)
    try:
        found = commands_of(page)
    finally:
        page.unlink()
    assert [(one.words, one.is_whole) for one in found] == [
        (('bash', 'y.sh'), True),
        (('python', 'z.py', '--s', 'p|q', '--b'), True),
        (('python', 'x.py', '--a=1'), False),
    ]
    assert len(COMMANDS) > 50


@pytest.mark.parametrize('program', sorted({command.program for command in COMMANDS}))
def test_the_programs_are_there(program):
    assert program in OTHER_PROGRAMS or _is_there(program)


@pytest.mark.parametrize(
    'program', sorted({c.program for c in PYTHON if c.program not in OTHER_PROGRAMS})
)
def test_the_flags_are_known(program):
    given = {
        (flag.strip('[]'), command.page)
        for command in PYTHON
        for flag in command.flags
        if command.program == program
    }
    assert not {(flag, page) for flag, page in given if flag not in _flags_of(program)}


@pytest.mark.parametrize(
    'command',
    [c for c in PYTHON if c.program.startswith('train_')],
    ids=lambda c: ' '.join(c.words),
)
def test_the_settings_are_accepted(command: Command):
    recipe = importlib.import_module(command.program.removesuffix('.py')).EXPERIMENT
    assert isinstance(recipe.override(*command.settings), Experiment)


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_settings_and_files_named_in_sentences_are_there(page):
    fields = {section: vars(getattr(Experiment(), section)) for section in SECTIONS}
    for span in documented_commands.spans_of(page.read_text()):
        setting = re.fullmatch(rf'({"|".join(SECTIONS)})\.([a-z_0-9]+)([=.].*)?', span)
        if setting and setting.group(2) != 'py':
            assert setting.group(2) in fields[setting.group(1)], f'{page.name}: {span}'
        if page.name in OTHER_PAGES:
            continue
        if re.fullmatch(r'(nets|preprocessing|utility|demos|benchmarks|tests|docs)/[\w/.]+', span):
            assert (ROOT / span).exists(), f'{page.name}: {span}'


def test_flags_named_in_sentences_are_those_of_a_program():
    programs = [p.name for p in ROOT.glob('*.py') if p.name != 'config.py']
    programs += sorted({c.program for c in PYTHON if c.program not in OTHER_PROGRAMS})
    known = {f'--{flag}' for program in programs for flag in _flags_of(program)}
    named = {
        (flag, page.name)
        for page in PAGES
        if page.name not in OTHER_PAGES
        for span in documented_commands.spans_of(page.read_text())
        for flag in re.findall(r'(?<!\S)(--[a-z]\w+)', span)
    }
    assert not {(flag, page) for flag, page in named if flag not in known | OTHER_FLAGS}


@pytest.mark.slow
@pytest.mark.parametrize(
    'command',
    [c for c in dict.fromkeys(PYTHON) if c.program not in OTHER_PROGRAMS],
    ids=lambda c: ' '.join(c.words),
)
def test_the_program_itself_accepts_the_words(command: Command):
    """Begun as typed, it comes as far as its work: flags are parsed, and their values checked."""
    script, words = command.program.removeprefix('-m '), command.words[2:]
    if command.words[1] == '-m':
        script, words = script.replace('.', '/'), command.words[3:]
        script = f'{script}/__main__.py' if (ROOT / script).is_dir() else f'{script}.py'
    words = [one for one in (re.sub(r'\[.*?\]', '', word) for word in words) if one]
    killed = signalled('preprocessing.files.inputs_kept', 1)  # what a command's work begins with
    done = subprocess.run(
        [sys.executable, *killed, str(ROOT / script), *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


# For the main path: names of README -> those of the test.
TINY = (
    'network.image_size=64,64',
    'network.heatmap_size=16,16',
    'network.head_options.channels=16',
    'data.batch_size=8',
    'epochs=1',
    'evaluations=1',
)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A folder with the data that README calls DATA, and a picture."""
    folder = tmp_path_factory.mktemp('newcomer')
    words = (f'--output_dir={folder}/DATA', '--count=40', '--test_count=5', '--size=96')
    made = run('demos/make_garments.py', *words)
    assert made.returncode == 0, made.stderr
    picture = next((folder / 'DATA' / 'test_0' / 'Images' / 'blouse').glob('*.jpg'))
    shutil.copy(picture, folder / 'PICTURE.jpg')
    return folder


REHEARSED = [
    command
    for command in dict.fromkeys(PYTHON)
    if command.program.startswith('train_')
    and command.is_whole
    and not {'init_checkpoint', 'dry_run', 'find_learning_rate', 'profile_input'} & {*command.flags}
]


@pytest.mark.slow
@pytest.mark.parametrize('command', REHEARSED, ids=lambda c: ' '.join(c.words))
def test_a_training_of_the_pages_would_begin(command: Command, folder):
    """A dry run finds what a training would find; here of a network that is small."""
    records = folder / 'DATA' / 'rehearsed'
    if not records.exists():
        words = (f'--data_dir={folder}/DATA', f'--records_dir={records}', '--val_fraction=0.2')
        assert run('convert_tfrecords.py', *words).returncode == 0
    given = {setting.partition('=')[0] for setting in command.settings}
    # Heat maps follow the size of the pictures; the length is that of the page.
    left = given | {'network.heatmap_size', 'epochs', 'evaluations'}
    small = [one for one in TINY if one.partition('=')[0] not in left]
    words = [
        word for word in command.words[2:] if not word.startswith(('--data_dir', '--model_dir'))
    ]
    paths = (f'--data_dir={records}', f'--model_dir={folder}/none', '--dry_run')
    done = run(command.program, *words, *paths, *(f'--set={one}' for one in small))
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_main_path_can_be_walked(folder):
    """Block by block as README shows it, with a smaller network that is trained for a moment."""
    text = (ROOT / 'README.md').read_text()
    block = text[text.index('## The main path') :]
    shown = [c for c in commands_of(ROOT / 'README.md') if c.is_whole and c.words[0] == 'python']
    path = [c for c in shown if ' '.join(c.words[:2]) in block.split('```')[1]]
    walked = []
    for command in path:
        words = list(command.words[1:])
        if words[0].startswith('train_'):
            words += [f'--set={setting}' for setting in TINY]
        if words[0] == 'convert_tfrecords.py' and '--data_dir=DATA' in words:
            words.append('--val_fraction=0.2')
        if words[0] == 'ensemble_from_csv.py':
            shutil.copy(folder / words[1], folder / words[2])
        done = subprocess.run(
            [sys.executable, str(ROOT / words[0]), *words[1:]],
            cwd=folder,
            env={**os.environ, 'PYTHONPATH': str(ROOT)},
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        assert done.returncode == 0, f'{" ".join(words)}: {done.stderr}'
        walked.append(words[0])
        if len(walked) == 7:
            break
    assert walked[:3] == ['convert_tfrecords.py', 'convert_tfrecords.py', 'train_resnet50_cpn.py']
    assert walked[-1] == 'demos/draw_keypoints.py'
    assert (folder / 'ensemble.csv').exists() and (folder / 'out' / 'keypoints.csv').exists()
