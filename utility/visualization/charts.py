"""Line charts for pages: numbers over steps, or over another quantity; inline SVG by matplotlib."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

MOST_POINTS = 240  # of a line; what has more is averaged
_FEW_POINTS = 60  # that are marked one by one
_LOG_RATIO = 10.0  # of the largest number to the smallest, from which on the axis is logarithmic
_FEW_DECADES = 3  # of a logarithmic axis with ticks at 2 and 5 times the powers of ten too
# At least 3 : 1 against the ground of a page, light or dark, and told apart by the color-blind.
_COLORS = ('#2f7fd6', '#d55e00', '#1a936f', '#b65fa9', '#a67c00', '#808080')
# What follows the page, which is light or dark; matplotlib knows no variables of CSS.
_MUTED, _GRID = '#010203', '#040506'
_REPLACED = {_MUTED: 'var(--muted)', _GRID: 'var(--line)', "'DejaVu Sans'": 'sans-serif'}
_SETTINGS = {
    'svg.fonttype': 'none',  # text stays text
    'text.parse_math': False,
    'font.sans-serif': ['DejaVu Sans'],
    'font.size': 9,
    'axes.edgecolor': _GRID,
    'axes.labelcolor': _MUTED,
    'axes.spines.left': False,
    'axes.spines.right': False,
    'axes.spines.top': False,
    'grid.color': _GRID,
    'legend.frameon': False,
    'legend.labelcolor': _MUTED,
    'lines.markersize': 4,
    'xtick.color': _MUTED,
    'ytick.color': _MUTED,
    'ytick.left': False,
}


class Scale(NamedTuple):
    """The horizontal axis.

    Attributes:
        name: Of what is along it.
        low: Where it begins.
        is_log: Whether places are by the logarithm.
    """

    name: str = 'step'
    low: float = 0.0
    is_log: bool = False


STEPS = Scale()


class Line(NamedTuple):
    """Numbers over steps.

    Attributes:
        name: What they are.
        steps: [N], increasing: steps, or what else the horizontal axis shows.
        values: [N]; those that are not finite are left out.
    """

    name: str
    steps: Sequence[float]
    values: Sequence[float]


class Chart(NamedTuple):
    """What the macro show_chart shows.

    Attributes:
        svg: The drawing; equal lines give equal text.
        words: What it shows, for those who hear the page.
    """

    svg: str
    words: str


def thin(steps, values, most: int = MOST_POINTS) -> tuple[np.ndarray, ...]:
    """Average numbers in at most `most` groups of neighbors.

    Returns:
        Steps and values, and the smallest and largest value of each group; numbers that are not
        finite are left out.
    """
    steps, values = np.asarray(steps, np.float64), np.asarray(values, np.float64)
    finite = np.isfinite(values)
    steps, values = steps[finite], values[finite]
    groups = np.array_split(np.arange(len(values)), min(len(values), most) or 1)
    groups = [group for group in groups if len(group)]
    reductions = ((steps, np.mean), (values, np.mean), (values, np.min), (values, np.max))
    return tuple(np.array([f(of[group]) for group in groups]) for of, f in reductions)


def draw(title: str, lines: Sequence[Line], last_step: float, scale: Scale = STEPS) -> Chart | None:
    """Draw a chart of the lines that have a finite number; None if none has.

    Args:
        title: What is shown, for those who hear the page.
        last_step: Where the axis of steps ends; not where it begins.
        scale: The axis of steps, or of what stands in their place.
    """
    thinned = {line.name: thin(line.steps, line.values) for line in lines}
    thinned = {name: parts for name, parts in thinned.items() if len(parts[0])}
    if not thinned:
        return None
    ends = ', '.join(f'{name} {parts[1][-1]:.4g}' for name, parts in thinned.items())
    words = f'{title}, up to {scale.name} {last_step:g}. At the end: {ends}.'
    return Chart(_svg(words, thinned, last_step, scale), words)


def _svg(salt: str, thinned: dict, last_step: float, scale: Scale) -> str:
    import matplotlib  # here, as few commands draw charts
    from cycler import cycler
    from matplotlib.figure import Figure

    cycle = cycler(linestyle=['-', (0, (7, 3)), (0, (2, 3))]) * cycler(color=_COLORS)
    # Ids are unique within a page by the salt.
    settings = {**_SETTINGS, 'svg.hashsalt': salt, 'axes.prop_cycle': cycle}
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=(8.4, 3.6), layout='constrained')
        axes = figure.subplots()
        dots = [_plot(axes, name, parts, scale.name) for name, parts in thinned.items()]
        lows, highs = (np.concatenate(parts) for parts in list(zip(*thinned.values()))[2:])
        is_log = bool(lows.min() > 0 and highs.max() / lows.min() >= _LOG_RATIO)
        axes.set_xlim(scale.low, last_step)
        _place_ticks(axes.xaxis, scale.is_log)
        _place_ticks(axes.yaxis, is_log)
        axes.set_xlabel(scale.name)
        axes.grid(axis='y')
        figure.legend(loc='outside upper left', ncols=3)
        file = io.StringIO()
        no_metadata = dict.fromkeys(('Creator', 'Date', 'Format', 'Type'))
        figure.savefig(file, format='svg', transparent=True, metadata=no_metadata)
    svg = file.getvalue()
    svg = svg[svg.index('<svg') :]
    for name, replacement in _REPLACED.items():
        svg = svg.replace(name, replacement)
    words = iter([text for texts in dots for text in texts])
    return re.sub(
        r'<g id="dots">.*?</g>',
        lambda group: re.sub(
            r'(<use [^>]*)/>', lambda use: f'{use[1]}><title>{next(words)}</title></use>', group[0]
        ),
        svg,
        flags=re.DOTALL,
    )


def _plot(axes, name: str, parts: tuple[np.ndarray, ...], x_name: str) -> list[str]:
    """Add a line, and dots if it has few points: the words of each."""
    steps, values, lows, highs = parts
    (line,) = axes.plot(steps, values, label=f'{name}: {values[-1]:.4g}')
    if (lows < highs).any():
        axes.fill_between(steps, lows, highs, color=line.get_color(), alpha=0.16, linewidth=0)
    if len(steps) > _FEW_POINTS:
        return []
    axes.plot(steps, values, 'o', color=line.get_color(), clip_on=False, gid='dots')
    return [html.escape(f'{name}, {x_name} {x:.6g}: {y:.6g}') for x, y in zip(steps, values)]


def _place_ticks(axis, is_log: bool) -> None:
    """Place ticks at round numbers: 1, 2 and 5 times powers of ten."""
    from matplotlib import ticker

    axis.set_major_locator(ticker.MaxNLocator(6, steps=[1, 2, 5, 10]))
    if is_log:
        axis.axes.set(**{f'{axis.axis_name}scale': 'log'})
        low, high = axis.get_view_interval()
        subs = (1, 2, 5) if high / low < 10**_FEW_DECADES else (1,)
        axis.set_major_locator(ticker.LogLocator(subs=subs))
        axis.set_minor_locator(ticker.NullLocator())
    axis.set_major_formatter(lambda value, _: f'{value:.6g}')
