"""Every backbone and every head of the registries is exported with the points that it gives."""

from __future__ import annotations

import inspect

import pytest

import nets
from config import LossConfig, NetworkConfig
from tests.tiny_runs import random_weights, write_run
from utility.checkpoints import runs, snapshots
from utility.export import folder
from utility.export.formats import Settings
from utility.export.graph import ExportGraph
from utility.predict import fusion
from utility.predict.views_to_points import PredictOptions

# A network of Keras has the operations of all others of its family: one stands for them.
BACKBONES = [name for name in nets.BACKBONES.names() if '/' not in name] + ['keras/MobileNetV2']
PAIRS = [(backbone, 'dhn') for backbone in BACKBONES] + [
    ('resnet18', head) for head in nets.HEADS.names()
]
FORMATS = [
    'saved_model',
    pytest.param('onnx', marks=pytest.mark.slow),
    pytest.param('tflite', marks=pytest.mark.slow),
]
_QUICK = {('resnet18', 'cpn'), ('resnet18', 'simcc'), ('efficientnet_lite0', 'dhn')}


def _thin(factory, **sizes):
    """Return those of these options that the factory has."""
    return {name: n for name, n in sizes.items() if name in inspect.signature(factory).parameters}


def _halve_scales(run_dir: str) -> None:
    """Halve the scales of all norms of a run.

    A deep network is chaotic as it is initialized: it makes another map of a change by 1e-6, and
    the roundings of two runtimes are such changes. With weaker branches it is not.
    """
    experiment = runs.load_experiment(run_dir)
    weights = random_weights(experiment)
    halved = {name: v / 2 if name.endswith('/gamma') else v for name, v in weights.items()}
    assert any(name.endswith('/gamma') for name in weights)
    snapshots.replace(f'{run_dir}/{snapshots.BEST}', 1, halved)


def _marked(pair):
    return pytest.param(*pair, marks=() if pair in _QUICK else pytest.mark.slow)


@pytest.mark.parametrize('name', FORMATS)
@pytest.mark.parametrize(('backbone', 'head'), map(_marked, dict.fromkeys(PAIRS)))
def test_points_are_those_of_the_network(backbone, head, name, tmp_path):
    if name == 'onnx':
        pytest.importorskip('tf2onnx', reason='tf2onnx is not installed (tests/run.sh --export)')
    network = NetworkConfig(
        backbone,
        head,
        (64, 64),
        (16, 16),
        _thin(nets.BACKBONES.get(backbone), width=32),  # senet154 needs it for its 64 groups
        _thin(nets.HEADS.get(head), channels=16, stacks=2, depth=2),
    )
    loss = LossConfig(kind='cross_entropy' if head == 'simcc' else 'mse')
    run_dir = write_run(tmp_path / 'run', 'skirt', network=network, loss=loss)
    _halve_scales(run_dir)
    options = PredictOptions(flip_test=True)
    graph = ExportGraph(fusion.load_network(run_dir, options), options)
    compared = folder.export(graph, name, str(tmp_path / 'out'), Settings())
    # Two cells of a map without a peak may be almost equal: then either is the largest.
    assert compared.median < 1e-2 and compared.p90 < 0.1
