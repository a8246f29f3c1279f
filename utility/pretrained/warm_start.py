"""Weights to start from: of this project, of TensorFlow 1, of Keras and of PyTorch.

    python -m utility.pretrained --list                  where weights are published
    python -m utility.pretrained FILE                    whose they are, which backbones they fit
    python -m utility.pretrained FILE --backbone=NAME    what that backbone would take from them

`--init_checkpoint=FILE` of the train scripts starts from them.
"""

from __future__ import annotations

import contextlib
import difflib
import re
from collections.abc import Collection, Iterable, Iterator, Sequence

from absl import logging

from config import NetworkConfig, UserError
from nets.names import is_of_backbone, is_statistic
from utility.checkpoints import variables as checkpoints
from utility.checkpoints.variables import WarmStart, Weights
from utility.pretrained.loading import as_checkpoint
from utility.pretrained.match_settings import PARTIAL, match_pretrained_settings, option_defaults

_SHOWN = 5  # names in a message
_BUILD_SIZE = (128, 128)  # px; variables do not depend on it


def adopt_for_runs(
    network: NetworkConfig, folders: Iterable[str], path: str | None, allow_partial: bool
) -> dict[str, NetworkConfig]:
    """Return folder -> the network to train there, as the weights that it starts from need it.

    A run that has a checkpoint goes on from that; the weights at `path` may be gone by then.
    """
    if path is None:
        return dict.fromkeys(folders, network)
    start = {f: f if checkpoints.has_checkpoint(f) else path for f in folders}
    settings = {
        p: match_pretrained_settings(network, p, allow_partial)
        for p in dict.fromkeys(start.values())
    }
    return {folder: settings[source] for folder, source in start.items()}


@contextlib.contextmanager
def for_runs(folders: Iterable[str], path: str | None, backbone: str) -> Iterator[Weights | None]:
    """Provide the weights at `path` within the context; None if no run starts from them."""
    if path is None or all(map(checkpoints.has_checkpoint, folders)):
        yield None
        return
    with as_checkpoint(path, backbone) as weights:
        yield weights


def plan(
    weights: Weights, variables: Sequence, allow_partial: bool = False, backbone: str = ''
) -> WarmStart:
    """Return what a network of these variables takes from the weights; its head may lack all.

    Args:
        weights: From describe or as_checkpoint.
        variables: The network's, batch-norm statistics included.
        allow_partial: Whether they may fill the backbone in part, or be another's in part.
        backbone: Its name, to look for the name meant among similar ones first.

    Raises:
        UserError: Nothing fits, or not all of the backbone, or the weights are of another one, and
            allow_partial is not set.
    """
    report = checkpoints.compare(weights, variables)
    if not report.restored:
        raise UserError(
            f'nothing of {weights.path!r} fits this network.{_suggestion(weights, backbone)}'
        )
    if not (report.fills_backbone or allow_partial):
        reason = _other_norm(report) or _suggestion(weights, backbone)
        raise UserError(f'{report}; {_examples(report)}.{reason} {PARTIAL} to start from a part')
    return report


def _other_norm(report: WarmStart) -> str:
    """Return what to do where weights and network have other norms; '' if they are alike."""
    network_names = report.restored + report.missing + report.mismatched
    own_statistics, foreign_statistics = (
        any(is_of_backbone(n) and is_statistic(n) for n in names)
        for names in (network_names, report.foreign)
    )
    if foreign_statistics and not own_statistics:
        return (
            ' They were trained with batch norm, whose scales and shifts are not those of group '
            "norm: train from scratch, or set network.norm to 'batch' or 'frozen'."
        )
    lacking = [name for name in report.missing if is_of_backbone(name)]
    if lacking and all(map(is_statistic, lacking)):
        return " They were trained with group norm: set network.norm='group'."
    return ''


def check_frozen(network: NetworkConfig, variables: Sequence, restored: Collection[str]) -> None:
    """Refuse statistics that are to be kept but come from nowhere: nothing would be normalized.

    Args:
        restored: Names of those that start from weights.

    Raises:
        UserError: Frozen batch norms start afresh.
    """
    kinds = {True: network.norm, False: network.norm_of_head}
    names = [variable.name.split(':')[0] for variable in variables]
    afresh = [
        name
        for name in names
        if is_statistic(name) and kinds[is_of_backbone(name)] == 'frozen' and name not in restored
    ]
    if afresh:
        raise UserError(
            f"network.norm='frozen' keeps statistics, but {len(afresh)} of them start afresh: "
            f'{", ".join(afresh[:_SHOWN])}. Give --init_checkpoint with weights that have them; '
            "a head without weights needs network.head_norm='batch' or 'group'"
        )


def _examples(report: WarmStart) -> str:
    def listed(state: str, names: Sequence[str]) -> str:
        num_more = len(names) - _SHOWN
        more = f' and {num_more} more' if num_more > 0 else ''
        return f'{state}: {", ".join(names[:_SHOWN])}{more}'

    lacking = [name for name in report.missing if is_of_backbone(name)]
    wrong = [name for name in report.mismatched if is_of_backbone(name)]
    kinds = (('missing', lacking), ('of another shape', wrong), ('no place for', report.foreign))
    return '; '.join(listed(state, names) for state, names in kinds if names)


def _suggestion(weights: Weights, backbone: str) -> str:
    if not weights.backbones:
        return ''
    fitting = next(fitting_backbones(weights, backbone), None)
    return (
        f' These look like {fitting}.'
        if fitting
        else f' These look like {weights.origin}, but fit no registered backbone in full.'
    )


def fitting_backbones(weights: Weights, like: str = '') -> Iterator[str]:
    """Yield the registered backbones that the weights fill, those whose names are `like` first."""
    from nets import BACKBONES

    names = [name for name in BACKBONES.names() if re.match(weights.backbones, name)]
    names.sort(key=lambda name: -difflib.SequenceMatcher(None, name, like).ratio())
    for name in names:
        levels = option_defaults(name).get('levels', ())
        # The first level alone, which is soon built, is enough to tell that most do not fit.
        parts = ({'levels': levels[:1]} if levels else {}, {})
        variables = (backbone_variables(NetworkConfig(name, backbone_options=p)) for p in parts)
        if all(checkpoints.compare(weights, group).fills_backbone for group in variables):
            yield name


def backbone_variables(network: NetworkConfig) -> list:
    """Return the variables of a network's backbone, in a graph of their own."""
    import tensorflow as tf

    from nets import BACKBONES

    with tf.Graph().as_default():
        backbone = BACKBONES.get(network.backbone)(**network.backbone_options)
        backbone(tf.zeros([1, *_BUILD_SIZE, 3]), False)
        return list(backbone.variables)


def log_start(report: WarmStart, head: str) -> None:
    """Say what a network with the head `head` starts from, and what it starts without."""
    logging.info('start from %s', report)
    afresh = [name for name in report.lacking if not is_of_backbone(name)]
    if afresh:
        # Of a checkpoint of the same head all could be expected.
        log = logging.warning if head == report.weights.head else logging.info
        log('%d tensors of the head start afresh: %s', len(afresh), ', '.join(afresh[:_SHOWN]))
    if not report.fills_backbone:
        logging.warning('a part of the backbone only: %s', _examples(report))
