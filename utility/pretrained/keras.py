"""Files of tf.keras.applications: for this project's own ResNet, and by name for keras/<Name>.

Facts: keras/src/applications/resnet.py. Names are 'conv2_block1_1_conv/kernel' and the like; the
projection of a block is its convolution 0.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np

from config import UserError
from utility.pretrained.origin import UNSCALED, Origin, Shapes, Source

EPSILON = 1.001e-5  # of Keras's batch norm in ResNet
OWN_EPSILON = 1e-5  # of nets.norms.BATCH_NORM_EPSILON
# The classifiers of all applications.
_LEFTOVERS = r'^(predictions|fc1|fc2|conv_preds|Logits|Conv_2|\w*head_(dense|layernorm))/'
_CONVOLUTION = re.compile(r'conv(\d)_block(\d+)_(\d)_conv/kernel')


def _adjust_epsilon(moving_variance: np.ndarray) -> np.ndarray:
    """Return the variance with what Keras's epsilon is larger than ours added to it."""
    return moving_variance + np.float32(EPSILON - OWN_EPSILON)


def _layer(name: str) -> str | None:
    """Return our layer: 'backbone/stage1/block1/shortcut' of 'conv2_block1_0_conv/kernel'."""
    if name == 'conv1_conv/kernel':
        return 'backbone/conv1'
    match = _CONVOLUTION.fullmatch(name)
    if not match:
        return None
    stage, block, number = match.groups()
    layer = 'shortcut' if number == '0' else f'conv{number}'
    return f'backbone/stage{int(stage) - 1}/block{block}/{layer}'


def _resnet(shapes: Shapes) -> dict[str, Source]:
    if any('_preact_bn/' in name for name in shapes):
        raise UserError(
            'ResNet V2 of Keras normalizes before its convolutions; it fits keras/ResNet50V2 and '
            'the like only'
        )
    sources = {}
    for name in shapes:
        layer = _layer(name)
        if layer is None:
            continue
        bias, norm = name.replace('/kernel', '/bias'), name.replace('_conv/kernel', '_bn/')
        # What is subtracted later takes the bias in, which our convolutions have not.
        mean = (norm + 'moving_mean', bias) if bias in shapes else (norm + 'moving_mean',)
        of_layer = {
            'kernel': Source((name,)),
            'norm/gamma': Source((norm + 'gamma',)),
            'norm/beta': Source((norm + 'beta',)),
            'norm/moving_mean': Source(mean, np.subtract if len(mean) > 1 else np.asarray),
            'norm/moving_variance': Source((norm + 'moving_variance',), _adjust_epsilon),
        }
        sources.update(
            {f'{layer}/{n}': s for n, s in of_layer.items() if set(s.names) <= shapes.keys()}
        )
    return sources


RESNET = Origin(
    'ResNet of tf.keras.applications',
    is_origin=lambda shapes: 'conv2_block1_1_conv/kernel' in shapes,
    translate=_resnet,
    # preprocess_input in the mode 'caffe'.
    mean=(123.68, 116.779, 103.939),
    std=UNSCALED,
    channel_order='BGR',
    options=lambda shapes: {'stride_1x1': True, 'ceil_pool': False},
    backbones='resnet(50|101|152)$',
    leftovers=_LEFTOVERS,
)


def _ranked(names: Iterable[str]) -> dict[tuple[str, int, str], str]:
    """Return names by their rank among those of their kind, whatever number they have.

    Layers without a name of their own are called conv2d_5, batch_normalization_5 and so on.
    """
    pattern = re.compile(r'(conv2d|batch_normalization|layer_normalization)(?:_(\d+))?/(.+)')
    matches = [(name, pattern.fullmatch(name)) for name in names]
    parts = [(n, m.group(1), int(m.group(2) or 0), m.group(3)) for n, m in matches if m]
    numbers = {kind: sorted({p[2] for p in parts if p[1] == kind}) for _, kind, _, _ in parts}
    ranked = {(n, 0, ''): n for n, m in matches if not m}
    ranked.update({(kind, numbers[kind].index(k), weight): n for n, kind, k, weight in parts})
    return ranked


def _weight_name(path: str) -> str:
    """Return a weight's name by its path: 'BatchNorm/Conv/BatchNorm/beta' -> 'Conv/...'.

    The path is below a group of the first part of the layer's name. A name of several parts, here
    Conv/BatchNorm, is a group within a group: the rest of it comes before the name of the weight.
    """
    parts = path.split('/')
    for n in range(1, len(parts) // 2 + 1):
        if parts[:n] == parts[n + 1 : 2 * n + 1]:
            return '/'.join(parts[n:])
    return path


def by_name(backbone: str) -> Origin:
    """Return the origin of .h5 files for 'keras/<Name>', whose variables are called as Keras's.

    The backbone reverses RGB to BGR itself where its weights expect that.
    """
    from nets.backbones import keras_applications

    mean, std = keras_applications.input_statistics(backbone)

    def translate(shapes: Shapes) -> dict[str, Source]:
        prefix = 'backbone/'
        ranked_names = _ranked(n[len(prefix) :] for n in keras_applications.weight_names(backbone))
        paths = {_weight_name(path): path for path in shapes}
        stored = _ranked(paths)
        return {
            prefix + ranked_names[key]: Source((paths[name],))
            for key, name in stored.items()
            if key in ranked_names
        }

    return Origin(
        'tf.keras.applications, by layer name',
        is_origin=lambda shapes: True,
        translate=translate,
        mean=mean,
        std=std,
        leftovers=_LEFTOVERS,
    )
