"""Experiments as values: the registry of components, the settings, strict overrides, JSON.

Imports the standard library only, so that `--help` and mistakes in a setting answer at once.
Who wins, from weakest to strongest: the default of a field here; the value in the train script;
`--set key=value`. On resume and in the eval scripts `MODEL_DIR/experiment.json` is the experiment.
What could change a published number is a field; what depends on the machine is a flag.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

from sections import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    AveragingConfig,
    DataConfig,
    FinetuneConfig,
    LossConfig,
    NetworkConfig,
    OptimizerConfig,
    ScheduleConfig,
)
from settings import POSITIVE, flatten, from_values, literal, one_of, require, unknown

__all__ = [
    'DEFAULT_DATA_DIR',
    'DEFAULT_LOGS_DIR',
    'DEFAULT_RECORDS_SUBDIR',
    'EXPERIMENT_FILE',
    'IMAGENET_MEAN',
    'IMAGENET_STD',
    'AveragingConfig',
    'DataConfig',
    'Experiment',
    'FinetuneConfig',
    'LossConfig',
    'NetworkConfig',
    'OptimizerConfig',
    'Registry',
    'ScheduleConfig',
]

DEFAULT_DATA_DIR = '../Datasets'
DEFAULT_RECORDS_SUBDIR = 'tfrecords'
DEFAULT_LOGS_DIR = 'logs'
EXPERIMENT_FILE = 'experiment.json'


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
class Experiment:
    """Everything that could change a published number.

    Attributes:
        epochs: Passes over the training split.
        epochs_per_eval: Epochs between two evaluations; the last epoch is always evaluated.
        refine: How heat maps become points: a refine mode of utility.heatmaps.
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
    epochs_per_eval: float = 7.0
    refine: str = 'gaussian'
    seed: int = 20180417
    starts_from: str = ''

    def __post_init__(self):
        require(self, '', *POSITIVE, 'epochs', 'epochs_per_eval')
        require(self, '', *one_of(('', 'all')), 'starts_from')

    def resolved_ops(self, ops: str) -> str:
        """An op string of `data` with the network's picture size put in."""
        height, width = self.network.image_size
        return ops.replace('{height}', str(height)).replace('{width}', str(width))

    def override(self, *assignments: str) -> Experiment:
        """A copy with fields changed, as in 'optimizer.learning_rate=1e-3', or ValueError.

        What fields must have in common is checked when all have changed, in whatever order.
        """
        values = dataclasses.asdict(self)
        for assignment in assignments:
            key, equals, text = (part.strip() for part in assignment.partition('='))
            if not equals:
                raise ValueError(f'override {assignment!r}: must look like key=value')
            node = values
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
