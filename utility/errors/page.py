"""The error budget for people: tables of text, and a page with the worst pictures of each kind."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from utility.errors.budget import FIXED, KINDS
from utility.errors.oracles import ORACLES
from utility.errors.subsets import SUBSETS
from utility.metrics.normalized_error import PCK_THRESHOLDS
from utility.visualization import html_page


class Figure(NamedTuple):
    """One of the worst pictures of a kind.

    Attributes:
        image_id: Of the picture.
        category: Of the picture.
        points: Its points of the kind and how far each is off, in words.
        cost: The part of NE that they are.
        picture: The picture, drawn.
    """

    image_id: str
    category: str
    points: str
    cost: float
    picture: html_page.DecodedImage


class Section(NamedTuple):
    """The worst pictures of a kind, the worst first."""

    kind: str
    title: str
    meaning: str
    figures: list[Figure]


def section(kind: str, figures: list[Figure]) -> Section:
    return Section(kind, KINDS[kind].title, KINDS[kind].meaning, figures)


def write_page(path: str | os.PathLike, report: Mapping, sections: Sequence[Section]) -> None:
    """Write the page of a report as eval_errors makes it: it is complete or not there."""
    template = html_page.template(__file__, 'errors.html')
    values = {
        'title': 'Where NE comes from',
        'report': report,
        'tables': tables(report, per_keypoint=True),
        'sections': sections,
        'kinds': KINDS,
        'fixed': FIXED,
    }
    html_page.write_page(path, template, values)


def tables(report: Mapping, per_keypoint: bool = False) -> list[html_page.Table]:
    """Return the tables of a report as eval_errors makes it; NE in percent."""
    page_tables = [_kinds_table(report), _parts_table('category', report)]
    if per_keypoint:
        page_tables.append(_parts_table('keypoint', report))
    page_tables.append(_oracles_table(report))
    return page_tables + [_bins_table(name, bins) for name, bins in report['subsets'].items()]


def _percent(value: float, digits: int = 4) -> str:
    return f'{100 * value:.{digits}f}'


def _kinds_table(report: Mapping) -> html_page.Table:
    rows = [
        [
            KINDS[kind].title,
            str(row['points']),
            _percent(row['share'], 2),
            _percent(row['normalized_error']),
            _percent(row['if_fixed']),
        ]
        for kind, row in report['kinds'].items()
    ]
    total = report['normalized_error']
    rows.append(['All', str(report['points']), '', _percent(total), ''])
    parts = [row['normalized_error'] for row in report['kinds'].values()]
    head = ['kind', 'points', '% of points', 'NE %', 'NE % if fixed']
    shares = [part / total for part in parts] if total else ()
    return html_page.Table('What NE consists of', head, rows, shares)


def _parts_table(group: str, report: Mapping) -> html_page.Table:
    parts = report[f'per_{group}']
    # A kind of which there is nothing would be a column of zeros.
    kinds = [k for k in report['kinds'] if any(p['kinds'][k]['points'] for p in parts.values())]
    rows = [
        [
            name,
            str(part['points']),
            *(_percent(part['kinds'][kind]['normalized_error'], 3) for kind in kinds),
            _percent(part['normalized_error'], 3),
        ]
        for name, part in parts.items()
    ]
    head = [group, 'points', *(KINDS[kind].title for kind in kinds), 'All']
    return html_page.Table(f'NE % of each {group}', head, rows)


def _oracles_table(report: Mapping) -> html_page.Table:
    rows = [
        [ORACLES[name], _percent(row['normalized_error']), _percent(row['gain'])]
        for name, row in report['oracles'].items()
    ]
    head = ['always the better of two', 'NE %', 'gain']
    return html_page.Table('What a perfect choice would gain', head, rows)


def _bins_table(name: str, bins: Sequence[Mapping]) -> html_page.Table:
    rows = [
        [
            row['label'],
            str(row['images']),
            str(row['points']),
            _percent(row['normalized_error']),
            '[{}, {}]'.format(*map(_percent, row['interval'])) if row['interval'] else '',
            *(_percent(share, 2) for share in row['pck'].values()),
        ]
        for row in bins
    ]
    thresholds = [f'PCK@{threshold}' for threshold in PCK_THRESHOLDS]
    head = [name.replace('_', ' '), 'pictures', 'points', 'NE %', '95 % interval', *thresholds]
    return html_page.Table(SUBSETS[name].title, head, rows)
