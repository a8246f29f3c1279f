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

_TEMPLATE = """
{% extends 'page.html' %}
{% from 'parts.html' import show_table, show_picture %}
{% block main %}
<p>{{ report.source }}: NE {{ '%.4f' % (100 * report.normalized_error) }} % over
{{ report.points }} points of {{ report.images }} pictures, of which {{ report.skipped_images }}
without a normaliser are skipped; {{ report.missing_predictions }} points to score have no
prediction.</p>
<nav aria-label="Contents"><ul>
{% for table in tables %}
<li><a href="#table{{ loop.index }}">{{ table.caption }}</a></li>
{% endfor %}
{% for section in sections %}
<li><a href="#{{ section.kind }}">Worst: {{ section.title }}</a></li>
{% endfor %}
</ul></nav>
{% for table in tables %}
<h2 id="table{{ loop.index }}">{{ table.caption }}</h2>
{% if loop.first %}
<dl>
{% for kind in report.kinds %}
<dt><strong>{{ kinds[kind].title }}</strong></dt><dd>{{ kinds[kind].meaning }}</dd>
{% endfor %}
</dl>
<p>{{ fixed }} The similarity of points at a distance d is exp(-d² / 2k²) with k =
{{ '%g' % report.similarity_scale }}: a point is good within
{{ '%.1f' % (100 * report.good_within) }} % of the normaliser, and found within
{{ '%.1f' % (100 * report.found_within) }} %.</p>
{% endif %}
{{ show_table(table) }}
{% endfor %}
<h2>Worst pictures</h2>
<p>Crosses are answers. Discs, named where they are few, are the predictions that have the error,
joined to their answers by yellow lines. Points of the left are red, of the right blue, of the
middle green.
Distances are in percent of the normaliser. {% if report.pictures_lacking %}
Of {{ report.pictures_lacking }} there was no picture: their points are on grey.{% endif %}</p>
{% for section in sections %}
<h3 id="{{ section.kind }}">{{ section.title }}</h3>
<p class="muted">{{ section.meaning }}</p>
<ul class="gallery">
{% for figure in section.figures %}
<li><figure>{{ show_picture(figure.picture) }}
<figcaption><strong>{{ '%.4f' % (100 * figure.cost) }} of NE %</strong>, {{ figure.category }}<br>
{{ figure.image_id }}<br>{{ figure.points }}</figcaption></figure></li>
{% endfor %}
</ul>
{% endfor %}
{% endblock %}
"""


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
    """Writes the page of a report as eval_errors makes it: it is complete or not there."""
    template = html_page.environment({'errors.html': _TEMPLATE}).get_template('errors.html')
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
    """The tables of a report as eval_errors makes it; NE in percent."""
    found = [_kinds_table(report), _parts_table('category', report)]
    if per_keypoint:
        found.append(_parts_table('keypoint', report))
    found.append(_oracles_table(report))
    return found + [_bins_table(name, bins) for name, bins in report['subsets'].items()]


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
    rows = [
        [
            name,
            str(part['points']),
            *(_percent(row['normalized_error'], 3) for row in part['kinds'].values()),
            _percent(part['normalized_error'], 3),
        ]
        for name, part in report[f'per_{group}'].items()
    ]
    head = [group, 'points', *(KINDS[kind].title for kind in report['kinds']), 'All']
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
            one['label'],
            str(one['images']),
            str(one['points']),
            _percent(one['normalized_error']),
            '[{}, {}]'.format(*map(_percent, one['interval'])) if one['interval'] else '',
            *(_percent(share, 2) for share in one['pck'].values()),
        ]
        for one in bins
    ]
    thresholds = [f'PCK@{threshold}' for threshold in PCK_THRESHOLDS]
    head = [name.replace('_', ' '), 'pictures', 'points', 'NE %', '95 % interval', *thresholds]
    return html_page.Table(SUBSETS[name].title, head, rows)
