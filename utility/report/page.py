"""The page of a report: what findings tells, as tables, charts and pictures."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

from utility.errors import page as error_page
from utility.errors.budget import FIXED, KINDS
from utility.metrics.normalized_error import PCK_THRESHOLDS
from utility.report.findings import LEVELS, PCK_CURVE, Findings, Network
from utility.train import curves
from utility.visualization import charts, html_page
from utility.visualization.charts import Chart, Line, Scale
from utility.visualization.html_page import Table


class NetworkPart(NamedTuple):
    """A network on the page: a paragraph, its curves by title, and its command."""

    title: str
    words: str
    curves: dict[str, Chart]
    command: str


def write(path: str | os.PathLike, found: Findings) -> None:
    """Write the page: it is complete or not there."""
    template = html_page.template(__file__, 'report.html')
    values = {
        'title': f'Report of {found.name}',
        'found': found,
        'data': data_words(found),
        'parts': [_part(network, found.source) for network in found.networks],
        'headline': headline(found),
        'pck': _pck_chart(found),
        'tables': {name: make(found) for name, make in _TABLES.items()},
        'told': told_tables(found),
        'told_charts': _told_charts(found),
        'radii_tables': radii_tables(found),
        'radii_charts': _radii_charts(found),
        'errors': error_page.tables(found.errors),
        'kinds': {kind: KINDS[kind] for kind in found.errors['kinds']},
        'fixed': FIXED,
        'speed': speed_words(found),
        'sizes': sizes_table(found),
    }
    html_page.write_page(path, template, values)


def percent(value: float, digits: int = 2) -> str:
    return f'{100 * value:.{digits}f}'


def headline(found: Findings) -> str:
    """Return NE with its interval, on what."""
    score = found.score
    low, high = score.confidence['normalized_error']
    return (
        f'NE {percent(score.normalized_error)} %, 95 % interval [{percent(low)}, '
        f'{percent(high)}], over {score.points:,} visible points of {score.images:,} pictures.'
    )


def data_words(found: Findings) -> str:
    """Return a sentence on the records."""
    counts = {name: sum(split.values()) for name, split in found.splits.items()}
    splits = ', '.join(f'{name} {count:,}' for name, count in counts.items())
    schema = found.schema
    return (
        f'The data set is {schema.name}: {schema.num_keypoints} keypoints, '
        f'{len(schema.categories)} categories. Records: {splits}. Scored here: {found.split_dir}, '
        + (f'predicted with {found.options}.' if found.options else 'predicted plainly.')
    )


def network_words(network: Network) -> str:
    """Return a paragraph: the network, and how it was trained."""
    experiment, height_width = network.experiment, network.experiment.network.image_size
    settings = experiment.network
    start = f'the weights {network.start}' if network.start else 'random weights'
    step = 'a mean of checkpoints' if network.step is None else f'step {network.step:,}'
    told = network.validation.get('normalized_error')
    validation = f'; its NE on the validation split was {percent(told)} %' if told else ''
    return (
        f'{settings.backbone} with the head {settings.head} on pictures of '
        f'{height_width[1]} x {height_width[0]} px, {network.parameters:,} weights, for '
        f'{", ".join(network.categories)}. Trained from {start} for {experiment.epochs:g} epochs '
        f'in batches of {experiment.data.batch_size} by {experiment.optimizer.name} at a learning '
        f'rate of {experiment.optimizer.learning_rate:g}, with the loss {experiment.loss.kind}, '
        f'seed {experiment.seed}. Used are the weights of {step}{validation}.'
    )


def _part(network: Network, source: str) -> NetworkPart:
    step = network.step or 10**9
    title = os.path.basename(network.folder.rstrip('/'))
    drawn = curves.charts_of(network.folder, step, f'{title}: ') if network.step else {}
    return NetworkPart(title, network_words(network), drawn, network.command)


def _scores_table(caption: str, group: str, found: Findings) -> Table:
    score = found.score
    errors = getattr(score, f'per_{group}')
    points = getattr(score, f'points_per_{group}')
    pck = getattr(score, f'pck_per_{group}')
    ends = score.confidence.get(f'per_{group}', {})
    rows = []
    for name, error in errors.items():
        interval = '[{}, {}]'.format(*map(percent, ends[name])) if name in ends else ''
        shares = [percent(share, 1) for share in pck[name].values()]
        rows.append([name, percent(error), *([interval] if ends else []), str(points[name])])
        rows[-1] += shares
    thresholds = [f'PCK@{threshold}' for threshold in PCK_THRESHOLDS]
    head = [group, 'NE %', *(['95 % interval'] if ends else []), 'points', *thresholds]
    most = max(errors.values())
    return Table(caption, head, rows, [error / most for error in errors.values()] if most else ())


def category_table(found: Findings) -> Table:
    """Return NE and PCK of each category, with intervals."""
    return _scores_table('By category', 'category', found)


_TABLES = {
    'category': category_table,
    'keypoint': lambda found: _scores_table('By keypoint', 'keypoint', found),
}


def _pck_chart(found: Findings) -> Chart | None:
    lines = [
        Line(name, PCK_CURVE, [100 * share for share in shares])
        for name, shares in found.pck_curve.items()
    ]
    scale = Scale('error, normalizers')
    return charts.draw('PCK, % of points that are not further off', lines, PCK_CURVE[-1], scale)


def radii_tables(found: Findings) -> list[Table]:
    """Return how many points the radii held, by category, and what is left without the largest."""
    radii = found.radii
    if radii is None:
        return []
    parts = {'all': (radii.coverage, *(radii.interval or (0, 1)), radii.points)}
    parts.update(radii.per_category)
    rows = [
        [name, percent(held, 1), f'[{percent(low, 1)}, {percent(high, 1)}]', str(points)]
        for name, (held, low, high, points) in parts.items()
    ]
    head = ['', 'held %', '95 % interval', 'points']
    tables = [Table(f'Points in circles of {100 * radii.level:g} %', head, rows)]
    if radii.curve:
        rows = [[percent(s, 0) + ' %', f'{r:.1f}', percent(e)] for s, r, e in radii.curve]
        head = ['points kept', 'largest radius, px', 'NE % of them']
        tables.append(Table('Leaving out the largest circles', head, rows))
    return tables


def _radii_charts(found: Findings) -> dict[str, Chart]:
    if found.radii is None:
        return {}
    levels = [100 * level for level in LEVELS]
    held = [
        Line('held', levels, [100 * share for share in found.coverage]),
        Line('asked for', levels, levels),
    ]
    drawn = {
        'Points held, %': charts.draw('Points held, %', held, 100, Scale('asked for, %', 40)),
    }
    curve = sorted(found.radii.curve)
    if curve:
        shares, _, errors = zip(*curve)
        line = Line('NE %', [100 * s for s in shares], [100 * e for e in errors])
        title = 'NE of the points kept, %'
        drawn[title] = charts.draw(title, [line], 100, Scale('points kept, %', 40))
    return {title: chart for title, chart in drawn.items() if chart}


def told_tables(found: Findings) -> list[Table]:
    """Return how right the network is on category and presence, where it tells them."""
    tables = []
    category, presence = (found.attributes.get(name) for name in ('category', 'presence'))
    if category:
        rows = [
            [name, str(row['images']), percent(row['accuracy'], 1)]
            for name, row in category['per_category'].items()
        ]
        rows.append(['all', str(category['images']), percent(category['accuracy'], 1)])
        tables.append(Table('Category', ['category', 'pictures', 'right, %'], rows))
    if presence:
        events = ('present', 'visible')
        head = ['', 'points', *(f'{e}: {k}' for e in events for k in ('precision %', 'recall %',
                                                                    'ECE'))]  # fmt: skip
        parts = {'all': presence['all'], **presence['per_category']}
        rows = [[name, str(own['points']), *_presence_cells(own, events)]
                for name, own in parts.items()]  # fmt: skip
        tables.append(Table('Presence of points', head, rows))
    return tables


def _presence_cells(own, events: Sequence[str]) -> list[str]:
    keys = ('precision', 'recall', 'expected_calibration_error')
    values = [own[event][key] for event in events for key in keys]
    return ['' if value is None else percent(value, 1) for value in values]


def _told_charts(found: Findings) -> dict[str, Chart]:
    presence = found.attributes.get('presence')
    if not presence:
        return {}
    lines = [
        Line(event, [100 * one['mean'] for one in bins], [100 * one['share'] for one in bins])
        for event, bins in presence['reliability'].items()
    ]
    lines.append(Line('perfect', [0, 100], [0, 100]))
    title = 'Reliability: what happened, %'
    chart = charts.draw(title, lines, 100, Scale('what was predicted, %'))
    return {title: chart} if chart else {}


def speed_words(found: Findings) -> str:
    """Return how fast the split was predicted, where it was not too small to tell."""
    if found.pictures_per_second != found.pictures_per_second:
        return 'The split is too small to tell how fast it was predicted.'
    return (
        f'{found.pictures_per_second:.1f} pictures a second, from records to points, on '
        f'{found.machine}, beside whatever else ran there.'
    )


def sizes_table(found: Findings) -> Table:
    """Return the size of each network."""
    rows = [
        [os.path.basename(network.folder), f'{network.parameters:,}',
         f'{4 * network.parameters / 2**20:.1f}']
        for network in found.networks
    ]  # fmt: skip
    return Table('Size', ['network', 'weights', 'MiB in float32'], rows)
