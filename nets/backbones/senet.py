"""SENet: Squeeze-and-Excitation Networks, Hu, Shen and Sun, CVPR 2018.

Options as of resnet.py. Published twice, with different poolings and strides:
    by the authors in Caffe, the weights that pretrained-models.pytorch and timm (legacy_se*) hand
    on: pooling that pads at the bottom and right (`ceil_pool`), and in SE-ResNet the stride in the
    first 1x1 (`stride_1x1`). These are the defaults of seresnet50, seresnet101 and senet154, of
    which no other weights are published.
    by timm, trained anew (seresnext50_32x4d): pooling as in torchvision. This is the default of
    seresnext*; the Caffe weights fit with `ceil_pool`.

tf.fashionAI's networks are the Caffe ones; its counts of parameters are equal.
"""

from __future__ import annotations

from nets.backbones.registry import BACKBONES
from nets.backbones.resnet import Published, bottleneck_network
from nets.blocks import BottleneckStyle

REDUCTION = 16
_CAFFE = BottleneckStyle(stride_1x1=True, reduction=REDUCTION)
_RESNEXT = BottleneckStyle(reduction=REDUCTION)
_SENET = BottleneckStyle(reduction=REDUCTION, halve_first=True, strided_shortcut_size=3)


def _seresnet(depths: tuple[int, ...]):
    return bottleneck_network(Published(depths, ceil_pool=True, style=_CAFFE))


def _seresnext_32x4d(depths: tuple[int, ...]):
    return bottleneck_network(Published(depths, inner=2, groups=32, style=_RESNEXT))


BACKBONES.register('seresnet50')(_seresnet((3, 4, 6, 3)))
BACKBONES.register('seresnet101')(_seresnet((3, 4, 23, 3)))
BACKBONES.register('seresnext50_32x4d')(_seresnext_32x4d((3, 4, 6, 3)))
BACKBONES.register('seresnext101_32x4d')(_seresnext_32x4d((3, 4, 23, 3)))
BACKBONES.register('senet154')(
    bottleneck_network(
        Published((3, 8, 36, 3), inner=4, groups=64, deep_stem=True, ceil_pool=True, style=_SENET)
    )
)
