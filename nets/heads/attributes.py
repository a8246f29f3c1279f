"""What else a network tells of a picture than where its points are: category and presence.

Category: a 1x1 convolution on the deepest features, their mean, and a linear classifier. It is
given nothing of the picture but its pixels.

Presence, of each point one of absent, occluded and visible, from three parts, each a linear
classifier, whose logits are added: the same mean of the deepest features; what lies where the point
attends to, by a softmax over the cells of the last feature map of at least _LOCAL_CELLS cells; and
the peaks of the heat maps. The heat maps learn nothing from it.

There is no normalization in these layers, so that frozen statistics and those of averaged weights
are not asked for here. The weights of the classifiers start at 0: every answer is equally likely.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import tensorflow as tf

from nets import layers, names

# What a point may be, in the order of the probabilities; visibility is the place less 1.
PRESENCES = ('absent', 'occluded', 'visible')

_CHANNELS = 256  # of the deepest features before their mean
_LOCAL_CHANNELS = 64  # of what a point attends to
_LOCAL_CELLS = 64  # 8 x 8: fewer do not tell one cuff from another


class AttributeSizes(NamedTuple):
    """What an AttributeHead tells.

    Attributes:
        num_categories: C, or 0: no category.
        num_keypoints: K of the points whose presence is told, or 0: none.
    """

    num_categories: int = 0
    num_keypoints: int = 0


NO_ATTRIBUTES = AttributeSizes()


class AttributeLogits(NamedTuple):
    """What an AttributeHead gives; None for what is not told.

    Attributes:
        category: float32 [B, C].
        presence: float32 [B, K, 3], in the order of PRESENCES.
    """

    category: tf.Tensor | None = None
    presence: tf.Tensor | None = None


class AttributeHead(layers.Layer):
    """The layers of the module's docstring."""

    def __init__(self, sizes: AttributeSizes):
        super().__init__(names.ATTRIBUTES)
        self.sizes = sizes
        path = self.path
        self.hidden = layers.Conv(f'{path}/hidden', _CHANNELS, use_bias=True)
        if sizes.num_categories:
            self.category = _classifier(f'{path}/category', sizes.num_categories)
        if sizes.num_keypoints:
            self.presence = PresenceHead(f'{path}/presence', sizes.num_keypoints)

    def call(self, features: Mapping[str, tf.Tensor], heatmaps: tf.Tensor) -> AttributeLogits:
        levels = list(features.values())
        mean = layers.global_average_pool(tf.nn.relu(self.hidden(levels[-1])))
        mean = tf.cast(mean, tf.float32)  # [B, 1, 1, channels]
        category = presence = None
        if self.sizes.num_categories:
            category = self.category(mean)[:, 0, 0]
        if self.sizes.num_keypoints:
            presence = self.presence(_local(levels), mean, tf.stop_gradient(heatmaps))
        return AttributeLogits(category, presence)


class PresenceHead(layers.Layer):
    """Logits [B, K, 3] from local features, the mean of the deepest and heat maps."""

    def __init__(self, path: str, num_keypoints: int):
        super().__init__(path)
        self.num_keypoints = num_keypoints
        self.attention = _classifier(f'{path}/attention', num_keypoints)
        self.hidden = layers.Conv(f'{path}/hidden', _LOCAL_CHANNELS, use_bias=True)
        num_logits = num_keypoints * len(PRESENCES)
        self.of_mean = _classifier(f'{path}/of_mean', num_logits)
        self.of_peaks = _classifier(f'{path}/of_peaks', num_logits)

    def build(self, inputs):
        del inputs
        shape = [self.num_keypoints, _LOCAL_CHANNELS, len(PRESENCES)]
        self.kernel = self.add_variable('kernel', shape)

    def call(self, local, mean, heatmaps):
        cells = math.prod(local.shape[1:3])
        attention = tf.reshape(self.attention(local), [-1, cells, self.num_keypoints])
        attention = tf.nn.softmax(tf.cast(attention, tf.float32), axis=1)
        hidden = tf.reshape(tf.nn.relu(self.hidden(local)), [-1, cells, _LOCAL_CHANNELS])
        attended = tf.matmul(attention, tf.cast(hidden, tf.float32), transpose_a=True)
        peaks = tf.reduce_max(heatmaps, axis=[1, 2], keepdims=True)
        shape = [-1, self.num_keypoints, len(PRESENCES)]
        rest = tf.reshape(self.of_mean(mean) + self.of_peaks(peaks), shape)
        return tf.reduce_sum(attended[..., tf.newaxis] * self.kernel, axis=2) + rest


def _classifier(path: str, num_logits: int) -> layers.Conv:
    """Return a linear classifier of each cell, which at first has no preference."""
    return layers.Conv(path, num_logits, use_bias=True, stddev=0.0)


def _local(levels: list[tf.Tensor]) -> tf.Tensor:
    """Return the deepest of the levels that has enough cells, or the finest."""
    enough = [level for level in levels if math.prod(level.shape[1:3]) >= _LOCAL_CELLS]
    return enough[-1] if enough else levels[0]
