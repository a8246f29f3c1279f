"""Tables of text are aligned, whatever stands in them."""

from __future__ import annotations

from utility.command_line.text_table import text_table


def test_columns_are_as_wide_as_their_widest_cell():
    rows = [['', 'NE %', 'points'], ['all', '6.1234', 10], [], ['a long name', '', 7]]
    assert text_table(rows).splitlines() == [
        '               NE %  points',
        'all          6.1234      10',
        '',
        'a long name               7',
    ]


def test_several_columns_may_be_to_the_left():
    assert text_table([['a', 'bb', 1], ['ccc', 'd', 22]], left=2) == 'a    bb   1\nccc  d   22'
