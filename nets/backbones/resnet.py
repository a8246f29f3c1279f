"""ResNet: Deep Residual Learning for Image Recognition, He, Zhang, Ren and Sun, CVPR 2016.

As torchvision publishes it, so that its weights fit: the stride of a bottleneck is in the 3x3
convolution instead of the first 1x1 (`stride_1x1` puts it back), strided convolutions are padded
alike on all sides, and there is no bias. Without the classifier.

Options:
    width: Channels of the stem, published as 64; all others scale with it.
    stride_1x1: Whether the stride of a bottleneck is in its first 1x1, as in the paper.
    zero_init_residual: Whether the last scale of each block is 0 at first (Goyal et al. 2017,
        section 5.1). On, since it only concerns training from scratch: weights that are loaded
        replace it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nets import layers
from nets.backbones import BACKBONES


class ResNet(layers.Layer):
    """7x7/2 convolution, 3x3/2 pooling, and stages of residual blocks with strides 4, 8, ...

    Args:
        depths: Number of blocks of each stage.
        make_block: (path, width, window) -> block.
        width: Of the stem and the first stage's blocks; doubles at each further stage.
    """

    def __init__(self, depths: Sequence[int], make_block: Callable, width: int):
        super().__init__('backbone')
        if width < 1:
            raise ValueError(f'network.backbone_options: width={width}: must be positive')
        self.stem = layers.ConvNorm('backbone/conv1', width, layers.Window(7, stride=2))
        self.stages = []
        for stage, depth in enumerate(depths):
            windows = [layers.Window(3, stride=2 if stage else 1)] + [layers.SQUARE] * (depth - 1)
            paths = [f'backbone/stage{stage + 1}/block{block + 1}' for block in range(depth)]
            self.stages.append([make_block(p, width << stage, w) for p, w in zip(paths, windows)])

    def call(self, images, training):
        outputs = layers.max_pool(self.stem(images, training))
        features = {}
        for level, blocks in enumerate(self.stages, start=2):
            for block in blocks:
                outputs = block(outputs, training)
            features[f'C{level}'] = outputs
        return features


def _basic(depths: Sequence[int], width: int, zero_init_residual: bool) -> ResNet:
    def make_block(path, width, window):
        return layers.BasicBlock(path, width, window, zero_init_residual)

    return ResNet(depths, make_block, width)


def _bottleneck(
    depths: Sequence[int], width: int, stride_1x1: bool, zero_init_residual: bool
) -> ResNet:
    def make_block(path, width, window):
        return layers.Bottleneck(path, width, 4 * width, window, stride_1x1, zero_init_residual)

    return ResNet(depths, make_block, width)


@BACKBONES.register('resnet18')
def resnet18(width=64, zero_init_residual=True):
    return _basic((2, 2, 2, 2), width, zero_init_residual)


@BACKBONES.register('resnet34')
def resnet34(width=64, zero_init_residual=True):
    return _basic((3, 4, 6, 3), width, zero_init_residual)


@BACKBONES.register('resnet50')
def resnet50(width=64, stride_1x1=False, zero_init_residual=True):
    return _bottleneck((3, 4, 6, 3), width, stride_1x1, zero_init_residual)


@BACKBONES.register('resnet101')
def resnet101(width=64, stride_1x1=False, zero_init_residual=True):
    return _bottleneck((3, 4, 23, 3), width, stride_1x1, zero_init_residual)


@BACKBONES.register('resnet152')
def resnet152(width=64, stride_1x1=False, zero_init_residual=True):
    return _bottleneck((3, 8, 36, 3), width, stride_1x1, zero_init_residual)
