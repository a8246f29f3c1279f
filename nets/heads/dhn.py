"""DHN: Simple Baselines for Human Pose Estimation and Tracking, Xiao, Wu and Wei, ECCV 2018.

Deconvolutions from the last feature map to the size of the heat maps, then a 1x1 convolution; on
resnet50 at stride 32 with heat maps at stride 4 this is the published network (34.0 M parameters).
Departure: deconvolutions start from He et al.'s variance instead of a standard deviation of 0.001,
which batch norm divides out anyway.
"""

from __future__ import annotations

from nets import layers
from nets.heads import HEADS, heatmap_layer, num_doublings

# From a stride of 32 up to the picture's own size.
MOST_DECONVOLUTIONS = 5


class DeconvolutionHead(layers.Layer):
    """One output, [B, h, w, K], from the deepest feature map; see the module's docstring."""

    def __init__(self, num_keypoints: int, heatmap_size: tuple[int, int], channels: int):
        super().__init__('head')
        self.heatmap_size, self.channels = tuple(heatmap_size), channels
        self.heatmaps = heatmap_layer('heatmaps', num_keypoints, size=1)
        self.deconvolutions = []

    def build(self, features):
        deepest = list(features.values())[-1]
        feature_size = tuple(deepest.shape[1:3])
        count = num_doublings(feature_size, self.heatmap_size, MOST_DECONVOLUTIONS, 'last')
        self.deconvolutions = [
            layers.DeconvNorm(f'head/deconv{n + 1}', self.channels, layers.Window(4, stride=2))
            for n in range(count)
        ]

    def call(self, features, training):
        outputs = list(features.values())[-1]
        for deconvolution in self.deconvolutions:
            outputs = deconvolution(outputs, training)
        return [self.heatmaps(outputs)]


@HEADS.register('dhn')
def dhn(num_keypoints, heatmap_size, channels=256):
    """Args: as of HEADS; channels: Of the deconvolutions."""
    if channels < 1:
        raise ValueError(f'network.head_options: channels={channels}: must be positive')
    return DeconvolutionHead(num_keypoints, heatmap_size, channels)
