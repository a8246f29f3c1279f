"""The pyramid network of FashionAI 2018's 17th place, in PyTorch by gathierry
(github.com/gathierry/FashionAI-KeyPointsDetectionOfApparel), after CPN (Chen et al., CVPR 2018).

GlobalNet: from coarse to fine, each level is a 1x1 convolution of its feature map plus the level
above, resized bilinearly; a 3x3 convolution follows, which at the finest level gives heat maps.
RefineNet: bottlenecks, the more the coarser the level but at most three, then one deconvolution to
the size of the heat maps, its kernel twice its stride; all joined, a bottleneck, and a 1x1
convolution that gives heat maps. Its finest input are GlobalNet's heat maps. Bottlenecks are a
quarter as wide inside; convolutions outside of them have a bias and neither batch norm nor ReLU.
Outputs, both to be supervised: GlobalNet's heat maps and the refined ones.

The submission is the mean of two networks' heat maps, on resnet152 and senet154, pictures of 512
and heat maps of 128. What was tried on the way is in `variants`, alone or together:
    v3   a second RefineNet reads the first one's heat maps and bottlenecks; three outputs.
    v6   RefineNet resizes bilinearly, a 3x3 convolution follows, instead of deconvolutions.
    v7   deconvolutions enlarge GlobalNet's levels.
    v8   half of the channels are dropped, at random, before the 1x1 convolutions of the feature
         maps and before the last bottleneck (Tompson et al., CVPR 2015).
    v10  bottlenecks instead of GlobalNet's 3x3 convolutions; a 1x1 convolution gives heat maps.
    v12  ReLU after the 1x1 convolutions of the feature maps and after RefineNet's deconvolutions.
    v14  as v12, and the finest level is like the others: another 3x3 convolution predicts its heat
         maps, and RefineNet joins the level itself. With the backbone's levels=(2, 3, 4).
v5 is the head as it is, with the backbone's levels=(1, 2, 3, 4, 5) and heat maps half as large as
the picture; v4, v9 and v15 are other backbones. Not here are v2 (all levels share a subnetwork that
gives heat maps), v11 (a backbone of its own) and v13 (cpn but for its widths and biases).

Departures:
    Heat maps finer than the finest level: GlobalNet's are resized bilinearly, and RefineNet
    enlarges this level as well. Levels of the right size are nowhere enlarged.
    Bilinear with pixel centers at +0.5, as everywhere in this project.
    Deconvolutions start from He et al.'s variance and heat maps near zero; PyTorch's default, which
    they used, gives these 1 / (3 * 256 * size**2), so that coarse levels are next to nothing.

Parameters for 13 keypoints, the same as theirs: 83,225,498 on resnet152, of which
    58,143,808  backbone,
       984,064  1x1 convolutions of four feature maps of 3840 channels in all ((3840 + 4) * 256),
     1,180,160  two 3x3 convolutions (2 * (9 * 256 + 1) * 256),
        29,965  the one that gives heat maps ((9 * 256 + 1) * K),
        58,688  RefineNet's first bottleneck (54,528 + 320 * K),
       422,400  six more, of 70,400 each,
    22,020,864  deconvolutions of 4, 8 and 16 cells ((336 * 256 + 3) * 256),
       382,208  the last bottleneck, of 1024 channels,
         3,341  the 1x1 convolution that gives heat maps ((256 + 1) * K);
138,121,674 on senet154, whose backbone has 113,039,984.
"""

from __future__ import annotations

import dataclasses
import math

import tensorflow as tf

from config import check, multiple_of
from nets import layers
from nets.blocks import Bottleneck
from nets.heads.cpn import level_doublings
from nets.heads.registry import HEADS, SECTION, heatmap_layer
from nets.layers import KERNEL_3X3, POINTWISE, ConvSpec

MOST_BOTTLENECKS = 3


@dataclasses.dataclass(frozen=True)
class Design:
    """What a head is made of, and what variants differ in.

    Attributes:
        num_keypoints, heatmap_size, channels: See `cpn_17th_place`.
        num_refinements: Number of RefineNets (v3).
        resizes_refined: Whether a resize and a convolution replace RefineNet's deconvolutions (v6).
        learns_global: Whether deconvolutions enlarge GlobalNet's levels (v7).
        dropout: Share of channels that is dropped (v8).
        merges_by_bottleneck: Whether bottlenecks replace GlobalNet's 3x3 convolutions (v10).
        has_relu: After 1x1 convolutions of feature maps and enlarged levels of RefineNet (v12).
        separates_heatmaps: Whether heat maps are not the finest level but predicted from it (v14).
    """

    num_keypoints: int
    heatmap_size: tuple[int, int]
    channels: int
    num_refinements: int = 1
    resizes_refined: bool = False
    learns_global: bool = False
    dropout: float = 0.0
    merges_by_bottleneck: bool = False
    has_relu: bool = False
    separates_heatmaps: bool = False

    def convolution(self, path: str, window: ConvSpec, channels: int) -> layers.Conv:
        """Return a convolution with bias, initialized with PyTorch's variance."""
        stddev = math.sqrt(1 / (3 * window.size**2 * channels))
        return layers.Conv(path, self.channels, window, use_bias=True, stddev=stddev)

    def deconvolution(self, path: str, doublings: int) -> layers.Deconv:
        """Return one layer for all doublings, its kernel twice its stride."""
        stride = 2**doublings
        return layers.Deconv(path, self.channels, ConvSpec(2 * stride, stride), use_bias=True)

    def bottleneck(self, path: str) -> Bottleneck:
        """Return a quarter as wide inside as the levels."""
        return Bottleneck(path, self.channels // 4, self.channels)

    def activate(self, inputs: tf.Tensor) -> tf.Tensor:
        """Return [B, h, w, C] -> the same shape."""
        return layers.relu(inputs) if self.has_relu else inputs


VARIANTS = {
    'v3': {'num_refinements': 2},
    'v6': {'resizes_refined': True},
    'v7': {'learns_global': True},
    'v8': {'dropout': 0.5},
    'v10': {'merges_by_bottleneck': True},
    'v12': {'has_relu': True},
    'v14': {'has_relu': True, 'separates_heatmaps': True},
}


class ChannelDropout(layers.Layer):
    """In training zero for whole channels of a picture, the others scaled so that the expected sum
    stays; otherwise, and at a rate of 0, the identity.
    """

    def __init__(self, path: str, rate: float):
        super().__init__(path)
        self.rate = rate

    def call(self, inputs, training):
        if not (training and self.rate):
            return inputs
        shape = [tf.shape(inputs)[0], 1, 1, inputs.shape[-1]]
        return self.drop(inputs, self.rate, shape)


class HeatmapBottleneck(Bottleneck):
    """Bottleneck of heat maps; the layers that read them are 'heatmaps_path/...'."""

    def __init__(self, path: str, heatmaps_path: str, design: Design):
        width = design.channels // 4
        super().__init__(path, width, design.channels)
        self.heatmaps_path = heatmaps_path
        self.branch[0] = layers.ConvNorm(f'{heatmaps_path}/conv1', width)

    def build(self, inputs):
        path = f'{self.heatmaps_path}/shortcut'
        self.shortcut = layers.ConvNorm(path, self.filters, activation=None)


class GlobalLevel(layers.Layer):
    """`(feature map, level above or None, training)` -> level [B, h, w, channels].

    Args:
        doublings: From the level above to this one.
        is_merged: Whether a convolution or bottleneck follows the sum.
    """

    def __init__(self, key: str, design: Design, doublings: int, is_merged: bool):
        super().__init__(f'head/global/{key}')
        self.design = design
        self.dropout = ChannelDropout(f'{self.path}/dropout', design.dropout)
        self.enlarge, self.merge = None, None
        if design.learns_global and doublings:
            self.enlarge = design.deconvolution(f'{self.path}/deconv', doublings)
        if is_merged and design.merges_by_bottleneck:
            self.merge = design.bottleneck(f'{self.path}/merge')
        elif is_merged:
            self.merge = design.convolution(f'{self.path}/merge', KERNEL_3X3, design.channels)

    def build(self, feature):
        path = f'{self.path}/lateral'
        self.lateral = self.design.convolution(path, POINTWISE, feature.shape[-1])

    def call(self, feature, above, training):
        level = self.design.activate(self.lateral(self.dropout(feature, training)))
        if above is not None:
            enlarged = above if self.enlarge is None else self.enlarge(above)
            level += layers.resize(enlarged, level.shape[1:3])
        if isinstance(self.merge, Bottleneck):
            return self.merge(level, training)
        return level if self.merge is None else self.merge(level)


class GlobalNet(layers.Layer):
    """`(features, training)` -> levels by key, heat maps of the size of the finest one."""

    def __init__(self, design: Design):
        super().__init__('head/global')
        self.design = design
        size = 1 if design.merges_by_bottleneck else 3
        self.heatmaps = heatmap_layer('heatmaps_global', design.num_keypoints, size)

    def build(self, features):
        design = self.design
        doublings = level_doublings(features, design.heatmap_size)
        finest, coarsest = list(features)[0], list(features)[-1]
        merges_finest = design.merges_by_bottleneck or design.separates_heatmaps
        self.levels, coarser = {}, coarsest
        for key in reversed(list(features)):
            is_merged = key != coarsest and (key != finest or merges_finest)
            count = doublings[coarser] - doublings[key]
            self.levels[key] = GlobalLevel(key, design, count, is_merged)
            coarser = key

    def call(self, features, training):
        level, levels = None, {}
        for key in reversed(list(features)):
            level = self.levels[key](features[key], level, training)
            levels[key] = level
        return {key: levels[key] for key in features}, self.heatmaps(level)


class RefineNet(layers.Layer):
    """`(levels by key, training)` -> heat maps [B, *heatmap_size, K], levels.

    The levels that it gives have been through bottlenecks but are not enlarged. The first of those
    that it gets, the finest, is heat maps if `reads_heatmaps`.
    """

    def __init__(self, number: int, design: Design):
        super().__init__(f'head/refine{number}')
        self.design = design
        self.reads_heatmaps = number > 1 or not design.separates_heatmaps
        self.dropout = ChannelDropout(f'{self.path}/dropout', design.dropout)
        self.join = design.bottleneck(f'{self.path}/join')
        self.heatmaps = heatmap_layer(f'heatmaps_refine{number}', design.num_keypoints, size=1)

    def build(self, levels):
        design, self.blocks, self.enlarge = self.design, {}, {}
        doublings = level_doublings(levels, design.heatmap_size)
        for n, key in enumerate(levels):
            path = f'{self.path}/{key}'
            count = min(n, MOST_BOTTLENECKS)
            self.blocks[key] = [design.bottleneck(f'{path}/block{i + 1}') for i in range(count)]
            if n == 0 and self.reads_heatmaps:
                reader = f'{self.heatmaps.path}_input'
                self.blocks[key] = [HeatmapBottleneck(f'{path}/block1', reader, design)]
            if doublings[key] and design.resizes_refined:
                self.enlarge[key] = design.convolution(f'{path}/conv', KERNEL_3X3, design.channels)
            elif doublings[key]:
                self.enlarge[key] = design.deconvolution(f'{path}/deconv', doublings[key])

    def call(self, levels, training):
        design, refined, enlarged = self.design, {}, []
        for key, level in levels.items():
            for block in self.blocks[key]:
                level = block(level, training)
            refined[key] = level
            if key in self.enlarge:
                if design.resizes_refined:
                    level = layers.resize(level, design.heatmap_size)
                level = design.activate(self.enlarge[key](level))
            enlarged.append(level)
        joined = self.dropout(tf.concat(enlarged, axis=-1), training)
        return self.heatmaps(self.join(joined, training)), refined


class CascadedPyramid(layers.Layer):
    """GlobalNet and RefineNets; see the module's docstring."""

    def __init__(self, design: Design):
        super().__init__('head')
        self.heatmap_size = design.heatmap_size
        self.global_net = GlobalNet(design)
        self.refine_nets = [RefineNet(n + 1, design) for n in range(design.num_refinements)]

    def call(self, features, training):
        levels, heatmaps = self.global_net(features, training)
        outputs, finest = [layers.resize(heatmaps, self.heatmap_size)], list(features)[0]
        for refine_net in self.refine_nets:
            if refine_net.reads_heatmaps:
                levels = {**levels, finest: heatmaps}
            heatmaps, levels = refine_net(levels, training)
            outputs.append(heatmaps)
        return outputs


@HEADS.register('cpn_17th_place')
def cpn_17th_place(num_keypoints, heatmap_size, channels=256, variants=()):
    """Return the head of the module's docstring.

    Args:
        num_keypoints, heatmap_size: As of HEADS.
        channels: Of all levels; bottlenecks have a quarter of them inside.
        variants: Names of variants, to be combined.

    Raises:
        UserError: An option is out of range.
    """
    check(SECTION, 'channels', channels, *multiple_of(4))
    known = list(VARIANTS)
    allowed = f'some of {", ".join(known)}'
    check(SECTION, 'variants', variants, allowed, lambda names: all(n in known for n in names))
    fields = {name: value for variant in variants for name, value in VARIANTS[variant].items()}
    design = Design(num_keypoints, tuple(heatmap_size), channels, **fields)
    return CascadedPyramid(design)
