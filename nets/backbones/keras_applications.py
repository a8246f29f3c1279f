"""The networks of tf.keras.applications, by the name 'keras/<Name>': keras/EfficientNetV2S, ...

Keras describes the network (its layers, their settings and what feeds them); this project's own
layers are built after that description. So a network of Keras is like any other here: batch norm
moves its statistics in the Estimator, a seed gives the same weights everywhere, grouped
convolutions (RegNet) are fast on a CPU, and Keras models of the same process stay valid, which
Keras layers in a graph of the Estimator would not do. Variables are called after Keras's:
'backbone/<layer>/<weight>', numbered as in a process that has built nothing else, so that the
published weights fit; see weight_names.

Feature maps: level Cn is the last tensor of stride 2**n that everything deeper passes through, e.g.
the end of a stage of ResNet, or the expanded channels before the next stride of EfficientNet. In
NASNet, whose cells read the two cells before them, it is the joined result of the last cell. What
comes after the last level asked for is not built.

Options of all of them:
    levels: Which levels to give, each n with stride 2**n. ConvNeXt has no level 1.
    batch_norm_momentum: Of the statistics; None: as in Keras, mostly 0.99. Few steps need 0.9.

Departures from Keras:
    Unpadded ('valid') convolutions and poolings that no padding precedes are padded ('same') in
    InceptionV3, InceptionResNetV2, Xception and NASNet, so that strides divide the picture.
    Rescaling and Normalization layers are left out: the network's mean and std must be those of
    input_statistics. VGG and ResNet reverse RGB to the BGR that their weights know.
    Kernels start from normal distributions, of the variance that Keras gives them.
    ResNetRS: the momentum is 0.9 instead of 0, which would keep the last batch's statistics only.

Papers: VGG, Simonyan and Zisserman, ICLR 2015. InceptionV3, Szegedy et al., CVPR 2016.
InceptionResNetV2, Szegedy et al., AAAI 2017. Xception, Chollet, CVPR 2017. ResNet, He et al., CVPR
2016; V2, ECCV 2016; RS, Bello et al., NeurIPS 2021. DenseNet, Huang et al., CVPR 2017. MobileNet,
Howard et al., arXiv:1704.04861; V2, Sandler et al., CVPR 2018; V3, Howard et al., ICCV 2019.
NASNet, Zoph et al., CVPR 2018. EfficientNet, Tan and Le, ICML 2019; V2, ICML 2021. RegNet,
Radosavovic et al., CVPR 2020. ConvNeXt, Liu et al., CVPR 2022.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import tensorflow as tf

from config import IMAGENET_MEAN, IMAGENET_STD, UserError, check
from nets import keras_layers, layers
from nets.backbones.registry import BACKBONES, SECTION, check_levels, check_multiples
from nets.keras_description import describe

PREFIX = 'keras/'
# Caffe's weights.
_EXPECT_BGR = ('ResNet50', 'ResNet101', 'ResNet152', 'VGG16', 'VGG19')
_REGNETS = ['002', '004', '006', '008', '016', '032', '040', '064', '080', '120', '160', '320']
# What the published weights expect: mean and std, RGB in 0..255, and of which networks.
_STATISTICS = (
    ((123.68, 116.779, 103.939), (1.0,) * 3, _EXPECT_BGR),
    (
        (127.5,) * 3,
        (127.5,) * 3,
        [
            *('InceptionResNetV2', 'InceptionV3', 'NASNetLarge', 'NASNetMobile', 'Xception'),
            *('MobileNet', 'MobileNetV2', 'MobileNetV3Large', 'MobileNetV3Small'),
            *(f'ResNet{depth}V2' for depth in (50, 101, 152)),
        ],
    ),
    ((128.0,) * 3, (128.0,) * 3, [f'EfficientNetV2{size}' for size in 'SML']),
    ((0.0,) * 3, (255.0,) * 3, [f'RegNet{kind}{size}' for kind in 'XY' for size in _REGNETS]),
    (
        IMAGENET_MEAN,
        IMAGENET_STD,
        [
            *(f'ConvNeXt{size}' for size in ('Tiny', 'Small', 'Base', 'Large', 'XLarge')),
            *(f'DenseNet{depth}' for depth in (121, 169, 201)),
            *(f'EfficientNetB{n}' for n in range(8)),
            *(f'EfficientNetV2B{n}' for n in range(4)),
            *(f'ResNetRS{depth}' for depth in (50, 101, 152, 200, 270, 350, 420)),
        ],
    ),
)


def input_statistics(backbone: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return (mean, std), RGB in 0..255, that the published weights of 'keras/<Name>' expect."""
    name = _keras_name(backbone)
    [found] = [(mean, std) for mean, std, names in _STATISTICS if name in names]
    return found


def weight_names(backbone: str) -> tuple[str, ...]:
    """Return names here of all tensors in a file of Keras's weights without top, in order.

    Files of older versions of Keras number the layers otherwise, but keep the order. The tensors of
    Normalization layers are no variables here.
    """
    return tuple(f'backbone/{name}' for name in describe(_keras_name(backbone)).weight_names)


def _keras_name(backbone: str) -> str:
    BACKBONES.get(backbone)  # refuses an unknown one
    if not backbone.startswith(PREFIX):
        raise UserError(f'backbone {backbone!r}: must be one of {PREFIX}<Name>')
    return backbone[len(PREFIX) :]


class KerasApplication(layers.Layer):
    """The network of Keras called `name`; options as in the module's docstring."""

    def __init__(self, name: str, levels: Sequence[int], batch_norm_momentum: float | None):
        super().__init__('backbone')
        whole = describe(name)
        taps = whole.taps()
        check_levels(levels, list(taps))
        self.backbone = PREFIX + name
        self.taps = {f'C{level}': taps[level] for level in levels}
        self.stride = 2 ** levels[-1]
        self.expects_bgr = name in _EXPECT_BGR
        self.description = whole.up_to(self.taps.values())
        changes = {} if batch_norm_momentum is None else {'momentum': batch_norm_momentum}
        self.layers = {
            node.name: keras_layers.LAYERS[node.kind](
                f'{self.path}/{node.name}', {**node.config, **changes}
            )
            for node in self.description.nodes
            if node.kind in keras_layers.LAYERS
        }

    def call(self, images, training):
        check_multiples(images.shape[1:3], self.stride, f'backbone {self.backbone!r}')
        if self.expects_bgr:
            images = tf.reverse(images, [-1])
        results = {}
        for node in self.description.nodes:
            inputs = [results[name] for name in node.inputs] or [images]
            if node.name in self.layers:
                outputs = self.layers[node.name](*inputs, training)
            else:
                operands = [] if node.operand is None else [node.operand]
                operation = keras_layers.OPERATIONS[node.kind]
                outputs = operation(node.config, *inputs, *operands)
            results[node.name] = outputs
        return {key: results[name] for key, name in self.taps.items()}


def _make(name, levels=(2, 3, 4, 5), batch_norm_momentum=None):
    def is_momentum(value):
        return value is None or (isinstance(value, float) and 0 < value < 1)

    allowed = 'in (0, 1), or None'
    check(SECTION, 'batch_norm_momentum', batch_norm_momentum, allowed, is_momentum)
    return KerasApplication(name, levels, batch_norm_momentum)


NAMES = tuple(name for *_, names in _STATISTICS for name in names)
for _name in NAMES:
    BACKBONES.register(PREFIX + _name)(functools.partial(_make, _name))
