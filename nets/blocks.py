"""Residual blocks, and what a block can do to its channels."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import tensorflow as tf

from config import UserError
from nets.layers import (
    KERNEL_3X3,
    POINTWISE,
    Conv,
    ConvNorm,
    ConvSpec,
    Layer,
    global_average_pool,
    relu,
)
from nets.norms import Norm

SHALLOW = 8  # blocks; those of ResNet-18


class SqueezeExcite(Layer):
    """Weighs each channel by all of them (Hu, Shen and Sun, CVPR 2018): [B, H, W, C] -> the same.

    The mean over the picture, a 1x1 convolution to C / reduction channels, ReLU, another back to C,
    sigmoid; both have a bias.
    """

    def __init__(self, path: str, reduction: int = 16):
        super().__init__(path)
        self.reduction = reduction

    def build(self, inputs):
        channels = inputs.shape[-1]
        if channels < self.reduction:
            needed = f'squeeze and excitation needs at least {self.reduction}'
            raise UserError(f'{self.path}: {channels} channels; {needed}, so a larger width')
        self.squeeze = Conv(f'{self.path}/squeeze', channels // self.reduction, use_bias=True)
        self.excite = Conv(f'{self.path}/excite', channels, use_bias=True)

    def call(self, inputs, training):
        squeezed = relu(self.squeeze(global_average_pool(inputs)))
        return inputs * tf.sigmoid(self.excite(squeezed))


class Residual(Layer):
    """relu(branch(x) + x) (He et al. 2016); x is projected by a convolution and batch norm where
    the shapes differ: [B, H, W, C] -> [B, H / stride, W / stride, filters].

    Args:
        branch: Layers called in turn, each with (inputs, training).
        filters: Number of channels that the branch gives.
        shortcut: ConvSpec of the projection; its stride is the branch's.
        project: Whether to project equal shapes too.
    """

    def __init__(
        self, path: str, branch: Sequence[Layer], filters: int, shortcut=POINTWISE, project=False
    ):
        super().__init__(path)
        self.branch, self.filters = list(branch), filters
        self.window, self.project = shortcut, project
        self.shortcut = None

    def build(self, inputs):
        if self.project or self.window.stride > 1 or inputs.shape[-1] != self.filters:
            self.shortcut = ConvNorm(f'{self.path}/shortcut', self.filters, self.window, None)

    def call(self, inputs, training):
        outputs = inputs
        for layer in self.branch:
            outputs = layer(outputs, training)
        if self.shortcut is not None:
            inputs = self.shortcut(inputs, training)
        return relu(outputs + inputs)


def gamma_of_depth(num_blocks: int) -> float:
    """Return the last scale with which the blocks of a network of so many start.

    With more than SHALLOW blocks the variance that all together add is that of their input (De and
    Smith, NeurIPS 2020, Batch Normalization Biases Residual Blocks Towards the Identity Function
    in Deep Networks). With fewer it is 1: gradients grow less there, and ResNet-18 loses more by
    small scales, which Adam must first enlarge, than it gains.
    """
    return 1.0 if num_blocks <= SHALLOW else round(1 / math.sqrt(num_blocks), 3)


class BasicBlock(Residual):
    """Residual block of two 3x3 convolutions, the first as `window` says.

    The last scale is `first_gamma` at first. At 1 each block adds as much as it is given, and
    gradients grow from block to block on the way back. At 0 (Goyal et al. 2017, section 5.1)
    nothing is added at first; that is for long trainings at high rates of SGD: Adam moves a scale
    by about the learning rate a step, so that a training of some hundred steps at 1e-3 ends with
    branches that hardly count. `gamma_of_depth` lies between.
    """

    def __init__(self, path: str, filters: int, window=KERNEL_3X3, first_gamma=1.0):
        branch = (
            ConvNorm(f'{path}/conv1', filters, window),
            ConvNorm(f'{path}/conv2', filters, window._replace(stride=1), None, first_gamma),
        )
        super().__init__(path, branch, filters, ConvSpec(stride=window.stride))


@dataclasses.dataclass(frozen=True)
class BottleneckStyle:
    """What tells the bottlenecks of one published network from those of another.

    Attributes:
        stride_1x1: Whether the stride is in the first convolution, as He et al. 2016 published it
            and Caffe's networks have it, instead of in the middle one, as in torchvision ('v1.5').
        first_gamma: See BasicBlock.
        reduction: Of the SqueezeExcite that ends the branch; 0: it has none.
        halve_first: Whether the first convolution has half the channels of the middle one (SENet).
        strided_shortcut_size: Kernel size of a projection that strides (SENet: 3).
    """

    stride_1x1: bool = False
    first_gamma: float = 1.0
    reduction: int = 0
    halve_first: bool = False
    strided_shortcut_size: int = 1


class Bottleneck(Residual):
    """Residual block of 1x1 to `width` channels, `window`, and 1x1 to `filters` channels."""

    def __init__(
        self,
        path: str,
        width: int,
        filters: int,
        window=KERNEL_3X3,
        style=BottleneckStyle(),  # noqa: B008  frozen
        project=False,
    ):
        first, middle = POINTWISE, window
        if style.stride_1x1:
            first, middle = ConvSpec(stride=window.stride), window._replace(stride=1)
        branch = [
            ConvNorm(f'{path}/conv1', width // 2 if style.halve_first else width, first),
            ConvNorm(f'{path}/conv2', width, middle),
            ConvNorm(f'{path}/conv3', filters, POINTWISE, None, style.first_gamma),
        ]
        if style.reduction:
            branch.append(SqueezeExcite(f'{path}/se', style.reduction))
        size = style.strided_shortcut_size if window.stride > 1 else 1
        super().__init__(path, branch, filters, ConvSpec(size, window.stride), project)


class NormConv(Layer):
    """Norm, ReLU and only then the convolution, without bias; shapes as of Conv."""

    def __init__(self, path: str, filters: int, window=POINTWISE):
        super().__init__(path)
        self.norm = Norm(f'{path}/norm')
        self.conv = Conv(path, filters, window)

    def call(self, inputs, training):
        return self.conv(relu(self.norm(inputs, training)))


class PreactivationBottleneck(Layer):
    """branch(x) + x, where the branch normalizes and activates first and nothing follows the sum
    (He et al., Identity Mappings in Deep Residual Networks, ECCV 2016): 1x1 to half of `filters`,
    3x3, and 1x1 to `filters` channels; x is projected by a 1x1 where its channels differ:
    [B, H, W, C] -> [B, H, W, filters].
    """

    def __init__(self, path: str, filters: int):
        super().__init__(path)
        self.filters = filters
        self.shortcut = None
        self.branch = [
            NormConv(f'{path}/conv1', filters // 2),
            NormConv(f'{path}/conv2', filters // 2, KERNEL_3X3),
            NormConv(f'{path}/conv3', filters),
        ]

    def build(self, inputs):
        if inputs.shape[-1] != self.filters:
            self.shortcut = Conv(f'{self.path}/shortcut', self.filters)

    def call(self, inputs, training):
        outputs = inputs
        for layer in self.branch:
            outputs = layer(outputs, training)
        return outputs + (inputs if self.shortcut is None else self.shortcut(inputs))
