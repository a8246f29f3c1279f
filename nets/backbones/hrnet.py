"""HRNet: Deep High-Resolution Representation Learning for Human Pose Estimation, Sun, Xiao, Liu and
Wang, CVPR 2019.

A stem of stride 4 and four bottlenecks; then branches of stride 4, 8, 16 and 32 side by side, one
more at each of three stages. A stage repeats modules: four basic blocks a branch, after which every
branch is the sum of all of them, brought to its size: coarser ones by a 1x1 convolution and nearest
neighbors, finer ones by 3x3 convolutions of stride 2.

As the authors and timm publish it, so that their weights fit, without what only classifies (timm's
incre_modules, downsamp_modules, final_layer and classifier). hrnet_w32 with the levels (2,) and
the head 'hrnet' is the pose network of the paper (28.5 M parameters).

Options:
    width: Channels of the finest branch; each further one has twice those of the one before. The
        stem (64) and the first stage (256) are the same for all widths, as published.
    levels: Which branches to give, each n with stride 2**n. What none needs is not built: with
        (2,) the last module sums for the finest branch only.
    residual_gamma: As of resnet.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from nets import layers
from nets.backbones.registry import BACKBONES, check_levels, check_multiples, check_width
from nets.blocks import BasicBlock, Bottleneck, BottleneckStyle, gamma_of_depth
from nets.layers import KERNEL_3X3, POINTWISE, ConvNorm, ConvSpec

STEM_WIDTH = 64
STAGE1_WIDTH = 256
NUM_BLOCKS = 4  # of the first stage, and of each branch of a module
NUM_MODULES = (1, 4, 3)  # of the second stage, the third and the fourth
LEVELS = (2, 3, 4, 5)
GAMMA = gamma_of_depth(NUM_BLOCKS * (1 + sum(NUM_MODULES)))  # of the blocks of any branch
HALVE = ConvSpec(3, stride=2)


def _convolutions(path: str, source: int, target: int, widths: Sequence[int]) -> list[ConvNorm]:
    """Return the layers from the channels and finer size of branch `source` to `target`."""
    if source > target:
        return [ConvNorm(path, widths[target], POINTWISE, activation=None)]
    num_halvings = target - source
    inner = [ConvNorm(f'{path}/down{n}', widths[source], HALVE) for n in range(1, num_halvings)]
    last = ConvNorm(f'{path}/down{num_halvings}', widths[target], HALVE, activation=None)
    return [*inner, last] if num_halvings else []


class Fusion(layers.Layer):
    """What branch `source` adds to branch `target`, numbered from 0: at the target's size.

    Args:
        widths: Channels of all branches.
    """

    def __init__(self, path: str, source: int, target: int, widths: Sequence[int]):
        super().__init__(path)
        self.convolutions = _convolutions(path, source, target, widths)
        self.factor = 2 ** max(source - target, 0)

    def call(self, inputs, training):
        for convolution in self.convolutions:
            inputs = convolution(inputs, training)
        size = [side * self.factor for side in inputs.shape[1:3]]
        return layers.enlarge(inputs, size)


class HighResolutionModule(layers.Layer):
    """Basic blocks on each branch, then an exchange among all.

    `(list of all branches [B, h, w, C], training)` -> those of the branches `targets`, numbered
    from 0.
    """

    def __init__(
        self, path: str, widths: Sequence[int], targets: Sequence[int], first_gamma: float
    ):
        super().__init__(path)
        self.branches = [
            [
                BasicBlock(f'{path}/branch{b}/block{n}', width, first_gamma=first_gamma)
                for n in range(1, NUM_BLOCKS + 1)
            ]
            for b, width in enumerate(widths, start=1)
        ]
        self.fusions = [
            [Fusion(f'{path}/fuse{i + 1}_{j + 1}', j, i, widths) for j in range(len(widths))]
            for i in targets
        ]

    def call(self, branches, training):
        refined = []
        for outputs, blocks in zip(branches, self.branches):
            for block in blocks:
                outputs = block(outputs, training)
            refined.append(outputs)
        return [
            layers.relu(tf.add_n([fuse(r, training) for fuse, r in zip(fusions, refined)]))
            for fusions in self.fusions
        ]


class HRNet(layers.Layer):
    """See the module's docstring."""

    def __init__(self, width: int, levels: Sequence[int], first_gamma: float):
        super().__init__('backbone')
        self.levels, self.first_gamma = tuple(levels), first_gamma
        self.widths = [width << branch for branch in range(len(LEVELS))]
        self.stem = [ConvNorm(f'backbone/conv{n}', STEM_WIDTH, HALVE) for n in (1, 2)]
        style = BottleneckStyle(first_gamma=first_gamma)
        for n in range(1, NUM_BLOCKS + 1):
            path = f'backbone/stage1/block{n}'
            self.stem.append(Bottleneck(path, STAGE1_WIDTH // 4, STAGE1_WIDTH, KERNEL_3X3, style))
        self.narrow = ConvNorm('backbone/transition1/branch1', width, KERNEL_3X3)
        self.halvings = [
            ConvNorm(f'backbone/transition{branch}/branch{branch + 1}', self.widths[branch], HALVE)
            for branch in range(1, len(LEVELS))
        ]
        self.stages = [self._modules(n, count) for n, count in enumerate(NUM_MODULES, start=2)]

    def _modules(self, stage: int, count: int) -> list[HighResolutionModule]:
        """Return those of a stage, which has as many branches as its number says."""
        targets = [range(stage)] * count
        if stage == len(LEVELS):
            targets[-1] = [level - LEVELS[0] for level in self.levels]
        return [
            HighResolutionModule(
                f'backbone/stage{stage}/module{m}', self.widths[:stage], wanted, self.first_gamma
            )
            for m, wanted in enumerate(targets, start=1)
        ]

    def call(self, images, training):
        check_multiples(images.shape[1:3], 2 ** LEVELS[-1], 'HRNet')
        outputs = images
        for layer in self.stem:
            outputs = layer(outputs, training)
        branches = [outputs]
        for halving, modules in zip(self.halvings, self.stages):
            coarser = halving(branches[-1], training)
            if len(branches) == 1:
                branches = [self.narrow(outputs, training)]
            branches.append(coarser)
            for module in modules:
                branches = module(branches, training)
        return {f'C{level}': branch for level, branch in zip(self.levels, branches)}


def hrnet(published_width: int):
    """Return the factory, for BACKBONES, of the HRNet of that width."""

    def factory(width=published_width, levels=LEVELS, residual_gamma=GAMMA):
        check_width(width)
        check_levels(levels, LEVELS)
        return HRNet(width, levels, residual_gamma)

    return factory


BACKBONES.register('hrnet_w18')(hrnet(18))
BACKBONES.register('hrnet_w32')(hrnet(32))
BACKBONES.register('hrnet_w48')(hrnet(48))
