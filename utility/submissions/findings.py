"""What a check of a file has found: where in the file, and what to do about it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import NamedTuple

ERROR = 'error'  # the file would be rejected
WARNING = 'warning'  # it keeps the rules, and is probably not what was meant
MAX_EXAMPLES = 5
_MAX_TEXT = 100  # characters of a text that comes from the file


class Example(NamedTuple):
    """A place: its line in the file, 0 for none; the picture and what is there, as far as known."""

    line: int
    image_id: str = ''
    detail: str = ''


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a file.

    Attributes:
        severity: ERROR or WARNING.
        check: Which check has found it, such as 'columns' or 'scale'.
        what: What is wrong.
        advice: What to do.
        unit: Of what there are `count`, in the plural, such as 'points'.
        count: How many times it was found.
        examples: At most MAX_EXAMPLES of the places.
    """

    severity: str
    check: str
    what: str
    advice: str
    unit: str = 'rows'
    count: int = 0
    examples: tuple[Example, ...] = ()

    def at(self, count: int, examples: Iterable[Example] = ()) -> list[Finding]:
        """Return the finding with its count and its first examples; nothing if the count is 0."""
        if not count:
            return []
        places = [example for example, _ in zip(examples, range(MAX_EXAMPLES))]
        printed = tuple(Example(int(n), printable(i), printable(d)) for n, i, d in places)
        return [dataclasses.replace(self, count=int(count), examples=printed)]


def printable(text: str) -> str:
    """Return a text of unknown origin for one line of a terminal."""
    text = text[: _MAX_TEXT + 1]
    text = text if text.isprintable() else ascii(text)[1:-1]
    return text if len(text) <= _MAX_TEXT else f'{text[:_MAX_TEXT]}...'


def num_errors(findings: Sequence[Finding]) -> int:
    return sum(finding.severity == ERROR for finding in findings)


def format_findings(findings: Sequence[Finding]) -> str:
    """Return the text for people: errors first, each with its places and what to do."""
    ordered = sorted(findings, key=lambda finding: finding.severity != ERROR)
    return '\n\n'.join(map(_format_finding, ordered))


def _format_finding(finding: Finding) -> str:
    lines = [f'{finding.severity}: {finding.what}: {finding.count:,} {finding.unit}']
    for line, image_id, detail in finding.examples:
        lines.append('    ' + ', '.join(filter(None, [line and f'line {line}', image_id, detail])))
    more = finding.count - len(finding.examples)
    if len(finding.examples) == MAX_EXAMPLES and more:
        lines.append(f'    ... and {more:,} more')
    return '\n'.join([*lines, f'  what to do: {finding.advice}'])
