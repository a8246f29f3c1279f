"""What is known of weights from one place: how their tensors become this project's variables."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from config import IMAGENET_MEAN, IMAGENET_STD, UserError

# Name -> shape of each tensor of a file.
Shapes = Mapping[str, 'tuple[int, ...]']

FIRST_KERNEL = 'backbone/conv1/kernel'
UNSCALED = (1.0, 1.0, 1.0)


class Source(NamedTuple):
    """Where the value of a variable comes from.

    Attributes:
        names: Of tensors in the file.
        convert: Their values, in this order -> the variable's; UserError if they do not fit
            together.
    """

    names: tuple[str, ...]
    convert: Callable[..., np.ndarray] = np.asarray

    def shape(self, shapes: Shapes) -> tuple[int, ...] | None:
        """Return the variable's shape, reading nothing; None if the tensors do not fit."""
        empty = [np.broadcast_to(np.float32(0), shapes[name]) for name in self.names]
        try:
            return self.convert(*empty).shape
        except ValueError:
            return None


def from_oihw(kernel: np.ndarray) -> np.ndarray:
    """Return PyTorch's kernel [out, in / groups, h, w] as [h, w, in / groups, out]."""
    return kernel.transpose(2, 3, 1, 0)


def from_bgr(kernel: np.ndarray) -> np.ndarray:
    """Return [h, w, 3, out] for pictures in BGR -> the same for RGB."""
    if kernel.shape[2:3] != (3,):
        raise UserError(f'a first kernel of shape {kernel.shape}')
    return kernel[:, :, ::-1]


def no_options(shapes: Shapes) -> dict[str, Any]:
    return {}


@dataclasses.dataclass(frozen=True)
class Origin:
    """Weights that one project publishes.

    Attributes:
        name: For messages.
        is_origin: Whether a file of these tensors is from here.
        translate: Tensors of a file -> this project's variable -> where its value comes from.
            Raises UserError, with the reason, for files that no network here can take.
        mean, std: That the weights were trained with, RGB in 0..255.
        channel_order: Of the pictures they were trained with, 'RGB' or 'BGR'. The first
            convolution is turned round on loading: the network is always given RGB.
        options: Tensors of a file -> the options that a backbone needs to compute what the weights
            were trained in. Those that a backbone does not have do not concern it.
        backbones: Pattern of the names of the backbones that may take such weights in full.
        leftovers: Pattern of the names of tensors that are no part of a backbone.
        timm_prefix: How timm's names of such networks begin, where it has others with the same
            tensors that compute something else.
    """

    name: str
    is_origin: Callable[[Shapes], bool]
    translate: Callable[[Shapes], dict[str, Source]]
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    channel_order: str = 'RGB'
    options: Callable[[Shapes], dict[str, Any]] = no_options
    backbones: str = '$.'
    leftovers: str = '$.'
    timm_prefix: str = ''

    def sources(self, shapes: Shapes) -> dict[str, Source]:
        """Return this project's variables that a file of these tensors holds.

        Raises:
            UserError: No network here can take them; says why.
        """
        sources = self.translate(shapes)
        if self.channel_order == 'BGR' and FIRST_KERNEL in sources:
            names, convert = sources[FIRST_KERNEL]
            sources[FIRST_KERNEL] = Source(names, lambda kernel: from_bgr(convert(kernel)))
        return sources

    def unused(self, shapes: Shapes, sources: Mapping[str, Source]) -> list[str]:
        """Return tensors of a file that nothing is known of."""
        used = {name for source in sources.values() for name in source.names}
        return [n for n in shapes if n not in used and not re.search(self.leftovers, n)]
