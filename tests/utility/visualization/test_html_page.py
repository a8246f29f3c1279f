"""Pages are whole or not there, escape what they show, and may be longer than the memory."""

from __future__ import annotations

import base64
import re

import cv2
import jinja2
import numpy as np
import pytest

from utility.visualization import html_page
from utility.visualization.html_page import Table

TEMPLATE = """{% extends 'page.html' %}
{% from 'parts.html' import show_table, show_picture %}
{% block main %}
{% for table in tables %}{{ show_table(table) }}{% endfor %}
{% for one in pictures %}{{ show_picture(one) }}{% endfor %}
{% endblock %}
"""
TABLE = Table('Errors', ['kind', 'NE %'], [['<b>good</b>', '1.0'], ['a miss', '10.25']], [0.25])


@pytest.fixture
def template(tmp_path_factory):
    folder = tmp_path_factory.mktemp('module')
    (folder / 'templates').mkdir()
    (folder / 'templates' / 'a.html').write_text(TEMPLATE)
    return html_page.template(str(folder / 'module.py'), 'a.html')


@pytest.fixture
def write_page(template):
    def write(path, **values):
        values = {'title': 'A & B', 'tables': [TABLE], 'pictures': [], **values}
        html_page.write_page(path, template, values)
        return path.read_text(encoding='utf-8')

    return write


def test_what_is_shown_is_escaped_and_nothing_can_be_loaded(tmp_path, write_page):
    text = write_page(tmp_path / 'new' / 'a.html')
    assert text.startswith('<!doctype html>')
    assert '<title>A &amp; B</title>' in text
    assert '&lt;b&gt;good&lt;/b&gt;' in text and '<b>' not in text
    assert "default-src 'none'; img-src data:" in text
    assert not re.search(r'<script|<link|https?://|url\(', text)
    assert [path.name for path in (tmp_path / 'new').iterdir()] == ['a.html']


def test_a_page_is_printed_with_its_pictures(tmp_path, write_page):
    """Browsers print before they have loaded what is loaded when it comes into sight."""
    pixels = np.zeros([8, 8, 3], np.uint8)
    text = write_page(tmp_path / 'a.html', pictures=[html_page.picture(pixels, 'a')])
    assert 'src="data:' in text and 'lazy' not in text


def test_tables_are_read_out_and_bars_are_not(tmp_path, write_page):
    text = write_page(tmp_path / 'a.html')
    assert '<caption>Errors</caption>' in text
    assert '<th scope="row">a miss</th>' in text and '<th scope="col">NE %</th>' in text
    assert text.count('class="bars" aria-hidden="true"') == 1
    assert re.search(r'style="width: 25\.0\s*%"', text)
    assert 'lang="en"' in text and 'name="viewport"' in text


def test_a_picture_is_its_own_file_and_has_words(tmp_path, write_page):
    image = np.full((6, 9, 3), (200, 10, 30), np.uint8)
    shown = html_page.picture(image, 'a "red" one')
    assert (shown.width, shown.height) == (9, 6)
    text = write_page(tmp_path / 'a.html', pictures=[shown])
    assert 'alt="a &#34;red&#34; one"' in text
    data = base64.b64decode(re.search(r'src="data:image/jpeg;base64,([^"]+)"', text).group(1))
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    np.testing.assert_allclose(decoded.reshape(-1, 3).mean(0), (200, 10, 30), atol=6)


def test_a_click_makes_a_picture_large_without_a_script(tmp_path, write_page):
    shown = html_page.picture(np.zeros((6, 9, 3), np.uint8), 'black')
    text = write_page(tmp_path / 'a.html', pictures=[shown])
    assert '<script' not in text
    assert re.search(r'<img [^>]*tabindex="0"', text)  # so that it can have the focus
    rules = re.search(r'figure img:focus \{([^}]*)\}', text).group(1)
    assert 'position: fixed' in rules and 'width: calc(100vw' in rules


def test_iterators_are_written_as_they_come_and_a_failure_leaves_nothing(tmp_path, write_page):
    path, sizes = tmp_path / 'a.html', []

    def tables():
        for _ in range(3):
            yield Table('x', ['a', 'b'], [['y' * 2_000_000, '1']])
            sizes.append(sum(file.stat().st_size for file in tmp_path.iterdir()))
        raise OSError('the disk of the pictures is gone')

    path.write_text('before')
    with pytest.raises(OSError, match='disk'):
        write_page(path, tables=tables())
    assert sizes[-1] > sizes[0] + 1_000_000
    assert path.read_text() == 'before'
    assert [file.name for file in tmp_path.iterdir()] == ['a.html']


def test_a_value_that_is_lacking_is_an_error(template):
    with pytest.raises(jinja2.UndefinedError, match='pictures'):
        template.render(title='A', tables=[])


def test_a_path_that_cannot_be_written_is_told(tmp_path, write_page):
    (tmp_path / 'file').write_text('')
    with pytest.raises(OSError, match='file'):
        write_page(tmp_path / 'file' / 'a.html')


def test_text_of_a_table_is_aligned():
    assert TABLE.text().splitlines() == [
        'Errors',
        'kind          NE %',
        '<b>good</b>    1.0',
        'a miss       10.25',
    ]
