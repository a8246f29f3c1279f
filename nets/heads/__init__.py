"""Heads: from feature maps to heat maps.

`HEADS.get(name)(num_keypoints, heatmap_size, **options)` makes one; registry.py has the contract.
To add a head: a file in this folder that registers its factory, and its import here.
"""

from nets.heads import aifashion, cpn, cpn_17th_place, dhn, hourglass, hrnet, simcc  # noqa: F401  register themselves
from nets.heads.registry import HEADS

__all__ = ['HEADS']
