"""Experiments as values: the registry of components, the settings, strict overrides, JSON.

Imports the standard library only, so that `--help` and mistakes in a setting answer at once.
Who wins, from weakest to strongest: the default of a field here; the value in the train script;
`--set key=value`. On resume and in the eval scripts `MODEL_DIR/experiment.json` is the experiment.
What could change a published number is a field; what depends on the machine is a flag.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import Any

from settings import NOT_NEGATIVE, POSITIVE, flatten, from_values, literal, require, unknown

DEFAULT_DATA_DIR = '../Datasets'
DEFAULT_RECORDS_SUBDIR = 'tfrecords'
DEFAULT_LOGS_DIR = 'logs'
EXPERIMENT_FILE = 'experiment.json'
# Published with the ImageNet weights of torchvision, in units of a 0..255 picture.
IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


class Registry:
    """Components of one `kind`, named in the singular, that obey the `contract`."""

    def __init__(self, kind: str, contract: str = ''):
        self.kind = kind
        self.__doc__ = contract
        self._entries: dict[str, Any] = {}

    def register(self, name: str) -> Callable[[Any], Any]:
        """Decorator that files a component under `name`; a name can be taken only once."""

        def add(component):
            if name in self._entries:
                raise ValueError(f'{self.kind} {name!r} is registered already')
            self._entries[name] = component
            return component

        return add

    def get(self, name: str) -> Any:
        """The component called `name`.

        Names of the form 'family/name' are many: the error lists those of the family asked for.
        """
        if name in self._entries:
            return self._entries[name]
        families = {known: known.rpartition('/')[0] for known in self._entries}
        asked = name.rpartition('/')[0]
        listed = {
            known if family == asked else f'{family}/...'
            for known, family in families.items()
            if family or not asked
        }
        raise unknown(self.kind, name, name, listed if asked in families.values() else families)

    def names(self) -> list[str]:
        return sorted(self._entries)


@dataclasses.dataclass(frozen=True)
class NetworkConfig:
    """Which network, at which size.

    Attributes:
        backbone: Name in nets.BACKBONES.
        head: Name in nets.HEADS.
        image_size, heatmap_size: (height, width), px of the input and cells of the heat maps.
        backbone_options, head_options: Keyword arguments of their factories.
        mean, std: Of the input, RGB in 0..255; they belong to the pre-trained weights.
    """

    backbone: str = 'resnet50'
    head: str = 'cpn'
    image_size: tuple[int, int] = (384, 384)
    heatmap_size: tuple[int, int] = (96, 96)
    backbone_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    head_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    def __post_init__(self):
        require(self, 'network.', *POSITIVE, 'image_size', 'heatmap_size', 'std')


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """What is read and how it is augmented.

    Attributes:
        dataset: Name in preprocessing.DATASETS; gives the keypoint schema.
        category: One category of the schema, or 'all'.
        train_ops, eval_ops: Op strings; {height} and {width} stand for network.image_size.
        batch_size: Pictures per step and replica.
        shuffle_buffer: Records held in memory, still compressed, to shuffle from.
    """

    dataset: str = 'fashionai'
    category: str = 'all'
    train_ops: str = (
        'flip|rotate(30)|crop_keep(min_area=0.45)|scale(0.85,1.15)|shift(0.05)'
        '|letterbox({height},{width})|warp'
        '|color(brightness=0.125,contrast=0.5,saturation=0.5,hue=0.1)'
    )
    eval_ops: str = 'letterbox({height},{width})|warp'
    batch_size: int = 10
    shuffle_buffer: int = 2000

    def __post_init__(self):
        require(self, 'data.', *POSITIVE, 'batch_size', 'shuffle_buffer')


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """The loss over the heat maps. Tuples have one entry per output; the last entry is repeated.

    Attributes:
        kind: 'mse': squared error of heat maps. 'cross_entropy': the outputs are logits over the
            cells of a map, compared as a distribution with the target's (simcc heads).
        points: Which points enter the loss: 'visible' (v = 1) or 'annotated' (v >= 0).
        target_scale: Peak of the target heat maps.
        sigmas: Standard deviation of the targets, cells, coarse output to final.
        weights: Weight of each output, coarse to final.
        ohkm: Online hard keypoint mining on the last output: the share of an image's valid points
            that is kept, those of largest loss (Chen et al. 2018, CPN, section 3.2). 1 = all.
    """

    kind: str = 'mse'
    points: str = 'visible'
    target_scale: float = 1.0
    sigmas: tuple[float, ...] = (2.0,)
    weights: tuple[float, ...] = (1.0,)
    ohkm: float = 0.5

    def __post_init__(self):
        kinds, points = ('mse', 'cross_entropy'), ('visible', 'annotated')
        require(self, 'loss.', ' or '.join(kinds), kinds.__contains__, 'kind')
        require(self, 'loss.', ' or '.join(points), points.__contains__, 'points')
        require(self, 'loss.', *POSITIVE, 'target_scale', 'sigmas')
        require(self, 'loss.', *NOT_NEGATIVE, 'weights')
        require(self, 'loss.', 'in (0, 1]', lambda value: 0 < value <= 1, 'ohkm')


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """The optimiser and its schedule.

    Attributes:
        name: Name in utility.optimizers.OPTIMIZERS.
        learning_rate, end_learning_rate: The base rate, and what the rate never falls below.
        momentum: Of 'momentum'; beta_1 of 'adam'.
        weight_decay: Coefficient of the L2 loss on convolution kernels; never on biases or norms.
        warmup_steps: Over which the rate rises linearly from warmup_learning_rate.
        decay_epochs: Epochs after which the next of decay_factors holds.
        decay_factors: Factors on the base rate, one more than decay_epochs.
    """

    name: str = 'momentum'
    learning_rate: float = 1e-4
    momentum: float = 0.9
    weight_decay: float = 1e-5
    warmup_steps: int = 100
    warmup_learning_rate: float = 1e-5
    decay_epochs: tuple[float, ...] = (10.0, 20.0)
    decay_factors: tuple[float, ...] = (1.0, 0.5, 0.1)
    end_learning_rate: float = 1e-6

    def __post_init__(self):
        require(self, 'optimizer.', *POSITIVE, 'learning_rate', 'decay_factors')
        require(self, 'optimizer.', *NOT_NEGATIVE, 'weight_decay', 'warmup_steps')
        require(self, 'optimizer.', 'in [0, 1)', lambda value: 0 <= value < 1, 'momentum')
        epochs, factors = self.decay_epochs, self.decay_factors
        if sorted(epochs) != list(epochs):
            raise ValueError(f'optimizer.decay_epochs={epochs!r}: must be in increasing order')
        if len(factors) != len(epochs) + 1:
            allowed = f'one longer than optimizer.decay_epochs={epochs!r}'
            raise ValueError(f'optimizer.decay_factors={factors!r}: must be {allowed}')


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Everything that could change a published number.

    Attributes:
        epochs: Passes over the training split.
        epochs_per_eval: Epochs between two evaluations; the last epoch is always evaluated.
        refine: How heat maps become points: a refine mode of utility.heatmaps.
        seed: Of the weights, the order of the records and the augmentation.
    """

    network: NetworkConfig = NetworkConfig()
    data: DataConfig = DataConfig()
    loss: LossConfig = LossConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    epochs: float = 28.0
    epochs_per_eval: float = 7.0
    refine: str = 'dark'
    seed: int = 20180417

    def __post_init__(self):
        require(self, '', *POSITIVE, 'epochs', 'epochs_per_eval')

    def resolved_ops(self, ops: str) -> str:
        """An op string of `data` with the network's picture size put in."""
        height, width = self.network.image_size
        return ops.replace('{height}', str(height)).replace('{width}', str(width))

    def override(self, assignment: str) -> Experiment:
        """A copy with one field changed, as in 'optimizer.learning_rate=1e-3', or ValueError."""
        key, equals, text = (part.strip() for part in assignment.partition('='))
        if not equals:
            raise ValueError(f'override {assignment!r}: must look like key=value')
        values = node = dataclasses.asdict(self)
        *sections, name = key.split('.')
        for section in sections:
            if not isinstance(node.get(section), dict):
                raise unknown('setting', key, section, node)
            node = node[section]
        node[name] = literal(text)
        return from_values(Experiment, values, '')

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=2) + '\n'

    @classmethod
    def from_json(cls, text: str) -> Experiment:
        """Inverse of to_json; unknown keys and wrong types are errors, absent keys are defaults."""
        return from_values(cls, json.loads(text), '')

    def differences(self, other: Experiment) -> list[str]:
        """One line, 'key: here / there', for each field that differs."""
        here, there = (flatten(json.loads(one.to_json())) for one in (self, other))
        return [
            f'{key}: {here.get(key)!r} / {there.get(key)!r}'
            for key in sorted(here.keys() | there.keys())
            if here.get(key) != there.get(key)
        ]
