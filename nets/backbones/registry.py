"""Backbones: from a picture to feature maps at several strides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from config import POSITIVE, Registry, check
from nets import layers

BACKBONES = Registry(
    'backbone',
    """Name -> factory `f(**options) -> module`, with `module(images, training) -> features`.

    The options are the parameters in the factory's signature, each with a default (no `**`), so
    that a misspelt option can be told from a known one.
    images: [B, H, W, 3], standardised; training: bool.
    features: dict of [B, h, w, C] in depth order, keys 'C2', 'C3', ... Level Cn has stride 2**n,
    except that a backbone may hold its stride (DetNet: C4, C5 and C6 all have 16).
    The names of all variables start with 'backbone/'. Results have the dtype of the images.

    To add one: a file in this folder that registers its factories, and its import below.""",
)

# What stands before the name of an option in an error.
SECTION = 'network.backbone_options: '


def check_levels(levels: Sequence[int], possible: Sequence[int]) -> None:
    """Refuse an option `levels` that is not some of the possible ones, in increasing order."""

    def are_possible(levels):
        fitting = [level for level in possible if level in levels]
        # 2.0 and True are equal to levels, but name none.
        return fitting and fitting == list(levels) and all(type(level) is int for level in levels)

    allowed = f'some of {list(possible)}, in increasing order'
    check(SECTION, 'levels', levels, allowed, are_possible)


def check_multiples(image_size: Sequence[int], stride: int, owner: str) -> None:
    """Refuse pictures whose (height, width) in px are not multiples of the stride."""
    layers.check_multiples('network.image_size', image_size, stride, owner)


def renamed_options(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the options of a backbone by today's names: those of older experiment files too."""
    if 'zero_init_residual' not in options:
        return options
    others = {name: value for name, value in options.items() if name != 'zero_init_residual'}
    return {'residual_gamma': 0.0 if options['zero_init_residual'] else 1.0, **others}


def check_width(width: int) -> None:
    """Refuse an option `width` that is no number of channels."""
    check(SECTION, 'width', width, *POSITIVE)
