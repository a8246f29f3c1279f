"""Charts: what is averaged, where numbers go, and which numbers the axes show."""

from __future__ import annotations

import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from tests.commands import ROOT
from utility.visualization import charts
from utility.visualization.charts import Line


def test_neighbors_are_averaged_and_what_is_not_finite_is_left_out():
    steps = np.arange(10) * 10
    values = [1.0, 3.0, np.nan, 5.0, 7.0, np.inf, 2.0, 4.0, 0.0, -6.0]
    thin = charts.thin(steps, values, most=4)
    np.testing.assert_array_equal(
        thin, [[5, 35, 65, 85], [2, 6, 3, -3], [1, 5, 2, -6], [3, 7, 4, 0]]
    )
    assert all(len(part) == 0 for part in charts.thin([1, 2], [np.nan, np.nan]))
    np.testing.assert_array_equal(charts.thin([1, 2], [3, 4], most=5), [[1, 2], *3 * [[3, 4]]])


def _root(chart: charts.Chart) -> ElementTree.Element:
    """Return the drawing, without its namespace."""
    root = ElementTree.fromstring(chart.svg)
    for element in root.iter():
        element.tag = element.tag.rpartition('}')[2]
    return root


def _texts(chart) -> list[str]:
    return [element.text.strip() for element in _root(chart).iter('text')]


def _dots(chart) -> np.ndarray:
    """Return places of the dots: [N, 2], from the left and from the top."""
    uses = _root(chart).findall('.//g[@id="dots"]//use')
    return np.array([[float(use.attrib['x']), float(use.attrib['y'])] for use in uses])


def test_dots_are_where_their_numbers_are_and_name_them():
    chart = charts.draw('t', [Line('<a>', [0, 5, 10], [0.0, 1.0, 0.5])], 10)
    (left, bottom), (middle, top), (right, half) = _dots(chart)
    assert left < middle < right and top < half < bottom
    assert middle == pytest.approx((left + right) / 2)
    assert half == pytest.approx((top + bottom) / 2)
    assert [use.text for use in _root(chart).findall('.//use/title')] == [
        '<a>, step 0: 0',
        '<a>, step 5: 1',
        '<a>, step 10: 0.5',
    ]
    assert {'<a>: 0.5', 'step', '0', '10'} <= set(_texts(chart))


def test_many_numbers_are_a_line_in_a_band():
    steps = np.arange(1, 10_001)
    chart = charts.draw('t', [Line('a', steps, np.where(steps % 2, 2.0, 4.0))], 10_000)
    assert len(_dots(chart)) == 0
    band = _root(chart).find('.//g[@id="PolyCollection_1"]//path').attrib['d']
    heights = np.array([float(pair.split()[1]) for pair in re.findall('[ML] ([^A-Z]+)', band)])
    assert len(set(heights)) == 2
    line = _root(chart).find('.//g[@id="line2d_1"]') is not None
    assert line and len(heights) > 2 * charts.MOST_POINTS


def test_an_axis_is_logarithmic_where_numbers_are_positive_and_far_apart():
    def heights(*values):
        return _dots(charts.draw('t', [Line('a', range(len(values)), values)], 5))[:, 1]

    first, second, third = heights(1.0, 10.0, 100.0)
    assert first - second == pytest.approx(second - third)
    first, second, third = heights(10.1, 55.05, 100.0)
    assert first - second == pytest.approx(second - third)
    assert {'1', '2', '5', '10'} <= set(_texts(charts.draw('t', [Line('a', [1, 2], [1, 10])], 2)))


def test_no_chart_without_a_number():
    assert charts.draw('t', [], 5) is None
    assert charts.draw('t', [Line('a', [1], [np.nan]), Line('b', [], [])], 5) is None


def test_a_single_number_and_a_single_step_have_a_chart():
    assert len(_dots(charts.draw('t', [Line('a', [0], [3.0])], 1))) == 1


def test_more_lines_than_colors_differ_by_their_dashes():
    lines = [Line(f'{i}', np.arange(99), [i] * 99) for i in range(18)]
    styles = [
        path.attrib['style']
        for path in _root(charts.draw('t', lines, 98)).iter('path')
        if 'stroke-linecap: square' in path.attrib.get('style', '')
        or 'stroke-dasharray' in path.attrib.get('style', '')
    ]
    assert len({style for style in styles if '--line' not in style}) == 18


def test_the_page_hears_what_a_chart_shows_and_sees_it_in_its_own_colors():
    chart = charts.draw('Loss & more', [Line('<a> $b$', [1, 2], [0.25, 0.5])], 2)
    assert chart.words == 'Loss & more, up to step 2. At the end: <a> $b$ 0.5.'
    assert '<a> $b$: 0.5' in _texts(chart)
    assert 'var(--muted)' in chart.svg and 'var(--line)' in chart.svg
    assert not re.search('#0(10203|40506|00000)|DejaVu|metadata|<!', chart.svg)


def test_equal_numbers_give_equal_files_and_charts_share_no_clip_path():
    first, again, other = (
        charts.draw(title, [Line('a', [1, 2], [3, 4])], 2).svg for title in ('t', 't', 'u')
    )
    assert first == again
    clips = [set(re.findall('<clipPath id="([^"]+)"', svg)) for svg in (first, other)]
    assert clips[0] and clips[1] and not clips[0] & clips[1]


def test_another_quantity_than_steps_may_be_along_a_logarithmic_axis():
    rates = np.geomspace(1e-3, 10, 5)
    scale = charts.Scale('learning rate', rates[0], is_log=True)
    chart = charts.draw('Loss', [Line('loss', rates, [3, 2, 1, 2, 3])], rates[-1], scale)
    np.testing.assert_allclose(np.diff(np.diff(_dots(chart)[:, 0])), 0, atol=1e-3)
    assert {'learning rate', '0.001', '0.01', '0.1', '1', '10'} <= set(_texts(chart))
    assert chart.words == 'Loss, up to learning rate 10. At the end: loss 3.'


def test_only_a_chart_imports_matplotlib():
    code = 'import sys, utility.visualization.charts; print("matplotlib" in sys.modules)'
    output = subprocess.run([sys.executable, '-c', code], cwd=ROOT, check=True, capture_output=True)
    assert output.stdout == b'False\n'
