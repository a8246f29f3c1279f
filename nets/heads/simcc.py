"""SimCC: a Simple Coordinate Classification Perspective for Human Pose Estimation, Li et al.,
ECCV 2022.

A keypoint is a choice of one column and one row. From the coarsest feature map, so without any
upsampling: a 1x1 convolution to one map a keypoint, whose cells, in a row, go through a dense layer
to one logit a column and through another to one logit a row; all keypoints share the two. That is
mmpose's SimCCHead without deconvolutions; the authors' code (leeyegy/SimCC) has 28 or 32 maps a
keypoint there. Another feature map is chosen by the backbone's levels: with
backbone_options={'levels': (2, 3, 4)} it is that of stride 16.

The output is the sum of both logits in every cell. Its softmax over the cells is the product of the
softmaxes over columns and rows, and its cross-entropy with a Gaussian, which is such a product as
well, the sum of the two cross-entropies of the paper. Hence the general loss: loss.kind
'cross_entropy', and network.heatmap_size is the number of bins in (y, x). The authors' settings for
COCO have two bins a pixel of a 256 x 192 picture, and Gaussians with a standard deviation of 4
bins; mmpose's of RTMPose (Jiang et al., arXiv:2303.07399) follow sqrt(bins / 16).

Departures:
    The dense layers start near zero, that is with all bins equally likely, and the convolution from
    He et al.'s variance, so that both learn from the first step; mmpose starts from standard
    deviations of 0.01 and 0.001, the authors' code from PyTorch's default and 0.001.
    Logits are computed in float32: in bfloat16 their steps would be larger than the differences
    between neighboring bins.
"""

from __future__ import annotations

import tensorflow as tf

from nets import layers
from nets.heads.registry import HEADS, HEATMAP_STDDEV


@HEADS.register('simcc')
class SimCC(layers.Layer):
    """One output, logits [B, h, w, K], from the coarsest feature map; see the module's docstring.

    Any heatmap_size will do.
    """

    logits = True

    def __init__(self, num_keypoints: int, heatmap_size: tuple[int, int]):
        super().__init__('head')
        self.heatmaps = layers.Conv('head/heatmaps', num_keypoints, use_bias=True)
        self.rows, self.columns = (
            layers.Conv(f'head/{name}', bins, use_bias=True, stddev=HEATMAP_STDDEV)
            for name, bins in zip(('rows', 'columns'), heatmap_size)
        )

    def call(self, features, training):
        maps = self.heatmaps(list(features.values())[-1])
        _, height, width, num_keypoints = maps.shape
        # A dense layer is a pointwise convolution where the cells are the channels.
        cells = tf.reshape(tf.cast(maps, tf.float32), [-1, 1, height * width, num_keypoints])
        cells = tf.transpose(cells, [0, 1, 3, 2])
        rows, columns = (
            tf.transpose(dense(cells), [0, 3, 1, 2]) for dense in (self.rows, self.columns)
        )
        return [rows + tf.transpose(columns, [0, 2, 1, 3])]
