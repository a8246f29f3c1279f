"""Backbones: from an image to feature maps at several strides.

`BACKBONES.get(name)(**options)` makes one; registry.py has the contract. Each of the other files is
a family. To add a family: a file in this folder that registers its factories, and its import here.
"""

from nets.backbones import detnet, hourglass, hrnet, keras_applications, resnet, senet  # noqa: F401  register themselves
from nets.backbones.registry import BACKBONES

__all__ = ['BACKBONES']
