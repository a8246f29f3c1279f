"""Boxes of a CSV: read, matched with records, and what prediction crops to."""

from __future__ import annotations

import json

import numpy as np
import pytest

import eval_submission
from preprocessing.datasets import DATASETS, Source
from preprocessing.datasets.fashionai import SCHEMA
from preprocessing.records import record_files, split_patterns
from tests.commands import check_mistake, run
from tests.tiny_records import write_records
from tests.tiny_runs import write_run
from utility.predict import boxes, predictor
from utility.predict.views_to_points import PredictOptions

SIZE = 48  # px
HEADER = 'image_id,x_min,y_min,x_max,y_max'


@pytest.fixture(scope='module')
def split(tmp_path_factory):
    root = tmp_path_factory.mktemp('data')
    write_records(root / 'records', {'val': {'skirt': 3, 'blouse': 2}}, SIZE)
    return str(root / 'records' / 'val')


@pytest.fixture(scope='module')
def run_dir(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp('runs') / 'run' / 'all').rsplit('/', 1)[0]


def ids_of(split, category):
    files = record_files(split_patterns(split, category))
    return files, predicted_ids(files)


def predicted_ids(files):
    import tensorflow as tf

    from preprocessing.records import decoded

    examples = decoded(tf.data.TFRecordDataset(files), SCHEMA).as_numpy_iterator()
    return [example['image_id'].decode() for example in examples]


def read(tmp_path, text):
    path = tmp_path / 'boxes.csv'
    path.write_text(text)
    return boxes.read_boxes(path, SCHEMA)


def test_rows_are_read_by_picture_in_any_order_of_columns(tmp_path):
    text = 'category,y_max,x_min,y_min,x_max,image_id\nskirt,40.5,1,2,30,a.jpg\n,9,1,2,3,b.jpg\n'
    text += 'blouse,9,4,2,8,a.jpg\n'
    found = read(tmp_path, text)
    assert list(found) == ['a.jpg', 'b.jpg']
    assert [one.category for one in found['a.jpg']] == ['skirt', 'blouse']
    np.testing.assert_array_equal(found['a.jpg'][0].corners, [1, 2, 30, 40.5])
    assert found['b.jpg'][0].category is None


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('image_id,x_min,y_min,x_max\n', "lacks column 'y_max'"),
        (f'{HEADER},score\na,1,2,3,4,5\n', "column 'score' is unknown"),
        (f'{HEADER}\na,1,2,3\n', 'line 2: 4 fields, not 5'),
        (f'{HEADER}\na,1,2,x,4\n', "line 2, column 'x_max': 'x' must be a number"),
        (f'{HEADER}\na,1,2,nan,4\n', "column 'x_max'"),
        (f'{HEADER}\na,1,2,1e9,4\n', "column 'x_max'"),
        (f'{HEADER}\na,1,2,3,4\nb,3,2,3,4\n', 'line 3: a box with a side of less than 1 px'),
        (f'{HEADER},category\na,1,2,3,4,hat\n', "'hat' is none of: "),
        (f'{HEADER}\na,1,2,3,4\nb,1,2,1.0000001,4\n', 'line 3: a box with a side of less'),
        ('', 'is empty'),
    ],
)
def test_a_fault_is_told_with_its_line(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read(tmp_path, text)


def test_each_box_gives_a_prediction_of_its_crop(split, run_dir, tmp_path):
    """As predict_images of the same picture with that box gives; others are as without boxes."""
    _, skirts = ids_of(split, 'skirt')
    text = f'{HEADER}\n{skirts[1]},5,6,30,40\n{skirts[1]},1,2,20,22\n{skirts[2]},0,0,20,47\n'
    given = read(tmp_path, text)
    plain = predictor.predict_split([run_dir], split, PredictOptions())
    found = predictor.predict_split([run_dir], split, PredictOptions(), given_boxes=given)
    expected_ids = [*plain.image_ids[:3], f'{skirts[1]}#1', f'{skirts[1]}#2', skirts[2]]
    assert found.image_ids.tolist() == expected_ids
    assert found.categories.tolist() == ['blouse'] * 2 + ['skirt'] * 4
    np.testing.assert_array_equal(found.boxes[3:], [[5, 6, 30, 40], [1, 2, 20, 22], [0, 0, 20, 47]])
    np.testing.assert_array_equal(found.keypoints[:3], plain.keypoints[:3])
    own = list(SCHEMA.indices('skirt'))
    for row, same in ((3, 3), (4, 3), (5, 4)):
        assert not np.allclose(found.keypoints[row, own], plain.keypoints[same, own], atol=0.1)
    twice = predictor.predict_passes([run_dir], split, PredictOptions(passes=2), given_boxes=given)
    np.testing.assert_array_equal(twice[0].keypoints, found.keypoints)
    assert twice[1].image_ids.tolist() == expected_ids


def test_boxes_of_no_record_or_another_category_are_refused(split, run_dir, tmp_path):
    _, skirts = ids_of(split, 'skirt')
    for row, message in (
        ('nowhere.jpg,1,2,3,4,', "line 2: no picture 'nowhere.jpg' in the records"),
        (f'{skirts[0]},1,2,3,4,blouse', f"line 2: '{skirts[0]}' is a skirt in the records"),
        (f'{skirts[0]},48,2,90,40,', 'line 2: the box 48, 2, 90, 40 is outside .* 48x48 px'),
        (f'{skirts[0]},1,-40,9,0,', 'line 2: the box 1, -40, 9, 0 is outside of the picture'),
    ):
        given = read(tmp_path, f'{HEADER},category\n{row}\n')
        with pytest.raises(ValueError, match=message):
            predictor.predict_split([run_dir], split, PredictOptions(), given_boxes=given)


def test_flags_of_the_output_that_do_not_fit_are_refused(tmp_path):
    (tmp_path / 'mine.txt').write_text('mine')
    script = [eval_submission.__file__, '--data_dir=x', '--model_dir=y']
    for given, message in (
        (['--output_format=coco'], '--output_dir is missing'),
        (['--output_format=coco', '--output_csv=a.csv'], '--output_csv is for --output_format=csv'),
        (['--output_format=yolo', f'--output_dir={tmp_path}'], 'is not an empty directory'),
        (['--output_csv=a.csv', '--output_dir=b'], '--output_dir is for another'),
        (['--output_csv=a.csv', '--coco_ids=b'], '--coco_ids is for --output_format=coco'),
    ):
        check_mistake(run(*script, *given), message)


@pytest.mark.slow
def test_the_command_writes_what_the_reader_reads(split, run_dir, tmp_path):
    output = tmp_path / 'out'
    done = run(
        eval_submission.__file__, f'--data_dir={split}', f'--model_dir={run_dir}',
        '--output_format=coco', f'--output_dir={output}',
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f'{output}/annotations.json: 5 garments' in done.stdout
    content = json.loads((output / 'annotations.json').read_text())
    predicted = predictor.predict_split([run_dir], split, PredictOptions())
    schema, (only,) = DATASETS.get('coco').open(Source(str(output), SCHEMA))
    read_back = list(only.annotations())
    assert [one.category for one in read_back] == predicted.categories.tolist()
    assert len(content['images']) == 5 and schema == SCHEMA
    for row, one in enumerate(read_back):
        own = list(SCHEMA.indices(one.category))
        np.testing.assert_allclose(one.keypoints[own], predicted.keypoints[row, own], atol=1e-3)
