"""train.log: every line of every training, in order, and why a training ended."""

from __future__ import annotations

import io
import re

import pytest
from absl import flags, logging

from utility.train import log_file


@pytest.fixture(autouse=True)
def _levels():
    logging.set_verbosity(logging.INFO)
    yield
    flags.FLAGS['verbosity'].unparse()  # the default of a script holds again


def _messages(folder) -> list[str]:
    """Return the lines without their times."""
    lines = (folder / log_file.FILE).read_text().splitlines()
    time = re.compile(r'\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ')
    assert all(time.match(line) for line in lines)
    return [time.sub('', line) for line in lines]


def test_lines_before_the_folder_is_known_are_kept_too(tmp_path):
    folder = tmp_path / 'run'
    with log_file.kept() as keep_in:
        logging.info('early %d', 1)
        logging.warning('odd')
        assert not folder.exists()
        keep_in(str(folder))
        assert _messages(folder) == ['early 1', 'warning: odd']
        logging.info('late')
        logging.debug('not shown, not kept')
        assert _messages(folder)[2:] == ['late']
    logging.info('after')
    assert _messages(folder)[2:] == ['late']


def test_without_a_folder_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with log_file.kept():
        logging.info('line')
    assert not list(tmp_path.iterdir())


def test_a_further_training_adds_its_lines_on_lines_of_their_own(tmp_path):
    path = tmp_path / log_file.FILE
    path.write_text('2018-04-17 00:00:00 whole\n2018-04-17 00:00:01 torn by a ki')
    with log_file.kept() as keep_in:
        keep_in(str(tmp_path))
        logging.info('next')
    assert _messages(tmp_path) == ['whole', 'torn by a ki', 'next']


def test_the_log_tells_why_a_training_failed(tmp_path):
    with pytest.raises(ZeroDivisionError), log_file.kept() as keep_in:
        keep_in(str(tmp_path))
        _ = 1 / 0
    text = (tmp_path / log_file.FILE).read_text()
    assert ' error: the training ends with\nTraceback (most recent call last):' in text
    assert text.endswith('ZeroDivisionError: division by zero\n')


def test_a_line_aside_is_in_the_file_and_not_on_the_terminal(tmp_path, monkeypatch):
    terminal = io.StringIO()
    monkeypatch.setattr('logging.root.handlers', [logging.get_absl_handler()])
    monkeypatch.setattr(logging.get_absl_handler().python_handler, 'stream', terminal)
    monkeypatch.setattr('sys.stderr', terminal)  # where lines go before flags are parsed
    with log_file.kept() as keep_in:
        keep_in(str(tmp_path))
        log_file.log_aside('step %d', 7)
        logging.info('for all')
    assert _messages(tmp_path) == ['step 7', 'for all']
    shown = terminal.getvalue()
    assert 'for all' in shown and 'step 7' not in shown
