"""Lengths between points: by hand, in units and cm, and what is refused."""

from __future__ import annotations

import csv
import json
import types

import numpy as np
import pytest

from config import UserError
from demos import measure
from demos.measure import Length
from preprocessing.datasets.fashionai import SCHEMA
from tests.commands import check_mistake, run
from tests.simulated_errors import SCHEMA as HATS
from tests.tiny_runs import smooth_image, write_run
from utility.visualization.draw import write_image

POINTS = np.array([[0, 0], [10, 0], [5, 12], [0, 7]], float)


def test_lengths_are_those_of_the_category_between_points_that_are_there():
    hat = measure.lengths_of(POINTS, [1, 1, 0, -1], 'hat', HATS)
    assert hat == [Length('brim', 10.0, None), Length('height', 12.0, None)]
    assert measure.lengths_of(POINTS, [1, 1, -1, -1], 'hat', HATS) == hat[:1]
    assert measure.lengths_of(POINTS, [1, -1, -1, 1], 'cone', HATS, lambda *_: 2.5) == [
        Length('slant', 7.0, 2.5)
    ]


def test_every_category_of_fashionai_is_measured_from_left_to_right():
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 100, (SCHEMA.num_keypoints, 2))
    for category in SCHEMA.categories:
        visibility = np.full(SCHEMA.num_keypoints, -1)
        visibility[list(SCHEMA.indices(category))] = 1
        lengths = {
            one.name: one.px for one in measure.lengths_of(points, visibility, category, SCHEMA)
        }
        assert len(lengths) >= 3
    waist = [SCHEMA.keypoints.index(f'waistband_{side}') for side in ('left', 'right')]
    assert lengths['waistband_width'] == pytest.approx(
        np.hypot(*(points[waist[0]] - points[waist[1]]))
    )


def test_in_cm_a_length_and_its_interval_are_scaled():
    rows = measure.in_units([Length('chest_width', 50.0, 5.0), Length('x', 8.0, None)], None, 0.5)
    assert rows == [
        ('chest_width', 25.0, 22.5, 27.5, 'cm', 50.0),
        ('x', 4.0, None, None, 'cm', 8.0),
    ]


def test_in_shoulder_widths_both_errors_count():
    lengths = [Length('shoulder_width', 40.0, 4.0), Length('sleeve_left', 80.0, 8.0)]
    shoulder, sleeve = measure.in_units(lengths, None, None)
    assert shoulder == ('shoulder_width', 1.0, 1.0, 1.0, 'shoulder_width', 40.0)
    # 2 within 10 % by the sleeve and 10 % by the shoulders.
    assert sleeve[1:5] == pytest.approx((2.0, 1.6, 2.4, 'shoulder_width'))
    (one,) = measure.in_units(lengths[1:], 'sleeve_left', None)
    assert one[1] == 1.0
    assert measure.in_units(lengths[1:], None, None)[0][1:5] == (80.0, 72.0, 88.0, 'px')
    with pytest.raises(UserError, match='--unit=hem_width: not measured here'):
        measure.in_units(lengths, 'hem_width', None)


@pytest.mark.parametrize(
    ('reference', 'cm', 'message'),
    [
        (['0', '0', '3', '4'], None, 'go together'),
        (None, 29.7, 'go together'),
        (['0', '0', '3'], 29.7, 'must be x1,y1,x2,y2'),
        (['0', '0', 'a', '4'], 29.7, 'must be x1,y1,x2,y2'),
        (['1', '1', '1', '1'], 29.7, 'two different points'),
        (['0', '0', '3', 'nan'], 29.7, 'two different points'),
        (['0', '0', '3', '4'], -1.0, 'a positive length'),
    ],
)
def test_a_reference_that_means_nothing_is_refused(reference, cm, message):
    values = types.SimpleNamespace(reference=reference, reference_cm=cm)
    with pytest.raises(UserError, match=message):
        measure.reference_scale(values)


def test_a_reference_gives_cm_per_px():
    values = types.SimpleNamespace(reference=['0', '0', '3', '4'], reference_cm=10.0)
    assert measure.reference_scale(values) == 2.0


def test_a_picture_without_the_unit_costs_no_other_its_lengths(caplog):
    pictures = {
        'a.jpg': [Length('chest_width', 40.0, None), Length('sleeve_left', 60.0, None)],
        'b.jpg': [Length('sleeve_left', 50.0, None)],
        'c.jpg': [],
    }
    rows = measure.rows_of(pictures, 'blouse', 'chest_width', None)
    assert [(row.image, row.measurement, row.length) for row in rows] == [
        ('a.jpg', 'chest_width', 1.0),
        ('a.jpg', 'sleeve_left', 1.5),
    ]
    assert 'b.jpg is left out: no chest_width in it' in caplog.text
    rows = measure.rows_of(pictures, 'blouse', None, None)
    assert [row.image for row in rows] == ['a.jpg', 'a.jpg', 'b.jpg']
    assert 'c.jpg is left out: no length in it' in caplog.text


def test_mistakes_are_told_in_one_line():
    check_mistake(run('demos/measure.py', '--model_dir=x'), 'picture files are needed')
    words = ('demos/measure.py', '--model_dir=x', '--category=skirt', 'a.jpg')
    check_mistake(run(*words, '--output=a.txt'), 'must end in .csv or .json')
    check_mistake(run(*words, '--reference_cm=3'), 'go together')


@pytest.mark.slow
def test_a_picture_is_measured_and_written(tmp_path):
    run_dir = write_run(tmp_path / 'run')
    write_image(tmp_path / 'a.png', smooth_image(120, 90))
    words = ('demos/measure.py', f'--model_dir={run_dir}', '--category=skirt', tmp_path / 'a.png')
    check_mistake(
        run(*words, '--unit=sleeve'), 'not measured; there are: waistband_width, hem_width'
    )
    for suffix in ('csv', 'json'):
        done = run(*words, f'--output={tmp_path}/a.{suffix}')
        assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader((tmp_path / 'a.csv').read_text().splitlines()))
    assert [row['measurement'] for row in rows] == ['waistband_width', 'hem_width', 'skirt_length']
    assert rows[0]['length'] == '1.0000' and rows[0]['low'] == ''
    assert [row['px'] for row in json.loads((tmp_path / 'a.json').read_text())] == pytest.approx(
        [float(row['px']) for row in rows], abs=1e-3
    )
