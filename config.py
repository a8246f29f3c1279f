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
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Optional

DEFAULT_DATA_DIR = '../Datasets'
DEFAULT_RECORDS_SUBDIR = 'tfrecords'
DEFAULT_LOGS_DIR = 'logs'
EXPERIMENT_FILE = 'experiment.json'
FUSIONS = ('heatmaps', 'keypoints')  # of --fuse


class UserError(ValueError):
    """A mistake of the user: names the argument, its value and what is allowed.

    Commands print its message in one line, without a traceback, and exit with 2.
    """


class Registry:
    """Components of one `kind`, named in the singular, that obey the `contract`."""

    def __init__(self, kind: str, contract: str = ''):
        self.kind = kind
        self.__doc__ = contract
        self._entries: dict[str, Any] = {}

    def register(self, name: str) -> Callable[[Any], Any]:
        """Return a decorator that files a component under `name`; a name can be taken only once."""

        def add(component):
            if name in self._entries:
                raise ValueError(f'{self.kind} {name!r} is registered already')
            self._entries[name] = component
            return component

        return add

    def get(self, name: str) -> Any:
        """Return the component called `name`.

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


# The largest that make sense, far above what is used. Beyond, a process hangs or takes all memory.
MAX_SIDE = 4096  # px of pictures, cells of heat maps
MAX_BATCH = 4096  # pictures a step and replica
MAX_PROCESSES = 1024  # of one machine
MAX_BUFFER = 1_000_000  # records to shuffle from: some 100 GB
MAX_EPOCHS = 100_000
MAX_STEPS = 10**9
MAX_OPTION = 16_384  # any number in the options of a network, such as channels
MAX_SEED = 2**53  # what JSON keeps exactly


# What a value must be, in words, and the test of it: arguments of `check` and `require`.
POSITIVE = ('positive', lambda value: value > 0)
NOT_NEGATIVE = ('not negative', lambda value: value >= 0)
BELOW_ONE = ('in [0, 1)', lambda value: 0 <= value < 1)


def unknown(kind: str, key: str, name: str, known: Iterable[str]) -> UserError:
    """Return the error for a `name` that is not among those known, with the closest that is."""
    known = list(known)
    close = difflib.get_close_matches(str(name), known, n=1)
    hint = f'; did you mean {close[0]!r}?' if close else ''
    return UserError(f'unknown {kind} {key!r}; there are: {", ".join(sorted(known))}{hint}')


def one_of(values: Sequence[Any]) -> tuple[str, Callable[[Any], bool]]:
    """Return the condition, as POSITIVE is one, that a value is one of those given."""
    return f'one of {", ".join(map(str, values))}', list(values).__contains__


def within(low: float, high: float) -> tuple[str, Callable[[Any], bool]]:
    """Return the condition, as POSITIVE is one, that low <= value <= high."""
    return f'from {low:,.12g} to {high:,.12g}', lambda value: low <= value <= high


def at_most(high: float) -> tuple[str, Callable[[Any], bool]]:
    """Return the condition, as POSITIVE is one, that a number is at most this one."""
    return f'at most {high:,.12g}', lambda value: value <= high


def multiple_of(number: int) -> tuple[str, Callable[[Any], bool]]:
    """Return the condition, as POSITIVE is one, that a value is a positive multiple."""
    return f'a positive multiple of {number}', lambda value: value > 0 and value % number == 0


def check(section: str, name: str, value: Any, allowed: str, test: Callable[[Any], bool]) -> None:
    """Refuse a value.

    Args:
        section: What stands before the name in the error, such as 'network.'.
        name: What the value is called.
        allowed: What the value must be, in words.
        test: Whether it is.

    Raises:
        UserError: The value fails the test.
    """
    if not test(value):
        raise UserError(f'{section}{name}={value!r}: must be {allowed}')


def require(config: Any, section: str, allowed: str, test: Callable[[Any], bool], *names: str):
    """Check fields of `config`; each value of a tuple, which must not be empty either."""

    def test_all(value):
        values = value if isinstance(value, tuple) else (value,)
        if value is None:  # follows another setting
            return True
        return bool(values) and all(map(test, values))

    for name in names:
        check(section, name, getattr(config, name), allowed, test_all)


def _is_small(value: Any) -> bool:
    """Return whether no number in it, however nested, is beyond MAX_OPTION."""
    if isinstance(value, (list, tuple)):
        return all(map(_is_small, value))
    return not isinstance(value, (int, float)) or abs(value) <= MAX_OPTION


def flatten(values: Any, key: str = '') -> dict[str, Any]:
    """Return nested mappings as one, with dotted keys; an empty mapping is a value."""
    if not isinstance(values, Mapping) or not values:
        return {key: values}
    parts = [flatten(part, f'{key}.{name}'.lstrip('.')) for name, part in values.items()]
    return {inner: value for part in parts for inner, value in part.items()}


# Python's parser is made for programs: nested deep enough, a text ends the process.
_MAX_LITERAL = 2000  # characters


def parsed_literal(text: str | ast.AST) -> Any:
    """Return the value of a Python literal, as text or parsed.

    Raises:
        ValueError: It is none, or longer than any that makes sense.
    """
    if isinstance(text, str) and len(text) > _MAX_LITERAL:
        raise ValueError(f'{len(text)} characters; at most {_MAX_LITERAL} are read')
    try:
        return ast.literal_eval(text)
    except (SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise ValueError(f'{type(error).__name__}: {error}') from error


def literal(text: str) -> Any:
    """Return the value of a text: a Python literal, true, false, none, or the text itself."""
    try:
        return parsed_literal(text)
    except ValueError:
        return {'true': True, 'false': False, 'none': None}.get(text.lower(), text)


def _typed(value: Any, kind: Any, key: str) -> Any:
    """Return `value` as type `kind`: integers pass as floats, lists and single values as tuples."""
    origin = typing.get_origin(kind)
    if dataclasses.is_dataclass(kind):
        return from_values(kind, value, key + '.')
    if origin is tuple:
        kinds = typing.get_args(kind)
        if kinds[0] is str and isinstance(value, str):  # a,b is no literal, as 1,2 is
            value = [word.strip() for word in value.split(',')]
        parts = value if isinstance(value, (tuple, list)) else (value,)
        if kinds[-1] is Ellipsis:
            kinds = kinds[:1] * len(parts)
        if len(kinds) == len(parts):
            return tuple(_typed(v, k, key) for v, k in zip(parts, kinds))
    elif origin is typing.Union:  # Optional: of what follows another setting unless it is set
        return None if value is None else _typed(value, typing.get_args(kind)[0], key)
    elif origin is not None and issubclass(origin, Mapping) and isinstance(value, Mapping):
        return _plain(value, key)
    elif kind is float and type(value) in (int, float) and abs(value) < 1e300:
        return float(value)  # neither infinite nor NaN, nor an integer that no float holds
    elif kind in (bool, int, str) and type(value) is kind:
        return value
    name = kind.__name__ if isinstance(kind, type) and origin is None else str(kind)
    raise UserError(f'{key}={value!r}: must be of type {name}')


def _plain(options: Mapping[str, Any], key: str) -> dict[str, Any]:
    try:
        return json.loads(json.dumps(options, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise UserError(f'{key}={options!r}: {error}') from error


def from_values(cls: type, values: Any, prefix: str) -> Any:
    """Return a dataclass from its fields, nested; `prefix` is its place, for errors."""
    if not isinstance(values, Mapping):
        raise UserError(f'{prefix.rstrip(".") or "experiment"}={values!r}: must be an object')
    types = typing.get_type_hints(cls)
    for name in values:
        if name not in types:
            raise unknown('setting', f'{prefix}{name}', name, types)
    return cls(**{n: _typed(v, types[n], prefix + n) for n, v in values.items()})


# Published with the ImageNet weights of torchvision, in units of a 0..255 picture.
IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
# Of what weight decay can be asked for: kernels; biases; scale and shift of normalisations.
VARIABLE_KINDS = ('kernel', 'bias', 'norm')
_SHARE = ('in (0, 1]', lambda value: 0 < value <= 1)

NORMS = ('batch', 'frozen', 'group')
_NO_SYNCHRONISED_NORM = (
    'network.norm: synchronised batch norm needs a sum over replicas in the forward pass, which TF '
    "2.15's Estimator cannot build (replica_context.all_reduce fails in it). 'group' norm does not "
    "depend on the batch of a replica; 'frozen' keeps the statistics of pre-trained weights"
)


@dataclasses.dataclass(frozen=True)
class NetworkConfig:
    """Which network, at which size.

    Attributes:
        backbone: Name in nets.BACKBONES.
        head: Name in nets.HEADS.
        image_size: (height, width), px of the input.
        heatmap_size: (height, width), cells of the heat maps; None: image_size / heatmap_stride.
        backbone_options, head_options: Keyword arguments of their factories.
        mean, std: Of the input, RGB in 0..255; they belong to the pre-trained weights.
        norm: What normalises features: 'batch' norm; batch norm with its statistics 'frozen' as in
            the weights to start from, scale and shift still being learned; or 'group' norm.
        head_norm: The same of the head; '': as norm.
        norm_groups: Groups of channels of group norm.
        heatmap_stride: px a cell, of a heatmap_size that is not set.
        freeze_norm_from: Share of the training after which batch norm keeps its statistics, as
            with norm='frozen'; 1: never.
    """

    backbone: str = 'resnet50'
    head: str = 'cpn'
    image_size: tuple[int, int] = (384, 384)
    heatmap_size: Optional[tuple[int, int]] = None
    backbone_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    head_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    norm: str = 'batch'
    head_norm: str = ''
    norm_groups: int = 32
    heatmap_stride: int = 4
    freeze_norm_from: float = 1.0

    def __post_init__(self):
        require(self, 'network.', *POSITIVE, 'std')
        require(self, 'network.', *_SHARE, 'freeze_norm_from')
        sizes = ('image_size', 'heatmap_size', 'norm_groups', 'heatmap_stride')
        require(self, 'network.', *within(1, MAX_SIDE), *sizes)
        for name in ('backbone_options', 'head_options'):
            for key, value in flatten(getattr(self, name), f'network.{name}').items():
                check('', key, value, f'without numbers beyond {MAX_OPTION}', _is_small)
        for name in ('norm', 'norm_of_head'):
            if 'sync' in getattr(self, name):
                raise UserError(_NO_SYNCHRONISED_NORM)
        require(self, 'network.', *one_of(NORMS), 'norm')
        require(self, 'network.', *one_of(('', *NORMS)), 'head_norm')

    @property
    def map_size(self) -> tuple[int, int]:
        """(height, width) of the heat maps, cells: as set, or as it follows from the picture's."""
        follows = tuple(side // self.heatmap_stride for side in self.image_size)
        return self.heatmap_size or follows

    @property
    def norm_of_head(self) -> str:
        return self.head_norm or self.norm

    def frozen(self) -> NetworkConfig:
        """Return the same network, whose batch norm keeps its statistics in training too."""
        norm, head_norm = (
            'frozen' if kind == 'batch' else kind for kind in (self.norm, self.norm_of_head)
        )
        return dataclasses.replace(self, norm=norm, head_norm=head_norm)


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """What is read and how it is augmented.

    Attributes:
        dataset: Name in preprocessing.DATASETS; gives the keypoint schema.
        schema: The keypoint schema of data in a format for any keypoints, as schema_files describes
            it. A training takes it, and the name of the data set, from its records.
        crop_boxes: Whether a training on records with boxes crops to them: 'crop_box' comes before
            the op strings that have no crop of their own.
        category: One category of the schema, or 'all'.
        train_ops, eval_ops: Op strings; {height} and {width} stand for network.image_size.
        late_ops: Op string in place of train_ops in the later part of the training; '': none.
        late_from: Share of the training after which late_ops come.
        batch_size: Pictures per step and replica.
        shuffle_buffer: Records held in memory, still compressed, to shuffle from.
    """

    dataset: str = 'fashionai'
    schema: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    crop_boxes: bool = True
    category: str = 'all'
    train_ops: str = (
        'flip|rotate(20)|scale(0.9,1.1)|letterbox({height},{width})|warp'
        '|color(brightness=0.1,contrast=0.2,saturation=0.2,hue=0.02)'
    )
    eval_ops: str = 'letterbox({height},{width})|warp'
    late_ops: str = ''
    late_from: float = 0.5
    batch_size: int = 10
    shuffle_buffer: int = 2000

    def __post_init__(self):
        require(self, 'data.', *within(1, MAX_BATCH), 'batch_size')
        require(self, 'data.', *within(1, MAX_BUFFER), 'shuffle_buffer')
        require(self, 'data.', *within(0, 1), 'late_from')


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """The loss over the heat maps. Tuples have one entry per output; the last entry is repeated.

    Attributes:
        kind: 'mse': squared error of heat maps. 'balanced_l1': absolute error, foreground and
            background weighing alike. 'adaptive_wing': of Wang et al. 2019, with its weighted map.
            'offset': squared error of a disk around the point and, inside, of the way to it in x
            and y, which the heat map for decoding, with the last of the sigmas, is made of.
            'cross_entropy': the outputs are logits over the cells of a map, compared as a
            distribution with the target's (simcc heads).
        points: Which points enter the loss: 'visible' (v = 1) or 'annotated' (v >= 0).
        target_scale: Peak of the target heat maps.
        peaks: Of the targets of each output, coarse to final, on top of target_scale.
        sigma_shares: Standard deviation of the targets as a share of the shorter side of the heat
            map, coarse output to final: about the same part of a garment at every size.
        sigmas: The same in cells, in place of sigma_shares; None: not set.
        weights: Weight of each output, coarse to final.
        ohkm: Online hard keypoint mining on the last output: the share of the points that count
            that is kept, those of largest loss (Chen et al. 2018, CPN, section 3.2). 1 = all.
        ohkm_over: Of which points that share is: of each 'image', of the 'batch', or of the
            keypoints in the batch, 'keypoint', each with all its points.
        offset_radius: Of the disk of 'offset', cells.
        offset_weight: Of the offsets, next to the disk's.
        category_weight: Of the cross entropy of the category, which the network then tells too: of
            one for several categories. 0: it does not.
        presence_weight: Of the cross entropy of the presence of each point: absent, occluded or
            visible, as annotated, of the points of the picture's category. 0: it is not told.
    """

    kind: str = 'mse'
    points: str = 'visible'
    target_scale: float = 1.0
    sigma_shares: tuple[float, ...] = (1 / 24,)
    sigmas: Optional[tuple[float, ...]] = None
    weights: tuple[float, ...] = (1.0,)
    ohkm: float = 1.0
    ohkm_over: str = 'image'
    offset_radius: float = 3.5
    offset_weight: float = 1.0
    peaks: tuple[float, ...] = (1.0,)
    category_weight: float = 0.0
    presence_weight: float = 0.0

    def __post_init__(self):
        require(self, 'loss.', *one_of(('visible', 'annotated')), 'points')
        require(self, 'loss.', *one_of(('image', 'batch', 'keypoint')), 'ohkm_over')
        require(self, 'loss.', *POSITIVE, 'target_scale', 'sigma_shares', 'sigmas', 'peaks')
        require(self, 'loss.', *POSITIVE, 'offset_radius')
        own = ('weights', 'offset_weight', 'category_weight', 'presence_weight')
        require(self, 'loss.', *NOT_NEGATIVE, *own)
        require(self, 'loss.', *_SHARE, 'ohkm')

    def sigmas_on(self, map_size: Sequence[int]) -> tuple[float, ...]:
        """Return the standard deviations, cells on heat maps of (height, width), as many as set."""
        if self.sigmas is not None:
            return self.sigmas
        return tuple(share * min(map_size) for share in self.sigma_shares)


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """The optimiser.

    Attributes:
        name: 'momentum', 'sgdw', 'adam', 'adamw', or 'tfa/<Name>' of TensorFlow Addons, as
            utility/optim/addons.py lists them.
        learning_rate: The base rate, that the schedule multiplies.
        momentum: Of 'momentum' and 'sgdw'; beta_1 of 'adam' and 'adamw'.
        nesterov: Of 'momentum' and 'sgdw': the gradient is taken ahead (Sutskever et al. 2013).
        beta_2, epsilon: Of 'adam' and 'adamw'.
        options: Keyword arguments of an optimiser of TensorFlow Addons, such as beta_1; not its
            learning rate and weight decay.
        weight_decay: Of 'momentum' and 'adam' the coefficient of an L2 loss, whose gradient is
            added; losses that are shown are without it. Of 'sgdw' and 'adamw' the share, times the
            learning rate, by which weights shrink at each update. Of 'tfa/<Name>' its own decay,
            or an L2 loss where it has none; addons.ACCEPTED tells which.
        decay_kinds: What decays: 'kernel' of convolutions and products, 'bias', 'norm' (scale and
            shift of normalisations, layer scale).
        clip_norm: The gradient of all variables together, that of the L2 loss included, is scaled
            down to this length where it is longer (Pascanu et al. 2013). 0: never.
        accumulate: Batches whose mean gradient makes one update. Each of them is a step; their
            number of pictures is data.batch_size. Batch norm sees each on its own.
        lookahead_steps: Updates after which the weights go back to lookahead_alpha of the way that
            they came since the last time (Zhang et al. 2019, Lookahead; there k and alpha).
            0: never.
        lookahead_alpha: In (0, 1].
    """

    name: str = 'momentum'
    learning_rate: float = 1e-4
    momentum: float = 0.9
    nesterov: bool = False
    beta_2: float = 0.999
    epsilon: float = 1e-8
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    weight_decay: float = 1e-5
    decay_kinds: tuple[str, ...] = ('kernel',)
    clip_norm: float = 0.0
    accumulate: int = 1
    lookahead_steps: int = 0
    lookahead_alpha: float = 0.5

    def __post_init__(self):
        section = 'optimizer.'
        require(self, section, *POSITIVE, 'learning_rate', 'epsilon')
        require(self, section, *within(1, MAX_BATCH), 'accumulate')
        require(self, section, *NOT_NEGATIVE, 'weight_decay', 'clip_norm', 'lookahead_steps')
        require(self, section, *BELOW_ONE, 'momentum', 'beta_2')
        require(self, section, *_SHARE, 'lookahead_alpha')
        require(self, section, *one_of(VARIABLE_KINDS), 'decay_kinds')


# Field of ScheduleConfig -> the only schedules that read it; what is not here all of them do.
_SCHEDULES_THAT_READ = {
    'decay_at': ('step',),
    'decay_epochs': ('step',),
    'decay_factors': ('step',),
    'power': ('polynomial',),
    'flat': ('flat_cosine',),
    'cycle': ('cyclic',),
    'cycle_epochs': ('cyclic',),
    'plateau_patience': ('plateau',),
    'plateau_factor': ('plateau',),
}
# Field of ScheduleConfig -> the one in steps or epochs that takes its place.
_SET_INSTEAD = {'warmup': 'warmup_steps', 'decay_at': 'decay_epochs', 'cycle': 'cycle_epochs'}


@dataclasses.dataclass(frozen=True)
class ScheduleConfig:
    """The learning rate over the training: a pure function of the step and the planned length.

    What is not set in steps or epochs is a share of the training, and follows its length. Steps
    and epochs of the schedule go by updates: with optimizer.accumulate a warm-up of some steps
    takes as many times more batches.

    Attributes:
        name: Name in utility.optim.schedules.SCHEDULES.
        warmup: Share of the training in which the rate rises linearly from warmup_learning_rate.
        warmup_steps: The same in steps, in place of warmup; None: not set.
        decay_at: Of 'step': shares of the training after which the next of decay_factors holds.
        decay_epochs: The same in epochs, in place of decay_at; None: not set.
        decay_factors: Of 'step': factors on the base rate, one more than there are decays.
        end_learning_rate: What the rate never falls below after the warm-up; 'polynomial',
            'cosine', 'flat_cosine' and each cycle of 'cyclic' end there.
        power: Of 'polynomial'. 1: linear.
        flat: Of 'flat_cosine': the share of the training before the rate begins to fall.
        cycle: Of 'cyclic': the length of a cycle, as a share of the training.
        cycle_epochs: The same in epochs, in place of cycle; None: not set.
        plateau_patience: Of 'plateau': evaluations without a new best NE after which the rate is
            multiplied by plateau_factor; the training ends where it would fall below
            end_learning_rate.
        plateau_factor: In (0, 1).
        stop_patience: Evaluations without a new best NE that end the training. 0: none do.
    """

    name: str = 'cosine'
    warmup: float = 0.05
    warmup_steps: Optional[int] = None
    warmup_learning_rate: float = 1e-5
    decay_at: tuple[float, ...] = (0.55, 0.82)
    decay_epochs: Optional[tuple[float, ...]] = None
    decay_factors: tuple[float, ...] = (1.0, 0.2, 0.04)
    end_learning_rate: float = 1e-6
    power: float = 1.0
    flat: float = 0.5
    cycle: float = 0.1
    cycle_epochs: Optional[float] = None
    plateau_patience: int = 3
    plateau_factor: float = 0.1
    stop_patience: int = 0

    def check_effect(self, name: str, key: str) -> None:
        """Refuse a setting that changes nothing, because of the schedule or of another setting.

        Args:
            name: Of the field that is set.
            key: What it is called, for errors, such as 'schedule.power'.

        Raises:
            UserError: It has no effect; says what would give it one.
        """
        section = key[: -len(name)]
        readers = _SCHEDULES_THAT_READ.get(name, (self.name,))
        if self.name not in readers:
            needed = ' or '.join(readers)
            raise UserError(
                f'{key}: has no effect with {section}name={self.name}; set {section}name={needed}, '
                'or leave it out'
            )
        instead = _SET_INSTEAD.get(name)
        if instead and getattr(self, instead) is not None:
            value = getattr(self, instead)
            raise UserError(
                f'{key}: has no effect where {section}{instead}={value!r}; set that, or none for it'
            )

    def __post_init__(self):
        section = 'schedule.'
        positive = ('decay_factors', 'power', 'cycle', 'cycle_epochs', 'plateau_patience')
        require(self, section, *POSITIVE, *positive)
        rates = ('warmup_steps', 'warmup_learning_rate', 'end_learning_rate', 'stop_patience')
        require(self, section, *NOT_NEGATIVE, *rates)
        require(self, section, *_SHARE, 'cycle')
        require(self, section, *BELOW_ONE, 'flat', 'warmup', 'decay_at')
        require(self, section, 'in (0, 1)', lambda value: 0 < value < 1, 'plateau_factor')
        name = 'decay_at' if self.decay_epochs is None else 'decay_epochs'
        decays, factors = getattr(self, name), self.decay_factors
        if sorted(decays) != list(decays):
            raise UserError(f'schedule.{name}={decays!r}: must be in increasing order')
        if len(factors) != len(decays) + 1:
            allowed = f'one longer than schedule.{name}={decays!r}'
            raise UserError(f'schedule.decay_factors={factors!r}: must be {allowed}')


@dataclasses.dataclass(frozen=True)
class AveragingConfig:
    """The average of the weights over the training, which is evaluated in place of the last ones.

    Attributes:
        kind: 'none'; 'ema', an exponential moving average over all steps (Polyak & Juditsky 1992);
            'swa', the plain mean of some steps' weights (Izmailov et al. 2018).
        decay: Of 'ema': the share of the average that a step keeps.
        start: Share of the training before the averaging begins.
        start_epoch: The same in epochs, in place of start; None: not set.
        period: Of 'swa': share of the training between two weights that enter the mean, the first
            of them so much after the start; 0: those at the ends of the cycles of the schedule
            'cyclic'.
        period_epochs: The same in epochs, in place of period; None: not set.
        statistics_batches: Training batches over which the batch-norm statistics of averaged
            weights are estimated; 0: those of the last weights are used.
    """

    kind: str = 'none'
    decay: float = 0.999
    start: float = 0.0
    start_epoch: Optional[float] = None
    period: float = 0.0
    period_epochs: Optional[float] = None
    statistics_batches: int = 100

    def __post_init__(self):
        require(self, 'averaging.', *one_of(('none', 'ema', 'swa')), 'kind')
        require(self, 'averaging.', 'in (0, 1)', lambda value: 0 < value < 1, 'decay')
        numbers = ('start_epoch', 'period_epochs', 'statistics_batches')
        require(self, 'averaging.', *BELOW_ONE, 'start', 'period')
        require(self, 'averaging.', *NOT_NEGATIVE, *numbers)


@dataclasses.dataclass(frozen=True)
class FinetuneConfig:
    """How the network of a category goes on from the one for all: --category=all_then_each.

    Attributes:
        epochs: Passes over the pictures of the category.
        learning_rate_factor: On optimizer.learning_rate.
        schedule: In place of that of the network for all.
        heatmap_layers: The layers that depend on the keypoints are 'copied', as far as they are of
            the category's keypoints, or start 'fresh'. All other layers are copied.
    """

    epochs: float = 28.0
    learning_rate_factor: float = 1.0
    schedule: ScheduleConfig = ScheduleConfig()
    heatmap_layers: str = 'copied'

    def __post_init__(self):
        require(self, 'finetune.', *at_most(MAX_EPOCHS), 'epochs')
        require(self, 'finetune.', *POSITIVE, 'epochs', 'learning_rate_factor')
        require(self, 'finetune.', *one_of(('copied', 'fresh')), 'heatmap_layers')


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Everything that could change a published number.

    Attributes:
        epochs: Passes over the training split.
        evaluations: In the training, at even distances; the last one at its end.
        epochs_per_eval: Epochs between two, in place of evaluations; None: not set. The end of the
            training is always evaluated.
        refine: How heat maps become points: a refine mode of utility.codecs.heatmaps.
        seed: Of the weights, the order of the records and the augmentation.
        starts_from: 'all' where the network of a category goes on from the one for all; set by
            --category=all_then_each.
    """

    network: NetworkConfig = NetworkConfig()
    data: DataConfig = DataConfig()
    loss: LossConfig = LossConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    averaging: AveragingConfig = AveragingConfig()
    finetune: FinetuneConfig = FinetuneConfig()
    epochs: float = 28.0
    evaluations: int = 7
    epochs_per_eval: Optional[float] = None
    refine: str = 'gaussian'
    seed: int = 20180417
    starts_from: str = ''

    def __post_init__(self):
        require(self, '', *POSITIVE, 'epochs', 'epochs_per_eval')
        require(self, '', *at_most(MAX_EPOCHS), 'epochs')
        require(self, '', *within(1, MAX_EPOCHS), 'evaluations')
        require(self, '', *within(-MAX_SEED, MAX_SEED), 'seed')
        require(self, '', *one_of(('', 'all')), 'starts_from')

    def resolved_ops(self, ops: str) -> str:
        """Return an op string of `data` with the network's picture size put in."""
        height, width = self.network.image_size
        return ops.replace('{height}', str(height)).replace('{width}', str(width))

    def override(self, *assignments: str) -> Experiment:
        """Return a copy with fields changed, as in 'optimizer.learning_rate=1e-3', or UserError.

        What fields must have in common is checked when all have changed, in whatever order.
        """
        values = dataclasses.asdict(self)
        for assignment in assignments:
            key, equals, text = (part.strip() for part in assignment.partition('='))
            if not equals:
                raise UserError(f'override {assignment!r}: must look like key=value')
            node = values
            *sections, name = key.split('.')
            for section in sections:
                if not isinstance(node.get(section), dict):
                    raise unknown('setting', key, section, node)
                node = node[section]
            value = literal(text)
            # 'none' is a name where a name stands: averaging.kind.
            node[name] = text if value is None and isinstance(node.get(name), str) else value
        return from_values(Experiment, values, '')

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=2) + '\n'

    @classmethod
    def from_json(cls, text: str) -> Experiment:
        """Return the inverse of to_json, strict; absent keys are defaults."""
        try:
            values = json.loads(text)
        except RecursionError as error:
            raise UserError('nested without end') from error
        return from_values(cls, values, '')

    def differences(self, other: Experiment) -> list[str]:
        """Return one line, 'key: here / there', for each field that differs."""
        here, there = (flatten(json.loads(one.to_json())) for one in (self, other))
        return [
            f'{key}: {here.get(key)!r} / {there.get(key)!r}'
            for key in sorted(here.keys() | there.keys())
            if here.get(key) != there.get(key)
        ]


ALL_THEN_EACH = 'all_then_each'  # of --category
