"""EfficientNet-Lite 0 to 4: Tan and Le, EfficientNet: Rethinking Model Scaling for Convolutional
Neural Networks, ICML 2019, as Google published it for phones and small processors in 2020: ReLU6
instead of swish, no squeeze-and-excitation, and the stem, the last convolution and the number of
blocks of the first and the last stage the same in all five.

Inverted residual blocks (Sandler et al., MobileNetV2, CVPR 2018) in seven stages, whose channels
and numbers of blocks grow together from EfficientNet-Lite0's. As in TensorFlow, so that its weights
fit: padding is that of 'SAME', and batch norm has an epsilon of 1e-3. Without the classifier.

Feature maps are the last of their stride: of the stages 1, 2, 3, 5 and 7.

Options of all of them:
    levels: Which levels to give, each n with stride 2**n. What none needs is not built.
    last_conv: Whether level 5 goes through the 1x1 convolution to 1280 channels that the published
        networks have before the classifier.
    drop_connect: Probability, in training, that a sample does without the last block's branch
        (Huang et al., ECCV 2016); it rises linearly from 0 at the first block.
    residual_gamma: As of resnet.py, of the blocks that add their input; by default 0.
    batch_norm_momentum: Of the statistics.

Departures:
    residual_gamma: published networks start from 1.
    drop_connect is 0 unless asked for. Published is 0.2, against overfitting in hundreds of epochs
        of ImageNet.
    Kernels start from the variance by the number of inputs instead of that of outputs; batch norm
        divides the difference out.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from config import BELOW_ONE, check
from nets.backbones.registry import BACKBONES, SECTION, check_levels
from nets.layers import POINTWISE, ConvNorm, ConvSpec, DepthwiseConvNorm, Layer

STEM_FILTERS, LAST_FILTERS = 32, 1280
EPSILON = 1e-3
MOMENTUM = 0.99
# The number of channels is a multiple of it.
_DIVISOR = 8


class Stage(NamedTuple):
    """Blocks of one depthwise kernel size; the first has the stride. `filters` and `depth`, the
    number of blocks, are EfficientNet-Lite0's.
    """

    size: int
    stride: int
    expansion: int
    filters: int
    depth: int


STAGES = (
    Stage(3, 1, 1, 16, 1),
    Stage(3, 2, 6, 24, 2),
    Stage(5, 2, 6, 40, 2),
    Stage(3, 2, 6, 80, 3),
    Stage(5, 1, 6, 112, 3),
    Stage(5, 2, 6, 192, 4),
    Stage(3, 1, 6, 320, 1),
)
# The last stage of each level.
_ENDS = {1: 1, 2: 2, 3: 3, 5: 4, 7: 5}


def scaled_filters(filters: int, factor: float) -> int:
    """Return the multiple of 8 nearest to the product, or the next if it loses over 10 %."""
    wanted = filters * factor
    nearest = max(_DIVISOR, int(wanted + _DIVISOR / 2) // _DIVISOR * _DIVISOR)
    return nearest + _DIVISOR if nearest < 0.9 * wanted else nearest


def scaled_stages(width: float, depth: float) -> list[Stage]:
    """Return STAGES with `width` times the channels and `depth` times the blocks, but for the
    number of blocks of the first and the last stage.
    """
    depths = [stage.depth for stage in STAGES]
    depths[1:-1] = [math.ceil(number * depth) for number in depths[1:-1]]
    return [
        stage._replace(filters=scaled_filters(stage.filters, width), depth=number)
        for stage, number in zip(STAGES, depths)
    ]


class InvertedResidual(Layer):
    """1x1 to `expansion` times the channels, unless 1; depthwise `window`; 1x1 to `filters`
    channels without activation; plus the input where the shapes are equal:
    [B, H, W, C] -> [B, H / stride, W / stride, filters].

    Args:
        stage: Its `size`, `expansion` and `filters`.
        stride: Of the depthwise convolution.
        drop_rate: Share of the samples that do without what is before the sum, in training.
        first_gamma: The last scale at first, if there is a sum; else 1.
        momentum: Of batch norm.
    """

    is_depthwise = True

    def __init__(
        self,
        path: str,
        stage: Stage,
        stride: int,
        drop_rate: float,
        first_gamma: float,
        momentum: float,
    ):
        super().__init__(path)
        self.filters, self.expansion = stage.filters, stage.expansion
        self.window = ConvSpec(stage.size, stride, tf_same=True)
        self.drop_rate, self.first_gamma, self.momentum = drop_rate, first_gamma, momentum

    def build(self, inputs):
        channels = inputs.shape[-1]
        self.adds = self.window.stride == 1 and channels == self.filters
        inner, gamma = channels * self.expansion, self.first_gamma if self.adds else 1.0
        options = {'momentum': self.momentum, 'epsilon': EPSILON}
        path, relu6 = self.path, tf.nn.relu6
        self.branch = [
            DepthwiseConvNorm(f'{path}/depthwise', inner, self.window, relu6, **options),
            ConvNorm(f'{path}/project', self.filters, POINTWISE, None, gamma, **options),
        ]
        if self.expansion > 1:
            self.branch.insert(0, ConvNorm(f'{path}/expand', inner, POINTWISE, relu6, **options))

    def call(self, inputs, training):
        outputs = inputs
        for layer in self.branch:
            outputs = layer(outputs, training)
        if not self.adds:
            return outputs
        if training and self.drop_rate:
            outputs = self.drop(outputs, self.drop_rate, [tf.shape(inputs)[0], 1, 1, 1])
        return inputs + outputs


class EfficientNetLite(Layer):
    """Stem, stages of blocks and last convolution; `levels` as in the module's docstring.

    Args:
        stem: A convolution of stride 2.
        stages: The blocks of each stage.
        last_conv: None to do without.
    """

    def __init__(
        self,
        stem: ConvNorm,
        stages: Sequence[Sequence[InvertedResidual]],
        last_conv: ConvNorm | None,
        levels: Sequence[int],
    ):
        super().__init__('backbone')
        check_levels(levels, list(_ENDS.values()))
        self.stem, self.stages, self.last_conv = stem, list(stages), last_conv
        self.levels = tuple(levels)

    def call(self, images, training):
        outputs, features = self.stem(images, training), {}
        for number, blocks in enumerate(self.stages, start=1):
            for block in blocks:
                outputs = block(outputs, training)
            if number in _ENDS:
                features[_ENDS[number]] = outputs
            if self.levels[-1] in features:
                break
        if self.last_conv and 5 in features:
            features[5] = self.last_conv(outputs, training)
        return {f'C{level}': features[level] for level in self.levels}


def _make(
    width,
    depth,
    levels=(2, 3, 4, 5),
    last_conv=False,
    drop_connect=0.0,
    residual_gamma=0.0,
    batch_norm_momentum=MOMENTUM,
):
    check(SECTION, 'drop_connect', drop_connect, *BELOW_ONE)
    check(SECTION, 'batch_norm_momentum', batch_norm_momentum, *BELOW_ONE)
    scaled = scaled_stages(width, depth)
    num_blocks = sum(stage.depth for stage in scaled)
    stages = []
    for number, stage in enumerate(scaled, start=1):
        first = sum(map(len, stages))
        blocks = [
            InvertedResidual(
                f'backbone/stage{number}/block{n + 1}',
                stage,
                stride=1 if n else stage.stride,
                drop_rate=drop_connect * (first + n) / num_blocks,
                first_gamma=residual_gamma,
                momentum=batch_norm_momentum,
            )
            for n in range(stage.depth)
        ]
        stages.append(blocks)
    convolution = functools.partial(
        ConvNorm, activation=tf.nn.relu6, momentum=batch_norm_momentum, epsilon=EPSILON
    )
    stem = convolution('backbone/conv1', STEM_FILTERS, ConvSpec(3, stride=2, tf_same=True))
    last = convolution('backbone/last_conv', LAST_FILTERS) if last_conv else None
    return EfficientNetLite(stem, stages, last, levels)


# The factors on channels and on blocks.
for _name, _factors in {
    'efficientnet_lite0': (1.0, 1.0),
    'efficientnet_lite1': (1.0, 1.1),
    'efficientnet_lite2': (1.1, 1.2),
    'efficientnet_lite3': (1.2, 1.4),
    'efficientnet_lite4': (1.4, 1.8),
}.items():
    BACKBONES.register(_name)(functools.partial(_make, *_factors))
