"""Radii from a model that is calibrated: of runs, of files, of an exported folder, by commands."""

from __future__ import annotations

import csv
import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from config import UserError
from tests.commands import call, check_mistake, run
from tests.tiny_records import write_records
from tests.tiny_runs import smooth_image, write_run
from utility.export import folder
from utility.export.formats import FORMATS, Settings
from utility.export.graph import ExportGraph
from utility.predict import fusion, load, uncertainty
from utility.predict.exported.standalone import ExportedModel
from utility.predict.views_to_points import PredictOptions

IMAGE = smooth_image(120, 90)


@pytest.fixture(scope='module')
def records_dir(tmp_path_factory):
    counts = {'val': {'skirt': 12, 'trousers': 12}, 'test_0': {'skirt': 3}}
    return write_records(tmp_path_factory.mktemp('records') / 'records', counts, 64)


@pytest.fixture(scope='module')
def run_dir(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp('runs') / 'run')


def test_a_model_tells_radii_once_it_is_calibrated(records_dir, run_dir, tmp_path):
    with load(run_dir, flip_test=True) as model:
        plain = model.predict(IMAGE, 'skirt')
        assert plain.radii is None and 'radii' not in json.loads(plain.to_json())
        model.calibrate(f'{records_dir}/val')
        result = model.predict(IMAGE, 'skirt')
        model.calibrate(f'{records_dir}/val', level=0.5)
        narrow = model.predict(IMAGE, 'skirt')
        with pytest.raises(UserError, match='level=90'):
            model.calibrate(f'{records_dir}/val', level=90)
        with pytest.raises(UserError, match='is no file'):
            model.calibrate(str(tmp_path))
    np.testing.assert_allclose(result.points, plain.points, atol=1e-3)
    assert result.radii.shape == (4,) and (result.radii > narrow.radii).all()
    assert list(json.loads(result.to_json())['radii']) == list(result.names)
    np.testing.assert_array_equal(result.to_dataframe()['radius'], result.radii)
    assert (result.draw() != plain.draw()).any()


def test_another_way_of_predicting_is_refused(records_dir, run_dir, tmp_path):
    options = PredictOptions(flip_test=True)
    path = tmp_path / uncertainty.FILE
    uncertainty.of_split(f'{records_dir}/val', [run_dir], options).write(path)
    with load(run_dir, flip_test=True) as model:
        model.calibrate(tmp_path)
        assert np.isfinite(model.predict(IMAGE, 'skirt').radii).all()
    with load(run_dir) as model, pytest.raises(UserError, match='flip_test=True, not False'):
        model.calibrate(path)


def test_an_exported_folder_carries_its_radii(records_dir, run_dir, tmp_path):
    options = PredictOptions()
    split, features = f'{records_dir}/val', uncertainty.POINT_FEATURES
    calibration = uncertainty.of_split(split, [run_dir], options, features)
    graph = ExportGraph(fusion.load_network(run_dir, options), options)
    more = calibration.of_export(graph.schema, level=0.8)
    output = str(tmp_path / 'export')
    folder.export(graph, 'saved_model', output, Settings('float32', []), [IMAGE], more)
    with_maps = dataclasses.replace(calibration, features=uncertainty.FEATURES)
    with pytest.raises(UserError, match='an export tells peak'):
        with_maps.of_export(graph.schema)
    with load(output) as model:
        carried = model.predict(IMAGE, 'skirt')
        model.calibrate(split)
        again = model.predict(IMAGE, 'skirt')
    assert carried.radii.shape == (4,) and np.isfinite(carried.radii).all()
    assert (again.radii > carried.radii).all()  # of 90 %
    own = ExportedModel(output, FORMATS.get('saved_model').start).describe(IMAGE, 'skirt')
    assert list(own['radii']) == list(own['points']) == list(carried.names)
    np.testing.assert_allclose(list(own['radii'].values()), carried.radii, rtol=1e-5)
    description = json.loads((tmp_path / 'export' / 'model.json').read_text())
    for wrong in ({'level': 'x'}, {'low': [0, 0]}, {'sizes': {'skirt': {}}}, {'weights': None}):
        broken = {**description, 'radii': {**description['radii'], **wrong}}
        (tmp_path / 'export' / 'model.json').write_text(json.dumps(broken))
        with pytest.raises(UserError, match="its 'radii' is not what an export writes"):
            load(output)
    description['uncertainty']['features'] = list(uncertainty.FEATURES)
    (tmp_path / 'export' / 'model.json').write_text(json.dumps(description))
    with pytest.raises(UserError, match='low'):
        load(output)


@pytest.mark.slow
def test_the_script_of_an_export_prints_radii(records_dir, run_dir, tmp_path):
    path, output = tmp_path / 'a.png', tmp_path / 'out'
    Image.fromarray(IMAGE).save(path)
    words = ['-m', 'utility.export', run_dir, '--format=tflite', f'--output={output}']
    check_mistake(call(*words, '--uncertainty_level=0.8'), 'needs --uncertainty')
    done = call(*words, f'--uncertainty={records_dir}/val', '--uncertainty_level=0.8')
    assert done.returncode == 0, done.stderr
    answer = json.loads(run(output / 'predict.py', '--category=skirt', path).stdout)
    with load(str(output)) as model:
        np.testing.assert_allclose(
            list(answer['radii'].values()), model.predict(str(path), 'skirt').radii, rtol=1e-5
        )


@pytest.mark.slow
def test_commands_learn_radii_and_tell_them(records_dir, run_dir, tmp_path):
    path, report = tmp_path / 'uncertainty.json', tmp_path / 'report.json'
    run(
        'eval_metrics.py',
        f'--data_dir={records_dir}/val',
        f'--model_dir={run_dir}',
        f'--save_uncertainty={path}',
    )
    out = run(
        'eval_metrics.py',
        f'--data_dir={records_dir}/val',
        f'--model_dir={run_dir}',
        f'--uncertainty={path}',
        '--reject_above=20',
        f'--output_json={report}',
    ).stdout
    assert 'radii of 90 %' in out and 'scored points have a radius above 20 px' in out
    found = json.loads(report.read_text())['uncertainty']
    assert 0.7 < found['coverage'] <= 1 and found['points'] == 12 * 4 + 12 * 7
    run(
        'eval_submission.py',
        f'--data_dir={records_dir}/test_0',
        f'--model_dir={run_dir}',
        f'--output_csv={tmp_path}/a.csv',
        f'--uncertainty={records_dir}/val',
        '--reject_above=1e-3',
    )
    with open(tmp_path / 'a_uncertainty.csv', newline='') as file:  # noqa: PTH123
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * 4 and {row['rejected'] for row in rows} == {'1'}


def test_mistakes_are_told_in_one_line(records_dir, run_dir):
    words = ['eval_metrics.py', f'--data_dir={records_dir}/val', f'--model_dir={run_dir}']
    check_mistake(run(*words, '--reject_above=3'), '--reject_above needs --uncertainty')
    check_mistake(
        run(*words, f'--uncertainty={run_dir}', '--uncertainty_level=90'),
        '--uncertainty_level=90.0: must be between 0 and 1',
    )
