"""The launcher: what it starts, what it does when one of them dies, that none is left."""

from __future__ import annotations

import functools
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from tests.commands import ROOT
from utility.distribute import launch_local

# Keeps in mind who was started, with which arguments; then does as BEHAVIOUR says.
SCRIPT = """
import json, os, pathlib, sys, time
task = json.loads(os.environ['TF_CONFIG'])['task']
name = f"{task['type']}{task['index']}"
folder = pathlib.Path(sys.argv[-1])
lives = len(list(folder.glob(name + '-*')))
life = [os.getpid(), os.environ['TF_CONFIG'], sys.argv]
(folder / f'{name}-{lives}').write_text(json.dumps(life))
print('hello of', name, flush=True)
while len({path.name.split('-')[0] for path in folder.glob('*-*')}) < SIZE:
    time.sleep(0.05)
BEHAVIOUR
"""
FOREVER = 'time.sleep(90)'  # longer than any test waits


def _script(tmp_path, behavior: str, size: int) -> list[str]:
    path = tmp_path / 'train_nothing.py'
    path.write_text(SCRIPT.replace('BEHAVIOUR', behavior).replace('SIZE', str(size)))
    folder = tmp_path / 'lives'
    folder.mkdir()
    return [str(path), '--epochs=3', str(folder)]


def _launch(script: list[str], *flags: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, '-m', 'utility.distribute.launch_local', *flags, '--', *script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )


def _lives(script: list[str]) -> dict[str, list]:
    return {p.name: json.loads(p.read_text()) for p in pathlib.Path(script[-1]).glob('*')}


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_addresses_are_free_and_differ():
    jobs = launch_local.make_jobs(workers=3, servers=2)
    assert {job: len(own) for job, own in jobs.items()} == {'chief': 1, 'worker': 2, 'ps': 2}
    everywhere = [address for own in jobs.values() for address in own]
    assert len(set(everywhere)) == 5
    assert all(address.startswith('127.0.0.1:') for address in everywhere)


def test_each_is_told_who_it_is_and_servers_end_with_the_training(tmp_path):
    script = _script(tmp_path, f"{FOREVER} if name == 'ps0' else None", size=3)
    done = _launch(script, '--workers=2', '--servers=1')
    assert (done.returncode, done.stdout) == (0, 'hello of chief0\n'), done.stderr
    assert 'worker 0: hello of worker0\n' in done.stderr
    lives = _lives(script)
    assert set(lives) == {'chief0-0', 'worker0-0', 'ps0-0'}
    assert len({json.dumps(json.loads(config)['cluster']) for _, config, _ in lives.values()}) == 1
    for pid, _, argv in lives.values():
        assert argv == [script[0], '--strategy=parameter_server', *script[1:]]
        assert not _is_alive(pid)


def test_when_one_dies_all_start_again(tmp_path):
    kill = f"""
if name == 'worker0' and lives == 0:
    os.kill(os.getpid(), 9)
if lives == 0:
    {FOREVER}"""
    script = _script(tmp_path, kill, size=2)
    done = _launch(script, '--workers=2')
    assert done.returncode == 0, done.stderr
    assert 'worker 0 has ended with -9; the others are killed' in done.stderr
    assert 'restart 1 of 3' in done.stderr and 'restart 2' not in done.stderr
    lives = _lives(script)
    assert set(lives) == {'chief0-0', 'worker0-0', 'chief0-1', 'worker0-1'}
    assert not any(_is_alive(pid) for pid, *_ in lives.values())
    assert lives['chief0-0'][2][1] == '--strategy=multi_worker'


@pytest.mark.parametrize(('code', 'expected', 'starts'), [(1, 1, 2), (2, 2, 1)])
def test_restarts_are_bounded_and_a_mistake_is_not_repeated(tmp_path, code, expected, starts):
    script = _script(tmp_path, f"sys.exit({code}) if name == 'chief0' else {FOREVER}", size=2)
    done = _launch(script, '--restarts=1')
    assert done.returncode == expected
    lives = _lives(script)
    assert len(lives) == 2 * starts
    assert not any(_is_alive(pid) for pid, *_ in lives.values())


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_who_ends_the_launcher_ends_all(tmp_path, number):
    script = _script(tmp_path, FOREVER, size=2)
    command = [sys.executable, '-m', 'utility.distribute.launch_local', '--', *script]
    silent = {'stdout': subprocess.DEVNULL, 'stderr': subprocess.DEVNULL}
    # What is started in the background of a shell ignores SIGINT, and so would its children.
    restore = functools.partial(signal.signal, signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen(command, cwd=ROOT, preexec_fn=restore, **silent) as launcher:
        deadline = time.monotonic() + 60
        while len(_lives_so_far(script)) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        launcher.send_signal(number)
        assert launcher.wait(30) == (-number if number == signal.SIGKILL else 1)
    assert len(_lives(script)) == 2
    _await_end(script)


def _await_end(script: list[str]) -> None:
    deadline = time.monotonic() + 20
    while any(_is_alive(pid) for pid, *_ in _lives(script).values()):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _lives_so_far(script: list[str]) -> list[pathlib.Path]:
    return [path for path in pathlib.Path(script[-1]).glob('*') if path.stat().st_size]


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ((), 'give a train script after --'),
        (('--', 'train_no.py'), 'give a train script after --'),
        (('--workers=1', '--', 'train_resnet18_dhn.py'), 'one process is no cluster'),
        (('--workers=0', '--', 'train_resnet18_dhn.py'), 'workers'),
    ],
)
def test_mistakes(arguments, message):
    command = [sys.executable, '-m', 'utility.distribute.launch_local', *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, '')
    assert done.stderr.startswith('error: ') and message in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ('given', 'meant'),
    [
        ('l --workers=2 train_a.py --data_dir=x', 'l --workers=2 -- train_a.py --data_dir=x'),
        ('l --workers=2 -- train_a.py --set b.py', 'l --workers=2 -- train_a.py --set b.py'),
        ('launch_local.py --help', 'launch_local.py --help'),
    ],
)
def test_forgotten_dashes_before_the_script_are_meant(given, meant):
    assert launch_local.with_dashes(given.split()) == meant.split()
