"""The figure of README names each keypoint once, and is what its command makes."""

from __future__ import annotations

import re

from demos import name_points
from preprocessing.datasets.fashionai import SCHEMA
from tests.commands import ROOT


def test_every_keypoint_has_its_name_in_the_figure():
    names = re.findall(r'<text x=[^>]*>(\w+)</text>', name_points.figure())
    assert set(names) == set(SCHEMA.keypoints)


def test_the_points_of_a_garment_are_those_of_its_category():
    for title, (_, points, outline) in name_points.garments().items():
        own = {name for c in title.split(', ') for name in SCHEMA.categories[c]}
        assert set(outline) == set(points) <= own
        for first, second in SCHEMA.swaps or ():
            if first in points:
                assert points[first] == (-points[second][0], points[second][1])


def test_the_figure_in_the_project_is_what_the_command_makes():
    assert (ROOT / 'demos' / 'pictures' / 'points.svg').read_text() == name_points.figure()
