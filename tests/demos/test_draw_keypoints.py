"""The drawing demo: which pictures it takes, and what it writes of their points."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import types

import cv2
import numpy as np
import pandas as pd
import pytest

from config import UserError
from demos import draw_keypoints
from preprocessing import files
from preprocessing.datasets.fashionai import SCHEMA
from preprocessing.records import count_by_category
from tests.commands import ROOT
from tests.tiny_records import write_records
from tests.tiny_runs import smooth_image, write_run
from utility.checkpoints import runs
from utility.metrics.annotations import annotations_of
from utility.predict import load, predictor
from utility.predict.boxes import Box
from utility.predict.predictor import Predictions
from utility.predict.temporal_filter import OneEuroFilter
from utility.predict.views_to_points import PredictOptions
from utility.visualization import video

OWN = list(SCHEMA.indices('skirt'))
SIZES = np.array([[40, 60], [40, 60]])  # (height, width)


@pytest.fixture
def predictions():
    """Of two skirts; the first has points beyond each edge of its picture."""
    keypoints = np.full((2, SCHEMA.num_keypoints, 2), 20.25, np.float32)
    keypoints[0, OWN] = [[-3.2, 10.5], [60.0, 5.0], [59.75, 39.9], [12.0, 41.0]]
    visibility = np.full((2, SCHEMA.num_keypoints), -1)
    visibility[:, OWN] = 1
    scores = np.full((2, SCHEMA.num_keypoints), 0.25, np.float32)
    ids, categories = np.array(['a.jpg', 'b, "c".jpg'], object), np.array(['skirt', 'skirt'])
    return Predictions(ids, categories, SIZES, keypoints, scores, visibility)


def test_points_outside_are_moved_to_the_edge_and_others_stay(predictions):
    moved = draw_keypoints.within(predictions).keypoints
    np.testing.assert_allclose(
        moved[0, OWN], [[0.5, 10.5], [59.5, 5.5], [59.75, 39.9], [12.5, 39.5]], atol=1e-5
    )
    np.testing.assert_array_equal(moved[1], predictions.keypoints[1])


def test_scores_are_written_beside_the_points(predictions):
    head, *body = draw_keypoints.scores_table(predictions, SCHEMA)
    rows = [dict(zip(head, cells)) for cells in body]
    assert [row['image_id'] for row in rows] == predictions.image_ids.tolist()
    assert {name for name, cell in rows[0].items() if cell == '0.2500'} == set(
        SCHEMA.categories['skirt']
    )
    assert rows[0]['crotch'] == ''


def test_a_folder_stands_for_its_pictures(tmp_path, caplog):
    for name in ('b.jpg', 'a.PNG', 'c.tif'):
        cv2.imwrite(str(tmp_path / name), np.zeros((40, 60, 3), np.uint8))
    (tmp_path / '._b.jpg').write_text('a note of the system')
    (tmp_path / 'notes.txt').write_text('no picture')
    shutil.copy(tmp_path / 'b.jpg', os.fsdecode(os.fsencode(tmp_path) + b'/\xff.jpg'))
    (tmp_path / 'broken.jpg').write_text('no picture')
    found = draw_keypoints.read_images([str(tmp_path), str(tmp_path / 'b.jpg')])
    assert list(found) == [f'{tmp_path}/{name}' for name in ('a.PNG', 'b.jpg', 'c.tif')]
    assert '._b.jpg' not in caplog.text
    assert f'left out: {tmp_path}/broken.jpg' in caplog.text
    assert f"left out: '{tmp_path}/\\udcff.jpg': is no UTF-8" in caplog.text
    with pytest.raises(ValueError, match='broken.jpg'):
        draw_keypoints.read_images([str(tmp_path / 'broken.jpg')])
    (tmp_path / 'empty').mkdir()
    with pytest.raises(ValueError, match='empty: no picture in it'):
        draw_keypoints.read_images([str(tmp_path / 'empty')])


def test_each_file_has_an_output_of_its_own():
    def names(*paths):
        return [os.path.basename(path) for path in draw_keypoints.outputs_of(paths, 'out')]

    stems = ['1_2', '1_3', '1_1', '1_0', 'x']
    found = names('a/1.jpg', 'b/1.jpg', 'c/1_1.jpg', 'd/1_0.png', 'e/x.jpg')
    assert found == [f'{stem}_keypoints' for stem in stems]
    assert names('a/1.jpg', 'b/1.png') == ['1_0_keypoints', '1_1_keypoints']


def test_a_picture_that_is_read_is_not_drawn_over(predictions, tmp_path, monkeypatch):
    paths = [tmp_path / 'a.jpg', tmp_path / 'a_keypoints.jpg']
    for path in paths:
        cv2.imwrite(str(path), np.zeros((40, 60, 3), np.uint8))
    before = paths[1].read_bytes()
    monkeypatch.setattr(predictor, 'predict_images', lambda *given: predictions)
    monkeypatch.setattr(runs, 'schema_of', lambda run: SCHEMA)
    plain = {'boxes': None, 'output_format': 'csv', 'outside': False, 'coco_ids': None}
    values = types.SimpleNamespace(
        category='skirt', output_dir=str(tmp_path), model_dir=['run'], **plain
    )
    monkeypatch.setattr(
        draw_keypoints.prediction_flags,
        'uncertainty',
        lambda values, runs, options: (None, options),
    )
    with files.inputs_kept(), pytest.raises(UserError, match='a_keypoints.jpg is read by this'):
        draw_keypoints.draw_files(list(map(str, paths)), values, PredictOptions())
    assert paths[1].read_bytes() == before


@pytest.fixture(scope='module')
def run_dir(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp('runs') / 'all')


def _draw(run_dir, *arguments, **options):
    command = [sys.executable, 'demos/draw_keypoints.py', f'--model_dir={run_dir}', *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, check=False, **options)


@pytest.mark.slow
def test_a_video_gets_points_in_every_frame(run_dir, tmp_path):
    frames = [smooth_image(48, 64, seed) for seed in range(5)]
    video.write_video(str(tmp_path / 'a.mp4'), frames, 10)
    seen = list(video.open_video(str(tmp_path / 'a.mp4')).frames())
    arguments = ('--category=skirt', '--noflip_test', str(tmp_path / 'a.mp4'))
    for smooth in ('--nosmooth', '--smooth'):
        output = tmp_path / smooth
        done = _draw(run_dir, *arguments, smooth, f'--output_dir={output}')
        assert done.returncode == 0, done.stderr
        assert sorted(path.name for path in output.iterdir()) == [
            'a_keypoints.csv', 'a_keypoints.mp4',
        ]  # fmt: skip
        drawn = video.open_video(str(output / 'a_keypoints.mp4'))
        assert (drawn.rate, drawn.size, drawn.num_frames) == (10, (48, 64), 5)
    tables = [
        pd.read_csv(tmp_path / smooth / 'a_keypoints.csv') for smooth in ('--nosmooth', '--smooth')
    ]
    columns = ['frame', 'seconds', 'category', 'keypoint', 'x', 'y', 'score']
    assert tables[0].columns.tolist() == columns
    assert set(tables[0].category) == {'skirt'}
    assert tables[0].keypoint.tolist() == list(SCHEMA.categories['skirt']) * 5
    assert tables[0].seconds.iloc[-1] == 0.4
    with load(run_dir) as model:
        expected = np.concatenate([one.points for one in model.predict(seen, 'skirt')])
    expected = draw_keypoints.nearest_inside(expected, (48, 64))
    np.testing.assert_allclose(tables[0][['x', 'y']], expected, atol=0.02)
    smoothed = OneEuroFilter(10, 64)
    expected = np.concatenate([smoothed(frame) for frame in expected.reshape(5, 4, 2)])
    np.testing.assert_allclose(tables[1][['x', 'y']], expected, atol=0.5)


@pytest.mark.slow
def test_a_picture_comes_by_standard_input(run_dir, tmp_path):
    jpeg = cv2.imencode('.jpg', smooth_image(60, 50))[1].tobytes()
    arguments = ('--category=skirt', '-', f'--output_dir={tmp_path}')
    done = _draw(run_dir, *arguments, input=jpeg)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / 'stdin_keypoints.jpg').is_file()
    assert 'stdin,skirt' in (tmp_path / 'keypoints.csv').read_text()


@pytest.mark.parametrize(
    ('name', 'given', 'message'),
    [
        ('-', b'', b'error: standard input: the file is empty\n'),
        ('-', bytes((64 << 20) + 1), b'error: standard input: more than 67108864 bytes\n'),
        ('-', b'no picture', b'error: standard input: not a picture in one of the formats'),
        ('a.mp4', b'', b'a.mp4: the file is empty\n'),
        ('a.MOV', b'no video', b'a.MOV: no frame of it can be read; it is damaged, or no video\n'),
    ],
)
def test_what_cannot_be_read_is_told_in_one_line(run_dir, tmp_path, name, given, message):
    path = name if name == '-' else str(tmp_path / name)
    if path != '-':
        (tmp_path / name).write_bytes(given)
    output = tmp_path / 'out'
    done = _draw(run_dir, '--category=skirt', path, f'--output_dir={output}', input=given)
    assert done.returncode == 2 and message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not output.exists()


def test_all_records_where_a_split_is_meant_are_refused(tmp_path):
    write_records(tmp_path / 'records', {'val': {'skirt': 1}, 'test_0': {'skirt': 1}}, 40)
    path = str(tmp_path / 'records')
    for read in (count_by_category, lambda path: annotations_of(path, SCHEMA)):
        with pytest.raises(ValueError, match='holds all records; give one .*val or .*/test_0'):
            read(path)


def test_each_box_of_a_picture_is_looked_at():
    box, other = (Box(np.arange(4.0) + n, name, 'x.csv') for n, name in ((0, 'skirt'), (1, None)))
    given = {'b.jpg': [box, other], '/p/a.jpg': [other]}
    found = draw_keypoints.garments_in(['/p/a.jpg', '/p/b.jpg', 'c.jpg'], 'dress', given)
    assert [(path, category, corners is None) for path, category, corners in found] == [
        ('/p/a.jpg', 'dress', False),
        ('/p/b.jpg', 'skirt', False),
        ('/p/b.jpg', 'dress', False),
        ('c.jpg', 'dress', True),
    ]
    with pytest.raises(UserError, match='none of the pictures'):
        draw_keypoints.garments_in(['c.jpg'], 'dress', given)
    with pytest.raises(UserError, match='--category is missing: .* such as /p/a.jpg'):
        draw_keypoints.garments_in(['/p/a.jpg'], None, given)
    with pytest.raises(UserError, match=r'2 pictures are called b\.jpg; name paths'):
        draw_keypoints.garments_in(['/p/b.jpg', '/q/b.jpg'], 'dress', given)
    paths = {'/p/b.jpg': [box], '/q/b.jpg': [other]}
    found = draw_keypoints.garments_in([*paths], 'dress', paths)
    assert [category for _, category, _ in found] == ['skirt', 'dress']


def test_points_of_files_are_written_in_a_format_by_names_below_their_directory(
    tmp_path, predictions
):
    values = types.SimpleNamespace(
        output_dir=str(tmp_path / 'out'), output_format='labelme', coco_ids=None
    )
    paths = [f'{tmp_path}/a.jpg', f'{tmp_path}/shop/b.jpg']
    written = draw_keypoints.write_files(
        draw_keypoints.within(predictions), paths, values, SCHEMA, None
    )
    assert [path.removeprefix(f'{tmp_path}/out/') for path in written] == [
        'keypoints.csv', 'scores.csv', 'labelme/a.json', 'labelme/shop/b.json',
    ]  # fmt: skip


def test_a_split_in_pieces_is_not_drawn(tmp_path):
    split = f'{write_records(tmp_path / "records", {"val": {"skirt": 2}}, 32)}/val'
    (tmp_path / 'records/val/skirt-00001-of-00002.tfrecord').touch()
    with pytest.raises(UserError, match='is missing; copy the records'):
        draw_keypoints.draw_split(types.SimpleNamespace(data_dir=split), PredictOptions())
