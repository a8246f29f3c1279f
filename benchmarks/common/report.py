"""One page of several parts, each measured in a process of its own.

A part is a module with `NAME: str`, its title, and `measure(repeats: int) -> list[Table]`.
A part that fails is told on the page; the others are measured all the same.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import platform
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from absl import logging

from benchmarks.common import isolated, ledger
from benchmarks.common.recipes import ROOT
from preprocessing import files

# The last two columns of a table whose rows have targets.
TARGET, MET = 'target', 'met'
_YES, _NO = 'yes', '**no**'
_LIBRARIES = ('numpy', 'pandas', 'opencv-python-headless')


@dataclasses.dataclass(frozen=True)
class Table:
    """What is shown of a part, or of some of it.

    Attributes:
        title: Above the table.
        header: Names of the columns; where rows have targets, the last two are TARGET and MET.
        rows: Cells; each row is as long as the header.
        notes: What one must know to read it: a list below the table.
        numbers: The raw numbers, of which JSON can be made.
        in_short: What README says of it, or nothing: whole sentences.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()
    numbers: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    in_short: str = ''


class Target(NamedTuple):
    """What a number is to be: `at_least` or `at_most` so much."""

    at_least: float | None = None
    at_most: float | None = None
    unit: str = ''

    def cells(self, value: float) -> tuple[str, str]:
        """Return the last two cells of a row: what was wanted, and whether the value is it."""
        is_least = self.at_least is not None
        limit = self.at_least if is_least else self.at_most
        met = value >= limit if is_least else value <= limit
        text = f'{"at least" if is_least else "at most"} {limit:g} {self.unit}'
        return text.strip(), _YES if met else _NO


NO_TARGET = ('', '')  # the last two cells of a row without one


class Result(NamedTuple):
    """What came of a part.

    Attributes:
        title: Its NAME, or the name of the module where that could not be loaded.
        tables: Empty if it failed.
        failure: Why it failed, or None.
        seconds: It took.
        revision: Of this tree, where it was measured before this run.
        machine: Likewise.
    """

    title: str
    tables: Sequence[Table] = ()
    failure: str | None = None
    seconds: float = 0.0
    revision: str = ''
    machine: str = ''


def measurements(module: str, repeats: int) -> Iterator[Any]:
    """Yield, in a process of its own, first the title of a part, then its tables."""
    part = importlib.import_module(module)
    yield part.NAME
    yield list(part.measure(repeats))


def measure(module: str, repeats: int) -> Result:
    """Measure the part of a module."""
    title, start = module, time.perf_counter()
    with isolated.Remote(measurements, module, repeats, has_children=True) as remote:
        try:
            title = next(remote)
            logging.info('%s ...', title)
            result = Result(title, next(remote))
        except isolated.FailedError as error:
            result = Result(title, failure=str(error))
    seconds = time.perf_counter() - start
    logging.info('%s: %.0f s%s', title, seconds, f', {result.failure}' if result.failure else '')
    return result._replace(seconds=seconds)


def measured_before(output: str | None) -> dict[str, Result]:
    """Return name -> part of the JSON beside a page; nothing where there is none."""
    path = output and Path(output).with_suffix('.json')
    if not path or not path.exists():
        return {}
    saved = json.loads(path.read_text())
    results = {}
    for name, part in saved['parts'].items():
        tables = [Table(**table) for table in part['tables']]
        where = {key: part.get(key) or saved[key] for key in ('revision', 'machine')}
        results[name] = Result(**{**part, 'tables': tables, **where})
    return results


def surroundings() -> dict[str, str]:
    """Return where and with what is measured: machine (with the date), versions, revision."""
    versions = [f'Python {platform.python_version()}']
    versions += [f'{name} {metadata.version(name)}' for name in _LIBRARIES]
    machine = isolated.call(isolated.describe_machine)
    return {'machine': machine, 'versions': ', '.join(versions), 'revision': _revision()}


def made_by(command: str) -> str:
    """Return the first paragraph of a page: the command that made it, where, and with what."""
    where = surroundings()
    place = f'{where["machine"]}, {where["versions"]}; revision {where["revision"]}'
    return f'Made by `{command}`.\n{place}.\n\n'


def _revision() -> str:
    """Return the commit of this tree, with '-dirty' after it where files differ from it."""
    command = ['git', 'describe', '--always', '--dirty', '--abbrev=7', '--exclude=*']
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return process.stdout.strip() or 'unknown'


def page(command: str, where: Mapping[str, str], results: Mapping[str, Result]) -> str:
    """Return the page, Markdown."""
    seconds = sum(result.seconds for result in results.values() if not result.revision)
    earlier = [result for result in results.values() if result.revision]
    before = ', '.join(result.title for result in earlier)
    lines = [
        '# Speed, measured\n',
        f'Made by `{command}` in {seconds / 60:.1f} minutes.\n',
        f'{where["machine"]}, {where["versions"]}; revision {where["revision"]}.\n',
        *([f'Kept from earlier runs, see the end: {before}.\n'] if earlier else []),
        'Numbers are medians ± half the distance between the quartiles. What is compared was run in'
        ' turn, round by round, so that a slow minute slows all of it alike.\n',
        f'{targets_in_words(results)}\n',
    ]
    summaries = [
        table.in_short for result in results.values() for table in result.tables if table.in_short
    ]
    lines += [f'**In short.** {" ".join(summaries)}\n'] if summaries else []
    for result in results.values():
        lines.append(f'## {result.title}\n')
        if result.failure:
            lines.append(f'Failed: {result.failure}\n')
        lines += [_section(table, result.title) for table in result.tables]
    lines += ['## What this took\n', _costs(results, where)]
    return '\n'.join(lines)


def targets_in_words(results: Mapping[str, Result]) -> str:
    """Return how many of the targets are met, and which are not."""
    judged = [
        (table.title, row)
        for result in results.values()
        for table in result.tables
        if tuple(table.header[-2:]) == (TARGET, MET)
        for row in table.rows
        if row[-1]
    ]
    if not judged:
        return 'None of the parts has targets.'
    missed = [f'{row[0]} ({title})' for title, row in judged if row[-1] != _YES]
    words = f'{len(judged) - len(missed)} of {len(judged)} targets are met'
    return f'{words}; not met: {"; ".join(missed)}.' if missed else f'{words}.'


def _section(table: Table, title: str) -> str:
    heading = '' if table.title == title else f'### {table.title}\n\n'
    notes = ''.join(f'- {note}\n' for note in table.notes)
    return heading + ledger.markdown_table(table.header, table.rows) + (notes and f'\n{notes}')


def _costs(results: Mapping[str, Result], where: Mapping[str, str]) -> str:
    rows = [
        (
            result.title,
            f'{result.seconds:.0f}',
            result.revision or where['revision'],
            (result.machine or where['machine']).rpartition(', ')[2],
        )
        for result in results.values()
    ]
    return ledger.markdown_table(('part', 's', 'revision', 'date'), rows)


def publish(command: str, results: Mapping[str, Result], output: str | None) -> None:
    """Print the page and, if `output` is given, write it and the same as JSON beside it."""
    where = surroundings()
    text = page(command, where, results)
    parts = {
        name: {**result._asdict(), 'tables': [dataclasses.asdict(table) for table in result.tables]}
        for name, result in results.items()
    }
    numbers = files.json_bytes({'command': command, **where, 'parts': parts})  # before writing
    if output:
        files.write_bytes(Path(output).with_suffix('.json'), numbers)
    ledger.publish(text, output)
