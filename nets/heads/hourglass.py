"""Stacked hourglass: Stacked Hourglass Networks for Human Pose Estimation, Newell, Yang and Deng,
ECCV 2016.

An hourglass halves its input `depth` times and doubles it back, adding at each size what it had
there on the way down; all of it is made of pre-activation residual blocks. A 1x1 convolution of
the result gives heat maps. The features and the heat maps, each through a 1x1 convolution, and the
input of the hourglass add up to the input of the next one. Outputs: the heat maps of each stack,
first to last, all to be supervised.

With `multi_scale` the smaller sizes on the way up also give heat maps. Outputs: for each stack
those of 1/8, 1/4, 1/2 and full size (depth=4). The idea is the multi-scale supervision of Ke,
Chang, Qi and Lyu, Multi-Scale Structure-Aware Network for Human Pose Estimation, ECCV 2018, section
3.1; the way is this project's: a 1x1 convolution gives the heat maps of a size, and they are
enlarged to heatmap_size, so that one loss fits all heads. Neither the paper's regression network
(section 3.2) nor its structure-aware loss (section 3.3) is built.

The input is the deepest of the feature maps that have the size of the heat maps, through a 1x1
convolution if it has other than `channels` channels. Where there is none it is, through
deconvolutions, the finest that is smaller. No other is read: on a ResNet, levels=(2,) leaves out
the stages that heat maps of stride 4 do not need. Published on the backbone 'hourglass_stem'.

Departures from the authors' code (princeton-vl/pose-hg-train), the first as in tf.fashionAI:
    No bias before batch norm, nor in the residual blocks and their projections.
    Kernels and the layers that give heat maps start as everywhere in this project.

Not followed are two departures of HiKapok's tf.fashionAI: it enlarges bilinearly where the paper
has nearest neighbors (its bilinear, without half-pixel centers, moves the features as well), and
projects the input of a residual block after instead of before its first batch norm and ReLU.
Neither has parameters: with the stem and 4 stacks there are 12,821,748 of them for 13 keypoints and
12,841,504 for 24, with 8 stacks 25,361,704 and 25,404,032, which equals tf.fashionAI.
"""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from config import POSITIVE, multiple_of, require
from nets import layers
from nets.blocks import PreactivationBottleneck
from nets.heads.registry import (
    HEADS,
    MOST_DECONVOLUTIONS,
    SECTION,
    deconvolutions,
    heatmap_layer,
    num_doublings,
)


@dataclasses.dataclass(frozen=True)
class HourglassOptions:
    """See `hourglass`."""

    stacks: int
    channels: int
    residuals: int
    depth: int
    multi_scale: bool

    def __post_init__(self):
        require(self, SECTION, *POSITIVE, 'stacks', 'residuals', 'depth')
        require(self, SECTION, *multiple_of(2), 'channels')


class Residuals(layers.Layer):
    """The residual blocks of one position: [B, h, w, channels] -> the same shape."""

    def __init__(self, path: str, options: HourglassOptions):
        super().__init__(path)
        self.blocks = [
            PreactivationBottleneck(f'{path}/block{n + 1}', options.channels)
            for n in range(options.residuals)
        ]

    def call(self, inputs, training):
        for block in self.blocks:
            inputs = block(inputs, training)
        return inputs


class Hourglass(layers.Layer):
    """[B, h, w, channels] -> `depth` feature maps of as many channels, coarse to fine, the last of
    the size of the input and each other one of half the size of the next.
    """

    def __init__(self, path: str, options: HourglassOptions):
        super().__init__(path)
        self.skips, self.downs, self.ups = (
            [Residuals(f'{path}/{name}{n + 1}', options) for n in range(options.depth)]
            for name in ('skip', 'down', 'up')
        )
        self.bottom = Residuals(f'{path}/bottom', options)

    def call(self, inputs, training):
        skipped, outputs = [], inputs
        for skip, down in zip(self.skips, self.downs):
            skipped.append(skip(outputs, training))
            outputs = down(layers.max_pool(outputs, size=2), training)
        outputs, merged = self.bottom(outputs, training), []
        for up, beside in zip(reversed(self.ups), reversed(skipped)):
            enlarged = layers.enlarge(up(outputs, training), beside.shape[1:3])
            outputs = enlarged + beside
            merged.append(outputs)
        return merged


class Stack(layers.Layer):
    """An hourglass and the layers that follow it.

    `([B, h, w, channels], training)` -> heat maps [B, h', w', K], one or with multi_scale `depth`
    of them, coarse to fine; and the input of the next stack, None after the last.
    """

    def __init__(self, number: int, num_keypoints: int, options: HourglassOptions):
        super().__init__(f'head/stack{number}')
        self.hourglass = Hourglass(f'{self.path}/hourglass', options)
        self.residuals = Residuals(f'{self.path}/residuals', options)
        self.features = layers.ConvNorm(f'{self.path}/features', options.channels)
        name = f'heatmaps_stack{number}'
        self.heatmaps = heatmap_layer(name, num_keypoints, size=1)
        self.coarser = [
            heatmap_layer(f'{name}_reduced{2**n}', num_keypoints, size=1)
            for n in range(options.depth - 1 if options.multi_scale else 0, 0, -1)
        ]
        self.is_last = number == options.stacks
        if not self.is_last:
            self.remaps = [
                layers.Conv(path, options.channels, use_bias=True)
                for path in (f'{self.path}/remap', f'head/{name}_remap')
            ]

    def call(self, inputs, training):
        *smaller, features = self.hourglass(inputs, training)
        features = self.features(self.residuals(features, training), training)
        heatmaps = [predict(level) for predict, level in zip(self.coarser, smaller)]
        heatmaps.append(self.heatmaps(features))
        if self.is_last:
            return heatmaps, None
        remap_features, remap_heatmaps = self.remaps
        return heatmaps, inputs + remap_features(features) + remap_heatmaps(heatmaps[-1])


class StackedHourglass(layers.Layer):
    """See the module's docstring."""

    def __init__(
        self, num_keypoints: int, heatmap_size: tuple[int, int], options: HourglassOptions
    ):
        super().__init__('head')
        self.heatmap_size, self.options = tuple(heatmap_size), options
        self.stacks = [
            Stack(number, num_keypoints, options) for number in range(1, options.stacks + 1)
        ]

    def build(self, features):
        self.key = _input_level(features, self.heatmap_size)
        *size, depth = features[self.key].shape[1:]
        count = num_doublings(tuple(size), self.heatmap_size, MOST_DECONVOLUTIONS, self.key)
        channels = self.options.channels
        self.entry = deconvolutions(self.path, channels, count)
        if not count and depth != channels:
            self.entry.append(layers.ConvNorm('head/projection', channels))

    def call(self, features, training):
        inputs, outputs = features[self.key], []
        for layer in self.entry:
            inputs = layer(inputs, training)
        for stack in self.stacks:
            heatmaps, inputs = stack(inputs, training)
            outputs += [layers.resize(maps, self.heatmap_size) for maps in heatmaps]
        return outputs


def _input_level(features: dict[str, tf.Tensor], heatmap_size: tuple[int, int]) -> str:
    """Return the deepest of the finest levels no finer than the heat maps, else the last."""
    deepest_first = list(reversed(features))
    fitting = [key for key in deepest_first if features[key].shape[1] <= heatmap_size[0]]
    return max(fitting or deepest_first[:1], key=lambda key: features[key].shape[1])


@HEADS.register('hourglass')
def hourglass(
    num_keypoints,
    heatmap_size,
    stacks=4,
    channels=256,
    residuals=1,
    depth=4,
    multi_scale=False,
):
    """Return the head of the module's docstring.

    Args:
        num_keypoints, heatmap_size: As of HEADS.
        stacks: Number of hourglasses.
        channels: Of all feature maps; residual blocks are half as wide inside.
        residuals: Number of residual blocks at each position.
        depth: How often an hourglass halves; heatmap_size must divide by 2**depth.
        multi_scale: Whether to predict heat maps at the smaller sizes too.

    Raises:
        UserError: An option is out of range, or heatmap_size does not divide.
    """
    options = HourglassOptions(stacks, channels, residuals, depth, multi_scale)
    owner = f'an hourglass of depth={depth}'
    layers.check_multiples('network.heatmap_size', heatmap_size, 2**depth, owner)
    return StackedHourglass(num_keypoints, heatmap_size, options)
