"""Networks: any registered backbone with any registered head.

`build_network(config, num_keypoints)` makes one; BACKBONES and HEADS hold what it can be made of.
"""

import importlib

_PUBLIC = {
    'BACKBONES': 'nets.backbones',
    'HEADS': 'nets.heads',
    'Network': 'nets.network',
    'build_network': 'nets.network',
    'num_parameters': 'nets.network',
}


def __getattr__(name: str):
    # Late: nets.precision serves flags, which must not import TensorFlow.
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
