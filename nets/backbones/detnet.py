"""DetNet: A Backbone network for Object Detection, Li, Peng, Yu, Zhang, Deng and Sun, ECCV 2018.

The first three stages are ResNet's; two more hold the stride of 16 and the 1024 channels of the
third, dilate by 2 instead, and project in their first block. Options as of resnet.py; levels C4,
C5 and C6 all have stride 16.

detnet59 is the paper's, of 59 convolutions; tf.fashionAI calls it DetNet50. detnext50 and
detnext101 are tf.fashionAI's DetResNeXt: the same of SE-ResNeXt blocks (32x4d).

Departures of tf.fashionAI, not followed: its DetNet has no batch norm and no ReLU after the stem
(128 parameters fewer).
"""

from __future__ import annotations

from nets.backbones.registry import BACKBONES
from nets.backbones.resnet import Published, bottleneck_network
from nets.backbones.senet import REDUCTION
from nets.blocks import BottleneckStyle

NUM_HELD = 2

detnet59 = bottleneck_network(Published((3, 4, 6, 3, 3), num_held=NUM_HELD))
BACKBONES.register('detnet59')(detnet59)
BACKBONES.register('detnet50')(detnet59)


def _detnext(depths: tuple[int, ...]):
    style = BottleneckStyle(reduction=REDUCTION)
    return bottleneck_network(
        Published(depths, inner=2, groups=32, num_held=NUM_HELD, ceil_pool=True, style=style)
    )


BACKBONES.register('detnext50')(_detnext((3, 4, 6, 3, 3)))
BACKBONES.register('detnext101')(_detnext((3, 4, 23, 3, 3)))
