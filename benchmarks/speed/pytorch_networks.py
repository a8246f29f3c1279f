"""Networks of this project in PyTorch, and a process that runs them when it is asked.

Runs where PyTorch and timm are installed (requirements-parity.txt); imports nothing of TensorFlow.
`main` reads requests from standard input and answers on standard output, a line of JSON each:
{'do': name in REQUESTS, ...} -> {...} or {'error': ..}. It works only while it is asked.
benchmarks/speed/peers.py starts it, as a module on its own: the package asks for TensorFlow.

The backbone is timm's. The heads are those of nets/heads/cpn.py and nets/heads/cpn_17th_place.py,
written as one writes them in PyTorch, channels first in shape and last in memory; their modules
have the names of our layers, so that weights map one to one. CPN resizes and joins levels before
its 1x1 convolutions, as published; ours convolves first, which is the same function in fewer FLOPs.
"""

from __future__ import annotations

import copy
import functools
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import pathlib
import runpy
import sys
import time
import types
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torch._inductor import config as inductor

EAGER, COMPILED = 'eager', 'torch.compile'
# PyTorch's last name of a tensor -> ours.
_CONVOLUTION = {'weight': 'kernel', 'bias': 'bias'}
_NORM = {
    'weight': 'gamma', 'bias': 'beta',
    'running_mean': 'moving_mean', 'running_var': 'moving_variance',
}  # fmt: skip
_TO_HWIO = (2, 3, 1, 0)  # of a transposed convolution: to [h, w, filters, C]
_MOST_BOTTLENECKS = 3  # of a level, in the 17th place's head


class _Absent(types.ModuleType):
    """A module in which every name is a class that does nothing."""

    def __getattr__(self, name: str):
        if name.startswith('__'):
            raise AttributeError(name)
        return type(name, (), {})


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Stands in for torchvision, which timm imports for what these networks do not need."""

    def find_spec(self, name, path, target=None):
        if name.split('.')[0] == 'torchvision':
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        return _Absent(spec.name)

    def exec_module(self, module):
        pass


def import_timm_models():
    """Return timm.models without torchvision and timm.data, which read pictures."""
    sys.meta_path.insert(0, _Finder())
    folder = pathlib.Path(importlib.util.find_spec('timm').origin).parent / 'data'
    data = types.ModuleType('timm.data')
    data.__path__ = [str(folder)]
    vars(data).update(runpy.run_path(str(folder / 'constants.py')))
    sys.modules['timm.data'] = data
    import timm.models

    return timm.models


def _conv(inputs: int, filters: int, size: int = 1, bias: bool = False) -> nn.Conv2d:
    return nn.Conv2d(inputs, filters, size, padding=size // 2, bias=bias)


class ConvNorm(nn.Module):
    """Convolution, batch norm, and ReLU unless `is_linear`."""

    def __init__(self, inputs: int, filters: int, size: int = 1, is_linear: bool = False):
        super().__init__()
        self.conv, self.norm = _conv(inputs, filters, size), nn.BatchNorm2d(filters)
        self.is_linear = is_linear

    def forward(self, inputs):
        outputs = self.norm(self.conv(inputs))
        return outputs if self.is_linear else F.relu(outputs, inplace=True)


class Bottleneck(nn.Module):
    """See nets/blocks.py.

    Args:
        reader: What reads the inputs, {'conv1', 'shortcut'}, where it is a part of something else.
    """

    def __init__(self, inputs: int, width: int, filters: int, reader=None):
        super().__init__()
        self.reader = [reader]  # in a list it is no module of this one
        self.shortcut = None
        if reader is None:
            self.conv1 = ConvNorm(inputs, width)
            self.shortcut = ConvNorm(inputs, filters, 1, True) if inputs != filters else None
        self.conv2, self.conv3 = ConvNorm(width, width, 3), ConvNorm(width, filters, 1, True)

    def forward(self, inputs):
        (reader,) = self.reader
        first = reader['conv1'] if reader else self.conv1
        shortcut = reader['shortcut'] if reader else self.shortcut
        outputs = self.conv3(self.conv2(first(inputs)))
        return F.relu(outputs + (shortcut(inputs) if shortcut else inputs), inplace=True)


def _resize(inputs, size):
    if tuple(inputs.shape[2:]) == tuple(size):
        return inputs
    return F.interpolate(inputs, size=size, mode='bilinear', align_corners=False)


class Cpn(nn.Module):
    """nets/heads/cpn.py: levels by key, fine to coarse -> heat maps, coarse to final."""

    def __init__(self, channels_of: Mapping[str, int], num_keypoints: int, channels: int = 256):
        super().__init__()
        levels, refine = nn.ModuleDict(), nn.ModuleDict()
        for n, (key, inputs) in enumerate(channels_of.items()):
            level = {'lateral': ConvNorm(inputs, channels), 'predict': ConvNorm(channels, channels)}
            if n < len(channels_of) - 1:
                level['merge'] = ConvNorm(channels, channels, 1, True)
            levels[key] = nn.ModuleDict(level)
            self.add_module(f'heatmaps_{key}', _conv(channels, num_keypoints, 3, True))
            blocks = [Bottleneck(channels, channels // 2, channels) for _ in range(n)]
            refine[key] = nn.ModuleDict({f'block{i + 1}': b for i, b in enumerate(blocks)})
        refine['join'] = Bottleneck(channels * len(channels_of), channels // 2, channels)
        self.global_ = levels  # a keyword without the line, which torch.compile cannot read
        self.refine = refine
        self.heatmaps = _conv(channels, num_keypoints, 3, True)

    def forward(self, features, size):
        above, refined, outputs = None, [], []
        for key in reversed(list(features)):
            parts = self.global_[key]
            level = parts['lateral'](features[key])
            if above is not None:
                level = level + parts['merge'](_resize(above, level.shape[2:]))
            above = level
            heatmaps = self.get_submodule(f'heatmaps_{key}')(parts['predict'](level))
            outputs.append(_resize(heatmaps, size))
            for block in self.refine[key].values():
                level = block(level)
            refined.append(_resize(level, size))
        return [*outputs, self.heatmaps(self.refine['join'](torch.cat(refined, 1)))]


class Cpn17thPlace(nn.Module):
    """nets/heads/cpn_17th_place.py without variants, for heat maps as large as the finest level."""

    def __init__(self, channels_of: Mapping[str, int], num_keypoints: int, channels: int = 256):
        super().__init__()
        finest, *_, coarsest = channels_of
        levels, refine, width = nn.ModuleDict(), nn.ModuleDict(), channels // 4
        reader = nn.ModuleDict()
        reader['conv1'] = ConvNorm(num_keypoints, width)
        reader['shortcut'] = ConvNorm(num_keypoints, channels, 1, True)
        for n, (key, inputs) in enumerate(channels_of.items()):
            levels[key] = nn.ModuleDict({'lateral': _conv(inputs, channels, bias=True)})
            if key not in (finest, coarsest):
                levels[key]['merge'] = _conv(channels, channels, 3, True)
            count = min(n, _MOST_BOTTLENECKS)
            blocks = [Bottleneck(channels, width, channels) for _ in range(count)]
            blocks = blocks or [Bottleneck(num_keypoints, width, channels, reader)]
            refine[key] = nn.ModuleDict({f'block{i + 1}': b for i, b in enumerate(blocks)})
            if n:
                refine[key]['deconv'] = nn.ConvTranspose2d(
                    channels, channels, 2 * 2**n, stride=2**n, padding=2**n // 2
                )
        refine['join'] = Bottleneck(channels * len(channels_of), width, channels)
        self.global_ = levels  # a keyword without the line, which torch.compile cannot read
        self.heatmaps_global = _conv(channels, num_keypoints, 3, True)
        self.heatmaps_refine1_input, self.refine1 = reader, refine
        self.heatmaps_refine1 = _conv(channels, num_keypoints, 1, True)

    def forward(self, features, size):
        levels, level = {}, None
        for key in reversed(list(features)):
            parts = self.global_[key]
            lateral = parts['lateral'](features[key])
            level = lateral if level is None else lateral + _resize(level, lateral.shape[2:])
            level = parts['merge'](level) if 'merge' in parts else level
            levels[key] = level
        levels = dict(reversed(levels.items()))
        heatmaps = self.heatmaps_global(level)
        levels[next(iter(levels))] = heatmaps
        joined = []
        for key, inputs in levels.items():
            for layer in self.refine1[key].values():
                inputs = layer(inputs)
            joined.append(inputs)
        refined = self.refine1['join'](torch.cat(joined, 1))
        return [_resize(heatmaps, size), self.heatmaps_refine1(refined)]


HEADS = {'cpn': Cpn, 'cpn_17th_place': Cpn17thPlace}


class Network(nn.Module):
    """A ResNet of timm and a head: [B, 3, H, W] in 0..255 -> heat maps [B, K, H / 4, W / 4]."""

    def __init__(self, backbone: str, head: str, num_keypoints: int, mean, std):
        super().__init__()
        model = getattr(import_timm_models(), backbone)(zero_init_last=False)
        model.fc = nn.Identity()
        stages = [getattr(model, f'layer{n}') for n in (1, 2, 3, 4)]
        channels = [stage[-1].conv3.out_channels for stage in stages]
        self.backbone = model
        self.head = HEADS[head](dict(zip(('C2', 'C3', 'C4', 'C5'), channels)), num_keypoints)
        self.register_buffer('mean', torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer('std', torch.tensor(std).view(3, 1, 1), persistent=False)

    def forward(self, images):
        model = self.backbone
        outputs = (images.float() - self.mean) / self.std
        outputs = model.maxpool(model.act1(model.bn1(model.conv1(outputs))))
        features = {}
        for n in (1, 2, 3, 4):
            outputs = getattr(model, f'layer{n}')(outputs)
            features[f'C{n + 1}'] = outputs
        return self.head(features, [side // 4 for side in images.shape[2:]])


def head_name(name: str) -> str:
    """Return our name of a tensor of a head: 'head.refine.C3.block1.conv1.norm.weight' ->
    'head/refine/C3/block1/conv1/norm/gamma'.
    """
    *layers, tensor = name.split('.')
    kinds = _NORM if layers[-1] == 'norm' else _CONVOLUTION
    layers = layers[:-1] if layers[-1] == 'conv' else layers
    return '/'.join([*(layer.rstrip('_') for layer in layers), kinds[tensor]])


def head_weights(network: Network) -> dict[str, np.ndarray]:
    """Return the tensors of the head, by our names, in our layout."""
    tensors = {n: t for n, t in network.state_dict().items() if n.startswith('head.')}
    arrays = {
        head_name(n): t.numpy() for n, t in tensors.items() if not n.endswith('batches_tracked')
    }
    return {n: a.transpose(_TO_HWIO) if a.ndim == 4 else a for n, a in arrays.items()}


def randomise_statistics(network: nn.Module, generator: torch.Generator) -> None:
    """Give batch norms statistics of no special value, and heat maps kernels that show."""
    with torch.no_grad():
        for name, tensor in network.named_buffers():
            if name.endswith('running_var'):
                tensor.uniform_(0.5, 1.5, generator=generator)
            elif name.endswith('running_mean'):
                tensor.normal_(0.0, 0.1, generator=generator)
        for module in network.head.modules():
            if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
                nn.init.kaiming_normal_(module.weight, generator=generator)


def heatmap_loss(outputs, keypoints, visibility, loss: Mapping[str, float]):
    """Return the loss of utility/losses of kind 'mse', of points all of which count: the mean of
    the errors of each output, of the last one's hard points.

    Args:
        outputs: [B, K, h, w] each.
        keypoints: [B, K, 2], cells, the center of cell i at i.
        visibility: bool [B, K].
        loss: 'sigma', cells, and 'ohkm', the share of hard points.
    """
    height, width = outputs[0].shape[2:]

    def profile(coordinates, count):
        distances = torch.arange(count) - coordinates[..., None]
        return torch.exp(-0.5 * (distances / loss['sigma']) ** 2)

    columns, rows = profile(keypoints[..., 1], height), profile(keypoints[..., 0], width)
    target = columns[..., :, None] * rows[..., None, :]
    errors = [(output.float() - target).square().mean((2, 3)) for output in outputs]
    kept = -(-loss['ohkm'] * errors[-1].shape[1] // 1)
    errors[-1] = errors[-1].topk(int(kept), dim=1).values
    return sum(error.mean() for error in errors)


class Server:
    """What the process keeps from one request to the next."""

    def __init__(self):
        torch.manual_seed(1)
        torch.set_flush_denormal(True)  # as TensorFlow does
        self._actions: dict[tuple, Callable[[], Any]] = {}
        self._network, self._data, self._settings = None, {}, {}

    def make(self, network, data, loss, optimizer, folder) -> dict[str, Any]:
        """Make a network, and write its weights to FOLDER/backbone.pth and FOLDER/head.npz.

        Args:
            network: Arguments of Network.
            data: A npz file: 'images' uint8 [B, H, W, 3], 'keypoints' [B, K, 2] in cells.
            loss: See heatmap_loss.
            optimizer: 'rate', 'momentum', 'weight_decay' and the 'decay_kinds' of ours.
            folder: An existing one.
        """
        self._network = Network(**network)
        self._data, self._settings = dict(np.load(data)), {'loss': loss, 'optimizer': optimizer}
        randomise_statistics(self._network, torch.Generator().manual_seed(1))
        torch.save(self._network.backbone.state_dict(), f'{folder}/backbone.pth')
        np.savez(f'{folder}/head.npz', **head_weights(self._network))
        parameters = sum(p.numel() for p in self._network.parameters())
        return {'parameters': parameters, 'threads': torch.get_num_threads()}

    def heatmaps(self, output) -> dict[str, Any]:
        """Write the final heat maps of the pictures, NHWC, to a npy file."""
        with torch.no_grad():
            maps = self._network.eval()(self._images(None))[-1]
        np.save(output, maps.permute(0, 2, 3, 1).numpy())
        return {}

    def flops(self, mode, batch) -> dict[str, Any]:
        """Count FLOPs of convolutions and products, by PyTorch's counter."""
        from torch.utils.flop_counter import FlopCounterMode

        with FlopCounterMode(display=False) as counter:
            self._action(EAGER, 'float32', mode, batch)()
        return {'flops': counter.get_total_flops()}

    def time(self, way, precision, mode, batch) -> dict[str, Any]:
        """Run one step of a way, the first time also what it needs before; tell its seconds."""
        key = (way, precision, mode, batch)
        if key not in self._actions:
            self._actions[key] = self._action(*key)
        start = time.perf_counter()
        value = self._actions[key]()
        seconds = time.perf_counter() - start
        return {'seconds': seconds, 'loss': float(value) if mode == 'train' else None}

    def open_file(self, runtime, precision, path, size) -> dict[str, Any]:
        """Open an exported file of ours, or with no path this network, in a runtime."""
        runs = {'onnxruntime': _onnxruntime, 'openvino': functools.partial(_openvino, precision)}
        network = copy.deepcopy(self._network).eval() if not path else None
        self._actions[runtime, precision, path] = runs[runtime](path, network, size)
        return {}

    def time_file(self, runtime, precision, path) -> dict[str, Any]:
        start = time.perf_counter()
        self._actions[runtime, precision, path]()
        return {'seconds': time.perf_counter() - start}

    def _images(self, batch):
        images = torch.from_numpy(self._data['images'][:batch]).permute(0, 3, 1, 2)
        return images.contiguous(memory_format=torch.channels_last)

    def _action(self, way, precision, mode, batch) -> Callable[[], Any]:
        network = copy.deepcopy(self._network).to(memory_format=torch.channels_last)
        network.train(mode == 'train')
        call = network
        if way == COMPILED:
            inductor.freezing = mode != 'train'  # folds batch norms
            call = torch.compile(network, dynamic=False)
        cast = functools.partial(
            torch.autocast, 'cpu', torch.bfloat16, enabled=precision == 'bfloat16'
        )
        step = self._training(network, call, cast) if mode == 'train' else _inference(call, cast)
        images = self._images(batch)
        action = functools.partial(step, images)
        if mode != 'train':
            action()  # compiles under the setting above
        return action

    def _training(self, network, call, cast) -> Callable:
        options, loss = self._settings['optimizer'], self._settings['loss']
        decays: dict[bool, list] = {True: [], False: []}
        for parameter in network.parameters():  # of ours, kernels are what has four axes
            is_kernel = parameter.ndim == 4
            decays['kernel' in options['decay_kinds'] and is_kernel].append(parameter)
        groups = [
            {'params': decays[True], 'weight_decay': options['weight_decay']},
            {'params': decays[False], 'weight_decay': 0.0},
        ]
        optimizer = torch.optim.SGD(groups, options['rate'], options['momentum'], fused=True)
        keypoints = torch.from_numpy(self._data['keypoints'])
        visibility = torch.ones(keypoints.shape[:2], dtype=torch.bool)

        def step(images):
            with cast():
                outputs = call(images)
            value = heatmap_loss(outputs, keypoints[: len(images)], visibility, loss)
            value.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            return value.detach()

        return step


def _inference(call, cast) -> Callable:
    def step(images):
        with torch.no_grad(), cast():
            return call(images)[-1]

    return step


def _onnxruntime(path, network, size) -> Callable:
    import onnxruntime

    del network
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(path, options, providers=['CPUExecutionProvider'])
    inputs = {'image': np.zeros([size, size, 3], np.uint8), 'category': np.array(0, np.int32)}
    return lambda: session.run(['keypoints', 'scores'], inputs)


def _openvino(precision, path, network, size) -> Callable:
    import openvino

    if path:
        model = openvino.Core().read_model(path)
        inputs = {'image': np.zeros([size, size, 3], np.uint8), 'category': np.array(0, np.int32)}
    else:
        example = torch.zeros([1, 3, size, size])
        model, inputs = openvino.convert_model(network, example_input=example), [example.numpy()]
    settings = {
        'INFERENCE_PRECISION_HINT': {'float32': 'f32', 'bfloat16': 'bf16'}[precision],
        'PERFORMANCE_HINT': 'LATENCY',
    }
    compiled = openvino.Core().compile_model(model, 'CPU', settings)
    return lambda: compiled(inputs)


REQUESTS = ('make', 'heatmaps', 'flops', 'time', 'open_file', 'time_file')


def main() -> None:
    """Answer requests until there are no more."""
    answers = os.fdopen(os.dup(1), 'w')
    os.dup2(2, 1)  # what libraries print is no answer
    server = Server()
    for line in sys.stdin:
        request = json.loads(line)
        name = request.pop('do')
        try:
            answer = getattr(server, name)(**request) if name in REQUESTS else None
        except Exception as error:
            lines = (str(error).strip() or '-').splitlines()
            answer = {'error': f'{type(error).__name__}: {lines[0]}'}
        answers.write(json.dumps(answer) + '\n')
        answers.flush()
