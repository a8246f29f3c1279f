"""Heads: from feature maps to heat maps."""

from __future__ import annotations

from config import Registry, UserError
from nets import layers, names

HEADS = Registry(
    'head',
    """Name -> factory `f(num_keypoints, heatmap_size, **options) -> module`, with
    `module(features, training) -> heatmaps`.

    The options are the further parameters in the factory's signature, each with a default (no
    `**`), so that a misspelt option can be told from a known one.
    features: what a backbone gives; strides are read from the shapes, never from the keys.
    heatmaps: list of [B, h, w, K] in the size asked for, coarse to final; the last is the
    prediction.
    The names of all variables start with 'head/', those of the layers with K channels with
    'head/heatmaps' (nets/names.py), so that a checkpoint of another schema can leave out exactly
    these.
    A heatmap_size that the features cannot give is a UserError that says which sizes they can.
    A factory whose heat maps are logits over the cells, and nothing without a softmax, has the
    attribute `logits = True`, so that a loss that compares them as they are can be refused.

    To add one: a file in this folder that registers its factory, and its import below.""",
)

# What stands before the name of an option in an error.
SECTION = 'network.head_options: '
# Xiao et al. 2018: heat maps start near zero, which most of every target is.
HEATMAP_STDDEV = 0.001
# From a stride of 32 up to the picture's own size.
MOST_DECONVOLUTIONS = 5


def heatmap_layer(name: str, num_keypoints: int, size: int) -> layers.Conv:
    """Return a last layer, 'head/{name}': size x size convolution with bias to K channels."""
    assert names.is_of_heatmaps(f'head/{name}'), name
    window = layers.ConvSpec(size)
    return layers.Conv(f'head/{name}', num_keypoints, window, use_bias=True, stddev=HEATMAP_STDDEV)


def deconvolutions(path: str, filters: int, count: int, size: int = 4) -> list[layers.DeconvNorm]:
    """Return layers 'path/deconv1', ..., of which each doubles the height and width."""
    window = layers.ConvSpec(size, stride=2)
    return [layers.DeconvNorm(f'{path}/deconv{n + 1}', filters, window) for n in range(count)]


def num_doublings(
    feature_size: tuple[int, int], heatmap_size: tuple[int, int], most: int, level: str
) -> int:
    """Return how many times a feature map must double in size to be a heat map.

    Args:
        feature_size: (height, width) of the feature map, cells.
        heatmap_size: (height, width) of the heat map, cells.
        most: The largest number of doublings allowed.
        level: Which feature map it is, for the error.

    Raises:
        UserError: The heat map is not 1, 2, 4, ... 2**most times the feature map.
    """
    fitting = [tuple(side * 2**n for side in feature_size) for n in range(most + 1)]
    if tuple(heatmap_size) not in fitting:
        raise UserError(
            f'network.heatmap_size={tuple(heatmap_size)}: does not fit the {level} feature map of '
            f'{tuple(feature_size)} cells; sizes that do: {", ".join(map(str, fitting))}'
        )
    return fitting.index(tuple(heatmap_size))
