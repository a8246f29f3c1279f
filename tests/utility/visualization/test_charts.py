"""Charts: what is averaged, where numbers go, and which numbers the axes show."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from utility.visualization import charts, html_page
from utility.visualization.charts import Axis, Line


def _values(axis: Axis) -> list[float]:
    return [float(tick.label) for tick in axis.ticks()]


@pytest.mark.parametrize(
    ('low', 'high', 'ticks'),
    [
        (0, 10, [0, 2, 4, 6, 8, 10]),
        (0, 164, [0, 50, 100, 150, 200]),
        (61.9, 63.1, [61.5, 62, 62.5, 63, 63.5]),
        (-3, 3, [-4, -2, 0, 2, 4]),
        (1e-3, 1e-3, [0.0004, 0.0006, 0.0008, 0.001, 0.0012, 0.0014, 0.0016]),
        (0, 0, [-1, -0.5, 0, 0.5, 1]),
    ],
)
def test_an_even_axis_goes_from_a_round_number_to_a_round_number(low, high, ticks):
    axis = Axis(low, high, 100, 200)
    assert _values(axis) == ticks
    assert (axis.ticks()[0].at, axis.ticks()[-1].at) == (100, 200)
    middle = (ticks[0] + ticks[-1]) / 2
    assert axis.place(middle) == pytest.approx(150, abs=0.05)


@pytest.mark.parametrize(
    ('low', 'high', 'ticks'),
    [
        (0.02, 0.3, [0.02, 0.05, 0.1, 0.2]),
        (6.0, 142.0, [10, 20, 50, 100]),
        (1e-6, 1e-2, [1e-6, 1e-5, 1e-4, 1e-3, 1e-2]),
        (1e-20, 1.0, [1e-20, 1e-17, 1e-14, 1e-11, 1e-8, 1e-5, 1e-2]),
    ],
)
def test_a_logarithmic_axis_has_round_numbers(low, high, ticks):
    axis = Axis(low, high, 0, 100, is_log=True)
    np.testing.assert_allclose(_values(axis), ticks, rtol=1e-9)
    assert (axis.place(low), axis.place(high)) == (0, 100)
    assert axis.place(math.sqrt(low * high)) == pytest.approx(50, abs=0.05)


def test_neighbours_are_averaged_and_what_is_not_finite_is_left_out():
    steps = np.arange(10) * 10
    values = [1.0, 3.0, np.nan, 5.0, 7.0, np.inf, 2.0, 4.0, 0.0, -6.0]
    thin = charts.thin(steps, values, most=4)
    np.testing.assert_array_equal(
        thin, [[5, 35, 65, 85], [2, 6, 3, -3], [1, 5, 2, -6], [3, 7, 4, 0]]
    )
    assert all(len(part) == 0 for part in charts.thin([1, 2], [np.nan, np.nan]))
    np.testing.assert_array_equal(charts.thin([1, 2], [3, 4], most=5), [[1, 2], *3 * [[3, 4]]])


def _points(text: str) -> list[list[float]]:
    return [[float(number) for number in pair.split(',')] for pair in text.split()]


def test_lines_go_through_their_numbers():
    [line] = charts.draw('t', [Line('a', [0, 5, 10], [0.0, 1.0, 0.5])], 10).lines
    left, right, top, bottom = 64, 692, 10, 256
    middle = [(left + right) / 2, top]
    assert _points(line.path) == [[left, bottom], middle, [right, (top + bottom) / 2]]
    assert [dot.words for dot in line.dots] == ['step 0: 0', 'step 5: 1', 'step 10: 0.5']
    assert (line.name, line.last, line.band) == ('a', '0.5', '')


def test_many_numbers_are_a_line_in_a_band():
    steps = np.arange(1, 10_001)
    chart = charts.draw('t', [Line('a', steps, np.where(steps % 2, 2.0, 4.0))], 10_000)
    [line] = chart.lines
    assert len(_points(line.path)) == charts.MOST_POINTS and not line.dots
    band = _points(line.band)
    assert len(band) == 2 * charts.MOST_POINTS
    assert {y for _, y in band} == {10.0, 256.0}
    assert all(abs(y - 133) < 4 for _, y in _points(line.path))


def test_an_axis_is_logarithmic_where_numbers_are_positive_and_far_apart():
    def labels(*values):
        ticks = charts.draw('t', [Line('a', range(len(values)), values)], 5).y_ticks
        return [tick.label for tick in ticks]

    assert labels(1.0, 10.0) == ['1', '2', '5', '10']
    assert labels(1.1, 10.0) == labels(0.0, 10.0) == ['0', '2', '4', '6', '8', '10']


def test_no_chart_without_a_number():
    assert charts.draw('t', [], 5) is None
    assert charts.draw('t', [Line('a', [1], [np.nan]), Line('b', [], [])], 5) is None


def test_more_lines_than_colours_differ_by_their_dashes():
    lines = [Line(f'<{i}>', [1, 2], [i, i]) for i in range(18)]
    drawn = charts.draw('t', lines, 2).lines
    assert len({(line.color, line.dash) for line in drawn}) == 18


def test_the_drawing_is_well_formed_and_says_in_words_what_it_shows():
    chart = charts.draw('Loss & more', [Line('<a>', [1, 2], [0.25, 0.5])], 2)
    env = html_page.environment({'charts.html': charts.TEMPLATE})
    text = str(env.get_template('charts.html').module.show_chart(chart))
    root = ElementTree.fromstring(f'<div>{text}</div>')
    drawing = root.find('./svg')
    words = 'Loss & more, up to step 2. At the end: <a> 0.5.'
    assert drawing.attrib['aria-label'] == words
    assert [item.text for item in drawing.findall('./circle/title')] == [
        '<a>,\nstep 1: 0.25',
        '<a>,\nstep 2: 0.5',
    ]


def test_another_quantity_than_steps_may_be_along_a_logarithmic_axis():
    rates = np.geomspace(1e-3, 10, 5)
    scale = charts.Scale('learning rate', rates[0], is_log=True)
    chart = charts.draw('Loss', [Line('loss', rates, [3, 2, 1, 2, 3])], rates[-1], scale)
    (line,) = chart.lines
    places = [float(point.split(',')[0]) for point in line.path.split()]
    np.testing.assert_allclose(np.diff(places), (chart.right - chart.left) / 4, atol=0.11)
    assert [tick.label for tick in chart.x_ticks] == ['0.001', '0.01', '0.1', '1', '10']
    assert line.dots[0].words == 'learning rate 0.001: 3'
    assert chart.words == 'Loss, up to learning rate 10. At the end: loss 3.'
