"""Tables of text, for a terminal and for Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def text_table(rows: Iterable[Sequence[object]], left: int = 1) -> str:
    """Align the cells of rows, which may lack cells at their end.

    Args:
        rows: The cells, the titles among them.
        left: How many columns are aligned to the left; the others are to the right.

    Returns:
        A line for each row, without a line break at the end.
    """
    texts = [[str(cell) for cell in row] for row in rows]
    widths = [
        max(len(row[i]) for row in texts if i < len(row)) for i in range(max(map(len, texts)))
    ]
    lines = (
        '  '.join(
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths))
        )
        for row in texts
    )
    return '\n'.join(line.rstrip() for line in lines)


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown; the first column is aligned left, all others right."""
    rule = ['---', *['---:'] * (len(header) - 1)]
    lines = ([cell.replace('|', r'\|') for cell in row] for row in [header, rule, *rows])
    return ''.join(f'| {" | ".join(line)} |\n' for line in lines)
