"""Pages of numbers and pictures in one file: no scripts, no network, nothing beside it.

A page is a jinja2 template that extends 'page.html' and fills its block `main`; 'parts.html' has
the macros for what every page shows. What comes from files is escaped, and the page's own policy
forbids the browser to load or run anything. It reads well on a phone, in the dark, by keyboard and
by screen reader: pictures have alternatives in words, tables scroll and have captions.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jinja2
import numpy as np

from utility.visualization.draw import encode_image

JPEG_QUALITY = 85

_STYLE = """
:root { color-scheme: light dark; --text: #1b1f24; --muted: #57606a; --ground: #fff;
  --panel: #f6f8fa; --line: #d0d7de; --link: #0550ae; --bar: #0969da; }
@media (prefers-color-scheme: dark) { :root { --text: #e6edf3; --muted: #9da7b1; --ground: #0d1117;
  --panel: #161b22; --line: #3d444d; --link: #6cb6ff; --bar: #539bf5; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 78rem; padding: 1rem; background: var(--ground);
  color: var(--text); font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.2; } h2 { margin-top: 2.5rem; font-size: 1.25rem; }
h3 { font-size: 1.05rem; } a { color: var(--link); }
:focus-visible { outline: 3px solid var(--link); outline-offset: 2px; }
.skip { position: absolute; left: -999rem; } .skip:focus { position: static; }
nav ul { display: flex; flex-wrap: wrap; gap: .25rem 1rem; padding: 0; list-style: none; }
nav a { display: inline-block; padding: .3rem 0; }
.muted, figcaption { color: var(--muted); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; overflow-wrap: normal; }
caption { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--line); text-align: right;
  white-space: nowrap; }
th:first-child { text-align: left; }
thead th { border-bottom: 2px solid var(--line); vertical-align: bottom; white-space: normal; }
.bars { min-width: 8rem; } .bars span { display: block; height: .7rem; min-width: 1px;
  background: var(--bar); }
.gallery { display: grid; gap: 1rem; padding: 0; list-style: none;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 17rem), 1fr)); }
figure { margin: 0; padding: .6rem; background: var(--panel); border: 1px solid var(--line);
  border-radius: .4rem; height: 100%; }
figure img { display: block; max-width: 100%; height: auto; margin: 0 auto .5rem; }
figcaption { font-size: .9rem; } figcaption strong { color: var(--text); }
"""
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{{ title }}</title>
<style>{{ style|safe }}</style>
</head>
<body>
<a class="skip" href="#main">Skip to the content</a>
<h1>{{ title }}</h1>
<main id="main" tabindex="-1">
{% block main %}{% endblock %}
</main>
</body>
</html>
"""
_PARTS = """
{% macro show_table(table) %}
<div class="scroll" role="region" tabindex="0" aria-label="{{ table.caption }}">
<table>
<caption>{{ table.caption }}</caption>
<thead><tr>
{% for name in table.head %}
<th scope="col">{{ name }}</th>
{% endfor %}
</tr></thead>
<tbody>
{% for row in table.rows %}
<tr><th scope="row">{{ row[0] }}</th>
{% for cell in row[1:] %}
<td>{{ cell }}</td>
{% endfor %}
{% if loop.index0 < table.bars|length %}
<td class="bars" aria-hidden="true"><span style="width: {{ '%.1f' % (100 * table.bars[loop.index0])
}}%"></span></td>
{% endif %}
</tr>
{% endfor %}
</tbody>
</table>
</div>
{% endmacro %}
{% macro show_picture(picture) %}
<img src="{{ picture.uri }}" width="{{ picture.width }}" height="{{ picture.height }}"
  alt="{{ picture.alt }}" loading="lazy">
{% endmacro %}
"""


class Table(NamedTuple):
    """A table of text.

    Attributes:
        caption: What it shows; on a page it is read out, and stands in the heading.
        head: The names of the columns.
        rows: The cells; the first of each names the row.
        bars: Shares from 0 to 1, drawn beside the first rows.
    """

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    bars: Sequence[float] = ()

    def text(self) -> str:
        """Its lines, aligned for a terminal."""
        lines = [self.head, *self.rows]
        first, *others = [max(map(len, column)) for column in zip(*lines)]
        aligned = (
            '  '.join([line[0].ljust(first), *map(str.rjust, line[1:], others)]) for line in lines
        )
        return '\n'.join([self.caption, *(line.rstrip() for line in aligned)])


class DecodedImage(NamedTuple):
    """A picture within a page.

    Attributes:
        uri: The picture itself, a 'data:' URI.
        width: In px.
        height: In px.
        alt: What it shows, in words.
    """

    uri: str
    width: int
    height: int
    alt: str


def picture(image: np.ndarray, alt: str) -> DecodedImage:
    """A uint8 [H, W, 3] RGB picture for a page; `alt` says in words what it shows."""
    data = base64.b64encode(encode_image(image, '.jpg', JPEG_QUALITY)).decode()
    height, width = image.shape[:2]
    return DecodedImage(f'data:image/jpeg;base64,{data}', width, height, alt)


def environment(templates: Mapping[str, str]) -> jinja2.Environment:
    """The templates of a page, together with 'page.html' and 'parts.html'.

    'page.html' wants `title`, and has the block `main`. 'parts.html' has the macros show_table, of
    a Table, and show_picture, of a Picture. A list of class 'gallery' holds figures in its items.

    Args:
        templates: Name -> jinja2 source.
    """
    # What stands before {% extends %}, a line break too, would come before the doctype.
    sources = {name: source.strip() for name, source in templates.items()}
    loader = jinja2.DictLoader({'page.html': _PAGE, 'parts.html': _PARTS, **sources})
    env = jinja2.Environment(
        loader=loader,
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.globals['style'] = _STYLE
    return env


def write_page(
    path: str | os.PathLike, template: jinja2.Template, values: Mapping[str, Any]
) -> None:
    """Writes a page piece by piece: it is complete or not there.

    Args:
        path: Local, or anything tf.io.gfile opens; its directory is made.
        template: Of environment().
        values: What the template shows; iterators are consumed as the page is written, so that a
            page may be larger than the memory.

    Raises:
        OSError: The file cannot be written.
    """
    import tensorflow as tf  # here, because it takes seconds

    from preprocessing.files import written_whole

    path = os.fspath(path)
    try:
        tf.io.gfile.makedirs(os.path.dirname(path) or '.')
        with written_whole(path) as partial, tf.io.gfile.GFile(partial, 'wb') as file:
            for piece in template.generate(values):
                file.write(piece.encode())
    except tf.errors.OpError as error:
        raise OSError(f'{path}: {error.message}') from error
