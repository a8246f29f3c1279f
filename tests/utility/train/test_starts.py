"""A run tells by which commands, of which code, it has become what it is."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from utility.train import starts


def test_each_start_is_kept_with_its_command_code_and_versions(tmp_path, monkeypatch):
    for number in (1, 2):
        monkeypatch.setattr(sys, 'argv', ['train_x.py', f'--seed={number}'])
        starts.keep(str(tmp_path / 'run'))
    found = json.loads((tmp_path / 'run' / starts.FILE).read_text())
    assert [one['command'] for one in found] == [['train_x.py', f'--seed={n}'] for n in (1, 2)]
    assert found[0]['packages']['numpy'] == np.__version__
    assert found[0]['time'] <= found[1]['time']
    assert found[0]['commit'] == starts.commit(starts._ROOT)


def test_the_commit_is_told_with_a_mark_where_the_code_was_changed(tmp_path):
    assert starts.commit(str(tmp_path)) is None  # no repository

    def git(*words):
        who = ('-c', 'user.name=a', '-c', 'user.email=a@b.c')
        done = subprocess.run(
            ['git', *who, *words], cwd=tmp_path, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    git('init', '-q')
    (tmp_path / 'code').write_text('1')
    git('add', '.')
    git('commit', '-qm', 'one')
    assert starts.commit(str(tmp_path)) == git('rev-parse', 'HEAD')
    (tmp_path / 'code').write_text('2')
    assert starts.commit(str(tmp_path)) == git('rev-parse', 'HEAD') + '+'


@pytest.mark.parametrize('text', ['', '{}', '[' * 100_000, '\udcff'])
def test_a_broken_file_is_told(tmp_path, text):
    (tmp_path / starts.FILE).write_bytes(text.encode(errors='surrogateescape'))
    with pytest.raises(ValueError, match='starts.json is broken'):
        starts.keep(str(tmp_path))
