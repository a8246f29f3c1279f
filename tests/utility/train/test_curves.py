"""The page of curves: complete, alone, of one evaluation as of thousands of rows."""

from __future__ import annotations

import html.parser
import os
import re

import pytest
import tensorflow as tf

from utility.checkpoints import evaluations, step_tables
from utility.train import curves, log


def _write(folder, num_rows, num_evaluations, every=20):
    """Tables of a training whose losses and errors fall."""
    rows = {
        every * (i + 1): {
            'loss': 1 / (i + 1),
            'loss/output_0': 0.25 / (i + 1),
            'loss/output_1': 0.75 / (i + 1),
            'normalized_error': 0.5 + 1 / (i + 2),
            'learning_rate': 1e-3,
            'waiting': 0.125,
        }
        for i in range(num_rows)
    }
    step_tables.write(str(folder / log.FILE), rows)
    for i in range(num_evaluations):
        error = 0.5 - 0.001 * i
        parts = {'normalized_error/skirt': error, 'normalized_error/dress': error + 0.01}
        evaluations.keep(str(folder), 40 * (i + 1), {'normalized_error': error, **parts})


class _Page(html.parser.HTMLParser):
    """The titles and cells of a page; fails where it would load or run something."""

    def __init__(self, text):
        super().__init__()
        self.headings, self.cells, self.opened = [], [], []
        self.feed(text)
        self.close()
        assert self.opened == []

    def handle_starttag(self, tag, attributes):
        assert tag not in ('script', 'link', 'iframe', 'object', 'embed', 'img')
        for name, value in attributes:
            assert name not in ('src', 'srcset', 'data') and not name.startswith('on')
            assert name not in ('href', 'xlink:href') or value.startswith('#')
            assert not re.search(r'url\((?!#)', value or '')
        if tag != 'meta':
            self.opened.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        self.opened.pop()

    def handle_endtag(self, tag):
        assert self.opened.pop() == tag

    def handle_data(self, data):
        if self.opened and self.opened[-1] in ('h1', 'h2'):
            self.headings.append(data.strip())
        elif self.opened and self.opened[-1] in ('td', 'th'):
            self.cells.append(data.strip())


def _read(folder):
    text = (folder / curves.FILE).read_text()
    assert text.startswith('<!doctype html>') and text.rstrip().endswith('</html>')
    return text, _Page(text)


def test_a_page_of_one_evaluation(tmp_path):
    _write(tmp_path, num_rows=2, num_evaluations=1)
    curves.write_page(str(tmp_path), 40)
    text, page = _read(tmp_path)
    assert page.headings[1:] == [
        'Loss',
        'NE, %',
        'Validation NE, %, by category',
        'Learning rate',
        'Time that steps wait for input, %',
        'The last evaluations',
    ]
    assert 'Least validation NE: 50.00 % at step 40' in text
    assert page.cells == ['step', 'NE, %', 'dress', 'skirt', '40 (best)', '50.00', '51.00', '50.00']
    assert 'At the end: of batches 0.5, output 0 0.125, output 1 0.375.' in text


def test_a_page_without_validation_has_the_curves_of_the_training(tmp_path):
    _write(tmp_path, num_rows=3, num_evaluations=0)
    callback = curves.make_evaluation_callback(str(tmp_path))
    assert callback(60, {}) is None
    text, page = _read(tmp_path)
    assert 'Loss' in page.headings and 'The last evaluations' not in page.headings
    assert page.cells == [] and 'No evaluation has an NE yet.' in text


def test_a_page_of_ten_thousand_rows_stays_small(tmp_path):
    _write(tmp_path, num_rows=10_000, num_evaluations=1)
    curves.write_page(str(tmp_path), 200_000)
    _read(tmp_path)
    assert (tmp_path / curves.FILE).stat().st_size < 250_000


def test_the_table_has_the_last_evaluations_and_the_best(tmp_path):
    _write(tmp_path, num_rows=0, num_evaluations=30)
    evaluations.keep(str(tmp_path), 80, {'normalized_error': 0.125})
    evaluations.keep(str(tmp_path), 1240, {'normalized_error': float('nan')})
    curves.write_page(str(tmp_path), 1240)
    text, page = _read(tmp_path)
    assert [cell for cell in page.cells if 'best' in cell] == ['80 (best)']
    assert page.cells.count('nan') == 1 and '120' not in page.cells
    assert 'Least validation NE: 12.50 % at step 80' in text


def test_what_comes_after_the_step_is_not_shown(tmp_path):
    _write(tmp_path, num_rows=10, num_evaluations=3)
    curves.write_page(str(tmp_path), 80)
    text, page = _read(tmp_path)
    assert '80 (best)' in page.cells and '120' not in text and 'up to step 80.' in text


def test_a_page_that_cannot_be_written_is_a_warning_and_the_old_one_stays(
    tmp_path, monkeypatch, caplog
):
    _write(tmp_path, num_rows=2, num_evaluations=1)
    run_callbacks = curves.make_evaluation_callback(str(tmp_path))
    assert run_callbacks(40, {}) is None
    before, _ = _read(tmp_path)

    def full(*_):
        raise tf.errors.ResourceExhaustedError(None, None, 'no space left')

    monkeypatch.setattr(tf.io.gfile.GFile, 'write', full)
    assert run_callbacks(40, {}) is None
    assert 'no page of curves: ' in caplog.text and 'no space left' in caplog.text
    assert _read(tmp_path)[0] == before
    assert sorted(os.listdir(tmp_path)) == ['curves.html', 'evaluations.csv', 'metrics.csv']


@pytest.mark.parametrize('name', ['evaluations.csv', 'metrics.csv'])
def test_a_broken_table_is_told(tmp_path, name):
    _write(tmp_path, num_rows=2, num_evaluations=1)
    (tmp_path / name).write_text('a,b\n1,2\n')
    with pytest.raises(ValueError, match=f'{name}: not a table'):
        curves.write_page(str(tmp_path), 40)
