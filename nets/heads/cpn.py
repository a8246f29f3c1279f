"""CPN: Cascaded Pyramid Network, Chen, Wang, Peng, Zhang, Yu and Sun, CVPR 2018.

GlobalNet: from coarse to fine, each level is a 1x1 convolution of its feature map plus, enlarged
and through another 1x1, the level above; each predicts heat maps. RefineNet: bottlenecks, the more
the coarser the level, everything resized to the heat maps, joined, and one more bottleneck.
Outputs: one a level, coarse to fine, then the refined one.

Departures from the authors' code (chenyilun95/tf-cpn):
    Batch norm instead of a bias in the 1x1 convolution of the enlarged level.
    A bias instead of batch norm after the convolutions that give heat maps, so that the scale of
    the output is not that of a batch.
    Levels of equal size (backbones that hold their stride) are added without a convolution.
    Bilinear with pixel centres at +0.5, as everywhere in this project.
    The last scale of each bottleneck is 0 at first (Goyal et al. 2017, section 5.1).

Parameters on resnet50: 26,964,353 for 13 keypoints, 27,091,128 for 24. The network of HiKapok's
tf.fashionAI has 26,958,528 and 27,085,248; the difference is
    +   128  batch norm of the stem, which is missing there,
    + 2,048  batch norm after the four 1x1 convolutions of the feature maps (4 * 2 * 256),
    + 1,536  batch norm after the three of the enlarged levels (3 * 2 * 256),
    + 2,048  batch norm after the four 1x1 convolutions before heat maps (4 * 2 * 256),
    +  5 * K biases of the five convolutions that give heat maps: 65 and 120.
"""

from __future__ import annotations

import tensorflow as tf

from nets import layers
from nets.blocks import Bottleneck
from nets.heads import HEADS, heatmap_layer, num_doublings

# Heat maps up to four times as fine as the finest level: stride 1 from a level of stride 4.
MOST_DOUBLINGS = 2


class GlobalLevel(layers.Layer):
    """One level of GlobalNet.

    `(feature map [B, h, w, C], level above [B, h', w', channels] or None, training)` ->
    level [B, h, w, channels], heat maps [B, h, w, K].
    """

    def __init__(self, key: str, num_keypoints: int, channels: int):
        super().__init__(f'head/global/{key}')
        self.lateral = layers.ConvNorm(f'{self.path}/lateral', channels)
        self.merge = layers.ConvNorm(f'{self.path}/merge', channels, activation=None)
        self.predict = layers.ConvNorm(f'{self.path}/predict', channels)
        self.heatmaps = heatmap_layer(f'heatmaps_{key}', num_keypoints, size=3)

    def call(self, feature, above, training):
        level = self.lateral(feature, training)
        if above is not None:
            size = level.shape[1:3]
            if above.shape[1:3] != size:
                above = self.merge(layers.resize(above, size), training)
            level += above
        return level, self.heatmaps(self.predict(level, training))


class CascadedPyramid(layers.Layer):
    """GlobalNet and RefineNet; see the module's docstring."""

    def __init__(self, num_keypoints: int, heatmap_size: tuple[int, int], channels: int):
        super().__init__('head')
        self.num_keypoints, self.channels = num_keypoints, channels
        self.heatmap_size = tuple(heatmap_size)
        self.join = Bottleneck('head/refine/join', channels // 2, channels)
        self.heatmaps = heatmap_layer('heatmaps', num_keypoints, size=3)

    def build(self, features):
        keys = list(features)
        finest_size = tuple(features[keys[0]].shape[1:3])
        num_doublings(finest_size, self.heatmap_size, MOST_DOUBLINGS, 'finest')
        self.levels = {key: GlobalLevel(key, self.num_keypoints, self.channels) for key in keys}
        self.refinements = {key: self._bottlenecks(key, n) for n, key in enumerate(keys)}

    def _bottlenecks(self, key: str, count: int) -> list[Bottleneck]:
        paths = [f'head/refine/{key}/block{n + 1}' for n in range(count)]
        return [Bottleneck(path, self.channels // 2, self.channels) for path in paths]

    def call(self, features, training):
        level, refined, outputs = None, [], []
        for key in reversed(list(features)):
            level, heatmaps = self.levels[key](features[key], level, training)
            outputs.append(layers.resize(heatmaps, self.heatmap_size))
            refined.append(self._refine(key, level, training))
        joined = self.join(tf.concat(refined, axis=-1), training)
        return [*outputs, self.heatmaps(joined)]

    def _refine(self, key: str, level: tf.Tensor, training: bool) -> tf.Tensor:
        for bottleneck in self.refinements[key]:
            level = bottleneck(level, training)
        return layers.resize(level, self.heatmap_size)


@HEADS.register('cpn')
def cpn(num_keypoints, heatmap_size, channels=256):
    """Args: as of HEADS; channels: Of all levels; bottlenecks are half as wide inside."""
    if channels < 2 or channels % 2:
        raise ValueError(f'network.head_options: channels={channels}: must be even and positive')
    return CascadedPyramid(num_keypoints, heatmap_size, channels)
