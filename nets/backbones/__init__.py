"""Backbones: from a picture to feature maps at several strides."""

from config import Registry

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

from nets.backbones import detnet, resnet, senet  # noqa: E402, F401  register themselves
