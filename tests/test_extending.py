"""The code of docs/extending.md, run from a folder outside the project."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys

from tests.commands import ROOT

CHECK = """
import runpy
import sys

import tensorflow as tf

import nets
from train_plain11_sum import EXPERIMENT

with tf.Graph().as_default():
    variant = nets.BACKBONES.get('seresnext101_64x4d')()
    variant(tf.zeros([1, 64, 64, 3]), False)
    # timm's seresnext101_64x4d without its classifier.
    assert nets.num_parameters(variant) == 88_232_984 - 2049 * 1000
with tf.Graph().as_default():
    network = nets.build_network(EXPERIMENT.network, 24)
    (heatmaps,) = network(tf.zeros([2, 384, 384, 3]), True)
    assert heatmaps.shape == [2, 96, 96, 24]
    variables = network.trainable_variables
    assert all(g is not None for g in tf.gradients(heatmaps, variables))
    assert {v.name.split('/')[0] for v in variables} == {'backbone', 'head'}
print(sorted(set(nets.BACKBONES.names()) & {'plain11', 'seresnext101_64x4d'}))
# The recipe is a script like the project's own.
sys.argv = ['train_plain11_sum.py', '--data_dir=nowhere']
runpy.run_path('train_plain11_sum.py', run_name='__main__')
"""


def _check(folder, path):
    """Check that a folder with the networks of the page works, with this PYTHONPATH."""
    (folder / 'check.py').write_text(CHECK)
    done = subprocess.run(
        [sys.executable, 'check.py'],
        cwd=folder,
        env={**os.environ, 'PYTHONPATH': path, 'TF_CPP_MIN_LOG_LEVEL': '2'},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2, done.stderr[-2000:]
    assert done.stdout == "['plain11', 'seresnext101_64x4d']\n"
    assert 'nowhere' in done.stderr.splitlines()[-1]


def test_the_networks_of_the_page_work_from_outside_the_project(tmp_path):
    blocks = re.findall(r'```python\n(.*?)```', (ROOT / 'docs/extending.md').read_text(), re.DOTALL)
    assert len(blocks) == 4
    *components, recipe = blocks
    (tmp_path / 'own_networks.py').write_text('\n\n'.join(components))
    (tmp_path / 'train_plain11_sum.py').write_text('import own_networks\n' + recipe)
    _check(tmp_path, os.pathsep.join([str(tmp_path), str(ROOT)]))


def test_the_networks_of_the_page_work_inside_the_project(tmp_path):
    for name in ('config.py', 'nets', 'preprocessing', 'utility'):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    text = (ROOT / 'docs/extending.md').read_text()
    variant, backbone, head, recipe = re.findall(r'```python\n(.*?)```', text, re.DOTALL)
    for package, file, code in (
        ('backbones', 'plain', f'{variant}\n\n{backbone}'),
        ('heads', 'sum_head', head),
    ):
        folder = tmp_path / 'nets' / package
        (folder / f'{file}.py').write_text(code)
        with (folder / '__init__.py').open('a') as init:
            init.write(f'from nets.{package} import {file}\n')
    (tmp_path / 'train_plain11_sum.py').write_text(recipe)
    _check(tmp_path, str(tmp_path))
