"""The commands that README and docs show, as they would be typed."""

from __future__ import annotations

import pathlib
import re
import shlex
from typing import NamedTuple

from tests.commands import ROOT

PAGES = sorted([ROOT / 'README.md', *(ROOT / 'docs').glob('*.md')])
_FENCED = re.compile(r'^```[a-z]*\n(.*?)^```', re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r'(?<!`)`([^`]+)`(?!`)')
_COMMENT = re.compile(r'(^|\s)#.*$')
_STARTS = ('python ', 'bash ')


class Command(NamedTuple):
    """A command of a page.

    Attributes:
        page: Path below the root.
        words: As a shell would hand them over.
        is_whole: Whether it stands in a block, to be run as it is, and not inside a sentence.
    """

    page: str
    words: tuple[str, ...]
    is_whole: bool

    @property
    def program(self) -> str:
        """'eval_metrics.py', '-m utility.checkpoints' or 'demos/quickstart.sh'."""
        return ' '.join(self.words[1:3]) if self.words[1] == '-m' else self.words[1]

    @property
    def flags(self) -> list[str]:
        """Names of its flags, without dashes and values."""
        end = self.words.index('--') if '--' in self.words else len(self.words)
        return [w[2:].partition('=')[0] for w in self.words[:end] if w.startswith('--')]

    @property
    def settings(self) -> list[str]:
        """What it sets of an experiment: key=value."""
        pairs = zip(self.words, self.words[1:])
        after = [second for first, second in pairs if first == '--set']
        return after + [w[len('--set=') :] for w in self.words if w.startswith('--set=')]


def spans_of(text: str) -> list[str]:
    """Return what stands between backticks inside sentences, on one line each."""
    return [' '.join(span.split()) for span in _INLINE.findall(_FENCED.sub('', text))]


def commands_of(page: pathlib.Path) -> list[Command]:
    """Return the commands of a page: those of its blocks first, then those inside sentences."""
    text, name = page.read_text(), str(page.relative_to(ROOT))
    lines = [line for block in _FENCED.findall(text) for line in _joined(block)]
    found = [(line, True) for line in lines] + [(span, False) for span in spans_of(text)]
    return [
        Command(name, tuple(shlex.split(line)), is_whole)
        for line, is_whole in found
        if line.startswith(_STARTS)
    ]


def _joined(block: str) -> list[str]:
    """Return the lines of a block, without comments; what is indented goes on with the
    line before.
    """
    lines: list[str] = []
    goes_on = False
    for line in block.splitlines():
        line = _COMMENT.sub('', line)
        if lines and (goes_on or line[:1].isspace()):
            # Within a word, as in a long op string, the next line begins at once.
            lines[-1] += line if goes_on and not line[:1].isspace() else ' ' + line.strip()
        else:
            lines.append(line)
        goes_on = lines[-1].endswith('\\')
        lines[-1] = lines[-1].removesuffix('\\').rstrip() if goes_on else lines[-1]
    return [line for line in lines if line.strip()]
