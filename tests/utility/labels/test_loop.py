"""The loop of labelling: suggested, corrected, converted, merged; and mistakes on the way."""

from __future__ import annotations

import csv
import json
import pathlib
import shutil
import types

import cv2
import numpy as np
import pytest

from config import UserError
from preprocessing import records, schema_files
from preprocessing.conversion.convert import convert
from preprocessing.conversion.settings import Settings
from preprocessing.datasets.fashionai import SCHEMA
from tests import commands
from tests.tiny_records import write_records
from tests.tiny_runs import smooth_image, write_run
from utility.labels import __main__ as labels
from utility.labels import merging, pictures
from utility.metrics.annotations import annotations_of

PICTURES = ('skirt/91.jpg', 'skirt/92.jpg', 'more/blouse/93.jpg')
SIZE = (60, 50)


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    """A run of random weights, records that it might know, pictures, and what is suggested."""
    root = tmp_path_factory.mktemp('loop')
    write_records(root / 'records', {'train': {'skirt': 2, 'blouse': 1}}, 48)
    for seed, name in enumerate(PICTURES):
        path = root / 'images' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), smooth_image(*SIZE, seed))
    run = write_run(root / 'run' / 'all')
    values = types.SimpleNamespace(
        output=str(root / 'next'),
        images=str(root / 'images'),
        labelled=str(root / 'records' / 'train'),
        count=2,
        format='labelme',
        category=None,
        checkpoint='best',
    )
    return root, labels.suggest(str(pathlib.Path(run).parent), values)


def _ranking(root):
    with (root / 'next' / labels.RANKING_FILE).open() as file:
        return list(csv.DictReader(file))


def test_a_ranking_and_pre_annotations_are_written(made):
    root, told = made
    rows = _ranking(root)
    assert [row['rank'] for row in rows] == ['1', '2']
    assert {row['image_id'] for row in rows} < set(PICTURES)
    for row in rows:
        assert row['image_category'] == row['image_id'].split('/')[-2]
        assert 0 <= float(row['uncertainty']) <= 1 and 0 <= float(row['novelty']) <= 2
        path = root / 'next' / labels.ANNOTATIONS_DIR / row['image_id'].replace('.jpg', '.json')
        shapes = json.loads(path.read_text())['shapes']
        points = [shape['label'] for shape in shapes if shape['shape_type'] == 'point']
        assert sorted(points) == sorted(SCHEMA.categories[row['image_category']])
    assert '2 of 3 pictures, against 3 labelled ones' in told


def test_what_was_corrected_is_merged(made):
    root, _ = made
    corrected = root / 'corrected'
    shutil.copytree(root / 'next' / labels.ANNOTATIONS_DIR, corrected)
    names = [row['image_id'] for row in _ranking(root)]
    for name in names:
        shutil.copy(root / 'images' / name, corrected / name)
    (root / 'fashionai.json').write_text(json.dumps(schema_files.describe(SCHEMA)))
    settings = Settings(
        data_dir=str(corrected),
        records_dir=str(root / 'new'),
        dataset='labelme',
        schema=str(root / 'fashionai.json'),
        val_fraction=0,
    )
    convert(settings, lambda items, *_: items)
    report = merging.merge(str(root / 'records'), str(root / 'new'), str(root / 'merged'))
    assert report == merging.Report(kept=3, replaced=0, added=2, updated=0, conflicts=0)
    table = annotations_of(str(root / 'merged' / 'train'), SCHEMA)
    assert len(table.image_ids) == 5
    assert set(names) < set(table.image_ids)
    own = [image_id in names for image_id in table.image_ids]
    assert table.image_sizes[own].tolist() == [list(SIZE)] * 2
    assert records.count_records(str(root / 'merged' / 'train')) == 5


def test_labelled_pictures_are_not_suggested(made):
    root, _ = made
    split = str(root / 'records' / 'train')
    every = list(pictures.of_folder_or_split(split, SCHEMA))
    assert len(every) == 3 and every[0].pixels.shape == (48, 48, 3)
    left = pictures.of_folder_or_split(split, SCHEMA, left_out={every[0].image_id})
    assert [one.image_id for one in left] == [one.image_id for one in every[1:]]
    with pytest.raises(UserError, match='have their categories'):
        pictures.of_folder_or_split(split, SCHEMA, 'skirt')


def test_the_category_of_a_picture_must_be_told(made):
    root, _ = made
    folder = root / 'plain'
    folder.mkdir()
    shutil.copy(root / 'images' / PICTURES[0], folder / 'a.jpg')
    with pytest.raises(UserError, match='a.jpg: nothing tells its category; give --category'):
        list(pictures.of_folder(str(folder), SCHEMA))
    (one,) = pictures.of_folder(str(folder), SCHEMA, 'dress')
    assert (one.category, one.pixels.shape, one.box.tolist()) == ('dress', (*SIZE, 3), [0] * 4)
    with pytest.raises(UserError, match="unknown category 'hat'"):
        list(pictures.of_folder(str(folder), SCHEMA, 'hat'))
    (one,) = pictures.of_folder(str(folder), SCHEMA.subset('skirt'))
    assert one.category == 'skirt'
    (folder / 'b.jpg').write_bytes(b'no picture')
    with pytest.raises(UserError, match='b.jpg: '):
        list(pictures.of_folder(str(folder), SCHEMA, 'skirt'))
    np.testing.assert_array_equal(one.box, 0)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ((), 'give suggest RUN, or merge OLD_RECORDS NEW_RECORDS'),
        (('suggest',), 'give suggest RUN'),
        (('merge', 'a'), 'give suggest RUN'),
        (('suggest', 'run'), '--output is missing'),
        (('suggest', 'run', '--output=next'), '--images is missing'),
        (('merge', 'a', 'b', '--output=c', '--count=3'), '--count is for suggest'),
        (('suggest', 'run', '--output=o', '--images=i', '--format=csv'), 'format'),
    ],
)
def test_mistakes_are_told_in_one_line(arguments, message):
    commands.check_mistake(commands.call('-m', 'utility.labels', *arguments), message)
