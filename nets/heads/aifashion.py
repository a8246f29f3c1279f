"""The network of team AiFashion, FashionAI 2018: github.com/yuanyuanli85/
FashionAI_KeyPoint_Detection_Challenge_Keras. A cascaded pyramid after CPN (Chen et al., CVPR 2018)
with dilated convolutions, deconvolutions and a stack of refinements.

Global net: from coarse to fine, each level is a deconvolution of the level above joined with its
feature map, then a 3x3 convolution of dilation 2. All but the coarsest level give heat maps by a
1x1 convolution, each added to the enlarged sum of the coarser ones.
Refinement: reads the features of the coarsest level with heat maps and the sums of the finer ones;
1x1 convolutions, enlarged to the heat maps, joined, and a 1x1 convolution that gives heat maps. The
next one reads the same features after their 1x1 convolutions, and these heat maps.
Outputs, all to be supervised: the finest sum, then those of each refinement.

Published on resnet101 with the levels (1, 2, 3, 4), pictures of 512 and heat maps of 256. On other
backbones as many levels as there are: those of equal size are joined without a deconvolution, and
where heat maps are finer than the finest feature map, levels follow that have none to join.

Departures from the authors' code:
    No mask as a second input, which was multiplied with the outputs so that keypoints of other
    categories give no loss: here these are absent (visibility -1). Theirs erased the last keypoint.
    Their backbone is Caffe's, here torchvision's; see stride_1x1 and ceil_pool in resnet.py.
    Kernels and the layers that give heat maps start as everywhere in this project.
    Momentum and epsilon of batch norm are this project's, 0.9 and 1e-5 instead of 0.99 and 1e-3.

Parameters on that backbone: 32,035,704 for 24 keypoints, 4,500,280 of them in the head as in theirs
(activation before batch norm, hence the biases). They have 31,836,920 in all; the difference is
    + 280,064  the fourth block of the backbone's second stage, which is missing there,
    -  81,280  layers of a scale and a shift after each batch norm, superfluous where that has both.
"""

from __future__ import annotations

import tensorflow as tf

from config import POSITIVE, check, multiple_of
from nets import layers
from nets.heads.registry import HEADS, MOST_DECONVOLUTIONS, SECTION, heatmap_layer, num_doublings
from nets.layers import POINTWISE, ConvSpec
from nets.norms import Norm

# Levels of the global net have all channels, half, and from the third on a quarter of them.
MOST_HALVINGS = 2
DILATED = ConvSpec(3, dilation=2)
DOUBLE = ConvSpec(3, stride=2)


class ConvReluNorm(layers.Layer):
    """Convolution with bias, ReLU, and batch norm last."""

    def __init__(self, path: str, filters: int, window=POINTWISE):
        super().__init__(path)
        self.conv = layers.Conv(path, filters, window, use_bias=True)
        self.norm = Norm(f'{path}/norm')

    def call(self, inputs, training):
        return self.norm(layers.relu(self.conv(inputs)), training)


class GlobalLevel(layers.Layer):
    """One level of the global net.

    `(level above or None, feature map or None, training)` -> [B, h, w, filters].

    Args:
        num_deconvolutions: How often the level above is doubled.
        filters: Number of channels of this level.
    """

    def __init__(self, path: str, num_deconvolutions: int, filters: int):
        super().__init__(path)
        self.num_deconvolutions = num_deconvolutions
        self.deconvolutions = []
        self.conv = ConvReluNorm(f'{path}/conv', filters, DILATED)

    def build(self, above):
        self.deconvolutions = [
            layers.Deconv(f'{self.path}/deconv{n + 1}', above.shape[-1], DOUBLE, use_bias=True)
            for n in range(self.num_deconvolutions)
        ]

    def call(self, above, feature, training):
        for deconvolution in self.deconvolutions:
            above = layers.relu(deconvolution(above))
        joined = [part for part in (above, feature) if part is not None]
        return self.conv(tf.concat(joined, axis=-1), training)


class Refinement(layers.Layer):
    """`([features, sum of heat maps, finer sum, ...], training)` -> heat maps of the size of the
    last input, and the inputs of the next refinement.
    """

    def __init__(self, number: int, num_keypoints: int, channels: int):
        super().__init__(f'head/stack{number}')
        self.number, self.channels = number, channels
        self.squeeze = ConvReluNorm(f'{self.path}/squeeze', channels)
        self.heatmaps = heatmap_layer(f'heatmaps_stack{number}', num_keypoints, size=1)

    def build(self, inputs):
        paths = [f'{self.path}/input{n}' for n in range(1, len(inputs) + 1)]
        first_heatmaps = 1 if self.number == 1 else len(inputs) - 1
        for n in range(first_heatmaps, len(inputs)):
            paths[n] = f'head/heatmaps_stack{self.number}_input{n + 1}'
        self.reduce = [ConvReluNorm(path, self.channels // 2) for path in paths]

    def call(self, inputs, training):
        inputs = [self.squeeze(inputs[0], training), *inputs[1:]]
        reduced = [reduce(level, training) for reduce, level in zip(self.reduce, inputs)]
        size = inputs[-1].shape[1:3]
        heatmaps = self.heatmaps(
            tf.concat([layers.enlarge(level, size) for level in reduced], axis=-1)
        )
        return heatmaps, [*reduced[:-1], heatmaps]


class AiFashion(layers.Layer):
    """See the module's docstring."""

    def __init__(
        self, num_keypoints: int, heatmap_size: tuple[int, int], channels: int, stacks: int
    ):
        super().__init__('head')
        self.num_keypoints, self.heatmap_size = num_keypoints, tuple(heatmap_size)
        self.channels = channels
        self.refinements = [
            Refinement(number, num_keypoints, channels) for number in range(1, stacks + 1)
        ]

    def build(self, features):
        sizes = [tuple(feature.shape[1:3]) for feature in reversed(list(features.values()))]
        finest = list(features)[0]
        self.num_beyond = num_doublings(sizes[-1], self.heatmap_size, MOST_DECONVOLUTIONS, finest)
        steps = [(b[0] // a[0]).bit_length() - 1 for a, b in zip(sizes, sizes[1:])]
        self.levels = [
            GlobalLevel(f'head/global{n + 1}', step, self.channels >> min(n, MOST_HALVINGS))
            for n, step in enumerate([0, *steps, *[1] * self.num_beyond])
        ]
        predicting = range(1, len(self.levels)) if len(self.levels) > 1 else range(1)
        self.predict = [
            heatmap_layer(f'heatmaps_global{n + 1}', self.num_keypoints, size=1) for n in predicting
        ]

    def call(self, features, training):
        levels = self._global_levels(features, training)[-len(self.predict) :]
        sums = []
        for level, predict in zip(levels, self.predict):
            heatmaps = predict(level)
            if sums:
                heatmaps += layers.enlarge(sums[-1], level.shape[1:3])
            sums.append(heatmaps)
        outputs, inputs = [sums[-1]], [levels[0], *(sums[1:] or sums)]
        for refinement in self.refinements:
            heatmaps, inputs = refinement(inputs, training)
            outputs.append(heatmaps)
        return outputs

    def _global_levels(self, features: dict[str, tf.Tensor], training: bool) -> list[tf.Tensor]:
        """Return all levels, coarse to fine."""
        maps = [*reversed(list(features.values())), *[None] * self.num_beyond]
        level, outputs = None, []
        for layer, feature in zip(self.levels, maps):
            level = layer(level, feature, training)
            outputs.append(level)
        return outputs


@HEADS.register('aifashion')
def aifashion(num_keypoints, heatmap_size, channels=256, stacks=2):
    """Return the head of the module's docstring.

    Args:
        num_keypoints, heatmap_size: As of HEADS.
        channels: Of the coarsest level of the global net; the second has half as many and finer
            ones a quarter. A refinement has as many, and half as many of each input it joins.
        stacks: Number of refinements.

    Raises:
        UserError: An option is out of range.
    """
    check(SECTION, 'channels', channels, *multiple_of(2**MOST_HALVINGS))
    check(SECTION, 'stacks', stacks, *POSITIVE)
    return AiFashion(num_keypoints, heatmap_size, channels, stacks)
