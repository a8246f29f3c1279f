"""Weights of torchvision, timm and pretrained-models.pytorch, by the names of their modules.

Facts: torchvision/models/resnet.py; timm/models/{resnet,senet,hrnet}.py.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from utility.pretrained.origin import Origin, Shapes, Source, from_oihw

# A convolution's name there -> here, below backbone/. '#' stands for a number that is the same in
# both, '@' for one that is counted from 0 there and from 1 here.
_CONVOLUTIONS = {
    'conv#': 'conv{}',
    'layer0.conv#': 'conv{}',
    'layer#.@.conv#': 'stage{}/block{}/conv{}',
    'layer#.@.downsample.0': 'stage{}/block{}/shortcut',
    'layer#.@.se.fc1': 'stage{}/block{}/se/squeeze',
    'layer#.@.se.fc2': 'stage{}/block{}/se/excite',
    'layer#.@.se_module.fc1': 'stage{}/block{}/se/squeeze',
    'layer#.@.se_module.fc2': 'stage{}/block{}/se/excite',
    # HRNet. A branch that goes on gets one convolution, a branch that begins a list of one.
    'transition#.@.0': 'transition{}/branch{}',
    'transition#.@.0.0': 'transition{}/branch{}',
    'stage#.@.branches.@.@.conv#': 'stage{}/module{}/branch{}/block{}/conv{}',
    # To the first branch named, from the second.
    'stage#.@.fuse_layers.@.@.0': 'stage{}/module{}/fuse{}_{}',
    'stage#.@.fuse_layers.@.@.@.0': 'stage{}/module{}/fuse{}_{}/down{}',
}
CONVOLUTION = {'weight': 'kernel', 'bias': 'bias'}
BATCH_NORM = {
    'weight': 'gamma',
    'bias': 'beta',
    'running_mean': 'moving_mean',
    'running_var': 'moving_variance',
}


def _batch_norm(convolution: str) -> str:
    """Return the norm of a convolution: 'conv2' -> 'bn2', 'downsample.0' -> 'downsample.1'."""
    return re.sub(r'\.0$', '.1', convolution.replace('conv', 'bn'))


def _rule(module: str, layer: str, tensors: dict[str, str]):
    """Return the pattern of a tensor's name, its variable, what to add to the numbers, layer."""
    pattern = re.escape(module).replace(r'\#', r'(\d+)').replace('@', r'(\d+)')
    steps = [int(mark == '@') for mark in module if mark in '#@']
    return re.compile(f'{pattern}\\.({"|".join(tensors)})'), 'backbone/' + layer, steps, tensors


_RULES = [
    rule
    for module, layer in _CONVOLUTIONS.items()
    for rule in (
        _rule(module, layer, CONVOLUTION),
        _rule(_batch_norm(module), layer + '/norm', BATCH_NORM),
    )
]


def variable_name(name: str) -> str | None:
    """Return the variable of a tensor: 'layer1.0.bn1.bias' -> '.../conv1/norm/beta'.

    None for what is no part of a backbone.
    """
    for pattern, layer, steps, tensors in _RULES:
        match = pattern.fullmatch(name)
        if match:
            *numbers, tensor = match.groups()
            shifted = [int(number) + step for number, step in zip(numbers, steps)]
            return f'{layer.format(*shifted)}/{tensors[tensor]}'
    return None


def _translate(shapes: Shapes) -> dict[str, Source]:
    sources = {}
    for name in shapes:
        variable = variable_name(name)
        if variable:
            convert = from_oihw if variable.endswith('/kernel') else np.asarray
            sources[variable] = Source((name,), convert)
    return sources


def _holds(tensor: str):
    return lambda shapes: tensor in shapes


def _strides_in_3x3(shapes: Shapes) -> dict[str, Any]:
    return {'stride_1x1': False, 'ceil_pool': False}


def _caffe_strides(shapes: Shapes) -> dict[str, Any]:
    """Return where the stride is: SE-ResNet's first 1x1, else the grouped 3x3."""
    out_channels, in_channels, *_ = shapes.get('layer1.0.conv2.weight', (1, 1))
    return {'stride_1x1': out_channels == in_channels, 'ceil_pool': True}


_LEFTOVERS = r'num_batches_tracked$|^(fc|last_linear|classifier)\.'

HRNET = Origin(
    'HRNet of timm, mmpose or its authors (PyTorch)',
    is_origin=_holds('stage2.0.branches.0.0.conv1.weight'),
    translate=_translate,
    backbones='hrnet_',
    leftovers=_LEFTOVERS + r'|^(incre_modules|downsamp_modules|final_layer)\.',
)
# The authors' Caffe networks, as pretrained-models.pytorch converted them: for RGB, and with
# torchvision's mean and std.
LEGACY_SENET = Origin(
    'SENet of pretrained-models.pytorch, legacy_* in timm (PyTorch)',
    is_origin=_holds('layer0.conv1.weight'),
    translate=_translate,
    options=_caffe_strides,
    backbones='se(resnet|resnext|net)',
    leftovers=_LEFTOVERS,
)
RESNET = Origin(
    'ResNet of torchvision or timm (PyTorch)',
    is_origin=_holds('layer1.0.conv1.weight'),
    translate=_translate,
    options=_strides_in_3x3,
    backbones='(se)?resne[xt]',
    leftovers=_LEFTOVERS,
)
