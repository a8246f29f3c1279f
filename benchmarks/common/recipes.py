"""The recipes: what the train scripts of the root train, and variants of them by a few --set."""

from __future__ import annotations

import dataclasses
import importlib
import pathlib
from collections.abc import Sequence

import config
from config import Experiment, UserError

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
_PREFIX = 'train_'
_KERAS_RANGE = ('network.mean=127.5,127.5,127.5', 'network.std=127.5,127.5,127.5')  # -1 to 1
# Networks of the published systems, and others, that differ from a script in a few values: the
# recipe of the script, and what to set.
VARIANTS = {
    'detnext50_cpn': ('detnet50_cpn', 'network.backbone=detnext50'),
    'detnext101_cpn': (
        'detnet50_cpn',
        'network.backbone=detnext101',
        'data.batch_size=4',
        'optimizer.learning_rate=2e-4',
        'epochs=25',
    ),
    'efficientnetv2s_cpn': (
        'resnet50_cpn',
        'network.backbone=keras/EfficientNetV2S',
        'network.mean=128,128,128',
        'network.std=128,128,128',
    ),
    'hourglass_stem_hourglass8': (
        'hourglass_stem_hourglass',
        'network.image_size=256,256',
        'network.head_options.stacks=8',
        'loss.weights=1',
        'epochs=50',
    ),
    'hrnet_w48_hrnet': ('hrnet_w32_hrnet', 'network.backbone=hrnet_w48'),
    'inceptionresnetv2_cpn_17th_place': (
        'resnet152_cpn_17th_place',
        'network.backbone=keras/InceptionResNetV2',
        *_KERAS_RANGE,
    ),
    'nasnetlarge_cpn_17th_place': (
        'resnet152_cpn_17th_place',
        'network.backbone=keras/NASNetLarge',
        *_KERAS_RANGE,
    ),
    'resnet50_cpn_deconv': ('resnet50_cpn', 'network.head=cpn_deconv'),
    'senet154_cpn_17th_place': ('resnet152_cpn_17th_place', 'network.backbone=senet154'),
    'seresnet50_cpn': ('resnet50_cpn', 'network.backbone=seresnet50'),
    'seresnext101_cpn': (
        'seresnext50_cpn',
        'network.backbone=seresnext101_32x4d',
        'data.batch_size=4',
        'optimizer.learning_rate=2e-4',
        'epochs=25',
    ),
    'seresnext50_cpn_seresnext': ('seresnext50_cpn', 'network.head=cpn_seresnext'),
    'seresnext50_dhn': ('seresnext101_dhn', 'network.backbone=seresnext50_32x4d'),
}


def scripts() -> list[str]:
    """Return the recipes with a script: 'resnet50_cpn' is that of train_resnet50_cpn.py."""
    return sorted(path.stem[len(_PREFIX) :] for path in ROOT.glob(f'{_PREFIX}*.py'))


def names() -> list[str]:
    """Return all recipes, variants among them, in alphabetical order."""
    return sorted([*scripts(), *VARIANTS])


def command(name: str) -> str:
    """Return the command that trains a recipe, without its data."""
    recipe, *settings = VARIANTS.get(name, (name,))
    words = [f'python {_PREFIX}{recipe}.py', *(f'--set {setting}' for setting in settings)]
    return ' '.join([*words, f'--model_dir=logs/{name}'] if settings else words)


def select(scripts: Sequence[str]) -> list[str]:
    """Return the recipes of these scripts, given by file or by recipe; none given: all.

    Raises:
        UserError: There is no such script.
    """
    recipe_names = names()
    chosen = [script.strip()[:-3] if script.endswith('.py') else script for script in scripts]
    chosen = [name[len(_PREFIX) :] if name.startswith(_PREFIX) else name for name in chosen]
    for name in chosen:
        if name not in recipe_names:
            raise config.unknown('recipe', name, name, recipe_names)
    return chosen or recipe_names


def load(name: str) -> Experiment:
    """Return what a recipe trains. Imports its script, which runs nothing."""
    recipe, *settings = VARIANTS.get(name, (name,))
    return importlib.import_module(_PREFIX + recipe).EXPERIMENT.override(*settings)


def resized(experiment: Experiment, size: int) -> Experiment:
    """Return the same experiment on square pictures of another size, its maps in the same ratio.

    Args:
        size: Side of the pictures, px.

    Raises:
        UserError: The heat maps would not have a whole number of cells.
    """
    network = experiment.network
    sides = list(zip(network.map_size, network.image_size))
    if any(cells * size % pixels for cells, pixels in sides):
        ratio = f'{network.map_size} cells of {network.image_size} px'
        raise UserError(f'image_size={size}: must keep the ratio of {ratio}')
    small = dataclasses.replace(
        network,
        image_size=(size, size),
        heatmap_size=tuple(cells * size // pixels for cells, pixels in sides),
    )
    return dataclasses.replace(experiment, network=small)
