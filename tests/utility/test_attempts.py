"""Commands that are run until they succeed: real processes, real kills."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from utility.attempts import OUTPUT, Attempts

PYTHON = sys.executable


def _run(folder, code):
    attempts = Attempts(folder)
    with attempts.alone():
        return attempts.run([PYTHON, '-c', code])


def test_output_is_kept_and_success_has_no_reason(tmp_path):
    folder = tmp_path / 'a' / 'b'
    assert _run(folder, 'print(1)') == ''
    assert _run(folder, 'import sys; print(2, file=sys.stderr)') == ''
    assert (folder / OUTPUT).read_text() == '1\n2\n'


@pytest.mark.parametrize(
    ('code', 'reason'),
    [
        ('import sys; print("no"); sys.exit(3)', 'exit code 3: no'),
        ('import sys; sys.exit(4)', 'exit code 4'),
        ('import sys; print("x"); sys.exit("error: --a=1: must be 2")', '--a=1: must be 2'),
        ('1 / 0', 'exit code 1: ZeroDivisionError: division by zero'),
        ('import os; print("a", flush=True); os.abort()', f'killed by signal {signal.SIGABRT}: a'),
        ('import os, signal; os.kill(os.getpid(), 9)', 'killed by signal 9'),
    ],
)
def test_why_a_command_failed(tmp_path, code, reason):
    (tmp_path / OUTPUT).write_text('error: of an earlier attempt\n')
    assert _run(tmp_path, code) == reason


def test_the_time_of_all_attempts_counts_and_that_between_them_does_not(tmp_path):
    output = tmp_path / OUTPUT
    output.write_text('a\n')
    os.utime(output, (130.0, 130.0))
    # One that ended, and one whose end nobody saw: its last output was 30 s after its start.
    (tmp_path / 'attempts.json').write_text(json.dumps([[10.0, 15.0], [100.0, None]]))
    assert Attempts(tmp_path).seconds() == 35.0
    start = time.time()
    assert _run(tmp_path, 'import time; time.sleep(0.2)') == ''
    passed = time.time() - start
    assert 35.2 <= Attempts(tmp_path).seconds() <= 35.0 + passed + 0.1


def test_a_command_that_outlives_who_started_it_is_waited_for(tmp_path, caplog):
    command = [
        PYTHON,
        '-c',
        'import time; print("begun", flush=True); time.sleep(2); print("done")',
    ]
    starter = (
        'import pathlib, sys; from utility.attempts import Attempts\n'
        f'attempts = Attempts(pathlib.Path({str(tmp_path)!r}))\n'
        f'with attempts.alone(): attempts.run({command!r})'
    )
    process = subprocess.Popen([PYTHON, '-c', starter])
    output = tmp_path / OUTPUT
    while not (output.exists() and output.read_text()):
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert output.read_text() == 'begun\n'
    assert _run(tmp_path, 'print("next")') == ''
    assert output.read_text() == 'begun\ndone\nnext\n'
    assert 'an earlier process still works' in caplog.text


def test_an_interrupted_attempt_ends_its_command(tmp_path, monkeypatch):
    started = []

    class Interrupted(subprocess.Popen):
        def wait(self, timeout=None):
            if not started:
                started.append(self)
                raise KeyboardInterrupt
            return super().wait(timeout)

    monkeypatch.setattr(subprocess, 'Popen', Interrupted)
    with pytest.raises(KeyboardInterrupt):
        _run(tmp_path, 'import time; time.sleep(60)')
    assert started[0].returncode == -signal.SIGTERM
