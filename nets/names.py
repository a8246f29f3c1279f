"""What the names of a network's variables say: 'backbone/conv1/kernel' is the kernel of a layer.

The names are a contract, of nets.backbones and nets.heads with checkpoints; all that reads them
asks here. Imports the standard library only.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

BACKBONE, HEAD = 'backbone/', 'head/'
# What tells category and presence, beside the heat maps: it depends on the schema, too.
ATTRIBUTES = 'head/attributes'
# The last layers of every head: they depend on the schema, all others do not.
_HEATMAPS = 'head/heatmaps'
# Last name -> kind, of config.VARIABLE_KINDS.
_KINDS = {
    **dict.fromkeys(('kernel', 'depthwise_kernel', 'pointwise_kernel'), 'kernel'),
    'bias': 'bias',
    **dict.fromkeys(('gamma', 'beta'), 'norm'),
}
_STATISTICS = ('moving_mean', 'moving_variance')
# Up to three names below backbone or head, without the operation's own.
_BLOCK = re.compile(r'(?:^|/)((?:backbone|head)(?:/[^/]+){0,2})/[^/]+')
_BLOCKS = re.compile(r'(backbone/stage\d+/(?:.*/)?block)\d+/')


def of_network(names: Collection[str]) -> set[str]:
    """Return those of the variables of a training, or of a checkpoint, that are the network's.

    What an optimizer keeps for a weight hangs below it: 'backbone/conv1/kernel/Momentum'.
    """
    known = set(names)
    in_parts = {name for name in known if name.startswith((BACKBONE, HEAD))}
    return {name for name in in_parts if known.isdisjoint(_scopes(name))}


def _scopes(name: str) -> Iterator[str]:
    """Yield what a name is below: 'a/b' and 'a' of 'a/b/c'."""
    while name := name.rpartition('/')[0]:
        yield name


def is_of_backbone(name: str) -> bool:
    return name.startswith(BACKBONE)


def is_of_heatmaps(name: str) -> bool:
    """Return whether the variable is of a layer whose channels are keypoints."""
    return name.startswith(_HEATMAPS)


def is_statistic(name: str) -> bool:
    """Return whether the variable is a moving statistic of batch norm, which is not trained."""
    return name.rpartition('/')[2] in _STATISTICS


def kind_of(name: str) -> str:
    """Return the kind of a trained variable, of config.VARIABLE_KINDS; '' if there is none."""
    return _KINDS.get(name.rpartition('/')[2], '')


def block_of(operation: str) -> str:
    """Return the block of an operation of a graph, by its name; '' outside of a network."""
    found = _BLOCK.search(operation)
    return found.group(1) if found else ''


def owner_of(name: str) -> str:
    """Return the list of blocks that a variable is in, or its layer.

    A variable of it that a network does not have is of another network.
    """
    found = _BLOCKS.match(name)
    return found.group(1) if found else name.rpartition('/')[0]
