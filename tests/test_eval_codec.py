"""The codec's floor on annotations: against NumPy, what is left out, and the command."""

import json

import numpy as np
import pytest

import eval_codec
from config import UserError
from preprocessing.datasets import DATASETS
from preprocessing.tables import KeypointTable, category_points, write_table
from tests import commands
from utility.codecs.heatmaps import HeatmapCodec
from utility.metrics import normalized_error

SCHEMA = DATASETS.get('fashionai').schema
NUM_IMAGES = 12


def _table():
    """Return pictures of 512 px, of every category, all points visible, on pixel centers."""
    random = np.random.default_rng(0)
    categories = np.array([list(SCHEMA.categories)[i % 5] for i in range(NUM_IMAGES)])
    keypoints = random.integers(0, 512, (NUM_IMAGES, SCHEMA.num_keypoints, 2)) + 0.5
    own = category_points(categories, SCHEMA)
    return KeypointTable(
        image_ids=np.array([f'Images/{i}.jpg' for i in range(NUM_IMAGES)], object),
        categories=categories,
        keypoints=np.where(own[..., np.newaxis], keypoints, -0.5).astype(np.float32),
        visibility=np.where(own, 1, -1).astype(np.int32),
        lines=np.arange(NUM_IMAGES) + 2,
    )


def _floor(table, refine, image_size=(384, 384), heatmap_size=(96, 96), source_size=512.0):
    codec = HeatmapCodec(image_size, heatmap_size, refine=refine)
    return eval_codec.codec_floor(table, SCHEMA, codec, source_size)


def test_argmax_floor_is_the_distance_to_the_cell_centers():
    table = _table()
    cell = 512 / 96
    nearest = (np.floor(table.keypoints / cell) + 0.5) * cell
    normalizer = normalized_error.normalizers_of(table, SCHEMA)
    expected = normalized_error.normalized_error(
        nearest, table.keypoints, table.visibility, normalizer
    )
    floor = _floor(table, 'argmax')
    assert floor.score.normalized_error == pytest.approx(expected, rel=1e-5)
    offsets = np.linalg.norm(nearest - table.keypoints, axis=-1)
    assert floor.distance == pytest.approx(offsets[table.visibility == 1].mean(), rel=1e-5)


@pytest.mark.parametrize(
    ('image_size', 'heatmap_size'), [((384, 384), (96, 96)), ((250, 330), (64, 80))]
)
def test_dark_and_the_gaussian_fit_have_no_floor_to_speak_of(image_size, heatmap_size):
    modes = ('argmax', 'quarter', 'gaussian', 'dark')
    floors = {mode: _floor(_table(), mode, image_size, heatmap_size) for mode in modes}
    errors = {mode: floor.score.normalized_error for mode, floor in floors.items()}
    assert errors['argmax'] > 1.5 * errors['quarter'] > 0
    assert errors['gaussian'] < 2e-4 and errors['dark'] < 2e-4
    assert floors['dark'].distance < 0.01


def test_points_that_are_not_visible_or_outside_are_left_out():
    table = _table()
    assert _floor(table, 'argmax').points_outside == 0
    plain = _floor(table, 'dark')
    blouse, cuff = 0, SCHEMA.keypoints.index('cuff_left_in')
    keypoints, visibility = table.keypoints.copy(), table.visibility.copy()
    keypoints[blouse, cuff] = 3000.5, 100.5
    visibility[blouse, SCHEMA.keypoints.index('cuff_left_out')] = 0
    table = table._replace(keypoints=keypoints, visibility=visibility)
    floor = _floor(table, 'dark')
    assert floor.points_outside == 1
    assert floor.score.points == plain.score.points - 2
    assert floor.score.normalized_error < 2e-4
    assert _floor(table, 'dark', source_size=4000.0).points_outside == 0


def test_image_without_normalizer_is_skipped():
    table = _table()
    visibility = table.visibility.copy()
    visibility[0, SCHEMA.keypoints.index('armpit_left')] = -1
    score = _floor(table._replace(visibility=visibility), 'dark').score
    assert (score.images, score.skipped_images) == (NUM_IMAGES, 1)
    with pytest.raises(ValueError, match='can be scored'):
        _floor(table._replace(visibility=np.full_like(visibility, -1)), 'dark')


def test_the_last_pixel_and_the_one_beyond_are_inside():
    table = _table()
    keypoints = table.keypoints.copy()
    keypoints[table.visibility == 1] = np.random.default_rng(1).choice(
        [0.5, 511.5, 512.5], (np.count_nonzero(table.visibility == 1), 2)
    )
    pair = SCHEMA.normalizer_indices('blouse')
    keypoints[0, pair] = [[0.5, 512.5], [512.5, 0.5]]
    floor = _floor(table._replace(keypoints=keypoints), 'dark')
    assert floor.points_outside == 0
    assert floor.distance < 0.01


def test_large_maps_are_drawn_a_few_at_a_time(monkeypatch):
    drawn = []
    encode = HeatmapCodec.encode
    monkeypatch.setattr(
        HeatmapCodec, 'encode', lambda self, p: drawn.append(len(p)) or encode(self, p)
    )
    codec = HeatmapCodec((2048, 2048), (2048, 2048), refine='argmax')
    points = np.full([3, 2], 100.5, np.float32)
    np.testing.assert_allclose(eval_codec.decoded_again(points, codec, 2048.0), points, atol=1e-3)
    assert drawn == [1, 1, 1]


@pytest.mark.parametrize(
    ('text', 'size'), [('384', (384, 384)), ('384,288', (384, 288)), ('384, 288', (384, 288))]
)
def test_size_from_text(text, size):
    assert eval_codec.size_from_text(text, 'image_size') == size


@pytest.mark.parametrize(
    'text', ['', '0', '384,', '-4', '3.5', '1,2,3', '384x288', '384,0', '5000', '9' * 5000]
)
def test_size_that_is_none_is_refused(text):
    with pytest.raises(
        UserError, match=f'--image_size={text[:40]}: must be one number from 1 to 4096'
    ):
        eval_codec.size_from_text(text, 'image_size')


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ([], '--answers is missing'),
        (['--answers=absent.csv'], 'absent.csv: No such file'),
        (['--answers={answers}', '--refine=drak'], "unknown refine mode 'drak'"),
        (['--sigma=0'], '--sigma=0.0: must be positive'),
        (['--source_size=-1'], '--source_size=-1.0: must be positive'),
        (['--answers=a.csv', '--heatmap_size=9x6'], '--heatmap_size=9x6: must be one number'),
        (['--answers={answers}', '--smoothing=-1'], 'smoothing=-1.0: must be from 0 to 100'),
        (['--answer=a.csv'], '--answer'),
        (['a.csv'], "unexpected argument 'a.csv'"),
    ],
)
def test_mistakes_are_told_in_one_line(tmp_path, arguments, message):
    answers = tmp_path / 'answers.csv'
    write_table(answers, _table(), SCHEMA)
    arguments = [argument.format(answers=answers) for argument in arguments]
    result = commands.call('eval_codec.py', *arguments)
    commands.check_mistake(result, message)


def test_command_prints_and_writes_the_floors(tmp_path):
    answers, numbers = tmp_path / 'answers.csv.gz', tmp_path / 'out' / 'floor.json'
    write_table(answers, _table(), SCHEMA)
    result = commands.call(
        'eval_codec.py', f'--answers={answers}', '--image_size=384', '--heatmap_size=96',
        '--refine=all', '--smoothing=0.3', f'--output_json={numbers}',
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    shown = [line.split()[0] for line in result.stdout.splitlines()[2:7]]
    assert shown[:3] == ['argmax', 'quarter', 'centroid']  # from coarse to fine
    assert sorted(shown[3:]) == ['dark', 'gaussian']  # one hardly worse than the other
    report = json.loads(numbers.read_text())
    assert (report['refine'], report['smoothing']) == (shown[-1], 0.3)
    assert report['normalized_error'] == report['modes'][shown[-1]]['normalized_error'] < 2e-4
    assert report['modes']['argmax']['normalized_error'] == pytest.approx(
        _floor(_table(), 'argmax').score.normalized_error
    )
    assert (report['points'], report['skipped_images']) == (
        np.count_nonzero(_table().visibility == 1),
        0,
    )
    assert set(report['per_category']) == set(SCHEMA.categories)
    assert set(report['per_keypoint']) == set(SCHEMA.keypoints)
