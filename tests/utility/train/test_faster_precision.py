"""--precision=auto: the faster one of two precisions, told, kept, and taken again on resume."""

from __future__ import annotations

import contextlib
import json
import os

import pytest

from config import DataConfig, Experiment, NetworkConfig, UserError
from nets import precision
from nets.precision import Compute
from tests.tiny_records import write_records
from utility.train import runner
from utility.train.flags import RunOptions
from utility.train.preflight import faster_precision
from utility.train.stages import Training

SIZE = 32
EXPERIMENT = Experiment(
    network=NetworkConfig('resnet18', 'dhn', (SIZE, SIZE), (8, 8), {'width': 8}, {'channels': 8}),
    data=DataConfig(batch_size=2),
    epochs=1.0,
    evaluations=1,
)
NETWORK = Training('run/skirt', EXPERIMENT)


@pytest.fixture(autouse=True)
def log(caplog):
    caplog.set_level('INFO', logger='absl')
    return caplog


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
    splits = {'train': {'skirt': 4}, 'val': {'skirt': 2}}
    return write_records(tmp_path_factory.mktemp('records'), splits, SIZE)


def _set_ratio(monkeypatch, ratio):
    monkeypatch.setattr(precision, 'check', lambda compute: None)
    times = {'bfloat16': ratio, 'float32': 1.0}
    monkeypatch.setattr(faster_precision, 'step_times', lambda *_: times)


@pytest.mark.parametrize(
    ('ratio', 'expected'), [(0.7, 'bfloat16'), (0.97, 'float32'), (1.4, 'float32')]
)
def test_bfloat16_is_taken_where_it_is_clearly_faster(monkeypatch, caplog, ratio, expected):
    _set_ratio(monkeypatch, ratio)
    assert faster_precision.choose(NETWORK, 'records', Compute('auto')) == expected
    assert f'takes {ratio:.2f} of the time of one in float32; {expected}' in caplog.text


def test_a_machine_without_bfloat16_is_not_measured(monkeypatch, caplog):
    monkeypatch.setattr(precision, 'has_gpu', lambda: False)
    monkeypatch.setattr(precision, '_computes_bfloat16', lambda: False)
    assert faster_precision.choose(NETWORK, 'no records', Compute('auto')) == 'float32'
    assert 'this machine has no bfloat16' in caplog.text


def test_the_two_precisions_take_turns(monkeypatch, data_dir):
    steps = []

    @contextlib.contextmanager
    def training_step(experiment, plan, data_dir, compute):
        def step():
            steps.append(compute.precision)
            return {'bfloat16': 3.0, 'float32': 4.0}[compute.precision]

        yield step

    monkeypatch.setattr(faster_precision, 'training_step', training_step)
    experiment = EXPERIMENT.override('data.category=skirt')
    times = faster_precision.step_times(experiment, data_dir, Compute('auto'))
    assert times == {'float32': 4.0, 'bfloat16': 3.0}
    assert steps == ['float32', 'bfloat16'] * 3  # 21 s


def test_a_training_keeps_its_precision_and_goes_on_in_it(monkeypatch, data_dir, tmp_path, caplog):
    monkeypatch.setattr(faster_precision, 'SECONDS', 0.0)
    monkeypatch.setattr(faster_precision, 'WORTHWHILE', 1e9)  # bfloat16 in any case
    monkeypatch.setattr(precision, '_computes_bfloat16', lambda: True)
    options = RunOptions(data_dir, str(tmp_path), 'skirt', precision='auto')
    runner.train(EXPERIMENT, options)
    told = json.loads((tmp_path / 'skirt' / 'provenance.json').read_text())
    assert told['precision'] == 'bfloat16'
    assert '; bfloat16' in (tmp_path / 'train.log').read_text()

    _set_ratio(monkeypatch, 2.0)
    runner.train(EXPERIMENT, options)
    folder = os.path.join(str(tmp_path), 'skirt')
    assert f'--precision=auto: {folder} was started in bfloat16' in caplog.text


def test_devices_that_could_choose_differently_are_refused():
    with pytest.raises(UserError, match='--precision=auto --strategy=mirrored: .*name the prec'):
        RunOptions('records', 'run', precision='auto', strategy='mirrored')
