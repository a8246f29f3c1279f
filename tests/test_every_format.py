"""The way of every format: data are converted, trained on for ten steps, predicted, written in that
format, or as COCO where it has no writer, and read again with equal points.
"""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.common import tiny_formats
from config import DataConfig, Experiment, NetworkConfig
from preprocessing.datasets import DATASETS, Source
from preprocessing.writers import WRITERS, garments_of, write
from tests import tiny_pictures
from utility.predict import predictor
from utility.predict.views_to_points import PredictOptions
from utility.train import runner
from utility.train.flags import RunOptions

SIZE = (60, 80)  # height, width of the pictures, px
EXPERIMENT = Experiment(
    network=NetworkConfig('resnet18', 'dhn', (32, 32), (8, 8), {'width': 4}, {'channels': 4}),
    data=DataConfig(batch_size=2),
)
WHOLE_PIXELS = ('csv', 'deepfashion2', 'fld')
FORMATS = sorted(set(DATASETS.names()) - {'fashionai'})  # which has tests of its own


def make(root, name):
    """Write a data set with its pictures."""
    for path, content in tiny_formats.files(name).items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    _, splits = DATASETS.get(name).open(Source(str(root)))
    paths = {one.image_path for split in splits for one in split.annotations()}
    tiny_pictures.write(root, sorted(path.removeprefix(f'{root}/') for path in paths), SIZE)


def accept(folder):
    """Make annotations of pre-annotations, as a person does in Label Studio."""
    path = folder / 'tasks.json'
    path.write_text(path.read_text().replace('"predictions"', '"annotations"'))


@pytest.mark.slow
@pytest.mark.parametrize('name', FORMATS)
def test_data_are_converted_trained_on_predicted_and_written_back(tmp_path, name):
    data, run, out = (tmp_path / part for part in ('data', 'run', 'out'))
    make(data, name)
    info, found = tiny_pictures.converted(data, name)
    records_dir, count = str(data / 'records'), sum(map(len, found.values()))
    assert info['rejected'] == 0 and count >= 1
    assert info['point_offset'] == (0.5 if name in WHOLE_PIXELS else 0.0)
    experiment = EXPERIMENT.override(f'epochs={10 * 2 / len(found["train"])}', 'evaluations=1')
    runner.train(experiment, RunOptions(records_dir, str(run), 'all'))
    assert (run / 'all' / 'model.ckpt-10.index').exists()
    told = predictor.predict_split(
        [str(run)], f'{records_dir}/train', PredictOptions(), given_boxes={}
    )
    assert len(told.image_ids) == len(found['train'])
    arrays = told.keypoints, told.visibility, told.image_sizes, told.scores, told.boxes
    garments = garments_of(told.image_ids, told.categories, *arrays)
    schema = DATASETS.get(name).open(Source(str(data)))[0]
    written = name if name in WRITERS.names() else 'coco'
    write(written, str(out), garments, schema)
    if written == 'label_studio':
        accept(out)
    if written == 'yolo':  # which has no size of the picture
        tiny_pictures.write(out, sorted({one.image_name for one in garments}), SIZE)
    _, splits = DATASETS.get(written).open(Source(str(out), schema))
    read = [one for split in splits for one in split.annotations()]
    assert len(read) == len(garments)
    by_place = sorted(read, key=lambda one: (one.image_id.split('#')[0], one.category))
    garments = sorted(garments, key=lambda one: (one.image_name, one.category))
    for one, garment in zip(by_place, garments):
        assert one.category == garment.category
        np.testing.assert_array_equal(one.visibility, garment.visibility)
        there = garment.visibility >= 0
        points = garment.keypoints[there]
        if written == 'yolo':  # points of a picture only
            points = np.clip(points, 0, SIZE[::-1])
        np.testing.assert_allclose(one.keypoints[there], points, atol=1e-3)
