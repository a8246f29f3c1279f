"""ResNet: Deep Residual Learning for Image Recognition, He, Zhang, Ren and Sun, CVPR 2016.

As torchvision publishes it, so that its weights fit: the stride of a bottleneck is in the 3x3
convolution instead of the first 1x1, strided convolutions are padded alike on all sides, and there
is no bias. Without the classifier. The networks made of the same parts are variants: see senet.py
and detnet.py.

Options of all of them:
    width: Channels of the stem, published as 64; all others scale with it.
    levels: Which levels to give, each n with stride 2**n; 1 is the stem. What none needs is not
        built: (2, 3, 4) is a network without its last stage.
    output_stride: Where the network stops to stride; from there on it dilates (Chen et al. 2017,
        DeepLab). 16 gives the dilated last stage of tf.fashionAI's deconvolution network.
    ceil_pool: Whether the pooling after the stem pads at the bottom and right only, as that of
        Caffe and of TensorFlow's official ResNet does, instead of alike on all sides.
    stride_1x1: Whether the stride of a bottleneck is in its first 1x1, as in the paper.
    residual_gamma: The last scale of each block at first; see blocks.BasicBlock. By default it
        follows from the number of blocks. It only concerns training from scratch: weights that are
        loaded replace it.
The last four belong to the weights that are loaded; see utility/pretrained/warm_start.py.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

from config import check, one_of
from nets import layers
from nets.backbones.registry import BACKBONES, SECTION, check_levels, check_width
from nets.blocks import BasicBlock, Bottleneck, BottleneckStyle, gamma_of_depth
from nets.layers import ConvNorm, ConvSpec

STEM_STRIDE = 4


class ResNet(layers.Layer):
    """A stem of stride 2, 3x3/2 pooling, and stages of residual blocks.

    Args:
        stem: Layers called in turn, each with (inputs, training).
        stages: The blocks of each stage, likewise.
        ceil_pool, levels: See the module's docstring.
    """

    def __init__(
        self,
        stem: Sequence[layers.Layer],
        stages: Sequence[Sequence[layers.Layer]],
        ceil_pool: bool,
        levels: Sequence[int],
    ):
        super().__init__('backbone')
        check_levels(levels, range(1, 2 + len(stages)))
        self.stem, self.stages = list(stem), [list(blocks) for blocks in stages]
        self.ceil_pool, self.levels = ceil_pool, tuple(levels)

    def call(self, images, training):
        outputs = images
        for layer in self.stem:
            outputs = layer(outputs, training)
        features = {'C1': outputs}
        for level in range(2, self.levels[-1] + 1):
            if level == 2:
                outputs = layers.max_pool(outputs, ceil_mode=self.ceil_pool)
            for block in self.stages[level - 2]:
                outputs = block(outputs, training)
            features[f'C{level}'] = outputs
        return {f'C{level}': features[f'C{level}'] for level in self.levels}


@dataclasses.dataclass(frozen=True)
class Published:
    """A network of bottlenecks as published; channels are in multiples of the stem's `width`.

    Attributes:
        depths: Number of blocks of each stage.
        inner, filters: Channels inside the blocks of the first stage, and those they give; both
            double at each further stage.
        groups: Of the middle convolution (ResNeXt).
        num_held: How many of the last stages hold the stride and the channels of the stage before
            them and dilate by 2 (DetNet).
        deep_stem: Three 3x3 convolutions, the last of twice the width, instead of a 7x7 (SENet).
        ceil_pool: Default of that option.
        style: Of the bottlenecks; its stride_1x1 is the default of that option.
    """

    depths: tuple[int, ...]
    inner: int = 1
    filters: int = 4
    groups: int = 1
    num_held: int = 0
    deep_stem: bool = False
    ceil_pool: bool = False
    style: BottleneckStyle = BottleneckStyle()


class Stage(NamedTuple):
    """How a stage differs from the first: factor on the channels, stride, dilation, projection."""

    factor: int
    stride: int
    dilation: int
    project: bool = False


def plan_stages(num_stages: int, output_stride: int, num_held: int = 0) -> list[Stage]:
    """Return the stages of a network that stops to stride at output_stride, see Published.

    Raises:
        UserError: output_stride is not one of 4, 8, ... up to what the network has.
    """
    last = num_stages - num_held - 1
    possible = [STEM_STRIDE << n for n in range(last + 1)]
    check(SECTION, 'output_stride', output_stride, *one_of(possible))
    stages, stride = [], STEM_STRIDE
    for n in range(num_stages):
        is_held, grown = n > last, min(n, last)
        step = 2 if n and not is_held and stride < output_stride else 1
        stride *= step
        dilation = (STEM_STRIDE << grown) // stride * (2 if is_held else 1)
        stages.append(Stage(1 << grown, step, dilation, is_held))
    return stages


def make_stages(stages: Sequence[Stage], depths: Sequence[int], groups: int, make_block: Callable):
    """Return the blocks of each stage; make_block: (path, stage, window, project) -> block."""
    made = []
    for number, (stage, depth) in enumerate(zip(stages, depths), start=1):
        blocks = []
        for n in range(depth):
            window = ConvSpec(3, stage.stride if n == 0 else 1, stage.dilation, groups)
            path = f'backbone/stage{number}/block{n + 1}'
            blocks.append(make_block(path, stage, window, stage.project and n == 0))
        made.append(blocks)
    return made


def _stem(width: int, is_deep: bool) -> list[layers.Layer]:
    if not is_deep:
        return [ConvNorm('backbone/conv1', width, ConvSpec(7, stride=2))]
    return [
        ConvNorm('backbone/conv1', width, ConvSpec(3, stride=2)),
        ConvNorm('backbone/conv2', width, layers.KERNEL_3X3),
        ConvNorm('backbone/conv3', 2 * width, layers.KERNEL_3X3),
    ]


def _defaults(num_stages: int, num_held: int = 0) -> tuple[tuple[int, ...], int]:
    """Return the levels and the output stride of a network as published."""
    return tuple(range(2, 2 + num_stages)), STEM_STRIDE << (num_stages - num_held - 1)


def bottleneck_network(published: Published) -> Callable[..., ResNet]:
    """Return the factory, for BACKBONES, of a published network of bottlenecks."""
    num_stages, num_held = len(published.depths), published.num_held
    all_levels, full_stride = _defaults(num_stages, num_held)
    gamma = gamma_of_depth(sum(published.depths))

    def factory(
        width=64,
        levels=all_levels,
        output_stride=full_stride,
        ceil_pool=published.ceil_pool,
        stride_1x1=published.style.stride_1x1,
        residual_gamma=gamma,
    ):
        check_width(width)
        style = dataclasses.replace(
            published.style, stride_1x1=stride_1x1, first_gamma=residual_gamma
        )

        def make_block(path, stage, window, project):
            inner = width * published.inner * stage.factor
            filters = width * published.filters * stage.factor
            return Bottleneck(path, inner, filters, window, style, project)

        stages = plan_stages(num_stages, output_stride, num_held)
        blocks = make_stages(stages, published.depths, published.groups, make_block)
        return ResNet(_stem(width, published.deep_stem), blocks, ceil_pool, levels)

    return factory


def basic_network(depths: Sequence[int]) -> Callable[..., ResNet]:
    """Return the factory, for BACKBONES, of a network whose blocks are two 3x3 convolutions."""
    num_stages = len(depths)
    all_levels, full_stride = _defaults(num_stages)
    gamma = gamma_of_depth(sum(depths))

    def factory(
        width=64,
        levels=all_levels,
        output_stride=full_stride,
        ceil_pool=False,
        residual_gamma=gamma,
    ):
        check_width(width)

        def make_block(path, stage, window, project):
            return BasicBlock(path, width * stage.factor, window, residual_gamma)

        blocks = make_stages(plan_stages(num_stages, output_stride), depths, 1, make_block)
        return ResNet(_stem(width, is_deep=False), blocks, ceil_pool, levels)

    return factory


BACKBONES.register('resnet18')(basic_network((2, 2, 2, 2)))
BACKBONES.register('resnet34')(basic_network((3, 4, 6, 3)))
BACKBONES.register('resnet50')(bottleneck_network(Published((3, 4, 6, 3))))
BACKBONES.register('resnet101')(bottleneck_network(Published((3, 4, 23, 3))))
BACKBONES.register('resnet152')(bottleneck_network(Published((3, 8, 36, 3))))
