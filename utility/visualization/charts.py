"""Line charts for pages: numbers over steps, or over another quantity.

They are inline SVG, which needs no script and no network.

TEMPLATE is the source of 'charts.html', with the macro show_chart, of what `draw` gives.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

WIDTH, HEIGHT = 720, 300  # of a chart, in its own units
MOST_POINTS = 240  # of a line; what has more is averaged
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 28, 10, 44  # margins
_FEW_POINTS = 60  # that are marked one by one
_LOG_RATIO = 10.0  # of the largest number to the smallest, from which on the axis is logarithmic
_TICKS = 5
_MOST_LOG_TICKS = 9
# At least 3 : 1 against the ground of a page, light or dark, and told apart by the colour-blind.
_COLORS = ('#2f7fd6', '#d55e00', '#1a936f', '#b65fa9', '#a67c00', 'currentColor')
_DASHES = ('', '7 3', '2 3')  # when there are more lines than colours

TEMPLATE = """
{% macro show_chart(chart) %}
<ul aria-hidden="true" style="display: flex; flex-wrap: wrap; gap: 0 1.5rem; padding: 0;
  margin: .3rem 0; list-style: none">
{% for line in chart.lines %}
<li><svg width="28" height="8" style="vertical-align: middle"><line x1="0" x2="28" y1="4" y2="4"
  stroke="{{ line.color }}" stroke-width="2.5" stroke-dasharray="{{ line.dash }}"/></svg>
{{ line.name }}: {{ line.last }}</li>
{% endfor %}
</ul>
<svg viewBox="0 0 {{ chart.width }} {{ chart.height }}" role="img" aria-label="{{ chart.words }}"
  style="width: 100%; height: auto; font-size: 12px" fill="none">
{% for tick in chart.y_ticks %}
<line x1="{{ chart.left }}" x2="{{ chart.right }}" y1="{{ tick.at }}" y2="{{ tick.at }}"
  stroke="var(--line)"/>
<text x="{{ chart.left - 6 }}" y="{{ tick.at + 4 }}" text-anchor="end" fill="var(--muted)">{{
tick.label }}</text>
{% endfor %}
{% for tick in chart.x_ticks %}
<line x1="{{ tick.at }}" x2="{{ tick.at }}" y1="{{ chart.bottom }}" y2="{{ chart.bottom + 4 }}"
  stroke="var(--muted)"/>
<text x="{{ tick.at }}" y="{{ chart.bottom + 18 }}" text-anchor="middle" fill="var(--muted)">{{
tick.label }}</text>
{% endfor %}
<text x="{{ (chart.left + chart.right) / 2 }}" y="{{ chart.height - 6 }}" text-anchor="middle"
  fill="var(--muted)">{{ chart.x_name }}</text>
{% for line in chart.lines %}
{% if line.band %}
<polygon points="{{ line.band }}" fill="{{ line.color }}" fill-opacity="0.16"/>
{% endif %}
<polyline points="{{ line.path }}" stroke="{{ line.color }}" stroke-width="1.8"
  stroke-dasharray="{{ line.dash }}" stroke-linejoin="round"/>
{% for dot in line.dots %}
<circle cx="{{ dot.x }}" cy="{{ dot.y }}" r="3" fill="{{ line.color }}"><title>{{ line.name }},
{{ dot.words }}</title></circle>
{% endfor %}
{% endfor %}
</svg>
{% endmacro %}
"""


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


class Tick(NamedTuple):
    at: float
    label: str


class Dot(NamedTuple):
    x: float
    y: float
    words: str


class DrawnLine(NamedTuple):
    name: str
    last: str
    color: str
    dash: str
    path: str
    band: str
    dots: list[Dot]


class Chart(NamedTuple):
    """What show_chart shows; places are in units of the chart."""

    words: str
    x_name: str
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    lines: list[DrawnLine]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = _LEFT
    right: int = WIDTH - _RIGHT
    bottom: int = HEIGHT - _BOTTOM


class Axis:
    """From numbers to places along a side of the chart, from a whole tick to a whole tick.

    Args:
        low: The smallest number.
        high: The largest.
        start: Where the smallest goes.
        end: Where the largest goes.
        is_log: Whether places are by the logarithm; the numbers are positive then, and the ends of
            the axis are the numbers themselves.
    """

    def __init__(self, low: float, high: float, start: float, end: float, is_log: bool = False):
        self._is_log, self._start, self._end = is_log, start, end
        if not is_log:
            room = 0.0 if low < high else abs(low) / 2 or 1.0  # a single number is in the middle
            low, high = low - room, high + room
            step = self._step = _whole_step((high - low) / _TICKS)
            low, high = math.floor(low / step) * step, math.ceil(high / step) * step
        self._low, self._high = low, high

    def place(self, value: float) -> float:
        low, high = self._scaled(self._low), self._scaled(self._high)
        share = (self._scaled(value) - low) / (high - low)
        return round(self._start + share * (self._end - self._start), 1)

    def _scaled(self, value: float) -> float:
        return math.log10(value) if self._is_log else value

    def ticks(self) -> list[Tick]:
        values = self._log_values() if self._is_log else self._even_values()
        return [Tick(self.place(value), f'{value:.6g}') for value in values]

    def _even_values(self) -> list[float]:
        first, last = (round(end / self._step) for end in (self._low, self._high))
        return [number * self._step for number in range(first, last + 1)]

    def _log_values(self) -> list[float]:
        """1, 2 and 5 times powers of ten; the powers alone where these would be many."""
        powers = range(math.floor(math.log10(self._low)), math.ceil(math.log10(self._high)) + 1)
        for factors in ((1, 2, 5), (1,)):
            values = [factor * 10.0**power for power in powers for factor in factors]
            values = [value for value in values if self._low <= value <= self._high]
            if len(values) <= _MOST_LOG_TICKS:
                break
        return values[:: math.ceil(len(values) / _MOST_LOG_TICKS)]


def _whole_step(least: float) -> float:
    """The smallest of 1, 2 and 5 times powers of ten that is not below `least`."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least)


def thin(steps, values, most: int = MOST_POINTS) -> tuple[np.ndarray, ...]:
    """Averages numbers in at most `most` groups of neighbours.

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
    """A chart of the lines that have a finite number; None if none has.

    Args:
        title: What is shown, for those who hear the page.
        lines: The lines.
        last_step: Where the axis of steps ends; not where it begins.
        scale: The axis of steps, or of what stands in their place.
    """
    thinned = {line.name: thin(line.steps, line.values) for line in lines}
    thinned = {name: parts for name, parts in thinned.items() if len(parts[0])}
    if not thinned:
        return None
    lows, highs = (np.concatenate(parts) for parts in list(zip(*thinned.values()))[2:])
    low, high = lows.min(), highs.max()
    is_log = bool(low > 0 and high / low >= _LOG_RATIO)
    x_axis = Axis(scale.low, last_step, _LEFT, WIDTH - _RIGHT, scale.is_log)
    y_axis = Axis(low, high, HEIGHT - _BOTTOM, _TOP, is_log)
    last = {name: f'{parts[1][-1]:.4g}' for name, parts in thinned.items()}
    drawn = [
        _drawn(name, last[name], parts, (x_axis, y_axis, scale.name), number)
        for number, (name, parts) in enumerate(thinned.items())
    ]
    ends = ', '.join(f'{name} {value}' for name, value in last.items())
    words = f'{title}, up to {scale.name} {last_step:g}. At the end: {ends}.'
    return Chart(words, scale.name, x_axis.ticks(), y_axis.ticks(), drawn)


def _drawn(name: str, last: str, parts, axes: tuple[Axis, Axis, str], number: int) -> DrawnLine:
    x_axis, y_axis, x_name = axes
    steps, values, lows, highs = parts

    def points(heights) -> list[str]:
        return [f'{x_axis.place(x)},{y_axis.place(y)}' for x, y in zip(steps, heights)]

    is_averaged = bool((lows < highs).any())
    marked = list(zip(steps, values)) if len(steps) <= _FEW_POINTS else []
    return DrawnLine(
        name=name,
        last=last,
        color=_COLORS[number % len(_COLORS)],
        dash=_DASHES[number // len(_COLORS) % len(_DASHES)],
        path=' '.join(points(values)),
        band=' '.join(points(lows) + points(highs)[::-1]) if is_averaged else '',
        dots=[
            Dot(x_axis.place(x), y_axis.place(y), f'{x_name} {x:.6g}: {y:.6g}') for x, y in marked
        ],
    )
