"""CPN: Cascaded Pyramid Network, Chen, Wang, Peng, Zhang, Yu and Sun, CVPR 2018.

GlobalNet: from coarse to fine, each level is a 1x1 convolution of its feature map plus, enlarged
and through another 1x1, the level above; each predicts heat maps. RefineNet: bottlenecks, the more
the coarser the level, everything enlarged to the heat maps, joined, and one more bottleneck.
Outputs: one a level, coarse to fine, then the refined one; five on the usual four levels.

cpn is the published network, which resizes bilinearly. Its variants differ in one option each:
    cpn_seresnext: all bottlenecks of RefineNet are those of SE-ResNeXt 32x4d, as in tf.fashionAI's
        'head' networks (head_seresnext50_cpn, head_detnext50_cpn).
    cpn_deconv: levels are enlarged by 4x4 deconvolutions of stride 2, one a doubling, each with
        batch norm and ReLU: on the way down GlobalNet (the 1x1 follows) and before RefineNet joins
        them. Only the heat maps that levels predict are still resized bilinearly.

Departures from the authors' code (chenyilun95/tf-cpn):
    Batch norm instead of a bias in the 1x1 convolution of the enlarged level.
    A bias instead of batch norm after the convolutions that give heat maps, so that the scale of
    the output is not that of a batch.
    Levels of equal size (backbones that hold their stride) are added without a convolution.
    Bilinear with pixel centers at +0.5, as everywhere in this project.
    1x1 convolutions of what was resized are computed before the resize, which gives the same
    function and is faster; see ResizedConv.

Parameters on resnet50: 26,964,353 for 13 keypoints, 27,091,128 for 24. The network of HiKapok's
tf.fashionAI has 26,958,528 and 27,085,248; the difference is
    +   128  batch norm of the stem, which is missing there (in its ResNet and DetNet),
    + 2,048  batch norm after the four 1x1 convolutions of the feature maps (4 * 2 * 256),
    + 1,536  batch norm after the three of the enlarged levels (3 * 2 * 256); on a DetNet, which
             enlarges once, 512,
    + 2,048  batch norm after the four 1x1 convolutions before heat maps (4 * 2 * 256),
    +  5 * K biases of the five convolutions that give heat maps: 65 and 120.
cpn_seresnext has 940,688 fewer than cpn, equally many as there: in each of the seven bottlenecks
142,848 fewer in the 3x3 convolution and 8,464 more to squeeze and excite.
cpn_deconv has 9,441,792 more: 3 + 2 + 1 deconvolutions before RefineNet's join and 3 in GlobalNet,
each of 16 * 256 * 256 and 2 * 256 of its batch norm.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import tensorflow as tf

from config import multiple_of, one_of, require
from nets import layers
from nets.blocks import Bottleneck, BottleneckStyle
from nets.heads.registry import HEADS, SECTION, deconvolutions, heatmap_layer, num_doublings
from nets.layers import KERNEL_3X3, ConvSpec

REFINE_BLOCKS = ('bottleneck', 'seresnext')
UPSAMPLINGS = ('bilinear', 'deconv')
# Heat maps up to four times as fine as the finest level: stride 1 from a level of stride 4.
MOST_DOUBLINGS = 2
# Of a level above the finest, whose stride is at most 128.
MOST_DOUBLINGS_ABOVE = 7
# Of SE-ResNeXt 32x4d: at the width of 128 its groups of 4 channels are 32.
GROUP_SIZE = 4
REDUCTION = 16


@dataclasses.dataclass(frozen=True)
class CpnOptions:
    """See `cpn`."""

    channels: int
    refine_block: str
    upsampling: str

    def __post_init__(self):
        require(self, SECTION, *one_of(REFINE_BLOCKS), 'refine_block')
        require(self, SECTION, *one_of(UPSAMPLINGS), 'upsampling')
        allowed, test = multiple_of(REDUCTION if self.refine_block == 'seresnext' else 2)
        allowed += f' with refine_block={self.refine_block!r}'
        require(self, SECTION, allowed, test, 'channels')

    @property
    def width(self) -> int:
        """Channels inside a bottleneck."""
        return self.channels // 2

    @property
    def bottleneck(self) -> tuple[int, int, ConvSpec, BottleneckStyle]:
        """Arguments of a Bottleneck of RefineNet: width, filters, window, style."""
        if self.refine_block == 'bottleneck':
            return self.width, self.channels, KERNEL_3X3, BottleneckStyle()
        window = ConvSpec(3, groups=self.width // GROUP_SIZE)
        return self.width, self.channels, window, BottleneckStyle(reduction=REDUCTION)


def level_doublings(
    features: dict[str, tf.Tensor], heatmap_size: tuple[int, int]
) -> dict[str, int]:
    """Return how many times each level must double in size to be a heat map, by its key.

    Raises:
        UserError: The heat map is not 1, 2 or 4 times the finest level, or not a power of two
            times another one.
    """
    most = [MOST_DOUBLINGS] + [MOST_DOUBLINGS_ABOVE] * (len(features) - 1)
    return {
        key: num_doublings(tuple(feature.shape[1:3]), heatmap_size, count, key)
        for count, (key, feature) in zip(most, features.items())
    }


class ResizedConv(layers.Conv):
    """1x1 convolution of levels, resized to one size and concatenated: [B, *size, filters].

    It has no bias, so it commutes with the resize: both are linear, one mixes channels and the
    other cells. Each level is convolved at its own, smaller size, levels of the same size as one,
    and the sum of what they contribute is that of the concatenation, up to rounding.
    """

    def __init__(self, path: str, filters: int, size: Sequence[int]):
        super().__init__(path, filters)
        self.size = tuple(size)

    def build(self, levels):
        super().build(tf.TensorSpec([sum(level.shape[-1] for level in levels)]))

    def call(self, levels):
        channels = [level.shape[-1] for level in levels]
        kernels = tf.split(tf.cast(self.kernel, levels[0].dtype), channels, axis=2)
        by_size = {}
        for level, kernel in zip(levels, kernels):
            by_size.setdefault(tuple(level.shape[1:3]), []).append((level, kernel))
        contributions = []
        for pairs in by_size.values():
            same_size, kernels = zip(*pairs)
            outputs = self.convolve(tf.concat(same_size, axis=-1), tf.concat(kernels, axis=2))
            contributions.append(layers.resize(outputs, self.size))
        return tf.add_n(contributions)


class ResizedConvNorm(layers.ConvNorm):
    """ResizedConv, batch norm of its result at full size, activation or None."""

    def __init__(self, path: str, filters: int, size: Sequence[int], activation=layers.relu):
        super().__init__(path, filters, activation=activation)
        self.conv = ResizedConv(path, filters, size)


class Join(Bottleneck):
    """Bottleneck of levels resized to one size and concatenated; its input is their list."""

    def __init__(self, path: str, size: tuple[int, int], options: CpnOptions):
        super().__init__(path, *options.bottleneck)
        self.size = size
        self.branch[0] = ResizedConvNorm(f'{path}/conv1', options.width, size)

    def build(self, levels):
        self.shortcut = ResizedConvNorm(f'{self.path}/shortcut', self.filters, self.size, None)


class GlobalLevel(layers.Layer):
    """One level of GlobalNet.

    `(feature map [B, h, w, C], level above [B, h', w', channels] or None, training)` ->
    level [B, h, w, channels], heat maps [B, h, w, K].

    Args:
        num_deconvolutions: That the level above goes through, of the doublings it needs.
    """

    def __init__(self, key: str, num_keypoints: int, channels: int, num_deconvolutions: int):
        super().__init__(f'head/global/{key}')
        self.channels = channels
        self.lateral = layers.ConvNorm(f'{self.path}/lateral', channels)
        self.deconvolutions = deconvolutions(self.path, channels, num_deconvolutions)
        self.predict = layers.ConvNorm(f'{self.path}/predict', channels)
        self.heatmaps = heatmap_layer(f'heatmaps_{key}', num_keypoints, size=3)

    def build(self, feature):
        size = feature.shape[1:3]
        self.merge = ResizedConvNorm(f'{self.path}/merge', self.channels, size, activation=None)

    def call(self, feature, above, training):
        level = self.lateral(feature, training)
        if above is not None:
            if above.shape[1:3] != level.shape[1:3]:
                for deconvolution in self.deconvolutions:
                    above = deconvolution(above, training)
                above = self.merge([above], training)
            level += above
        return level, self.heatmaps(self.predict(level, training))


class CascadedPyramid(layers.Layer):
    """GlobalNet and RefineNet; see the module's docstring."""

    def __init__(self, num_keypoints: int, heatmap_size: tuple[int, int], options: CpnOptions):
        super().__init__('head')
        self.num_keypoints, self.options = num_keypoints, options
        self.heatmap_size = tuple(heatmap_size)
        self.join = Join('head/refine/join', self.heatmap_size, options)
        self.heatmaps = heatmap_layer('heatmaps', num_keypoints, size=3)

    def build(self, features):
        keys, is_learned = list(features), self.options.upsampling == 'deconv'
        finest = {keys[0]: features[keys[0]]}
        doublings = level_doublings(features if is_learned else finest, self.heatmap_size)
        counts = {key: doublings[key] if is_learned else 0 for key in keys}
        self.levels, self.refinements = {}, {}
        for n, (key, above) in enumerate(zip(keys, [*keys[1:], keys[-1]])):
            step = counts[above] - counts[key]
            self.levels[key] = GlobalLevel(key, self.num_keypoints, self.options.channels, step)
            self.refinements[key] = self._refinement(f'head/refine/{key}', n, counts[key])

    def _refinement(self, path: str, num_bottlenecks: int, num_deconvolutions: int):
        """Return layers of a level of RefineNet, called in turn, each with (inputs, training)."""
        blocks = [
            Bottleneck(f'{path}/block{n + 1}', *self.options.bottleneck)
            for n in range(num_bottlenecks)
        ]
        return [*blocks, *deconvolutions(path, self.options.channels, num_deconvolutions)]

    def call(self, features, training):
        level, refined, outputs = None, [], []
        for key in reversed(list(features)):
            level, heatmaps = self.levels[key](features[key], level, training)
            outputs.append(layers.resize(heatmaps, self.heatmap_size))
            refined.append(level)
            for layer in self.refinements[key]:
                refined[-1] = layer(refined[-1], training)
        return [*outputs, self.heatmaps(self.join(refined, training))]


@HEADS.register('cpn')
def cpn(
    num_keypoints, heatmap_size, channels=256, refine_block='bottleneck', upsampling='bilinear'
):
    """Return the head of the module's docstring.

    Args:
        num_keypoints, heatmap_size: As of HEADS.
        channels: Of all levels; bottlenecks are half as wide inside.
        refine_block: Of RefineNet, 'bottleneck' or 'seresnext'.
        upsampling: Of levels, 'bilinear' or 'deconv'.

    Raises:
        UserError: An option is out of range.
    """
    options = CpnOptions(channels, refine_block, upsampling)
    return CascadedPyramid(num_keypoints, heatmap_size, options)


HEADS.register('cpn_seresnext')(functools.partial(cpn, refine_block='seresnext'))
HEADS.register('cpn_deconv')(functools.partial(cpn, upsampling='deconv'))
