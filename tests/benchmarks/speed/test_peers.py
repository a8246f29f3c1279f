"""The comparison with PyTorch: tables, what is missing, and the process that answers."""

from __future__ import annotations

import os
import sys

import numpy as np
import pytest

from benchmarks.common import isolated
from benchmarks.speed import peers
from benchmarks.speed.peers import BFLOAT16, COMPILED, EAGER, FLOAT32, OURS, STEP, Peer, Way


def _compared(ours: float, peer: float, bfloat16: float) -> dict:
    """Return what `compare` gives of a network: seconds of a step of ours, of PyTorch's two ways,
    of which one is as fast as given, and of ours in bfloat16.
    """
    seconds = {
        Way(OURS, FLOAT32): ours,
        Way(EAGER, FLOAT32): peer,
        Way(COMPILED, FLOAT32): 2 * peer,
        Way(OURS, BFLOAT16): bfloat16,
    }
    flops = dict.fromkeys(peers.CASES, 8e9)
    return {
        'our_flops': flops,
        'peer_flops': flops,
        'difference': 1e-6,
        'our_loss': 0.25,
        'peer_loss': 0.25,
        'seconds': {way: [dict.fromkeys(peers.CASES, s)] * 2 for way, s in seconds.items()},
        'failures': {Way(COMPILED, BFLOAT16): 'PyTorch: no compiler'},
    }


@pytest.mark.parametrize(
    ('seconds', 'met'),
    [((1.0, 1.0, 0.7), ['yes', 'yes']), ((1.1, 1.0, 1.0), ['**no**', '**no**'])],
)
def test_a_step_is_judged_by_the_fastest_of_pytorch_and_bfloat16_by_our_float32(seconds, met):
    table = peers.steps_table({'net': _compared(*seconds)})
    rows = {tuple(row[:2]): row[2:] for row in table.rows}
    assert all(len(row) == len(table.header) for row in table.rows)
    of_ours = [rows['net, ours', precision] for precision in (FLOAT32, BFLOAT16)]
    assert [row[-1] for row in of_ours] == met
    assert of_ours[0][0] == f'{peers.STEP_BATCH / seconds[0]:.2f} ± 0.00'
    assert of_ours[0][3] == f'{seconds[1] / seconds[0]:.2f} ± 0.00 times'
    assert of_ours[1][4] == f'{seconds[0] / seconds[2]:.2f} ± 0.00 times'
    assert rows['net, torch.compile', BFLOAT16][0] == 'PyTorch: no compiler'
    assert '1.0e-06 of the largest number' in table.notes[-1]


def test_inference_has_both_sides():
    table = peers.inference_table({'net': _compared(1.0, 0.5, 0.25)})
    assert [row[0] for row in table.rows].count('net, ours') == 2
    assert table.rows[0][2:] == ('1000 ± 0', '0.50 ± 0.00', '250 ± 0', '0.50 ± 0.00')


def test_our_fastest_file_is_judged_beside_each_runtime():
    own = peers._File('SavedModel, TensorFlow', 'tensorflow')
    onnx = peers._File('ONNX file, ONNX Runtime', 'onnxruntime', FLOAT32, 'model.onnx')
    other = peers._File("PyTorch's network, OpenVINO", 'openvino')
    half = peers._File("PyTorch's network, OpenVINO", 'openvino', BFLOAT16)
    seconds = {own: [0.2] * 3, onnx: [0.1] * 3, other: [0.05] * 3}
    table = peers.files_table(seconds, {half: 'no such'}, own)
    assert [row[3] for row in table.rows[:3]] == ['1.00 ± 0.00', '2.00 ± 0.00', '4.00 ± 0.00']
    assert [row[-1] for row in table.rows] == ['', 'yes', '**no**', '']
    assert onnx.title in table.notes[-1]


def test_without_pytorch_the_part_says_how_to_get_it(monkeypatch):
    monkeypatch.setenv('PARITY_PYTHON', '/nowhere/python')
    assert peers.python_of('PARITY_PYTHON', 'parity') is None
    ((row,),) = [table.rows for table in peers.measure(1)]
    assert 'bash tests/run.sh --parity' in row[0]
    monkeypatch.setenv('PARITY_PYTHON', sys.executable)
    assert peers.python_of('PARITY_PYTHON', 'parity') == sys.executable


@pytest.mark.parametrize(
    ('program', 'message'),
    [
        ('print(\'{"error": "ValueError: no"}\', flush=True); input()', 'PyTorch: ValueError: no'),
        ('raise SystemExit(3)', 'PyTorch: the process ended with 3'),
        ('import time; time.sleep(60)', 'no answer within 1 s'),
    ],
)
def test_what_goes_wrong_there_is_told(monkeypatch, program, message):
    monkeypatch.setattr(peers, '_SERVE', program)
    peer = Peer(sys.executable, 30 if 'sleep' not in program else 1)
    try:
        with pytest.raises(isolated.FailedError, match=message):
            peer.ask('make')
    finally:
        peer.close()


@pytest.mark.parity
@pytest.mark.parametrize('name', peers.NETWORKS)
def test_both_sides_compute_the_same(tmp_path, monkeypatch, name):
    python = os.environ.get('PARITY_PYTHON')
    if not python:
        pytest.skip('needs PyTorch and timm: bash tests/run.sh --parity')
    monkeypatch.setattr(peers, 'IMAGE_SIZE', 64)
    peer = Peer(python, 600)
    try:
        peers.made_by(peer, name, str(tmp_path))
        peer.ask('heatmaps', output=str(tmp_path / 'maps.npy'))
        difference = peers.our_heatmaps(str(tmp_path), name, str(tmp_path / 'maps.npy'))
        step = next(peer.rounds(Way(EAGER, FLOAT32)))
        flops = peer.ask('flops', mode=STEP[0], batch=STEP[1])['flops']
    finally:
        peer.close()
    print(f'{name}: {difference:.1e}')
    assert difference < 1e-4
    found = next(peers.ours(str(tmp_path), name, FLOAT32))
    np.testing.assert_allclose(found['loss'], step['loss'], rtol=1e-4)
    # Ours convolves before it resizes; the other network has no such layer.
    ratio = flops / found['flops'][STEP]
    assert 1.05 < ratio < 1.3 if name == 'resnet50_cpn' else ratio == pytest.approx(1, abs=0.02)
