"""Name-based checkpoints of TensorFlow 1: the official ResNet, and TF_Se_ResNe_t.

Facts: tensorflow/models official/resnet/resnet_model.py, imagenet_preprocessing.py;
HiKapok/TF-SENet se_resnet.py, se_resnext.py.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from config import UserError
from utility.pretrained.origin import UNSCALED, Origin, Shapes, Source

_NORM = ('gamma', 'beta', 'moving_mean', 'moving_variance')
_OPTIMIZER = r'(^|/)(Momentum|Adam|Adam_1|RMSProp|RMSProp_1|ExponentialMovingAverage)$'
_COUNTERS = r'(^|/)(global_step|beta1_power|beta2_power|loss_scale|current_loss_scale|good_steps)$'
_LEFTOVERS = rf'{_OPTIMIZER}|{_COUNTERS}|(^|/)dense(_1)?/(kernel|bias)$'


def _scope(shapes: Shapes, tensor: str) -> str | None:
    """Return the shortest scope of this name in the file, such as 'resnet_model/'."""
    candidates = [n[: -len(tensor)] for n in shapes if n == tensor or n.endswith('/' + tensor)]
    return min(candidates, key=len, default=None)


def _numbered(shapes: Shapes, scope: str, layer: str, tensor: str) -> list[str]:
    """Return layers of one kind in the order in which they were made: 'conv2d', 'conv2d_1', ..."""
    pattern = re.compile(rf'{re.escape(scope)}({layer}(?:_(\d+))?)/{tensor}')
    matches = [match for match in map(pattern.fullmatch, shapes) if match]
    return [scope + m.group(1) for m in sorted(matches, key=lambda m: int(m.group(2) or 0))]


def _bottleneck_layers(kernels: Sequence[tuple[int, ...]]) -> list[str]:
    """Return the layers for kernels in the order in which the official ResNet makes them.

    The stem, then blocks of 1x1, 3x3 and 1x1, the first of each stage preceded by its projection:
    there are two 1x1 kernels for the same input there.

    Raises:
        UserError: The kernels are not those of such a network.
    """
    stage, block = 0, 0
    layers, remaining = ['backbone/conv1'], list(kernels[1:])
    while remaining:
        projects = len(remaining) > 1 and remaining[0][:3] == remaining[1][:3]
        stage, block = (stage + 1, 1) if projects else (stage, block + 1)
        parts = ['shortcut'] * projects + ['conv1', 'conv2', 'conv3']
        sizes = [kernel[0] for kernel in remaining[: len(parts)]]
        if stage == 0 or sizes != [1] * projects + [1, 3, 1]:
            raise UserError(
                'not a ResNet of bottlenecks: those of 18 and 34 layers of TensorFlow project in '
                'the first stage too, and fit no network here'
            )
        layers += [f'backbone/stage{stage}/block{block}/{part}' for part in parts]
        remaining = remaining[len(parts) :]
    return layers


def _official_resnet(shapes: Shapes) -> dict[str, Source]:
    scope = _scope(shapes, 'conv2d/kernel')
    convolutions = _numbered(shapes, scope, 'conv2d', 'kernel')
    norms = _numbered(shapes, scope, 'batch_normalization', 'gamma')
    layers = _bottleneck_layers([shapes[f'{name}/kernel'] for name in convolutions])
    sources = {
        f'{layer}/kernel': Source((f'{name}/kernel',)) for layer, name in zip(layers, convolutions)
    }
    # Early versions had none after the stem; nor has tf.fashionAI.
    with_norm = layers[1:] if len(norms) == len(layers) - 1 else layers
    if len(norms) != len(with_norm):
        raise UserError(
            f'{len(norms)} batch norms for {len(layers)} convolutions: version 2 of the ResNet, '
            'which normalizes before its convolutions instead of after them, and fits no network '
            'here. Take version 1'
        )
    for layer, name in zip(with_norm, norms):
        sources.update({f'{layer}/norm/{t}': Source((f'{name}/{t}',)) for t in _NORM})
    return sources


OFFICIAL_RESNET = Origin(
    'ResNet v1 of tensorflow/models (TensorFlow 1)',
    is_origin=lambda shapes: _scope(shapes, 'conv2d/kernel') is not None,
    translate=_official_resnet,
    mean=(123.68, 116.78, 103.94),
    std=UNSCALED,
    # 'v1.5': the published one has its strides in the 3x3.
    options=lambda shapes: {'stride_1x1': False, 'ceil_pool': True},
    backbones='resnet',
    leftovers=_LEFTOVERS,
)

_STEM = 'conv1/7x7_s2'
_SE_LAYERS = {
    '1x1_proj': 'shortcut',
    '1x1_reduce': 'conv1',
    '3x3': 'conv2',
    '1x1_increase': 'conv3',
    '1x1_down': 'se/squeeze',
    '1x1_up': 'se/excite',
}
_SE_TENSOR = re.compile(
    rf'conv(\d)_(\d+)_({"|".join(_SE_LAYERS)})/(bn/)?({"|".join(_NORM)}|kernel|bias)'
)


def _se_variable_name(name: str) -> str | None:
    """Return our name: 'backbone/stage1/block1/conv1/norm/beta' of 'conv2_1_1x1_reduce/bn/beta'."""
    if name.startswith(_STEM + '/'):
        return 'backbone/conv1' + name[len(_STEM) :].replace('/bn/', '/norm/')
    match = _SE_TENSOR.fullmatch(name)
    if not match:
        return None
    stage, block, layer, norm, tensor = match.groups()
    path = f'backbone/stage{int(stage) - 1}/block{block}/{_SE_LAYERS[layer]}'
    return f'{path}/{"norm/" if norm else ""}{tensor}'


def _se_resnet(shapes: Shapes) -> dict[str, Source]:
    scope = _scope(shapes, f'{_STEM}/kernel')
    in_scope = (name for name in shapes if name.startswith(scope))
    named = {_se_variable_name(name[len(scope) :]): Source((name,)) for name in in_scope}
    return {
        variable: source
        for variable, source in named.items()
        if variable and not re.search(_OPTIMIZER, variable)
    }


def _se_options(shapes: Shapes) -> dict[str, bool]:
    """Return options: SE-ResNet strides in the first 1x1; SE-ResNeXt, of groups, in the 3x3."""
    scope = _scope(shapes, f'{_STEM}/kernel')
    *_, in_channels, out_channels = shapes.get(f'{scope}conv2_1_3x3/kernel', (1, 1))
    return {'stride_1x1': in_channels == out_channels, 'ceil_pool': True}


SE_RESNET = Origin(
    'TF_Se_ResNe_t (TensorFlow 1, from Caffe)',
    is_origin=lambda shapes: _scope(shapes, f'{_STEM}/kernel') is not None,
    translate=_se_resnet,
    # Caffe's 104, 117, 123 in BGR.
    mean=(123.0, 117.0, 104.0),
    std=UNSCALED,
    channel_order='BGR',
    options=_se_options,
    backbones='seresne[xt]',
    leftovers=_LEFTOVERS,
)
