"""Preprocessing ops, by the names that op strings use.

`OPS.get(name)(*arguments)` makes an op; registry.py says what an op may do, op_string.py parses and
applies 'flip|letterbox(384,384)|warp'. To add one: a factory in a file of this folder.
"""

from preprocessing.ops import colors, crops, drop, frames  # noqa: F401  register themselves
from preprocessing.ops.registry import OPS

__all__ = ['OPS']
