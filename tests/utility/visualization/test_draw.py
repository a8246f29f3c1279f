from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest

from preprocessing.datasets import fashionai
from preprocessing.schema import KeypointSchema
from utility.visualization import draw
from utility.visualization.draw import DrawStyle, contact_sheet, draw_keypoints, write_image

SCHEMA = KeypointSchema(
    name='tiny',
    keypoints=('cuff_left_in', 'cuff_right_in', 'crotch'),
    categories={'blouse': ('cuff_left_in', 'cuff_right_in', 'crotch')},
    normalizers={'blouse': ('cuff_left_in', 'cuff_right_in')},
)
GROUND = np.full((60, 90, 3), 120, np.uint8)
POINTS = np.array([[20.5, 30.5], [50.5, 30.5], [75.5, 15.5]], np.float32)
LEFT_ONLY = np.array([1, -1, -1])


def test_points_are_drawn_where_they_are_and_in_the_color_of_their_side():
    drawn = draw_keypoints(GROUND, POINTS, np.ones(3), SCHEMA)
    assert tuple(drawn[30, 20]) == draw.LEFT_COLOR
    assert tuple(drawn[30, 50]) == draw.RIGHT_COLOR
    assert tuple(drawn[15, 75]) == draw.CENTER_COLOR
    assert (GROUND == 120).all()


@pytest.mark.parametrize('offset', [(0.0, 0.0), (0.25, 0.5), (0.5, 0.75), (-0.3, 0.1)])
def test_drawn_with_subpixel_precision(offset):
    points = POINTS + np.array(offset, np.float32)
    drawn = draw_keypoints(GROUND, points, LEFT_ONLY, SCHEMA, style=DrawStyle(radius=4))
    weight = np.abs(drawn.astype(float) - GROUND).sum(axis=2)
    rows, columns = np.indices(weight.shape) + 0.5
    center = [(axis * weight).sum() / weight.sum() for axis in (columns, rows)]
    np.testing.assert_allclose(center, points[0], atol=0.12)


def test_absent_points_and_points_without_a_place_are_not_drawn():
    np.testing.assert_array_equal(draw_keypoints(GROUND, POINTS, -np.ones(3), SCHEMA), GROUND)
    nowhere = np.full((3, 2), np.nan)
    np.testing.assert_array_equal(draw_keypoints(GROUND, nowhere, np.ones(3), SCHEMA), GROUND)


def test_occluded_points_are_hollow():
    style = DrawStyle(radius=6)
    drawn = draw_keypoints(GROUND, POINTS, np.array([0, -1, -1]), SCHEMA, style=style)
    np.testing.assert_array_equal(drawn[30, 20], GROUND[30, 20])
    assert (drawn[24:37, 14:27] == draw.LEFT_COLOR).all(axis=2).any()


def test_far_away_points_do_no_harm():
    far = np.full((3, 2), 1e12)
    style = DrawStyle(limbs=True, labels=True)
    drawn = draw_keypoints(GROUND, far, np.ones(3), SCHEMA, (-far, np.ones(3)), style)
    assert drawn.shape == GROUND.shape


def test_answers_are_joined_to_predictions():
    answers = POINTS + np.array([0, 20], np.float32)
    drawn = draw_keypoints(GROUND, POINTS, LEFT_ONLY, SCHEMA, annotated=(answers, np.ones(3)))
    np.testing.assert_allclose(drawn[40, 20], draw.ERROR_COLOR, atol=30)
    assert tuple(drawn[50, 20]) == draw.LEFT_COLOR
    absent = draw_keypoints(GROUND, POINTS, LEFT_ONLY, SCHEMA, annotated=(answers, -np.ones(3)))
    plain = draw_keypoints(GROUND, POINTS, LEFT_ONLY, SCHEMA)
    np.testing.assert_array_equal(absent, plain)


def test_limbs_and_labels_are_drawn_on_request():
    plain = draw_keypoints(GROUND, POINTS, np.ones(3), SCHEMA)
    for style in (DrawStyle(labels=True), DrawStyle(limbs=True, labels=True)):
        assert (draw_keypoints(GROUND, POINTS, np.ones(3), SCHEMA, style=style) != plain).any()


def test_lines_follow_the_skeleton_but_not_over_a_point_that_lacks():
    names = ('a', 'b', 'c')
    schema = KeypointSchema('x', names, {'y': names}, {'y': 'box_diagonal'}, swaps=(('a', 'c'),))
    points = np.array([[10, 20], [30, 50], [50, 20]], np.float32)
    style = DrawStyle(radius=2, limbs=True)
    without_b = np.array([1, -1, 1])
    plain = draw_keypoints(GROUND, points, without_b, schema, style=style)
    joined = dataclasses.replace(schema, skeleton=(names,))
    drawn = draw_keypoints(GROUND, points, without_b, joined, style=style)
    np.testing.assert_array_equal(drawn, plain)
    # A category that has no b is joined from a straight to c.
    parts = {'y': names, 'z': ('a', 'c')}
    joined = dataclasses.replace(
        joined, categories=parts, normalizers=dict.fromkeys(parts, 'box_diagonal')
    )
    drawn = draw_keypoints(GROUND, points, without_b, joined, style=style)
    changed = np.argwhere((drawn != plain).any(-1))
    assert len(changed) and abs(changed[:, 0] - 20).max() <= 2
    assert draw.keypoint_colors(schema) == [draw.LEFT_COLOR, draw.CENTER_COLOR, draw.RIGHT_COLOR]


def _edges(monkeypatch, category, missing=()):
    """Return the pairs of names that are joined where the points of a category are there but for
    some.
    """
    joined = []
    monkeypatch.setattr(draw, '_draw_line', lambda _, a, b, *more: joined.append((a[0], b[0])))
    names = fashionai.SCHEMA.keypoints
    points = np.array([[k, 0.0] for k in range(len(names))])
    own = [name in fashionai.SCHEMA.categories[category] and name not in missing for name in names]
    visibility = np.where(own, 1, -1)
    draw_keypoints(GROUND, points, visibility, fashionai.SCHEMA, style=DrawStyle(limbs=True))
    return {(names[int(a)], names[int(b)]) for a, b in joined}


def test_neighbors_are_joined_but_not_over_a_point_that_lacks(monkeypatch):
    whole = _edges(monkeypatch, 'trousers')
    assert ('waistband_left', 'bottom_left_out') in whole
    lacking = _edges(monkeypatch, 'trousers', ['bottom_left_out', 'bottom_left_in'])
    assert lacking == {pair for pair in whole if 'bottom_left' not in ''.join(pair)}
    # A skirt's side has none of the points of trousers between waistband and hem.
    assert ('waistband_left', 'hemline_left') in _edges(monkeypatch, 'skirt')
    assert ('shoulder_left', 'armpit_left') not in _edges(
        monkeypatch, 'blouse', ['cuff_left_in', 'cuff_left_out']
    )


@pytest.mark.parametrize(
    ('image', 'points', 'visibility', 'named'),
    [
        (GROUND.astype(np.float32), POINTS, np.ones(3), 'image'),
        (GROUND[..., 0], POINTS, np.ones(3), 'image'),
        (GROUND, POINTS[:2], np.ones(3), 'keypoints'),
        (GROUND, POINTS, np.ones(4), 'visibility'),
    ],
)
def test_what_does_not_fit_is_named(image, points, visibility, named):
    with pytest.raises(ValueError, match=named):
        draw_keypoints(image, points, visibility, SCHEMA)


def test_contact_sheet_letterboxes_every_picture():
    wide = np.full((10, 40, 3), 50, np.uint8)
    tall = np.full((80, 20, 3), 200, np.uint8)
    sheet = contact_sheet([wide, tall, wide], columns=2, cell_size=40)
    gap = draw.SHEET_GAP
    assert sheet.shape == (2 * 40 + 3 * gap, 2 * 40 + 3 * gap, 3)
    first, second = (
        sheet[gap : gap + 40, gap : gap + 40],
        sheet[gap : gap + 40, 2 * gap + 40 : -gap],
    )
    assert (first == 50).all(axis=2).sum() == 10 * 40
    assert (first[15:25] == 50).all()
    assert (second == 200).all(axis=2).sum() == 40 * 10
    assert (second[:, 15:25] == 200).all()
    assert (sheet[-gap - 40 :, 2 * gap + 40 :] == draw.SHEET_COLOR).all()


def test_contact_sheet_of_nothing_is_an_error():
    with pytest.raises(ValueError, match='images'):
        contact_sheet([], columns=2, cell_size=40)
    with pytest.raises(ValueError, match='columns=0'):
        contact_sheet([GROUND], columns=0, cell_size=40)


def test_written_pictures_can_be_read(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    write_image(tmp_path / 'new' / 'a.png', image)
    read = cv2.imread(str(tmp_path / 'new' / 'a.png'))
    np.testing.assert_array_equal(read[..., ::-1], image)
    write_image(str(tmp_path / 'b.JPG'), GROUND)
    np.testing.assert_allclose(cv2.imread(str(tmp_path / 'b.JPG')), GROUND, atol=3)


def test_unknown_suffix_writes_nothing(tmp_path):
    with pytest.raises(ValueError, match=r'a\.gif: .*\.jpg, \.jpeg or \.png'):
        write_image(tmp_path / 'a.gif', GROUND)
    with pytest.raises(ValueError, match='image'):
        write_image(tmp_path / 'a.png', GROUND.astype(float))
    assert list(tmp_path.iterdir()) == []


def test_circles_are_drawn_about_points_that_have_a_radius():
    radii = np.array([9.0, np.nan, np.inf])
    style = DrawStyle(radius=2)
    plain = draw_keypoints(GROUND, POINTS, np.ones(3), SCHEMA, style=style)
    drawn = draw_keypoints(GROUND, POINTS, np.ones(3), SCHEMA, style=style, radii=radii)
    rows, columns = np.nonzero((drawn != plain).any(axis=2))
    distances = np.hypot(columns + 0.5 - POINTS[0, 0], rows + 0.5 - POINTS[0, 1])
    assert abs(distances - 9).max() < 4
    assert abs(distances.mean() - 9) < 0.5
    hidden = draw_keypoints(GROUND, POINTS, -np.ones(3), SCHEMA, style=style, radii=radii)
    np.testing.assert_array_equal(hidden, GROUND)
