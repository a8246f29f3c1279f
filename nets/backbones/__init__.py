"""Backbones: from an image to feature maps at several strides.

`BACKBONES.get(name)(**options)` makes one; registry.py has the contract. Each of the other files is
a family. To add a family: a file in this folder that registers its factories, and its import here.
"""

from nets.backbones import (  # noqa: F401  register themselves
    detnet,
    efficientnet_lite,
    hourglass,
    hrnet,
    keras_applications,
    resnet,
    senet,
)
from nets.backbones.registry import BACKBONES

__all__ = ['BACKBONES']
