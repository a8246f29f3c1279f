"""What comes along with weights: the mean, std and options of the backbone that they need."""

from __future__ import annotations

import dataclasses
import inspect
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from absl import logging

from config import EXPERIMENT_FILE, NetworkConfig, UserError
from preprocessing.files import read_regular
from utility.pretrained import loading

# Options of backbones that any weights go with.
_FREE_OPTIONS = (
    'levels',
    'output_stride',
    'residual_gamma',
    'batch_norm_momentum',
    'drop_connect',
)
_HUB_CONFIG = 'config.json'
_MOST_BYTES = 1 << 20  # of it
# Ends a refusal that the flag overrules.
PARTIAL = 'Pass --allow_partial_init'


@dataclasses.dataclass(frozen=True)
class _Demands:
    """What weights need to be of use; `backbone`: that they were trained in, '' if not known."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    options: Mapping[str, Any]
    backbone: str = ''


class _Setting(NamedTuple):
    """A field of the network: what it is, whether it was set so, and what the weights need."""

    key: str
    here: Any
    is_set: bool
    needed: Any
    is_option: bool = False  # of the backbone

    @property
    def full_key(self) -> str:
        return f'network.{"backbone_options." if self.is_option else ""}{self.key}'


def match_pretrained_settings(
    network: NetworkConfig, path: str, allow_partial: bool = False
) -> NetworkConfig:
    """Return the network with the mean, std and options of the backbone that these weights need.

    Args:
        network: Where it says nothing else than the defaults, the weights decide.
        path: Of the weights; those of this project have an experiment.json beside them.
        allow_partial: Keeps, with a warning, what the network sets otherwise.

    Raises:
        UserError: The network sets something else, or the weights are of another backbone, damaged
            or of unknown origin.
    """
    demands = _demands(path, network.backbone)
    if demands is None:
        logging.warning('no %s beside %s: its mean, std and options?', EXPERIMENT_FILE, path)
        return network
    different = [s for s in _settings(network, demands) if s.here != s.needed]
    conflicts = [f'{s.full_key}: {s.here} / {s.needed}' for s in different if s.is_set]
    if conflicts:
        problem = f'{path} needs other settings (set / needed): {"; ".join(conflicts)}'
        if not allow_partial:
            raise UserError(f'{problem}. Leave them to the weights. {PARTIAL} to keep them')
        logging.warning('%s; kept', problem)
    return _changed(network, [s for s in different if not s.is_set], path)


def _settings(network: NetworkConfig, demands: _Demands) -> list[_Setting]:
    """Return the settings of the network that its weights have a say in."""
    backbone, chosen = network.backbone, network.backbone_options
    settings = [_Setting('backbone', backbone, True, demands.backbone or backbone)]
    for key in ('mean', 'std'):
        here = getattr(network, key)
        is_set = here != getattr(NetworkConfig(), key)
        settings.append(_Setting(key, here, is_set, getattr(demands, key)))
    for name, default in option_defaults(backbone).items():
        if name in demands.options:
            here = chosen.get(name, default)
            settings.append(_Setting(name, here, name in chosen, demands.options[name], True))
    return settings


def _changed(network: NetworkConfig, changes: list[_Setting], path: str) -> NetworkConfig:
    for change in changes:
        logging.info('%s=%s, as %s needs it', change.full_key, change.needed, path)
    values = {change.key: change.needed for change in changes}
    fields = {key: values.pop(key) for key in ('mean', 'std') if key in values}
    options = {**network.backbone_options, **values}
    return dataclasses.replace(network, **fields, backbone_options=options)


def option_defaults(backbone: str) -> dict[str, Any]:
    """Return the options of a registered backbone: name -> default."""
    from nets import BACKBONES

    parameters = inspect.signature(BACKBONES.get(backbone)).parameters
    return {name: parameter.default for name, parameter in parameters.items()}


def _demands(path: str, backbone: str) -> _Demands | None:
    """Return what the weights at `path` need; None if they are this project's but tell nothing."""
    if loading.own_weights(path):
        saved = loading.saved_network(path)
        return _saved_demands(saved) if saved else None
    with loading.opened(path, backbone) as (file, origin, _):
        demands = _Demands(origin.mean, origin.std, origin.options(file.shapes))
        described = _hub_config(path) if file.kind in ('torch', 'safetensors') else {}
        name = str(described.get('architecture', origin.timm_prefix))
        if not name.startswith(origin.timm_prefix):
            raise UserError(
                f"{path!r}: timm's {name!r}, as {_HUB_CONFIG} beside it says, pads and normalizes "
                f'otherwise than the backbones here; take {origin.timm_prefix + name!r}'
            )
        return dataclasses.replace(demands, **_hub_statistics(described))


def _saved_demands(saved: NetworkConfig) -> _Demands:
    options = {**option_defaults(saved.backbone), **saved.backbone_options}
    needed = {name: value for name, value in options.items() if name not in _FREE_OPTIONS}
    return _Demands(saved.mean, saved.std, needed, saved.backbone)


def _hub_config(path: str) -> dict[str, Any]:
    """Return the config.json that timm's weights come with, if there."""
    config = pathlib.Path(os.path.dirname(path), _HUB_CONFIG)
    if not config.is_file():
        return {}
    try:
        values = json.loads(read_regular(config, _MOST_BYTES).decode())
    except (ValueError, RecursionError) as error:
        raise UserError(f'{config}: {error}') from error
    return values if isinstance(values, dict) else {}


def _hub_statistics(config: Mapping[str, Any]) -> dict[str, tuple[float, ...]]:
    """Return the mean and std, in 0..255, of a config.json of timm that states them."""
    values = config.get('pretrained_cfg', config)
    values = values if isinstance(values, dict) else {}
    statistics = {key: values.get(key) for key in ('mean', 'std')}
    if not all(isinstance(value, list) and len(value) == 3 for value in statistics.values()):
        return {}  # of something else
    return {
        key: tuple(round(255.0 * part, 3) for part in value) for key, value in statistics.items()
    }
