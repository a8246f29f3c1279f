"""Reads damaged and made-up files of every kind: each must be read, or refused in a sentence.

    python -m benchmarks.fuzz --minutes=10 [--output=docs/fuzz.md]
    python -m benchmarks.fuzz --minutes=1 --targets=op strings,settings

Inputs are sound ones in which bytes or words are changed, and random ones, drawn by Hypothesis.
Each kind is read in a process of its own. Counted are inputs; those that were refused; tracebacks,
that is, errors that a command would not tell in a line; inputs that took longer than --patience;
processes that died; and the most memory that a process took. Exits with 1 if something is found.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from absl import flags

from benchmarks.common import ledger, report
from benchmarks.common.fuzz_targets import TARGETS, Target
from config import UserError
from preprocessing.files import json_bytes, write_bytes
from utility.command_line import environment, scripts

_MOST_BYTES = 2 << 30  # of memory
_EXAMPLES = 50  # that Hypothesis draws at once
_SHOWN = 3  # tracebacks of a kind
_COUNTED = ('inputs', 'refused', 'tracebacks', 'hangs', 'deaths')
_HEADER = ('kind', *_COUNTED, 'MB')
_COMMAND = 'python -m benchmarks.fuzz'
_WORDS = (
    '', '-1', '0', '1e400', '-0.0', 'nan', 'inf', '9' * 30, '9' * 5000, 'null', 'none', 'true',
    '{}', '[]', '{[]: 1}', '{1: 2}', '"', "'", '\0', '\ud7ff', '衣', '\r', '\n', ',', '|', '=', '(',
    ')', '(' * 300, '[' * 5000, '-' * 5000, '../../etc', '_', '.', ':', ' ', '*', '\\', '%s',
    '{height}',
)  # fmt: skip


def _inputs(target: Target):
    """Return a Hypothesis strategy of contents of the file."""
    from hypothesis import strategies as st

    def changed(sound: bytes):
        places = st.integers(0, len(sound))
        pieces = st.one_of(st.binary(max_size=8), st.sampled_from(sound).map(lambda b: bytes([b])))
        if target.text:
            words = st.sampled_from(_WORDS).map(str.encode)
            pieces = st.one_of(pieces, words, words)
        edits = st.tuples(places, st.integers(0, 12), pieces)
        return st.lists(edits, min_size=1, max_size=6).map(functools.partial(_edited, sound))

    return st.one_of(
        *map(changed, target.sound),
        st.sampled_from(target.sound).flatmap(
            lambda s: st.integers(0, len(s)).map(lambda n: s[:n])
        ),
        st.binary(max_size=300),
    )


def _edited(sound: bytes, edits) -> bytes:
    for place, removed, inserted in edits:
        sound = sound[:place] + inserted + sound[place + removed :]
    return sound


def _work(name: str, seed: int, seconds: float, results) -> None:
    """Read inputs of one kind for a time; tell of each before and after."""
    import hypothesis

    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    target = TARGETS[name]()
    until = time.time() + seconds
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, 'input')

        def read(data):
            if time.time() > until:
                return
            results.put(('begin', data))
            path.write_bytes(data)
            outcome = _outcome(target, path)
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
            results.put((*outcome, memory))

        while time.time() < until:
            seed += 1
            settings = hypothesis.settings(
                max_examples=_EXAMPLES,
                database=None,
                deadline=None,
                phases=[hypothesis.Phase.generate],
                suppress_health_check=list(hypothesis.HealthCheck),
            )
            hypothesis.seed(seed)(settings(hypothesis.given(_inputs(target))(read)))()
    results.put(('end', None))


def _outcome(target: Target, path: Path) -> tuple[str, str]:
    try:
        target.read(path)
    except (UserError, OSError) as error:
        many = '\n' in str(error).strip() and not isinstance(error, UserError)
        return ('traceback', repr(error)) if many else ('refused', '')
    except Exception as error:
        import traceback

        place = traceback.extract_tb(error.__traceback__)[-1]
        return 'traceback', f'{error!r} at {place.filename}:{place.lineno}'[-600:]
    return 'accepted', ''


def run(name: str, seconds: float, seed: int, patience: float) -> dict[str, Any]:
    """Read inputs of one kind for a time; what came of them."""
    counts: dict[str, Any] = dict.fromkeys(_COUNTED, 0)
    counts.update(memory=0, found=[])
    context, start = multiprocessing.get_context('spawn'), time.time()
    while seconds > 0:
        results = context.SimpleQueue()
        worker = context.Process(target=_work, args=(name, seed, seconds, results), daemon=True)
        worker.start()
        seed += 1_000_000
        if _follow(worker, results, counts, patience):
            break
        seconds -= time.time() - start
        start = time.time()
    return counts


def _follow(worker, results, counts: dict[str, Any], patience: float) -> bool:
    """Count what a worker tells until it ends; whether it ended by itself."""
    data, start = None, time.time()
    while True:
        if not results.empty():
            kind, *details = results.get()
            start = time.time()
            if kind == 'end':
                worker.join()
                return True
            if kind == 'begin':
                data = details[0]
                continue
            data = None
            counts['inputs'] += 1
            counts['refused'] += kind == 'refused'
            counts['memory'] = max(counts['memory'], details[1])
            if kind == 'traceback':
                counts['tracebacks'] += 1
                _note(counts, details[0])
        elif not worker.is_alive():
            counts['deaths'] += 1
            _note(counts, f'exit code {worker.exitcode} at {data!r:.300}')
            return False
        elif data is not None and time.time() - start > patience:
            counts['hangs'] += 1
            _note(counts, f'longer than {patience:g} s at {data!r:.300}')
            worker.kill()
            worker.join()
            return False
        else:
            time.sleep(0.005)


def _note(counts: dict[str, Any], text: str) -> None:
    if len(counts['found']) < _SHOWN:
        counts['found'].append(text)


def page(values: flags.FlagValues, rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Return what was counted as a page, Markdown."""
    names = ('minutes', 'targets', 'seed', 'patience')
    about = (
        '# Damaged and made-up files\n\n'
        f'{report.made_by(ledger.command(_COMMAND, names, values))}'
        'Inputs are files in which bytes or words were changed, and random ones. Each was read as '
        'it is, or refused\nin a sentence; what is neither is counted: tracebacks (what is accepted'
        f' and cannot be is one, too), inputs\nthat took longer than {values.patience:g} s, and '
        'processes that died. MB is the most memory of a process,\nof which TensorFlow alone takes '
        'some 500.\n\n'
    )
    lines = [[name, *_cells(row)] for name, row in rows.items()]
    sums = {key: sum(row[key] for row in rows.values()) for key in _COUNTED}
    most = max(row['memory'] for row in rows.values())
    return about + ledger.markdown_table(
        _HEADER, [*lines, ['all', *_cells({**sums, 'memory': most})]]
    )


def _cells(row: Mapping[str, Any]) -> list[str]:
    return [f'{n:,}' for n in (*(row[key] for key in _COUNTED), row['memory'] >> 20)]


def _define_flags() -> None:
    flags.DEFINE_float('minutes', 10, 'For all kinds together.', 0.01)
    flags.DEFINE_list('targets', list(TARGETS), 'Kinds of files to read.')
    flags.DEFINE_integer('seed', 0, 'Of the inputs.')
    flags.DEFINE_float('patience', 20, 'Seconds after which an input is a hang.', 1)
    flags.DEFINE_string('output_json', None, 'Where the counts go.')
    ledger.define_output('Markdown file for the counts, too.')


def main(positional: list[str]) -> None:
    scripts.no_positional(positional)
    values = flags.FLAGS
    ledger.check_names('targets', TARGETS)
    environment.hide_gpus()
    seconds = 60 * values.minutes / len(values.targets)
    rows = {}
    print(''.join(f'{title:>21}' if title == 'kind' else f'{title:>11}' for title in _HEADER))
    for name in values.targets:
        counts = rows[name] = run(name, seconds, values.seed, values.patience)
        print(f'{name:>21}' + ''.join(f'{cell:>11}' for cell in _cells(counts)))
        for text in counts['found']:
            print(f'    {text}', flush=True)
    total = sum(row['inputs'] for row in rows.values())
    print(f'{total:,} inputs')
    if values.output:
        write_bytes(values.output, page(values, rows).encode())
    if values.output_json:
        write_bytes(values.output_json, json_bytes(rows))
    if any(
        row['tracebacks'] + row['hangs'] + row['deaths'] or row['memory'] > _MOST_BYTES
        for row in rows.values()
    ):
        sys.exit('error: something was found')


if __name__ == '__main__':
    _define_flags()
    scripts.run(main, __doc__)
