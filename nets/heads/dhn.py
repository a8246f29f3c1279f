"""DHN: Simple Baselines for Human Pose Estimation and Tracking, Xiao, Wu and Wei, ECCV 2018.

Deconvolutions of stride 2 from the last feature map to the size of the heat maps, then a 1x1
convolution. One output, the heat maps [B, h, w, K].

Published on resnet50 with stride 32 and heat maps of stride 4, so three deconvolutions: 33,999,697
parameters with COCO's 17 keypoints. How many there are follows from the sizes; one that doubles to
half of the picture is the network of HiKapok's tf.fashionAI ('simple_net'), whose backbone holds a
stride of 16 by dilation:
    NetworkConfig('seresnext101_32x4d', 'dhn', image_size=(384, 384), heatmap_size=(192, 192),
                  backbone_options={'output_stride': 16})
It has 57,397,053 parameters for 13 keypoints and 57,399,880 for 24, on seresnext50_32x4d 36,001,533
and 36,004,360, the same as there. The head's 10,490,637 for 13 keypoints are
    8,388,608  the first deconvolution, of 2048 channels (16 * 2048 * 256),
    2,097,152  the two others (2 * 16 * 256 * 256),
        1,536  their batch norms (3 * 2 * 256),
        3,341  the 1x1 convolution (257 * K).

Departure: deconvolutions start from He et al.'s variance instead of a standard deviation of 0.001,
which batch norm divides out anyway.
"""

from __future__ import annotations

from config import POSITIVE, check, one_of
from nets import layers
from nets.heads.registry import (
    HEADS,
    MOST_DECONVOLUTIONS,
    SECTION,
    deconvolutions,
    heatmap_layer,
    num_doublings,
)

# The paper also tries 3 (table 2), which has no middle between the four cells it gives.
KERNEL_SIZES = (2, 4)


class DeconvolutionHead(layers.Layer):
    """One output, [B, h, w, K], from the deepest feature map; see the module's docstring."""

    def __init__(
        self, num_keypoints: int, heatmap_size: tuple[int, int], channels: int, kernel_size: int
    ):
        super().__init__('head')
        self.heatmap_size = tuple(heatmap_size)
        self.channels, self.kernel_size = channels, kernel_size
        self.heatmaps = heatmap_layer('heatmaps', num_keypoints, size=1)

    def build(self, features):
        feature_size = tuple(list(features.values())[-1].shape[1:3])
        count = num_doublings(feature_size, self.heatmap_size, MOST_DECONVOLUTIONS, 'last')
        self.deconvolutions = deconvolutions(self.path, self.channels, count, self.kernel_size)

    def call(self, features, training):
        outputs = list(features.values())[-1]
        for deconvolution in self.deconvolutions:
            outputs = deconvolution(outputs, training)
        return [self.heatmaps(outputs)]


@HEADS.register('dhn')
def dhn(num_keypoints, heatmap_size, channels=256, kernel_size=4):
    """Return the head of the module's docstring.

    Args:
        num_keypoints, heatmap_size: As of HEADS.
        channels: Of the deconvolutions.
        kernel_size: Of the deconvolutions, 4 as published or 2, which is four times cheaper.

    Raises:
        UserError: An option is out of range.
    """
    check(SECTION, 'channels', channels, *POSITIVE)
    check(SECTION, 'kernel_size', kernel_size, *one_of(KERNEL_SIZES))
    return DeconvolutionHead(num_keypoints, heatmap_size, channels, kernel_size)
