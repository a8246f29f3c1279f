"""Runs on disk: which networks a folder holds, and whose it is."""

from __future__ import annotations

import dataclasses
import json
import os

import numpy as np
import pytest

from config import DataConfig, Experiment
from preprocessing.datasets.fashionai import SCHEMA
from tests.tiny_checkpoints import write_checkpoint, write_network
from utility.checkpoints import runs


def _add_network(folder, category, trained=True):
    """Return the folder of a network, as far as it is looked at."""
    experiment = Experiment(data=DataConfig(category=category))
    write_network(folder, experiment, trained)
    return experiment


def test_a_folder_keeps_its_experiment(tmp_path):
    folder = tmp_path / 'run'
    runs.check_folder(str(folder), Experiment())
    experiment = _add_network(folder, 'skirt')
    assert runs.load_experiment(str(folder)) == experiment
    runs.check_folder(str(folder), experiment)
    other = dataclasses.replace(experiment, seed=1)
    with pytest.raises(ValueError, match='seed: 1 / 20180417'):
        runs.check_folder(str(folder), other)


def test_an_experiment_that_has_trained_nothing_may_be_replaced(tmp_path):
    experiment = _add_network(tmp_path / 'run', 'skirt', trained=False)
    runs.check_folder(str(tmp_path / 'run'), dataclasses.replace(experiment, seed=1))


def _train(folder, init_checkpoint):
    """What a training does in its folder, up to its first checkpoint."""
    experiment = Experiment(data=DataConfig(category='skirt'))
    runs.check_folder(str(folder), experiment, init_checkpoint)
    runs.keep_experiment(str(folder), experiment, init_checkpoint)
    write_checkpoint(folder / 'model.ckpt-0', {'global_step': np.int64(0)})


def test_a_training_goes_on_with_the_weights_it_started_from_or_without_the_flag(tmp_path):
    for path in ('weights.pth', os.path.abspath('weights.pth'), None, 'weights.pth'):
        _train(tmp_path, path)
    start = json.loads((tmp_path / 'provenance.json').read_text())
    path = os.path.abspath('weights.pth')
    assert start == {'init_checkpoint': path, 'precision': 'float32'}


@pytest.mark.parametrize(
    ('started', 'message'), [(None, 'started without one'), ('a.pth', r'started from /.*a\.pth')]
)
def test_other_weights_than_a_training_started_from_are_not_ignored(tmp_path, started, message):
    _train(tmp_path, started)
    with pytest.raises(
        ValueError, match=rf'^--init_checkpoint=/.*b.pth: .*{message} and would go on'
    ):
        _train(tmp_path, 'b.pth')


def test_weights_may_be_changed_until_something_was_trained(tmp_path):
    experiment = Experiment()
    runs.keep_experiment(str(tmp_path), experiment, 'a.pth')
    runs.check_folder(str(tmp_path), experiment, 'gs://bucket/b.pth')
    runs.keep_experiment(str(tmp_path), experiment, 'gs://bucket/b.pth')
    start = json.loads((tmp_path / 'provenance.json').read_text())
    assert start == {'init_checkpoint': 'gs://bucket/b.pth', 'precision': 'float32'}


def test_of_a_run_that_does_not_tell_its_start_the_weights_are_warned_of(tmp_path, caplog):
    _train(tmp_path, 'a.pth')
    (tmp_path / 'provenance.json').unlink()
    _train(tmp_path, 'b.pth')
    assert 'goes on from its own checkpoint, not from /' in caplog.text
    (tmp_path / 'provenance.json').write_text('{')
    with pytest.raises(ValueError, match='provenance.json is broken'):
        _train(tmp_path, 'b.pth')
    (tmp_path / 'provenance.json').write_text('{}')
    with pytest.raises(ValueError, match="provenance.json is broken: no 'init_checkpoint'"):
        _train(tmp_path, 'b.pth')


def test_the_precision_of_a_training_under_way_is_told(tmp_path):
    experiment = Experiment()
    runs.keep_experiment(str(tmp_path), experiment, None, 'bfloat16')
    assert runs.precision_of(str(tmp_path)) is None  # nothing is trained yet
    write_checkpoint(tmp_path / 'model.ckpt-0', {'global_step': np.int64(0)})
    runs.keep_experiment(str(tmp_path), experiment, None, 'float32')  # goes on
    assert runs.precision_of(str(tmp_path)) == 'bfloat16'
    (tmp_path / 'provenance.json').write_text('{"init_checkpoint": null}')  # of an older run
    assert runs.precision_of(str(tmp_path)) == 'float32'
    (tmp_path / 'provenance.json').unlink()  # of a still older one
    assert runs.precision_of(str(tmp_path)) == 'float32'


def test_checkpoints_without_experiment_are_not_touched(tmp_path):
    _add_network(tmp_path / 'run', 'skirt')
    (tmp_path / 'run' / 'experiment.json').unlink()
    with pytest.raises(ValueError, match='no experiment.json'):
        runs.check_folder(str(tmp_path / 'run'), Experiment())


@pytest.mark.parametrize('text', ['', '{"seed": "x"}', '[]', '{"sed": 1}', '\xff'])
def test_a_broken_experiment_names_its_file(tmp_path, text):
    (tmp_path / 'experiment.json').write_text(text, encoding='latin-1')
    with pytest.raises(ValueError, match='experiment.json'):
        runs.load_experiment(str(tmp_path))


def test_a_category_is_predicted_by_its_own_network_before_the_one_for_all(tmp_path):
    for category in ('all', 'skirt'):
        _add_network(tmp_path / category, category)
    chosen = runs.networks_for(str(tmp_path), ['blouse', 'skirt', 'trousers'])
    assert chosen == {
        str(tmp_path / 'all'): ['blouse', 'trousers'],
        str(tmp_path / 'skirt'): ['skirt'],
    }


def test_the_folder_of_one_network_is_a_run(tmp_path):
    _add_network(tmp_path / 'run' / 'skirt', 'skirt')
    folder = str(tmp_path / 'run' / 'skirt')
    assert runs.networks_for(folder, ['skirt']) == {folder: ['skirt']}
    assert runs.schema_of(folder) == SCHEMA
    with pytest.raises(ValueError, match='no network for blouse, nor one for all'):
        runs.networks_for(folder, ['blouse'])


def test_a_copy_of_a_network_in_the_run_is_ambiguous(tmp_path):
    for name in ('skirt', 'skirt_before'):
        _add_network(tmp_path / name, 'skirt')
    with pytest.raises(ValueError, match='skirt_before.*both networks for skirt'):
        runs.networks(str(tmp_path))


@pytest.mark.parametrize('name', ['', 'absent'])
def test_a_folder_without_networks_is_no_run(tmp_path, name):
    with pytest.raises(ValueError, match='holds no trained network'):
        runs.networks(str(tmp_path / name))


def test_a_network_without_checkpoint_cannot_predict_yet(tmp_path):
    _add_network(tmp_path / 'all', 'all', trained=False)
    with pytest.raises(ValueError, match='no checkpoint yet'):
        runs.networks_for(str(tmp_path), ['skirt'])
