"""Pages of numbers and pictures in one file: no scripts, no network, nothing beside it.

A page is a jinja2 template, in the folder `templates` beside its module, that extends 'page.html'
and fills its block `main`; 'parts.html' has the macros for what every page shows. What comes from
files is escaped, and the page's own policy forbids the browser to load or run anything. It reads
well on a phone, in the dark, by keyboard and by screen reader: pictures have alternatives in words,
tables scroll and have captions.
"""

from __future__ import annotations

import base64
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from preprocessing.files import make_folder, written_whole
from utility.command_line.text_table import text_table
from utility.visualization.draw import encode_image

if TYPE_CHECKING:
    import jinja2

JPEG_QUALITY = 85


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
        """Return the lines of the table, aligned for a terminal."""
        return f'{self.caption}\n{text_table([self.head, *self.rows])}'


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
    """Return a uint8 [H, W, 3] RGB picture for a page; `alt` says in words what it shows."""
    data = base64.b64encode(encode_image(image, '.jpg', JPEG_QUALITY)).decode()
    height, width = image.shape[:2]
    return DecodedImage(f'data:image/jpeg;base64,{data}', width, height, alt)


def template(module_file: str, name: str) -> jinja2.Template:
    """Return a template of the folder `templates` beside a module.

    'page.html' wants `title`, and has the block `main`. 'parts.html' has the macros show_table, of
    a Table, show_picture, of a DecodedImage, and show_chart, of a charts.Chart. A list of class
    'gallery' holds figures in its items.

    Args:
        module_file: The module's __file__.
    """
    import jinja2  # here, because a training writes its first page late

    folders = [pathlib.Path(path).parent / 'templates' for path in (module_file, __file__)]
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(folders),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    ).get_template(name)


def write_page(
    path: str | os.PathLike, template: jinja2.Template, values: Mapping[str, Any]
) -> None:
    """Write a page piece by piece: it is complete or not there.

    Args:
        path: Local, or anything tf.io.gfile opens; its directory is made.
        template: Of `template`.
        values: What the template shows; iterators are consumed as the page is written, so that a
            page may be larger than the memory.

    Raises:
        OSError: The file cannot be written.
    """
    import tensorflow as tf  # here, because it takes seconds

    path = os.fspath(path)
    make_folder(os.path.dirname(path))
    try:
        with written_whole(path) as partial, tf.io.gfile.GFile(partial, 'wb') as file:
            for piece in template.generate(values):
                file.write(piece.encode())
    except tf.errors.OpError as error:
        raise OSError(f'{path}: {error.message}') from error
