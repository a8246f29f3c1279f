"""The stem of the stacked hourglass: Stacked Hourglass Networks for Human Pose Estimation, Newell,
Yang and Deng, ECCV 2016, section 3.

A 7x7/2 convolution, a residual block of twice its channels, 2x2/2 pooling, and two more blocks of
twice and four times its channels; the only level is C2, of stride 4. The hourglasses are a head
(nets/heads/hourglass.py, which tells the departures), so that other backbones can feed them and
this one other heads.

Option: width: Channels of the first convolution, published as 64; all others scale with it.
"""

from __future__ import annotations

from nets import layers
from nets.backbones.registry import BACKBONES, check_multiples, check_width
from nets.blocks import PreactivationBottleneck
from nets.layers import ConvNorm, ConvSpec

STRIDE = 4


class HourglassStem(layers.Layer):
    """Pictures [B, H, W, 3] -> {'C2': [B, H / 4, W / 4, 4 * width]}."""

    def __init__(self, width: int):
        super().__init__('backbone')
        self.conv = ConvNorm('backbone/conv1', width, ConvSpec(7, stride=2))
        self.before_pooling, *self.after_pooling = (
            PreactivationBottleneck(f'backbone/block{n}', factor * width)
            for n, factor in enumerate((2, 2, 4), start=1)
        )

    def call(self, images, training):
        check_multiples(images.shape[1:3], STRIDE, 'the stem of the hourglass')
        outputs = self.before_pooling(self.conv(images, training), training)
        outputs = layers.max_pool(outputs, size=2)
        for block in self.after_pooling:
            outputs = block(outputs, training)
        return {'C2': outputs}


@BACKBONES.register('hourglass_stem')
def hourglass_stem(width=64):
    """Return the backbone of the module's docstring, which tells the option.

    Raises:
        UserError: width is not positive.
    """
    check_width(width)
    return HourglassStem(width)
