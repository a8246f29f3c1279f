"""Any head on any backbone: each pair gives its heat maps.

There is no pair that cannot be: every backbone has a level of stride 4, and heat maps of a quarter
of the picture fit every head. tests/nets/test_networks.py has what a size that does not fit is
told, and trains some of the pairs.
"""

from __future__ import annotations

import functools
import inspect

import pytest
import tensorflow as tf

import nets
from config import NetworkConfig
from nets.backbones.keras_applications import PREFIX

K = 5
IMAGE_SIZE, HEATMAP_SIZE = (64, 96), (16, 24)
# One network of each family of Keras.
_OF_KERAS = """
    ConvNeXtTiny DenseNet121 EfficientNetB0 EfficientNetV2B0 InceptionResNetV2 InceptionV3 MobileNet
    MobileNetV2 MobileNetV3Small NASNetMobile RegNetX002 RegNetY002 ResNet50 ResNet50V2 ResNetRS50
    VGG16 Xception
"""
OF_KERAS = [PREFIX + name for name in _OF_KERAS.split()]
BACKBONES = [n for n in nets.BACKBONES.names() if not n.startswith(PREFIX)] + OF_KERAS
# How many outputs a head has on so many levels.
NUM_OUTPUTS = {
    'aifashion': lambda levels: 1 + 2,  # the global net's and two stacks'
    'cpn': lambda levels: levels + 1,
    'cpn_17th_place': lambda levels: 2,
    'cpn_deconv': lambda levels: levels + 1,
    'cpn_seresnext': lambda levels: levels + 1,
    'dhn': lambda levels: 1,
    'hourglass': lambda levels: 2,  # stacks
    'hrnet': lambda levels: 1,
    'hrnetv2': lambda levels: 1,
    'simcc': lambda levels: 1,
}


def _thin(factory, **sizes):
    """Return those of these options that the factory has."""
    return {name: n for name, n in sizes.items() if name in inspect.signature(factory).parameters}


def _features(backbone):
    """Return the key, height, width and channels of each level of a thin backbone."""
    factory = nets.BACKBONES.get(backbone)
    with tf.Graph().as_default():
        # senet154 needs 32 for its 64 groups.
        features = factory(**_thin(factory, width=32))(tf.zeros([2, *IMAGE_SIZE, 3]), False)
        return tuple((key, *level.shape[1:]) for key, level in features.items())


@functools.cache  # many backbones have levels of the same shapes
def _output_shapes(head, levels):
    """Return the shapes of what a head makes of levels, all that it sees of a backbone."""
    options = _thin(nets.HEADS.get(head), channels=16, stacks=2, depth=2)
    config = NetworkConfig('resnet18', head, IMAGE_SIZE, HEATMAP_SIZE, head_options=options)
    with tf.Graph().as_default():
        network = nets.build_network(config, K)
        network.backbone = lambda images, training: {
            key: tf.zeros([2, *shape]) for key, *shape in levels
        }
        return [output.shape for output in network(tf.zeros([2, *IMAGE_SIZE, 3]), True)]


def test_every_head_is_here():
    assert set(NUM_OUTPUTS) == set(nets.HEADS.names())


@pytest.mark.slow
@pytest.mark.parametrize('backbone', BACKBONES)
def test_every_head_gives_its_heat_maps_on(backbone):
    levels = _features(backbone)
    for head, num_outputs in NUM_OUTPUTS.items():
        wanted = num_outputs(len(levels)) * [[2, *HEATMAP_SIZE, K]]
        assert _output_shapes(head, levels) == wanted, head
