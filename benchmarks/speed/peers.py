"""Our networks beside the same ones in PyTorch, and our exported files beside OpenVINO.

PyTorch and timm are in an environment of their own: `bash tests/run.sh --parity` makes it, or
PARITY_PYTHON names its interpreter. ONNX files are written by another one, which
`bash tests/run.sh --export` makes, or EXPORT_PYTHON names.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import pathlib
import select
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks import networks
from benchmarks.common import interleaved, isolated, recipes
from benchmarks.common.isolated import FailedError
from benchmarks.common.recipes import ROOT
from benchmarks.common.report import MET, NO_TARGET, TARGET, Table, Target
from config import Experiment, OptimizerConfig
from nets.precision import Compute
from preprocessing.datasets import schema_of
from utility.checkpoints import snapshots
from utility.pretrained import warm_start
from utility.statistics.medians import Summary, summarize

NAME = 'Beside PyTorch'
IMAGE_SIZE, STEP_BATCH = 256, 4
# Name in the table -> recipe and what is set on it; the backbone is the same on both sides.
NETWORKS = {
    'resnet50_cpn': ('resnet50_cpn',),
    'resnet50_cpn_17th_place': ('resnet152_cpn_17th_place', 'network.backbone=resnet50'),
}
_EXPORTED = 'resnet50_cpn'
_MOST_DIFFERENCE = 1e-3  # of the largest number of the heat maps; of the loss
_MAX_SECONDS = 40.0  # of each way and network
FLOAT32, BFLOAT16 = 'float32', 'bfloat16'
OURS, EAGER, COMPILED = 'ours', 'eager', 'torch.compile'  # the last two as in pytorch_networks
# What is timed: (mode of networks.step, pictures).
STEP, ONE, FOUR = ('train', STEP_BATCH), ('infer', 1), ('infer', 4)
CASES = (STEP, ONE, FOUR)
# Seconds within which an answer is there; of what compiles: each of its steps is compiled first.
_PATIENCE, _COMPILING_PATIENCE = 1800.0, 180.0
_AT_LEAST_PEER, _BFLOAT16_GAIN = Target(at_least=1.0), Target(at_least=1.3)
_MISSING = (
    'PyTorch is not installed here: run `bash tests/run.sh --parity` once, which makes '
    '.venv/parity, or let PARITY_PYTHON name an interpreter with requirements-parity.txt'
)
_SERVE = 'import sys; sys.path.append(sys.argv[1]); import pytorch_networks as p; p.main()'
_RATE = 1e-4  # of the updates, so small that the weights stay about what they are


class Way(NamedTuple):
    """A way to compute a network: by whom (OURS, EAGER, COMPILED), and in which precision."""

    by: str
    precision: str


WAYS = [Way(by, precision) for precision in (FLOAT32, BFLOAT16) for by in (OURS, EAGER, COMPILED)]


class Peer:
    """The process that runs benchmarks/speed/pytorch_networks.py. Works only while it is asked.

    Args:
        python: Interpreter of the environment with PyTorch.
        patience: Seconds within which it must answer a request.
    """

    def __init__(self, python: str, patience: float):
        self._patience = patience
        environment = {
            n: v for n, v in os.environ.items() if n not in ('PYTHONPATH', 'VIRTUAL_ENV')
        }
        self._process = subprocess.Popen(
            [python, '-I', '-c', _SERVE, str(ROOT / 'benchmarks' / 'speed')],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def ask(self, request: str, **arguments: Any) -> dict[str, Any]:
        """Return the answer to a request of pytorch_networks.REQUESTS.

        Raises:
            FailedError: It failed there, or the process has ended.
        """
        try:
            self._process.stdin.write(json.dumps({'do': request, **arguments}) + '\n')
            self._process.stdin.flush()
            if not select.select([self._process.stdout], [], [], self._patience)[0]:
                self._process.kill()
                raise FailedError(f'no answer within {self._patience:.0f} s')
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ''
        if not line:
            raise FailedError(f'PyTorch: the process ended with {self._process.wait()}')
        answer = json.loads(line)
        if 'error' in answer:
            raise FailedError(f'PyTorch: {answer["error"]}')
        return answer

    def rounds(self, way: Way) -> Iterator[dict]:
        """Yield the loss of the first step; then the seconds of each case, again and again."""
        steps = [
            {'way': way.by, 'precision': way.precision, 'mode': mode, 'batch': batch}
            for mode, batch in CASES
        ]
        firsts = [self.ask('time', **step) for step in steps]
        yield {'loss': firsts[0]['loss']}
        while True:
            yield {case: self.ask('time', **step)['seconds'] for case, step in zip(CASES, steps)}

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()


def python_of(variable: str, folder: str) -> str | None:
    """Return the interpreter of the environment variable or of .venv/FOLDER; None without."""
    python = os.environ.get(variable) or str(ROOT / '.venv' / folder / 'bin' / 'python')
    return python if os.access(python, os.X_OK) else None


def experiment_of(name: str) -> Experiment:
    recipe, *settings = NETWORKS[name]
    optimizer = OptimizerConfig(name='momentum', learning_rate=_RATE, weight_decay=1e-5)
    experiment = recipes.load(recipe).override(*settings)
    return recipes.resized(dataclasses.replace(experiment, optimizer=optimizer), IMAGE_SIZE)


def weights_of(folder: str, experiment: Experiment) -> dict[str, Any]:
    """Return name -> value that PyTorch's network was made with: its backbone as
    --init_checkpoint reads it, its head by our names.
    """
    import tensorflow as tf

    weights = dict(np.load(f'{folder}/head.npz'))
    backbone = experiment.network.backbone
    with warm_start.as_checkpoint(f'{folder}/backbone.pth', backbone) as found:
        reader = tf.train.load_checkpoint(found.checkpoint)
        weights.update({n: reader.get_tensor(n) for n in reader.get_variable_to_shape_map()})
    return weights


def our_heatmaps(folder: str, name: str, path: str) -> float:
    """Return the largest difference of our final heat maps from those at `path`, a share.

    Raises:
        FailedError: A weight of ours has no counterpart.
    """
    import tensorflow as tf

    from nets import build_network

    experiment = experiment_of(name)
    expected, images = np.load(path), np.load(f'{folder}/data.npz')['images']
    network = build_network(experiment.network, expected.shape[-1])
    network(tf.zeros([1, *experiment.network.image_size, 3]), False)
    weights = weights_of(folder, experiment)
    for variable in network.variables:
        value = weights.get(variable.name.split(':')[0])
        if value is None:
            raise FailedError(f'{name}: PyTorch has no {variable.name}')
        variable.assign(value)
    found = network(images, False)[-1].numpy()
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def ours(folder: str, name: str, precision: str) -> Iterator[Any]:
    """Yield FLOPs and the first loss, then the seconds of each case, in an own process."""
    experiment = experiment_of(name)
    weights = weights_of(folder, experiment)
    actions, flops = {}, {}
    for mode, batch in CASES:
        compute = Compute(precision)
        action, count, _ = networks.step(experiment, mode, batch, compute, weights=weights)
        actions[mode, batch], flops[mode, batch] = action, count
    loss = float(actions[STEP]()[1])
    for action in actions.values():
        action()
    yield {'flops': flops, 'loss': loss}
    while True:
        yield {case: interleaved.seconds_of(action) for case, action in actions.items()}


def made_by(peer: Peer, name: str, folder: str) -> dict[str, Any]:
    """Make the network in PyTorch: its weights, pictures and points go to the folder."""
    experiment = experiment_of(name)
    network, loss, optimizer = experiment.network, experiment.loss, experiment.optimizer
    count = schema_of(experiment.data).num_keypoints
    features, labels = networks.noise(experiment, STEP_BATCH, count)
    stride = network.image_size[0] / network.map_size[0]
    cells = labels['keypoints'] / stride - 0.5
    np.savez(f'{folder}/data.npz', images=features['image'], keypoints=cells.astype(np.float32))
    return peer.ask(
        'make',
        network={
            'backbone': network.backbone,
            'head': network.head,
            'num_keypoints': count,
            'mean': network.mean,
            'std': network.std,
        },
        data=f'{folder}/data.npz',
        loss={'sigma': loss.sigmas_on(network.map_size)[0], 'ohkm': loss.ohkm},
        optimizer={
            'rate': optimizer.learning_rate,
            'momentum': optimizer.momentum,
            'weight_decay': optimizer.weight_decay,
            'decay_kinds': optimizer.decay_kinds,
        },
        folder=folder,
    )


def proven(peer: Peer, name: str, folder: str) -> dict[str, Any]:
    """Return by how much heat maps of the network that was made differ from ours, and its FLOPs.

    Raises:
        FailedError: They differ.
    """
    peer.ask('heatmaps', output=f'{folder}/maps.npy')
    difference = isolated.call(our_heatmaps, folder, name, f'{folder}/maps.npy')
    if not difference <= _MOST_DIFFERENCE:
        raise FailedError(f'{name}: heat maps differ by {difference:.1e} of the largest')
    flops = {case: peer.ask('flops', mode=case[0], batch=case[1])['flops'] for case in (STEP, ONE)}
    return {'difference': difference, 'peer_flops': flops}


def compare(peer: Peer, compiling: Peer, name: str, folder: str, repeats: int) -> dict[str, Any]:
    """Return what was found of a network, and the way -> seconds of each case, round by round; and
    why others failed.

    Args:
        peer: PyTorch as it is.
        compiling: PyTorch that compiles; it may run out of patience.
        name: In NETWORKS.
        folder: An empty one.
        repeats: The most rounds.
    """
    facts = {**made_by(peer, name, folder), **proven(peer, name, folder)}
    members: dict[Way, Iterator] = {}
    failures: dict[Way, str] = {}
    with tempfile.TemporaryDirectory() as again, contextlib.ExitStack() as stack:
        made_by(compiling, name, again)
        for way in WAYS:
            if way.by == OURS:
                remote = isolated.Remote(ours, folder, name, way.precision)
                members[way] = stack.enter_context(remote)
            else:
                members[way] = (peer if way.by == EAGER else compiling).rounds(way)
        for way, member in list(members.items()):
            try:
                facts.setdefault(f'{way.by} {way.precision}', next(member))
            except FailedError as error:
                failures[way] = str(error)
                del members[way]
        seconds, failed = interleaved.interleave(members, repeats, _MAX_SECONDS)
    ours_first, peer_first = (facts[f'{by} {FLOAT32}'] for by in (OURS, EAGER))
    losses = ours_first['loss'], peer_first['loss']
    if abs(losses[0] / losses[1] - 1) > _MOST_DIFFERENCE:
        raise FailedError(f'{name}: the losses of the first step differ: {losses}')
    facts.update(our_flops=ours_first['flops'], our_loss=losses[0], peer_loss=losses[1])
    return {**facts, 'seconds': seconds, 'failures': {**failures, **failed}}


def measure(repeats: int) -> list[Table]:
    """Return steps, inference and exported files beside their peers."""
    python = python_of('PARITY_PYTHON', 'parity')
    if python is None:
        return [Table(NAME, ('not measured',), [(_MISSING,)])]
    compared = {}
    for name in NETWORKS:
        with contextlib.ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            peer, compiling = (
                stack.enter_context(contextlib.closing(Peer(python, patience)))
                for patience in (_PATIENCE, _COMPILING_PATIENCE)
            )
            compared[name] = compare(peer, compiling, name, folder, repeats)
            if name == _EXPORTED:
                files = exported_files(peer, folder, repeats)
    return [steps_table(compared), inference_table(compared), *files]


def _ratios(slower: Sequence[Mapping], faster: Sequence[Mapping], case: tuple) -> Summary:
    """Return how many times as much the second does in the same time, round by round."""
    return summarize([a[case] / b[case] for a, b in zip(slower, faster)])


def best_peer(seconds: Mapping[Way, Sequence], precision: str, case: tuple) -> Way | None:
    """Return the fastest of PyTorch's ways in a precision."""
    ways = [way for way in seconds if way.by != OURS and way.precision == precision]
    medians = {way: summarize([costs[case] for costs in seconds[way]]).median for way in ways}
    return min(medians, key=medians.get, default=None)


def _plain(compared: Mapping[str, dict]) -> dict[str, Any]:
    """Return the numbers as JSON can hold them."""

    def text(key) -> str:
        return ' '.join(map(str, key)) if isinstance(key, tuple) else key

    def plain(value):
        if isinstance(value, Mapping):
            return {text(key): plain(inner) for key, inner in value.items()}
        return [plain(inner) for inner in value] if isinstance(value, list) else value

    return plain(compared)


def steps_table(compared: Mapping[str, dict]) -> Table:
    """Return the table of training steps."""
    rows = []
    for name, of in compared.items():
        seconds = of['seconds']
        for way, costs in seconds.items():
            flops = of['our_flops' if way.by == OURS else 'peer_flops'][STEP]
            rate = summarize([STEP_BATCH / cost[STEP] for cost in costs])
            speed = flops / summarize([cost[STEP] for cost in costs]).median
            peer = best_peer(seconds, way.precision, STEP)
            to_peer, to_float32, judged = '', '', NO_TARGET
            if way.by == OURS:
                if peer:
                    ratio = _ratios(seconds[peer], costs, STEP)
                    to_peer = f'{interleaved.text(ratio)} times'
                    judged = _AT_LEAST_PEER.cells(ratio.median)
                if way.precision == BFLOAT16:
                    ratio = _ratios(seconds[Way(OURS, FLOAT32)], costs, STEP)
                    to_float32 = f'{interleaved.text(ratio)} times'
                    judged = _BFLOAT16_GAIN.cells(ratio.median)
            numbers = f'{flops / STEP_BATCH / 1e9:.1f}', f'{speed / 1e9:.0f}'
            rows.append((f'{name}, {way.by}', way.precision, interleaved.text(rate), *numbers,
                         to_peer, to_float32, *judged))  # fmt: skip
        rows += _failed(of['failures'], name, 9)
    header = (
        'network', 'precision', 'pictures/s', 'GFLOP a picture', 'GFLOP/s',
        "PyTorch's best", 'our float32', TARGET, MET,
    )  # fmt: skip
    notes = [
        f'Batches of {STEP_BATCH}, {IMAGE_SIZE} px, 24 keypoints: forward, loss, gradients, '
        'moving statistics, update by momentum with weight decay; the same pictures.',
        "PyTorch: timm's ResNet-50 and a head written as one writes it there "
        '(benchmarks/speed/pytorch_networks.py), channels last, fused SGD; bfloat16 by autocast. '
        'FLOPs are those of convolutions and products, ours from the graph, theirs by '
        "PyTorch's counter.",
        "**PyTorch's best**, **our float32**: how many times as many pictures ours does in the "
        'same time, round by round. The target of bfloat16 is to our float32.',
        *(_proof(name, of) for name, of in compared.items()),
    ]
    return Table(NAME, header, rows, notes, _plain(compared))


def _failed(failures: Mapping[Way, str], name: str, columns: int) -> list[tuple[str, ...]]:
    return [
        (f'{name}, {way.by}', way.precision, reason[:100], *[''] * (columns - 3))
        for way, reason in failures.items()
    ]


def _proof(name: str, of: Mapping[str, Any]) -> str:
    return (
        f'{name}: with the same weights, of the same pictures, final heat maps differ by '
        f'{of["difference"]:.1e} of the largest number, and the loss of the first step is '
        f'{of["our_loss"]:.6f} (ours) and {of["peer_loss"]:.6f}.'
    )


def inference_table(compared: Mapping[str, dict]) -> Table:
    """Return the table of inference."""
    rows = []
    for name, of in compared.items():
        for way, costs in of['seconds'].items():
            cells = []
            for case in (ONE, FOUR):
                times = summarize([cost[case] / case[1] for cost in costs])
                peer = best_peer(of['seconds'], way.precision, case)
                ratio = ''
                if way.by == OURS and peer:
                    ratio = interleaved.text(_ratios(of['seconds'][peer], costs, case))
                cells += [interleaved.text(times, 1000), ratio]
            rows.append((f'{name}, {way.by}', way.precision, *cells))
        rows += _failed(of['failures'], name, 6)
    header = (
        'network', 'precision', 'one picture, ms', "PyTorch's best", 'of four, ms a picture',
        "PyTorch's best",
    )  # fmt: skip
    notes = [
        'Ours ends with points, by DARK; PyTorch with heat maps. Compiled there with its constants '
        "frozen, so that batch norms are folded; **PyTorch's best** as above.",
    ]
    return Table('Inference', header, rows, notes)


class _File(NamedTuple):
    """A network to run, and in what."""

    title: str
    runtime: str
    precision: str = FLOAT32
    path: str | None = ''  # of an exported file; '': PyTorch's network; None: there is none


def saved_model_calls(folder: str) -> Iterator[float | None]:
    """Yield None, then the seconds of calls of an exported folder, in an own process."""
    from utility.predict.exported import run_saved_model, standalone

    path = pathlib.Path(folder, standalone.DESCRIPTION_FILE)
    description = json.loads(path.read_text())
    predict = run_saved_model.start(folder, description)
    image = np.zeros([IMAGE_SIZE, IMAGE_SIZE, 3], np.uint8)
    call = functools.partial(predict, image, 0)
    call()
    yield None
    while True:
        yield interleaved.seconds_of(call)


def _write_run(folder: str, weights_folder: str) -> None:
    """Write a run of the exported network, with PyTorch's weights."""
    from benchmarks.common import synthetic_runs

    experiment = experiment_of(_EXPORTED)
    synthetic_runs.write_run(folder, experiment)
    snapshots.replace(folder, 1, weights_of(weights_folder, experiment))


def _export(python: str | None, run: str, name: str) -> str:
    """Export a run; the folder.

    Raises:
        FailedError: It cannot be.
    """
    if python is None:
        raise FailedError('needs `bash tests/run.sh --export` once, or EXPORT_PYTHON')
    output = f'{run}.{name}'
    command = [python, '-m', 'utility.export', run, f'--format={name}', f'--output={output}']
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise FailedError((done.stderr.strip() or '-').splitlines()[-1])
    return output


def exported_files(peer: Peer, folder: str, repeats: int) -> list[Table]:
    """Return the table of exported files in their runtimes, one picture a call."""
    run = f'{folder}/run'
    isolated.call(_write_run, run, folder)
    saved_model = _export(sys.executable, run, 'saved_model')
    failures: dict[_File, str] = {}
    path, reason = None, ''
    try:
        path = f'{_export(python_of("EXPORT_PYTHON", "export"), run, "onnx")}/model.onnx'
    except FailedError as error:
        reason = f'no ONNX file: {error}'
    files = [
        _File('ONNX file, ONNX Runtime', 'onnxruntime', FLOAT32, path),
        _File('ONNX file, OpenVINO', 'openvino', FLOAT32, path),
        _File('ONNX file, OpenVINO', 'openvino', BFLOAT16, path),
        _File("PyTorch's network, OpenVINO", 'openvino', FLOAT32),
        _File("PyTorch's network, OpenVINO", 'openvino', BFLOAT16),
    ]
    ours_key = _File('SavedModel, TensorFlow', 'tensorflow')
    with isolated.Remote(saved_model_calls, saved_model) as remote:
        next(remote)
        members: dict[_File, Iterator] = {ours_key: remote}
        for file in files:
            try:
                members[file] = _calls(peer, file, reason)
                next(members[file])
            except FailedError as error:
                failures[file] = str(error)
                members.pop(file, None)
        seconds, failed = interleaved.interleave(members, 4 * repeats, _MAX_SECONDS)
    return [files_table(seconds, {**failures, **failed}, ours_key)]


def _calls(peer: Peer, file: _File, reason: str) -> Iterator[float]:
    """Yield the seconds of a call, again and again. `reason`: Why a file is not there."""
    if file.path is None:
        raise FailedError(reason)
    where = {'runtime': file.runtime, 'precision': file.precision, 'path': file.path}
    peer.ask('open_file', size=IMAGE_SIZE, **where)
    while True:
        yield peer.ask('time_file', **where)['seconds']


def files_table(seconds: Mapping, failures: Mapping, saved_model: Any) -> Table:
    """Return the table; each of the peers is a target for our exported files."""
    base, rows = seconds[saved_model], []
    medians = {file: summarize(list(costs)).median for file, costs in seconds.items()}
    files = [f for f in medians if f.precision == FLOAT32 and (f is saved_model or f.path)]
    best = min(files, key=medians.get)
    for file, costs in seconds.items():
        ratio = summarize([a / b for a, b in zip(base, costs)])
        judged = NO_TARGET
        if file is not saved_model and file.precision == FLOAT32:
            ours_to_it = summarize([a / b for a, b in zip(costs, seconds[best])])
            judged = _AT_LEAST_PEER.cells(ours_to_it.median)
        rows.append((file.title, file.precision, interleaved.text(summarize(list(costs)), 1000),
                     interleaved.text(ratio), *judged))  # fmt: skip
    rows += [(f.title, f.precision, why[:100], *[''] * 3) for f, why in failures.items()]
    header = ('file and runtime', 'precision', 'ms', 'times the SavedModel', TARGET, MET)
    notes = (
        f'{_EXPORTED}, one image of {IMAGE_SIZE} px a call. Our files take any image and answer '
        "points; PyTorch's network gives heat maps. On a CPU with bfloat16 OpenVINO takes that "
        'unless it is told otherwise.',
        f'The target is of our fastest float32 file ({best.title}), beside this row.',
    )
    numbers = {f'{f.title} {f.precision}': list(costs) for f, costs in seconds.items()}
    return Table('Exported files', header, rows, notes, numbers)
