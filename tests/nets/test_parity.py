"""Weights of timm give here what they give there: every feature map, of the same picture.

`bash tests/run.sh --parity` installs PyTorch and timm into an environment of their own and runs
these and tests/utility/pretrained/test_published.py; tests/timm_networks.py runs there.
"""

from __future__ import annotations

import os
import pathlib
import subprocess

import numpy as np
import pytest
import tensorflow as tf

import nets
from config import NetworkConfig
from tests.commands import ROOT
from tests.timm_networks import NETWORKS
from utility.pretrained import warm_start

pytestmark = pytest.mark.parity

TOLERANCE = 1e-4  # of the largest number of a feature map
STAGES = (1, 2, 3, 4, 5)


def run_timm(folder: pathlib.Path, *published: str) -> None:
    """Run timm_networks.py, which writes to the folder; skip the test where there is no PyTorch."""
    python = os.environ.get('PARITY_PYTHON')
    if not python:
        pytest.skip('needs PyTorch and timm: bash tests/run.sh --parity')
    script = ROOT / 'tests/timm_networks.py'
    environment = {n: v for n, v in os.environ.items() if n not in ('PYTHONPATH', 'VIRTUAL_ENV')}
    command = [python, str(script), str(folder), *published]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def difference(found: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest, as a share of the largest number that is expected."""
    assert found.shape == expected.shape
    return np.abs(found - expected).max() / np.abs(expected).max()


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('timm')
    run_timm(folder)
    return folder


def features_of(network: NetworkConfig, path: str, picture: np.ndarray) -> dict[str, np.ndarray]:
    """Return what the backbone makes of a picture with the weights at `path`, all of
    them loaded.
    """
    network = warm_start.match_pretrained_settings(network, path)
    backbone = nets.BACKBONES.get(network.backbone)(**network.backbone_options)
    images = (picture - np.float32(network.mean)) / np.float32(network.std)
    backbone(tf.zeros_like(images), False)
    with warm_start.as_checkpoint(path, network.backbone) as weights:
        report = warm_start.plan(weights, backbone.variables, backbone=network.backbone)
        assert (report.coverage, report.missing) == (1.0, ())
        assert all(name.startswith('backbone/last_conv/') for name in report.unexpected)
        reader = tf.train.load_checkpoint(weights.checkpoint)
        for variable in backbone.variables:
            variable.assign(reader.get_tensor(variable.name.split(':')[0]))
    return {key: feature.numpy() for key, feature in backbone(images, False).items()}


@pytest.mark.parametrize('name', NETWORKS)
@pytest.mark.parametrize('kind', ['pth', 'safetensors'])
def test_every_feature_map_is_that_of_timm(folder, name, kind):
    expected = dict(np.load(folder / f'{name}.npz'))
    picture = expected.pop('picture')
    backbone = name.replace('legacy_', '').replace('tf_', '')
    options = {} if backbone.startswith('hrnet') else {'levels': STAGES}
    network = NetworkConfig(backbone, backbone_options=options)
    features = features_of(network, str(folder / f'{name}.{kind}'), picture)
    assert features.keys() == expected.keys()
    for key, feature in features.items():
        off = difference(feature, expected[key])
        print(f'{name} {kind} {key}: {off:.1e}')
        assert off < TOLERANCE, key
