from __future__ import annotations

import subprocess
import sys

import cv2
import numpy as np
import pytest

from demos import garments
from demos.garments import (
    bottoms,
    dataset,
    fabrics,
    occluders,
    outlines,
    scenes,
    several,
    tops,
)
from demos.garments.canvas import SUPERSAMPLE, Canvas, Placement
from demos.garments.parts import Part, box, ellipse, mirror
from preprocessing import tables
from preprocessing.datasets import DATASETS, Source
from preprocessing.datasets.deepfashion2 import SCHEMA as DEEPFASHION2
from preprocessing.datasets.fashionai import SCHEMA
from tests.commands import ROOT

CATEGORIES = sorted(SCHEMA.categories)
SMALL = dataset.GarmentSet(seed=3, size=48, counts={'train_0': 10, 'test_0': 5})


def rng(seed=0):
    return np.random.default_rng(seed)


def build(category, seed, worn=False):
    maker = tops if category in scenes.TOPS else bottoms
    return maker.build(category, rng(seed), worn)


def points_of(garment):
    return {name: point for part in garment.parts for name, point in part.points.items()}


def canvas(placement, height=80, width=100):
    ground = np.zeros((height * SUPERSAMPLE, width * SUPERSAMPLE, 3), np.uint8)
    white = fabrics.plain((255, 255, 255), rng(), grain=0)
    names = ('main', 'trim', 'inside', 'belt', 'button', 'opening', 'opening_low')
    return Canvas(ground, placement, dict.fromkeys(names, white))


def turned(degrees, scale=20.0, offset=(50.0, 40.0)):
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    matrix = np.array([[c, -s, 0], [s, c, 0]]) * scale
    matrix[:, 2] = offset
    return Placement(matrix, lean=0.03, turn=0.05, waves=((0.02, 3.0, 1.0, 0), (0.02, 2.0, 2.0, 1)))


@pytest.mark.parametrize('category', CATEGORIES)
def test_render_gives_a_picture_and_the_points_of_its_category(category):
    own = list(SCHEMA.indices(category))
    for seed in range(6):
        image, keypoints, visibility = garments.render(category, rng(seed), 64)
        assert image.dtype == np.uint8
        assert image.ndim == 3
        assert max(image.shape[:2]) == 64
        assert (keypoints.dtype, visibility.dtype) == (np.float32, np.int32)
        assert set(np.flatnonzero(visibility >= 0)) <= set(own)
        assert (visibility[own] >= 0).any()
        present = keypoints[visibility >= 0]
        assert (present >= 0).all()
        assert (present < image.shape[1::-1]).all()
        assert (keypoints[visibility < 0] == -0.5).all()


@pytest.mark.parametrize('category', CATEGORIES)
def test_every_point_of_a_category_occurs(category):
    seen = set()
    for seed in range(60):
        seen |= points_of(build(category, seed)).keys()
    assert seen == set(SCHEMA.categories[category])


def test_size_changes_the_resolution_only():
    for seed in range(3):
        small, points, visibility = garments.render('skirt', rng(seed), 96)
        large, large_points, _ = garments.render('skirt', rng(seed), 192)
        own = visibility >= 0
        np.testing.assert_allclose(large_points[own], 2 * points[own], rtol=0, atol=1.0)
        shrunk = cv2.resize(large, small.shape[1::-1], interpolation=cv2.INTER_AREA)
        assert np.abs(shrunk.astype(float) - small).mean() < 8


@pytest.mark.parametrize('degrees', [0, 33, -120])
def test_a_part_is_painted_where_its_points_are(degrees):
    placement = turned(degrees)
    for point in ([0.0, 0.0], [0.71, -0.33], [-1.02, 0.48]):
        painting = canvas(placement)
        painting.paint(
            Part(ellipse(point, (0.12, 0.12)), 'main', points={'a': np.array(point)}, relief=0)
        )
        weight = painting.finish()[..., 0].astype(float)
        rows, columns = np.indices(weight.shape) + 0.5
        center = [(axis * weight).sum() / weight.sum() for axis in (columns, rows)]
        np.testing.assert_allclose(center, painting.points['a'], atol=0.15)


@pytest.mark.parametrize('category', CATEGORIES)
def test_points_lie_on_the_edges_of_the_painted_parts(category):
    for seed in range(8):
        garment = build(category, seed, worn=True)
        placement = turned(20 * seed, scale=40, offset=(160, 140))
        nearest = dict.fromkeys(points_of(garment), np.inf)
        for part in garment.parts:
            painting = canvas(placement, 320, 320)
            painting.paint(Part(part.outline, 'main', relief=0))
            inside = (painting.finish()[..., 0] > 127).astype(np.uint8)
            to_edge = [cv2.distanceTransform(mask, cv2.DIST_L2, 5) for mask in (inside, 1 - inside)]
            for name, point in points_of(garment).items():
                x, y = np.floor(placement(point)).astype(int)
                if 0 <= x < 320 and 0 <= y < 320:
                    # The nearest pixel on the other side is at least one away.
                    distance = max(field[y, x] for field in to_edge) - 1
                    nearest[name] = min(nearest[name], distance)
                else:
                    nearest[name] = 0
        assert {name: d for name, d in nearest.items() if d > 1.0} == {}


@pytest.mark.parametrize('category', CATEGORIES)
def test_left_is_left_and_out_is_outside_on_an_upright_garment(category):
    for seed in range(20):
        points = points_of(build(category, seed))
        for name, point in points.items():
            if 'left' in name and 'cuff' not in name:
                assert point[0] < points[name.replace('left', 'right')][0], name
            if name.endswith('left_out'):
                assert point[0] < points[name.replace('_out', '_in')][0], name
            if name.endswith('right_out'):
                assert point[0] > points[name.replace('_out', '_in')][0], name


def test_what_is_painted_later_covers_points():
    painting = canvas(turned(0))
    below = Part(box(-1, -1, 1, 1), 'main', points={'a': np.zeros(2), 'b': np.array([0.9, 0.9])})
    painting.paint(below)
    painting.paint(Part(box(-0.3, -0.3, 0.3, 0.3), 'trim', occludes=False))
    assert painting.covered == set()
    painting.paint(Part(box(-0.3, -0.3, 0.3, 0.3), 'trim'))
    assert painting.covered == {'a'}
    painting.paint(below)
    assert painting.covered == set()


def test_a_point_beside_what_covers_is_not_covered():
    painting = canvas(Placement(np.array([[20.0, 0, 50], [0, 20, 40]])))
    painting.paint(Part(box(-1, -1, 1, 1), 'main', points={'a': np.zeros(2)}))
    painting.paint(Part(box(0.0, -1, 1, 1), 'trim'))
    assert painting.covered == set()


def test_occluders_hide_points():
    target = {'crotch': np.zeros(2)}
    hidden = 0
    for seed in range(40):
        painting = canvas(turned(0))
        for name in ('skin', 'card', 'leather', 'metal', 'leaf'):
            painting.materials[name] = painting.materials['main']
        painting.paint(Part(box(-1, -1, 1, 1), 'main', points=target))
        for part in occluders.draw_occluder(rng(seed), target):
            painting.paint(part)
        hidden += painting.covered == {'crotch'}
    assert hidden >= 30


def test_all_visibilities_occur_among_many_pictures():
    drawn = [garments.render(c, rng(seed), 32)[2] for c in CATEGORIES for seed in range(12)]
    own = np.concatenate(
        [v[list(SCHEMA.indices(CATEGORIES[k // 12]))] for k, v in enumerate(drawn)]
    )
    shares = {value: np.mean(own == value) for value in (1, 0, -1)}
    assert shares[1] > 0.5
    assert shares[0] > 0.05
    assert shares[-1] > 0.03


def test_points_outside_the_picture_are_absent_and_hidden_ones_occluded():
    scene = scenes.Scene(
        image=np.zeros((10, 20, 3), np.uint8),
        category='trousers',
        hidden=frozenset({'crotch', 'bottom_right_out'}),
        box=np.array([0, 0, 20, 10]),
        points={
            'waistband_left': np.array([0.0, 0.0]),
            'waistband_right': np.array([19.99, 9.99]),
            'crotch': np.array([5.5, 6.25]),
            'bottom_left_in': np.array([-0.01, 5.0]),
            'bottom_left_out': np.array([20.0, 5.0]),
            'bottom_right_in': np.array([5.0, 10.0]),
            'bottom_right_out': np.array([4.0, 4.0]),
        },
    )
    keypoints, visibility = scene.answers(SCHEMA)
    expected = dict.fromkeys(SCHEMA.keypoints, -1)
    expected.update(waistband_left=1, waistband_right=1, crotch=0, bottom_right_out=0)
    assert dict(zip(SCHEMA.keypoints, visibility)) == expected
    np.testing.assert_array_equal(keypoints[SCHEMA.keypoints.index('crotch')], [5.5, 6.25])


def test_sleeveless_garments_have_no_cuffs():
    seen = set()
    for seed in range(60):
        garment = build('dress', seed)
        has_cuffs = 'cuff_left_in' in points_of(garment)
        assert has_cuffs == bool(garment.sleeve_length)
        seen.add(has_cuffs)
    assert seen == {True, False}


@pytest.mark.parametrize(('category', 'size'), [('hat', 64), ('skirt', 8)])
def test_render_refuses_what_it_cannot_draw(category, size):
    with pytest.raises(ValueError, match='category=|size='):
        garments.render(category, rng(), size)


def files_of(directory):
    return {str(p.relative_to(directory)): p.read_bytes() for p in directory.rglob('*.*')}


@pytest.fixture(scope='module')
def written(tmp_path_factory):
    directory = tmp_path_factory.mktemp('garments')
    dataset.write_dataset(str(directory), SMALL)
    return directory


def test_same_bytes_for_any_number_of_workers(written, tmp_path):
    dataset.write_dataset(str(tmp_path), SMALL, num_workers=2)
    assert files_of(tmp_path) == files_of(written)


def test_a_picture_depends_on_its_number_only():
    more = dataset.GarmentSet(seed=3, size=48, counts={'train_0': 99})
    sample = dataset.draw_sample(SMALL, 'train_0', 4)
    assert dataset.draw_sample(more, 'train_0', 4).jpeg == sample.jpeg
    other_seed = dataset.GarmentSet(seed=4, size=48, counts={'train_0': 99})
    assert dataset.draw_sample(other_seed, 'train_0', 4).jpeg != sample.jpeg
    assert dataset.draw_sample(SMALL, 'test_0', 4).jpeg != sample.jpeg


def test_layout_reads_back(written):
    table = tables.read_table(written / 'train_0/Annotations/annotations.csv', SCHEMA)
    answers = tables.read_table(written / 'answers/test_0.csv', SCHEMA)
    questions = (written / 'test_0/test.csv').read_text().splitlines()
    assert questions[0] == 'image_id,image_category'
    expected = [','.join(row) for row in zip(answers.image_ids, answers.categories)]
    assert questions[1:] == expected
    assert len(files_of(written)) == 15 + 3
    for split, rows in (('train_0', table), ('test_0', answers)):
        assert (
            np.unique(rows.categories, return_counts=True)[1].tolist() == [len(rows.lines) // 5] * 5
        )
        for index, image_id in enumerate(rows.image_ids):
            sample = dataset.draw_sample(SMALL, split, index)
            assert (written / split / image_id).read_bytes() == sample.jpeg
            read = cv2.imread(str(written / split / image_id))
            assert read.shape == sample.image.shape
            np.testing.assert_array_equal(rows.visibility[index], sample.visibility)
            own = sample.visibility >= 0
            floors = np.floor(sample.keypoints[own]) + 0.5
            np.testing.assert_array_equal(rows.keypoints[index][own], floors)


@pytest.mark.parametrize('bad', [{'seed': -1}, {'size': 8}, {'counts': {'train_0': -1}}])
def test_bad_settings_are_named(bad):
    settings = {'seed': 0, 'size': 48, 'counts': {'train_0': 1}, **bad}
    with pytest.raises(ValueError, match=next(iter(bad))):
        dataset.GarmentSet(**settings)


def test_script_writes_a_data_set_and_a_contact_sheet(tmp_path):
    command = [
        sys.executable,
        'demos/make_garments.py',
        f'--output_dir={tmp_path}/out',
        '--count=5',
    ]
    command += [
        '--test_count=0',
        '--size=48',
        '--num_workers=1',
        f'--contact_sheet={tmp_path}/a.png',
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert '5 pictures in' in done.stdout
    assert cv2.imread(f'{tmp_path}/a.png').shape[1] > 5 * 48
    assert len(list((tmp_path / 'out/train_0/Images').rglob('*.jpg'))) == 5


def test_script_asks_for_its_output_directory():
    command = [sys.executable, 'demos/make_garments.py']
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith('error: --output_dir is missing')


@pytest.mark.parametrize('category', CATEGORIES)
def test_outlines_have_all_points_of_deepfashion2_and_are_mirrored(category):
    """Partners in a mirror lie at mirrored places of a cut without a pose; the middle on x = 0."""
    seen = set()
    for seed in range(40):
        name, garment = outlines.with_points(category, build(category, seed))
        seen.add(name)
        points = points_of(garment)
        own = DEEPFASHION2.subset(name)
        assert set(own.keypoints) <= points.keys()
        arms = [mirror(getattr(garment.arms[1], end)) for end in ('bend', 'tip')]
        is_symmetric = np.allclose(arms, [garment.arms[0].bend, garment.arms[0].tip])
        for k, partner in enumerate(own.flip_permutation):
            at, other = points[own.keypoints[k]], points[own.keypoints[partner]]
            if is_symmetric or not (garment.sleeve_length or category == 'trousers'):
                np.testing.assert_allclose(at, mirror(other), atol=0.03)
    assert len(seen) >= {'skirt': 1, 'trousers': 2, 'outwear': 2}.get(category, 4)


def test_points_are_in_the_order_of_the_figure():
    """Left before the hem, right after it, on the side of the picture that the schema says."""
    name, garment = outlines.with_points('trousers', build('trousers', 1))
    points = points_of(garment)
    x = {n: points[f'{name}_{n}'][0] for n in range(1, 15 if name == 'trousers' else 11)}
    assert x[1] < x[2] < x[3] and x[4] < 0 < x[max(x)]


def test_a_picture_of_several_garments_has_boxes_around_their_points_and_hides_what_it_covers():
    counts, hidden = set(), 0
    for index in range(20):
        sample = several.draw_sample(SMALL, 'train_0', index)
        counts.add(len(sample.garments))
        height, width = sample.image.shape[:2]
        for garment in sample.garments:
            assert garment.image_size == (height, width)
            there = garment.keypoints[garment.visibility >= 0]
            assert (garment.box >= 0).all() and (garment.box <= [width, height] * 2).all()
            assert (there >= garment.box[:2] - 2).all() and (there <= garment.box[2:] + 2).all()
            own = DEEPFASHION2.indices(garment.category)
            assert set(np.flatnonzero(garment.visibility >= 0)) <= set(own)
            hidden += np.count_nonzero(garment.visibility == 0)
    assert counts == {1, 2, 3} and hidden


@pytest.mark.parametrize('layout', ['deepfashion2', 'coco'])
def test_layouts_of_several_garments_are_read_as_they_were_drawn(tmp_path, layout):
    small = dataset.GarmentSet(seed=3, size=48, counts={'train_0': 4, 'test_0': 2})
    several.write_dataset(str(tmp_path), layout, small)
    _, splits = DATASETS.get(layout).open(Source(str(tmp_path)))
    assert [split.name for split in splits] == ['train', 'val']
    for split, source in zip(splits, small.counts):
        drawn = [several.draw_sample(small, source, i) for i in range(small.counts[source])]
        garments = [garment for sample in drawn for garment in sample.garments]
        found = list(split.annotations())
        assert [one.category for one in found] == [one.category for one in garments]
        for one, garment in zip(found, garments):
            own = list(DEEPFASHION2.indices(garment.category))
            names = DEEPFASHION2.categories[garment.category]
            schema = DATASETS.get(layout).open(Source(str(tmp_path)))[0]
            places = [schema.keypoints.index(name) for name in names]
            np.testing.assert_array_equal(one.visibility[places], garment.visibility[own])
            seen = garment.visibility[own] >= 0
            tolerance = 0.51 if layout == 'deepfashion2' else 1e-3
            difference = one.keypoints[places][seen] - garment.keypoints[own][seen]
            assert np.abs(difference).max(initial=0) < tolerance
            assert np.abs(one.box - garment.box).max() < 1.01
