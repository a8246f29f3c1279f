"""Every train script of the root: its experiment fits together, and its network can learn."""

from __future__ import annotations

import re

import pytest
import tensorflow as tf

import nets
from benchmarks import networks, overfit
from benchmarks.common import recipes
from config import Experiment
from preprocessing.datasets import schema_of
from preprocessing.ops.op_string import parse_ops
from utility.codecs.heatmaps import HeatmapCodec
from utility.losses import heatmap_loss
from utility.optim.schedules import Length, learning_rate
from utility.optim.training_step import OPTIMIZERS

NAMES = recipes.names()
EXPERIMENTS = {name: recipes.load(name) for name in NAMES}
# Their graphs take 3 to 12 s to make; a smaller network of the same family is made every time,
# except of Keras's, which have tests of their own.
LARGE = re.compile('keras/.*|.*101.*|hrnet_w48|senet154')
MANY_STACKS = 5


def _is_large(network):
    stacks = network.head_options.get('stacks', 0)
    return bool(LARGE.fullmatch(network.backbone)) or stacks > MANY_STACKS


def _named(name):
    marks = [pytest.mark.slow] if _is_large(EXPERIMENTS[name].network) else []
    return pytest.param(name, marks=marks)


def test_the_published_systems_have_their_recipes():
    published = {'resnet50_cpn', 'detnet50_cpn', 'seresnext101_dhn', 'resnet101_aifashion'}
    assert published <= set(NAMES)


def test_each_variant_is_in_the_page_of_networks_with_its_command():
    page = (recipes.ROOT / 'docs/networks.md').read_text()
    assert page.endswith(networks.variants())
    assert not set(recipes.VARIANTS) & set(recipes.scripts())


def fits_name(name, backbone, head):
    """Return the rule of names: the backbone's name, or the beginning of it, then the head's, a '_'
    between; case, underscores and 'keras/' in a backbone's name do not matter, another name of the
    same backbone will do, and a number after the head's tells of its stacks.
    """
    found = re.fullmatch(f'(.+)_{head}[0-9]*', name)
    if not found:
        return False
    own = found[1]
    if own in nets.BACKBONES.names():
        return nets.BACKBONES.get(own) is nets.BACKBONES.get(backbone)
    letters = backbone.split('/')[-1].lower().replace('_', '')
    return letters.startswith(own.lower().replace('_', ''))


@pytest.mark.parametrize('name', NAMES)
def test_a_recipe_is_called_after_its_backbone_and_head(name):
    network = EXPERIMENTS[name].network
    assert fits_name(name, network.backbone, network.head)


@pytest.mark.parametrize(
    ('name', 'backbone', 'head', 'fits'),
    [
        ('resnet50_cpn', 'resnet50', 'cpn', True),
        ('resnet50_cpn', 'resnet101', 'cpn', False),
        ('resnet50_cpn', 'resnet50', 'dhn', False),
        ('seresnext50_cpn', 'seresnext50_32x4d', 'cpn', True),
        ('efficientnetv2s_cpn', 'keras/EfficientNetV2S', 'cpn', True),
        ('efficientnetv2m_cpn', 'keras/EfficientNetV2S', 'cpn', False),
        ('detnet50_cpn', 'detnet59', 'cpn', True),
        ('resnet18_hourglass8', 'resnet18', 'hourglass', True),
        ('resnet18_cpn_deconv', 'resnet18', 'cpn_deconv', True),
        ('resnet18_cpn_deconv', 'resnet18', 'cpn', False),
    ],
)
def test_the_rule_of_names_tells_names_apart(name, backbone, head, fits):
    assert fits_name(name, backbone, head) == fits


@pytest.mark.parametrize('name', [_named(name) for name in NAMES])
def test_the_network_of_a_recipe_fits_its_sizes_and_its_loss(name):
    experiment = EXPERIMENTS[name]
    network = experiment.network
    num_keypoints = schema_of(experiment.data).num_keypoints
    with tf.Graph().as_default():
        images = tf.zeros([1, *network.image_size, 3])
        outputs = nets.build_network(network, num_keypoints)(images, True)
    assert outputs[-1].shape == [1, *network.map_size, num_keypoints]
    # One for all, or one for each: an entry that is repeated for some only is a mistake.
    assert len(experiment.loss.sigmas_on(network.map_size)) in (1, len(outputs))
    assert len(experiment.loss.weights) in (1, len(outputs))


@pytest.mark.parametrize('name', NAMES)
def test_the_values_of_a_recipe_are_known(name):
    experiment = EXPERIMENTS[name]
    assert experiment.differences(Experiment.from_json(experiment.to_json())) == []
    for ops in (experiment.data.train_ops, experiment.data.eval_ops):
        assert parse_ops(experiment.resolved_ops(ops))
    network = experiment.network
    HeatmapCodec(network.image_size, network.map_size, refine=experiment.refine)
    OPTIMIZERS.get(experiment.optimizer.name)
    heatmap_loss.LOSSES.get(experiment.loss.kind)


@pytest.mark.parametrize('name', NAMES)
def test_a_recipe_needs_no_scaling_for_another_length_and_size(name):
    """--set epochs and network.image_size are enough: all else follows them."""
    recipe = EXPERIMENTS[name]
    small = recipe.override('epochs=0.5', 'network.image_size=128,128')
    before, after = recipe.network, small.network
    for cells, new_cells, side in zip(before.map_size, after.map_size, before.image_size):
        assert new_cells * side == cells * 128
    factor = after.map_size[0] / before.map_size[0]
    expected = [factor * sigma for sigma in recipe.loss.sigmas_on(before.map_size)]
    assert small.loss.sigmas_on(after.map_size) == pytest.approx(expected)
    # A short training: 60 steps, of which the first are a warm-up and the last are slow.
    length, base = Length(60, 120.0), small.optimizer.learning_rate
    steps = tf.range(60)
    rates = learning_rate(small.optimizer, small.schedule, steps, length).numpy() / base
    assert rates[0] < 0.5 and rates.max() > 0.95 and rates[-1] < 0.05


@pytest.mark.slow
@pytest.mark.parametrize('name', NAMES)
def test_recipe_overfits_four_pictures(name):
    options = overfit.Options()
    row = overfit.overfit(name, options)
    assert overfit.has_learnt(row, options), row
