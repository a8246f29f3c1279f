"""A table that is made in pieces: its rows, one a recipe, are kept in a JSON file as they come."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from config import Experiment, UserError
from preprocessing import files
from utility.command_line import scripts
from utility.command_line.text_table import markdown_table  # noqa: F401  as all pages need it

FAILURE = 'failure'  # the key of a row that says why there is none


def define_flags() -> None:
    """Define the flags of every command that makes such a table."""
    flags.DEFINE_list('scripts', [], 'Train scripts to measure; none: all in the root.')
    define_output('Markdown file for the table, with what it says of itself.')
    flags.DEFINE_string(
        'json', None, 'Where the rows are kept: of those that are there none is measured again.'
    )
    flags.DEFINE_boolean('again', False, 'Measure also what --json holds.')


def define_output(text: str) -> None:
    """Define --output, of which `text` is the help. What cannot be written is refused at once."""
    flags.DEFINE_string('output', None, text)
    flags.register_validator('output', _check_output)


def _check_output(path: str | None) -> bool:
    """Return True if a file could be written: asked before it takes minutes to make it."""
    try:
        files.check_output(path or os.devnull)
    except (UserError, OSError) as error:
        raise flags.ValidationError(getattr(error, 'strerror', None) or str(error)) from error
    return True


def given(positional: Sequence[str], *names: str) -> flags.FlagValues:
    """Return the values of the flags.

    Raises:
        UserError: A word belongs to no flag, or one of the flags of these names is missing.
    """
    scripts.no_positional(positional)
    if not all(flags.FLAGS[name].value for name in names):
        listed = ', '.join(f'--{name}' for name in names[:-1])
        raise UserError(f'{listed} and --{names[-1]} are needed')
    return flags.FLAGS


def check_names(flag: str, known: Iterable[str]) -> None:
    """Refuse a value of a flag, a list, that is not among those known."""
    for name in flags.FLAGS[flag].value:
        if name not in known:
            raise UserError(f'--{flag}={name}: there are {", ".join(known)}')


def numbers_of(flag: str, least: int = 1) -> list[int]:
    """Return the value of a flag, a list of at least so many numbers, in ascending order."""
    texts = flags.FLAGS[flag].value
    numbers = sorted({int(text) for text in texts if text.isdecimal()} - {0})
    if len(numbers) < max(len(texts), least):
        many = f'{least} or more different' if least > 1 else 'different'
        raise UserError(f'--{flag}={",".join(texts)}: must be {many} numbers above 0')
    return numbers


def command(words: str, names: Sequence[str], values: flags.FlagValues) -> str:
    """Return a command: `words` and the named flags that differ from their defaults."""
    changed = [(name, values[name].value) for name in names if not values[name].using_default_value]
    texts = [(name, ','.join(v) if isinstance(v, list) else v) for name, v in changed]
    return ' '.join([words, *(f'--{name}={text}' for name, text in texts)])


class Ledger:
    """Rows by recipe; each is saved as soon as it is there.

    A row belongs to the experiment and to the settings it was measured with.

    Args:
        path: JSON file, which need not exist; None: rows are not kept.
        settings: How the rows are measured, as plain values.

    Raises:
        UserError: The file holds rows of other settings, or something else.
    """

    def __init__(self, path: str | None, settings: Mapping[str, Any]):
        self._path = Path(path) if path else None
        self._settings = dict(settings)
        self.rows: dict[str, dict[str, Any]] = {}
        if self._path and self._path.exists():
            self.rows = self._read()

    def _read(self) -> dict[str, dict[str, Any]]:
        try:
            saved = json.loads(self._path.read_text())
            rows, settings = saved['rows'], saved['settings']
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f'--json={self._path}: is not a file of this command') from error
        if settings != self._settings:
            raise UserError(
                f'--json={self._path}: was made with {settings}, not with {self._settings}; '
                'give the same flags or another file'
            )
        return rows

    def is_missing(self, recipe: str, experiment: Experiment) -> bool:
        """Return whether a recipe has no row, that of a failure, or one of other values."""
        row = self.rows.get(recipe, {FAILURE: ''})
        return FAILURE in row or row['experiment'] != _fingerprint(experiment)

    def add(self, recipe: str, experiment: Experiment, row: Mapping[str, Any]) -> None:
        self.rows[recipe] = {**row, 'experiment': _fingerprint(experiment)}
        if self._path:
            content = {'settings': self._settings, 'rows': self.rows}
            files.write_bytes(self._path, files.json_bytes(content))


def _fingerprint(experiment: Experiment) -> str:
    return hashlib.sha256(experiment.to_json().encode()).hexdigest()[:16]


def machines(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a paragraph: on which machines, and when, rows were measured."""
    lines = sorted({row['machine'] for row in rows.values() if 'machine' in row})
    return ''.join(f'Measured on {line}.\n' for line in lines) + '\n'


def publish(text: str, output: str | None) -> None:
    """Print a page and write it to a file, if one is wanted."""
    print(text)
    if output:
        files.write_bytes(output, text.encode())
