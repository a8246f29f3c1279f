"""Experiments as values: the registry of components, the settings, strict overrides, JSON.

Imports the standard library only, so that `--help` and mistakes in a setting answer at once.

Who wins, from weakest to strongest: the default of a field here; the value in the train script;
`--set key=value`. On resume and in the eval scripts `MODEL_DIR/experiment.json` is the experiment.
What could change a published number is a field; what depends on the machine is a flag.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import json
import typing
from collections.abc import Callable, Mapping
from typing import Any

DEFAULT_DATA_DIR = '../Datasets'
DEFAULT_RECORDS_SUBDIR = 'tfrecords'
DEFAULT_LOGS_DIR = 'logs'
EXPERIMENT_FILE = 'experiment.json'

# Published with the ImageNet weights of torchvision, in units of a 0..255 picture.
IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


class Registry:
    """Components of one kind under their names.

    Args:
        kind: What the components are, in the singular, for error messages.
        contract: What every registered component must obey.
    """

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
        if name not in self._entries:
            close = difflib.get_close_matches(name, self._entries, n=1)
            hint = f'; did you mean {close[0]!r}?' if close else ''
            raise ValueError(
                f'unknown {self.kind} {name!r}; known: {", ".join(self.names())}{hint}'
            )
        return self._entries[name]

    def names(self) -> list[str]:
        return sorted(self._entries)


def _require(condition: bool, field: str, value: Any, allowed: str) -> None:
    if not condition:
        raise ValueError(f'{field}={value!r}: must be {allowed}')


@dataclasses.dataclass(frozen=True)
class NetworkConfig:
    """Which network, at which size.

    Attributes:
        backbone: Name in nets.BACKBONES.
        head: Name in nets.HEADS.
        image_size: (height, width) of the network's input, px.
        heatmap_size: (height, width) of the heat maps, cells.
        backbone_options: Keyword arguments of the backbone's factory.
        head_options: Keyword arguments of the head's factory.
        mean: RGB mean of the input in 0..255; belongs to the pre-trained weights.
        std: RGB standard deviation of the input in 0..255; likewise.
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
        for field in ('image_size', 'heatmap_size'):
            value = getattr(self, field)
            _require(min(value) > 0, f'network.{field}', value, 'positive')
        _require(min(self.std) > 0, 'network.std', self.std, 'positive')


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """What is read and how it is augmented.

    Attributes:
        dataset: Name in preprocessing.DATASETS; gives the keypoint schema.
        category: One category of the schema, or 'all'.
        train_ops: Op string of training; {height} and {width} stand for network.image_size.
        eval_ops: Op string of evaluation and prediction.
        batch_size: Pictures per step and replica.
        shuffle_buffer: Records held in memory, still compressed, to shuffle from.
    """

    dataset: str = 'fashionai'
    category: str = 'all'
    train_ops: str = (
        'flip|crop_keep(min_area=0.45)|rotate(30)|scale(0.85,1.15)|shift(0.05)'
        '|letterbox({height},{width})|warp'
        '|color(brightness=0.125,contrast=0.5,saturation=0.5,hue=0.1)'
    )
    eval_ops: str = 'letterbox({height},{width})|warp'
    batch_size: int = 10
    shuffle_buffer: int = 2000

    def __post_init__(self):
        _require(self.batch_size > 0, 'data.batch_size', self.batch_size, 'positive')
        _require(self.shuffle_buffer > 0, 'data.shuffle_buffer', self.shuffle_buffer, 'positive')


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """The loss over the heat maps. Tuples have one entry per output; the last entry is repeated.

    Attributes:
        points: Which points enter the loss: 'visible' (v = 1) or 'annotated' (v >= 0).
        target_scale: Peak of the target heat maps.
        sigmas: Standard deviation of the targets, cells, coarse output to final.
        weights: Weight of each output, coarse to final.
        ohkm: Online hard keypoint mining on the last output: the share of an image's valid points
            that is kept, those of largest loss (Chen et al. 2018, CPN, section 3.2). 1 = all.
    """

    points: str = 'visible'
    target_scale: float = 1.0
    sigmas: tuple[float, ...] = (2.0,)
    weights: tuple[float, ...] = (1.0,)
    ohkm: float = 0.5

    def __post_init__(self):
        _require(
            self.points in ('visible', 'annotated'),
            'loss.points',
            self.points,
            "'visible' or 'annotated'",
        )
        _require(self.target_scale > 0, 'loss.target_scale', self.target_scale, 'positive')
        _require(bool(self.sigmas) and min(self.sigmas) > 0, 'loss.sigmas', self.sigmas, 'positive')
        _require(
            bool(self.weights) and min(self.weights) >= 0,
            'loss.weights',
            self.weights,
            'non-negative',
        )
        _require(0 < self.ohkm <= 1, 'loss.ohkm', self.ohkm, 'in (0, 1]')


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """The optimiser and its schedule.

    Attributes:
        name: Name in utility.optimizers.OPTIMIZERS.
        learning_rate: Base rate.
        momentum: Of 'momentum'; beta_1 of 'adam'.
        weight_decay: Coefficient of the L2 loss on convolution kernels; never on biases or norms.
        warmup_steps: Steps over which the rate rises linearly from warmup_learning_rate.
        warmup_learning_rate: Rate at step 0 when there is a warm-up.
        decay_epochs: Epochs after which the next entry of decay_factors holds.
        decay_factors: Factor on the base rate before the first boundary, after it, ...: one more
            entry than decay_epochs.
        end_learning_rate: The rate never falls below this.
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
        _require(self.learning_rate > 0, 'optimizer.learning_rate', self.learning_rate, 'positive')
        _require(
            self.weight_decay >= 0, 'optimizer.weight_decay', self.weight_decay, 'non-negative'
        )
        _require(
            self.warmup_steps >= 0, 'optimizer.warmup_steps', self.warmup_steps, 'non-negative'
        )
        _require(
            list(self.decay_epochs) == sorted(self.decay_epochs),
            'optimizer.decay_epochs',
            self.decay_epochs,
            'increasing',
        )
        _require(
            len(self.decay_factors) == len(self.decay_epochs) + 1,
            'optimizer.decay_factors',
            self.decay_factors,
            'one entry longer than optimizer.decay_epochs',
        )


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
        _require(self.epochs > 0, 'epochs', self.epochs, 'positive')
        _require(self.epochs_per_eval > 0, 'epochs_per_eval', self.epochs_per_eval, 'positive')

    def resolved_ops(self, ops: str) -> str:
        """An op string of `data` with the network's picture size put in."""
        height, width = self.network.image_size
        return ops.replace('{height}', str(height)).replace('{width}', str(width))

    def override(self, assignment: str) -> Experiment:
        """Returns a copy with one field changed, as in 'optimizer.learning_rate=1e-3'.

        Raises:
            ValueError: The key is unknown, or the value has not the field's type.
        """
        key, equals, text = assignment.partition('=')
        if not equals:
            raise ValueError(f'override {assignment!r}: must look like key=value')
        return _replace(self, key.strip().split('.'), text.strip(), key.strip())

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=2) + '\n'

    @classmethod
    def from_json(cls, text: str) -> Experiment:
        """Inverse of to_json; unknown keys and wrong types are errors, absent keys are defaults."""
        try:
            values = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f'experiment is not JSON: {error}') from error
        return _from_values(cls, values, '')

    def differences(self, other: Experiment) -> list[str]:
        """One line, 'key: here / there', for each field that differs."""
        here, there = _flatten(dataclasses.asdict(self)), _flatten(dataclasses.asdict(other))
        return [
            f'{key}: {here.get(key)!r} / {there.get(key)!r}'
            for key in sorted(here.keys() | there.keys())
            if here.get(key) != there.get(key)
        ]


def _flatten(values: Mapping[str, Any], prefix: str = '') -> dict[str, Any]:
    flat = {}
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            flat.update(_flatten(value, f'{prefix}{name}.'))
        else:
            flat[prefix + name] = value
    return flat


def _unknown_key(key: str, name: str, known: typing.Iterable[str]) -> ValueError:
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1)
    hint = f'; did you mean {close[0]!r}?' if close else ''
    return ValueError(f'unknown setting {key!r}; there are: {", ".join(known)}{hint}')


def _replace(value: Any, path: list[str], text: str, key: str) -> Any:
    """Copy of the dataclass or mapping `value` with the field at `path` parsed from `text`."""
    name, rest = path[0], path[1:]
    if isinstance(value, Mapping):
        if rest:
            raise ValueError(f'unknown setting {key!r}: options have no parts')
        return {**value, name: _literal(text)}
    types = typing.get_type_hints(type(value))
    if name not in types:
        raise _unknown_key(key, name, types)
    current = getattr(value, name)
    if rest:
        if not (dataclasses.is_dataclass(current) or isinstance(current, Mapping)):
            raise ValueError(f'unknown setting {key!r}: {name!r} has no parts')
        return dataclasses.replace(value, **{name: _replace(current, rest, text, key)})
    return dataclasses.replace(value, **{name: _parse(text, types[name], key)})


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return {'true': True, 'false': False}.get(text.lower(), text)


def _parse(text: str, kind: Any, key: str) -> Any:
    """The text of a command line as a value of type `kind`."""
    if kind is str:
        return text
    value = _literal(text)
    if typing.get_origin(kind) is tuple and not isinstance(value, (tuple, list)):
        value = (value,)
    return _check(value, kind, key)


def _check(value: Any, kind: Any, key: str) -> Any:
    """`value` as type `kind`: integers pass as floats and lists as tuples, nothing else bends."""
    origin = typing.get_origin(kind)
    if dataclasses.is_dataclass(kind):
        return _from_values(kind, value, key + '.')
    if origin is tuple and isinstance(value, (tuple, list)):
        kinds = typing.get_args(kind)
        if kinds[-1] is Ellipsis:
            kinds = kinds[:1] * len(value)
        if len(kinds) == len(value):
            return tuple(_check(v, k, key) for v, k in zip(value, kinds))
    elif origin is not None and issubclass(origin, Mapping) and isinstance(value, Mapping):
        return dict(value)
    elif kind is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    elif isinstance(kind, type) and type(value) is kind:
        return value
    name = kind.__name__ if isinstance(kind, type) and origin is None else str(kind)
    raise ValueError(f'{key}={value!r}: must be of type {name}')


def _from_values(cls: type, values: Any, prefix: str) -> Any:
    if not isinstance(values, Mapping):
        raise ValueError(f'{prefix.rstrip(".") or "experiment"}={values!r}: must be an object')
    types = typing.get_type_hints(cls)
    for name in values:
        if name not in types:
            raise _unknown_key(prefix + name, name, types)
    return cls(**{n: _check(v, types[n], prefix + n) for n, v in values.items()})
