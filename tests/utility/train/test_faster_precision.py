"""--precision=auto: the faster one of two precisions, told, kept, and taken again on resume."""

from __future__ import annotations

import contextlib
import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf

from config import DataConfig, Experiment, NetworkConfig
from nets import precision
from nets.precision import Compute
from tests.tiny_checkpoints import write_checkpoint
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


@pytest.fixture(autouse=True)
def log(caplog):
    caplog.set_level('INFO', logger='absl')
    return caplog


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
    splits = {'train': {'skirt': 4}, 'val': {'skirt': 2}}
    return write_records(tmp_path_factory.mktemp('records'), splits, SIZE)


@pytest.fixture
def machine(monkeypatch):
    """Make a machine with or without bfloat16 and a GPU, on which a training may be short."""

    def make(ratio=0.5, has_bfloat16=True, has_gpu=False, least_steps=1):
        monkeypatch.setattr(precision, 'has_gpu', lambda: has_gpu)
        monkeypatch.setattr(precision, '_computes_bfloat16', lambda: has_bfloat16)
        monkeypatch.setattr(faster_precision, 'LEAST_STEPS', least_steps)
        monkeypatch.setattr(faster_precision, 'block_ratio', lambda *_: ratio)

    return make


def _resolved(data_dir, folder='run', **options) -> str:
    network = Training(str(folder), EXPERIMENT.override('data.category=skirt'))
    [resolved] = faster_precision.resolve([network], RunOptions(data_dir, 'run', **options))
    return resolved.precision


@pytest.mark.parametrize(
    ('ratio', 'expected'), [(0.7, 'bfloat16'), (0.97, 'float32'), (1.4, 'float32')]
)
def test_bfloat16_is_taken_where_it_is_clearly_faster(machine, data_dir, caplog, ratio, expected):
    machine(ratio)
    assert _resolved(data_dir) == expected
    told = f'--precision=auto: {expected}, a residual block in bfloat16 takes {ratio:.2f} of the'
    assert told in caplog.text


@pytest.mark.parametrize(
    ('settings', 'options', 'message'),
    [
        ({'has_bfloat16': False}, {}, 'this machine has no bfloat16'),
        ({'has_gpu': True}, {}, 'on a GPU'),
        ({'least_steps': 3}, {}, 'trainings of fewer than 3 steps'),
        ({}, {'strategy': 'mirrored'}, ''),
    ],
)
def test_all_else_is_float32_without_a_measurement(
    machine, monkeypatch, data_dir, caplog, settings, options, message
):
    machine(**settings)
    monkeypatch.setattr(faster_precision, 'block_ratio', None)
    assert _resolved(data_dir, **options) == 'float32'
    assert message in caplog.text


def test_a_precision_that_is_named_is_taken(machine, data_dir):
    machine()
    assert _resolved(data_dir, precision='float32') == 'float32'


def test_a_block_of_the_kind_of_the_network_is_measured(machine, monkeypatch, data_dir):
    kinds = []
    machine()
    monkeypatch.setattr(faster_precision, 'block_ratio', lambda kind, _: kinds.append(kind) or 2.0)
    for backbone in ('efficientnet_lite0', 'resnet18', 'seresnext50_32x4d'):
        network = NetworkConfig(backbone, 'dhn', (SIZE, SIZE), (8, 8))
        experiment = dataclasses.replace(EXPERIMENT, network=network)
        experiment = experiment.override('data.category=skirt')
        faster_precision.resolve([Training('run', experiment)], RunOptions(data_dir, 'run'))
    assert kinds == [True, False, False]


@pytest.mark.parametrize(
    ('is_depthwise', 'kind'), [(False, 'Conv2D'), (True, 'DepthwiseConv2dNative')]
)
def test_a_block_is_measured_in_both_precisions(monkeypatch, is_depthwise, kind):
    graphs = []

    def settings(*_, **__):
        graphs.append(tf.compat.v1.get_default_graph())

    monkeypatch.setattr(precision, 'session_config', settings)
    assert faster_precision.block_ratio(is_depthwise, Compute()) > 0
    [graph] = graphs
    names = {'float32': tf.float32, 'bfloat16': tf.bfloat16}
    for name, dtype in names.items():
        inside = [op for op in graph.get_operations() if op.name.startswith(f'{name}/')]
        assert kind in {op.type for op in inside}
        kinds = {op.get_attr('T') for op in inside if op.type == 'Conv2D'}
        assert kinds == {dtype}
    backward = [op for op in graph.get_operations() if op.type == 'Conv2DBackpropInput']
    assert {op.get_attr('T') for op in backward} == set(names.values())


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


def test_a_training_keeps_its_precision_and_goes_on_in_it(machine, data_dir, tmp_path, caplog):
    machine()
    options = RunOptions(data_dir, str(tmp_path), 'skirt')
    runner.train(EXPERIMENT, options)
    folder = tmp_path / 'skirt'
    assert json.loads((folder / 'provenance.json').read_text())['precision'] == 'bfloat16'
    assert '--precision=auto: bfloat16, a residual block' in (tmp_path / 'train.log').read_text()

    machine(ratio=2.0)
    runner.train(EXPERIMENT, options)
    assert f'--precision=auto: bfloat16, as {folder} was started in bfloat16' in caplog.text
    machine(has_bfloat16=False)
    assert _resolved(data_dir, folder) == 'float32'


@pytest.mark.parametrize('provenance', [None, '{"init_checkpoint": null}'])
def test_a_run_of_before_goes_on_in_float32(machine, data_dir, tmp_path, provenance):
    machine()
    assert _resolved(data_dir, tmp_path) == 'bfloat16'
    write_checkpoint(tmp_path / 'model.ckpt-1', {'global_step': np.int64(1)})
    if provenance:
        (tmp_path / 'provenance.json').write_text(provenance)
    assert _resolved(data_dir, tmp_path) == 'float32'


def test_networks_of_one_command_go_on_as_they_were_started(machine, data_dir, tmp_path):
    machine()
    write_checkpoint(tmp_path / 'a' / 'model.ckpt-1', {'global_step': np.int64(1)})
    experiment = EXPERIMENT.override('data.category=skirt')
    networks = [Training(str(tmp_path / name), experiment) for name in 'ab']
    options = faster_precision.resolve(networks, RunOptions(data_dir, 'run'))
    assert [each.precision for each in options] == ['float32', 'bfloat16']
