"""The check of an exported folder over a split of the records."""

from __future__ import annotations

import numpy as np
import pytest

from tests.commands import call, check_mistake
from tests.tiny_records import write_records
from tests.tiny_runs import write_run
from utility.export import check, folder
from utility.export.formats import Settings
from utility.export.graph import ExportGraph
from utility.predict import fusion
from utility.predict.views_to_points import PredictOptions


def test_a_folder_is_run_by_its_own_script_and_compared(tmp_path):
    run_dir = write_run(tmp_path / 'run')
    split = write_records(tmp_path / 'records', {'val': {'skirt': 3, 'blouse': 2}}, 60) + '/val'
    graph = ExportGraph(fusion.load_network(run_dir, PredictOptions()), PredictOptions())
    output = str(tmp_path / 'out')
    folder.export(graph, 'tflite', output, Settings())
    report = check.check(output, split)  # finds the run, which lies beside it
    assert report.distances.images == 5
    assert report.distances.largest < 0.05
    assert report.file.normalized_error == pytest.approx(report.network.normalized_error, rel=1e-3)
    assert report.file.start > 0 and report.file.rate > 0 and report.network.rate > 0
    assert np.isnan(report.network.start)
    assert 'NE ' in str(report) and 'MB' in str(report)


def test_the_network_is_that_with_the_same_weights(tmp_path):
    run_dir = write_run(tmp_path / 'far' / 'away' / 'run' / 'all')
    split = write_records(tmp_path / 'records', {'val': {'skirt': 1}}, 60) + '/val'
    graph = ExportGraph(fusion.load_network(run_dir, PredictOptions()), PredictOptions())
    output = str(tmp_path / 'out')
    folder.export(graph, 'saved_model', output, Settings())
    with pytest.raises(ValueError, match="was made of 'run/all', best/.*was not found; give the r"):
        check.check(output, split)
    write_run(tmp_path / 'run' / 'all', seed=1)
    with pytest.raises(ValueError, match='was not found; give the run'):
        check.check(output, split)
    with pytest.raises(ValueError, match='which is not .*/run'):
        check.check(output, split, str(tmp_path / 'run'))
    assert check.check(output, split, str(tmp_path / 'far/away/run')).distances.largest < 0.05


@pytest.mark.parametrize(
    ('key', 'value'),
    [('run', ['a']), ('checkpoint', 5), ('weights', None), ('flip_test', 'x'), ('run', None)],
)
def test_a_description_of_no_network_is_refused(monkeypatch, key, value):
    told = {'run': 'run/all', 'checkpoint': 'a', 'weights': 'b', 'flip_test': False, key: value}
    monkeypatch.setattr(check.standalone, 'read_description', lambda folder: told)
    with pytest.raises(ValueError, match=f"'out' does not tell its '{key}': export it again"):
        check.check('out', 'records/val')


def test_flags_that_do_not_fit_are_told(tmp_path):
    check_mistake(call('-m', 'utility.export'), 'give one run, --format and --output')
    check_mistake(call('-m', 'utility.export', '--check=out'), '--check needs --data_dir')
    two = call('-m', 'utility.export', 'a', 'b', '--check=out', '--data_dir=val')
    check_mistake(two, '--check compares with one run, not 2')
    nowhere = call('-m', 'utility.export', f'--check={tmp_path}', '--data_dir=records/val')
    check_mistake(nowhere, 'is no exported network: no model.json in it')
    alone = call('-m', 'utility.export', 'a', '--format=onnx', '--output=o', '--precision=int8')
    check_mistake(alone, '--precision=int8 and --calibrate=RECORDS/train go together')
