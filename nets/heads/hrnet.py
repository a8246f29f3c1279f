"""The two heads of HRNet, for any backbone.

'hrnet': one 1x1 convolution on the finest feature map (Sun, Xiao, Liu and Wang, CVPR 2019). It
needs no other, so the backbone should not build them: backbone_options={'levels': (2,)}.

'hrnetv2': all feature maps brought to the size of the finest, bilinearly, and joined; a 1x1
convolution with batch norm and ReLU, and one more (Wang et al., TPAMI 2020, facial landmarks).
Departure: no bias before the batch norm.
"""

from __future__ import annotations

import tensorflow as tf

from config import NOT_NEGATIVE, check
from nets import layers
from nets.heads.registry import HEADS, SECTION, heatmap_layer, num_doublings


class FinestHead(layers.Layer):
    """One output, [B, h, w, K], from the finest feature map; see the module's docstring."""

    def __init__(self, num_keypoints: int, heatmap_size: tuple[int, int]):
        super().__init__('head')
        self.heatmap_size = tuple(heatmap_size)
        self.heatmaps = heatmap_layer('heatmaps', num_keypoints, size=1)

    def call(self, features, training):
        return [self.heatmaps(self._finest(features))]

    def _finest(self, features) -> tf.Tensor:
        finest = next(iter(features.values()))
        num_doublings(tuple(finest.shape[1:3]), self.heatmap_size, most=0, level='finest')
        return finest


class JoinedHead(FinestHead):
    """One output, [B, h, w, K], from all feature maps; see the module's docstring."""

    def __init__(self, num_keypoints: int, heatmap_size: tuple[int, int], channels: int):
        super().__init__(num_keypoints, heatmap_size)
        self.channels = channels

    def build(self, features):
        num_joined = sum(feature.shape[-1] for feature in features.values())
        self.join = layers.ConvNorm('head/join', self.channels or num_joined)

    def call(self, features, training):
        size = self._finest(features).shape[1:3]
        resized = [layers.resize(feature, size) for feature in features.values()]
        return [self.heatmaps(self.join(tf.concat(resized, axis=-1), training))]


HEADS.register('hrnet')(FinestHead)


@HEADS.register('hrnetv2')
def hrnetv2(num_keypoints, heatmap_size, channels=0):
    """Return the second head of the module's docstring.

    Args:
        num_keypoints, heatmap_size: As of HEADS.
        channels: Of the first 1x1; 0: as many as are joined, as published.

    Raises:
        UserError: channels is negative.
    """
    check(SECTION, 'channels', channels, *NOT_NEGATIVE)
    return JoinedHead(num_keypoints, heatmap_size, channels)
